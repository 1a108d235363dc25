"""What each test field showed by itself, kept so that intervals and comparisons can resample the fields."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .histogram import Counts, PixelHistogram
from .objects import ObjectTally

COARSE_BINS = 8192
"""Bins of logit per field: enough for AUPRC to 1e-3, and 64 fields take 8 MB instead of gigabytes."""


@dataclass(frozen=True)
class FieldCounts:
    """Counts of every test field.

    Attributes
    ----------
    names : list of F str
        The fields, in the order of the rows below.
    positives, negatives : (F, B) int64
        Positive and negative pixels by rising logit, in coarse bins.
    objects : (F, 3) int64 or None
        Hits, misses and false alarms at the chosen threshold; None without a catalogue.
    fingerprint : str
        Digest of the fields' pixels, truth and catalogues, and of how detections are matched to them.
    """

    names: list[str]
    positives: Counts
    negatives: Counts
    objects: Counts | None
    fingerprint: str


class FieldCounter:
    """Collect the counts of one field after the other.

    Parameters
    ----------
    bins : int
        Bins of the histogram of the whole split; those of a field are at most `COARSE_BINS`.
    limit : float
        The bins span logits from -limit to +limit.
    device : torch.device
        Where the logits are.
    rules : str
        How detections are matched, as text; it is part of the fingerprint.
    """

    def __init__(self, *, bins: int, limit: float, device: torch.device, rules: str) -> None:
        self._bins, self._limit, self._device = min(bins, COARSE_BINS), limit, device
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
        histogram = PixelHistogram(bins=self._bins, limit=self._limit, device=self._device)
        histogram.update(logits, target, valid)
        self._names.append(name)
        self._positives.append(histogram.positives)
        self._negatives.append(histogram.negatives)
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
        )
