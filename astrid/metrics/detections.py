"""Detections in a probability map, and which of the true sources they are.

Coordinates are pixels, 0-based, with pixel centres at integers; x is the column, y the row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from .grouping import BrightPixels

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Flags = NDArray[np.bool_]


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
    """

    x: Floats
    y: Floats
    score: Floats
    pixels: Indices


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
        Source whose centre is on a valid pixel of the field.
    found : (S,) bool
        Countable source that has a detection; a countable one that has none is a miss.
    distance_pixels : (S,) float64
        How far its detection lies from a found source; NaN for the others.
    false_alarm : (D,) bool
        Detection of nothing. One that is neither this nor matched belongs to a source that doesn't count.
    """

    countable: Flags
    found: Flags
    distance_pixels: Floats
    false_alarm: Flags


def find_detections(
    probability: NDArray[np.floating], valid: Flags, *, threshold: float, min_pixels: int
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
    """
    return threshold_detections(probability, valid, thresholds=[threshold], min_pixels=min_pixels)[0]


def threshold_detections(
    response: NDArray[np.floating], valid: Flags, *, thresholds: Sequence[float] | Floats, min_pixels: int
) -> list[Detections]:
    """Return what `find_detections` does for each of several thresholds, for little more than the price of one."""
    lowest = min(thresholds)
    if not lowest > 0:
        raise ValueError(f"threshold must be positive, got {lowest}")
    bright = BrightPixels(response, valid, lowest=lowest)
    return [_measure(bright, threshold, min_pixels=min_pixels) for threshold in thresholds]


def _measure(bright: BrightPixels, threshold: float, *, min_pixels: int) -> Detections:
    group, found = bright.groups(threshold)
    rows, columns, weight = (part[: len(group)] for part in (bright.rows, bright.columns, bright.response))
    pixels = np.bincount(group, minlength=found)
    total, x, y = (np.bincount(group, weights=w, minlength=found) for w in (weight, weight * columns, weight * rows))
    score = np.zeros(found)
    np.maximum.at(score, group, weight)
    kept = pixels >= min_pixels
    return Detections(x=(x / total)[kept], y=(y / total)[kept], score=score[kept], pixels=pixels[kept])


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
    distance = _distances(detections, sources_x=sources_x, sources_y=sources_y)
    near = distance <= radius_pixels
    rows, columns = np.flatnonzero(near.any(axis=1)), np.flatnonzero(near.any(axis=0))
    # Dearer than any sum of allowed distances, so that one more pair within the radius always wins.
    forbidden = (min(len(rows), len(columns)) + 1) * radius_pixels
    cost = np.where(near, distance, forbidden)[np.ix_(rows, columns)]
    row, column = linear_sum_assignment(cost)
    detection, source = rows[row], columns[column]
    allowed = near[detection, source]
    detection, source = detection[allowed], source[allowed]
    return Matches(detection=detection, source=source, distance_pixels=distance[detection, source])


def judge(
    detections: Detections, valid: Flags, *, sources_x: Floats, sources_y: Floats, radius_pixels: float
) -> Verdict:
    """Tell hits, misses and false alarms apart.

    A source whose centre is on an invalid pixel or outside the field is neither found nor missed, and a detection
    within the radius of such a source is no false alarm. Countable sources choose their detections first.

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
    pairs = match(
        detections, sources_x=sources_x[countable], sources_y=sources_y[countable], radius_pixels=radius_pixels
    )
    separation = np.full(len(sources_x), np.nan)
    separation[np.flatnonzero(countable)[pairs.source]] = pairs.distance_pixels
    distance = _distances(detections, sources_x=sources_x[~countable], sources_y=sources_y[~countable])
    false_alarm = np.min(distance, axis=1, initial=np.inf) > radius_pixels
    false_alarm[pairs.detection] = False
    return Verdict(countable, found=np.isfinite(separation), distance_pixels=separation, false_alarm=false_alarm)


def _distances(detections: Detections, *, sources_x: Floats, sources_y: Floats) -> Floats:
    """Return the distance in pixels between every detection and every source, (D, S)."""
    return np.hypot(detections.x[:, None] - sources_x, detections.y[:, None] - sources_y)


def _on_valid_pixel(valid: Flags, *, x: Floats, y: Floats) -> Flags:
    row, column = np.floor(y + 0.5), np.floor(x + 0.5)  # pixel 0 spans -0.5 to 0.5
    height, width = valid.shape
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    countable = np.zeros(len(x), dtype=bool)
    countable[inside] = valid[row[inside].astype(np.int64), column[inside].astype(np.int64)]
    return countable
