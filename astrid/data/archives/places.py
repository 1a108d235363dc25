"""Positions on the sky from what people write: degrees, sexagesimal, or the name of an object."""

from __future__ import annotations

from astropy.coordinates import SkyCoord, name_resolve

from astrid.config import DataError

from .http import UnreachableError
from .products import Place, file_name


def find_place(text: str) -> Place:
    """Return the position that a text means.

    Parameters
    ----------
    text : str
        `10.684 41.269` (degrees), `00h42m44s +41d16m09s` or `0:42:44 41:16:9` (hours, degrees), or a name that CDS'
        Sesame knows, as `M 31`.

    Raises
    ------
    DataError
        For a name that nobody knows, or a position that isn't on the sky.
    UnreachableError
        If Sesame gives no answer.
    """
    parts = text.replace(",", " ").split()
    if len(parts) == 2 and all(_is_position(part) for part in parts):
        position = _parse(text, parts)
    else:
        position = _resolve(text)
    return Place(file_name(text), float(position.ra.deg), float(position.dec.deg))


def _is_position(part: str) -> bool:
    return part[0] in "+-.0123456789" and part[-1] in "0123456789.sdm\"'h"


def _parse(text: str, parts: list[str]) -> SkyCoord:
    is_degrees = all(part.lstrip("+-").replace(".", "", 1).isdecimal() for part in parts)
    try:
        return SkyCoord(*parts, unit=("deg" if is_degrees else "hourangle", "deg"), frame="icrs")
    except ValueError as error:
        forms = '"10.684 41.269" or "00h42m44s +41d16m09s"'
        raise DataError(f"a position must be like {forms}, got {text!r} ({error}); mend it") from error


def _resolve(name: str) -> SkyCoord:
    try:
        return SkyCoord.from_name(name)
    except name_resolve.NameResolveError as error:
        reason = " ".join(str(error).split())
        if "All Sesame queries failed" in reason:
            remedy = 'is there a network? A position, as "10.684 41.269", needs none'
            raise UnreachableError(f"cannot ask CDS' Sesame where {name!r} is: {remedy}") from error
        raise DataError(f"an object must have a name that CDS' Sesame knows, got {name!r}; give a position") from error
