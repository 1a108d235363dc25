"""Intervals of the test metrics say how sure they are, with the test fields as the units that differ."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from histograms import draw
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from astrid.metrics.bootstrap import (
    Resampled,
    draw_weights,
    percentile_levels,
    resample_fields,
    resampled_auprc,
    save_fields,
)
from astrid.metrics.histogram import PixelHistogram
from astrid.metrics.objects import ObjectTally
from astrid.metrics.per_field import COARSE_BINS, FieldCounter, FieldCounts
from astrid.metrics.ranking import auprc


def made(fields: int, *, bins: int = 64, catalogue: bool = True, seed: int = 0) -> FieldCounts:
    rng = np.random.default_rng(seed)
    objects = rng.integers(1, 9, size=(fields, 3)) if catalogue else None
    positives, negatives = (rng.poisson(rate, size=(fields, bins)) for rate in (2.0, 9.0))
    return FieldCounts([f"f{number}" for number in range(fields)], positives, negatives, objects, "abc")


def counted(counter: FieldCounter, number: int = 0, *, pixels: int = 50_000, tally: ObjectTally | None = None) -> tuple:
    logits, target = draw(pixels, 400, spread=2.0, seed=number)
    planes = torch.from_numpy(logits), torch.from_numpy(target), torch.ones(pixels, dtype=torch.bool)
    counter.add(f"f{number}", *planes, tally=tally, contents=[logits, target])
    return logits, target


def new_counter(rules: str = "", *, scale: float = 1.0) -> FieldCounter:
    """A counter whose bins follow validation logits of the kind that `counted` draws."""
    seen = PixelHistogram(bins=2**21, limit=40.0, device="cpu")
    logits, target = draw(200_000, 1600, spread=2.0, seed=99)
    seen.update(torch.from_numpy(logits) * scale, torch.from_numpy(target), torch.ones(200_000, dtype=torch.bool))
    return FieldCounter(seen, rules=rules)


def test_fields_weighted_once_give_the_average_precision_of_all_pixels() -> None:
    counts = made(7)
    whole = PixelHistogram.from_counts(counts.positives.sum(axis=0), counts.negatives.sum(axis=0), limit=20.0)
    assert resampled_auprc(counts.positives, counts.negatives, np.ones((1, 7))) == pytest.approx([auprc(whole)])


def test_a_resample_is_what_repeated_pixels_would_give() -> None:
    counts = made(5)
    weights = draw_weights(5, resamples=250, seed=3)
    found = resampled_auprc(counts.positives, counts.negatives, weights)
    for row, value in zip(weights[::40], found[::40], strict=True):
        times = row.astype(int)
        positives, negatives = times @ counts.positives, times @ counts.negatives
        scores = np.repeat(np.tile(np.arange(64), 2), np.concatenate([positives, negatives]))
        target = np.repeat([1, 0], [positives.sum(), negatives.sum()])
        assert value == pytest.approx(average_precision_score(target, scores), abs=1e-12)


@pytest.mark.parametrize("scale", [0.02, 0.1, 1.0, 5.0])
def test_coarse_bins_agree_with_the_exact_average_precision_however_wide_the_logits_are(scale: float) -> None:
    counter = new_counter(scale=scale)
    drawn = []
    for number in range(4):
        logits, target = draw(50_000, 400, spread=2.0, seed=number)
        drawn.append((logits * np.float32(scale), target))
        planes = torch.from_numpy(drawn[-1][0]), torch.from_numpy(target), torch.ones(50_000, dtype=torch.bool)
        counter.add(f"f{number}", *planes, tally=None, contents=[logits])
    counts = counter.counts()
    assert counts.positives.shape[1] <= COARSE_BINS
    logits, target = (np.concatenate(parts) for parts in zip(*drawn, strict=True))
    coarse = resampled_auprc(counts.positives, counts.negatives, np.ones((1, 4)))[0]
    assert coarse == pytest.approx(average_precision_score(target, logits), abs=1e-3)


def test_logits_that_validation_never_showed_are_still_told_apart() -> None:
    counter = new_counter()
    logits = torch.tensor([30.0, 31.0, 32.0, -30.0])
    target = torch.tensor([True, False, True, False])
    counter.add("f", logits, target, torch.ones(4, dtype=torch.bool), tally=None, contents=[logits.numpy()])
    counts = counter.counts()
    found = resampled_auprc(counts.positives, counts.negatives, np.ones((1, 1)))[0]
    assert found == pytest.approx(average_precision_score(target.numpy(), logits.numpy()))


@given(st.integers(2, 30), st.integers(0, 5))
def test_the_first_resamples_stay_the_same_when_there_are_more(fields: int, seed: int) -> None:
    few, many = (draw_weights(fields, resamples=count, seed=seed) for count in (20, 55))
    assert np.array_equal(few, many[:20])
    assert (many.sum(axis=1) == fields).all()


def test_completeness_and_purity_count_the_drawn_fields_objects() -> None:
    counts = made(6)
    assert counts.objects is not None
    resampled = resample_fields(counts, resamples=300, seed=1)
    assert resampled is not None
    hits, misses, false_alarms = draw_weights(6, resamples=300, seed=1)[17] @ counts.objects
    assert resampled.values["completeness"][17] == hits / (hits + misses)
    assert resampled.values["purity"][17] == hits / (hits + false_alarms)


def test_objects_are_counted_for_each_field_from_running_totals() -> None:
    counter, tally = new_counter(), ObjectTally([0.5], min_pixels=1)
    for number, (hits, misses, false_alarms) in enumerate([(3, 1, 0), (5, 1, 4)]):
        tally.hits[0], tally.misses[0], tally.false_alarms[0] = hits, misses, false_alarms
        counted(counter, number, pixels=1000, tally=tally)
    assert np.array_equal(counter.counts().objects, [[3, 1, 0], [2, 0, 4]])


def test_the_fingerprint_depends_on_every_pixel_and_on_the_rules() -> None:
    def fingerprint(pixel: float, rules: str = "a", name: str = "f") -> str:
        counter, plane = new_counter(rules), np.zeros((3, 4), np.float32)
        plane[2, 3] = pixel
        logits, nothing = torch.zeros(3, 4), torch.zeros(3, 4, dtype=torch.bool)
        counter.add(name, logits, nothing, nothing, tally=None, contents=[plane])
        return counter.counts().fingerprint

    assert fingerprint(0.0) == fingerprint(0.0)
    others = {fingerprint(0.0), fingerprint(1.0), fingerprint(0.0, "b"), fingerprint(0.0, "a", "g")}
    assert len(others) == 4


def test_a_single_field_has_no_interval_and_the_log_says_so(caplog: pytest.LogCaptureFixture) -> None:
    assert resample_fields(made(1), resamples=100, seed=0) is None
    assert "have no intervals: 1 test field" in caplog.text


def test_few_fields_are_announced_and_many_are_not(caplog: pytest.LogCaptureFixture) -> None:
    resample_fields(made(20), resamples=100, seed=0)
    assert not caplog.text
    resample_fields(made(19), resamples=100, seed=0)
    assert "19 test fields are few" in caplog.text


def test_a_metric_that_never_varies_or_is_undefined_has_no_interval(caplog: pytest.LogCaptureFixture) -> None:
    values = {"sure": np.ones(100), "torn": np.array([0.5] * 99 + [np.nan]), "auprc": np.linspace(0, 1, 100)}
    assert set(Resampled(values, (2.5, 97.5), 0).intervals()) == {"auprc_low", "auprc_high"}
    assert "sure has no interval: it is 1 in every resample" in caplog.text
    assert "torn has no interval: undefined in 1 of 100" in caplog.text


def test_without_a_catalogue_only_the_pixels_have_intervals() -> None:
    resampled = resample_fields(made(9, catalogue=False), resamples=100, seed=0)
    assert resampled is not None
    assert set(resampled.values) == {"auprc"}


def test_levels_are_wider_for_few_fields_and_plain_for_many() -> None:
    lows = [percentile_levels(fields)[0] for fields in (2, 8, 20, 100, 10_000)]
    assert all(few < more for few, more in itertools.pairwise(lows))
    assert lows[1] == pytest.approx(0.57, abs=0.01)  # t(7; 0.975) = 2.365, times sqrt(8 / 7), is 2.528 sigma
    assert lows[-1] == pytest.approx(2.5, abs=0.01)


def test_the_file_holds_counts_and_resamples(tmp_path: Path) -> None:
    counts = made(5)
    save_fields(tmp_path / "one.npz", counts, resample_fields(counts, resamples=100, seed=4))
    with np.load(tmp_path / "one.npz", allow_pickle=False) as arrays:
        assert set(arrays) >= {"names", "positives", "negatives", "objects", "fingerprint", "seed", "levels"}
        assert arrays["resampled_auprc"].shape == (100,)
        assert int(arrays["seed"]) == 4
        assert arrays["names"].tolist() == counts.names
        assert np.array_equal(arrays["positives"], counts.positives)


def test_sixty_four_fields_are_resampled_in_seconds() -> None:
    counts = made(64, bins=COARSE_BINS)
    began = time.thread_time()
    resample_fields(counts, resamples=1000, seed=0)
    assert time.thread_time() - began < 3.0


def draw_fields(rng: np.random.Generator, fields: int) -> FieldCounts:
    """Fields whose difficulty differs: the positives' logits are shifted by a normal amount of their own."""
    bins = 60
    shift = rng.normal(18.0, 5.0, size=fields)
    rows = [rng.normal(20 + shift[:, None], 6.0, (fields, 40)), rng.normal(20.0, 6.0, (fields, 400))]
    counts = [
        np.stack([np.bincount(np.clip(row, 0, bins - 1).astype(int), minlength=bins) for row in part]) for part in rows
    ]
    return FieldCounts([str(number) for number in range(fields)], *counts, None, "")


def coverage(fields: int, *, trials: int) -> tuple[float, float]:
    """Return how often the interval holds the truth, and how far its centre is from the estimates' mean."""
    rng = np.random.default_rng(11)
    many = draw_fields(rng, 20_000)
    truth = resampled_auprc(many.positives, many.negatives, np.ones((1, 20_000)))[0]
    hits, shifts = 0, []
    for trial in range(trials):
        counts = draw_fields(rng, fields)
        resampled = resample_fields(counts, resamples=400, seed=trial)
        assert resampled is not None
        ends = resampled.intervals()
        hits += ends["auprc_low"] <= truth <= ends["auprc_high"]
        centre = resampled.values["auprc"].mean()
        shifts.append(centre - resampled_auprc(counts.positives, counts.negatives, np.ones((1, fields)))[0])
    return hits / trials, float(np.mean(shifts))


@pytest.mark.slow
@pytest.mark.parametrize(("fields", "lowest"), [(8, 0.88), (20, 0.91), (64, 0.92)])
def test_intervals_hold_the_truth_about_as_often_as_they_say(fields: int, lowest: float) -> None:
    found, bias = coverage(fields, trials=600)
    print(f"{fields} fields: coverage {found:.3f}, bias {bias:+.5f}")
    assert lowest <= found <= 0.985
    assert abs(bias) < 0.005


def test_intervals_of_many_fields_hold_the_truth_mostly() -> None:
    found, bias = coverage(40, trials=60)
    assert 0.85 <= found <= 1.0
    assert abs(bias) < 0.005
