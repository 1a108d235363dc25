"""Every pixel metric by name, derived from one streaming histogram, family by family."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields

from scipy.special import expit

from astrid.config import PIXEL_FAMILIES

from .calibration import (
    BrierParts,
    Forecast,
    brier_parts,
    brier_score,
    classwise_ece,
    equal_mass_reliability,
    expected_calibration_error,
    forecast,
    reliability,
)
from .calibrators import Calibrator
from .confusion import Confusion, best_f1_threshold, class_metrics, confusion, decision_metrics
from .histogram import PixelHistogram
from .ranking import (
    FEWEST_FALSE,
    auprc,
    auprc_bound,
    auroc,
    auroc_bound,
    partial_auroc,
    precision_at_recall,
    tpr_at_fpr,
)

__all__ = ["Confusion", "PixelHistogram", "best_f1_threshold", "confusion", "epoch_metrics", "pixel_metrics"]

log = logging.getLogger(__name__)

AUROC_TOLERANCE = 1e-5
AUPRC_TOLERANCE = 1e-3
"""Binning that may put a metric off by more than this is announced."""

LOW_RATES = ("1e-2", "1e-3", "1e-4", "1e-5")
RECALLS = ("0.5", "0.8", "0.9", "0.95")

Scores = dict[str, float | None]


@dataclass(frozen=True)
class Judged:
    """What pixels are judged by.

    Attributes
    ----------
    histogram : PixelHistogram
    logit_threshold : float
        Edge of a bin from which pixels are called positive.
    calibrator : Calibrator
        From counted logits to those of the probabilities that are judged; ranks and decisions don't depend on it.
    """

    histogram: PixelHistogram
    logit_threshold: float
    calibrator: Calibrator

    @property
    def counts(self) -> Confusion:
        """Pixels by truth and decision."""
        return confusion(self.histogram, logit_threshold=self.logit_threshold)


def ranking_scores(judged: Judged) -> Scores:
    """Score the order of the pixels."""
    return {"auprc": auprc(judged.histogram), "auroc": auroc(judged.histogram)}


def low_fpr_scores(judged: Judged) -> Scores:
    """Score the strict end of the ROC curve, where one false positive in a thousand pixels is too many."""
    scores: Scores = {f"tpr_at_fpr_{rate}": tpr_at_fpr(judged.histogram, fpr=float(rate)) for rate in LOW_RATES}
    return scores | {"auroc_to_fpr_1e-2": partial_auroc(judged.histogram, max_fpr=1e-2)}


def recall_scores(judged: Judged) -> Scores:
    """Score the precision that a recall costs."""
    return {f"precision_at_recall_{at}": precision_at_recall(judged.histogram, recall=float(at)) for at in RECALLS}


def decision_scores(judged: Judged) -> Scores:
    """Score the decision, averaged over both classes."""
    return decision_metrics(judged.counts) | {
        "threshold": float(expit(judged.calibrator.at(judged.logit_threshold))),
    }


def class_scores(judged: Judged) -> Scores:
    """Score the decision class by class."""
    return class_metrics(judged.counts)


def calibration_scores(judged: Judged) -> Scores:
    """Score the probabilities; where they are calibrated, before that as well."""
    scores = _of_probabilities(forecast(judged.histogram, judged.calibrator))
    if judged.calibrator.kind == "none":
        return scores
    before = _of_probabilities(forecast(judged.histogram))
    return scores | {f"{name}_uncalibrated": value for name, value in before.items()}


def reliability_scores(judged: Judged) -> Scores:
    """Score the probabilities by other bins and classes, and take the Brier score apart."""
    said = forecast(judged.histogram, judged.calibrator)
    parts = brier_parts(said)
    scores: Scores = {
        f"murphy_{part.name}": None if parts is None else getattr(parts, part.name) for part in fields(BrierParts)
    }
    return scores | {
        "ece_equal_mass": expected_calibration_error(equal_mass_reliability(said)),
        "ece_classwise": classwise_ece(said),
    }


def _of_probabilities(said: Forecast) -> Scores:
    return {"brier": brier_score(said), "ece": expected_calibration_error(reliability(said))}


FAMILIES: Mapping[str, Callable[[Judged], Scores]] = {
    "ranking": ranking_scores,
    "low_fpr": low_fpr_scores,
    "recall": recall_scores,
    "decision": decision_scores,
    "classes": class_scores,
    "calibration": calibration_scores,
    "reliability": reliability_scores,
}
"""What computes each family of `metrics.pixel_families`; one that isn't asked for isn't called."""


def epoch_metrics(histogram: PixelHistogram) -> dict[str, float]:
    """Return the metrics that need no threshold: auprc, auroc, brier, ece; the undefined are absent, and said so."""
    return pixel_metrics(histogram, logit_threshold=0.0, families=("ranking", "calibration"))


def pixel_metrics(
    histogram: PixelHistogram,
    *,
    logit_threshold: float,
    calibrator: Calibrator | None = None,
    families: Iterable[str] = PIXEL_FAMILIES,
    binned: bool = True,
) -> dict[str, float]:
    """Return pixel metrics; the undefined are absent, and the log says so.

    Parameters
    ----------
    histogram : PixelHistogram
        Counts of all pixels to judge.
    logit_threshold : float
        Pixels at or above it, moved to the nearest bin edge, are called positive.
    calibrator : Calibrator, optional
        What makes probabilities of logits; without one it is the logistic function.
    families : iterable of str
        Which metrics, as in `metrics.pixel_families`.
    binned : bool
        Whether scores of one bin may differ, so that ranks have an error, which is told where it is large.

    Returns
    -------
    dict of str to float
        By name; `threshold` is the probability of the logit at which the decisions were counted.
    """
    if binned and "ranking" in families:
        _warn_of_coarse_bins(histogram)
    scores = pixel_scores(histogram, logit_threshold=logit_threshold, calibrator=calibrator, families=families)
    return _defined(scores, histogram)


def pixel_scores(
    histogram: PixelHistogram, *, logit_threshold: float, calibrator: Calibrator | None, families: Iterable[str]
) -> Scores:
    """Return what `pixel_metrics` does, with None for the undefined, and without a word."""
    applied = histogram.edge(histogram.cut(logit_threshold))
    judged = Judged(histogram, applied, calibrator or Calibrator())
    scores: Scores = {}
    for family in families:
        scores |= FAMILIES[family](judged)
    return scores


def _defined(scores: Scores, histogram: PixelHistogram) -> dict[str, float]:
    """Leave out what is undefined and say what and why."""
    missing = [name for name, score in scores.items() if score is None]
    if missing:
        positives, negatives = histogram.occupied.positives.sum(), histogram.occupied.negatives.sum()
        said = "; ".join([", ".join(missing), *_too_few(missing, negatives=int(negatives))])
        log.warning("undefined and left out, with %d positive and %d negative pixels: %s", positives, negatives, said)
    return {name: score for name, score in scores.items() if score is not None}


def _too_few(missing: Iterable[str], *, negatives: int) -> list[str]:
    """Name the rates that need more negatives, `FEWEST_FALSE` of them beyond the threshold."""
    rates = dict.fromkeys(name.rpartition("_")[2] for name in missing if "_fpr_" in name)
    needed = {rate: FEWEST_FALSE / float(rate) for rate in rates}
    return [
        f"a rate of {rate} needs {count:,.0f} negative pixels" for rate, count in needed.items() if negatives < count
    ]


def coarse_bounds(histogram: PixelHistogram) -> dict[str, float]:
    """Return how far AUROC and AUPRC may be off, where that is more than is promised."""
    bounds = {
        "auroc": (auroc_bound(histogram), AUROC_TOLERANCE),
        "auprc": (auprc_bound(histogram), AUPRC_TOLERANCE),
    }
    return {name: bound for name, (bound, tolerance) in bounds.items() if bound is not None and bound > tolerance}


def _warn_of_coarse_bins(histogram: PixelHistogram) -> None:
    for name, bound in coarse_bounds(histogram).items():
        log.warning(
            "%s may be off by up to %.1e where scores within a bin differ: %d bins over ±%g tie positive and negative "
            "pixels (%d clipped)",
            name,
            bound,
            histogram.bins,
            histogram.limit,
            histogram.clipped,
        )
