"""Steps that undo the detector. Each takes a CCDData and returns another, with its uncertainty and mask carried on.

Masks are True = bad, uncertainties standard deviations in the unit of the data.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from astropy import units
from astropy.nddata import CCDData, StdDevUncertainty
from ccdproc import flat_correct, gain_correct, subtract_bias, subtract_dark, subtract_overscan
from numpy.typing import NDArray
from scipy import ndimage

from astrid.config import DataError

from ..frames import LARGEST_VALUE
from ..rows import Section


@dataclass(frozen=True)
class Readout:
    """What turns counts into electrons and their noise.

    Attributes
    ----------
    gain : float
        Electrons per ADU.
    read_noise : float
        Electrons.
    """

    gain: float
    read_noise: float

    def __str__(self) -> str:
        return f"gain {self.gain:g}, read noise {self.read_noise:g} electrons"


_SKY_WINDOW, _WINDOWS = 5, (3, 1)
"""Edges in pixels of the squares whose mean is the expected light, from the widest to the pixel itself."""
_STANDS_OUT = 3.0
"""Sigma from which the mean of a smaller square is believed over that of the wider one."""
_LOWEST_SHARE = -0.25
"""Expected electrons may fall so far below 0, in units of the variance of readout: cut off at 0, what noise alone makes
of a sky without light would overstate the noise."""
DEADEST_RESPONSE = 0.1
"""Flat below which a pixel counts as dead, in units of the detector's mean response."""


def as_exposure(values: NDArray[np.floating], *, mask: NDArray[np.bool_] | None = None) -> CCDData:
    """Take (H, W) counts as they were digitised as an exposure in ADU; what is not finite or too large is masked.

    It becomes NaN, as a gain would multiply it beyond the range of single precision.
    """
    bad = ~(np.abs(values) < LARGEST_VALUE)
    counts = np.where(bad, np.nan, values).astype(np.float32)
    return CCDData(counts, mask=bad if mask is None else bad | mask, unit=units.adu)


def flag_saturated(exposure: CCDData, *, level: float) -> CCDData:
    """Mask pixels at or above the saturation level, in the unit of the exposure; before anything is subtracted."""
    return _masked(exposure, exposure.data >= level)


def flag_bad(exposure: CCDData, bad: NDArray[np.bool_]) -> CCDData:
    """Mask pixels that are known to be bad.

    Raises
    ------
    DataError
        If the map has another shape than the exposure.
    """
    _check_shape("bad_pixels", bad.shape, exposure.shape)
    return _masked(exposure, bad)


def remove_overscan(
    exposure: CCDData,
    *,
    section: Section,
    readout: Readout | None = None,
    reasons: Mapping[str, NDArray[np.bool_]] | None = None,
) -> CCDData:
    """Subtract the median of the overscan, row by row, or column by column where the strip is wider than high.

    Parameters
    ----------
    exposure : CCDData
        Not yet trimmed.
    section : Section
        The overscan strip, in FITS convention.
    readout : Readout or None
        With it the noise of the level, which all pixels of a line share, becomes the uncertainty.
    reasons : mapping of str to bool array, optional
        What masks pixels of the strip, and the remedy, to be told where a line of it has none left.

    Raises
    ------
    DataError
        If the section doesn't lie in the exposure, or has no good pixel.
    """
    axis, strip = overscan_axis(section, exposure.shape), exposure[section.slices]
    empty = strip.mask.all(axis=axis, keepdims=True)
    if empty.any():
        taken = {why: int((mask & empty).sum()) for why, mask in (reasons or {}).items()}
        why = max(taken, key=taken.__getitem__, default="")
        raise DataError(
            f"overscan {section} must have good pixels in every line, got none in {empty.sum()} of {empty.size}"
            + (f": most are {why}" if why else "; give another strip")
        )
    level = CCDData(np.nanmedian(_blanked(strip), axis=axis, keepdims=True), unit=strip.unit)
    levelled = subtract_overscan(exposure, overscan=level, overscan_axis=axis, median=True)
    return levelled if readout is None else with_added_sigma(levelled, overscan_error(section, readout))


def overscan_axis(section: Section, shape: tuple[int, int]) -> int:
    """Return the axis along which an overscan strip is averaged: its shorter one.

    Raises
    ------
    DataError
        If it doesn't run along a whole edge of an exposure of this (height, width).
    """
    check_inside("overscan", section, shape)
    axis = 1 if section.shape[0] >= section.shape[1] else 0
    if shape[1 - axis] != section.shape[1 - axis]:
        raise DataError(
            f"overscan must run along a whole edge of the exposure of {shape[1]}x{shape[0]} pixels, got {section}; "
            "widen it"
        )
    return axis


def overscan_error(section: Section, readout: Readout) -> float:
    """Return the standard deviation of the level of an overscan strip, in ADU: that of the median of its width.

    It is pi / 2 times the variance of the mean where the median is of many pixels, and less where it is of few.

    References
    ----------
    Hodges and Lehmann 1967, J. Am. Stat. Assoc. 62, 926, doi:10.1080/01621459.1967.10500904
    """
    pixels = min(section.shape) | 1  # an even number is as good as the next odd one
    variance = math.pi / 2 / (pixels + math.pi / 2 - 1)
    return math.sqrt(variance) * readout.read_noise / readout.gain


def trim(exposure: CCDData, *, section: Section) -> CCDData:
    """Cut out the part of the detector that sees the sky."""
    check_inside("trim", section, exposure.shape)
    return exposure[section.slices]


def remove_pedestal(exposure: CCDData, *, level: float) -> CCDData:
    """Subtract the counts of no light, in the unit of the exposure."""
    lowered: CCDData = exposure.copy()
    lowered.data = exposure.data - np.float32(level)
    return lowered


def remove_bias(exposure: CCDData, master: CCDData, *, error_share: float = 1.0) -> CCDData:
    """Subtract a master bias, in the unit of the exposure.

    Parameters
    ----------
    exposure, master : CCDData
    error_share : float
        Part of the bias's error that the exposure is left with; a dark that is subtracted later takes the rest of it
        away, as the same bias is in it.
    """
    _check_shape("bias", master.shape, exposure.shape)
    if master.uncertainty is not None:
        sigma = StdDevUncertainty(master.uncertainty.array * np.float32(error_share))
        master = CCDData(master.data, mask=master.mask, unit=master.unit, uncertainty=sigma)
    return subtract_bias(exposure, master)


def add_noise(exposure: CCDData, readout: Readout, *, expected: NDArray[np.floating] | None = None) -> CCDData:
    """Add the noise of photons and of readout to the uncertainty.

    After the bias, whose counts are no photons, and before the dark current, whose counts scatter like photons.

    Parameters
    ----------
    exposure : CCDData
        In ADU; what it has as uncertainty, such as that of the bias, is kept and added in squares.
    readout : Readout
    expected : (H, W) float, optional
        Counts whose photons make the noise; by default `expected_counts` of the exposure.
    """
    counts = expected_counts(exposure, readout) if expected is None else expected
    lowest = _LOWEST_SHARE * readout.read_noise**2
    electrons = np.maximum(readout.gain * np.nan_to_num(counts), lowest)
    return with_added_sigma(exposure, np.sqrt(electrons + readout.read_noise**2) / readout.gain)


def expected_counts(exposure: CCDData, readout: Readout) -> NDArray[np.float32]:
    """Return the counts to be expected of each pixel of an exposure, (H, W), ADU.

    The counts of a pixel alone are a poor guess where its noise is not far below them: a pixel that came out low would
    be given too little of it. So the guess is the mean of 5 by 5 pixels, that of 3 by 3 where this stands out of it,
    and that of the pixel alone where that does. Where a faint star hardly stands out its noise is stated too low, by
    less than a tenth.
    """
    good = np.isfinite(exposure.data) if exposure.mask is None else np.isfinite(exposure.data) & ~exposure.mask
    expected = _local_mean(exposure.data, good, _SKY_WINDOW)
    for edge in _WINDOWS:
        nearer = exposure.data if edge == 1 else _local_mean(exposure.data, good, edge)
        variance = (readout.gain * np.maximum(expected, 0) + readout.read_noise**2) / readout.gain**2
        stands_out = np.abs(nearer - expected) * edge > _STANDS_OUT * np.sqrt(variance)
        expected = np.where(stands_out, nearer, expected)
    return np.asarray(expected, dtype=np.float32)


def _local_mean(values: NDArray[np.floating], good: NDArray[np.bool_], edge: int) -> NDArray[np.floating]:
    """Return the mean of the good pixels of a square around each, 0 where there is none."""
    share = ndimage.uniform_filter(good.astype(np.float32), edge, mode="constant")
    total = ndimage.uniform_filter(np.where(good, values, 0).astype(np.float32), edge, mode="constant")
    return np.asarray(total / np.maximum(share, 0.5 / edge**2))


def with_added_sigma(exposure: CCDData, sigma: NDArray[np.floating] | float) -> CCDData:
    """Add an independent standard deviation to the uncertainty, in squares."""
    before = np.zeros(exposure.shape, np.float32) if exposure.uncertainty is None else exposure.uncertainty.array
    noisy: CCDData = exposure.copy()
    noisy.uncertainty = StdDevUncertainty(np.hypot(before, sigma).astype(np.float32))
    return noisy


def remove_dark(exposure: CCDData, master: CCDData, *, seconds: float) -> CCDData:
    """Subtract the dark current of an exposure of so many seconds; the master holds ADU per second."""
    _check_shape("dark", master.shape, exposure.shape)
    return subtract_dark(
        exposure,
        master,
        dark_exposure=1 * units.second,
        data_exposure=seconds * units.second,
        scale=True,
    )


def to_electrons(exposure: CCDData, *, gain: float) -> CCDData:
    """Multiply by the gain in electrons per ADU, image and uncertainty alike."""
    return gain_correct(exposure, gain * units.electron / units.adu)


def divide_flat(exposure: CCDData, master: CCDData) -> CCDData:
    """Divide by a master flat whose mean is 1; pixels that hardly respond to light are masked."""
    _check_shape("flat", master.shape, exposure.shape)
    dead = ~(master.data > DEADEST_RESPONSE)
    alive = master.copy()
    alive.data[dead] = 1.0
    return _masked(flat_correct(exposure, alive, norm_value=1.0), dead)


def _masked(exposure: CCDData, bad: NDArray[np.bool_]) -> CCDData:
    flagged: CCDData = exposure.copy()
    flagged.mask = bad if exposure.mask is None else exposure.mask | bad
    return flagged


def _blanked(exposure: CCDData) -> NDArray[np.floating]:
    return np.where(exposure.mask, np.nan, exposure.data)


def check_inside(what: str, section: Section, shape: tuple[int, int]) -> None:
    """Refuse a section that reaches beyond an exposure of this (height, width)."""
    if not section.fits_in(shape):
        size = f"{shape[1]}x{shape[0]}"
        raise DataError(f"{what} {section} must lie in the exposure of {size} pixels; make it smaller")


def _check_shape(what: str, got: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    if got != wanted:
        raise DataError(
            f"{what} must have the shape of the exposure, {wanted[1]}x{wanted[0]} pixels, got {got[1]}x{got[0]}; "
            "take frames of the same detector and read-out"
        )
