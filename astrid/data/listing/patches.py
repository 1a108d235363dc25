"""Which exposures are of one field: those that may show the same sky, so that no split can part them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from astropy import units
from astropy.coordinates import SkyCoord
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ..footprints import centre, overlapping
from .pictures import Listed


def find_fields(pictures: Sequence[Listed], *, tolerance_arcmin: float) -> dict[str, str]:
    """Return the field of each picture by its file.

    Two pictures are of one field if their footprints overlap; where one has no celestial coordinates, if it points to
    within the tolerance of the other's edge; where it doesn't say where it points, if the object has the same name; and
    where it says neither, if they lie in one folder. Chains of such pairs are one field.

    Parameters
    ----------
    tolerance_arcmin : float
        By how much a telescope may miss the place that its header names.
    """
    links = [*_by_footprint(pictures), *_by_pointing(pictures, tolerance_arcmin), *_by_name(pictures)]
    ends = np.array(links, dtype=np.int64).reshape(-1, 2)
    graph = coo_array((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(len(pictures), len(pictures)))
    groups = connected_components(graph, directed=False)[1]
    members: list[list[Listed]] = [[] for _ in set(groups)]
    for picture, group in zip(pictures, groups, strict=True):
        members[group].append(picture)
    names = _unique([_name(group) for group in members])
    return {picture.file: name for group, name in zip(members, names, strict=True) for picture in group}


def _by_footprint(pictures: Sequence[Listed]) -> Iterator[tuple[int, int]]:
    numbers = [number for number, picture in enumerate(pictures) if picture.corners is not None]
    root = list(range(len(numbers)))

    def find(one: int) -> int:
        while root[one] != one:
            one = root[one]
        return one

    def is_news(one: int, two: int) -> bool:
        return find(one) != find(two)

    corners = [own for picture in pictures if (own := picture.corners) is not None]
    for one, two in overlapping(corners, matters=is_news):
        root[find(two)] = find(one)
        yield numbers[one], numbers[two]


def _by_pointing(pictures: Sequence[Listed], tolerance_arcmin: float) -> Iterator[tuple[int, int]]:
    """Link each picture without a footprint to all that lie within the tolerance."""
    placed = [(number, place) for number, picture in enumerate(pictures) if (place := picture.place) is not None]
    if not placed:
        return
    places = np.stack([place for _, place in placed])
    reach = np.array([_radius(pictures[number]) for number, _ in placed]) + np.radians(tolerance_arcmin / 60)
    for number, place in placed:
        if pictures[number].corners is None:
            apart = 2 * np.arcsin(np.clip(np.linalg.norm(places - place, axis=1) / 2, 0, 1))
            yield from ((number, placed[other][0]) for other in np.flatnonzero(apart <= reach))


def _radius(picture: Listed) -> float:
    if picture.corners is None:
        return 0.0
    return float(np.arccos(np.clip((picture.corners @ centre(picture.corners)).min(), -1, 1)))


def _by_name(pictures: Sequence[Listed]) -> Iterator[tuple[int, int]]:
    """Link each picture without a place to the first of its object, or of its folder."""
    first: dict[str, int] = {}
    for number, picture in enumerate(pictures):
        first.setdefault(_told(picture), number)
    yield from ((first[_told(picture)], number) for number, picture in enumerate(pictures) if picture.place is None)


def _told(picture: Listed) -> str:
    return f"object {picture.facts.object.lower()}" if picture.facts.object else f"folder {picture.key[0]}"


def _name(group: Sequence[Listed]) -> str:
    """Name a field by its object, where all agree on one, or by its place, or by its folder."""
    objects = {picture.facts.object for picture in group}
    if len(objects) == 1 and "" not in objects:
        return objects.pop()
    places = [place for picture in group if (place := picture.place) is not None]
    return _place_name(np.mean(places, axis=0)) if places else Path(group[0].key[0]).name or "unknown"


def _place_name(place: NDArray[np.float64]) -> str:
    """Name a place as IAU designations do: `J122808.3+253343`."""
    sky = SkyCoord(*place, representation_type="cartesian")
    sky.representation_type = "unitspherical"
    ra = sky.ra.to_string(unit=units.hourangle, sep="", precision=1, pad=True)
    return f"J{ra}{sky.dec.to_string(unit=units.deg, sep='', precision=0, pad=True, alwayssign=True)}"


def _unique(names: Sequence[str]) -> list[str]:
    """Number names that occur several times: objects of one name at two places are two fields."""
    count, used = Counter(names), Counter[str]()
    unique = []
    for name in names:
        used[name] += 1
        unique.append(name if count[name] == 1 else f"{name} {used[name]}")
    return unique
