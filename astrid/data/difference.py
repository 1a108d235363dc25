"""From a registered pair of frames to the channels that the network sees."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from astrid.config import DataError

from .psf import subtract_matched

_CLIP_SIGMA = 3.0
_CLIP_ROUNDS = 10
_WITHIN_ONE_SIGMA = 0.6826894921370859
_RMS_WITHIN_ONE_SIGMA = 0.5395600937548969


class Background(NamedTuple):
    """Level and rms of a frame's background, in the frame's unit."""

    level: float
    sigma: float


def background_sigma(image: NDArray[np.float32], valid: NDArray[np.bool_]) -> Background:
    """Measure the background's level and noise, robust against sources and artefacts.

    Level and sigma are the mean and the scaled rms of the middle 68 percent of the pixels, those that lie within one
    sigma in a normal distribution, after clipping at three sigma until nothing changes. Percentiles would be as robust,
    but digitised frames put them on a grid. One sort serves all rounds.

    Parameters
    ----------
    image : (H, W) float32
        Frame in any unit.
    valid : (H, W) bool
        True = good pixel; the others' values are never read.

    Raises
    ------
    DataError
        If no pixel is valid, a valid one is not finite, or the background has no noise to measure.
    """
    values = np.sort(image[valid])
    if values.size == 0 or not np.isfinite(values[-1]) or not np.isfinite(values[0]):
        raise DataError(f"image must have finite valid pixels, got {_describe(values)}; mark bad ones as not valid")
    for _ in range(_CLIP_ROUNDS):
        level, sigma = _level_and_sigma(values)
        first = np.searchsorted(values, level - _CLIP_SIGMA * sigma, side="left")
        last = np.searchsorted(values, level + _CLIP_SIGMA * sigma, side="right")
        if last - first == values.size:
            break
        values = values[first:last]
    if sigma <= 0:
        raise DataError(f"image must have background noise, got {level:g} in most pixels; mark blank ones as not valid")
    return Background(level, sigma)


def _describe(values: NDArray[np.float32]) -> str:
    return f"values from {values[0]} to {values[-1]}" if values.size else "none"


def _level_and_sigma(ordered: NDArray[np.float32]) -> tuple[float, float]:
    outside = round((1.0 - _WITHIN_ONE_SIGMA) / 2.0 * ordered.size)
    middle = ordered[outside : ordered.size - outside]
    level = float(middle.mean(dtype=np.float64))
    return level, float(middle.std(dtype=np.float64)) / _RMS_WITHIN_ONE_SIGMA


def matched_difference(
    science: NDArray[np.float32],
    reference: NDArray[np.float32],
    *,
    science_fwhm: float,
    reference_fwhm: float,
    valid: NDArray[np.bool_] | None = None,
) -> NDArray[np.float32]:
    """Subtract a reference from a science frame, the sharper of the two convolved to the seeing of the other.

    Parameters
    ----------
    science, reference : (H, W) float32
        Registered frames on one flux scale; each one's own background level is subtracted first.
    science_fwhm, reference_fwhm : float
        Full widths at half maximum of their PSFs in pixels.
    valid : (H, W) bool, optional
        True = good pixel in both frames; the others' values are never read. All by default.

    Returns
    -------
    (H, W) float32
        Difference in the unit of the frames, positive where the science frame is brighter; 0 where not valid.

    Raises
    ------
    DataError
        If a width is not positive, or as `background_sigma`.
    """
    for name, fwhm in (("science_fwhm", science_fwhm), ("reference_fwhm", reference_fwhm)):
        if not fwhm > 0:
            raise DataError(f"{name} must be positive, got {fwhm}; measure it on isolated stars")
    good = np.ones(science.shape, dtype=bool) if valid is None else valid
    return subtract_matched(
        _above(background_sigma(science, good).level, science, good),
        _above(background_sigma(reference, good).level, reference, good),
        valid=good,
        science_fwhm=science_fwhm,
        reference_fwhm=reference_fwhm,
    )


def _above(level: float, image: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Subtract the level where valid and return 0 elsewhere, before anything can be computed from a bad value."""
    return np.where(valid, image, np.float32(level)) - np.float32(level)


def in_sigma(image: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return a frame in units of its background sigma above its background level, 0 where not valid.

    Parameters
    ----------
    image : (H, W) float32
        Frame in any unit.
    valid : (H, W) bool
        True = good pixel; the others' values are never read.
    """
    level, sigma = background_sigma(image, valid)
    return _above(level, image, valid) / np.float32(sigma)


def channels_in_sigma(
    science: NDArray[np.float32],
    reference: NDArray[np.float32],
    *,
    difference: NDArray[np.float32],
    valid: NDArray[np.bool_],
) -> NDArray[np.float32]:
    """Stack science, reference and difference, each in units of its own background sigma.

    Parameters
    ----------
    science, reference, difference : (H, W) float32
        Frames in any unit.
    valid : (H, W) bool
        True = good pixel; the others' values are never read.

    Returns
    -------
    (3, H, W) float32
        Linear, in sigma above each channel's background; 0 where not valid.
    """
    return np.stack([in_sigma(image, valid) for image in (science, reference, difference)])
