"""The PSF of a real frame: the image that comes with it, or the effective PSF of its own stars."""

from __future__ import annotations

import warnings

import numpy as np
from astropy.nddata import NDData
from astropy.table import Table
from numpy.typing import NDArray
from photutils.psf import EPSFBuilder, extract_stars, fit_fwhm

from astrid.config import DataError

from ..difference import background_sigma
from ..psf_image import PsfImage, as_psf
from ..reduction.align import measure_stars

_LEAST_SNR = 30.0
"""Peak of a star that may take part, in background sigma."""
_WIDTH_SPREAD = 0.2
"""Share by which a star may be wider or narrower than the median: galaxies and cosmic rays are."""
_RADIUS_FWHM = 2.5
_NEIGHBOUR_PEAK = 0.25
"""Highest pixel in the outer half of a star's stamp, in units of its own peak; a Moffat has at most 0.15 there."""
_OVERSAMPLING = 1
"""Finer grids were noisier: with 6 to 30 simulated stars of 2.2 to 4.5 pixels FWHM the largest error was 5 % of the
peak without oversampling and 10 to 20 % with it. Stars narrower than two pixels would need it."""


def measure_epsf(
    image: NDArray[np.float32], valid: NDArray[np.bool_], *, fwhm_pixels: float, least_stars: int
) -> PsfImage:
    """Build the effective PSF of a frame from its bright, clean, lonely stars.

    Parameters
    ----------
    image : (H, W) float32
        Frame above its sky.
    valid : (H, W) bool
        True = good pixel; a star with a bad one in its stamp takes no part.
    fwhm_pixels : float
        Width of its stars.
    least_stars : int

    Raises
    ------
    DataError
        If fewer stars than that can be used, or what they give is no PSF.

    References
    ----------
    Anderson and King 2000, PASP 112, 1360, doi:10.1086/316632; Bradley et al., photutils, doi:10.5281/zenodo.596036
    """
    radius = max(5, round(_RADIUS_FWHM * fwhm_pixels))
    places = psf_stars(image, valid, fwhm_pixels=fwhm_pixels, radius=radius)
    if len(places) < least_stars:
        raise DataError(
            f"at least {least_stars} bright, clean, lonely stars must show the PSF, got {len(places)}; name one in the "
            "manifest's column psf, lower data.least_stars, or say data.without_psf=skip"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of stars that it leaves out
        table = Table({"x": places[:, 0], "y": places[:, 1]})
        stars = extract_stars(NDData(image.astype(np.float64)), table, size=2 * radius + 1)
        builder = EPSFBuilder(oversampling=_OVERSAMPLING, smoothing_kernel=None, progress_bar=False)
        return as_psf(builder(stars).epsf.data, oversampling=_OVERSAMPLING)


def psf_stars(
    image: NDArray[np.float32], valid: NDArray[np.bool_], *, fwhm_pixels: float, radius: int
) -> NDArray[np.float64]:
    """Return the (x, y) of stars fit to show the PSF, (N, 2) float64."""
    stars = measure_stars(image, valid, fwhm_pixels=fwhm_pixels)
    sigma = background_sigma(image, valid).sigma
    stars = np.array([star for star in stars if _is_clean(image, valid, star, radius=radius, sigma=sigma)])
    if len(stars) == 0:
        return np.zeros((0, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a fit that fails gives a width that is refused, or NaN
        edge = 2 * round(fwhm_pixels) + 3
        widths = np.atleast_1d(fit_fwhm(image, xypos=stars, fwhm=fwhm_pixels, fit_shape=edge))
    return np.asarray(stars[np.abs(widths / np.nanmedian(widths) - 1) < _WIDTH_SPREAD])


def _is_clean(
    image: NDArray[np.float32], valid: NDArray[np.bool_], star: NDArray[np.float64], *, radius: int, sigma: float
) -> bool:
    """Tell whether a star is bright, wholly in the frame, free of bad pixels and without a bright neighbour."""
    x, y = np.rint(star).astype(int)
    if min(x, y) < radius or y + radius >= image.shape[0] or x + radius >= image.shape[1]:
        return False
    part = slice(y - radius, y + radius + 1), slice(x - radius, x + radius + 1)
    if not valid[part].all() or image[y, x] < _LEAST_SNR * sigma:
        return False
    distance = np.hypot(*np.mgrid[-radius : radius + 1, -radius : radius + 1])
    return bool(image[part][distance > radius / 2].max() < _NEIGHBOUR_PEAK * image[y, x])
