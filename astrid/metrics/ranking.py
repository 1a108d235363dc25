"""How well logits rank positive pixels above negative ones: curves, areas, and how far binning can put them off.

None stands for a value that is undefined, such as any of these without positive pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .histogram import PixelHistogram

Floats = NDArray[np.float64]

FEWEST_FALSE = 10
"""False positives that a rate must come to before it is reported: with 10, counting alone scatters it by a third."""


@dataclass(frozen=True)
class RocCurve:
    """True against false positive rate, from strict to lenient; the first point is (0, 0) at logit inf.

    Attributes
    ----------
    fpr, tpr, logits : (K + 1,) float64
        Rates when pixels at or above the logit are called positive, K being the number of occupied bins.
    """

    fpr: Floats
    tpr: Floats
    logits: Floats


@dataclass(frozen=True)
class PrecisionRecallCurve:
    """Precision against recall, from strict to lenient.

    Attributes
    ----------
    recall, precision, logits : (K,) float64
        Values when pixels at or above the logit are called positive, K being the number of occupied bins.
    """

    recall: Floats
    precision: Floats
    logits: Floats


@dataclass(frozen=True)
class Ranked:
    """Occupied bins from the highest logit to the lowest, each (K,) float64.

    Attributes
    ----------
    positives, negatives
        Pixels in the bin.
    true_positives, false_positives
        Pixels in the bin and above.
    logits
        Lower edge of the bin.
    """

    positives: Floats
    negatives: Floats
    true_positives: Floats
    false_positives: Floats
    logits: Floats

    @property
    def both_classes(self) -> bool:
        """Whether there is a positive and a negative pixel."""
        return bool(self.positives.any() and self.negatives.any())


def rank_bins(histogram: PixelHistogram) -> Ranked:
    """List the occupied bins from the highest logit to the lowest."""
    bins = histogram.occupied
    p, n = bins.positives[::-1].astype(float), bins.negatives[::-1].astype(float)
    logits = (bins.index[::-1].astype(float) - histogram.bins // 2) * (2 * histogram.limit / histogram.bins)
    logits[bins.index[::-1] == 0] = -np.inf  # the outermost bin is open
    return Ranked(positives=p, negatives=n, true_positives=p.cumsum(), false_positives=n.cumsum(), logits=logits)


def auroc(histogram: PixelHistogram) -> float | None:
    """Return the area under the ROC curve: the share of pairs ranked rightly, ties counting half.

    Pixels in one bin are tied. Undefined unless both classes are present.

    References
    ----------
    Fawcett 2006, Pattern Recognition Letters 27, 861, doi:10.1016/j.patrec.2005.10.010
    """
    ranked = rank_bins(histogram)
    if not ranked.both_classes:
        return None
    won = ranked.negatives @ (ranked.true_positives - ranked.positives / 2)
    return float(won / (ranked.true_positives[-1] * ranked.false_positives[-1]))


def auroc_bound(histogram: PixelHistogram) -> float | None:
    """Return the largest possible difference between `auroc` and that of the unbinned logits.

    Only pairs of a positive and a negative pixel in one bin are in doubt, each by half a pair.
    """
    ranked = rank_bins(histogram)
    if not ranked.both_classes:
        return None
    tied = ranked.positives @ ranked.negatives
    return float(tied / 2 / (ranked.true_positives[-1] * ranked.false_positives[-1]))


def auprc(histogram: PixelHistogram) -> float | None:
    """Return average precision: the sum over thresholds of precision times the step in recall, not a trapezoid.

    Pixels in one bin are tied. Undefined without positives.

    References
    ----------
    Davis & Goadrich 2006, ICML, doi:10.1145/1143844.1143874 (why not to interpolate linearly)
    """
    ranked = rank_bins(histogram)
    if not ranked.positives.any():
        return None
    precision = ranked.true_positives / (ranked.true_positives + ranked.false_positives)
    return float(ranked.positives @ precision / ranked.true_positives[-1])


def auprc_bound(histogram: PixelHistogram) -> float | None:
    """Return the largest possible difference between `auprc` and that of the unbinned logits.

    Average precision is the mean over positives of the precision at their own logit. With T true and F false positives
    above a bin of p positives and n negatives, it is greatest when the bin's positives are tied above its negatives,
    each with precision (T + p) / (T + p + F), and least when they follow them one by one, the j-th with precision
    (T + j) / (T + j + F + n). The sum over j of the latter is at least p - (F + n) log(1 + p / (T + F + n + 1/2)),
    because 1 / (x + j) is convex and so at most its mean over a unit interval around j.
    """
    ranked = rank_bins(histogram)
    held = ranked.positives > 0
    if not held.any():
        return None
    p, n = ranked.positives[held], ranked.negatives[held]
    true_until, false_until = ranked.true_positives[held], ranked.false_positives[held]
    tied = p * true_until / (true_until + false_until)
    best = p * true_until / (true_until + false_until - n)
    worst = p - false_until * np.log1p(p / (true_until - p + false_until + 0.5))
    return float(max((best - tied).sum(), (tied - worst).sum()) / true_until[-1])


def roc_curve(histogram: PixelHistogram) -> RocCurve | None:
    """Return the ROC curve with one point for each occupied bin; undefined unless both classes are present."""
    ranked = rank_bins(histogram)
    if not ranked.both_classes:
        return None
    fpr = np.append(0.0, ranked.false_positives / ranked.false_positives[-1])
    tpr = np.append(0.0, ranked.true_positives / ranked.true_positives[-1])
    return RocCurve(fpr=fpr, tpr=tpr, logits=np.append(np.inf, ranked.logits))


def precision_recall_curve(histogram: PixelHistogram) -> PrecisionRecallCurve | None:
    """Return precision against recall with one point for each occupied bin; undefined without positives."""
    ranked = rank_bins(histogram)
    if not ranked.positives.any():
        return None
    precision = ranked.true_positives / (ranked.true_positives + ranked.false_positives)
    recall = ranked.true_positives / ranked.true_positives[-1]
    return PrecisionRecallCurve(recall=recall, precision=precision, logits=ranked.logits)


def resolves(histogram: PixelHistogram, *, fpr: float) -> bool:
    """Tell whether the negatives are enough to say where a false positive rate lies: `FEWEST_FALSE` of them beyond."""
    return bool(histogram.occupied.negatives.sum() * fpr >= FEWEST_FALSE)


def tpr_at_fpr(histogram: PixelHistogram, *, fpr: float) -> float | None:
    """Return the largest true positive rate at a false positive rate of at most `fpr`.

    Undefined unless both classes are present, and where the negatives are too few to resolve the rate.
    """
    curve = roc_curve(histogram)
    if curve is None or not resolves(histogram, fpr=fpr):
        return None
    return float(curve.tpr[curve.fpr <= fpr].max())


def threshold_at_fpr(histogram: PixelHistogram, *, fpr: float) -> float | None:
    """Return the lowest logit, a bin edge, at which the false positive rate is at most `fpr`; inf where none is.

    Undefined where the negatives are too few to resolve the rate.
    """
    if not resolves(histogram, fpr=fpr):
        return None
    ranked = rank_bins(histogram)
    allowed = int((ranked.false_positives / ranked.false_positives[-1] <= fpr).sum())
    return float(ranked.logits[allowed - 1]) if allowed else math.inf


def partial_auroc(histogram: PixelHistogram, *, max_fpr: float) -> float | None:
    """Return the area under the ROC curve up to a false positive rate, standardised: 0.5 is chance, 1 perfect.

    The curve is joined by straight lines, as in `auroc`. Undefined where `tpr_at_fpr` is.

    References
    ----------
    McClish 1989, Medical Decision Making 9, 190, doi:10.1177/0272989X8900900307
    """
    curve = roc_curve(histogram)
    if curve is None or not resolves(histogram, fpr=max_fpr):
        return None
    inside = curve.fpr <= max_fpr
    fpr = np.append(curve.fpr[inside], max_fpr)
    tpr = np.append(curve.tpr[inside], np.interp(max_fpr, curve.fpr, curve.tpr))
    area, chance = float(np.trapezoid(tpr, fpr)), max_fpr**2 / 2
    return 0.5 * (1 + (area - chance) / (max_fpr - chance))


def precision_at_recall(histogram: PixelHistogram, *, recall: float) -> float | None:
    """Return the greatest precision at a recall of at least `recall`; undefined without positives."""
    curve = precision_recall_curve(histogram)
    if curve is None:
        return None
    return float(curve.precision[curve.recall >= recall].max())
