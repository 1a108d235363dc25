"""What headers of calibration frames say that they are, against what they are used as; doubts are told, not refused."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .. import keywords
from ..frames import inspect_file
from ..hdus import Header
from ..hdus import keywords as values_of
from ..kinds import read_kind
from ..listing.headers import read_filter
from ..rows import ImageFile

logger = logging.getLogger(__name__)

_told: set[tuple[str, ...]] = set()


@dataclass(frozen=True)
class Told:
    """What a header says and where: name of the file, keyword, value as it is there, and what that means."""

    file: str
    keyword: str
    value: str
    meaning: str

    def __str__(self) -> str:
        return f"{self.file} has {self.keyword} = {self.value!r}"


def told_kind(file: ImageFile, header: Header) -> Told | None:
    """Return what kind of exposure a header, or that of the file around it, says it is; None where it says nothing."""
    for values in _own_and_primary(file, header):
        for keyword in keywords.KIND:
            if kind := read_kind({keyword: values.get(keyword, "")}, seconds=None):
                return Told(file.path.name, keyword, str(values[keyword]), kind)
    return None


def told_filter(file: ImageFile, header: Header) -> Told | None:
    """Return the filter that a header, or that of the file around it, tells; None where it tells none."""
    for values in _own_and_primary(file, header):
        for keyword in keywords.FILTERS:
            if name := read_filter({keyword: values.get(keyword, "")}):
                return Told(file.path.name, keyword, str(values[keyword]), name)
    return None


def _own_and_primary(file: ImageFile, header: Header) -> tuple[Mapping[str, Any], ...]:
    """Return the keywords of a picture, and where it is in an extension those of its file, which come after."""
    own = values_of(header)
    return (own,) if "SIMPLE" in own else (own, values_of(inspect_file(file.path).primary))


def doubt_kind(file: ImageFile, header: Header, *, used_as: str) -> str:
    """Say that a header contradicts the set in which its exposure is; empty where it doesn't.

    A dark may be used as bias, as one of no duration is.
    """
    told = told_kind(file, header)
    if told is None or told.meaning == used_as or (told.meaning, used_as) == ("dark", "bias"):
        return ""
    return f"data.preprocess.{used_as}: {told}, which says {told.meaning}, and is used as {used_as}; check the names"


def doubt_filter(flat: Told, other: Told | None) -> str:
    """Say that an exposure has another filter than a flat; empty where it doesn't, or isn't known."""
    if other is None or other.meaning == flat.meaning:
        return ""
    return f"data.preprocess.flat: {flat}, and {other}; give each filter a run of its own, with its flats"


def warn_once(text: str, *key: str) -> None:
    """Log a doubt, once for each key, its text by default."""
    if text and (key or (text,)) not in _told:
        _told.add(key or (text,))
        logger.warning("%s", text)
