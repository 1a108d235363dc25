"""What a header tells of an exposure: what kind it is, and the numbers that turn counts into photons and magnitudes."""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from astrid.config import DataError, Header, QualityConfig

from .. import keywords
from ..frame_units import electrons_per_unit, is_electrons, is_rate
from ..keywords import number_of
from ..kinds import read_kind, settled_kind
from ..rows import Section

logger = logging.getLogger(__name__)

Kind = Literal["science", "bias", "dark", "flat", "mask", "noise", "difference", "kernel", "stamp", "other"]
NO_EXPOSURES: dict[Kind, str] = {
    "mask": "a mask beside an image",
    "noise": "a plane of noise or weight beside an image",
    "difference": "a difference or score image",
    "kernel": "an image of a point-spread function or kernel",
    "stamp": "an image of fewer than 16 pixels along an axis",
    "other": "an exposure of a lamp, a focus run or the like, as its header says",
}
"""Kinds of image that are no exposure, and what they are."""

_PLANE_NAMES: dict[Kind, frozenset[str]] = {
    "mask": frozenset({"DQ", "MASK", "BPM", "CRMASK", "FLAGS"}),
    "noise": frozenset({"ERR", "VAR", "VARIANCE", "WHT", "WEIGHT", "IVAR", "UNCERT", "RMS"}),
    "difference": frozenset({"DIFF", "SCORE"}),
}
"""Names of HDUs that lie beside an image, by what they hold."""
_DECAM_PLANE = re.compile(r"_oo(?P<product>[dw])_")
"""Products of the DECam community pipeline in a file's name; their headers are those of the image."""
_KERNEL_SUM = 0.05
"""By which the sum of a kernel may differ from 1."""
SMALLEST_EDGE = 16
"""Pixels along each axis below which there is neither sky nor star to measure."""
_AMPLIFIERS = ("A", "B")


@dataclass(frozen=True)
class Facts:
    """What is known of an exposure beside its pixels; None is unknown.

    Attributes
    ----------
    kind : Kind
        Those of `NO_EXPOSURES` are no exposures.
    unit : str
        Of the image, as its header has it.
    seconds : float or None
    band : str
    gain : float or None
        Electrons per unit of the image.
    read_noise : float or None
        Electrons.
    pedestal : float or None
        Value of a pixel without any light.
    saturation : float or None
        Value from which a pixel is saturated.
    zero_point : float or None
        Magnitude of a flux of 1.
    """

    kind: Kind = "science"
    unit: str = ""
    seconds: float | None = None
    band: str = ""
    gain: float | None = None
    read_noise: float | None = None
    pedestal: float | None = None
    saturation: float | None = None
    zero_point: float | None = None


def read_facts(
    header: Mapping[str, Any],
    values: NDArray[np.floating],
    config: QualityConfig,
    *,
    path: Path,
    plane: str = "",
    on_sky: bool = False,
) -> Facts:
    """Read what a header tells; numbers that the configuration gives come first.

    Parameters
    ----------
    header : mapping
        Of the image, with the keywords of the primary HDU that it doesn't have itself.
    values : (H, W) float
        The image, for the level of its overscan.
    path : Path
        Of the file.
    plane : str
        Name of the HDU.
    on_sky : bool
        Whether it has celestial coordinates: then its file's name doesn't say the kind.
    """
    unit = str(header.get("BUNIT", "")).strip().lower()
    _warn_of_impossible(header, config, name=path.name)
    seconds = _not_negative(number_of(header, keywords.EXPOSURE))
    was_reduced = is_rate(unit) or is_electrons(unit)  # a raw exposure is in neither
    is_told = was_reduced or config.pedestal != "header"
    pedestal = 0.0 if is_told else _pedestal(header, values, name=path.name)
    per_count = functools.partial(_per_count, header)
    return Facts(
        kind=_kind_of_image(values, is_exposed=seconds is not None)
        or _kind(header, path=path, plane=plane.strip().upper(), seconds=seconds, on_sky=on_sky),
        unit=unit,
        seconds=seconds,
        band=" ".join(str(header.get("FILTER", "")).split()[:1]),
        gain=_given(config.gain, electrons_per_unit(unit, seconds=seconds, per_count=per_count)),
        read_noise=_given(config.read_noise, _above_zero(_of_amplifiers(header, keywords.READ_NOISE))),
        pedestal=_given(config.pedestal, pedestal),
        saturation=_given(
            config.saturation,
            None if is_rate(unit) else _above_zero(number_of(header, keywords.SATURATION)),  # which is in counts
        ),
        zero_point=_given(config.zero_point, number_of(header, keywords.ZERO_POINT)),
    )


def _per_count(header: Mapping[str, Any]) -> float | None:
    return _above_zero(_of_amplifiers(header, keywords.GAIN))


def _given(knob: float | Header | None, found: float | None) -> float | None:
    return found if knob == "header" else None if knob is None else float(knob)


def _kind(header: Mapping[str, Any], *, path: Path, plane: str, seconds: float | None, on_sky: bool) -> Kind:
    for kind, names in _PLANE_NAMES.items():
        if plane in names:
            return kind
    if product := _DECAM_PLANE.search(path.name):
        return "mask" if product["product"] == "d" else "noise"
    told = read_kind(header, seconds=seconds)
    return settled_kind(told, path=path, on_sky=on_sky)


def _kind_of_image(values: NDArray[np.floating], *, is_exposed: bool) -> Kind | None:
    """Tell stamps by their size, kernels and point-spread functions (square, with a middle, sum 1), masks by 0 and 1.

    What was exposed for some seconds is no mask: few photons make counts of 0 and 1 as well.
    """
    height, width = values.shape
    if height == width and height % 2 == 1 and bool(abs(np.nansum(values) - 1) < _KERNEL_SUM):
        return "kernel"
    has_two_values = values.size > 0 and values.min() == 0 and values.max() == 1 and bool(np.isin(values, (0, 1)).all())
    if not is_exposed and has_two_values:
        return "mask"
    return "stamp" if min(height, width) < SMALLEST_EDGE else None


def _warn_of_impossible(header: Mapping[str, Any], config: QualityConfig, *, name: str) -> None:
    """Say which numbers of a header can't be, and so count as unknown; those that a knob replaces aren't asked for."""
    knobs = {"gain": keywords.GAIN, "read_noise": keywords.READ_NOISE, "saturation": keywords.SATURATION}
    asked = [(knob, names) for knob, names in knobs.items() if getattr(config, knob) == "header"]
    for knob, names in asked:
        if _above_zero(_of_amplifiers(header, names)) is None:
            _warn(header, names, name=name, rule="a number above 0", remedy=f"give data.quality.{knob}")
    if _not_negative(number_of(header, keywords.EXPOSURE)) is None:
        _warn(header, keywords.EXPOSURE, name=name, rule="a number of seconds, 0 or more", remedy="mend it")


def _warn(header: Mapping[str, Any], names: Sequence[str], *, name: str, rule: str, remedy: str) -> None:
    """Say of a keyword that is there and can't be used what it must be; a card without a value is none."""
    keyword = next((each for each in names if isinstance(header.get(each), str | int | float)), None)
    if keyword is not None:
        told = f"{keyword} = {header[keyword]!r} in its header, which must be {rule}"
        logger.warning("%s: %s, counts as unknown; %s", name, told, remedy)


def _not_negative(value: float | None) -> float | None:
    return value if value is not None and value >= 0 else None


def _above_zero(value: float | None) -> float | None:
    return value if value is not None and value > 0 else None


def _of_amplifiers(header: Mapping[str, Any], names: Sequence[str]) -> float | None:
    """Return a number of the detector, or the mean of those of its two amplifiers, as DECam has it."""
    whole = number_of(header, names)
    if whole is not None:
        return whole
    halves = [number_of(header, [f"{keyword}{side}" for keyword in names]) for side in _AMPLIFIERS]
    known = [half for half in halves if half is not None]
    return sum(known) / len(known) if known else None


def _pedestal(header: Mapping[str, Any], values: NDArray[np.floating], *, name: str) -> float | None:
    """Return the counts of no light: what must be added to reach zero, negated, or the level of the overscan.

    PEDESTAL is that of the SBFITSEXT convention (Diffraction Limited, SBFITSEXT version 1.0).
    """
    added = number_of(header, keywords.PEDESTAL)
    if added is not None:
        return -added
    keyword = next((keyword for keyword in keywords.OVERSCAN if keyword in header), None)
    strip = None if keyword is None else _strip(values, str(header[keyword]))
    if strip is None:
        rule = f"a section [x1:x2,y1:y2] with values in its {values.shape[1]}x{values.shape[0]} pixels"
        _warn(header, keywords.OVERSCAN, name=name, rule=rule, remedy="give data.quality.pedestal")
    return None if strip is None else float(np.median(strip))


def _strip(values: NDArray[np.floating], text: str) -> NDArray[np.floating] | None:
    """Return the finite values of a section, None where it is none, lies outside or has none."""
    try:
        section = Section.parse(text)
    except DataError:
        return None
    strip = values[section.slices] if section.fits_in((values.shape[0], values.shape[1])) else values[:0]
    finite = strip[np.isfinite(strip)]
    return finite if finite.size else None
