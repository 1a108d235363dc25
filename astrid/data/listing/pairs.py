"""Which exposure is the reference of which."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

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
        times, skies = _Times.of(ranked, nights), _Skies.of(ranked)
        for position, picture in enumerate(ranked):
            others = times.apart(position, rule=rule)
            found = next(iter(skies.showing(position, others)), None) if len(others) else None
            if found is not None:
                chosen[picture.file] = ranked[found]
    return chosen


def _time(picture: Listed) -> tuple[float, str]:
    return picture.facts.mjd if picture.facts.mjd is not None else math.inf, picture.file


def _merit(picture: Listed) -> tuple[float, float, float, str]:
    facts = picture.facts
    width = facts.width if facts.width is not None and facts.width > 0 else math.inf
    return width, -(facts.seconds or 0.0), *_time(picture)


@dataclass(frozen=True)
class _Times:
    """When the pictures of a group were taken: MJD, NaN where unknown, and the number of their night, -1 likewise."""

    mjd: NDArray[np.float64]
    night: NDArray[np.int64]

    @classmethod
    def of(cls, group: Sequence[Listed], nights: Mapping[str, str]) -> _Times:
        names = [nights.get(picture.file) for picture in group]
        numbers = {name: number for number, name in enumerate(dict.fromkeys(names)) if name is not None}
        mjd = [math.nan if picture.facts.mjd is None else picture.facts.mjd for picture in group]
        return cls(np.array(mjd), np.array([-1 if name is None else numbers[name] for name in names]))

    def apart(self, one: int, *, rule: Rule) -> NDArray[np.int64]:
        """Return the numbers of those that may be reference to one, as far as their times go, the best first."""
        days = np.abs(self.mjd - self.mjd[one])  # NaN, which is neither above nor below, where a time is unknown
        if rule != "night":
            fits = (days[:one] > 0) | (np.isnan(days[:one]) & (rule == "best"))
            return np.flatnonzero(fits)
        are_known = (self.night >= 0) & (self.night[one] >= 0)
        other_night = np.where(are_known, self.night != self.night[one], days >= _NIGHT_DAYS)
        return np.flatnonzero(other_night & np.isfinite(days))


@dataclass(frozen=True)
class _Skies:
    """Where the pictures of a group lie: inner normals of their edges, (N, 4, 3), and middles, (N, 3); NaN: nowhere."""

    normals: NDArray[np.float64]
    middles: NDArray[np.float64]

    @classmethod
    def of(cls, group: Sequence[Listed]) -> _Skies:
        corners = np.array([np.full((4, 3), np.nan) if one.corners is None else one.corners for one in group])
        return cls(np.cross(corners, np.roll(corners, -1, axis=1)), np.array([centre(own) for own in corners]))

    def showing(self, one: int, others: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return those others that hold the middle of one; without coordinates one field must do."""
        sides = self.normals[others] @ self.middles[one]
        shown: NDArray[np.int64] = others[(sides > 0).all(axis=1) | np.isnan(sides).any(axis=1)]
        return shown
