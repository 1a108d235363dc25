"""Object metrics over many fields: completeness, purity, false detections, positions, and how bright is bright enough.

Every field keeps its own counts at every threshold, so that any threshold can be judged, and fields can be resampled.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from astrid.config import RunError

from .detections import LOGIT_REACH, Detections, Flags, Floats, Indices, judge, threshold_detections
from .object_counts import ObjectCounts, resampled_counts, snr_reached

log = logging.getLogger(__name__)


def detection_thresholds(count: int) -> Floats:
    """Return `count` probabilities, evenly spaced in logit, at which to try detection."""
    return np.asarray(expit(np.linspace(-LOGIT_REACH, LOGIT_REACH, count)), dtype=np.float64)


@dataclass(frozen=True)
class _FieldTally:
    """What a field showed at T thresholds: S countable sources, detections of nothing, pixels searched."""

    snr: Floats  # (S,)
    distance_pixels: Floats  # (T, S), NaN where not found
    false_alarms: Indices  # (T,)
    valid_pixels: int


class ObjectTally:
    """Count hits, misses and false alarms at several thresholds, one field after another.

    Parameters
    ----------
    thresholds : sequence of float
        Probabilities, or positive thresholds of another response.
    min_pixels : int
        Smallest number of connected pixels that make a detection.

    Attributes
    ----------
    thresholds : (T,) float64
    """

    def __init__(self, thresholds: Sequence[float] | Floats, *, min_pixels: int) -> None:
        self.thresholds: Floats = np.asarray(thresholds, dtype=np.float64)
        self.min_pixels = min_pixels
        self._fields: list[_FieldTally] = []

    def add(
        self,
        probability: NDArray[np.floating],
        valid: Flags,
        *,
        sources_x: Floats,
        sources_y: Floats,
        snr: Floats,
        radius_pixels: float,
    ) -> None:
        """Search a field at every threshold and compare with its true sources.

        Parameters
        ----------
        probability : (H, W) floating
            Probability map; what it holds on invalid pixels has no effect.
        valid : (H, W) bool
            True = pixel that counts.
        sources_x, sources_y, snr : (S,) float64
            Positions in pixels and signal-to-noise of the sources.
        radius_pixels : float
            Largest distance between a source and its detection.
        """
        _check_finite(probability, valid)
        found = threshold_detections(probability, valid, thresholds=self.thresholds, min_pixels=self.min_pixels)
        truth = {"sources_x": sources_x, "sources_y": sources_y, "snr": snr}
        self.add_detections(found, valid, **truth, radius_pixels=radius_pixels)

    def add_detections(
        self,
        detections: Sequence[Detections],
        valid: Flags,
        *,
        sources_x: Floats,
        sources_y: Floats,
        snr: Floats,
        radius_pixels: float,
    ) -> None:
        """Compare what somebody else detected at each threshold with the true sources; arguments as in `add`."""
        where = {"sources_x": sources_x, "sources_y": sources_y}
        verdicts = [judge(found, valid, **where, radius_pixels=radius_pixels) for found in detections]
        countable = verdicts[0].countable
        self._fields.append(
            _FieldTally(
                snr=snr[countable],
                distance_pixels=np.stack([verdict.distance_pixels[countable] for verdict in verdicts]),
                false_alarms=np.array([int(verdict.false_alarm.sum()) for verdict in verdicts]),
                valid_pixels=int(valid.sum()),
            )
        )

    @property
    def hits(self) -> Indices:
        """Countable sources with a detection at each threshold, (T,) int64."""
        found = [np.isfinite(field.distance_pixels).sum(axis=1) for field in self._fields]
        return np.asarray(np.sum([self._nothing, *found], axis=0))

    @property
    def misses(self) -> Indices:
        """Countable sources without a detection at each threshold, (T,) int64."""
        return sum(len(field.snr) for field in self._fields) - self.hits

    @property
    def false_alarms(self) -> Indices:
        """Detections of nothing at each threshold, (T,) int64."""
        return np.asarray(np.sum([self._nothing, *(field.false_alarms for field in self._fields)], axis=0))

    @property
    def valid_pixels(self) -> int:
        """Pixels that were searched."""
        return sum(field.valid_pixels for field in self._fields)

    @property
    def hits_by_field(self) -> Indices:
        """Countable sources of each field with a detection at each threshold, (F, T) int64."""
        return np.array([np.isfinite(field.distance_pixels).sum(axis=1) for field in self._fields], dtype=np.int64)

    @property
    def false_alarms_by_field(self) -> Indices:
        """Detections of nothing in each field at each threshold, (F, T) int64."""
        return np.array([field.false_alarms for field in self._fields], dtype=np.int64)

    @property
    def sources_by_field(self) -> Indices:
        """Countable sources of each field, (F,) int64."""
        return np.array([len(field.snr) for field in self._fields], dtype=np.int64)

    @property
    def valid_pixels_by_field(self) -> Indices:
        """Pixels of each field that were searched, (F,) int64."""
        return np.array([field.valid_pixels for field in self._fields], dtype=np.int64)

    @property
    def _nothing(self) -> Indices:
        return np.zeros(len(self.thresholds), dtype=np.int64)

    def best_threshold(self) -> float | None:
        """Return the threshold of greatest object F1, the middle one among equals; undefined without sources."""
        hits, misses = self.hits, self.misses
        if not (hits + misses).any():
            return None
        f1 = 2 * hits / (2 * hits + misses + self.false_alarms)
        best = np.flatnonzero(f1 == f1.max())
        return float(self.thresholds[best[len(best) // 2]])

    def threshold_for(self, false_alarms: int) -> float | None:
        """Return the threshold of most hits among those with at most so many false alarms; None where there is none.

        The strictest of equals. A laxer threshold need not make more false alarms, since groups merge.
        """
        allowed = self.false_alarms <= false_alarms
        if not allowed.any():
            return None
        most = self.hits == self.hits[allowed].max()
        return float(self.thresholds[allowed & most].max())

    def index(self, threshold: float) -> int:
        """Return the position of a threshold among those tallied."""
        places = np.flatnonzero(self.thresholds == threshold)
        if not places.size:
            raise ValueError(f"threshold must be one of those tallied, {self.thresholds.tolist()}, got {threshold}")
        return int(places[0])

    def at(self, threshold: float) -> ObjectCounts:
        """Return what each field showed at one of the thresholds."""
        at, fields = self.index(threshold), self._fields
        rows = [
            (np.isfinite(field.distance_pixels[at]).sum(), len(field.snr), field.false_alarms[at]) for field in fields
        ]
        hits, sources, false_alarms = np.array(rows, dtype=np.int64).reshape(-1, 3).T
        return ObjectCounts(
            counts=np.stack([hits, sources - hits, false_alarms], axis=1),
            valid_pixels=np.array([field.valid_pixels for field in fields], dtype=np.int64),
            field=np.repeat(np.arange(len(fields)), sources),
            snr=np.concatenate([np.zeros(0), *(field.snr for field in fields)]),
            distance_pixels=np.concatenate([np.zeros(0), *(field.distance_pixels[at] for field in fields)]),
        )


def object_metrics(tally: ObjectTally, *, threshold: float, announce: bool = True) -> dict[str, float]:
    """Return every object metric; the undefined are absent, and the log says so.

    Parameters
    ----------
    tally : ObjectTally
    threshold : float
        One of the tally's thresholds.
    announce : bool
        Whether to log what is undefined.

    Returns
    -------
    dict of str to float
        completeness, purity, false_per_mpix (false detections per million valid pixels), centroid_error_pixels (mean
        distance between source and detection), snr50 and snr90 (signal-to-noise at which half and 90 % of the sources
        are found), detection_threshold.
    """
    counts = tally.at(threshold)
    once = np.ones((1, len(counts.valid_pixels)))
    scores = {name: float(values[0]) for name, values in resampled_counts(counts, once).items()}
    scores |= snr_reached(counts)
    missing = [name for name, score in scores.items() if not np.isfinite(score)]
    if missing and announce:
        hits, misses, false_alarms = counts.counts.sum(axis=0)
        said = f"{hits} hits, {misses} misses, {false_alarms} false alarms on {tally.valid_pixels} valid pixels"
        log.warning("undefined at threshold %g and left out, with %s: %s", threshold, said, ", ".join(missing))
    found = {name: score for name, score in scores.items() if name not in missing}
    return found | {"detection_threshold": threshold}


def _check_finite(probability: NDArray[np.floating], valid: Flags) -> None:
    broken = int((valid & ~np.isfinite(probability)).sum())
    if broken:
        remedy = "try a smaller optimizer.lr or training.precision=fp32"
        raise RunError(f"probabilities must be finite on valid pixels, got {broken} that are not; {remedy}")
