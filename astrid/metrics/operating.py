"""Operating points: thresholds chosen on validation for a target, and what they come to elsewhere."""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import NDArray

from astrid.config import MetricsConfig, OperatingKind

from .chosen import OperatingPoint
from .confusion import best_f1_threshold, class_metrics, confusion
from .histogram import PixelHistogram
from .objects import ObjectTally
from .ranking import threshold_at_fpr

log = logging.getLogger(__name__)

PIXEL_KINDS = {"f1": "f1_positive", "fpr": "false_positive_rate"}
"""Targets that are of pixels, with the name of what they come to."""

MEASURED_AS = PIXEL_KINDS | {"purity": "purity", "false_per_mpix": "false_per_mpix"}
"""The metric that each target is of: what it comes to at the threshold, and the interval of that."""

OBJECT_KINDS = ("purity", "false_per_mpix")
"""Targets that are of detections, and so need a catalogue of true sources."""


def choose_operating_point(
    pixels: PixelHistogram, objects: ObjectTally | None, *, config: MetricsConfig
) -> OperatingPoint | None:
    """Choose the threshold for `metrics.operating_point`; None, and said, where these fields can't tell.

    Parameters
    ----------
    pixels : PixelHistogram
        Logits of the network on the validation fields.
    objects : ObjectTally or None
        Detections in them at several thresholds of the calibrated probability.
    """
    kind, target = config.operating_point, config.operating_target
    if target is None:
        threshold = best_f1_threshold(pixels)
    elif kind == "fpr":
        threshold = threshold_at_fpr(pixels, fpr=target)
    else:
        threshold = None if objects is None else detection_threshold(objects, kind, target=target)
    achieved = None if threshold is None else _achieved(kind, threshold, pixels, objects)
    if threshold is None or achieved is None:
        log.warning("no operating point: the validation fields hold too little to choose a threshold for %s", kind)
        return None
    _warn_of_nothing(kind, threshold, pixels, objects)
    return OperatingPoint(kind, target, threshold=threshold, achieved=achieved)


def _warn_of_nothing(
    kind: OperatingKind, threshold: float, pixels: PixelHistogram, objects: ObjectTally | None
) -> None:
    if kind in OBJECT_KINDS and objects is not None:
        found, what = int(objects.hits[objects.index(threshold)]), "source"
    else:
        found, what = confusion(pixels, logit_threshold=threshold).true_positives, "positive pixel"
    if found == 0:
        remedy = "train longer, or aim at less"
        log.warning("the threshold for %s finds no %s of the validation fields: %s", kind, what, remedy)


def operating_metrics(point: OperatingPoint, pixels: PixelHistogram, objects: ObjectTally | None) -> dict[str, float]:
    """Return what was aimed at, what validation showed and what these pixels and sources show, by name.

    What the latter don't define is absent, and the log says so.

    Parameters
    ----------
    point : OperatingPoint
    pixels, objects
        Counts of other fields than those that chose the point; the tally holds its threshold.
    """
    found = {"operating_target": point.target, "operating_validation": point.achieved}
    achieved = _achieved(point.kind, point.threshold, pixels, objects)
    if achieved is None:
        log.warning(
            "operating_achieved is undefined and left out: these fields hold nothing to say what %s is", point.kind
        )
    found["operating_achieved"] = achieved
    return {name: value for name, value in found.items() if value is not None}


def detection_threshold(objects: ObjectTally, kind: OperatingKind, *, target: float) -> float | None:
    """Return the threshold of most hits among those tallied that keep to a target, the strictest of equals.

    Where none keeps to it, it is the one that comes closest, and the log says so; None where none finds anything.
    """
    shown = _of_detections(objects, kind)
    excess = (shown - target) * (-1 if kind == "purity" else 1)
    if np.isnan(excess).all():
        return None
    kept = excess <= 0
    if not kept.any():
        closest = int(np.nanargmin(excess))
        log.warning("no threshold keeps %s to %g: %g is the closest on validation", kind, target, shown[closest])
        return float(objects.thresholds[closest])
    most = objects.hits == objects.hits[kept].max()
    return float(objects.thresholds[kept & most].max())


def _achieved(
    kind: OperatingKind, threshold: float, pixels: PixelHistogram, objects: ObjectTally | None
) -> float | None:
    """Return what a threshold comes to; None where it is undefined."""
    if kind in OBJECT_KINDS:
        value = np.nan if objects is None else _of_detections(objects, kind)[objects.index(threshold)]
        return None if np.isnan(value) else float(value)
    return class_metrics(confusion(pixels, logit_threshold=threshold))[PIXEL_KINDS[kind]]


def _of_detections(objects: ObjectTally, kind: OperatingKind) -> NDArray[np.float64]:
    """Return purity or false detections per million pixels at each threshold, (T,), NaN where undefined."""
    with np.errstate(invalid="ignore", divide="ignore"):
        if kind == "purity":
            return np.asarray(objects.hits / (objects.hits + objects.false_alarms), dtype=np.float64)
        return np.asarray(1e6 * objects.false_alarms / objects.valid_pixels, dtype=np.float64)
