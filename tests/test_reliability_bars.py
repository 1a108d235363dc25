"""Bars of a reliability diagram say how fields differ, and hold the true frequency as often as they claim."""

from __future__ import annotations

import numpy as np

from astrid.metrics.bootstrap import draw_weights, percentile_levels
from astrid.metrics.reliability_bars import FEWEST_HOLDING, RESAMPLES, SEED, reliability_bars


def counts_of(rates: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Fields of 1000 pixels in one bin, (F, 2, 1), a positive rate each."""
    return np.stack([np.full(len(rates), 1000), rng.binomial(1000, rates)], axis=1)[:, :, None]


def test_bars_hold_the_truth_where_fields_differ_more_than_pixels_do() -> None:
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(200):
        low, high = reliability_bars(counts_of(rng.beta(3, 7, 25), rng))[:, 0]
        inside += low <= 0.3 <= high
        assert high - low > 2 * 1.96 * np.sqrt(0.3 * 0.7 / 25_000)  # what independent pixels would give
    assert 0.9 <= inside / 200 <= 0.99


def test_bars_of_a_bin_that_few_of_the_fields_hold_are_no_shorter_than_of_so_few_alone() -> None:
    longer = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        few, all_fields = counts_of(rng.beta(3, 7, FEWEST_HOLDING), rng), np.zeros((25, 2, 1), np.int64)
        all_fields[:FEWEST_HOLDING] = few
        longer.append(np.ptp(reliability_bars(all_fields)) / np.ptp(reliability_bars(few)))
    assert np.mean(longer) >= 1.0


def test_a_bin_that_few_fields_hold_has_no_bar_and_an_empty_one_no_place() -> None:
    counts = np.zeros((FEWEST_HOLDING, 2, 4), np.int64)
    counts[:, 0, 0], counts[:, 1, 0] = 100, [10, 20, 30, 10, 20, 30, 15, 25]
    counts[1:, 0, 2], counts[1:, 1, 2] = 5, 2  # one field too few
    bars = reliability_bars(counts)
    assert bars.shape == (2, 2)
    assert np.isnan(bars[:, 1]).all()
    assert 0.1 <= bars[0, 0] < 0.2 < bars[1, 0] <= 0.3


def test_bars_of_few_fields_are_widened_percentiles() -> None:
    rng = np.random.default_rng(3)
    counts = counts_of(rng.beta(3, 7, FEWEST_HOLDING), rng)
    drawn = draw_weights(FEWEST_HOLDING, resamples=RESAMPLES, seed=SEED) @ counts[:, :, 0]
    plain, widened = (
        np.percentile(drawn[:, 1] / drawn[:, 0], levels) for levels in ((2.5, 97.5), percentile_levels(FEWEST_HOLDING))
    )
    bar = reliability_bars(counts)[:, 0]
    np.testing.assert_allclose(bar, widened)
    assert np.ptp(bar) > 1.1 * np.ptp(plain)
