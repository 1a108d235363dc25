"""On white noise the matched filter does what theory says: completeness at true positions, and false alarms."""

from __future__ import annotations

import numpy as np
import pytest
from noise_skies import SIZE, count_false, draw_noise, draw_sky, found_by_peaks
from scipy.special import ndtr
from scipy.stats import binomtest

from astrid.baselines.detectors import point_source
from astrid.metrics.ideal import ideal_completeness, ideal_threshold, noise_false_per_mpix, score_roughness

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


def test_noise_makes_nearly_as_many_detections_as_a_continuous_field_would() -> None:
    roughness = score_roughness(point_source(FWHM))
    found = sum(count_false(draw_noise(seed, fwhm=FWHM), threshold=3.5) for seed in range(4))
    expected = 4 * SIZE**2 / 1e6 * noise_false_per_mpix(3.5, roughness=roughness)
    assert 0.7 < found / expected < 1.0  # pixels miss the tops of some peaks


def test_the_roughness_of_a_gaussian_is_half_its_inverse_variance() -> None:
    rows, columns = np.mgrid[-15:16, -15:16]
    psf = np.exp(-(rows**2 + columns**2) / (2 * 2.5**2))
    assert score_roughness(psf) == pytest.approx(1 / (2 * 2.5**2), rel=1e-3)


@pytest.mark.parametrize("rate", [0.2, 4.0, 300.0])
def test_the_threshold_for_a_rate_makes_that_rate(rate: float) -> None:
    threshold = ideal_threshold(rate, roughness=0.2)
    assert threshold is not None
    assert noise_false_per_mpix(threshold, roughness=0.2) == pytest.approx(rate)


def test_a_rate_that_noise_never_reaches_has_no_threshold() -> None:
    assert ideal_threshold(1e6, roughness=0.2) is None
