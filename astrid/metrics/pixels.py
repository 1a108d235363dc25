"""Every pixel metric by name, derived from one streaming histogram."""

from __future__ import annotations

import logging

from scipy.special import expit

from .calibration import brier_score, expected_calibration_error
from .confusion import Confusion, best_f1_threshold, confusion, decision_metrics
from .histogram import PixelHistogram
from .ranking import auprc, auprc_bound, auroc, auroc_bound, tpr_at_fpr

__all__ = ["Confusion", "PixelHistogram", "best_f1_threshold", "confusion", "epoch_metrics", "pixel_metrics"]

log = logging.getLogger(__name__)

AUROC_TOLERANCE = 1e-5
AUPRC_TOLERANCE = 1e-3
"""Binning that may put a metric off by more than this is announced."""


def epoch_metrics(histogram: PixelHistogram) -> dict[str, float]:
    """Return the metrics that need no threshold: auprc, auroc, brier, ece; the undefined are absent, and said so."""
    _warn_of_coarse_bins(histogram)
    return _defined(_threshold_free(histogram), histogram)


def pixel_metrics(histogram: PixelHistogram, *, logit_threshold: float) -> dict[str, float]:
    """Return every pixel metric; the undefined are absent, and the log says so.

    Parameters
    ----------
    histogram : PixelHistogram
        Counts of all pixels to judge.
    logit_threshold : float
        Pixels at or above it, moved to the nearest bin edge, are called positive.

    Returns
    -------
    dict of str to float
        auroc, auprc, ece, brier, tpr_at_fpr_1e-3, accuracy, balanced_accuracy, mcc, {precision, recall, f1}_{macro,
        micro, weighted}, and threshold, the probability that belongs to the logit at which the decisions were counted.
    """
    _warn_of_coarse_bins(histogram)
    applied = histogram.edge(histogram.cut(logit_threshold))
    scores = _threshold_free(histogram)
    scores["tpr_at_fpr_1e-3"] = tpr_at_fpr(histogram, fpr=1e-3)
    scores |= decision_metrics(confusion(histogram, logit_threshold=applied))
    scores["threshold"] = float(expit(applied))
    return _defined(scores, histogram)


def _threshold_free(histogram: PixelHistogram) -> dict[str, float | None]:
    return {
        "auprc": auprc(histogram),
        "auroc": auroc(histogram),
        "brier": brier_score(histogram),
        "ece": expected_calibration_error(histogram),
    }


def _defined(scores: dict[str, float | None], histogram: PixelHistogram) -> dict[str, float]:
    """Leave out what is undefined and say what and why."""
    missing = [name for name, score in scores.items() if score is None]
    if missing:
        counts = f"{histogram.positives.sum()} positive and {histogram.negatives.sum()} negative pixels"
        log.warning("undefined and left out, with %s: %s", counts, ", ".join(missing))
    return {name: score for name, score in scores.items() if score is not None}


def _warn_of_coarse_bins(histogram: PixelHistogram) -> None:
    """Say how far AUROC and AUPRC may be off where that is more than is promised."""
    bounds = {
        "auroc": (auroc_bound(histogram), AUROC_TOLERANCE),
        "auprc": (auprc_bound(histogram), AUPRC_TOLERANCE),
    }
    for name, (bound, tolerance) in bounds.items():
        if bound is not None and bound > tolerance:
            log.warning(
                "%s may be off by up to %.1e: %d bins over ±%g tie positive and negative pixels (%d clipped)",
                name,
                bound,
                histogram.bins,
                histogram.limit,
                histogram.clipped,
            )
