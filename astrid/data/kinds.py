"""What kind of exposure a picture is, by its header and its name: one rule for manifests and for quality."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any, Literal

from . import keywords

logger = logging.getLogger(__name__)

Kind = Literal["science", "bias", "dark", "flat", "other"]
_ZERO_SECONDS = 1e-3  # a dark as short as this is a bias
_CALIBRATION = ("bias", "dark", "flat")


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


def settled_kind(told: Kind | None, *, named: str, file: str, on_sky: bool) -> Kind:
    """Return the kind of an exposure: its header's, unless that says science of no place and the name something else.

    Cameras call flats light frames. What has celestial coordinates was matched with stars, so that is no flat.

    Parameters
    ----------
    told : Kind or None
        What the header says.
    named : str
        Words of the file's name that may say the kind.
    file : str
        What a warning calls it.
    on_sky : bool
        Whether it has celestial coordinates.
    """
    if on_sky or told not in (None, "science"):
        return told or "science"
    by_name = kind_of_words(named)
    if by_name in _CALIBRATION:
        logger.warning("%s: taken as %s, as its name says; its header says %s", file, by_name, told or "nothing")
        return by_name
    return "science"
