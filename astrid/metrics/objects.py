"""Object metrics over many fields: completeness, purity, false detections, and how bright a source has to be."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from astrid.config import RunError

from .detections import Flags, Floats, Indices, Verdict, find_detections, judge

log = logging.getLogger(__name__)

LOGIT_REACH = 6.0
"""Detection thresholds are tried from -6 to +6 in logit, that is from 0.0025 to 0.9975 in probability."""


def detection_thresholds(count: int) -> Floats:
    """Return `count` probabilities, evenly spaced in logit, at which to try detection."""
    return np.asarray(expit(np.linspace(-LOGIT_REACH, LOGIT_REACH, count)), dtype=np.float64)


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
    hits, misses, false_alarms : (T,) int64
        Countable sources with and without a detection, and detections of nothing.
    valid_pixels : int
        Pixels that were searched.
    """

    def __init__(self, thresholds: Sequence[float] | Floats, *, min_pixels: int) -> None:
        self.thresholds: Floats = np.asarray(thresholds, dtype=np.float64)
        self.min_pixels = min_pixels
        self.hits: Indices = np.zeros(len(self.thresholds), dtype=np.int64)
        self.misses: Indices = self.hits.copy()
        self.false_alarms: Indices = self.hits.copy()
        self.valid_pixels = 0
        self._snr: list[Floats] = []
        self._found: list[Flags] = []

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
        verdicts: list[Verdict] = []
        for threshold in self.thresholds:
            detections = find_detections(probability, valid, threshold=threshold, min_pixels=self.min_pixels)
            position = {"sources_x": sources_x, "sources_y": sources_y}
            verdicts.append(judge(detections, valid, **position, radius_pixels=radius_pixels))
        countable = verdicts[0].countable
        found = np.stack([verdict.found[countable] for verdict in verdicts])
        self.hits += found.sum(axis=1)
        self.misses += (~found).sum(axis=1)
        self.false_alarms += [int(verdict.false_alarm.sum()) for verdict in verdicts]
        self.valid_pixels += int(valid.sum())
        self._snr.append(snr[countable])
        self._found.append(found)

    def best_threshold(self) -> float | None:
        """Return the threshold of greatest object F1, the middle one among equals; undefined without sources."""
        if self.hits[0] + self.misses[0] == 0:
            return None
        f1 = 2 * self.hits / (2 * self.hits + self.misses + self.false_alarms)
        best = np.flatnonzero(f1 == f1.max())
        return float(self.thresholds[best[len(best) // 2]])

    def index(self, threshold: float) -> int:
        """Return the position of a threshold among those tallied."""
        places = np.flatnonzero(self.thresholds == threshold)
        if not places.size:
            raise ValueError(f"threshold must be one of those tallied, {self.thresholds.tolist()}, got {threshold}")
        return int(places[0])

    def sources(self, threshold: float) -> tuple[Floats, Flags]:
        """Return signal-to-noise of every countable source and whether it was found, both (N,)."""
        found = [field[self.index(threshold)] for field in self._found]
        return np.concatenate([[], *self._snr]), np.concatenate([np.zeros(0, dtype=bool), *found])


@dataclass(frozen=True)
class SnrCompleteness:
    """Completeness by signal-to-noise.

    Attributes
    ----------
    edges : (B + 1,) float64
        Edges of the bins of signal-to-noise, evenly spaced in its logarithm.
    found, total : (B,) int64
        Sources found, and all sources, in each bin.
    """

    edges: Floats
    found: Indices
    total: Indices


def completeness_by_snr(tally: ObjectTally, *, threshold: float, bins: int = 10) -> SnrCompleteness | None:
    """Count found and all sources in logarithmic bins of signal-to-noise; undefined without sources of positive SNR."""
    snr, found = tally.sources(threshold)
    snr, found = snr[snr > 0], found[snr > 0]
    if not snr.size:
        return None
    edges = np.geomspace(snr.min(), snr.max() * (1 + 1e-9), bins + 1)
    total, _ = np.histogram(snr, bins=edges)
    hits, _ = np.histogram(snr[found], bins=edges)
    return SnrCompleteness(edges=edges, found=hits.astype(np.int64), total=total.astype(np.int64))


def fit_snr50(snr: Floats, found: Flags) -> float | None:
    """Return the signal-to-noise at which half of the sources are found, by logistic regression on its logarithm.

    Undefined unless some sources are found and some missed, completeness rises with signal-to-noise, and the answer
    lies within the range of the sources.

    Parameters
    ----------
    snr : (N,) float64
    found : (N,) bool
    """
    log_snr, found = np.log(snr[snr > 0]), found[snr > 0]
    if found.all() or not found.any() or np.ptp(log_snr) == 0:
        return None
    centre, scale = log_snr.mean(), log_snr.std()
    offset, slope = _fit_logistic((log_snr - centre) / scale, found)
    if slope <= 0:
        return None
    half = centre - scale * offset / slope
    return float(np.exp(half)) if log_snr.min() <= half <= log_snr.max() else None


def object_metrics(tally: ObjectTally, *, threshold: float) -> dict[str, float]:
    """Return every object metric; the undefined are absent, and the log says so.

    Parameters
    ----------
    tally : ObjectTally
    threshold : float
        One of the tally's thresholds.

    Returns
    -------
    dict of str to float
        completeness, purity, false_per_mpix (false detections per million valid pixels), snr50, detection_threshold.
    """
    at = tally.index(threshold)
    hits, misses, false_alarms = int(tally.hits[at]), int(tally.misses[at]), int(tally.false_alarms[at])
    scores = {
        "completeness": hits / (hits + misses) if hits + misses else None,
        "purity": hits / (hits + false_alarms) if hits + false_alarms else None,
        "false_per_mpix": false_alarms / tally.valid_pixels * 1e6 if tally.valid_pixels else None,
        "snr50": fit_snr50(*tally.sources(threshold)),
        "detection_threshold": threshold,
    }
    missing = [name for name, score in scores.items() if score is None]
    if missing:
        counts = f"{hits} hits, {misses} misses, {false_alarms} false alarms on {tally.valid_pixels} valid pixels"
        log.warning("undefined at threshold %g and left out, with %s: %s", threshold, counts, ", ".join(missing))
    return {name: score for name, score in scores.items() if score is not None}


def _check_finite(probability: NDArray[np.floating], valid: Flags) -> None:
    broken = int((valid & ~np.isfinite(probability)).sum())
    if broken:
        remedy = "try a smaller optimizer.lr or training.precision=fp32"
        raise RunError(f"probabilities must be finite on valid pixels, got {broken} that are not; {remedy}")


def _fit_logistic(x: Floats, y: Flags) -> tuple[float, float]:
    """Fit offset and slope of a logistic curve by maximum likelihood.

    The slope is held back a little, or it would run away where the found and the missed don't overlap.
    """
    sign = np.where(y, 1.0, -1.0)

    def loss(parameters: Floats) -> tuple[float, Floats]:
        offset, slope = parameters
        margin = sign * (offset + slope * x)
        pull = -sign * expit(-margin)
        value = np.logaddexp(0, -margin).sum() + 1e-3 * slope**2
        return float(value), np.array([pull.sum(), pull @ x + 2e-3 * slope])

    offset, slope = minimize(loss, np.array([0.0, 1.0]), jac=True, method="BFGS").x
    return float(offset), float(slope)
