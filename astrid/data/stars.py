"""Measure what stars tell about a frame: how wide its point sources are, and how deep it is."""

from __future__ import annotations

import warnings

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray
from photutils.aperture import CircularAperture, aperture_photometry
from photutils.detection import DAOStarFinder
from photutils.psf import MoffatPSF, PSFPhotometry

from astrid.config import DataError

from .difference import background_sigma
from .psf import MATCHING_BETA, moffat_alpha

FEWEST_STARS = 3
"""Stars that a measurement needs: the median of three survives one that isn't a star."""

_DETECTION_SIGMA = 10.0
_BRIGHTEST = 40
_SEARCH_FWHM = 3.0  # of the detection filter, which is forgiving: pixels
_STAMP = 11  # edge of the square in which a star's profile is fitted: pixels
_EXPONENTS = (1.2, 20.0)
"""Bounds of a Moffat's exponent: the lower is all wings, the upper is all but a Gaussian."""
_APERTURE_FWHM = 1.5  # radius


def find_stars(image: NDArray[np.float32], valid: NDArray[np.bool_], *, sigma: float) -> NDArray[np.float64]:
    """Return the (x, y) of the brightest point-like sources, (N, 2) float64, by falling brightness.

    Parameters
    ----------
    image : (H, W) float32
        Background-subtracted frame.
    valid : (H, W) bool
        True = good pixel; the others' values are never read.
    sigma : float
        Noise of the background, in the unit of the frame.
    """
    finder = DAOStarFinder(threshold=_DETECTION_SIGMA * sigma, fwhm=_SEARCH_FWHM, n_brightest=_BRIGHTEST)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that none were found is told by the result
        stars = finder(np.where(valid, image, np.float32(0)), mask=~valid)
    if stars is None:
        return np.zeros((0, 2))
    return np.column_stack([stars["x_centroid"], stars["y_centroid"]]).astype(np.float64)


def measure_fwhm(image: NDArray[np.float32], valid: NDArray[np.bool_], *, stars: NDArray[np.float64]) -> float:
    """Return the full width at half maximum of point sources in pixels: the median of Moffats fitted to stars.

    Real stars have wings: a Gaussian fitted to one is up to a tenth wider at half maximum, and a difference that is
    matched with such widths keeps rings of a tenth of the star's peak.

    Parameters are those of `find_stars`, and the positions that it returns.

    Raises
    ------
    DataError
        If fewer than three stars can be fitted.
    """
    widths = _fit_widths(image, valid, stars) if len(stars) else np.zeros(0)
    good = widths[np.isfinite(widths) & (widths > 0.5) & (widths < 2 * _STAMP)]
    if good.size < FEWEST_STARS:
        raise DataError(
            f"at least {FEWEST_STARS} stars must be bright enough to measure the seeing, got {good.size}; "
            "give it in pixels in the columns fwhm and reference_fwhm"
        )
    return float(np.median(good))


def _fit_widths(
    image: NDArray[np.float32], valid: NDArray[np.bool_], stars: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Fit a Moffat to each star and return their widths in pixels, (N,); NaN where a fit fails."""
    blanked = np.where(valid, image, np.float32(0))
    padded = np.pad(blanked, _STAMP // 2)
    x, y = np.rint(stars).astype(int).T
    begin = Table({"x": stars[:, 0], "y": stars[:, 1]})
    begin["flux"] = [
        padded[row : row + _STAMP, column : column + _STAMP].sum() for row, column in zip(y, x, strict=True)
    ]
    model = MoffatPSF(alpha=moffat_alpha(_SEARCH_FWHM, MATCHING_BETA), beta=MATCHING_BETA)
    model.alpha.fixed = model.beta.fixed = False
    model.beta.bounds = _EXPONENTS
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a fit that fails gives a width that the median ignores, or NaN
        fitted = PSFPhotometry(model, (_STAMP, _STAMP))(blanked, mask=~valid, init_params=begin)
    alpha, beta = (np.asarray(fitted[name], dtype=np.float64) for name in ("alpha_fit", "beta_fit"))
    return 2 * np.abs(alpha) * np.sqrt(2 ** (1 / beta) - 1)


def typical_fwhm(image: NDArray[np.float32], valid: NDArray[np.bool_], *, sigma: float | None = None) -> float:
    """Find the stars of a frame and return their width, as `measure_fwhm` does.

    Parameters are those of `find_stars`; sigma is measured where it isn't given.
    """
    noise = background_sigma(image, valid).sigma if sigma is None else sigma
    return measure_fwhm(image, valid, stars=find_stars(image, valid, sigma=noise))


def measure_flux_ratio(
    science: NDArray[np.float32],
    reference: NDArray[np.float32],
    valid: NDArray[np.bool_],
    *,
    stars: NDArray[np.float64],
    science_fwhm: float,
    reference_fwhm: float,
) -> float:
    """Return the factor that brings the reference to the flux scale of the science frame.

    It is the median over stars of the ratio of their aperture fluxes, each aperture in proportion to its frame's
    seeing so that both hold the same share of the light. A few variable stars don't move the median.

    Parameters
    ----------
    science, reference : (H, W) float32
        Registered, background-subtracted frames.
    valid : (H, W) bool
        True = good pixel in both.
    stars : (N, 2) float64
        Positions (x, y) of stars.
    science_fwhm, reference_fwhm : float
        Pixels.

    Raises
    ------
    DataError
        If fewer than three stars can be measured in both frames.
    """
    fluxes = [
        _aperture_fluxes(image, valid, stars, _APERTURE_FWHM * fwhm)
        for image, fwhm in ((science, science_fwhm), (reference, reference_fwhm))
    ]
    good = (fluxes[0] > 0) & (fluxes[1] > 0)  # False where a pixel of an aperture is bad, whose flux is NaN
    if good.sum() < FEWEST_STARS:
        raise DataError(
            f"at least {FEWEST_STARS} stars must be clean in both frames to compare their fluxes, got {good.sum()}; "
            "give science flux over reference flux in the column reference_scale"
        )
    return float(np.median(fluxes[0][good] / fluxes[1][good]))


def _aperture_fluxes(
    image: NDArray[np.float32], valid: NDArray[np.bool_], stars: NDArray[np.float64], radius: float
) -> NDArray[np.float64]:
    if len(stars) == 0:
        return np.zeros(0)
    apertures = CircularAperture(stars, r=radius)
    fluxes = aperture_photometry(np.where(valid, image, np.float32(0)).astype(np.float64), apertures)["aperture_sum"]
    bad = aperture_photometry((~valid).astype(np.float64), apertures)["aperture_sum"]
    return np.where(np.asarray(bad) > 0, np.nan, np.asarray(fluxes))
