"""The point-spread function of a frame, as its stars show it: their average, and a smooth model of that.

The model is what proper subtraction takes: the noise of an average of few stars scrambles the phases of a difference.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from astropy.stats import sigma_clip
from numpy.typing import NDArray
from scipy import ndimage
from scipy.optimize import least_squares

from astrid.config import DataError

from ..difference import background_sigma
from ..psf import MATCHING_BETA, moffat_alpha
from .align import measure_stars

FEWEST_STARS = 3
_LONELY_FLUX = 0.3
"""Light that a stamp may hold beyond its inner half, in units of the inner half's, before it counts as crowded."""


_STACK_FWHM = 2.5
_MODEL_FWHM = 8.0
"""Half edges of the stack and of the model, in FWHM."""
_LEAST_SNR = 30.0
"""Peak of a star that may take part, in background sigma."""


def measure_psf(
    image: NDArray[np.float32], valid: NDArray[np.bool_], *, fwhm_pixels: float, sigma: float | None = None
) -> NDArray[np.float64]:
    """Fit an elliptical Moffat to the average of a frame's stars.

    Parameters
    ----------
    image : (H, W) float32
        Background-subtracted frame.
    valid : (H, W) bool
        True = good pixel.
    fwhm_pixels : float
        Rough width of the stars, for where to begin and how far to look.
    sigma : float, optional
        Noise of the background, in the unit of the frame; measured by default.

    Returns
    -------
    (K, K) float64
        The model, centred, with sum 1; K is odd and some 16 times the FWHM.

    Raises
    ------
    DataError
        If fewer than three stars can be used.
    """
    stars = measure_stars(image, valid, fwhm_pixels=fwhm_pixels)
    x, y = np.rint(stars).astype(int).T
    noise = background_sigma(image, valid).sigma if sigma is None else sigma
    stars = stars[image[y, x] > _LEAST_SNR * noise]
    stack = stack_stars(image, valid, stars=stars, radius=max(6, round(_STACK_FWHM * fwhm_pixels)))
    return fit_moffat(stack, fwhm_pixels=fwhm_pixels).profile(round(_MODEL_FWHM * fwhm_pixels))


@dataclass(frozen=True)
class MoffatShape:
    """An elliptical Moffat: inverse core widths along x and y, their mixed term, and the exponent."""

    along_x: float
    along_y: float
    mixed: float
    beta: float

    @property
    def widths(self) -> tuple[float, float]:
        """Full widths at half maximum along the major and the minor axis, in pixels."""
        corner = self.mixed * self.along_x * self.along_y / 2
        slopes = np.linalg.eigvalsh([[self.along_x**2, corner], [corner, self.along_y**2]])
        narrow, wide = 2 * np.sqrt((2 ** (1 / self.beta) - 1) / np.maximum(slopes[::-1], 1e-9))
        return float(wide), float(narrow)

    def profile(self, radius: int) -> NDArray[np.float64]:
        """Return its light on (2 radius + 1, 2 radius + 1) pixels, centred, with sum 1."""
        return _elliptical_moffat(radius, self.along_x, self.along_y, self.mixed, self.beta)


def fit_moffat(stack: NDArray[np.float64], *, fwhm_pixels: float) -> MoffatShape:
    """Return the elliptical Moffat that fits a stack (odd edge, sum 1) best, from a rough width in pixels."""
    half = stack.shape[0] // 2
    slope = 1 / moffat_alpha(fwhm_pixels, MATCHING_BETA)

    def misfit(parameters: NDArray[np.float64]) -> NDArray[np.float64]:
        *shape, flux = parameters
        return np.asarray((flux * _elliptical_moffat(half, *shape) - stack).ravel() / stack.max())

    fit = least_squares(misfit, [slope, slope, 0.0, MATCHING_BETA, 1.0], bounds=_BOUNDS).x
    return MoffatShape(*(float(number) for number in fit[:-1]))


_BOUNDS = ([1e-3, 1e-3, -5.0, 1.2, 0.1], [5.0, 5.0, 5.0, 20.0, 10.0])
"""Of inverse core widths along x and y, their mixed term, the exponent, and the flux."""


def _elliptical_moffat(half: int, along_x: float, along_y: float, mixed: float, beta: float) -> NDArray[np.float64]:
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    squared = (along_x * x) ** 2 + (along_y * y) ** 2 + mixed * x * y * along_x * along_y
    light = (1 + np.maximum(squared, 0)) ** -beta
    return np.asarray(light / light.sum())


def stack_stars(
    image: NDArray[np.float32], valid: NDArray[np.bool_], *, stars: NDArray[np.float64], radius: int
) -> NDArray[np.float64]:
    """Average stars, each shifted to the middle of a pixel and divided by its flux.

    Values that lie far from those of the other stars are clipped, as neighbours are in the stamps of few. Stamps that
    aren't clean or not lonely are left out. The edge fades to 0 so that its step leaves no waves.

    Parameters
    ----------
    image : (H, W) float32
        Background-subtracted frame.
    valid : (H, W) bool
        True = good pixel.
    stars : (N, 2) float
        Places (x, y) to a small part of a pixel.
    radius : int
        Half the edge of the stamp in pixels; some three times the FWHM.

    Returns
    -------
    (2 radius + 1, 2 radius + 1) float64
        With sum 1.

    Raises
    ------
    DataError
        If fewer than three stars can be used.
    """
    stamps = [stamp for star in stars if (stamp := _stamp(image, valid, star, radius)) is not None]
    if len(stamps) < FEWEST_STARS:
        raise DataError(
            f"at least {FEWEST_STARS} lonely, clean stars must be in view to measure the PSF, got {len(stamps)}; "
            "subtract with data.preprocess.difference=matched"
        )
    clipped = sigma_clip(np.array(stamps), sigma=3, axis=0, cenfunc="median", stdfunc="mad_std", masked=True)
    psf = np.ma.filled(clipped.mean(axis=0), 0.0) * _fading(radius)
    return np.asarray(psf / psf.sum())


def _stamp(
    image: NDArray[np.float32], valid: NDArray[np.bool_], star: NDArray[np.float64], radius: int
) -> NDArray[np.float64] | None:
    """Cut out a star, centred and of flux 1, or None where something is wrong with it."""
    x, y = np.rint(star).astype(int)
    reach = radius + 2
    if min(x, y) < reach or y + reach >= image.shape[0] or x + reach >= image.shape[1]:
        return None
    part = (slice(y - reach, y + reach + 1), slice(x - reach, x + reach + 1))
    if not valid[part].all():
        return None
    centred = ndimage.shift(image[part].astype(np.float64), (y - star[1], x - star[0]), order=3, mode="nearest")
    stamp = centred[2:-2, 2:-2]
    distance = np.hypot(*np.mgrid[-radius : radius + 1, -radius : radius + 1])
    stamp = stamp - np.median(stamp[distance > radius - 1])
    inner = stamp[distance <= radius / 2].sum()
    outer = np.abs(stamp[(distance > radius / 2) & (distance <= radius)]).sum()
    return stamp / stamp[distance <= radius].sum() if 0 < outer < _LONELY_FLUX * inner else None


def _fading(radius: int) -> NDArray[np.float64]:
    """Return 1 in the inner part of a stamp, falling to 0 at its radius along a cosine."""
    distance = np.hypot(*np.mgrid[-radius : radius + 1, -radius : radius + 1])
    share = np.clip((radius - distance) / (0.3 * radius), 0, 1)
    return np.asarray(0.5 - 0.5 * np.cos(np.pi * share))
