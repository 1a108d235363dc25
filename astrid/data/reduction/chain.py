"""The order of the steps: from an exposure as it was read to one in electrons with its bad pixels masked."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from astropy.nddata import CCDData, StdDevUncertainty
from numpy.typing import NDArray

from astrid.config import DataError, PreprocessConfig

from .. import keywords
from ..frames import LARGEST_VALUE
from ..rows import Section
from .combine import check_level
from .detector import (
    Readout,
    add_noise,
    as_exposure,
    divide_flat,
    flag_bad,
    flag_saturated,
    overscan_error,
    remove_bias,
    remove_dark,
    remove_overscan,
    remove_pedestal,
    to_electrons,
    trim,
)
from .roles import Told
from .told import are_counts, check_apart, dark_seconds, header_section, knob_number, read_out, told_unit

_MOST_SATURATED = 0.5
Step = Callable[[CCDData], CCDData]


@dataclass(frozen=True)
class Taken:
    """What became of a step: done with `detail`, or skipped because of it."""

    name: str
    done: bool
    detail: str

    def __str__(self) -> str:
        return f"{self.name}: {self.detail}" if self.done else f"{self.name}: skipped, {self.detail}"


@dataclass(frozen=True)
class Masters:
    """What calibrates a detector; None where there are no frames for it.

    Attributes
    ----------
    bias : CCDData or None
        ADU.
    dark : CCDData or None
        ADU per second.
    flat : CCDData or None
        Response, mean 1.
    bad_pixels : (H, W) bool or None
        True = bad, of the shape of the raw exposures.
    only_seconds : float or None
        Duration of exposures to which the dark is bound, as it holds the bias and can't be scaled; None: any.
    bias_per_second : float
        Part of the bias's error that a second of the dark takes away; 0 without both.
    pictures : mapping of str to str
        Which HDU of its files a set was taken from, by `bias`, `dark`, `flat`, `bad_pixels`; only where they hold
        several pictures.
    doubts : tuple of str
        Where a header contradicts the set in which its exposure is.
    flat_filter : Told or None
        Filter of the flats, where their headers tell it.
    """

    bias: CCDData | None = None
    dark: CCDData | None = None
    flat: CCDData | None = None
    bad_pixels: NDArray[np.bool_] | None = None
    only_seconds: float | None = None
    bias_per_second: float = 0.0
    pictures: Mapping[str, str] = field(default_factory=dict)
    doubts: tuple[str, ...] = ()
    flat_filter: Told | None = None

    def origin(self, kind: str) -> str:
        """Return ` of HDU 2 (CCD2)` where files of a set hold several pictures, else nothing."""
        return f" of {self.pictures[kind]}" if kind in self.pictures else ""

    def bias_error_share(self, seconds: float | None) -> float:
        """Return the part of the bias's error that is left after bias and dark; None: no dark is subtracted."""
        return 1.0 if seconds is None else abs(1 - seconds * self.bias_per_second)


@dataclass
class Record:
    """A frame on its way through the steps.

    Attributes
    ----------
    frame : CCDData
    steps : list of Taken
        What was done to it and what was skipped, in order.
    raw_shape : (height, width)
        Of the frame as it was read.
    section : Section or None
        Part of that to which it was cut.
    told : int
        Steps that its header tells of already.
    """

    frame: CCDData
    raw_shape: tuple[int, int]
    steps: list[Taken] = field(default_factory=list)
    section: Section | None = None
    told: int = 0

    @property
    def cut(self) -> tuple[slice, slice]:
        """Rows and columns of the frame as it was read that are left."""
        return (slice(None), slice(None)) if self.section is None else self.section.slices

    def take(self, name: str, step: Step | None, *, detail: str, knob: str) -> None:
        """Take a step and say how, or skip it, where it is None, and say which knob it lacks."""
        if step is not None:
            self.frame = step(self.frame)
        done = step is not None
        self.steps.append(Taken(name, done, detail if done else f"data.preprocess.{knob} is not given"))


def given(function: Callable[..., CCDData], **arguments: object) -> Step | None:
    """Return a step with its arguments, or None where one of these isn't there."""
    if any(argument is None for argument in arguments.values()):
        return None
    return functools.partial(function, **arguments)


def start(image: CCDData, config: PreprocessConfig, *, masters: Masters | None = None) -> Record:
    """Take an image as it was read, mask what is bad on the detector, subtract the overscan and trim.

    Of the masters only the map of bad pixels is used; exposures that become masters have none.

    Raises
    ------
    DataError
        If a value or section that the header should give isn't there or doesn't fit.
    """
    _check_counts(image, config)
    exposure = as_exposure(image.data, mask=image.mask)
    exposure.wcs, exposure.meta = image.wcs, image.meta
    level = knob_number(image.meta, config.saturation, "saturation")
    overscan = header_section(image.meta, config.overscan, keywords.OVERSCAN, knob="overscan")
    section = header_section(image.meta, config.trim, keywords.TRIM, knob="trim")
    record = Record(exposure, exposure.shape, section=section)
    record.take("saturation", given(flag_saturated, level=level), detail=f"masked from {level} ADU", knob="saturation")
    _check_saturation(exposure, level)
    masters = masters or Masters()
    bad = masters.bad_pixels
    told = f"{0 if bad is None else bad.sum()} masked{masters.origin('bad_pixels')}"
    record.take("bad pixels", given(flag_bad, bad=bad), detail=told, knob="bad_pixels")
    reasons = {} if overscan is None else _reasons(image, overscan, level=level, bad=bad)
    level_overscan = functools.partial(remove_overscan, readout=read_out(image.meta, config), reasons=reasons)
    record.take("overscan", given(level_overscan, section=overscan), detail=f"median of {overscan}", knob="overscan")
    if config.pedestal is not None:
        lower = functools.partial(remove_pedestal, level=config.pedestal)
        record.take("pedestal", lower, detail=f"{config.pedestal} ADU subtracted", knob="pedestal")
    check_apart(overscan, section)
    record.take("trim", given(trim, section=section), detail=f"cut to {section}", knob="trim")
    return record


def _check_counts(image: CCDData, config: PreprocessConfig) -> None:
    """Refuse to multiply by a gain what is no longer counts."""
    if config.gain is not None and not are_counts(image.meta, image.unit):
        raise DataError(
            f"BUNIT must be counts where data.preprocess.gain is given, got {told_unit(image.meta)!r}; leave out that "
            "knob, or mend the header"
        )


def _check_saturation(exposure: CCDData, level: float | None) -> None:
    """Refuse a level from which most of a frame is saturated."""
    share = 0.0 if level is None else float(np.mean(exposure.data >= level))
    if share > _MOST_SATURATED:
        raise DataError(
            f"most pixels must be below the level of saturation of {level:g} ADU, got {share:.0%} at or above it; "
            "raise data.preprocess.saturation, or leave the frame out"
        )


def _reasons(
    image: CCDData, section: Section, *, level: float | None, bad: NDArray[np.bool_] | None
) -> dict[str, NDArray[np.bool_]]:
    """Return which pixels of a strip each mask takes, by what it is and the remedy."""
    strip = image.data[section.slices]
    usable = np.abs(strip) < LARGEST_VALUE
    masks = {"not finite, or beyond 1e30; leave the frame out": ~usable}
    if level is not None:
        masks["saturated; raise data.preprocess.saturation, or leave the frame out"] = usable & (strip >= level)
    if bad is not None and bad.shape == image.shape:
        masks["marked in data.preprocess.bad_pixels; mend the map, or give another strip"] = bad[section.slices]
    return masks


def calibrate(image: CCDData, config: PreprocessConfig, masters: Masters) -> Record:
    """Take an image as it was read through all steps of the detector; float32, in electrons where the gain is known.

    The uncertainty is added after the bias, whose counts are no photons, and before the dark current, whose are. With a
    dark the error of the bias is that which is left once the dark is subtracted, which holds the same bias.

    Raises
    ------
    DataError
        As `start`; also if there is a dark and the header doesn't say how long the exposure was, or if that is longer
        or shorter than a dark that can't be scaled.
    """
    record = start(image, config, masters=masters)
    gain = knob_number(image.meta, config.gain, "gain")
    readout = read_out(image.meta, config)
    overscan = header_section(image.meta, config.overscan, keywords.OVERSCAN, knob="overscan")
    seconds = None if masters.dark is None else dark_seconds(image.meta, only=masters.only_seconds)
    share = masters.bias_error_share(seconds)
    lower = given(remove_bias, master=masters.bias, error_share=share)
    record.take("bias", lower, detail=f"master{masters.origin('bias')} subtracted", knob="bias")
    check_level(record.frame, what="an exposure")
    record.take(
        "uncertainty",
        given(add_noise, readout=readout),
        detail=f"photons and readout, {readout}" + _shared_by_lines(overscan, readout),
        knob="gain or read_noise",
    )
    record.take(
        "dark",
        given(remove_dark, master=masters.dark, seconds=seconds),
        detail=f"master{masters.origin('dark')} subtracted for {seconds} s"
        + ("" if masters.only_seconds is None else ", which holds the bias"),
        knob="dark",
    )
    record.take("gain", given(to_electrons, gain=gain), detail=f"{gain} electrons per ADU", knob="gain")
    even = given(divide_flat, master=masters.flat)
    record.take("flat", even, detail=f"divided by master{masters.origin('flat')}", knob="flat")
    record.frame = in_single_precision(record.frame)
    return record


def _shared_by_lines(overscan: Section | None, readout: Readout | None) -> str:
    """Say how much of the noise the pixels of a line share, as the level of its overscan was subtracted."""
    if overscan is None or readout is None:
        return ""
    electrons = readout.gain * overscan_error(overscan, readout)
    return f"; the error of the overscan's level, {electrons:.2g} electrons, is one for all pixels of a line"


def in_single_precision(frame: CCDData) -> CCDData:
    """Return a frame whose values and uncertainty are float32, as double ones, which some steps give, gain nothing."""
    sigma = frame.uncertainty
    return CCDData(
        np.asarray(frame.data, dtype=np.float32),
        mask=frame.mask,
        unit=frame.unit,
        uncertainty=None if sigma is None else StdDevUncertainty(np.asarray(sigma.array, dtype=np.float32)),
        wcs=frame.wcs,
        meta=frame.meta,
    )


def write_history(record: Record) -> None:
    """Write the steps that its header doesn't tell of into it, in their order, as HISTORY."""
    for taken in record.steps[record.told :]:
        record.frame.header.add_history(f"AstrID {taken}")
    record.told = len(record.steps)
