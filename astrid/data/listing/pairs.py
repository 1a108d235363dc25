"""Which exposure is the reference of which."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from ..footprints import centre
from .pictures import Listed

Rule = Literal["none", "earliest", "best", "night"]
RULES: tuple[Rule, ...] = ("night", "best", "earliest", "none")
_NIGHT_DAYS = 0.5  # exposures whose nights aren't known are of different ones if so far apart


def choose_references(
    pictures: Sequence[Listed], *, rule: Rule, fields: Mapping[str, str], nights: Mapping[str, str]
) -> dict[str, Listed]:
    """Return the reference of each picture by the picture's file, of those that have one.

    Candidates are exposures of the same field, filter and detector, taken at another time, that show the picture's
    middle. `earliest` takes the first of them; `best` that with the sharpest stars, by the header, of several as sharp,
    or where it doesn't say, the one of the longest exposure, then the earliest; `night` the best of another night.
    With `earliest` and `best` the frame that is reference to the others has none itself.
    """
    if rule == "none":
        return {}
    groups: dict[tuple[str, str, str], list[Listed]] = {}
    for picture in pictures:
        groups.setdefault((fields[picture.file], picture.facts.filter, picture.key[2]), []).append(picture)
    chosen: dict[str, Listed] = {}
    for group in groups.values():
        ranked = sorted(group, key=_time if rule == "earliest" else _merit)
        for position, picture in enumerate(ranked):
            others = ranked if rule == "night" else ranked[:position]
            found = next((other for other in others if _fits(picture, other, rule=rule, nights=nights)), None)
            if found is not None:
                chosen[picture.file] = found
    return chosen


def _time(picture: Listed) -> tuple[float, str]:
    return picture.facts.mjd if picture.facts.mjd is not None else math.inf, picture.file


def _merit(picture: Listed) -> tuple[float, float, float, str]:
    facts = picture.facts
    width = facts.width if facts.width is not None and facts.width > 0 else math.inf
    return width, -(facts.seconds or 0.0), *_time(picture)


def _fits(picture: Listed, other: Listed, *, rule: Rule, nights: Mapping[str, str]) -> bool:
    if other is picture or not _shows_middle(other, picture):
        return False
    mine, theirs = picture.facts.mjd, other.facts.mjd
    if mine is None or theirs is None:
        return rule == "best"
    if rule != "night":
        return mine != theirs
    known = nights.get(picture.file), nights.get(other.file)
    return abs(mine - theirs) >= _NIGHT_DAYS if None in known else known[0] != known[1]


def _shows_middle(other: Listed, picture: Listed) -> bool:
    """Tell whether the middle of a picture lies within another; without coordinates one field must do."""
    if other.corners is None or picture.corners is None:
        return True
    normals = np.cross(other.corners, np.roll(other.corners, -1, axis=0))
    return bool((normals @ centre(picture.corners) > 0).all())
