"""On white noise the matched filter does what theory says: completeness at true positions, and false alarms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays
from noise_skies import SIZE, count_false, draw_noise, draw_sky, found_by_peaks
from scipy import ndimage
from scipy.special import ndtr
from scipy.stats import binomtest

from astrid.data.psf import point_source
from astrid.metrics.ideal import _euler_shares, ideal_completeness, ideal_threshold, noise_false_per_mpix

THRESHOLD, FWHM = 4.5, 3.2


def test_completeness_at_the_true_positions_is_the_analytic_curve_and_peaks_lie_a_little_above() -> None:
    skies = [draw_sky(seed, fwhm=FWHM) for seed in range(3)]
    at_position = np.concatenate([sky.score[sky.y, sky.x] >= THRESHOLD for sky in skies])
    at_peak = np.concatenate([found_by_peaks(sky, threshold=THRESHOLD, radius_pixels=FWHM) for sky in skies])
    snr = np.concatenate([sky.snr for sky in skies])
    expected = ideal_completeness(snr, threshold=THRESHOLD)
    for low, high in ((2.5, 3.5), (3.5, 4.2), (4.2, 4.8), (4.8, 5.6), (5.6, 8.0)):
        here = (snr >= low) & (snr < high)
        interval = binomtest(int(at_position[here].sum()), int(here.sum())).proportion_ci(0.999)
        assert interval.low <= expected[here].mean() <= interval.high
    assert 0.0 < at_peak.mean() - expected.mean() < 0.08


def test_noise_lifts_as_many_pixels_as_a_normal_law_says() -> None:
    scores = np.stack([draw_noise(seed, fwhm=FWHM) for seed in range(8)])
    for threshold in (2.0, 2.5, 3.0):
        shares = (scores >= threshold).mean(axis=(1, 2))  # of eight skies, whose scatter tells how sure their mean is
        assert abs(shares.mean() - ndtr(-threshold)) < 3 * shares.std(ddof=1) / np.sqrt(8)


@pytest.mark.parametrize("fwhm", [2.4, 4.0])
def test_noise_makes_as_many_false_detections_as_expected(fwhm: float) -> None:
    noise = [draw_noise(seed, fwhm=fwhm) for seed in range(6)]
    for threshold in (3.2, 3.8):
        found = [count_false(one, threshold=threshold) for one in noise]
        expected = SIZE**2 / 1e6 * noise_false_per_mpix(threshold, psf=point_source(fwhm))
        assert abs(np.mean(found) - expected) < 3.5 * np.sqrt(expected / len(found)) + 0.03 * expected


@given(arrays(np.bool_, (6, 7)))
def test_shares_of_pixels_add_up_to_groups_minus_holes(above: np.ndarray) -> None:
    padded = np.pad(above, 1)
    patches = np.lib.stride_tricks.sliding_window_view(padded, (3, 3))[above]
    groups = ndimage.label(padded, structure=np.ones((3, 3)))[1]
    holes = ndimage.label(~padded)[1] - 1  # what is around all groups is no hole
    assert _euler_shares(patches).sum() == pytest.approx(groups - holes)


@pytest.mark.parametrize("rate", [0.2, 4.0, 300.0])
def test_the_threshold_for_a_rate_makes_that_rate(rate: float) -> None:
    threshold = ideal_threshold(rate, psf=point_source(3.0))
    assert threshold is not None
    assert noise_false_per_mpix(threshold, psf=point_source(3.0)) == pytest.approx(rate, rel=0.02)


def test_a_rate_that_noise_never_reaches_has_no_threshold() -> None:
    assert ideal_threshold(1e6, psf=point_source(3.0)) is None
