"""What an exposure's header tells the steps of the detector, where the knobs leave it to that: numbers and sections."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from astropy import units

from astrid.config import DataError, Header, PreprocessConfig

from .. import keywords
from ..frame_units import is_electrons, is_rate
from ..frames import LARGEST_VALUE
from ..rows import Section
from .detector import Readout

_COUNTS = (units.adu, units.ct, units.Unit("DN"), units.ph)
SAME_DURATION = 0.01
"""Share by which durations may differ and count as the same: cameras tell them to a thousandth or so."""
NUMBERS = {"saturation": keywords.SATURATION, "gain": keywords.GAIN, "read_noise": keywords.READ_NOISE}
"""Keywords of the knobs of `data.preprocess` whose numbers a header may give."""
Rule = Literal["finite", "above 0 and below 1e30"]
_KEEPS: dict[Rule, Callable[[float], bool]] = {
    "finite": math.isfinite,
    "above 0 and below 1e30": lambda number: 0 < number < LARGEST_VALUE,
}


def read_out(header: Mapping[str, Any], config: PreprocessConfig) -> Readout | None:
    """Return gain and read noise of an exposure, or None where one of them isn't given."""
    gain = knob_number(header, config.gain, "gain")
    read_noise = knob_number(header, config.read_noise, "read_noise")
    return None if gain is None or read_noise is None else Readout(gain, read_noise)


def knob_number(header: Mapping[str, Any], given: float | Header | None, name: str) -> float | None:
    """Return the number of a knob of `NUMBERS`, or of the header where the knob says so."""
    return header_number(header, given, NUMBERS[name], knob=f"data.preprocess.{name}", rule="above 0 and below 1e30")


def exposure_seconds(header: Mapping[str, Any]) -> float:
    """Return the duration of an exposure in seconds."""
    seconds = header_number(
        header, "header", keywords.EXPOSURE, knob="data.preprocess.dark", rule="above 0 and below 1e30"
    )
    assert seconds is not None
    return seconds


def dark_seconds(header: Mapping[str, Any], *, only: float | None) -> float:
    """Return the seconds for which a dark is subtracted from an exposure.

    A dark that holds the bias can't be scaled, as the bias doesn't grow with time: its own duration is the only one.

    Raises
    ------
    DataError
        If the exposure lasted longer or shorter than that.
    """
    seconds = exposure_seconds(header)
    if only is None:
        return seconds
    if not math.isclose(seconds, only, rel_tol=SAME_DURATION):
        raise DataError(
            f"darks that hold the bias can't be scaled and must last as long as the exposure, got {only:g} s for "
            f"{seconds:g} s; give data.preprocess.bias, overscan or pedestal (0 where it is subtracted already)"
        )
    return only


def header_number(
    header: Mapping[str, Any],
    given: float | Header | None,
    names: Sequence[str],
    *,
    knob: str,
    rule: Rule = "finite",
) -> float | None:
    """Return a number that is given, or else is in the header under one of the names; None where it is None.

    Raises
    ------
    DataError
        If the header should have it, and has not, or not as a number that keeps the rule.
    """
    if given != "header":
        return None if given is None else float(given)
    keyword = next((keyword for keyword in names if keyword in header), None)
    found = None if keyword is None else header[keyword]
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise DataError(f"the header must have a number {' or '.join(names)}, got {found!r}; add it, or change {knob}")
    if not _KEEPS[rule](found):
        raise DataError(f"{keyword} of the header must be {rule}, got {found:g}; mend it, or change {knob}")
    return float(found)


def header_section(header: Mapping[str, Any], given: str, names: Sequence[str], *, knob: str) -> Section | None:
    """Return a section that is given, or else is in the header under one of the names; None for `none`."""
    if given != "header":
        return None if given == "none" else Section.parse(given)
    return told_section(header, names, knob=knob)


def told_section(header: Mapping[str, Any], names: Sequence[str], *, knob: str) -> Section:
    """Return the section that a header has under one of the names.

    Raises
    ------
    DataError
        If it has none, or none that is one.
    """
    keyword = next((keyword for keyword in names if keyword in header), None)
    remedy = f"""'data.preprocess.{knob}="[x1:x2,y1:y2]"' (with both kinds of quotes), or data.preprocess.{knob}=none"""
    if keyword is None:
        raise DataError(f"the header must have {' or '.join(names)}, and hasn't; give {remedy}")
    try:
        return Section.parse(str(header[keyword]))
    except DataError as error:
        rule = "[x1:x2,y1:y2] with 1 <= x1 <= x2 and 1 <= y1 <= y2"
        raise DataError(
            f"{keyword} of the header must be {rule}, got {header[keyword]!r}; mend it, or give {remedy}"
        ) from error


def check_apart(overscan: Section | None, kept: Section | None) -> None:
    """Refuse an overscan strip in the part that sees the sky."""
    if overscan is not None and kept is not None and overscan.gap_to(kept) < 0:
        raise DataError(
            f"the overscan must lie outside of what the trim keeps, got overscan {overscan} and trim {kept}; mend "
            "data.preprocess.overscan or trim, or where they are header, BIASSEC or TRIMSEC"
        )


def are_counts(header: Mapping[str, Any], unit: units.UnitBase) -> bool:
    """Tell whether a frame may be in counts: by its BUNIT, as it stands in the header and as the unit that this names.

    One whose header doesn't say is taken to be.
    """
    text = told_unit(header).lower()
    was_counted = unit == units.dimensionless_unscaled or any(unit.is_equivalent(one) for one in _COUNTS)
    return not text or (was_counted and not is_electrons(text) and not is_rate(text))


def told_unit(header: Mapping[str, Any]) -> str:
    return str(header.get("BUNIT", "")).strip()
