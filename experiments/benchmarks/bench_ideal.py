"""Hold the matched filter on skies of noise alone against theory: sources found, false detections.

PYTHONPATH=tests python experiments/benchmarks/bench_ideal.py
"""

from __future__ import annotations

import itertools

import numpy as np
from noise_skies import SIZE, count_false, draw_noise, draw_sky, found_by_peaks
from rivals import record
from scipy.stats import binomtest

from astrid.data.psf import point_source
from astrid.metrics.ideal import ideal_completeness, noise_false_per_mpix

SKIES, THRESHOLD = 16, 4.5
EDGES = (2.5, 3.5, 4.0, 4.5, 5.0, 5.5, 6.5, 8.0)


def completeness(fwhm: float) -> str:
    """Compare what is found at the true positions, and by peaks, with the analytic curve."""
    skies = [draw_sky(seed, fwhm=fwhm) for seed in range(SKIES)]
    there = np.concatenate([sky.score[sky.y, sky.x] >= THRESHOLD for sky in skies])
    peaks = np.concatenate([found_by_peaks(sky, threshold=THRESHOLD, radius_pixels=fwhm) for sky in skies])
    snr = np.concatenate([sky.snr for sky in skies])
    expected = ideal_completeness(snr, threshold=THRESHOLD)
    parts, inside = [], 0
    for low, high in itertools.pairwise(EDGES):
        here = (snr >= low) & (snr < high)
        ends = binomtest(int(there[here].sum()), int(here.sum())).proportion_ci(0.95)
        inside += ends.low <= expected[here].mean() <= ends.high
        values = f"{there[here].mean():.3f} against {expected[here].mean():.3f}, by peaks {peaks[here].mean():.3f}"
        parts.append(f"{low:g} to {high:g} sigma {values}")
    within = f"{inside} of {len(parts)} bins within their 95 % interval"
    above = f"peaks find {peaks.mean() - expected.mean():+.3f} of all sources more than the curve says"
    return f"FWHM {fwhm:g}, threshold {THRESHOLD}, {len(snr)} sources: {'; '.join(parts)}; {within}; {above}"


def false_detections(fwhm: float) -> str:
    """Compare the groups above a threshold with the expected number."""
    psf = point_source(fwhm)
    noise = [draw_noise(100 + seed, fwhm=fwhm) for seed in range(SKIES)]
    parts = []
    for threshold in (3.0, 3.5, 4.0, 4.5):
        found = sum(count_false(one, threshold=threshold) for one in noise)
        expected = noise_false_per_mpix(threshold, psf=psf) * SKIES * SIZE**2 / 1e6
        parts.append(f"{threshold:g} sigma {found} against {expected:.0f} ({found / expected:.2f})")
    return f"FWHM {fwhm:g}, false detections in {SKIES * SIZE**2 / 1e6:.0f} Mpix of noise: {', '.join(parts)}"


def main() -> None:
    """Measure three widths of the PSF."""
    record("bench_ideal", *(line for fwhm in (2.4, 3.2, 4.0) for line in (completeness(fwhm), false_detections(fwhm))))


if __name__ == "__main__":
    main()
