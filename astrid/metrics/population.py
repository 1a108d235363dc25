"""What is judged: how many pixels, how many of them positive, and whether truth and scores point the same way."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping

from .histogram import PixelHistogram

log = logging.getLogger(__name__)

LEAST_AUROC = 0.4
"""Below it scores run against the truth, where there are enough pixels to tell."""
TELLING_DEVIATIONS = 3.0
"""By how many standard deviations AUROC must lie below the 0.5 of chance."""

COUNTS = ("valid_pixels", "positive_pixels")
"""Metrics that are whole numbers."""


def population(pixels: PixelHistogram) -> dict[str, float]:
    """Return valid_pixels, positive_pixels and prevalence, the share of the positive among the valid ones.

    Parameters
    ----------
    pixels : PixelHistogram
        Of the valid pixels.
    """
    positives, negatives = int(pixels.occupied.positives.sum()), int(pixels.occupied.negatives.sum())
    valid = positives + negatives
    counts = {"valid_pixels": valid, "positive_pixels": positives}
    return counts | ({"prevalence": positives / valid} if valid else {})


def warn_of_inverted(metrics: Mapping[str, float]) -> None:
    """Doubt the truth where most pixels are positive, or scores run against it beyond chance.

    Without any relation the variance of AUROC is (P + N + 1) / 12PN for P positive and N negative pixels.

    Parameters
    ----------
    metrics : mapping
        With valid_pixels and positive_pixels, and auroc where it is defined.

    References
    ----------
    Mann and Whitney 1947, doi:10.1214/aoms/1177730491.
    """
    positives, auroc = metrics["positive_pixels"], metrics.get("auroc")
    negatives = metrics["valid_pixels"] - positives
    remedy = "is the mask inverted? In a target plane 0 is nothing, and anything above it is what shall be found"
    if positives > negatives:
        log.warning("%.1f %% of the pixels are positive: %s", 100 * positives / (positives + negatives), remedy)
    elif auroc is not None:
        sigma = math.sqrt((positives + negatives + 1) / (12 * positives * negatives))
        if auroc < min(LEAST_AUROC, 0.5 - TELLING_DEVIATIONS * sigma):
            log.warning("AUROC is %.3f, worse than chance: are scores those of the other class, or %s", auroc, remedy)
