"""Masters from sets of frames: clipped means, in no more memory than is allowed."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from astropy import units
from astropy.nddata import CCDData, StdDevUncertainty
from astropy.stats import mad_std
from ccdproc import Combiner
from numpy.typing import NDArray

from astrid.config import DataError

from ..store import writing
from .detector import Readout, add_noise, remove_bias, remove_dark, with_added_sigma

_BYTES_PER_VALUE = 80
"""Peak of a clipped combination per pixel of each frame in a band: doubles, masks and the copies of the clipping."""
_LIT, _MOST_UNLIT = 3.0, 0.25
"""Median of a flat, in units of the scatter of its pixels, and share of pixels without light, beyond which it is none:
of noise alone a half is below 0, of a flat with dark corners a tenth."""
_SAMPLED_ROWS = 64
"""Rows, spread over the frame, that tell its scatter and its step: the same ones whatever the bands are."""
_WHOLE = 0.01
"""By which a difference of counts in single precision may differ from a whole number and still be one."""
_FAR_BELOW = 10.0
"""Scatters of a pixel, of at least 1 ADU, by which no drift of the bias lies below the counts of no light."""


@dataclass(frozen=True)
class MasterDark:
    """A dark current, and how much of the bias's error is in it.

    Attributes
    ----------
    current : CCDData
        ADU per second; its uncertainty leaves that of the bias out, which is the same in exposures.
    bias_per_second : float
        Mean of 1 / seconds of its exposures: the dark holds minus so much of the bias's error; 0 without a bias.
    """

    current: CCDData
    bias_per_second: float


@dataclass(frozen=True)
class Combination:
    """How frames are combined.

    Attributes
    ----------
    clip_sigma : float
        Distance from the median beyond which a value is left out, in sigma.
    memory_mib : int
        Memory that a band of all frames may take, in MiB.
    folder : Path or None
        Where the frames wait until all are there; None is the system's folder for temporary files.
    """

    clip_sigma: float = 5.0
    memory_mib: int = 256
    folder: Path | None = None


def combine_frames(frames: Iterable[CCDData], rule: Combination) -> CCDData:
    """Average frames pixel by pixel after clipping values that lie far from the median.

    Frames come one by one and wait on disk, so that no more than one of them and a band of all of them is in memory.
    A sigma of the clipping is the scatter between the frames or the stated uncertainty, whichever is larger, since the
    scatter of a few frames is often small by chance, and that of whole numbers often 0. Where none is stated, the
    typical scatter of all pixels stands for it, which is at least that of rounding to whole numbers.

    Returns
    -------
    CCDData
        Mean of the values kept, with its uncertainty where all frames have one, masked where none was kept.

    Raises
    ------
    DataError
        If there is no frame, or their shapes or units differ.
    RunError
        If the disk has no room for them.
    """
    return _combine(((frame, _step(frame)) for frame in frames), rule)


def _combine(samples: Iterable[tuple[CCDData, float]], rule: Combination) -> CCDData:
    """Combine frames, each with the step of its values, 0 where they have none, in its unit."""
    folder = rule.folder or Path(tempfile.gettempdir())
    with writing(folder), tempfile.TemporaryFile(dir=folder) as file:
        first, steps = _write_all(samples, file)
        count = len(steps)
        height, width = first.shape
        stack = np.memmap(file, dtype=np.float32, mode="r", shape=(count, 2, height, width))
        rows = max(1, rule.memory_mib * 2**20 // (_BYTES_PER_VALUE * count * width))
        floor = _least_sigma(stack[:, 0], steps) if first.uncertainty is None else 0.0
        bands = [
            _clipped_mean(stack[:, :, start : start + rows], rule.clip_sigma, floor=floor)
            for start in range(0, height, rows)
        ]
    mean, sigma = np.concatenate(bands, axis=1)
    empty = np.isnan(mean)
    master = CCDData(np.where(empty, np.float32(0), mean), mask=empty, unit=first.unit)
    if first.uncertainty is not None:
        master.uncertainty = StdDevUncertainty(np.where(empty, np.float32(0), sigma))
    return master


def _step(exposure: CCDData) -> float:
    """Return the step of the converter, 1 ADU, where all neighbours along an axis differ by whole numbers, else 0.

    They do so still after the overscan was subtracted line by line, whose level is no whole number.
    """
    rows = exposure.data[_spread(exposure.shape[0])]
    for axis in (0, 1):
        differences = np.diff(rows, axis=axis)
        known = differences[np.isfinite(differences)]
        whole = np.rint(known)
        if whole.any() and bool(np.all(np.abs(known - whole) < _WHOLE)):
            return 1.0
    return 0.0


def _spread(height: int) -> NDArray[np.intp]:
    return np.unique(np.linspace(0, height - 1, _SAMPLED_ROWS).astype(np.intp))


def _least_sigma(values: NDArray[np.float32], steps: Sequence[float]) -> float:
    """Return the standard deviation below which that of no pixel of (N, H, W) values is taken: that of most of them.

    Rounding to a step adds step / sqrt(12), which is all that is sure where most pixels have one value in all frames.
    """
    found = np.concatenate([_scatters(values[:, row]) for row in _spread(values.shape[1])])
    rounding = float(np.sqrt(np.mean(np.square(steps)) / 12))
    return max(float(np.median(found)), rounding) if found.size else rounding


def _scatters(row: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the standard deviations between frames of the pixels of a row, (N, W), that at least two frames have.

    Each is divided by the median of its own distribution, so that the median of them all is that of the noise.

    References
    ----------
    Wilson and Hilferty 1931, PNAS 17, 684, doi:10.1073/pnas.17.12.684 (the median of chi squared)
    """
    freedom = np.isfinite(row).sum(axis=0) - 1
    found = np.nanstd(row[:, freedom > 0].astype(np.float64), axis=0, ddof=1)
    return np.asarray(found / (1 - 2 / (9 * freedom[freedom > 0])) ** 1.5)


def _write_all(samples: Iterable[tuple[CCDData, float]], file: IO[bytes]) -> tuple[CCDData, list[float]]:
    """Write value and sigma of each frame, NaN where there is none; return the first frame, and the steps of all."""
    first: CCDData | None = None
    steps = []
    for frame, step in samples:
        first = frame if first is None else first
        if (frame.shape, frame.unit) != (first.shape, first.unit):
            raise DataError(
                f"frames of a set must have one shape and unit, got {frame.shape} {frame.unit} after {first.shape} "
                f"{first.unit}; take out what doesn't belong"
            )
        unknown = np.full(frame.shape, np.nan, np.float32)
        sigma = unknown if frame.uncertainty is None else frame.uncertainty.array
        values = frame.data if frame.mask is None else np.where(frame.mask, np.nan, frame.data)
        file.write(np.stack([values, sigma]).astype(np.float32).data)
        steps.append(step)
    if first is None:
        raise DataError("a set must have at least one frame, got none; name files that exist, or leave the step out")
    file.flush()
    return first, steps


def _clipped_mean(stack: NDArray[np.float32], clip_sigma: float, *, floor: float) -> NDArray[np.float32]:
    """Return mean and sigma, (2, rows, W), of a band (N, 2, rows, W) of values and sigmas."""
    values, sigmas = stack[:, 0], stack[:, 1]
    with warnings.catch_warnings(), np.errstate(invalid="ignore", divide="ignore"):
        warnings.simplefilter("ignore")  # that masked values, which are NaN, take no part
        kept = _kept(values, sigmas, clip_sigma, floor=floor)
        counts = kept.sum(axis=0)
        mean = np.where(kept, values, 0).sum(axis=0, dtype=np.float64) / counts
        sigma = np.sqrt(np.where(kept, sigmas**2, 0).sum(axis=0, dtype=np.float64)) / counts
    return np.stack([mean, sigma]).astype(np.float32)


def _kept(
    values: NDArray[np.float32], sigmas: NDArray[np.float32], clip_sigma: float, *, floor: float
) -> NDArray[np.bool_]:
    stated = np.nan_to_num(np.sqrt(np.nanmean(sigmas**2, axis=0)), nan=floor)

    def scatter(data: NDArray[np.floating], axis: int) -> NDArray[np.floating]:
        found: NDArray[np.floating] = mad_std(data, axis=axis, ignore_nan=True)
        return np.asarray(np.maximum(np.nan_to_num(found), stated))

    combiner = Combiner(CCDData(value, mask=np.isnan(value), unit=units.adu) for value in values)
    combiner.sigma_clipping(clip_sigma, clip_sigma, func="median", dev_func=scatter)
    return np.logical_not(np.ma.getmaskarray(combiner.data_arr))


def master_bias(exposures: Iterable[CCDData], *, readout: Readout | None, rule: Combination) -> CCDData:
    """Combine exposures of no duration, in ADU; the noise of each is that of its readout."""
    if readout is None:
        return combine_frames(exposures, rule)
    sigma = readout.read_noise / readout.gain
    return combine_frames((with_added_sigma(exposure, sigma) for exposure in exposures), rule)


def master_dark(
    exposures: Iterable[tuple[CCDData, float]],
    *,
    bias: CCDData | None,
    readout: Readout | None,
    rule: Combination,
) -> MasterDark:
    """Combine (exposure, seconds) with a closed shutter into the dark current.

    The error of the bias is one for all, so it doesn't average down, and it is the same as in the exposures from which
    the dark is subtracted: from one of T seconds, 1 - T mean(1/t) of it is left for darks of t seconds each.
    """
    durations: list[float] = []

    def prepared() -> Iterable[tuple[CCDData, float]]:
        for exposure, seconds in exposures:
            durations.append(_positive(seconds))
            dark = exposure if bias is None else remove_bias(exposure, _exact(bias))
            check_level(dark, what="a dark")
            yield _scaled(_noisy(dark, readout), 1 / seconds), _step(exposure) / seconds

    current = _combine(prepared(), rule)
    return MasterDark(current, 0.0 if bias is None else float(np.mean(1 / np.array(durations))))


def master_flat(
    exposures: Iterable[tuple[CCDData, float]],
    *,
    bias: CCDData | None,
    dark: CCDData | None,
    readout: Readout | None,
    rule: Combination,
) -> CCDData:
    """Combine (exposure, seconds) of an even light into the relative response of the pixels, whose mean is 1.

    Each exposure is divided by its own median first, so that a sky that brightens doesn't count as noise. The errors
    of bias and dark are left out of the flat's: they are below its photon noise.

    Raises
    ------
    DataError
        If an exposure holds no light well above its noise.
    """

    def prepared() -> Iterable[tuple[CCDData, float]]:
        for exposure, seconds in exposures:
            flat = exposure if bias is None else remove_bias(exposure, _exact(bias))
            flat = _noisy(flat, readout)
            flat = flat if dark is None else remove_dark(flat, _exact(dark), seconds=seconds)
            level = _level_of_light(flat)
            yield _scaled(flat, 1 / level), _step(exposure) / level

    flat = _combine(prepared(), rule)
    return _scaled(flat, 1 / float(flat.data[~flat.mask].mean(dtype=np.float64)))


def check_level(frame: CCDData, *, what: str) -> None:
    """Refuse a frame in ADU whose level lies far below that of no light, as if that was subtracted twice.

    Raises
    ------
    DataError
        If it does.
    """
    values = frame.data[~frame.mask]
    level = float(np.median(values)) if values.size else 0.0
    if level < 0 and level < -_FAR_BELOW * (scatter := max(_pixel_scatter(frame), 1.0)):
        raise DataError(
            f"{what} must not lie {_FAR_BELOW:g} times the scatter of its pixels below the counts of no light, got a "
            f"median of {level:.4g} ADU with a scatter of {scatter:.3g}; they are subtracted already: leave out bias "
            "and overscan, with data.preprocess.pedestal=0, or give the pedestal that is left"
        )


def _level_of_light(flat: CCDData) -> float:
    """Return the median of the good pixels of a flat above bias and dark, ADU, once that is well above its noise."""
    values = flat.data[~flat.mask]
    if values.size == 0:
        raise DataError("a flat must have good pixels, got none; leave it out")
    level, scatter, unlit = float(np.median(values)), _pixel_scatter(flat), float(np.mean(values <= 0))
    if not level > _LIT * scatter or unlit > _MOST_UNLIT:
        raise DataError(
            f"a flat must hold light above bias and dark, more than {_LIT:g} times the scatter of its pixels, got a "
            f"median of {level:.3g} ADU, a scatter of {scatter:.3g} and {unlit:.0%} of the pixels at or below 0; leave "
            "it out"
        )
    return level


def _pixel_scatter(frame: CCDData) -> float:
    """Return the standard deviation of a pixel about the light that falls onto it, in the unit of the frame.

    It is that of differences between next but one neighbours, over the root of 2: the slope of the light hardly counts,
    nor do the colours of a camera with a Bayer filter.
    """
    good = ~(frame.mask[:, 2:] | frame.mask[:, :-2])
    differences = (frame.data[:, 2:] - frame.data[:, :-2])[good]
    return float(mad_std(differences) / np.sqrt(2)) if differences.size else 0.0


def _noisy(exposure: CCDData, readout: Readout | None) -> CCDData:
    """Add the noise that the counts of each pixel alone suggest: dark current and response differ between neighbours.

    The errors of the guesses average down with the exposures, as the variance of the master is a sum of theirs.
    """
    return exposure if readout is None else add_noise(exposure, readout, expected=exposure.data)


def _exact(master: CCDData) -> CCDData:
    return CCDData(master.data, mask=master.mask, unit=master.unit)


def _scaled(frame: CCDData, factor: float) -> CCDData:
    sigma = None if frame.uncertainty is None else StdDevUncertainty(frame.uncertainty.array * np.float32(factor))
    return CCDData(frame.data * np.float32(factor), mask=frame.mask, unit=frame.unit, uncertainty=sigma)


def _positive(seconds: float) -> float:
    if not seconds > 0:
        raise DataError(f"a dark exposure must last longer than 0 s, got {seconds:g}; mend its header, or leave it out")
    return seconds
