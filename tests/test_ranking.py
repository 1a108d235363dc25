"""Curves and areas agree with scikit-learn, exactly on bin centres and within the stated bound everywhere."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from histograms import draw, fill, on_centres
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as referee
from torchmetrics.functional.classification import binary_auroc, binary_average_precision

from astrid.config import PIXEL_FAMILIES
from astrid.metrics.histogram import PixelHistogram
from astrid.metrics.pixels import pixel_scores
from astrid.metrics.ranking import (
    FEWEST_FALSE,
    auprc,
    auprc_bound,
    auroc,
    auroc_bound,
    partial_auroc,
    precision_at_recall,
    precision_recall_curve,
    roc_curve,
    threshold_at_fpr,
    tpr_at_fpr,
)

ROUNDING = 1e-11

SAMPLES = [(1000, 500), (1000, 1), (1000, 999), (20_000, 100), (2, 1)]


@pytest.mark.parametrize("spread", [0.01, 3.0, 12.0])
@pytest.mark.parametrize(("pixels", "positives"), SAMPLES)
def test_areas_equal_scikit_learn_on_bin_centres(pixels: int, positives: int, spread: float):
    logits, target = draw(pixels, positives, spread=spread, shift=spread)
    scores = on_centres(logits, bins=4096)
    histogram = fill(scores, target, bins=4096)
    assert auroc(histogram) == pytest.approx(referee.roc_auc_score(target, scores), abs=1e-6)
    assert auprc(histogram) == pytest.approx(referee.average_precision_score(target, scores), abs=1e-6)


@pytest.mark.parametrize(
    ("pixels", "positives", "spread"),
    [(100_000, 100, 0.3), (100_000, 50_000, 0.3), (100_000, 1000, 1.0), (10_000, 100, 3.0), (300_000, 100, 0.3)],
)
def test_areas_are_within_tolerance_of_scikit_learn_between_centres(pixels: int, positives: int, spread: float):
    logits, target = draw(pixels, positives, spread=spread, shift=spread)
    histogram = fill(logits, target)
    assert histogram.clipped == 0
    assert auroc(histogram) == pytest.approx(referee.roc_auc_score(target, logits), abs=1e-5)
    assert auprc(histogram) == pytest.approx(referee.average_precision_score(target, logits), abs=1e-3)


def test_areas_are_within_tolerance_at_a_prevalence_of_1e_5():
    logits, target = draw(500_000, 5, spread=1.5, shift=6.0)
    histogram = fill(logits, target)
    assert auroc(histogram) == pytest.approx(referee.roc_auc_score(target, logits), abs=1e-5)
    assert auprc(histogram) == pytest.approx(referee.average_precision_score(target, logits), abs=1e-3)


scores_and_truth = st.lists(st.tuples(st.floats(-30, 30, width=32), st.booleans()), min_size=1, max_size=60)


@given(pixels=scores_and_truth, bins=st.sampled_from([2, 4, 16, 256]), scale=st.sampled_from([1e-3, 0.1, 1.0]))
@settings(max_examples=200, deadline=None)
def test_the_stated_bounds_hold_for_any_scores(pixels: list[tuple[float, bool]], bins: int, scale: float):
    logits = np.array([score for score, _ in pixels], dtype=np.float32) * np.float32(scale)
    target = np.array([truth for _, truth in pixels])
    histogram = fill(logits, target, bins=bins)
    if target.any():
        exact = referee.average_precision_score(target, logits)
        assert abs(auprc(histogram) - exact) <= auprc_bound(histogram) + ROUNDING
    if target.any() and not target.all():
        exact = referee.roc_auc_score(target, logits)
        assert abs(auroc(histogram) - exact) <= auroc_bound(histogram) + ROUNDING


@pytest.mark.parametrize("saturation", [19.0, 20.5, 50.0])
def test_the_stated_bounds_hold_where_logits_saturate(saturation: float):
    logits, target = draw(5000, 500, spread=1.0, shift=1.0)
    logits = np.where(target, saturation, -saturation).astype(np.float32) + logits
    logits[::7] *= -1
    histogram = fill(logits, target)
    assert histogram.clipped > 0
    exact_area, exact_precision = referee.roc_auc_score(target, logits), referee.average_precision_score(target, logits)
    assert abs(auroc(histogram) - exact_area) <= auroc_bound(histogram) + ROUNDING
    assert abs(auprc(histogram) - exact_precision) <= auprc_bound(histogram) + ROUNDING


def hide(target: np.ndarray, logits: np.ndarray) -> PixelHistogram:
    """Put all pixels into one bin, which leaves their order unknown."""
    assert logits.min() > 0
    return fill(logits, target, bins=2, limit=1.0)


@pytest.mark.parametrize("best", [0.9, 0.1])
def test_the_auroc_bound_is_reached_when_a_bin_hides_a_perfect_or_a_perverse_order(best: float):
    target = np.arange(100) < 30
    logits = np.where(target, best, 0.5)
    histogram = hide(target, logits)
    assert abs(auroc(histogram) - referee.roc_auc_score(target, logits)) == pytest.approx(auroc_bound(histogram))


def test_the_auprc_bound_is_reached_by_few_positives_hidden_above_many_negatives():
    target = np.arange(100) < 30
    logits = np.where(target, 0.9, 0.5)
    histogram = hide(target, logits)
    exact = referee.average_precision_score(target, logits)
    assert exact - auprc(histogram) == pytest.approx(auprc_bound(histogram))


def test_the_auprc_bound_is_reached_by_many_positives_hidden_one_by_one_below_a_negative():
    target = np.arange(100) < 99
    logits = 0.1 + np.arange(100) * 0.005
    histogram = hide(target, logits)
    exact = referee.average_precision_score(target, logits)
    assert auprc(histogram) - exact == pytest.approx(auprc_bound(histogram), rel=0.01)


def test_the_bounds_are_zero_where_no_bin_holds_both_classes():
    histogram = fill(*draw(1000, 100, spread=1.0, shift=15.0))
    assert (auroc_bound(histogram), auprc_bound(histogram)) == (0.0, 0.0)
    assert (auroc(histogram), auprc(histogram)) == (1.0, 1.0)


@given(seed=st.integers(0, 999), power=st.sampled_from([1, 3]), stretch=st.floats(0.1, 4))
@settings(max_examples=10, deadline=None)
def test_monotone_transforms_leave_auroc_alone(seed: int, power: int, stretch: float):
    logits, target = draw(2000, 200, spread=0.5, shift=0.5, seed=seed)
    plain, bent = fill(logits, target), fill(np.sinh(stretch * logits.astype(float)) ** power, target)
    assert abs(auroc(plain) - auroc(bent)) <= auroc_bound(plain) + auroc_bound(bent) + ROUNDING


@pytest.mark.parametrize("positives", [0, 1, 7, 10])
def test_a_constant_scorer_ranks_like_a_coin(positives: int):
    histogram = fill(np.full(10, 1.3), np.arange(10) < positives)
    assert auroc(histogram) == (0.5 if 0 < positives < 10 else None)
    assert auprc(histogram) == (pytest.approx(positives / 10) if positives else None)


def test_without_positives_nothing_is_defined():
    histogram = fill([0.1, -3.0], [0, 0])
    derived = (auroc, auroc_bound, auprc, auprc_bound, roc_curve, precision_recall_curve)
    assert [function(histogram) for function in derived] == [None] * 6
    assert tpr_at_fpr(histogram, fpr=0.5) is None


def test_without_negatives_only_average_precision_is_defined():
    histogram = fill([0.1, -3.0], [1, 1])
    assert (auprc(histogram), auprc_bound(histogram)) == (1.0, 0.0)
    assert [function(histogram) for function in (auroc, auroc_bound, roc_curve)] == [None] * 3


def test_roc_curve_equals_scikit_learn_on_bin_centres():
    logits, target = draw(3000, 300)
    scores = on_centres(logits, bins=256)
    curve = roc_curve(fill(scores, target, bins=256))
    fpr, tpr, thresholds = referee.roc_curve(target, scores, drop_intermediate=False)
    np.testing.assert_allclose(curve.fpr, fpr, atol=1e-12)
    np.testing.assert_allclose(curve.tpr, tpr, atol=1e-12)
    np.testing.assert_allclose(curve.logits, thresholds - 20 / 256, atol=1e-9)  # edges lie half a bin below centres


def test_precision_recall_curve_equals_scikit_learn_on_bin_centres():
    logits, target = draw(3000, 300)
    scores = on_centres(logits, bins=256)
    curve = precision_recall_curve(fill(scores, target, bins=256))
    precision, recall, _ = referee.precision_recall_curve(target, scores)
    np.testing.assert_allclose(curve.precision, precision[-2::-1], atol=1e-12)
    np.testing.assert_allclose(curve.recall, recall[-2::-1], atol=1e-12)


def test_average_precision_is_the_sum_of_steps_under_the_curve():
    histogram = fill(*draw(3000, 300), bins=256)
    curve = precision_recall_curve(histogram)
    assert auprc(histogram) == pytest.approx(np.diff(curve.recall, prepend=0.0) @ curve.precision)


@pytest.mark.parametrize("fpr", [0.3, 0.01, 3e-3])
def test_tpr_at_fpr_equals_scikit_learn_on_bin_centres(fpr: float):
    logits, target = draw(5000, 300)
    scores = on_centres(logits, bins=4096)
    rates, hits, _ = referee.roc_curve(target, scores, drop_intermediate=False)
    assert tpr_at_fpr(fill(scores, target, bins=4096), fpr=fpr) == pytest.approx(hits[rates <= fpr].max(), abs=1e-12)


@pytest.mark.parametrize(
    "metric", [tpr_at_fpr, threshold_at_fpr, lambda histogram, fpr: partial_auroc(histogram, max_fpr=fpr)]
)
def test_a_false_positive_rate_needs_ten_negatives_beyond_it(metric):
    logits, target = draw(10_098, 99)
    assert ((~target).sum(), FEWEST_FALSE) == (9999, 10)
    assert metric(fill(logits, target), fpr=1e-3) is None
    assert metric(fill(np.append(logits, -5.0).astype(np.float32), np.append(target, False)), fpr=1e-3) is not None


@pytest.mark.parametrize("fpr", [0.3, 0.01, 3e-3])
def test_at_its_threshold_a_false_positive_rate_is_kept_and_the_next_bin_exceeds_it(fpr: float):
    logits, target = draw(5000, 300)
    histogram = fill(on_centres(logits, bins=4096), target, bins=4096)
    threshold = threshold_at_fpr(histogram, fpr=fpr)
    below = on_centres(logits, bins=4096)[~target]
    assert (below >= threshold).mean() <= fpr
    assert (below >= below[below < threshold].max()).mean() > fpr


def test_no_threshold_keeps_a_rate_that_the_highest_bin_exceeds():
    assert threshold_at_fpr(fill(np.ones(100), np.zeros(100)), fpr=0.5) == np.inf


@pytest.mark.parametrize("max_fpr", [0.5, 0.1, 0.01])
@pytest.mark.parametrize(("pixels", "positives"), [(5000, 300), (5000, 4), (20_000, 10_000)])
def test_partial_auroc_equals_scikit_learn_on_bin_centres(pixels: int, positives: int, max_fpr: float):
    logits, target = draw(pixels, positives)
    scores = on_centres(logits, bins=4096)
    exact = referee.roc_auc_score(target, scores, max_fpr=max_fpr)
    assert partial_auroc(fill(scores, target, bins=4096), max_fpr=max_fpr) == pytest.approx(exact, abs=1e-9)


def test_partial_auroc_up_to_a_rate_on_the_curve_equals_scikit_learn():
    logits, target = draw(200, 100, spread=1.0, shift=1.0)
    scores = on_centres(logits, bins=64)
    rates = referee.roc_curve(target, scores, drop_intermediate=False)[0]
    for rate in rates[(rates >= 0.1) & (rates < 1)]:
        exact = referee.roc_auc_score(target, scores, max_fpr=rate)
        assert partial_auroc(fill(scores, target, bins=64), max_fpr=rate) == pytest.approx(exact, abs=1e-9)


@pytest.mark.parametrize(("shift", "area"), [(15.0, 1.0), (0.0, 0.5)])
def test_partial_auroc_is_one_for_a_perfect_and_half_for_a_constant_scorer(shift: float, area: float):
    target = np.arange(5000) < 50
    assert partial_auroc(fill(shift * target, target), max_fpr=0.01) == pytest.approx(area)


@pytest.mark.parametrize("recall", [0.2, 0.5, 0.9, 1.0])
def test_precision_at_recall_equals_scikit_learn_on_bin_centres(recall: float):
    logits, target = draw(5000, 300)
    scores = on_centres(logits, bins=4096)
    precision, recalls, _ = referee.precision_recall_curve(target, scores)
    exact = precision[recalls >= recall].max()
    assert precision_at_recall(fill(scores, target, bins=4096), recall=recall) == pytest.approx(exact, abs=1e-12)


def test_precision_at_recall_by_hand():
    # By falling logit: + - + + -. Recall 2/3 is reached at precision 2/3, and a recall of 1 at 3/4, which is greater.
    histogram = fill([5.0, 4.0, 3.0, 2.0, 1.0], [1, 0, 1, 1, 0])
    found = [precision_at_recall(histogram, recall=recall) for recall in (0.3, 0.5, 1.0)]
    assert found == pytest.approx([1.0, 0.75, 0.75])
    assert precision_at_recall(fill([1.0], [0]), recall=0.5) is None


@pytest.mark.parametrize(("pixels", "positives"), [(20_000, 300), (5000, 2500)])
def test_areas_equal_torchmetrics(pixels: int, positives: int):
    logits, target = draw(pixels, positives)
    scores, truth = torch.from_numpy(logits).sigmoid().double(), torch.from_numpy(target.astype(int))
    histogram = fill(logits, target)
    assert auroc(histogram) == pytest.approx(binary_auroc(scores, truth).item(), abs=1e-5)
    assert auprc(histogram) == pytest.approx(binary_average_precision(scores, truth).item(), abs=1e-3)


@given(
    pixels=st.lists(st.tuples(st.floats(-25, 25, width=32), st.booleans()), min_size=1, max_size=50),
    cuts=st.lists(st.integers(0, 50), max_size=4),
    seed=st.integers(0, 99),
)
@settings(deadline=None)
def test_order_batches_and_ranks_leave_every_number_alone(pixels, cuts: list[int], seed: int):
    counted = partial(fill, bins=2**12)
    logits, target = np.array([score for score, _ in pixels], np.float32), np.array([truth for _, truth in pixels])
    whole = pixel_scores(counted(logits, target), logit_threshold=0.5, calibrator=None, families=PIXEL_FAMILIES)
    order = np.random.default_rng(seed).permutation(len(pixels))
    parts = np.split(order, sorted(min(cut, len(pixels)) for cut in cuts))
    merged = counted([], [])
    for part in parts:
        merged = merged + PixelHistogram.from_counts(**counted(logits[part], target[part]).state())  # as from a rank
    assert merged.clipped == counted(logits, target).clipped
    assert pixel_scores(merged, logit_threshold=0.5, calibrator=None, families=PIXEL_FAMILIES) == whole
