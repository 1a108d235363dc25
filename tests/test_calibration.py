"""Reliability, ECE and Brier score agree with hand-worked cases, scikit-learn and torchmetrics."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from histograms import draw, fill, on_centres
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss
from torchmetrics.functional.classification import binary_calibration_error

from astrid.metrics.calibration import (
    Forecast,
    binned_counts,
    brier_parts,
    brier_score,
    classwise_ece,
    equal_mass_reliability,
    expected_calibration_error,
    forecast,
    reliability,
)
from astrid.metrics.calibrators import Calibrator


def ece(said: Forecast, bins: int = 15) -> float | None:
    return expected_calibration_error(reliability(said, bins=bins))


def by_hand() -> Forecast:
    """8 pixels at 0.1, one of them positive; 2 at 0.9, both positive."""
    return forecast(fill(logit([0.1] * 8 + [0.9] * 2), [1] + [0] * 7 + [1] * 2))


@pytest.mark.parametrize("positives", [0, 1, 300, 2999, 3000])
def test_brier_score_equals_scikit_learn(positives: int):
    logits, target = draw(3000, positives)
    exact = brier_score_loss(target, expit(on_centres(logits)), labels=[0, 1])
    assert brier_score(forecast(fill(logits, target))) == pytest.approx(exact, abs=1e-6)


def test_reliability_equals_scikit_learn():
    logits, target = draw(3000, 900)
    curve = reliability(forecast(fill(logits, target)), bins=15)
    observed, predicted = calibration_curve(target, expit(on_centres(logits)), n_bins=15)
    np.testing.assert_allclose(curve.observed, observed, atol=1e-9)
    np.testing.assert_allclose(curve.predicted, predicted, atol=1e-6)
    assert curve.count.sum() == 3000


def test_equal_mass_reliability_equals_scikit_learn_on_quantiles():
    logits, target = draw(3000, 900)
    curve = equal_mass_reliability(forecast(fill(logits, target)), bins=15)
    observed, predicted = calibration_curve(target, expit(on_centres(logits)), n_bins=15, strategy="quantile")
    assert curve.count.tolist() == [200] * 15
    np.testing.assert_allclose(curve.observed, observed, atol=1 / 200 + 1e-9)  # one pixel may lie on an edge
    np.testing.assert_allclose(curve.predicted, predicted, atol=5e-3)


@pytest.mark.parametrize("bins", [10, 15])
@pytest.mark.parametrize(("pixels", "positives"), [(20_000, 300), (5000, 2500)])
def test_ece_equals_torchmetrics(pixels: int, positives: int, bins: int):
    logits, target = draw(pixels, positives)
    scores, truth = torch.from_numpy(expit(logits)), torch.from_numpy(target.astype(int))
    exact = binary_calibration_error(scores, truth, n_bins=bins, norm="l1").item()
    assert ece(forecast(fill(logits, target)), bins) == pytest.approx(exact, abs=1e-3)


def test_ece_weights_bins_by_their_pixels():
    curve = reliability(by_hand(), bins=5)
    np.testing.assert_allclose(curve.predicted, [0.1, 0.9], atol=1e-5)
    np.testing.assert_allclose(curve.observed, [0.125, 1.0])
    assert curve.count.tolist() == [8, 2]
    assert expected_calibration_error(curve) == pytest.approx((8 * 0.025 + 2 * 0.1) / 10, abs=1e-5)


def test_bins_of_equal_mass_split_where_half_of_the_pixels_lie():
    said = forecast(fill(logit([0.1, 0.2, 0.3, 0.9]), [0, 0, 1, 1]))
    curve = equal_mass_reliability(said, bins=2)
    np.testing.assert_allclose(curve.predicted, [0.15, 0.6], atol=1e-5)
    assert curve.count.tolist() == [2, 2]
    assert expected_calibration_error(curve) == pytest.approx((0.15 + 0.4) / 2, abs=1e-5)


def test_pixels_of_one_probability_stay_together_where_the_middle_one_falls():
    said = forecast(fill(logit([0.1, 0.4, 0.4, 0.9]), [0, 0, 1, 1]))
    assert equal_mass_reliability(said, bins=2).count.tolist() == [1, 3]


def test_classwise_ece_is_the_mean_over_the_classes():
    logits, target = draw(4000, 800)
    predicted = expit(on_centres(logits))
    errors = [
        binary_calibration_error(torch.from_numpy(p), torch.from_numpy(t.astype(int)), n_bins=7).item()
        for p, t in ((predicted, target), (1 - predicted, ~target))
    ]
    assert classwise_ece(forecast(fill(logits, target)), bins=7) == pytest.approx(np.mean(errors), abs=1e-6)


def test_the_classes_differ_where_a_probability_lies_on_an_edge():
    # In two bins 0.5 lies with 0.75 for the positives and with 0.25, which is 1 - 0.75, not for the negatives.
    said = Forecast(np.array([0.5, 0.75]), np.array([0, 1]), np.array([1, 0]))
    positive = abs(0.625 - 0.5)  # one bin with both
    negative = (abs(0.25 - 0.0) + abs(0.5 - 1.0)) / 2  # a bin each
    assert classwise_ece(said, bins=2) == pytest.approx((positive + negative) / 2)


def test_the_parts_of_the_brier_score_by_hand():
    parts = brier_parts(by_hand(), bins=5)
    assert parts.reliability == pytest.approx((8 * 0.025**2 + 2 * 0.1**2) / 10, abs=1e-5)
    assert parts.resolution == pytest.approx((8 * (0.125 - 0.3) ** 2 + 2 * 0.7**2) / 10, abs=1e-9)
    assert parts.uncertainty == pytest.approx(0.21)
    assert parts.within_bins == pytest.approx(0.0, abs=1e-9)  # a bin holds one probability


@given(
    st.lists(
        st.tuples(st.floats(0, 1), st.integers(0, 9), st.integers(0, 9)).filter(lambda bin: bin[1] + bin[2] > 0),
        min_size=1,
        max_size=30,
        unique_by=lambda bin: bin[0],
    ),
    st.sampled_from([1, 5, 15]),
)
@settings(deadline=None)
def test_the_parts_sum_to_the_brier_score_and_what_bins_hide_is_variance_less_covariance(pixels, bins: int):
    pixels.sort()
    p, positives, negatives = (np.array(column) for column in zip(*pixels, strict=True))
    said = Forecast(p, positives, negatives)
    parts = brier_parts(said, bins=bins)
    total = parts.reliability - parts.resolution + parts.uncertainty + parts.within_bins
    assert total == pytest.approx(brier_score(said), abs=1e-12)
    assert min(parts.reliability, parts.resolution, parts.uncertainty) >= 0
    each = np.repeat(p, positives + negatives)
    truth = np.concatenate([[1.0] * a + [0.0] * b for _, a, b in pixels])
    where = np.minimum((each * bins).astype(int), bins - 1)
    hidden = sum(
        (where == k).sum() * (np.var(each[where == k]) - 2 * np.cov(each[where == k], truth[where == k], ddof=0)[0, 1])
        for k in np.unique(where)
    )
    assert parts.within_bins == pytest.approx(hidden / each.size, abs=1e-9)  # Stephenson et al. 2008


def test_binned_counts_keep_the_empty_bins():
    assert binned_counts(by_hand(), bins=5).tolist() == [[8, 0, 0, 0, 2], [1, 0, 0, 0, 2]]


def test_empty_bins_are_left_out():
    assert reliability(forecast(fill([-3.0, 3.0], [0, 1]))).count.tolist() == [1, 1]


def test_certainty_counts_in_the_last_bin():
    curve = reliability(forecast(fill([logit(0.95), 50.0], [1, 1], limit=60.0)), bins=10)
    assert curve.count.tolist() == [2]
    assert curve.predicted == pytest.approx([0.975], abs=1e-4)


def test_probabilities_that_are_frequencies_are_calibrated_and_overconfident_ones_are_not():
    rng = np.random.default_rng(3)
    logits = rng.normal(-1, 2, 200_000)
    target = rng.random(200_000) < expit(logits)
    honest, boastful = forecast(fill(logits, target)), forecast(fill(3 * logits, target))
    assert ece(honest) < 0.005
    assert ece(boastful) > 0.05
    assert brier_score(honest) < brier_score(boastful)
    healed = forecast(fill(3 * logits, target, limit=60.0), Calibrator("temperature", 3.0))
    assert ece(healed) == pytest.approx(ece(honest), abs=1e-4)


def test_without_pixels_nothing_is_defined():
    empty = forecast(fill([], []))
    curves = reliability(empty), equal_mass_reliability(empty)
    assert [expected_calibration_error(curve) for curve in curves] == [None, None]
    assert (brier_score(empty), brier_parts(empty), classwise_ece(empty)) == (None, None, None)
    assert curves[0].count.size == 0
