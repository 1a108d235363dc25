"""Whether probabilities mean what they say: reliability, expected calibration error, Brier score and its parts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from .calibrators import Calibrator
from .histogram import PixelHistogram

Floats = NDArray[np.float64]

RELIABILITY_BINS = 15
"""Bins of probability for reliability and ECE, as in Guo et al. 2017."""


@dataclass(frozen=True)
class Forecast:
    """Pixels by the probability that they were given, rising.

    Attributes
    ----------
    probability : (K,) float64
        Of the positive class.
    positives, negatives : (K,) int64
        Pixels that were given it.
    """

    probability: Floats
    positives: NDArray[np.int64]
    negatives: NDArray[np.int64]

    @property
    def pixels(self) -> NDArray[np.int64]:
        """Pixels of either class, (K,)."""
        return self.positives + self.negatives

    def of_negatives(self) -> Forecast:
        """Return the same pixels by the probability of the negative class."""
        return Forecast(1 - self.probability[::-1], self.negatives[::-1], self.positives[::-1])


def forecast(histogram: PixelHistogram, calibrator: Calibrator | None = None) -> Forecast:
    """Return what the counted logits say as probabilities, each pixel at its bin's centre, calibrated or not."""
    bins = histogram.occupied
    logits = bins.logits if calibrator is None else calibrator(bins.logits)
    return Forecast(expit(logits), bins.positives, bins.negatives)


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

    predicted: Floats
    observed: Floats
    count: NDArray[np.int64]


def reliability(said: Forecast, *, bins: int = RELIABILITY_BINS) -> Reliability:
    """Compare predicted with observed frequencies in equal bins of probability.

    Bins are closed on the left; the last holds probability 1 too.
    """
    return _compare(said, _equal_bins(said, bins))


def binned_counts(said: Forecast, *, bins: int = RELIABILITY_BINS) -> Floats:
    """Return pixels, positive pixels and the sum of probabilities in each bin of `reliability`, (3, bins).

    Empty bins are included.
    """
    index, weights = _equal_bins(said, bins), (said.pixels, said.positives, said.pixels * said.probability)
    return np.stack([np.bincount(index, weights=weight, minlength=bins).astype(np.float64) for weight in weights])


def _equal_bins(said: Forecast, bins: int) -> NDArray[np.int64]:
    return np.minimum((said.probability * bins).astype(np.int64), bins - 1)


def equal_mass_reliability(said: Forecast, *, bins: int = RELIABILITY_BINS) -> Reliability:
    """Compare predicted with observed frequencies in bins of about equally many pixels.

    Pixels of one probability stay together, in the bin in which the middle one of them falls.

    References
    ----------
    Nixon et al. 2019, CVPR workshop, arXiv:1904.01685
    """
    pixels = said.pixels
    middle = pixels.cumsum() - pixels / 2
    return _compare(said, np.floor(middle / max(1, int(pixels.sum())) * bins).astype(np.int64))


def _compare(said: Forecast, index: NDArray[np.int64]) -> Reliability:
    """Gather pixels in bins, `index` (K,) being the bin of each probability."""
    pixels = said.pixels
    weights = (pixels, said.positives, pixels * said.probability)
    count, positive, predicted = (np.bincount(index, weights=weight) for weight in weights)
    held = count > 0
    return Reliability(
        predicted=predicted[held] / count[held],
        observed=positive[held] / count[held],
        count=count[held].astype(np.int64),
    )


def expected_calibration_error(curve: Reliability) -> float | None:
    """Return the mean distance between predicted and observed, weighted by pixels; undefined without pixels.

    References
    ----------
    Guo et al. 2017, ICML, arXiv:1706.04599; here of the positive class's probability
    """
    if not curve.count.size:
        return None
    return float(np.average(np.abs(curve.predicted - curve.observed), weights=curve.count))


def classwise_ece(said: Forecast, *, bins: int = RELIABILITY_BINS) -> float | None:
    """Return the mean over both classes of the ECE of the class's own probability, in bins of equal width.

    With two classes it differs from `expected_calibration_error` only by probabilities that lie on an edge of a bin.

    References
    ----------
    Kull et al. 2019, NeurIPS, arXiv:1910.12656
    """
    errors = [expected_calibration_error(reliability(each, bins=bins)) for each in (said, said.of_negatives())]
    found = [error for error in errors if error is not None]
    return float(np.mean(found)) if found else None


def brier_score(said: Forecast) -> float | None:
    """Return the mean squared error of the probability; undefined without pixels.

    References
    ----------
    Brier 1950, Monthly Weather Review 78, 1, doi:10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2
    """
    pixels = said.pixels.sum()
    if pixels == 0:
        return None
    errors = said.positives @ (1 - said.probability) ** 2 + said.negatives @ said.probability**2
    return float(errors / pixels)


@dataclass(frozen=True)
class BrierParts:
    """Parts of the Brier score: reliability - resolution + uncertainty + within_bins.

    Attributes
    ----------
    reliability : float
        Mean squared distance between predicted and observed frequency of a bin; 0 is best.
    resolution : float
        Mean squared distance between the bins' observed frequencies and that of all pixels; more is better.
    uncertainty : float
        Variance of the truth, which no forecast changes.
    within_bins : float
        What the bins hide: the probabilities of one bin differ. Below 0 where the differences tell right.
    """

    reliability: float
    resolution: float
    uncertainty: float
    within_bins: float


def brier_parts(said: Forecast, *, bins: int = RELIABILITY_BINS) -> BrierParts | None:
    """Decompose the Brier score in equal bins of probability; undefined without pixels.

    References
    ----------
    Murphy 1973, Journal of Applied Meteorology 12, 595, doi:10.1175/1520-0450(1973)012<0595:ANVPOT>2.0.CO;2;
    Stephenson et al. 2008, Weather and Forecasting 23, 752, doi:10.1175/2007WAF2006116.1 (the part within bins)
    """
    score, curve = brier_score(said), reliability(said, bins=bins)
    if score is None:
        return None
    frequency = said.positives.sum() / said.pixels.sum()
    unreliable = float(np.average((curve.predicted - curve.observed) ** 2, weights=curve.count))
    resolved = float(np.average((curve.observed - frequency) ** 2, weights=curve.count))
    uncertain = float(frequency * (1 - frequency))
    return BrierParts(unreliable, resolved, uncertain, score - (unreliable - resolved + uncertain))
