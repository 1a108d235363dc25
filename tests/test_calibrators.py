"""A calibrator makes probabilities mean what they say, and leaves the order of the pixels alone."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from histograms import fill
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, log_expit
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from astrid.metrics.calibration import expected_calibration_error, forecast, reliability
from astrid.metrics.calibrators import FEWEST_OF_CLASS, Calibrator, fit_calibrator
from astrid.metrics.histogram import PixelHistogram

CALIBRATORS = [
    Calibrator(),
    Calibrator("temperature", 2.5),
    Calibrator("isotonic", knots=(-3.0, 0.25, 7.0), calibrated=(-9.0, -0.1, 2.0)),
]


def honest(pixels: int = 200_000, *, offset: float = -3.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Draw logits whose probabilities are the frequencies of positives."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(offset, 2.0, pixels)
    return logits, rng.random(pixels) < expit(logits)


def ece(logits: np.ndarray, target: np.ndarray, calibrator: Calibrator | None = None) -> float:
    found = expected_calibration_error(reliability(forecast(fill(logits, target, limit=60.0), calibrator)))
    assert found is not None
    return found


@pytest.mark.parametrize("offset", [0.0, -3.0])
@pytest.mark.parametrize("kind", ["temperature", "isotonic"])
def test_of_an_overconfident_network_at_least_half_of_the_error_goes(kind, offset: float):
    logits, target = honest(offset=offset)
    fitted = fit_calibrator(fill(3 * logits[::2], target[::2], limit=60.0), kind=kind)
    test = 3 * logits[1::2], target[1::2]
    assert ece(*test) > 0.01
    assert ece(*test, fitted) <= ece(*test) / 2


@pytest.mark.parametrize("scale", [0.3, 1.0, 3.0])
def test_the_temperature_is_what_logits_were_multiplied_by(scale: float):
    logits, target = honest()
    fitted = fit_calibrator(fill(scale * logits, target, limit=60.0), kind="temperature")
    assert fitted.temperature == pytest.approx(scale, rel=0.02)


def test_the_temperature_is_that_of_a_logistic_regression_without_offset():
    logits, target = honest(5000, offset=0.5)
    referee = LogisticRegression(fit_intercept=False, C=1e12, tol=1e-10).fit(1.7 * logits[:, None], target)
    fitted = fit_calibrator(fill(1.7 * logits, target), kind="temperature")
    assert fitted.temperature == pytest.approx(1 / referee.coef_[0, 0], rel=1e-3)


def test_no_other_temperature_has_a_greater_likelihood():
    logits, target = honest(2000)
    best = fit_calibrator(fill(logits, target), kind="temperature").temperature

    def likelihood(temperature: float) -> float:
        return float(log_expit(np.where(target, logits, -logits) / temperature).sum())

    assert likelihood(best) >= max(likelihood(best * 1.01), likelihood(best / 1.01)) - 1e-6


def test_isotonic_passes_through_the_middles_of_the_blocks_of_scikit_learn():
    logits, target = honest(4000)
    fitted = fit_calibrator(fill(logits, target, bins=2**16), kind="isotonic")
    steps = IsotonicRegression().fit(logits, target)
    inner = slice(1, -1)  # the outermost blocks may be all negative or all positive, whose logit isn't finite
    np.testing.assert_allclose(expit(fitted.calibrated[inner]), steps.predict(fitted.knots[inner]), atol=0.01)
    assert len(fitted.knots) > 10


def test_isotonic_by_hand():
    # Frequencies 0, 1/2, 1/3, 1: the middle two violate the order and pool to 2/5 at (0·2 + 1·3) / 5.
    logits = np.repeat([-1.0, 0.0, 1.0, 2.0], [4, 2, 3, 1])
    target = [0] * 4 + [0, 1] + [0, 0, 1] + [1]
    fitted = fit_calibrator(fill(logits, target), kind="isotonic")
    np.testing.assert_allclose(fitted.knots, [-1, 0.6, 2], atol=1e-4)
    pooled = np.log(2 / 3)
    np.testing.assert_allclose(fitted.calibrated, [-np.log(9), pooled, max(np.log(3), pooled + np.log(2))])


def test_a_few_pixels_at_an_end_do_not_overtake_the_many_beside_them():
    # One negative at -1 says 1/4, the ten beside it 1/10: it has half their odds, and so at the other end.
    logits = np.repeat([-1.0, 0.0, 1.0, 2.0], [1, 10, 10, 1])
    target = [0] + [1] + [0] * 9 + [0] + [1] * 9 + [1]
    fitted = fit_calibrator(fill(logits, target), kind="isotonic")
    np.testing.assert_allclose(np.exp(fitted.calibrated), [1 / 18, 1 / 9, 9, 18])


@pytest.mark.parametrize("calibrator", CALIBRATORS, ids=lambda calibrator: calibrator.kind)
@given(st.lists(st.floats(-50, 50, width=16), min_size=2, max_size=20, unique=True))
def test_a_calibrator_keeps_the_order_strictly(calibrator: Calibrator, logits: list[float]):
    rising = np.sort(np.array(logits, dtype=np.float64))
    assert (np.diff(calibrator(rising)) > 0).all()


@given(st.lists(st.tuples(st.integers(-5, 5), st.booleans()), min_size=2, max_size=40))
@settings(deadline=None)
def test_whatever_the_pixels_an_isotonic_fit_is_finite_and_rises(pixels: list[tuple[int, bool]]):
    logits, target = np.array([score for score, _ in pixels], float), [truth for _, truth in pixels]
    fitted = fit_calibrator(fill(logits, target), kind="isotonic")
    rising = fitted(np.linspace(-9.0, 9.0, 50))
    assert np.isfinite(rising).all()
    assert (np.diff(rising) > 0).all()


@pytest.mark.parametrize("calibrator", CALIBRATORS, ids=lambda calibrator: calibrator.kind)
def test_tensors_and_arrays_are_calibrated_alike(calibrator: Calibrator):
    logits = torch.linspace(-12, 12, 101).reshape(1, 101)
    found = calibrator.probability(logits)
    assert (found.dtype, found.shape) == (torch.float32, logits.shape)
    np.testing.assert_allclose(found.numpy(), expit(calibrator(logits.double().numpy())), rtol=1e-5)


@pytest.mark.parametrize("calibrator", CALIBRATORS, ids=lambda calibrator: calibrator.kind)
def test_certainty_stays_certain(calibrator: Calibrator):
    assert (calibrator.at(-np.inf), calibrator.at(np.inf)) == (-np.inf, np.inf)


@pytest.mark.parametrize("kind", ["temperature", "isotonic"])
@pytest.mark.parametrize("target", [[0, 0], [1, 1]])
def test_without_both_classes_nothing_is_calibrated_and_that_is_said(kind, target, caplog: pytest.LogCaptureFixture):
    assert fit_calibrator(fill([0.5, 1.0], target), kind=kind) == Calibrator()
    assert f"{kind} calibration needs both classes" in caplog.text


@pytest.mark.parametrize("turned", [1, -1])
def test_a_temperature_without_end_leaves_probabilities_as_they_are_and_that_is_said(
    turned: int, caplog: pytest.LogCaptureFixture
):
    parted = np.repeat([-1.0, 1.0], FEWEST_OF_CLASS)
    assert fit_calibrator(fill(turned * parted, parted > 0), kind="temperature") == Calibrator()
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "ran to the end of what is tried" in caplog.text


@pytest.mark.parametrize("missing", [0, 1])
@pytest.mark.parametrize("of_positives", [True, False])
def test_a_temperature_needs_enough_pixels_of_either_class(
    missing: int, of_positives: bool, caplog: pytest.LogCaptureFixture
):
    rng = np.random.default_rng(0)
    few = rng.random(1000) < 0
    few[: FEWEST_OF_CLASS - missing] = True
    fitted = fit_calibrator(fill(rng.normal(size=1000), few == of_positives), kind="temperature")
    said = f"at least {FEWEST_OF_CLASS} validation pixels of either class, got {FEWEST_OF_CLASS - missing}"
    assert (said in caplog.text) == bool(missing)
    assert not missing or fitted == Calibrator()


def test_none_is_the_logistic_function():
    assert fit_calibrator(fill([0.5, 1.0], [0, 1]), kind="none") == Calibrator()
    np.testing.assert_array_equal(Calibrator().probability(torch.tensor([0.3])), torch.sigmoid(torch.tensor([0.3])))


@pytest.mark.parametrize(("kind", "copies"), [("temperature", 50), ("isotonic", 1)])
def test_at_a_prevalence_of_1e_5_a_network_three_times_too_sure_is_brought_near_the_truth(kind, copies: int):
    logits, target = honest(1_000_000, offset=-13.0)
    assert 5 < target.sum() < 50
    assert kind == "isotonic" or copies * target.sum() >= FEWEST_OF_CLASS
    seen = fill(3 * logits, target, limit=90.0)
    many = PixelHistogram.from_counts(copies * seen.positives, copies * seen.negatives, limit=seen.limit)
    fitted = fit_calibrator(many, kind=kind)
    said = expit(fitted(3 * logits)).sum()
    assert target.sum() / 2 < said < target.sum() * 2
    assert expit(3 * logits).sum() > target.sum() * 2 or expit(3 * logits).sum() < target.sum() / 2
