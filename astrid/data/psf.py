"""The Moffat point-spread function: its light on pixels, its transform, and the step from one seeing to another."""

from __future__ import annotations

import math

import numpy as np
import scipy.fft
from numpy.typing import NDArray

MATCHING_BETA = 3.5
"""Moffat exponent assumed when frames are matched: the middle of what is observed, and its transform is elementary."""
_PADDING_FWHM = 4.0
_POINT_SOURCE_FWHM = 3.0
"""Radius to which a point source is cut out."""


def moffat_alpha(fwhm: float, beta: float) -> float:
    """Return the Moffat core width in pixels for a full width at half maximum in pixels."""
    return fwhm / (2.0 * math.sqrt(2.0 ** (1.0 / beta) - 1.0))


def moffat(radius_squared: NDArray[np.float64], *, fwhm: float, beta: float) -> NDArray[np.float64]:
    """Evaluate the Moffat PSF, the share of a point source's light per pixel.

    The response of the pixel counts as part of the PSF, so the value at a pixel's centre is the pixel's share.

    Parameters
    ----------
    radius_squared : float64, any shape
        Squared distance from the source in pixels.
    fwhm : float
        Full width at half maximum in pixels.
    beta : float
        Exponent, above 1.

    References
    ----------
    Moffat 1969, A&A 3, 455.
    """
    alpha_squared = moffat_alpha(fwhm, beta) ** 2
    peak = (beta - 1.0) / (math.pi * alpha_squared)
    return peak * (1.0 + radius_squared / alpha_squared) ** -beta


def psf_stamp(
    shape: tuple[int, int],
    *,
    x: float,
    y: float,
    radius: float,
    fwhm: float,
    beta: float,
    axis_ratio: float = 1.0,
    angle: float = 0.0,
) -> tuple[tuple[slice, slice], NDArray[np.float64]]:
    """Cut the PSF of a source at (x, y) out to `radius` pixels, clipped at the frame's edges.

    Parameters
    ----------
    axis_ratio : float
        Of minor to major axis; the width stays the geometric mean of both.
    angle : float
        From the x axis to the major one, in radians.

    Returns
    -------
    where : two slices
        Rows and columns of the stamp in a frame of this shape; empty for a source far outside.
    light : float64
        Share of the source's light per pixel of the stamp.
    """
    rows = _span(y, radius, shape[0])
    columns = _span(x, radius, shape[1])
    dy = np.arange(rows.start, rows.stop) - y
    dx = np.arange(columns.start, columns.stop) - x
    along = dx[None, :] * math.cos(angle) + dy[:, None] * math.sin(angle)
    across = dy[:, None] * math.cos(angle) - dx[None, :] * math.sin(angle)
    return (rows, columns), moffat(along**2 * axis_ratio + across**2 / axis_ratio, fwhm=fwhm, beta=beta)


def point_source(fwhm_pixels: float) -> NDArray[np.float64]:
    """Return the PSF that frames are matched with, on a square of odd size, (K, K) float64: share of light by pixel."""
    radius = math.ceil(_POINT_SOURCE_FWHM * fwhm_pixels)
    size = 2 * radius + 1
    shape = {"x": radius, "y": radius, "radius": radius, "fwhm": fwhm_pixels, "beta": MATCHING_BETA}
    return psf_stamp((size, size), **shape)[1]


def _span(centre: float, radius: float, size: int) -> slice:
    start = min(max(math.ceil(centre - radius), 0), size)
    return slice(start, min(max(math.floor(centre + radius) + 1, start), size))


def subtract_matched(
    science: NDArray[np.float32],
    reference: NDArray[np.float32],
    *,
    valid: NDArray[np.bool_],
    science_fwhm: float,
    reference_fwhm: float,
) -> NDArray[np.float32]:
    """Subtract the reference from the science frame after convolving the sharper one to the seeing of the other.

    Parameters
    ----------
    science, reference : (H, W) float32
        Frames on one flux scale, background subtracted.
    valid : (H, W) bool
        True = good pixel in both frames; the others' values are never read.
    science_fwhm, reference_fwhm : float
        Full widths at half maximum of their PSFs in pixels.

    Returns
    -------
    (H, W) float32
        Difference in the units of the frames; 0 where not valid.
    """
    if reference_fwhm < science_fwhm:
        reference = match_seeing(reference, valid=valid, sharp_fwhm=reference_fwhm, wide_fwhm=science_fwhm)
    elif science_fwhm < reference_fwhm:
        science = match_seeing(science, valid=valid, sharp_fwhm=science_fwhm, wide_fwhm=reference_fwhm)
    return np.where(valid, science - reference, np.float32(0.0))


def match_seeing(
    image: NDArray[np.float32], *, valid: NDArray[np.bool_], sharp_fwhm: float, wide_fwhm: float
) -> NDArray[np.float32]:
    """Convolve a frame so that its PSF widens from one Moffat to another; total flux stays.

    The kernel's transform is the ratio of the two Moffat transforms. Both have the same exponent, so the ratio lies in
    (0, 1] at all frequencies and no noise is amplified: the division needs no regularisation. Pixels that are not
    valid take no part: the kernel's weights on the others are scaled to sum to one. Beyond its edges the frame is
    mirrored.

    Parameters
    ----------
    image : (H, W) float32
        Frame, background subtracted.
    valid : (H, W) bool
        True = good pixel.
    sharp_fwhm, wide_fwhm : float
        Full width at half maximum in pixels before and after.

    Returns
    -------
    (H, W) float32
        The wider frame; 0 where not valid.
    """
    fwhms = {"sharp_fwhm": sharp_fwhm, "wide_fwhm": wide_fwhm}
    if valid.all():
        return _widen(image, **fwhms)
    wide = _widen(np.where(valid, image, np.float32(0.0)), **fwhms)
    weight = _widen(valid.astype(np.float32), **fwhms)
    return np.divide(wide, weight, out=np.zeros_like(wide), where=valid)


def _widen(image: NDArray[np.float32], *, sharp_fwhm: float, wide_fwhm: float) -> NDArray[np.float32]:
    margin = math.ceil(_PADDING_FWHM * wide_fwhm)
    height, width = image.shape
    padded = [(margin, scipy.fft.next_fast_len(size + 2 * margin, real=True) - size - margin) for size in image.shape]
    spectrum = scipy.fft.rfft2(np.pad(image, padded, mode="symmetric"))
    shape = (height + sum(padded[0]), width + sum(padded[1]))
    spectrum *= _matching_transform(shape, sharp_fwhm=sharp_fwhm, wide_fwhm=wide_fwhm)
    wide = scipy.fft.irfft2(spectrum, s=shape)
    return np.ascontiguousarray(wide[margin : margin + height, margin : margin + width])


def _matching_transform(shape: tuple[int, int], *, sharp_fwhm: float, wide_fwhm: float) -> NDArray[np.float32]:
    """Return the ratio of two Moffat transforms on the frequencies of `rfft2`.

    For beta = 7/2 the Moffat transform k**(beta - 1) K_(beta - 1)(k alpha) is (1 + z + z²/3) exp(-z) with z = k alpha.

    References
    ----------
    Trujillo et al. 2001, MNRAS 328, 977, doi:10.1046/j.1365-8711.2001.04937.x (the transform of a Moffat).
    """
    rows = scipy.fft.fftfreq(shape[0]).astype(np.float32)
    columns = scipy.fft.rfftfreq(shape[1]).astype(np.float32)
    wavenumber = 2.0 * np.pi * np.sqrt(rows[:, None] ** 2 + columns[None, :] ** 2)
    sharp = wavenumber * moffat_alpha(sharp_fwhm, MATCHING_BETA)
    wide = wavenumber * moffat_alpha(wide_fwhm, MATCHING_BETA)
    polynomials = (1.0 + wide + wide**2 / 3.0) / (1.0 + sharp + sharp**2 / 3.0)
    return np.asarray(polynomials * np.exp(sharp - wide), dtype=np.float32)
