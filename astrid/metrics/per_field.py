"""What each test field showed by itself, kept so that intervals and comparisons can resample the fields."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from .calibration import binned_counts, forecast
from .chosen import Chosen
from .histogram import Counts, PixelHistogram
from .object_counts import ObjectCounts
from .pixels import Scores, pixel_scores

COARSE_BINS = 16384
"""Most bins per field: enough for AUPRC to 1e-3, and 64 fields take 16 MB instead of gigabytes."""

FIELD_FAMILIES = ("ranking", "calibration", "classes")
"""Pixel metrics that a single field can have."""

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
    scores : dict of str to list of F float or None
        Pixel metrics of each field by itself, None where undefined; empty where they weren't asked for.
    pixels : PixelSums or None
        None where they weren't asked for.
    starts : (B,) int64 or None
        First bin of the pixel histogram that each of the B bins holds, with which the same network is judged elsewhere.
    groups : tuple of F str
        Patch of sky of each field; fields that share one are not independent. Empty: each has its own.
    """

    names: list[str]
    positives: Counts
    negatives: Counts
    objects: ObjectCounts | None
    fingerprint: str
    scores: Mapping[str, list[float | None]] = field(default_factory=dict)
    pixels: PixelSums | None = None
    starts: Counts | None = None
    groups: tuple[str, ...] = ()

    @property
    def independent(self) -> int:
        """Number of patches of sky, the units that intervals resample."""
        return len(set(self.groups or self.names))


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
        Logits of the same network on the validation fields, which decide the bins; an empty one makes them even.
    rules : str
        How the fields are judged, as text; it is part of the fingerprint.
    chosen : Chosen, optional
        Calibrator and threshold by which decisions and calibration are summed; without them they are not.
    score_each : bool
        Whether to score each field by itself, too.
    starts : (B,) int64 or None
        The bins that were decided before, as in `FieldCounts`; None decides now.
    """

    def __init__(
        self,
        seen: PixelHistogram,
        *,
        rules: str,
        chosen: Chosen | None = None,
        score_each: bool = False,
        starts: Counts | None = None,
    ) -> None:
        self._chosen, self._score_each = chosen, score_each
        self._scores: list[Scores] = []
        self._seen = seen
        self._starts = coarse_starts(seen) if starts is None else starts
        self._names: list[str] = []
        self._groups: list[str] = []
        self._positives: list[Counts] = []
        self._negatives: list[Counts] = []
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
        group: str | None = None,
    ) -> None:
        """Count a field.

        Parameters
        ----------
        name : str
        logits, target, valid : (H, W) Tensor
            As `PixelHistogram.update` takes them.
        contents : iterable of arrays
            What the field is made of, for the fingerprint.
        group : str or None
            Its patch of sky; None is its own.
        """
        histogram = PixelHistogram(bins=self._seen.bins, limit=self._seen.limit, device=self._seen.device)
        histogram.update(logits, target, valid)
        self._names.append(name)
        self._groups.append(group or name)
        bins = histogram.occupied
        coarse = np.searchsorted(self._starts, bins.index, side="right") - 1
        for kept, counts in ((self._positives, bins.positives), (self._negatives, bins.negatives)):
            kept.append(np.bincount(coarse, weights=counts, minlength=len(self._starts)).astype(np.int64))
        if self._chosen is not None:
            self._sums.append(_sum_pixels(histogram, self._chosen))
            if self._score_each:
                self._scores.append(_score(histogram, self._chosen))
        self._digest.update(name.encode())
        if self._groups[-1] != name:  # fields that are resampled together are other test fields
            self._digest.update(self._groups[-1].encode())
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
            scores={name: [scores[name] for scores in self._scores] for name in (self._scores or [{}])[0]},
            pixels=stack_sums(self._sums) if self._sums else None,
            starts=self._starts,
            groups=tuple(self._groups),
        )


def _score(histogram: PixelHistogram, chosen: Chosen) -> Scores:
    return pixel_scores(
        histogram,
        logit_threshold=chosen.cut,
        calibrator=chosen.calibrator,
        families=FIELD_FAMILIES,
    )


def _sum_pixels(histogram: PixelHistogram, chosen: Chosen) -> PixelSums:
    """Return the sums of one field, (1, ...) each; pixels count at the centres of their bins."""
    said, bins = forecast(histogram, chosen.calibrator), histogram.occupied
    called = bins.index >= histogram.cut(chosen.cut)
    decisions = [part[side].sum() for side in (called, ~called) for part in (bins.positives, bins.negatives)]
    squared = said.positives @ (1 - said.probability) ** 2 + said.negatives @ said.probability**2
    return PixelSums(
        decisions=np.array([decisions], dtype=np.int64),
        reliability=binned_counts(said)[None],
        squared_error=np.array([squared]),
    )


def stack_sums(sums: Sequence[PixelSums]) -> PixelSums:
    """Return the sums of several sets of fields as those of one set."""
    return PixelSums(
        decisions=np.concatenate([field.decisions for field in sums]),
        reliability=np.concatenate([field.reliability for field in sums]),
        squared_error=np.concatenate([field.squared_error for field in sums]),
    )
