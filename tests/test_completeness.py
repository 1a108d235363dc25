"""Completeness by signal-to-noise is counted in bins and fitted by a curve that may end below 1."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from astrid.metrics.completeness import (
    _derivatives,
    _loss,
    completeness_by_snr,
    fit_curve,
    fitted_snr,
    resampled_snr,
)


def draw_sources(
    half: float, slope: float, count: int, *, ceiling: float = 1.0, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Sources, log-uniform from 3 to 40, found with the probability ceiling * expit(slope * ln(snr / half))."""
    rng = np.random.default_rng(seed)
    snr = np.exp(rng.uniform(math.log(3), math.log(40), count))
    return snr, rng.random(count) < ceiling * expit(slope * np.log(snr / half))


def test_bins_count_every_source_once():
    curve = completeness_by_snr(np.array([5.0, 11, 40, 5, 11, 40]), np.array([0, 1, 1, 0, 0, 0], bool), bins=3)
    assert curve is not None
    np.testing.assert_allclose(curve.edges, [5, 10, 20, 40])
    assert curve.total.tolist() == [2, 2, 2]
    assert curve.found.tolist() == [0, 1, 1]


def test_without_sources_there_are_no_bins():
    assert completeness_by_snr(np.zeros(0), np.zeros(0, bool)) is None


@pytest.mark.parametrize("half", [5.0, 12.0])
@pytest.mark.parametrize("slope", [2.0, 8.0])
@pytest.mark.parametrize("ceiling", [1.0, 0.9, 0.7])
def test_half_completeness_is_recovered_under_any_ceiling(half: float, slope: float, ceiling: float):
    snr, found = draw_sources(half, slope, 20_000, ceiling=ceiling)
    truth = half * (0.5 / ceiling / (1 - 0.5 / ceiling)) ** (1 / slope)
    assert fitted_snr(snr, found, share=0.5) == pytest.approx(truth, rel=0.03)


def test_a_curve_without_a_ceiling_puts_half_completeness_too_low():
    snr, found = draw_sources(4.0, 8.0, 20_000, ceiling=0.9)
    truth = 4.0 * (5 / 4) ** (1 / 8)
    plain = LogisticRegression(C=1e6).fit(np.log(snr)[:, None], found)
    assert math.exp(-plain.intercept_[0] / plain.coef_[0, 0]) < 0.95 * truth
    assert fitted_snr(snr, found, share=0.5) == pytest.approx(truth, rel=0.02)


@pytest.mark.parametrize("seed", range(4))
def test_the_fit_is_as_likely_as_what_another_optimiser_finds(seed: int):
    snr, found = draw_sources(5.0, 4.0, 400, ceiling=0.92, seed=seed)

    def surprise(parameters: np.ndarray) -> float:
        share = np.clip(expit(parameters[0]) * expit(parameters[1] + parameters[2] * np.log(snr)), 1e-12, 1 - 1e-12)
        return -float(np.log(np.where(found, share, 1 - share)).sum())

    curve = fit_curve(snr, found=found[None].astype(float), total=np.ones((1, 400)))
    ours = [math.log(curve.ceiling[0] / (1 - curve.ceiling[0])), curve.offset[0], curve.slope[0]]
    theirs = minimize(surprise, ours, method="Nelder-Mead", options={"maxiter": 5000, "xatol": 1e-8, "fatol": 1e-10})
    assert surprise(np.array(ours)) < theirs.fun + 0.05  # the penalty that holds slope and ceiling back


def test_ninety_percent_is_where_the_curve_says():
    snr, found = draw_sources(4.0, 6.0, 50_000, ceiling=0.97)
    truth = 4.0 * (0.9 / 0.97 / (1 - 0.9 / 0.97)) ** (1 / 6)
    assert fitted_snr(snr, found, share=0.9) == pytest.approx(truth, rel=0.03)
    assert math.isnan(fitted_snr(*draw_sources(4.0, 6.0, 50_000, ceiling=0.85), share=0.9))


def test_half_completeness_is_in_the_gap_when_all_brighter_sources_are_found():
    snr = np.array([3.0, 4.0, 5.0, 8.0, 10.0, 20.0])
    assert 5 < fitted_snr(snr, snr > 6, share=0.5) < 8


@pytest.mark.parametrize(
    ("snr", "found"),
    [
        ([], []),
        ([5, 6, 7], [True, True, True]),
        ([5, 6, 7], [False, False, False]),
        ([5, 5, 5], [True, False, True]),
        ([3, 4, 10, 20], [True, True, False, False]),
        ([5, 5.5, 6, 6.5, 7] * 4, [True] * 17 + [False] + [True] * 2),
    ],
    ids=["none", "all found", "all missed", "one brightness", "falling", "beyond the faintest"],
)
def test_it_is_undefined_where_the_sources_do_not_tell(snr: list[float], found: list[bool]):
    sources = np.array(snr, dtype=float), np.array(found, dtype=bool)
    assert math.isnan(fitted_snr(*sources, share=0.5))


def test_a_resample_whose_curve_never_gets_there_is_infinite_and_one_that_leaves_the_range_is_followed():
    snr, found = draw_sources(2.5, 4.0, 2000)
    [half] = resampled_snr(snr, found, weights=np.ones((1, 2000)), shares=(0.5,))
    assert half[0] == pytest.approx(2.5, rel=0.1)
    assert math.isnan(fitted_snr(snr, found, share=0.5))
    [most] = resampled_snr(*draw_sources(5.0, 4.0, 2000, ceiling=0.7), weights=np.ones((1, 2000)), shares=(0.9,))
    assert most[0] == np.inf


@given(seed=st.integers(0, 1000))
@example(seed=503)  # its fit takes more than 60 steps
@settings(max_examples=20, deadline=None)
def test_resamples_are_fits_of_repeated_sources(seed: int):
    snr, found = draw_sources(5.0, 4.0, 300, ceiling=0.95, seed=seed)
    weights = np.random.default_rng([7, seed]).multinomial(300, np.full(300, 1 / 300), size=4).astype(float)
    [half] = resampled_snr(snr, found, weights=weights, shares=(0.5,))
    for row, value in zip(weights, half, strict=True):
        times = row.astype(int)
        plain = fitted_snr(np.repeat(snr, times), np.repeat(found, times), share=0.5)
        assert value == pytest.approx(plain, rel=0.02)  # sources are counted in bins of 2 %


def test_the_gradient_is_that_of_the_loss_with_its_penalty():
    x, total = np.linspace(-1.0, 1.0, 7), np.full((1, 7), 5.0)
    found, place = np.array([[0.0, 1, 1, 3, 4, 5, 5]]), np.array([[6.0, 0.3, 9.0]])  # where the penalty tells
    gradient, _ = _derivatives(place, x, found, total)
    steps = 1e-6 * np.eye(3)
    slopes = [(_loss(place + step, x, found, total) - _loss(place - step, x, found, total))[0] / 2e-6 for step in steps]
    np.testing.assert_allclose(gradient[0], slopes, rtol=1e-5, atol=1e-7)
