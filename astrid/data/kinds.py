"""What kind of exposure a picture is, by its header and its name: one rule for manifests and for quality."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from . import keywords

logger = logging.getLogger(__name__)

Kind = Literal["science", "bias", "dark", "flat", "other"]
_ZERO_SECONDS = 1e-3  # a dark as short as this is a bias
_CALIBRATION = ("bias", "dark", "flat")
BETWEEN = re.compile(r"[^A-Za-z0-9]+|(?<=[a-z])(?=[A-Z])")
"""What separates the words of a file's name."""


def read_kind(header: Mapping[str, Any], *, seconds: float | None) -> Kind | None:
    """Return what kind of exposure it is; a dark of no duration is a bias, whatever the camera calls it."""
    for keyword in keywords.KIND:
        kind = kind_of_words(str(header.get(keyword, "")))
        if kind == "dark" and seconds is not None and seconds <= _ZERO_SECONDS:
            return "bias"
        if kind is not None:
            return kind
    return None


def kind_of_words(text: str) -> Kind | None:
    """Return the kind that a text names, as `Dark Frame` or `FLAT,LAMP` do."""
    words = re.split(r"[^a-z]+", text.lower())
    for kind, names in keywords.KINDS.items():
        if any(word in names for word in words):
            return kind  # type: ignore[return-value]
    return None


def settled_kind(told: Kind | None, *, path: Path, on_sky: bool) -> Kind:
    """Return the kind of an exposure: its header's, unless that says science of no place and the name something else.

    Cameras call flats light frames. What has celestial coordinates was matched with stars, so that is no flat.

    Parameters
    ----------
    told : Kind or None
        What the header says.
    path : Path
        Its file, whose own folder's name and whose first word may say the kind.
    on_sky : bool
        Whether it has celestial coordinates.
    """
    if on_sky or told not in (None, "science"):
        return told or "science"
    by_name = kind_of_words(_telling_words(path))
    if by_name in _CALIBRATION:
        logger.warning("%s: taken as %s, as its name says; its header says %s", path, by_name, told or "nothing")
        return by_name
    return "science"


def _telling_words(path: Path) -> str:
    """Return the words of a path that may say the kind of an exposure: those of its folder, and its first."""
    first = next((word for word in BETWEEN.split(path.name) if word), "")
    return f"{path.absolute().parent.name} {re.sub('[0-9]+', '', first)}"
