"""The streaming histogram counts every pixel once, whatever the order, and keeps no more than its counts."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
import torch
from histograms import draw, fill
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit

from astrid.config import RunError
from astrid.metrics import histogram as module
from astrid.metrics.histogram import PixelHistogram


def same(first: PixelHistogram, second: PixelHistogram) -> bool:
    equal = np.array_equal(first.positives, second.positives) and np.array_equal(first.negatives, second.negatives)
    return equal and first.clipped == second.clipped


def test_pixels_fall_into_half_open_bins_and_beyond_the_limit_into_the_outermost():
    logits = [-9.0, -2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0, 9.0]
    target = [0, 0, 0, 1, 1, 0, 1, 0, 1, 1, 0]
    histogram = fill(logits, target, bins=4, limit=2.0)
    assert histogram.negatives.tolist() == [3, 0, 1, 2]
    assert histogram.positives.tolist() == [0, 2, 1, 2]
    assert histogram.centres.tolist() == [-1.5, -0.5, 0.5, 1.5]
    assert histogram.clipped == 3


@pytest.mark.parametrize("tiny", [1e-3, 1e-9, 1e-30])
def test_logit_zero_is_an_edge_to_the_last_bit(tiny: float):
    histogram = fill(np.array([-tiny, 0.0, tiny], dtype=np.float32), [0, 0, 0])
    half = histogram.bins // 2
    assert (histogram.negatives[:half].sum(), histogram.negatives[half:].sum()) == (1, 2)


def test_invalid_pixels_leave_no_trace():
    logits, target = draw(500, 100)
    valid = np.random.default_rng(1).random(500) < 0.7
    soiled = np.where(valid, logits, np.resize([np.nan, np.inf, -np.inf, 99.0], 500)).astype(np.float32)
    assert same(fill(soiled, target ^ ~valid, valid), fill(logits[valid], target[valid]))


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_non_finite_logits_on_valid_pixels_are_refused_at_read_out(broken: float):
    histogram = fill([0.5, broken, broken], [0, 1, 0])
    for read in (lambda: histogram.positives, lambda: histogram.negatives, lambda: histogram.clipped, histogram.state):
        with pytest.raises(RunError, match="finite on valid pixels, got 2"):
            read()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_logits_count_where_their_values_are(dtype: torch.dtype):
    logits = torch.from_numpy(draw(400, 100)[0]).to(dtype)
    histogram = PixelHistogram(bins=2**16, limit=20.0, device="cpu")
    histogram.update(logits, torch.zeros(400), torch.ones(400))
    assert np.array_equal(histogram.negatives, fill(logits.float().numpy(), np.zeros(400), bins=2**16).negatives)


@given(seed=st.integers(0, 999), cuts=st.lists(st.integers(0, 300), max_size=4))
@settings(max_examples=40, deadline=None)
def test_order_batches_and_merging_change_nothing(seed: int, cuts: list[int]):
    logits, target = draw(300, 60, spread=12.0, seed=seed)
    order = np.random.default_rng(seed).permutation(300)
    parts = [fill(logits[part], target[part], bins=64) for part in np.split(order, sorted(cuts))]
    merged = PixelHistogram(bins=64, limit=20.0, device="cpu")
    for part in parts:
        merged.merge(part)
    assert same(merged, fill(logits, target, bins=64))


def test_a_sum_leaves_its_terms_alone():
    first, second = fill([0.1], [1], bins=4), fill([0.1, -0.1], [1, 0], bins=4)
    assert ((first + second).positives.sum(), (first + second).negatives.sum()) == (2, 1)
    assert (first.positives.sum(), second.positives.sum()) == (1, 1)


def test_frames_longer_than_a_chunk_count_every_pixel(monkeypatch: pytest.MonkeyPatch):
    logits, target = draw(1001, 300)
    whole = fill(logits, target)
    monkeypatch.setattr(module, "CHUNK_PIXELS", 10)
    assert same(fill(logits, target), whole)


@pytest.mark.parametrize("shape", [(), (0,), (1,), (2, 1, 3, 5)])
def test_any_shape_is_counted(shape: tuple[int, ...]):
    histogram = fill(np.zeros(shape, dtype=np.float32), np.zeros(shape))
    assert histogram.negatives.sum() == math.prod(shape)


def test_a_reading_is_a_snapshot():
    histogram = fill([1.0], [1], bins=4)
    before = histogram.positives
    histogram.update(torch.ones(3), torch.ones(3), torch.ones(3))
    assert (before.sum(), histogram.positives.sum()) == (1, 4)


def test_what_is_added_after_a_reading_is_seen_by_the_next():
    histogram = fill([1.0], [1], bins=4)
    seen = [histogram.occupied.positives.sum()]
    histogram.update(torch.ones(3), torch.ones(3), torch.ones(3))
    seen.append(histogram.occupied.positives.sum())
    histogram.merge(fill([1.0], [1], bins=4))
    seen.append(histogram.occupied.positives.sum())
    assert seen == [1, 4, 5]


def test_the_occupied_bins_are_all_that_hold_pixels():
    histogram = fill(*draw(300, 60, spread=12.0), bins=64)
    bins = histogram.occupied
    assert np.array_equal(bins.index, np.flatnonzero(histogram.positives + histogram.negatives))
    assert np.array_equal(bins.positives, histogram.positives[bins.index])
    assert np.array_equal(bins.negatives, histogram.negatives[bins.index])
    assert np.array_equal(bins.logits, histogram.centres[bins.index])


def test_state_rebuilds_the_histogram():
    histogram = fill(*draw(300, 60, spread=12.0), bins=64)
    assert histogram.clipped > 0
    assert same(PixelHistogram.from_counts(**histogram.state()), histogram)


def test_it_does_not_grow_from_10_to_500_frames():
    histogram = PixelHistogram(bins=256, limit=20.0, device="cpu")
    sizes = []
    for frame in range(500):
        histogram.update(torch.randn(16, 16), torch.rand(16, 16) < 0.1, torch.ones(16, 16))
        if frame + 1 in (10, 500):
            sizes.append(len(pickle.dumps(histogram)))
    assert sizes[0] == sizes[1]


def test_updating_never_waits_for_the_device():
    # A meta tensor has no values: whatever would copy one to the host raises.
    histogram = PixelHistogram(bins=64, limit=20.0, device="meta")
    histogram.update(*(torch.empty(2, 1, 8, 8, device="meta") for _ in range(3)))
    with pytest.raises(NotImplementedError):
        _ = histogram.positives


@pytest.mark.gpu
def test_updating_on_a_gpu_counts_the_same_without_synchronising():
    logits, target = draw(5000, 500)
    tensors = [torch.from_numpy(array).cuda() for array in (logits, target, np.ones_like(target))]
    histogram = PixelHistogram(bins=2**16, limit=20.0, device="cuda")
    torch.cuda.set_sync_debug_mode("error")
    try:
        histogram.update(*tensors)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert same(histogram, fill(logits, target, bins=2**16))


def test_a_histogram_born_in_inference_mode_can_be_added_to_outside():
    with torch.inference_mode():
        histogram = fill([1.0], [1], bins=4)
    assert histogram.merge(fill([1.0], [0], bins=4)).negatives.sum() == 1


@given(bins=st.sampled_from([2, 256, 2**16, 2**20]), limit=st.sampled_from([5.0, 20.0]), data=st.data())
def test_edges_survive_the_way_through_probability(bins: int, limit: float, data: st.DataObject):
    histogram = PixelHistogram(bins=bins, limit=limit, device="cpu")
    cut = data.draw(st.integers(0, bins))
    assert histogram.cut(histogram.edge(cut)) == cut
    assert histogram.cut(float(logit(expit(histogram.edge(cut))))) == cut


def test_unequal_shapes_are_refused():
    histogram = PixelHistogram(bins=4, limit=1.0, device="cpu")
    with pytest.raises(ValueError, match=r"equal shapes, got \[\(2,\), \(2,\), \(3,\)\]"):
        histogram.update(torch.zeros(2), torch.zeros(2), torch.zeros(3))
    with pytest.raises(ValueError, match="equal shapes"):
        PixelHistogram.from_counts(np.zeros(4, dtype=np.int64), np.zeros(2, dtype=np.int64), limit=1.0)


@pytest.mark.parametrize(("bins", "limit"), [(0, 1.0), (3, 1.0), (4, 0.0), (4, math.nan)])
def test_bins_without_an_edge_at_zero_are_refused(bins: int, limit: float):
    with pytest.raises(ValueError, match="bins must be even"):
        PixelHistogram(bins=bins, limit=limit, device="cpu")


@pytest.mark.parametrize(("bins", "limit"), [(8, 20.0), (4, 10.0)])
def test_histograms_with_other_bins_do_not_merge(bins: int, limit: float):
    with pytest.raises(ValueError, match="same bins to merge"):
        fill([0.0], [0], bins=4).merge(PixelHistogram(bins=bins, limit=limit, device="cpu"))
