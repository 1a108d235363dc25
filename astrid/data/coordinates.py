"""Keywords of celestial coordinates that can't be what they should be."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

_NUMBER = re.compile(r"(CRVAL|CRPIX|CDELT|CROTA)[12]|(CD|PC)[12]_[12]")


def unusable_number(header: Mapping[str, Any]) -> str:
    """Name the first keyword of the coordinates that must be a number and isn't; empty where all are.

    wcslib takes such a keyword as absent, and then 0 or 1: a place on the sky where nobody looked.
    """
    for keyword in header:
        value = header[keyword] if _NUMBER.fullmatch(keyword) else 0
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return f"{keyword} must be a number, got {value!r}"
    return ""
