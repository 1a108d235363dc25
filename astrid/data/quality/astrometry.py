"""Where the sources of exposures are on the sky, and how far the exposures of a set disagree about that."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from astropy.wcs import WCS
from astropy.wcs.utils import proj_plane_pixel_area
from numpy.typing import NDArray
from scipy.spatial import KDTree

from astrid.config import DataError

from ..coordinates import unusable_number
from ..damage import DAMAGE
from ..reduction.align import match_stars

_ARCSEC = 3600.0
_AXES = 2
_TOLERANCE_PIXELS = 1.5
"""Distance within which two places count as the same source, once a common shift is taken out."""
_SAME_SCALE = 0.02
"""Change of scale and turn, beyond which a match was by chance: both places are on the sky already."""
PARTNERS = 10
"""Exposures that each one is compared with, where so many show its place."""
_MOSTLY_SHARED = 0.5
"""Distance of two exposures' middles, in units of the field's radius, within which they share most of their sources."""
_CELESTIAL = ("RA--", "DEC-", "GLON", "GLAT", "ELON", "ELAT")
"""How the types of celestial axes begin."""
BROKEN_WCS = (ValueError, ArithmeticError, TypeError, AttributeError, RuntimeError, np.linalg.LinAlgError)
"""What wcslib and astropy were seen to raise for coordinates that can be read but not computed."""


def pixel_arcsec(wcs: WCS | None) -> float | None:
    """Return the edge of a square of a pixel's area on the sky, or None where there is none that makes sense."""
    if wcs is None:
        return None
    try:
        edge = math.sqrt(float(proj_plane_pixel_area(wcs))) * _ARCSEC
    except BROKEN_WCS:
        return None
    return edge if math.isfinite(edge) and edge > 0 else None


def remarks_on(header: Mapping[str, Any], wcs: WCS | None) -> tuple[str, ...]:
    """Say what is wrong with celestial coordinates that a header has but that can't be read or computed.

    Parameters
    ----------
    header : Header
        Of the image.
    wcs : WCS or None
        What was read of it.
    """
    named = [str(header.get(keyword, "")) for keyword in ("CTYPE1", "CTYPE2")]
    if not any(name.startswith(_CELESTIAL) for name in named):
        return ()
    reason = _why_unread(header) if wcs is None else "a pixel has no size" if pixel_arcsec(wcs) is None else ""
    told = f"its celestial coordinates ({', '.join(named)}) are there but can't be used: {reason}"
    return (f"{told}; solve them anew, or take their keywords out",) if reason else ()


def _why_unread(header: Mapping[str, Any]) -> str:
    if reason := unusable_number(header):
        return reason
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            wcs = WCS(header)
            if not wcs.has_celestial:
                return "only one of the two axes is on the sky"
            is_flat = np.linalg.matrix_rank(wcs.celestial.pixel_scale_matrix) < _AXES
            return (
                "their matrix (CD, or PC and CDELT) is singular" if is_flat else "a pixel is too wide for a telescope"
            )
    except DAMAGE as error:
        return (str(error).strip().splitlines() or [type(error).__name__])[-1]  # wcslib says the cause last


def sky_places(wcs: WCS | None, places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return right ascension and declination, (N, 2) degrees, of 0-based pixels (N, 2), if they make sense."""
    nowhere = np.zeros((0, 2))
    if wcs is None or len(places) == 0:
        return nowhere
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            sky = np.column_stack(wcs.pixel_to_world_values(*places.T)).astype(np.float64)
    except BROKEN_WCS:
        return nowhere
    return sky[np.isfinite(sky).all(axis=1)]


def tangent_plane(sky: NDArray[np.float64], centre: NDArray[np.float64]) -> NDArray[np.float64]:
    """Project places on the sky, (N, 2) degrees, onto the plane that touches it at a centre, (N, 2) arcseconds.

    Places more than 90 degrees away are NaN.

    References
    ----------
    Calabretta and Greisen 2002, A&A 395, 1077, doi:10.1051/0004-6361:20021327 (section 5.1.3, gnomonic)
    """
    ra, dec = np.radians(sky).T
    ra0, dec0 = np.radians(centre)
    cosine = np.sin(dec0) * np.sin(dec) + np.cos(dec0) * np.cos(dec) * np.cos(ra - ra0)
    cosine = np.where(cosine > 0, cosine, np.nan)
    xi = np.cos(dec) * np.sin(ra - ra0) / cosine
    eta = (np.cos(dec0) * np.sin(dec) - np.sin(dec0) * np.cos(dec) * np.cos(ra - ra0)) / cosine
    return np.asarray(np.degrees(np.column_stack([xi, eta])) * _ARCSEC)


def residual_arcsec(here: NDArray[np.float64], there: NDArray[np.float64], *, pixel: float) -> float | None:
    """Return how far two exposures disagree about where the same sources are, rms in arcseconds; None if none match.

    Parameters
    ----------
    here, there : (N, 2) float64
        Right ascension and declination of their sources, in degrees.
    pixel : float
        Edge of a pixel in arcseconds.
    """
    if min(len(here), len(there)) == 0:
        return None
    centre = here[0]
    planes = [tangent_plane(sky, centre) / pixel for sky in (here, there)]
    planes = [plane[np.isfinite(plane).all(axis=1)] for plane in planes]
    if not _overlap(*planes):
        return None
    try:
        match = match_stars(*planes, tolerance_pixels=_TOLERANCE_PIXELS)
    except DataError:  # too few sources in common
        return None
    if abs(match.factor - 1) > _SAME_SCALE:
        return None
    x, y = planes[0].T
    moved = np.hypot(*(after - before for after, before in zip(match(x, y), (x, y), strict=True)))
    return float(math.hypot(np.sqrt(np.mean(moved**2)), match.rms_pixels)) * pixel


def _overlap(here: NDArray[np.float64], there: NDArray[np.float64]) -> bool:
    """Tell whether the boxes around places in a plane share a point."""
    if min(len(here), len(there)) == 0:
        return False
    return bool(np.all(here.min(axis=0) <= there.max(axis=0)) and np.all(there.min(axis=0) <= here.max(axis=0)))


def residuals(places: Sequence[NDArray[np.float64]], pixels: Sequence[float | None]) -> list[float | None]:
    """Return for each exposure the median of its residuals against some others of its place, in its own pixels.

    The median is that of the exposure itself as soon as most of the others are right; of two that disagree, nobody can
    say which is wrong, and both have the residual.

    Parameters
    ----------
    places : sequence of (N, 2) float64
        Sources of each exposure, right ascension and declination in degrees; at least one.
    pixels : sequence of float or None
        Edge of a pixel of each exposure in arcseconds.
    """
    found: list[list[float]] = [[] for _ in places]
    for one, other in partners(places):
        pixel = pixels[one]
        residual = None if pixel is None else residual_arcsec(places[one], places[other], pixel=pixel)
        if residual is not None:
            found[one].append(residual)
            found[other].append(residual)
    return [
        float(np.median(own)) / pixel if own and pixel is not None else None
        for own, pixel in zip(found, pixels, strict=True)
    ]


def partners(places: Sequence[NDArray[np.float64]]) -> Iterator[tuple[int, int]]:
    """Yield the numbers of each two exposures that are to be compared, the same ones for the same set.

    Each has `PARTNERS` where it can, and hardly more: at random among those that show mostly the same, so that the
    nights of a field are told from each other, those with the fewest partners first; where these are too few, also the
    nearest of the others.

    Parameters
    ----------
    places : sequence of (N, 2) float64
        As in `residuals`.
    """
    if not places:
        return
    middles, radii = (np.array(column) for column in zip(*map(_extent, places), strict=True))
    tree, taken = KDTree(middles), [set[int]() for _ in places]
    rank = np.random.default_rng(0).permutation(len(places))  # raised with each partner, so that these decide first
    for one in range(len(places)):
        near = np.array(tree.query_ball_point(middles[one], _MOSTLY_SHARED * radii[one]))
        alike = _lowest(near, rank, count=PARTNERS + len(taken[one]) + 1)
        reach = radii[one] + radii.max()
        distances, nearest = tree.query(middles[one], k=min(PARTNERS + 1, len(places)), distance_upper_bound=reach)
        others = np.atleast_1d(nearest)[np.isfinite(np.atleast_1d(distances))].tolist()
        new = [other for other in dict.fromkeys([*alike, *others]) if other != one and other not in taken[one]]
        for other in new[: max(0, PARTNERS - len(taken[one]))]:
            taken[one].add(other)
            taken[other].add(one)
            rank[[one, other]] += len(places)
            yield min(one, other), max(one, other)


def _lowest(numbers: NDArray[np.int64], rank: NDArray[np.int64], *, count: int) -> list[int]:
    """Return so many of some numbers, those of the lowest rank first."""
    if len(numbers) > count:
        numbers = numbers[np.argpartition(rank[numbers], count)[:count]]
    return numbers[np.argsort(rank[numbers])].tolist()  # type: ignore[no-any-return]


def _extent(sky: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Return the unit vector of the middle of places on the sky, (N, 2) degrees, and how far they reach from it."""
    ra, dec = np.radians(sky).T
    vectors = np.column_stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)])
    middle = vectors.mean(axis=0)
    return middle, float(np.linalg.norm(vectors - middle, axis=1).max())
