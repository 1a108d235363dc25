"""What is judged: how many pixels, how many of them positive, and whether truth and scores point the same way."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from .histogram import PixelHistogram

log = logging.getLogger(__name__)

MOST_POSITIVE = 0.5
LEAST_AUROC = 0.4
"""Beyond these an inverted mask is likelier than such a sky or such a network; AUROC is 0.5 by chance."""

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
    counts = {"valid_pixels": float(valid), "positive_pixels": float(positives)}
    return counts | ({"prevalence": positives / valid} if valid else {})


def warn_of_inverted(metrics: Mapping[str, float]) -> None:
    """Warn where most pixels are positive, or where they rank well below the negative ones.

    Parameters
    ----------
    metrics : mapping
        With prevalence and auroc where they are defined.
    """
    share, auroc = metrics.get("prevalence", 0.0), metrics.get("auroc", 1.0)
    remedy = "is the mask inverted? In a target plane 0 is nothing, and anything above it is what shall be found"
    if share > MOST_POSITIVE:
        log.warning("%.0f %% of the valid pixels are positive: %s", 100 * share, remedy)
    elif auroc < LEAST_AUROC:
        log.warning("AUROC is %.3f, below the 0.5 of chance: positive pixels score lowest; %s", auroc, remedy)
