"""Cosmic rays: found by their sharp edges, and told from stars by the point-spread function."""

from __future__ import annotations

import astroscrappy
import numpy as np
from astropy.nddata import CCDData
from numpy.typing import NDArray
from scipy import ndimage

from astrid.config import DataError

from ..frames import LARGEST_VALUE
from ..psf import MATCHING_BETA, moffat

_TOUCHING = np.ones((3, 3), dtype=bool)
_PHASES = np.linspace(-0.6, 0.6, 7)
"""Places of a star relative to its brightest pixel that are tried, along each axis, in pixels."""
_UNLIKE_STAR = 0.07
"""Share of a stamp's variance that no star need explain: room for coma, and for a seeing known to a tenth."""
_NOISE_MARGIN = 1.5
_SHARPEST_FWHM = 1.5


def flag_cosmic_rays(
    exposure: CCDData, *, fwhm_pixels: float, clip_sigma: float = 4.5, contrast: float = 3.0, rim: bool = True
) -> CCDData:
    """Mask cosmic rays by L.A.Cosmic, and spare what the point-spread function explains.

    The Laplacian can't tell the core of a well-focused star from a hit, so its finds are looked at once more: a star
    and a level are fitted around the brightest pixel of each, and where they leave no more than noise and a small
    share of the variance, it is a star.

    Parameters
    ----------
    exposure : CCDData
        In electrons, with its sky, and with its uncertainty.
    fwhm_pixels : float
        Full width at half maximum of the point sources, at least 1.5 pixels.
    clip_sigma : float
        Significance of the Laplacian above which a pixel is a hit.
    contrast : float
        Ratio of the Laplacian to the fine structure above which it is a hit; lower finds more.
    rim : bool
        Mask the pixels that touch a hit as well: its charge spreads, and on a star's wing the contrast hides its end.

    Returns
    -------
    CCDData
        The exposure with the hits masked; its values stay as they are.

    Raises
    ------
    DataError
        If the exposure has no uncertainty, or the seeing is too sharp to tell stars from hits.

    References
    ----------
    van Dokkum 2001, PASP 113, 1420, doi:10.1086/323894
    """
    if exposure.uncertainty is None:
        raise DataError("cosmic rays need the noise of each pixel; give data.preprocess.gain and read_noise")
    if not fwhm_pixels >= _SHARPEST_FWHM:
        raise DataError(
            f"fwhm must be at least {_SHARPEST_FWHM} pixels to tell stars from cosmic rays, got {fwhm_pixels:g}; "
            "switch data.preprocess.cosmic_rays off"
        )
    values, variance = _without_holes(exposure.data, exposure.uncertainty.array, exposure.mask)
    hits, _ = astroscrappy.detect_cosmics(
        values,
        inmask=exposure.mask,
        invar=variance,
        satlevel=float(np.finfo(np.float32).max),  # saturation is in the mask
        sigclip=clip_sigma,
        objlim=contrast,
    )
    hits &= ~_stars_among(hits, values, variance, fwhm_pixels)
    flagged: CCDData = exposure.copy()
    flagged.mask = exposure.mask | (ndimage.binary_dilation(hits, _TOUCHING) if rim else hits)
    return flagged


def _without_holes(
    data: NDArray[np.floating], sigma: NDArray[np.floating], mask: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return values and variance; typical ones where they are bad beyond use, as a hole has edges as sharp as hits."""
    lost = ~(np.isfinite(data) & np.isfinite(sigma)) | (mask & ~(np.abs(data) < LARGEST_VALUE))
    level, noise = (np.median(plane[~lost]) if not lost.all() else 1.0 for plane in (data, sigma))
    values = np.where(lost, level, data).astype(np.float32)
    return values, np.where(lost, noise, sigma).astype(np.float32) ** 2


def _stars_among(
    hits: NDArray[np.bool_], values: NDArray[np.float32], variance: NDArray[np.float32], fwhm_pixels: float
) -> NDArray[np.bool_]:
    """Return those of the hits that are a star around their brightest pixel."""
    labels, count = ndimage.label(hits, structure=_TOUCHING)
    if count == 0:
        return hits
    peaks = np.array(ndimage.maximum_position(values, labels, np.arange(1, count + 1)))
    radius = max(2, round(fwhm_pixels))
    stamps = _stamps(values, peaks, radius)
    stamps -= stamps.mean(axis=1, keepdims=True)
    total = (stamps**2).sum(axis=1)
    explained = np.maximum((stamps @ _unit_stars(radius, fwhm_pixels).T).max(axis=1), 0) ** 2
    noise = _stamps(variance, peaks, radius).sum(axis=1)
    is_star = total - explained < _UNLIKE_STAR * total + _NOISE_MARGIN * noise
    is_star &= explained > total / 2
    return np.asarray(np.concatenate([[False], is_star])[labels])


def _stamps(image: NDArray[np.float32], peaks: NDArray[np.int64], radius: int) -> NDArray[np.float64]:
    """Cut squares out around peaks (N, 2) of (y, x), as rows (N, pixels); beyond the edge the image is repeated."""
    offsets = np.arange(2 * radius + 1)
    padded = np.pad(image, radius, mode="edge")
    rows, columns = peaks[:, 0, None, None] + offsets[:, None], peaks[:, 1, None, None] + offsets
    return np.asarray(padded[rows, columns].reshape(len(peaks), -1), dtype=np.float64)


def _unit_stars(radius: int, fwhm_pixels: float) -> NDArray[np.float64]:
    """Return stars at all phases above their mean, as rows of length 1."""
    grid = np.arange(-radius, radius + 1.0)
    stars = np.array(
        [
            moffat((grid[:, None] - y) ** 2 + (grid - x) ** 2, fwhm=fwhm_pixels, beta=MATCHING_BETA).ravel()
            for y in _PHASES
            for x in _PHASES
        ]
    )
    stars -= stars.mean(axis=1, keepdims=True)
    return np.asarray(stars / np.linalg.norm(stars, axis=1, keepdims=True))
