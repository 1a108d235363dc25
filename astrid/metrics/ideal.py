"""The physical limit: a matched filter that knows the PSF, on a sky of nothing but white noise."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri

Floats = NDArray[np.float64]

THRESHOLDS = (2.5, 8.0)
"""Range in sigma of the thresholds that `ideal_threshold` knows; below it holes count as fewer groups."""
DRAWS = 40_000
"""Neighbourhoods drawn for a rate, which give it to a per cent or two."""


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


def noise_false_per_mpix(threshold: float, *, psf: Floats) -> float:
    """Return how many groups of pixels noise alone lifts above a high threshold, per million pixels.

    It is the expected Euler characteristic of the pixels above the threshold: groups minus holes, and above about three
    sigma there are no holes. Taking pixels as squares, each brings its face, less its share of four edges, plus its
    share of four corners, where those are shared with neighbours above the threshold. The neighbours are drawn from the
    normal law that the filter leaves them, given a pixel above. A continuous field has more groups, up to twice as
    many: pixels miss the tops of peaks.

    Parameters
    ----------
    threshold : float
        In sigma of the score.
    psf : (K, K) float64
        Symmetric, with a rim that holds next to nothing; the filter is the PSF itself.

    References
    ----------
    Adler 1981, The Geometry of Random Fields, doi:10.1137/1.9780898718980, chapter 4
    """
    correlation = _neighbour_correlation(psf)
    rng = np.random.default_rng(0)  # the same draws for all thresholds, so that the rate falls smoothly
    above = ndtr(-threshold)
    centre = -ndtri(above * rng.uniform(size=(DRAWS, 1)))
    given = correlation[1:, :1]
    spread = np.linalg.cholesky(correlation[1:, 1:] - given @ given.T)
    around = centre @ given.T + rng.normal(size=(DRAWS, 8)) @ spread.T
    is_above = np.insert(around >= threshold, 4, True, axis=1).reshape(-1, 3, 3)
    return float(1e6 * above * _euler_shares(is_above).mean())


def _euler_shares(is_above: NDArray[np.bool_]) -> Floats:
    """Return what the middle pixel of each 3x3 patch brings to the Euler characteristic, (N,) for (N, 3, 3) bool."""
    count = is_above.astype(np.float64)
    sides = 1 + np.stack([count[:, 0, 1], count[:, 1, 0], count[:, 1, 2], count[:, 2, 1]])
    corners = [count[:, row : row + 2, column : column + 2].sum(axis=(1, 2)) for row in (0, 1) for column in (0, 1)]
    return np.asarray(1 - (1 / sides).sum(axis=0) + (1 / np.stack(corners)).sum(axis=0))


def _neighbour_correlation(psf: Floats) -> Floats:
    """Return the correlation of the score among a pixel and its eight neighbours, (9, 9), the pixel itself first."""
    size = 2 * psf.shape[0]
    correlation = np.fft.ifft2(np.abs(np.fft.fft2(psf, s=(size, size))) ** 2).real
    steps = np.array([(0, 0), *((y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0))])
    apart = steps[:, None] - steps
    return np.asarray(correlation[apart[..., 0], apart[..., 1]] / correlation[0, 0])


def ideal_threshold(false_per_mpix: float, *, psf: Floats) -> float | None:
    """Return the threshold in sigma at which noise alone makes so many false detections; None out of `THRESHOLDS`."""

    def excess(threshold: float) -> float:
        return noise_false_per_mpix(threshold, psf=psf) - false_per_mpix

    lowest, highest = THRESHOLDS
    if not excess(highest) < 0 < excess(lowest):
        return None
    return float(brentq(excess, lowest, highest, xtol=1e-3))
