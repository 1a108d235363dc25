"""Bars of a reliability diagram say how fields differ, and hold the true frequency as often as they claim."""

from __future__ import annotations

import numpy as np

from astrid.metrics.reliability_bars import reliability_bars


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


def test_a_bin_that_one_field_holds_has_no_bar_and_an_empty_one_no_place() -> None:
    counts = np.zeros((3, 2, 4), np.int64)
    counts[:, 0, 0], counts[:, 1, 0] = 100, [10, 20, 30]
    counts[1, :, 2] = 5, 2
    bars = reliability_bars(counts)
    assert bars.shape == (2, 2)
    assert np.isnan(bars[:, 1]).all()
    assert 0.1 <= bars[0, 0] < 0.2 < bars[1, 0] <= 0.3
