"""In which night an exposure was taken: from one local noon to the next."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from datetime import date

from .headers import DAY_ZERO
from .pictures import Listed

logger = logging.getLogger(__name__)

_DAYLIGHT = (7.0, 17.0)  # local solar hours in which nobody looks at the sky


def night_of(mjd: float, longitude: float) -> str:
    """Return the date of the evening on which a night began.

    Parameters
    ----------
    mjd : float
        UTC.
    longitude : float
        Of the observatory in degrees, east positive. Local mean solar time is UTC + longitude / 15 hours.
    """
    return date.fromordinal(DAY_ZERO + math.floor(mjd + longitude / 360 - 0.5)).isoformat()


def find_nights(pictures: Sequence[Listed], *, longitude: float | None) -> dict[str, str]:
    """Return the night of each picture by its file, of those that tell their time and place.

    Parameters
    ----------
    longitude : float or None
        Of the observatory in degrees, east positive; None takes that of each header.
    """
    true = {} if longitude is not None else _true_longitudes(pictures)
    nights: dict[str, str] = {}
    for picture in pictures:
        east = longitude if picture.facts.longitude is None else true.get(picture.facts.longitude, longitude)
        if picture.facts.mjd is not None and east is not None:
            nights[picture.file] = night_of(picture.facts.mjd, east)
    return nights


def _true_longitudes(pictures: Sequence[Listed]) -> Mapping[float, float]:
    """Return what each longitude of the headers means, counted east.

    Some observatories count west. A longitude under which more of the science exposures were taken in daylight than
    under its negative does so.
    """
    times: dict[float, list[float]] = {}
    for picture in pictures:
        if picture.facts.longitude is not None and picture.facts.mjd is not None and picture.kind == "science":
            times.setdefault(picture.facts.longitude, []).append(picture.facts.mjd)
    true: dict[float, float] = {}
    for longitude, taken in times.items():
        as_is, flipped = (sum(_is_day(mjd, east) for mjd in taken) for east in (longitude, -longitude))
        true[longitude] = longitude if as_is <= flipped else -longitude
        if as_is > flipped:
            logger.warning(
                "longitude %g of the headers puts %d of %d exposures into daylight: it is taken as west of Greenwich",
                *(longitude, as_is, len(taken)),
            )
    return true


def _is_day(mjd: float, longitude: float) -> bool:
    hour = 24 * ((mjd + longitude / 360) % 1)
    return _DAYLIGHT[0] <= hour < _DAYLIGHT[1]
