"""What each test field showed by itself, kept so that intervals and comparisons can resample the fields."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from .calibration import binned_counts, forecast
from .chosen import Chosen
from .histogram import Counts, PixelHistogram
from .objects import ObjectTally
from .pixels import Scores, pixel_scores

COARSE_BINS = 16384
"""Most bins per field: enough for AUPRC to 1e-3, and 64 fields take 16 MB instead of gigabytes."""

FIELD_FAMILIES = ("ranking", "calibration", "classes")
"""Pixel metrics that a single field can have."""

EVEN_SHARE = 0.1
"""Share of the bins that is spread evenly over all logits, for those that validation didn't show."""


@dataclass(frozen=True)
class FieldCounts:
    """Counts of every test field.

    Attributes
    ----------
    names : list of F str
        The fields, in the order of the rows below.
    positives, negatives : (F, B) int64
        Positive and negative pixels by rising logit, in bins that hold about equally many pixels of either class.
    objects : (F, 3) int64 or None
        Hits, misses and false alarms at the chosen threshold; None without a catalogue.
    fingerprint : str
        Digest of the fields' pixels, truth and catalogues, and of how detections are matched to them.
    scores : dict of str to list of F float or None
        Pixel metrics of each field by itself, None where undefined; empty where they weren't asked for.
    reliability : (F, 2, B) int64 or None
        All and positive pixels of each field by bin of probability, as `calibration.binned_counts`; None where they
        weren't asked for.
    starts : (B,) int64 or None
        First bin of the pixel histogram that each of the B bins holds, with which the same network is judged elsewhere.
    """

    names: list[str]
    positives: Counts
    negatives: Counts
    objects: Counts | None
    fingerprint: str
    scores: Mapping[str, list[float | None]] = field(default_factory=dict)
    reliability: Counts | None = None
    starts: Counts | None = None


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
    judged_by : Chosen, optional
        Calibrator and threshold with which to score each field by itself; without them that is left out.
    starts : (B,) int64 or None
        The bins that were decided before, as in `FieldCounts`; None decides now.
    """

    def __init__(
        self, seen: PixelHistogram, *, rules: str, judged_by: Chosen | None = None, starts: Counts | None = None
    ) -> None:
        self._judged_by = judged_by
        self._scores: list[Scores] = []
        self._reliability: list[Counts] = []
        self._seen = seen
        self._starts = coarse_starts(seen) if starts is None else starts
        self._names: list[str] = []
        self._positives: list[Counts] = []
        self._negatives: list[Counts] = []
        self._totals: list[list[int]] = []
        self._digest = hashlib.sha256(rules.encode())

    def add(
        self,
        name: str,
        logits: Tensor,
        target: Tensor,
        valid: Tensor,
        *,
        tally: ObjectTally | None,
        contents: Iterable[NDArray[np.generic]],
    ) -> None:
        """Count a field.

        Parameters
        ----------
        name : str
        logits, target, valid : (H, W) Tensor
            As `PixelHistogram.update` takes them.
        tally : ObjectTally or None
            Running totals at one threshold, this field's detections included.
        contents : iterable of arrays
            What the field is made of, for the fingerprint.
        """
        histogram = PixelHistogram(bins=self._seen.bins, limit=self._seen.limit, device=self._seen.device)
        histogram.update(logits, target, valid)
        self._names.append(name)
        bins = histogram.occupied
        coarse = np.searchsorted(self._starts, bins.index, side="right") - 1
        for kept, counts in ((self._positives, bins.positives), (self._negatives, bins.negatives)):
            kept.append(np.bincount(coarse, weights=counts, minlength=len(self._starts)).astype(np.int64))
        if self._judged_by is not None:
            self._scores.append(_score(histogram, self._judged_by))
            self._reliability.append(binned_counts(forecast(histogram, self._judged_by.calibrator)))
        if tally is not None:
            self._totals.append([int(count[0]) for count in (tally.hits, tally.misses, tally.false_alarms)])
        self._digest.update(name.encode())
        for array in contents:
            self._digest.update(f"{array.dtype}{array.shape}".encode())
            self._digest.update(np.ascontiguousarray(array).data)

    def counts(self) -> FieldCounts:
        """Return what was counted."""
        totals = np.array(self._totals, dtype=np.int64).reshape(-1, 3)
        return FieldCounts(
            names=list(self._names),
            positives=np.stack(self._positives),
            negatives=np.stack(self._negatives),
            objects=np.diff(totals, axis=0, prepend=0) if len(totals) else None,
            fingerprint=self._digest.hexdigest(),
            scores={name: [scores[name] for scores in self._scores] for name in (self._scores or [{}])[0]},
            reliability=np.stack(self._reliability) if self._reliability else None,
            starts=self._starts,
        )


def _score(histogram: PixelHistogram, chosen: Chosen) -> Scores:
    return pixel_scores(
        histogram,
        logit_threshold=chosen.logit_threshold or 0.0,
        calibrator=chosen.calibrator,
        families=FIELD_FAMILIES,
    )
