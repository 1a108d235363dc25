"""What the header of a reduced exposure says: what its steps left true, and what they made untrue left out."""

from __future__ import annotations

import re

from astrid.config import PreprocessConfig

from .. import keywords
from ..hdus import Header
from ..hdus import keywords as values_of
from .chain import Record
from .told import read_out

RESCALED_BY = {"saturation", "overscan", "pedestal", "bias", "dark", "gain", "flat"}
"""Steps after which the level of saturation is another, or is masked."""
LEVELLED_BY = {"overscan", "pedestal", "bias", "dark"}
"""Steps after which no light is 0: a dark without one of the others holds the bias."""
_PIXEL = re.compile(r"CRPIX([12])[A-Z]?|LTV([12])")
"""Places in pixels that move where a frame is trimmed: of the sky's reference, and of IRAF's physical pixels."""
_AMPLIFIERS = ("A", "B")


def true_header(record: Record, raw: Header, config: PreprocessConfig) -> Header:
    """Return a copy of a frame's header that is true of it after its steps.

    Parameters
    ----------
    record : Record
        Frame with its steps.
    raw : Header
        As the frame was read, with its history.
    config : PreprocessConfig
    """
    header, done = raw.copy(), {step.name for step in record.steps if step.done}
    if record.section is not None:
        move_pixels(header, x=record.section.x1 - 1, y=record.section.y1 - 1)
        _drop(header, *keywords.OVERSCAN, *keywords.TRIM)
    if LEVELLED_BY & done:
        _drop(header, *keywords.PEDESTAL)
    if RESCALED_BY & done:
        _drop(header, *keywords.SATURATION)
    if "uncertainty" in done and (readout := read_out(values_of(raw), config)) is not None:
        header["RDNOISE"] = (readout.read_noise, "read noise of a pixel, electrons")
    if "gain" in done:
        halves = [f"{keyword}{side}" for keyword in keywords.GAIN for side in _AMPLIFIERS]
        _drop(header, *keywords.GAIN, *halves, *keywords.ZERO_POINT, *keywords.COUNT_ZERO_POINT)
        header["GAIN"] = (1.0, "electrons per unit of the image")
    header["BUNIT"] = (unit_of(record), "unit of the image")
    return header


def unit_of(record: Record) -> str:
    """Return the unit of a frame: that of its steps, or else what its header says, if only to people."""
    told = str(record.frame.header.get("BUNIT", ""))
    was_counted = any(step.name == "uncertainty" for step in record.steps)  # a step of the detector, done or skipped
    has_gain = any(step.name == "gain" and step.done for step in record.steps)
    return str(record.frame.unit) if was_counted and (has_gain or not told) else told


def move_pixels(header: Header, *, x: int, y: int) -> None:
    """Move what a header says in pixels by the columns and rows that were cut off before them."""
    offsets = {"1": x, "2": y}
    for keyword in list(header.keys()):
        found = _PIXEL.fullmatch(keyword)
        value = header.get(keyword)
        if found and isinstance(value, int | float):
            header[keyword] = value - offsets[found[1] or found[2]]


def _drop(header: Header, *names: str) -> None:
    for name in names:
        header.remove(name, ignore_missing=True, remove_all=True)
