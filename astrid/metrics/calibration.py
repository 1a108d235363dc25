"""Whether probabilities mean what they say: reliability, expected calibration error, Brier score."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from .histogram import PixelHistogram

RELIABILITY_BINS = 15
"""Equal bins of probability for reliability and ECE, as in Guo et al. 2017."""


@dataclass(frozen=True)
class Reliability:
    """Predicted against observed, one entry for each bin of probability that holds pixels, by rising probability.

    Attributes
    ----------
    predicted : (K,) float64
        Mean predicted probability of the positive class.
    observed : (K,) float64
        Fraction of pixels that are positive.
    count : (K,) int64
        Pixels in the bin.
    """

    predicted: NDArray[np.float64]
    observed: NDArray[np.float64]
    count: NDArray[np.int64]


def reliability(histogram: PixelHistogram, *, bins: int = RELIABILITY_BINS) -> Reliability:
    """Compare predicted with observed frequencies in equal bins of probability; each pixel counts at its bin's centre.

    Bins are closed on the left; the last holds probability 1 too.
    """
    probability = expit(histogram.centres)
    pixels = histogram.positives + histogram.negatives
    index = np.minimum((probability * bins).astype(np.int64), bins - 1)
    count, positive, predicted = (
        np.bincount(index, weights=weights, minlength=bins)
        for weights in (pixels, histogram.positives, pixels * probability)
    )
    held = count > 0
    return Reliability(
        predicted=predicted[held] / count[held],
        observed=positive[held] / count[held],
        count=count[held].astype(np.int64),
    )


def expected_calibration_error(histogram: PixelHistogram, *, bins: int = RELIABILITY_BINS) -> float | None:
    """Return the mean distance between predicted and observed, weighted by pixels; undefined without pixels.

    References
    ----------
    Guo et al. 2017, ICML, arXiv:1706.04599; here of the positive class's probability
    """
    curve = reliability(histogram, bins=bins)
    if not curve.count.size:
        return None
    return float(np.average(np.abs(curve.predicted - curve.observed), weights=curve.count))


def brier_score(histogram: PixelHistogram) -> float | None:
    """Return the mean squared error of the probability; undefined without pixels.

    References
    ----------
    Brier 1950, Monthly Weather Review 78, 1, doi:10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2
    """
    positives, negatives = histogram.positives, histogram.negatives
    pixels = positives.sum() + negatives.sum()
    if pixels == 0:
        return None
    probability = expit(histogram.centres)
    return float((positives @ (1 - probability) ** 2 + negatives @ probability**2) / pixels)
