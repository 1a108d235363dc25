"""Where frames lie on the sky, and which of them overlap."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from astropy.wcs import WCS
from numpy.typing import NDArray

from .quality.astrometry import BROKEN_WCS
from .rows import Section

_TOUCHING = 1e-9  # radians: footprints that share an edge don't overlap


def footprint(wcs: WCS, part: Section) -> NDArray[np.float64] | None:
    """Return the (4, 3) unit vectors of the corners of a part of a frame, in the order of its edge, anticlockwise.

    None where the coordinates aren't finite there, or can't be brought to ICRS, as of an unknown RADESYS.
    """
    x = np.array([part.x1 - 1.5, part.x2 - 0.5, part.x2 - 0.5, part.x1 - 1.5])
    y = np.array([part.y1 - 1.5, part.y1 - 1.5, part.y2 - 0.5, part.y2 - 0.5])
    try:
        corners = np.asarray(wcs.pixel_to_world(x, y).icrs.cartesian.xyz.value.T, dtype=np.float64)
    except BROKEN_WCS:
        return None
    if not np.isfinite(corners).all():
        return None
    anticlockwise = np.dot(np.cross(corners[0], corners[1]), corners.mean(axis=0)) > 0
    return corners if anticlockwise else corners[::-1]


def centre(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the (3,) unit vector of the middle of a footprint."""
    middle = corners.mean(axis=0)
    return np.asarray(middle / np.linalg.norm(middle))


def overlapping(
    footprints: Sequence[NDArray[np.float64]], *, matters: Callable[[int, int], bool]
) -> Iterator[tuple[int, int]]:
    """Yield the numbers of each two footprints that overlap, the smaller first, of those pairs that matter."""
    if not footprints:
        return
    centres = np.stack([centre(corners) for corners in footprints])
    cosines = [(corners @ middle).min() for corners, middle in zip(footprints, centres, strict=True)]
    radii = np.arccos(np.clip(cosines, -1.0, 1.0))
    for index, polygon in enumerate(footprints):
        near = centres @ centres[index] >= np.cos(np.minimum(radii + radii[index], np.pi))
        for other in np.flatnonzero(near[:index]).tolist():
            if matters(other, index) and _overlap(polygon, footprints[other]):
                yield other, index


def _overlap(one: NDArray[np.float64], two: NDArray[np.float64]) -> bool:
    """Tell whether two convex polygons on the sphere overlap: unless an edge parts them, they do."""
    return not (_has_separating_edge(one, two) or _has_separating_edge(two, one))


def _has_separating_edge(polygon: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    normals = np.cross(polygon, np.roll(polygon, -1, axis=0))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return bool(((other @ normals.T) < _TOUCHING).all(axis=0).any())
