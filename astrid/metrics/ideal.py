"""The physical limit: a matched filter that knows the PSF, on a sky of nothing but white noise."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import ndtr

Floats = NDArray[np.float64]

THRESHOLDS = (1.5, 40.0)
"""Range in sigma of the thresholds that `ideal_threshold` knows; below it the formula counts too few maxima."""


def ideal_completeness(snr: Floats, *, threshold: float) -> Floats:
    """Return the share of sources whose score at their true position is at or above the threshold.

    The score of a source is normal with mean `snr` and unit variance.

    Parameters
    ----------
    snr : float64, any shape
        Matched-filter signal-to-noise.
    threshold : float
        In sigma of the score.

    References
    ----------
    Zackay and Ofek 2017, ApJ 836, 187, doi:10.3847/1538-4357/836/2/187, section 2
    """
    return np.asarray(ndtr(snr - threshold))


def noise_false_per_mpix(threshold: float, *, roughness: float) -> float:
    """Return how many groups of pixels noise alone lifts above a high threshold, per million pixels.

    It is the expected Euler characteristic of the set above the threshold t, roughness (2 pi)^(-3/2) t exp(-t²/2) per
    pixel: groups minus holes, and above about three sigma there are no holes.

    Parameters
    ----------
    threshold : float
        In sigma of the score.
    roughness : float
        Variance of the score's slope per axis, in units of its own variance per pixel squared.

    References
    ----------
    Adler 1981, The Geometry of Random Fields, doi:10.1137/1.9780898718980, chapter 5
    """
    return float(1e6 * roughness * (2 * math.pi) ** -1.5 * threshold * math.exp(-(threshold**2) / 2))


def ideal_threshold(false_per_mpix: float, *, roughness: float) -> float | None:
    """Return the threshold in sigma at which noise alone makes so many false detections; None out of `THRESHOLDS`."""

    def excess(threshold: float) -> float:
        return noise_false_per_mpix(threshold, roughness=roughness) - false_per_mpix

    lowest, highest = THRESHOLDS
    if not excess(highest) < 0 < excess(lowest):
        return None
    return float(brentq(excess, lowest, highest))


def score_roughness(psf: Floats) -> float:
    """Return the roughness of white noise after a matched filter, for `noise_false_per_mpix`.

    Parameters
    ----------
    psf : (K, K) float64
        Symmetric, with a rim that holds next to nothing.
    """
    size = 4 * psf.shape[0]
    power = np.abs(np.fft.fft2(psf, s=(size, size))) ** 2
    frequency = 2 * np.pi * np.fft.fftfreq(size)
    return float((power * frequency**2).sum() / power.sum())
