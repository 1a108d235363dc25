"""Detections in a probability map, and which of the true sources they are.

Coordinates are pixels, 0-based, with pixel centres at integers; x is the column, y the row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.spatial import KDTree
from scipy.special import expit

from .grouping import BrightPixels

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Flags = NDArray[np.bool_]

LOGIT_REACH = 6.0
"""Detection thresholds are tried from -6 to +6 in logit, that is from 0.0025 to 0.9975 in probability."""
FLOOR = float(expit(-LOGIT_REACH))
"""Probability above which peaks are told apart, whatever the threshold: so no threshold changes what another finds."""
LEAST_SEEN = 0.55
"""Share of the pixels within the match radius that must be valid for a source to count: it is not on the brink."""


@dataclass(frozen=True)
class Detections:
    """Connected groups of pixels above a threshold; a group of several peaks is several.

    Attributes
    ----------
    x, y : (D,) float64
        Centroid, weighted by probability.
    score : (D,) float64
        Highest probability in the group.
    pixels : (D,) int64
        Size of the group.
    beside_invalid : (D,) bool
        Whether an invalid pixel touches the group.
    """

    x: Floats
    y: Floats
    score: Floats
    pixels: Indices
    beside_invalid: Flags


@dataclass(frozen=True)
class Matches:
    """Pairs of a detection and a source, by rising index of the detection.

    Attributes
    ----------
    detection, source : (M,) int64
        Their indices; none occurs twice.
    distance_pixels : (M,) float64
        How far apart they are.
    """

    detection: Indices
    source: Indices
    distance_pixels: Floats


@dataclass(frozen=True)
class Verdict:
    """What a field's detections are.

    Attributes
    ----------
    countable : (S,) bool
        Source whose centre is on a valid pixel of the field, as are most pixels around it.
    found : (S,) bool
        Countable source that has a detection; a countable one that has none is a miss.
    distance_pixels : (S,) float64
        How far its detection lies from a found source; NaN for the others.
    false_alarm : (D,) bool
        Detection of nothing. One that is neither this nor matched belongs to a source that doesn't count, or is a part
        of a found one that invalid pixels cut off.
    """

    countable: Flags
    found: Flags
    distance_pixels: Floats
    false_alarm: Flags


def find_detections(
    probability: NDArray[np.floating], valid: Flags, *, threshold: float, min_pixels: int, floor: float = FLOOR
) -> Detections:
    """Group the valid pixels at or above a threshold that touch each other, corners included, and split them by peaks.

    Parameters
    ----------
    probability : (H, W) floating
        Probability map, or any other response; what it holds on invalid pixels has no effect.
    valid : (H, W) bool
        True = pixel that counts. Invalid pixels belong to no detection.
    threshold : float
        Positive, since the response above it weights the centroid.
    min_pixels : int
        Smaller groups are dropped.
    floor : float
        Least response in which peaks are told apart, at most the threshold; the default suits probabilities.
    """
    return threshold_detections(probability, valid, thresholds=[threshold], min_pixels=min_pixels, floor=floor)[0]


def threshold_detections(
    response: NDArray[np.floating],
    valid: Flags,
    *,
    thresholds: Sequence[float] | Floats,
    min_pixels: int,
    floor: float = FLOOR,
) -> list[Detections]:
    """Return what `find_detections` does for each of several thresholds, for little more than the price of one."""
    lowest = min(thresholds)
    if not lowest >= floor > 0:
        raise ValueError(f"threshold must be positive and at least the floor of {floor:g}, got {lowest}")
    bright = BrightPixels(response, valid, lowest=floor)
    return [_measure(bright, threshold, min_pixels=min_pixels) for threshold in thresholds]


def _measure(bright: BrightPixels, threshold: float, *, min_pixels: int) -> Detections:
    group, found = bright.groups(threshold)
    rows, columns, weight = (part[: len(group)] for part in (bright.rows, bright.columns, bright.response))
    pixels = np.bincount(group, minlength=found)
    total, x, y = (np.bincount(group, weights=w, minlength=found) for w in (weight, weight * columns, weight * rows))
    beside_invalid = np.bincount(group, weights=bright.beside_invalid[: len(group)], minlength=found) > 0
    score = np.zeros(found)
    np.maximum.at(score, group, weight)
    kept = pixels >= min_pixels
    return Detections((x / total)[kept], (y / total)[kept], score[kept], pixels[kept], beside_invalid[kept])


def match(detections: Detections, *, sources_x: Floats, sources_y: Floats, radius_pixels: float) -> Matches:
    """Pair detections with sources one to one: as many pairs within the radius as possible, then the closest.

    Parameters
    ----------
    detections : Detections
    sources_x, sources_y : (S,) float64
        Positions of the sources.
    radius_pixels : float
        Largest distance of a pair, positive.
    """
    if not radius_pixels > 0:
        raise ValueError(f"radius_pixels must be positive, got {radius_pixels}")
    near = _pairs_within(radius_pixels, detections, x=sources_x, y=sources_y)
    rows, row = np.unique(near["i"], return_inverse=True)
    columns, column = np.unique(near["j"], return_inverse=True)
    # Dearer than any sum of allowed distances, so that one more pair within the radius always wins.
    forbidden = (min(len(rows), len(columns)) + 1) * radius_pixels
    cost = np.full((len(rows), len(columns)), forbidden)
    cost[row, column] = near["v"]
    row, column = linear_sum_assignment(cost)
    allowed = cost[row, column] <= radius_pixels
    row, column = row[allowed], column[allowed]
    return Matches(detection=rows[row], source=columns[column], distance_pixels=cost[row, column])


def judge(
    detections: Detections, valid: Flags, *, sources_x: Floats, sources_y: Floats, radius_pixels: float
) -> Verdict:
    """Tell hits, misses and false alarms apart.

    A source whose centre is on an invalid pixel or outside the field, or of whose surroundings too little is seen, is
    neither found nor missed, and a detection within the radius of such a source is no false alarm. Countable sources
    choose their detections first. What else lies within the radius of a found source and touches invalid pixels is no
    false alarm either: a bad column cuts a source in two.

    Parameters
    ----------
    detections : Detections
    valid : (H, W) bool
        True = pixel that counts.
    sources_x, sources_y : (S,) float64
        Positions of the sources.
    radius_pixels : float
        Largest distance between a source and its detection.
    """
    countable = _on_valid_pixel(valid, x=sources_x, y=sources_y)
    countable &= _seen_share(valid, x=sources_x, y=sources_y, radius_pixels=radius_pixels) >= LEAST_SEEN
    pairs = match(
        detections, sources_x=sources_x[countable], sources_y=sources_y[countable], radius_pixels=radius_pixels
    )
    separation = np.full(len(sources_x), np.nan)
    separation[np.flatnonzero(countable)[pairs.source]] = pairs.distance_pixels
    found = np.isfinite(separation)
    excused = _is_near(radius_pixels, detections, x=sources_x[~countable], y=sources_y[~countable])
    excused |= detections.beside_invalid & _is_near(radius_pixels, detections, x=sources_x[found], y=sources_y[found])
    excused[pairs.detection] = True
    return Verdict(countable, found=found, distance_pixels=separation, false_alarm=~excused)


def _pairs_within(radius_pixels: float, detections: Detections, *, x: Floats, y: Floats) -> NDArray[np.void]:
    """Return the pairs of a detection `i` and a source `j` within the radius, and their distance `v`, (P,) records."""
    spots, sources = (KDTree(np.stack(one, axis=1)) for one in ((detections.x, detections.y), (x, y)))
    return np.asarray(spots.sparse_distance_matrix(sources, radius_pixels, output_type="ndarray"))


def _is_near(radius_pixels: float, detections: Detections, *, x: Floats, y: Floats) -> Flags:
    """Tell which detections have a source within the radius, (D,)."""
    near: Flags = np.zeros(len(detections.x), dtype=bool)
    near[_pairs_within(radius_pixels, detections, x=x, y=y)["i"]] = True
    return near


def _seen_share(valid: Flags, *, x: Floats, y: Floats, radius_pixels: float) -> Floats:
    """Return how many of the pixels within the radius of each source are valid ones of the field, as a share, (S,)."""
    reach = int(np.ceil(radius_pixels)) + 1
    step_y, step_x = (step.ravel() for step in np.mgrid[-reach : reach + 1, -reach : reach + 1])
    rows, columns = np.floor(y + 0.5)[:, None] + step_y, np.floor(x + 0.5)[:, None] + step_x
    within = np.hypot(rows - y[:, None], columns - x[:, None]) <= max(radius_pixels, 1.0)
    flat = _on_valid_pixel(valid, x=columns.ravel(), y=rows.ravel()).reshape(within.shape)
    return np.asarray((flat & within).sum(axis=1) / within.sum(axis=1), dtype=np.float64)


def _on_valid_pixel(valid: Flags, *, x: Floats, y: Floats) -> Flags:
    row, column = np.floor(y + 0.5), np.floor(x + 0.5)  # pixel 0 spans -0.5 to 0.5
    height, width = valid.shape
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    countable = np.zeros(len(x), dtype=bool)
    countable[inside] = valid[row[inside].astype(np.int64), column[inside].astype(np.int64)]
    return countable
