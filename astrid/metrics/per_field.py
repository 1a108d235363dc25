"""What each test field showed by itself, kept so that intervals and comparisons can resample the fields."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from torch import Tensor

from .calibration import RELIABILITY_BINS
from .histogram import Counts, PixelHistogram
from .objects import ObjectCounts

COARSE_BINS = 16384
"""Most bins per field: enough for AUPRC to 1e-3, and 64 fields take 16 MB instead of gigabytes."""

EVEN_SHARE = 0.1
"""Share of the bins that is spread evenly over all logits, for those that validation didn't show."""


@dataclass(frozen=True)
class PixelSums:
    """Sums over the pixels of each field, from which decisions and calibration of any mix of fields follow.

    Attributes
    ----------
    decisions : (F, 4) int64
        True and false positives, false and true negatives at the chosen threshold.
    reliability : (F, 3, B) float64
        Pixels, positive pixels and the sum of their probabilities in equal bins of probability.
    squared_error : (F,) float64
        Sum of the squared error of the probability.
    """

    decisions: Counts
    reliability: NDArray[np.float64]
    squared_error: NDArray[np.float64]


@dataclass(frozen=True)
class FieldCounts:
    """Counts of every test field.

    Attributes
    ----------
    names : list of F str
        The fields, in the order of the rows below.
    positives, negatives : (F, B) int64
        Positive and negative pixels by rising logit, in bins that hold about equally many pixels of either class.
    objects : ObjectCounts or None
        What was detected at the chosen threshold; None without a catalogue.
    fingerprint : str
        Digest of the fields' pixels, truth and catalogues, and of how detections are matched to them.
    pixels : PixelSums or None
        None where no threshold was chosen.
    """

    names: list[str]
    positives: Counts
    negatives: Counts
    objects: ObjectCounts | None
    fingerprint: str
    pixels: PixelSums | None = None


def coarse_starts(seen: PixelHistogram) -> NDArray[np.int64]:
    """Return the first fine bin of each coarse one, so that each holds about as much of either class as any other.

    Ranks are what AUPRC is made of, so the bins follow the logits that occur: stretched or squeezed logits, which rank
    alike, are told apart alike.

    Parameters
    ----------
    seen : PixelHistogram
        Logits of the same network on other fields, those of validation.
    """
    mass = np.full(seen.bins, EVEN_SHARE / seen.bins)
    for counts in (seen.positives, seen.negatives):
        mass += counts / max(1, int(counts.sum()))
    before = np.concatenate([[0.0], mass.cumsum()[:-1]])
    coarse = np.floor(before / mass.sum() * COARSE_BINS)
    return np.unique(coarse, return_index=True)[1].astype(np.int64)


class FieldCounter:
    """Collect the counts of one field after the other.

    Parameters
    ----------
    seen : PixelHistogram
        Logits of the same network on the validation fields, which decide the bins.
    rules : str
        How the fields are judged, as text; it is part of the fingerprint.
    logit_threshold : float, optional
        Logit from which pixels are called positive; without it decisions and calibration are not summed.
    """

    def __init__(self, seen: PixelHistogram, *, rules: str, logit_threshold: float | None = None) -> None:
        self._seen = seen
        self._starts = coarse_starts(seen)
        self._names: list[str] = []
        self._positives: list[Counts] = []
        self._negatives: list[Counts] = []
        self._logit_threshold = logit_threshold
        self._sums: list[PixelSums] = []
        self._digest = hashlib.sha256(rules.encode())

    def add(
        self,
        name: str,
        logits: Tensor,
        target: Tensor,
        valid: Tensor,
        *,
        contents: Iterable[NDArray[np.generic]],
    ) -> None:
        """Count a field.

        Parameters
        ----------
        name : str
        logits, target, valid : (H, W) Tensor
            As `PixelHistogram.update` takes them.
        contents : iterable of arrays
            What the field is made of, for the fingerprint.
        """
        histogram = PixelHistogram(bins=self._seen.bins, limit=self._seen.limit, device=self._seen.device)
        histogram.update(logits, target, valid)
        self._names.append(name)
        self._positives.append(np.add.reduceat(histogram.positives, self._starts))
        self._negatives.append(np.add.reduceat(histogram.negatives, self._starts))
        if self._logit_threshold is not None:
            self._sums.append(_sum_pixels(histogram, self._logit_threshold))
        self._digest.update(name.encode())
        for array in contents:
            self._digest.update(f"{array.dtype}{array.shape}".encode())
            self._digest.update(np.ascontiguousarray(array).data)

    def counts(self, objects: ObjectCounts | None = None) -> FieldCounts:
        """Return what was counted, beside what was detected in the same fields."""
        return FieldCounts(
            names=list(self._names),
            positives=np.stack(self._positives),
            negatives=np.stack(self._negatives),
            objects=objects,
            fingerprint=self._digest.hexdigest(),
            pixels=_stack(self._sums) if self._sums else None,
        )


def _sum_pixels(histogram: PixelHistogram, logit_threshold: float) -> PixelSums:
    """Return the sums of one field, (1, ...) each; pixels count at the centres of their bins."""
    held = np.flatnonzero(histogram.positives + histogram.negatives)
    positives, negatives = histogram.positives[held], histogram.negatives[held]
    probability = expit(histogram.centres[held])
    called = held >= histogram.cut(logit_threshold)
    decisions = [part[side].sum() for side in (called, ~called) for part in (positives, negatives)]
    group = np.minimum((probability * RELIABILITY_BINS).astype(np.int64), RELIABILITY_BINS - 1)
    summed = [part.astype(np.float64) for part in (positives + negatives, positives)]
    summed.append(summed[0] * probability)
    squared = positives @ (1 - probability) ** 2 + negatives @ probability**2
    return PixelSums(
        decisions=np.array([decisions], dtype=np.int64),
        reliability=np.stack([np.bincount(group, part, RELIABILITY_BINS).astype(np.float64) for part in summed])[None],
        squared_error=np.array([squared]),
    )


def _stack(sums: list[PixelSums]) -> PixelSums:
    return PixelSums(
        decisions=np.concatenate([field.decisions for field in sums]),
        reliability=np.concatenate([field.reliability for field in sums]),
        squared_error=np.concatenate([field.squared_error for field in sums]),
    )
