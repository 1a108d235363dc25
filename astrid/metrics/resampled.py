"""The metrics of test fields that count more or less than once each: what resamples and leaving a field out show."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .histogram import Counts
from .object_counts import resampled_objects, snr_reached
from .per_field import FieldCounts, PixelSums

Floats = NDArray[np.float64]

CHUNK_ROWS = 100
"""Rows whose ranked counts are held at once, a few MB."""


def resampled_metrics(counts: FieldCounts, weights: Floats) -> dict[str, Floats]:
    """Return every metric that fields can be resampled for, NaN where it is undefined.

    Parameters
    ----------
    counts : FieldCounts
    weights : (R, F) float64
        How often each field counts.

    Returns
    -------
    dict of str to (R,) float64
        auprc and auroc; brier, ece and what decisions come to where pixels were summed; object metrics where there is a
        catalogue.
    """
    values = resampled_ranking(counts.positives, counts.negatives, weights)
    if counts.pixels is not None:
        values |= _resampled_pixels(counts.pixels, weights)
    if counts.objects is not None:
        values |= resampled_objects(counts.objects, weights)
    return values


def field_metrics(counts: FieldCounts) -> dict[str, float]:
    """Return the metrics of all fields, each counted once; the undefined are absent, as `fitted_snr` defines them."""
    found = resampled_metrics(counts, np.ones((1, len(counts.names))))
    if counts.objects is not None:
        found |= {name: np.array([value]) for name, value in snr_reached(counts.objects).items()}
    return {name: float(values[0]) for name, values in found.items() if np.isfinite(values[0])}


def resampled_ranking(positives: Counts, negatives: Counts, weights: Floats) -> dict[str, Floats]:
    """Return average precision and AUROC, as `ranking.auprc` and `ranking.auroc` define them.

    Parameters
    ----------
    positives, negatives : (F, B) int64
        Pixels of each field by rising logit.
    weights : (R, F) float64

    Returns
    -------
    dict of str to (R,) float64
    """
    occupied = np.flatnonzero((positives + negatives).any(axis=0))[::-1]
    positive, negative = positives[:, occupied].astype(float), negatives[:, occupied].astype(float)
    starts = range(0, len(weights), CHUNK_ROWS)
    chunks = [weights[start : start + CHUNK_ROWS] for start in starts]
    areas = np.concatenate([_areas(chunk @ positive, chunk @ negative) for chunk in chunks], axis=1)
    return dict(zip(("auprc", "auroc"), areas, strict=True))


def _areas(positives: Floats, negatives: Floats) -> Floats:
    """Return average precision and AUROC of each row of counts by falling logit, (R, K) to (2, R)."""
    true, false = positives.cumsum(axis=1), negatives.cumsum(axis=1)
    precision = true / np.maximum(true + false, 1.0)  # a row may lack the highest bins; nothing is counted there
    with np.errstate(invalid="ignore"):
        auprc = (positives * precision).sum(axis=1) / true[:, -1]
        auroc = (negatives * (true - positives / 2)).sum(axis=1) / (true[:, -1] * false[:, -1])
    return np.stack([auprc, auroc])


def _resampled_pixels(sums: PixelSums, weights: Floats) -> dict[str, Floats]:
    true, false, missed, rejected = (weights @ sums.decisions).T
    pixels, positives, probability = np.einsum("rf,fkb->krb", weights, sums.reliability)
    marginals = (true + false) * (true + missed) * (rejected + false) * (rejected + missed)
    with np.errstate(invalid="ignore"):
        recall = true / (true + missed)
        return {
            "precision_positive": true / (true + false),
            "recall_positive": recall,
            "f1_positive": 2 * true / (2 * true + false + missed),
            "false_positive_rate": false / (false + rejected),
            "accuracy": (true + rejected) / (true + false + missed + rejected),
            "brier": weights @ sums.squared_error / pixels.sum(axis=1),
            "ece": np.abs(probability - positives).sum(axis=1) / pixels.sum(axis=1),
            "mcc": (true * rejected - false * missed) / np.sqrt(marginals),
            "balanced_accuracy": (recall + rejected / (rejected + false)) / 2,
        }
