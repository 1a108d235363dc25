"""Reliability, ECE and Brier score agree with hand-worked cases and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from histograms import draw, fill, on_centres
from scipy.special import expit, logit
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from astrid.metrics.calibration import brier_score, expected_calibration_error, reliability


@pytest.mark.parametrize("positives", [0, 1, 300, 2999, 3000])
def test_brier_score_equals_scikit_learn(positives: int):
    logits, target = draw(3000, positives)
    exact = brier_score_loss(target, expit(on_centres(logits)), labels=[0, 1])
    assert brier_score(fill(logits, target)) == pytest.approx(exact, abs=1e-6)


def test_reliability_equals_scikit_learn():
    logits, target = draw(3000, 900)
    curve = reliability(fill(logits, target), bins=15)
    observed, predicted = calibration_curve(target, expit(on_centres(logits)), n_bins=15)
    np.testing.assert_allclose(curve.observed, observed, atol=1e-9)
    np.testing.assert_allclose(curve.predicted, predicted, atol=1e-6)
    assert curve.count.sum() == 3000


def test_ece_weights_bins_by_their_pixels():
    # 8 pixels at 0.1, one of them positive; 2 at 0.9, both positive.
    logits, target = logit([0.1] * 8 + [0.9] * 2), [1] + [0] * 7 + [1] * 2
    curve = reliability(fill(logits, target), bins=5)
    np.testing.assert_allclose(curve.predicted, [0.1, 0.9], atol=1e-5)
    np.testing.assert_allclose(curve.observed, [0.125, 1.0])
    assert curve.count.tolist() == [8, 2]
    exact = (8 * 0.025 + 2 * 0.1) / 10
    assert expected_calibration_error(fill(logits, target), bins=5) == pytest.approx(exact, abs=1e-5)


def test_empty_bins_are_left_out():
    assert reliability(fill([-3.0, 3.0], [0, 1])).count.tolist() == [1, 1]


def test_certainty_counts_in_the_last_bin():
    curve = reliability(fill([logit(0.95), 50.0], [1, 1], limit=60.0), bins=10)
    assert curve.count.tolist() == [2]
    assert curve.predicted == pytest.approx([0.975], abs=1e-4)


def test_probabilities_that_are_frequencies_are_calibrated_and_overconfident_ones_are_not():
    rng = np.random.default_rng(3)
    logits = rng.normal(-1, 2, 200_000)
    target = rng.random(200_000) < expit(logits)
    honest, boastful = fill(logits, target), fill(3 * logits, target)
    assert expected_calibration_error(honest) < 0.005
    assert expected_calibration_error(boastful) > 0.05
    assert brier_score(honest) < brier_score(boastful)


def test_without_pixels_nothing_is_defined():
    empty = fill([], [])
    assert (brier_score(empty), expected_calibration_error(empty)) == (None, None)
    assert reliability(empty).count.size == 0
