"""Proper image subtraction: a difference with white noise, and the score image that detects best in it.

Reference for every equation number in this file: Zackay, Ofek and Gal-Yam 2016, ApJ 830, 27,
doi:10.3847/0004-637X/830/1/27. Both frames are on one flux scale, so F_n = F_r = 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from astrid.config import DataError

from ..difference import background_sigma
from .holes import fill_holes

_BRIGHT_SIGMA = 30.0
_QUIET = 1.1
"""A pixel is of the background where sources, holes and edges widen its score by less than this."""

Spectrum = NDArray[np.complexfloating]
Image = NDArray[np.float32]


class Epoch(NamedTuple):
    """One of the two frames.

    Attributes
    ----------
    image : (H, W) float32
        Registered, background subtracted, on the flux scale of the science frame.
    psf : (K, K) float
        Point-spread function with its centre in the middle pixel, K odd; its sum is taken as 1.
    sigma : float
        Noise of the background, rms per pixel, in the unit of the image.
    variance : (H, W) float32 or None
        Variance of each pixel, sources included; None where it is that of the background everywhere.
    """

    image: Image
    psf: NDArray[np.floating]
    sigma: float
    variance: Image | None = None

    def scaled(self, factor: float) -> Epoch:
        """Return the epoch on another flux scale, which is this one times `factor`."""
        variance = None if self.variance is None else self.variance * np.float32(factor**2)
        return Epoch(self.image * np.float32(factor), self.psf, self.sigma * factor, variance)


@dataclass(frozen=True)
class ProperDifference:
    """What proper subtraction gives.

    Attributes
    ----------
    difference : (H, W) float32
        D, whose noise is white with variance 1 where the background dominates; 0 where not valid.
    score : (H, W) float32
        S over its standard deviation in background noise: significance of a point source at each pixel.
    corrected_score : (H, W) float32
        S_corr: S over its standard deviation with source noise and misregistration.
    zero_point : float
        F_D: a source of flux 1 adds F_D times `psf` to D.
    psf : (K, K) float32
        P_D, the point-spread function of D, of the size of the larger of the two.
    flux_sigma : float
        Standard deviation of a point source's flux in background noise, in the unit of the frames.
    """

    difference: Image
    score: Image
    corrected_score: Image
    zero_point: float
    psf: Image
    flux_sigma: float


def subtract_properly(
    science: Epoch,
    reference: Epoch,
    *,
    valid: NDArray[np.bool_],
    registration_rms: tuple[float, float] = (0.0, 0.0),
) -> ProperDifference:
    """Subtract the reference from the science frame by the statistic that detects transients best.

    Parameters
    ----------
    science, reference : Epoch
        Frames of one shape.
    valid : (H, W) bool
        True = good pixel in both; the others are filled from their neighbours.
    registration_rms : (x, y)
        Error of the registration in pixels, rms along each axis. It is given to the reference, which was resampled,
        so that it doesn't weaken a source that is in the science frame alone.

    Raises
    ------
    DataError
        If a sigma is not positive, or a PSF is not square with odd edge and positive sum.
    """
    for name, epoch in (("science", science), ("reference", reference)):
        _check(name, epoch)
    (science, unknown_n), (reference, unknown_r) = _bridged(science, valid), _bridged(reference, valid)
    radius = max(science.psf.shape[0], reference.psf.shape[0]) // 2
    grid = _Grid.around(valid.shape, radius + 1)
    p_n, p_r = (grid.psf_spectrum(epoch.psf) for epoch in (science, reference))
    n, r = grid.spectrum(science.image), grid.spectrum(reference.image)
    weight = science.sigma**2 * np.abs(p_r) ** 2 + reference.sigma**2 * np.abs(p_n) ** 2
    zero_point = 1 / math.hypot(science.sigma, reference.sigma)  # eq. 15
    psf = p_r * p_n / (zero_point * np.sqrt(weight))  # eq. 14
    difference = grid.image((p_r * n - p_n * r) / np.sqrt(weight))  # eq. 13
    k_n = np.conj(p_n) * np.abs(p_r) ** 2 / weight  # eq. 29
    k_r = np.conj(p_r) * np.abs(p_n) ** 2 / weight  # eq. 28
    s_n, s_r = grid.image(k_n * n), grid.image(k_r * r)  # eqs. 31 and 33
    variance = grid.variance(k_n, science) + grid.variance(k_r, reference)  # eqs. 26 and 27
    variance += _misregistration_variance(s_r, registration_rms)
    for kernel, epoch, unknown in ((k_n, science, unknown_n), (k_r, reference, unknown_r)):
        variance += grid.spread(kernel, unknown, beyond=_bright_light(epoch)) ** 2
    flux_sigma = 1 / (zero_point * math.sqrt(grid.power(psf)))
    difference, score, corrected = (
        np.where(valid, plane, np.float32(0))
        for plane in (difference, (s_n - s_r) * np.float32(flux_sigma), (s_n - s_r) / np.sqrt(variance))  # eqs. 12, 25
    )
    return ProperDifference(difference, score, corrected, zero_point, grid.stamp(psf, radius), flux_sigma)


def measured_score(found: ProperDifference, *, valid: NDArray[np.bool_]) -> tuple[Image, float]:
    """Return S_corr in units of its measured scatter, and that scatter.

    The equations take noise to be white. That of a resampled reference is correlated, and its pixels alone tell too
    small a sigma: S_corr scatters by 1.04 to 1.2 then. It is measured where the background dominates, as there the
    correction for sources, holes and edges is the same everywhere.

    Raises
    ------
    DataError
        As `background_sigma`.
    """
    correction = np.divide(
        found.score, found.corrected_score, out=np.zeros_like(found.score), where=found.corrected_score != 0
    )
    quiet = valid & (correction < _QUIET * np.median(correction[valid]))
    scatter = background_sigma(found.corrected_score, quiet).sigma
    return found.corrected_score / np.float32(scatter), scatter


def fit_flux_ratio(science: Epoch, reference: Epoch, *, valid: NDArray[np.bool_]) -> float:
    """Return the factor that brings the reference to the flux scale of the science frame.

    Each frame is convolved with the other's PSF, after which a star looks the same in both: the median ratio of its
    pixels is the ratio of the fluxes, whatever share of the light an aperture would have missed.

    Raises
    ------
    DataError
        If no star stands out in both frames.
    """
    grid = _Grid.around(valid.shape, max(science.psf.shape[0], reference.psf.shape[0]) // 2 + 1)
    blurred = []
    for epoch, other in ((science, reference), (reference, science)):
        spectrum = grid.spectrum(np.where(valid, epoch.image, np.float32(0)))
        blurred.append(grid.image(spectrum * grid.psf_spectrum(other.psf)))
    bright = valid.copy()
    for image in blurred:
        bright &= image > _BRIGHT_SIGMA * background_sigma(image, valid).sigma
    if not bright.any():
        raise DataError(
            f"a star must stand out by {_BRIGHT_SIGMA:g} sigma in both frames to compare their fluxes, got none; give "
            "science flux over reference flux in the column reference_scale"
        )
    return float(np.median(blurred[0][bright] / blurred[1][bright]))


def _check(name: str, epoch: Epoch) -> None:
    if not epoch.sigma > 0:
        raise DataError(f"the noise of the {name} must be positive, got {epoch.sigma:g}; leave blank frames out")
    height, width = epoch.psf.shape
    if height != width or height % 2 == 0 or not epoch.psf.sum() > 0:
        raise DataError(
            f"the PSF of the {name} must be square with an odd edge and a positive sum, got {width}x{height} pixels "
            f"with the sum {epoch.psf.sum():g}; cut it out around its centre"
        )


def _bridged(epoch: Epoch, valid: NDArray[np.bool_]) -> tuple[Epoch, Image]:
    """Fill pixels that are not valid from their neighbours; return with that how wrong it may be, (H, W), 0 elsewhere.

    A hole of zeros in a saturated star would leave a bright ring in the difference, as the PSFs differ. What was there
    is unknown all the same; `fill_holes` says by how much.
    """
    background = np.full(valid.shape, np.float32(epoch.sigma**2))
    variance = background if epoch.variance is None else epoch.variance
    if valid.all():
        return epoch._replace(variance=variance), np.zeros(valid.shape, np.float32)
    filling = fill_holes(epoch.image, valid, psf=epoch.psf, sigma=epoch.sigma)
    bridged = epoch._replace(
        image=np.where(valid, epoch.image, filling.light), variance=np.where(valid, variance, background)
    )
    return bridged, filling.error


def _bright_light(epoch: Epoch) -> Image:
    """Return what stands out of the noise by far, 0 elsewhere."""
    return np.where(epoch.image > _BRIGHT_SIGMA * epoch.sigma, epoch.image, np.float32(0))


def _misregistration_variance(score: Image, rms: tuple[float, float]) -> Image:
    """Return the variance of a score of static sources when these are off by `rms` (x, y) pixels: eqs. 30 and 32."""
    along_y, along_x = np.gradient(score)
    return np.asarray((rms[0] * along_x) ** 2 + (rms[1] * along_y) ** 2, dtype=np.float32)


@dataclass(frozen=True)
class _Grid:
    """Frames of one shape, mirrored beyond their edges onto a grid that transforms fast."""

    shape: tuple[int, int]
    margin: int
    padded: tuple[int, int]

    @classmethod
    def around(cls, shape: tuple[int, int], margin: int) -> _Grid:
        height, width = (scipy.fft.next_fast_len(size + 2 * margin, real=True) for size in shape)
        return cls(shape, margin, (height, width))

    def spectrum(self, image: Image) -> Spectrum:
        return np.asarray(scipy.fft.rfft2(self.mirrored(image)))

    def mirrored(self, image: Image) -> Image:
        widths = [
            (self.margin, whole - size - self.margin) for size, whole in zip(self.shape, self.padded, strict=True)
        ]
        return np.pad(image, widths, mode="symmetric")

    def inner(self, whole: NDArray[np.floating]) -> NDArray[np.floating]:
        height, width = self.shape
        return whole[self.margin : self.margin + height, self.margin : self.margin + width]

    def image(self, spectrum: Spectrum) -> Image:
        return np.ascontiguousarray(self.inner(scipy.fft.irfft2(spectrum, s=self.padded)), dtype=np.float32)

    def psf_spectrum(self, psf: NDArray[np.floating]) -> Spectrum:
        half = psf.shape[0] // 2
        whole = np.zeros(self.padded, np.float32)
        whole[: psf.shape[0], : psf.shape[1]] = psf / psf.sum()
        return np.asarray(scipy.fft.rfft2(np.roll(whole, (-half, -half), axis=(0, 1))))

    def power(self, spectrum: Spectrum) -> float:
        """Return the sum over pixels of the square of what has this spectrum."""
        return float(np.sum(scipy.fft.irfft2(spectrum, s=self.padded).astype(np.float64) ** 2))

    def variance(self, kernel: Spectrum, epoch: Epoch) -> Image:
        """Return the variance of an epoch's image once it is convolved: its variance times the squared kernel."""
        assert epoch.variance is not None
        squared = scipy.fft.rfft2(scipy.fft.irfft2(kernel, s=self.padded) ** 2)
        smooth = self.image(squared * self.spectrum(epoch.variance))
        return np.maximum(smooth, np.finfo(np.float32).tiny)

    def spread(self, kernel: Spectrum, error: Image, *, beyond: Image) -> Image:
        """Return what errors of one sign, alike among neighbours, can do to an image once it is convolved.

        Parameters
        ----------
        error, beyond : (H, W) float32
            Largest error of each pixel, and of what is mirrored beyond the edges.
        """
        whole = self.mirrored(beyond)
        self.inner(whole)[:] = error
        if not whole.any():
            return np.zeros(self.shape, np.float32)
        size = scipy.fft.rfft2(np.abs(scipy.fft.irfft2(kernel, s=self.padded)))
        return self.image(size * scipy.fft.rfft2(whole))

    def stamp(self, spectrum: Spectrum, radius: int) -> Image:
        whole = np.roll(scipy.fft.irfft2(spectrum, s=self.padded), (radius, radius), axis=(0, 1))
        return np.ascontiguousarray(whole[: 2 * radius + 1, : 2 * radius + 1], dtype=np.float32)
