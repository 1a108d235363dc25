"""Resampled fields give what their repeated pixels and sources would give, for the gate to compare networks by."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from histograms import draw
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit
from sklearn.metrics import average_precision_score

from astrid.metrics.bootstrap import draw_weights, load_fields, percentile_levels, resample_fields, save_fields
from astrid.metrics.calibrators import Calibrator
from astrid.metrics.chosen import Chosen
from astrid.metrics.histogram import PixelHistogram
from astrid.metrics.object_counts import ObjectCounts
from astrid.metrics.per_field import COARSE_BINS, FieldCounter, FieldCounts
from astrid.metrics.pixels import pixel_metrics
from astrid.metrics.ranking import auprc
from astrid.metrics.resampled import resampled_metrics, resampled_ranking


def detected(counts: np.ndarray) -> ObjectCounts:
    """Fields with these hits, misses and false alarms; all sources are alike, and found at a distance of 1 pixel."""
    hits, misses = counts[:, 0], counts[:, 1]
    distance = np.concatenate([np.repeat([1.0, np.nan], row) for row in zip(hits, misses, strict=True)])
    field = np.repeat(np.arange(len(counts)), hits + misses)
    return ObjectCounts(counts, np.full(len(counts), 65_536), field, np.full(len(field), 9.0), distance)


def made(fields: int, *, bins: int = 64, catalogue: bool = True, seed: int = 0) -> FieldCounts:
    rng = np.random.default_rng(seed)
    objects = detected(rng.integers(1, 9, size=(fields, 3))) if catalogue else None
    positives, negatives = (rng.poisson(rate, size=(fields, bins)) for rate in (2.0, 9.0))
    return FieldCounts([f"f{number}" for number in range(fields)], positives, negatives, objects, "abc")


def counted(counter: FieldCounter, number: int = 0, *, pixels: int = 50_000) -> tuple:
    logits, target = draw(pixels, 400, spread=2.0, seed=number)
    planes = torch.from_numpy(logits), torch.from_numpy(target), torch.ones(pixels, dtype=torch.bool)
    counter.add(f"f{number}", *planes, contents=[logits, target])
    return logits, target


def new_counter(rules: str = "", *, scale: float = 1.0, logit_threshold: float | None = None) -> FieldCounter:
    """A counter whose bins follow validation logits of the kind that `counted` draws."""
    seen = PixelHistogram(bins=2**21, limit=40.0, device="cpu")
    logits, target = draw(200_000, 1600, spread=2.0, seed=99)
    seen.update(torch.from_numpy(logits) * scale, torch.from_numpy(target), torch.ones(200_000, dtype=torch.bool))
    chosen = None if logit_threshold is None else Chosen(logit_threshold, None)
    return FieldCounter(seen, rules=rules, chosen=chosen)


def test_fields_weighted_once_give_the_average_precision_of_all_pixels() -> None:
    counts = made(7)
    whole = PixelHistogram.from_counts(counts.positives.sum(axis=0), counts.negatives.sum(axis=0), limit=20.0)
    assert resampled_ranking(counts.positives, counts.negatives, np.ones((1, 7)))["auprc"] == pytest.approx(
        [auprc(whole)]
    )


def test_a_resample_is_what_repeated_pixels_would_give() -> None:
    counts = made(5)
    weights = draw_weights(5, resamples=250, seed=3)
    found = resampled_ranking(counts.positives, counts.negatives, weights)["auprc"]
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
        counter.add(f"f{number}", *planes, contents=[logits])
    counts = counter.counts()
    assert counts.positives.shape[1] <= COARSE_BINS
    logits, target = (np.concatenate(parts) for parts in zip(*drawn, strict=True))
    coarse = resampled_ranking(counts.positives, counts.negatives, np.ones((1, 4)))["auprc"][0]
    assert coarse == pytest.approx(average_precision_score(target, logits), abs=1e-3)


def test_logits_that_validation_never_showed_are_still_told_apart() -> None:
    counter = new_counter()
    logits = torch.tensor([30.0, 31.0, 32.0, -30.0])
    target = torch.tensor([True, False, True, False])
    counter.add("f", logits, target, torch.ones(4, dtype=torch.bool), contents=[logits.numpy()])
    counts = counter.counts()
    found = resampled_ranking(counts.positives, counts.negatives, np.ones((1, 1)))["auprc"][0]
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
    hits, misses, false_alarms = draw_weights(6, resamples=300, seed=1)[17] @ counts.objects.counts
    assert resampled.values["completeness"][17] == hits / (hits + misses)
    assert resampled.values["purity"][17] == hits / (hits + false_alarms)


def test_sums_of_each_field_give_what_the_histogram_of_all_gives() -> None:
    seen, counter = PixelHistogram(bins=2**21, limit=40.0, device="cpu"), new_counter(logit_threshold=0.5)
    for number in range(3):
        logits, target = counted(counter, number)
        seen.update(torch.from_numpy(logits), torch.from_numpy(target), torch.ones(len(logits), dtype=torch.bool))
    found = resampled_metrics(counter.counts(), np.ones((1, 3)))
    expected = pixel_metrics(seen, logit_threshold=0.5)
    decisions = {"mcc", "balanced_accuracy", "accuracy", "false_positive_rate"}
    of_positives = {"precision_positive", "recall_positive", "f1_positive"}
    assert set(found) == {"auprc", "auroc", "brier", "ece"} | decisions | of_positives
    for name, value in found.items():
        assert value[0] == pytest.approx(expected[name], abs=1e-3 if name == "auprc" else 1e-5), name


def test_a_pixel_at_the_threshold_is_called_positive() -> None:
    counter, logits = new_counter(logit_threshold=0.5), torch.tensor([0.5, 0.4, 0.5, 0.4])
    target = torch.tensor([True, True, False, False])
    counter.add("f", logits, target, torch.ones(4, dtype=torch.bool), contents=[])
    pixels = counter.counts().pixels
    assert pixels is not None
    assert pixels.decisions.tolist() == [[1, 1, 1, 1]]


def test_the_fingerprint_depends_on_every_pixel_and_on_the_rules() -> None:
    def fingerprint(pixel: float, rules: str = "a", name: str = "f") -> str:
        counter, plane = new_counter(rules), np.zeros((3, 4), np.float32)
        plane[2, 3] = pixel
        logits, nothing = torch.zeros(3, 4), torch.zeros(3, 4, dtype=torch.bool)
        counter.add(name, logits, nothing, nothing, contents=[plane])
        return counter.counts().fingerprint

    assert fingerprint(0.0) == fingerprint(0.0)
    others = {fingerprint(0.0), fingerprint(1.0), fingerprint(0.0, "b"), fingerprint(0.0, "a", "g")}
    assert len(others) == 4


def test_a_single_field_is_not_resampled() -> None:
    assert resample_fields(made(1), resamples=100, seed=0) is None


def test_without_a_catalogue_only_the_pixels_are_resampled() -> None:
    resampled = resample_fields(made(9, catalogue=False), resamples=100, seed=0)
    assert resampled is not None
    assert set(resampled.values) == {"auprc", "auroc"}


def test_levels_are_wider_for_few_fields_and_plain_for_many() -> None:
    lows = [percentile_levels(fields)[0] for fields in (2, 8, 20, 100, 10_000)]
    assert all(few < more for few, more in itertools.pairwise(lows))
    assert lows[1] == pytest.approx(0.57, abs=0.01)  # t(7; 0.975) = 2.365, times sqrt(8 / 7), is 2.528 sigma
    assert lows[-1] == pytest.approx(2.5, abs=0.01)


def test_the_file_holds_counts_and_resamples(tmp_path: Path) -> None:
    counts = made(5)
    save_fields(tmp_path / "one.npz", counts, resample_fields(counts, resamples=100, seed=4))
    with np.load(tmp_path / "one.npz", allow_pickle=False) as arrays:
        assert set(arrays) >= {"names", "positives", "negatives", "objects_counts", "fingerprint", "seed", "levels"}
        assert arrays["resampled_auprc"].shape == (100,)
        assert int(arrays["seed"]) == 4
        assert arrays["names"].tolist() == counts.names
        assert np.array_equal(arrays["positives"], counts.positives)


def test_what_was_kept_of_the_fields_is_read_back(tmp_path: Path) -> None:
    counter = new_counter(logit_threshold=0.5)
    counted(counter, 0)
    counted(counter, 1)
    counts = counter.counts(detected(np.array([[3, 1, 2], [1, 0, 0]])))
    save_fields(tmp_path / "one.npz", counts, None)
    found = load_fields(tmp_path / "one.npz")
    assert (found.names, found.fingerprint) == (counts.names, counts.fingerprint)
    np.testing.assert_equal(vars(found.objects), vars(counts.objects))
    np.testing.assert_equal(vars(found.pixels), vars(counts.pixels))
    np.testing.assert_equal([found.positives, found.starts], [counts.positives, counts.starts])


def test_what_is_summed_of_a_field_is_of_calibrated_probabilities() -> None:
    chosen = Chosen(0.5, None, Calibrator("temperature", 3.0))
    histogram = PixelHistogram(bins=2**21, limit=40.0, device="cpu")
    counter = FieldCounter(histogram, rules="", chosen=chosen)
    logits, target = counted(counter)
    [squared] = counter.counts().pixels.squared_error
    assert squared == pytest.approx(((expit(logits / 3.0) - target) ** 2).sum(), rel=1e-4)
