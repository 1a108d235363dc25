"""What is asked of an archive, and what it answers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol

_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._+-]+")


@dataclass(frozen=True)
class Place:
    """A position on the sky: a name for its files, and ICRS degrees."""

    name: str
    ra: float
    dec: float


@dataclass(frozen=True)
class Wanted:
    """What is wanted around a place.

    Attributes
    ----------
    place : Place
    size_arcsec : float or None
        Edge of a square cutout; None: whole frames that contain the place.
    bands : tuple of str
        As the archive calls its filters or surveys; none: those it gives by default.
    since, until : float or None
        Exposures between these times, modified Julian days.
    limit : int
        At most so many files, the newest first where the archive tells times.
    """

    place: Place
    size_arcsec: float | None = None
    bands: tuple[str, ...] = ()
    since: float | None = None
    until: float | None = None
    limit: int = 100


@dataclass(frozen=True)
class Product:
    """A file that an archive has, or will make when it is asked.

    Attributes
    ----------
    url : str
        Where it is.
    name : str
        Its name here.
    archive, field, band : str
        Archive, name of the place, filter or survey.
    mjd : float or None
        Modified Julian day of the exposure.
    size_bytes : int or None
        How large it is; None where nobody said so.
    is_exact : bool
        Whether the archive states that size; otherwise it is an estimate.
    is_made : bool
        Whether the archive makes it for each request, so that asking for its size would make it.
    """

    url: str
    name: str
    archive: str
    field: str
    band: str
    mjd: float | None = None
    size_bytes: int | None = None
    is_exact: bool = False
    is_made: bool = False


class Archive(Protocol):
    """Finds what an archive has.

    Attributes
    ----------
    has_cutouts, has_frames : bool
        What it can give.
    tells_time : bool
        Whether exposures can be chosen by their time.
    """

    has_cutouts: bool
    has_frames: bool
    tells_time: bool

    def plan(self, wanted: Wanted) -> list[Product]:
        """Ask the archive what it has; nothing is downloaded."""


def file_name(*parts: str | float) -> str:
    """Join parts to a name that is safe on any file system, and cannot lead out of its folder."""
    name = "_".join(_NOT_IN_NAMES.sub("-", f"{part}").strip("-.") for part in parts)
    return name or "unnamed"


def fits_bytes(pixels: int, *, bytes_per_pixel: int = 4) -> int:
    """Estimate the size of a FITS file of this many pixels: data and a few blocks of header."""
    return -(-pixels * bytes_per_pixel // 2880) * 2880 + 4 * 2880
