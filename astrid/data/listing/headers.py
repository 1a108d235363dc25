"""What the header of an exposure says about it, in whichever of the known dialects; None where it says nothing."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
from astropy import units
from astropy.coordinates import FK5, Angle, EarthLocation, SkyCoord
from astropy.time import Time
from numpy.typing import NDArray

from .. import keywords
from ..kinds import Kind, read_kind

Header = Mapping[str, Any]

DAY_ZERO = date(1858, 11, 17).toordinal()
"""Modified Julian day 0, as Python counts days."""
_DAYS = (15_000.0, 90_000.0)  # MJD from 1899 to 2105: what a detector can have seen, or will
_FITS_DATE = re.compile(r"(\d{4})-(\d{1,2})-(\d{1,2})(?:[T ](\S+))?")
_OLD_DATE = re.compile(r"(\d{1,2})/(\d{1,2})/(\d{2,4})")


@dataclass(frozen=True)
class Facts:
    """What is known of an exposure.

    Attributes
    ----------
    kind : str or None
        None where the header doesn't say.
    mjd : float or None
        Start, UTC.
    seconds : float or None
        Duration.
    filter : str
        Empty where it isn't known.
    pointing : (3,) float64 or None
        Unit vector of where the telescope pointed, ICRS.
    object : str
        What was looked at, empty where it isn't said.
    longitude : float or None
        Of the observatory in degrees, as the header has it.
    width : float or None
        Of point sources.
    """

    kind: Kind | None
    mjd: float | None
    seconds: float | None
    filter: str
    pointing: NDArray[np.float64] | None
    object: str
    longitude: float | None
    width: float | None


def read_facts(header: Header) -> Facts:
    """Read what a header says."""
    seconds = _first_number(header, keywords.SECONDS)
    return Facts(
        kind=read_kind(header, seconds=seconds),
        mjd=read_start(header),
        seconds=seconds,
        filter=read_filter(header),
        pointing=read_pointing(header),
        object=_first_text(header, keywords.OBJECTS),
        longitude=read_longitude(header),
        width=_first_number(header, keywords.WIDTHS),
    )


def read_start(header: Header) -> float | None:
    """Return when an exposure began as MJD, UTC; None where there is no date, or a date without its time.

    A full date goes before the MJD, which some programs derive from the date without its time.
    """
    dates = [parsed for keyword in keywords.START if (parsed := parse_date(header.get(keyword))) is not None]
    for day, clock in dates:
        fraction = _day_fraction(clock) if clock else None
        if fraction is not None:
            return day + fraction
    for keyword in keywords.START_TIME if dates else ():
        fraction = _day_fraction(header.get(keyword))
        if fraction is not None:
            return dates[0][0] + fraction
    mjd = _first_number(header, keywords.START_MJD)
    jd = _first_number(header, keywords.START_JD)
    found = mjd if mjd is not None else None if jd is None else jd - 2_400_000.5
    is_bare_date = found is not None and found == int(found) and bool(dates)
    return found if found is not None and _DAYS[0] < found < _DAYS[1] and not is_bare_date else None


def parse_date(text: object) -> tuple[float, str] | None:
    """Return the MJD of midnight and the time of day as text, empty where there is none.

    Knows `2017-03-16T06:18:30.75`, `2013-07-13`, and the form of before 1999, `26/10/92`, with the years that programs
    made of it afterwards, as `26/07/102`.

    Reference: FITS Standard 4.0, section 4.4.2.1 (Pence et al. 2010, doi:10.1051/0004-6361/201015362).
    """
    modern = _FITS_DATE.fullmatch(str(text).strip())
    old = _OLD_DATE.fullmatch(str(text).strip())
    if modern:
        year, month, day, clock = int(modern[1]), int(modern[2]), int(modern[3]), modern[4] or ""
    elif old:
        year, month, day, clock = int(old[3]), int(old[2]), int(old[1]), ""
        year += 1900 if year < 1000 else 0
    else:
        return None
    try:
        return float(date(year, month, day).toordinal() - DAY_ZERO), clock.removesuffix("Z")
    except ValueError:
        return None


def _day_fraction(clock: object) -> float | None:
    """Return the part of a day that `06:18:30.75`, or so many seconds, is."""
    if isinstance(clock, int | float) and not isinstance(clock, bool):
        return clock / 86_400 if 0 <= clock < 86_400 else None
    parts = str(clock).strip().split(":")
    try:
        hours, minutes, seconds = (float(part) for part in (*parts, "0")[:3])
    except ValueError:
        return None
    fits = 0 <= hours < 24 and 0 <= minutes < 60 and 0 <= seconds < 61
    return (hours + minutes / 60 + seconds / 3600) / 24 if fits else None


def read_filter(header: Header) -> str:
    """Return the filter; of two wheels the one that holds something."""
    for keyword in keywords.FILTERS:
        name = " ".join(str(header.get(keyword, "")).split())
        if name.lower() not in keywords.NO_FILTER:
            long = re.fullmatch(keywords.LONG_FILTER, name)
            return long[1] if long else name
    return ""


def read_pointing(header: Header) -> NDArray[np.float64] | None:
    """Return the unit vector of where the telescope pointed."""
    for names in keywords.RA_DEC:
        if names[0] == "CRVAL1" and not str(header.get("CTYPE1", "")).startswith("RA"):
            continue
        ra, dec = (header.get(name) for name in names)
        place = _unit_vector(_degrees(ra, per_hour=15), _degrees(dec, per_hour=1), equinox=_equinox(header))
        if place is not None:
            return place
    return None


def _unit_vector(ra: float | None, dec: float | None, *, equinox: float) -> NDArray[np.float64] | None:
    if ra is None or dec is None or not (-360 <= ra <= 360 and -90 <= dec <= 90):
        return None
    place = SkyCoord(ra * units.deg, dec * units.deg, frame=FK5(equinox=Time(equinox, format="jyear")))
    return np.asarray(place.icrs.cartesian.xyz.value, dtype=np.float64)


def _degrees(value: object, *, per_hour: int) -> float | None:
    """Return degrees of a number or of text; sexagesimal text of a right ascension is in hours (`per_hour` 15)."""
    number = _number(value)
    if number is not None or not isinstance(value, str):
        return number
    try:
        angle = Angle(value.strip(), unit=units.hourangle if per_hour == 15 else units.deg)
    except (ValueError, units.UnitsError):
        return None
    return float(angle.deg)


def _equinox(header: Header) -> float:
    """Return the equinox in years, 2000 where none is given that could be one."""
    for keyword in keywords.EQUINOXES:
        year = _number(str(header.get(keyword, "")).lstrip("JB"))
        if year is not None and 1800 < year < 2200:
            return year
    return 2000.0


def read_longitude(header: Header) -> float | None:
    """Return the longitude of the observatory as the header has it, from -180 to 180 degrees."""
    for keyword in keywords.LONGITUDES:
        longitude = _degrees(header.get(keyword), per_hour=1)
        if longitude is not None and -360 <= longitude <= 360:
            return (longitude + 180) % 360 - 180
    place = [_number(header.get(f"OBSGEO-{axis}")) for axis in "XYZ"]
    if any(metres is None for metres in place) or not any(place):
        return None
    return float(EarthLocation.from_geocentric(*place, unit=units.m).lon.deg)


def _first_number(header: Header, names: Sequence[str]) -> float | None:
    return next((number for name in names if (number := _number(header.get(name))) is not None), None)


def _first_text(header: Header, names: Sequence[str]) -> str:
    texts = (" ".join(str(header[name]).split()) for name in names if name in header)
    return next((text for text in texts if text), "")


def _number(value: object) -> float | None:
    """Return a number that is one, or that a program wrote as text."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
