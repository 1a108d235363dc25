"""Metrics of a decision: what calling pixels positive at or above a logit gets right and wrong.

None stands for a value that is undefined (a ratio with denominator 0).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .histogram import PixelHistogram
from .ranking import rank_bins


@dataclass(frozen=True)
class Confusion:
    """Pixels by truth and decision."""

    true_positives: int
    false_positives: int
    false_negatives: int
    true_negatives: int

    def __add__(self, other: Confusion) -> Confusion:
        pairs = zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)
        return Confusion(*(ours + theirs for ours, theirs in pairs))

    @property
    def total(self) -> int:
        """All pixels."""
        return self.true_positives + self.false_positives + self.false_negatives + self.true_negatives


def confusion(histogram: PixelHistogram, *, logit_threshold: float) -> Confusion:
    """Count decisions at the bin edge nearest to `logit_threshold`; pixels at or above it are called positive."""
    bins = histogram.occupied
    cut, positives, negatives = (
        np.searchsorted(bins.index, histogram.cut(logit_threshold)),
        bins.positives,
        bins.negatives,
    )
    return Confusion(
        true_positives=int(positives[cut:].sum()),
        false_positives=int(negatives[cut:].sum()),
        false_negatives=int(positives[:cut].sum()),
        true_negatives=int(negatives[:cut].sum()),
    )


def best_f1_threshold(histogram: PixelHistogram) -> float | None:
    """Return the logit, a bin edge, at which the F1 of the positive class is greatest; undefined without positives.

    It may be -inf, "call everything positive". Among equals the strictest is taken.
    """
    ranked = rank_bins(histogram)
    if not ranked.positives.any():
        return None
    called = ranked.true_positives + ranked.false_positives
    f1 = 2 * ranked.true_positives / (called + ranked.true_positives[-1])
    return float(ranked.logits[np.argmax(f1)])


def class_metrics(counts: Confusion) -> dict[str, float | None]:
    """Derive precision, recall and F1 of either class, `precision_positive` to `f1_negative`, and false_positive_rate.

    The negative class's are those of a detector of negatives: what it finds among them, and what it calls so rightly.
    """
    tp, fp = counts.true_positives, counts.false_positives
    fn, tn = counts.false_negatives, counts.true_negatives
    of_class = {
        "positive": _class_scores(tp, missed=fn, invented=fp),
        "negative": _class_scores(tn, missed=fp, invented=fn),
    }
    scores = {f"{name}_{which}": value for which, named in of_class.items() for name, value in named.items()}
    return scores | {"false_positive_rate": _ratio(fp, fp + tn)}


def decision_metrics(counts: Confusion) -> dict[str, float | None]:
    """Derive accuracy, balanced accuracy, MCC and averaged precision, recall and F1.

    Definitions are scikit-learn's for labels 0 and 1, but where it substitutes a number for 0/0 the value here is None,
    and so is an average that needs it. A class of weight zero isn't needed: without positives, weighted recall is that
    of the negatives.
    """
    tp, fp = counts.true_positives, counts.false_positives
    fn, tn = counts.false_negatives, counts.true_negatives
    classes = (_class_scores(tn, missed=fp, invented=fn), _class_scores(tp, missed=fn, invented=fp))
    support = (tn + fp, tp + fn)
    accuracy = _ratio(tp + tn, counts.total)
    balanced = _mean([scores["recall"] for scores in classes], (1, 1))
    result = {"accuracy": accuracy, "balanced_accuracy": balanced, "mcc": _mcc(counts)}
    for name in ("precision", "recall", "f1"):
        values = [scores[name] for scores in classes]
        result[f"{name}_macro"] = _mean(values, (1, 1))
        result[f"{name}_micro"] = accuracy  # one label a pixel: what one class invents, the other misses
        result[f"{name}_weighted"] = _mean(values, support)
    return result


def _class_scores(right: int, *, missed: int, invented: int) -> dict[str, float | None]:
    return {
        "precision": _ratio(right, right + invented),
        "recall": _ratio(right, right + missed),
        "f1": _ratio(2 * right, 2 * right + missed + invented),
    }


def _mcc(counts: Confusion) -> float | None:
    """Return Matthews' correlation coefficient (Matthews 1975, doi:10.1016/0005-2795(75)90109-9)."""
    tp, fp = counts.true_positives, counts.false_positives
    fn, tn = counts.false_negatives, counts.true_negatives
    return _ratio(tp * tn - fp * fn, math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)))


def _ratio(numerator: float, denominator: float) -> float | None:
    return numerator / denominator if denominator else None


def _mean(values: Sequence[float | None], weights: Sequence[int]) -> float | None:
    """Average the values of positive weight; undefined where one of those is, or where there are none."""
    terms = [(value, weight) for value, weight in zip(values, weights, strict=True) if weight]
    if not terms:
        return None
    total = 0.0
    for value, weight in terms:
        if value is None:
            return None
        total += value * weight
    return total / sum(weight for _, weight in terms)
