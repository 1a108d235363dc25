"""One streaming histogram of logits: the sufficient statistic behind every pixel metric."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from astrid.config import RunError

CHUNK_PIXELS = 2**17
"""Pixels binned at a time, so that whole frames need no more scratch memory than tiles do, and it stays in the cache."""

Counts = NDArray[np.int64]


class HistogramState(TypedDict):
    """What `PixelHistogram.from_counts` needs to rebuild a histogram."""

    positives: Counts
    negatives: Counts
    limit: float
    clipped: int


@dataclass(frozen=True)
class Occupied:
    """Bins that hold pixels, by rising logit; the same to every metric as all bins, and far fewer.

    Attributes
    ----------
    index : (K,) int64
        Number of the bin, from 0.
    positives, negatives : (K,) int64
        Pixels in the bin.
    logits : (K,) float64
        Its middle.
    """

    index: Counts
    positives: Counts
    negatives: Counts
    logits: NDArray[np.float64]


class PixelHistogram:
    """Count positive and negative pixels over equal bins of logit, in constant memory on the device.

    Bin i spans [-limit + i·width, -limit + (i + 1)·width), with width = 2·limit / bins. The number of bins is even, so
    that logit 0 (probability 0.5) is an edge and "logit >= 0" is counted exactly. Logits beyond the limit count in the
    outermost bins and are tallied as clipped. Binning preserves order: whatever rounding does, a pixel in a higher bin
    never has the lower logit.

    Parameters
    ----------
    bins : int
        Number of bins, even.
    limit : float
        Logits from -limit up to, but not including, +limit are resolved.
    device : torch.device or str
        Where the logits are and the counts live.
    """

    def __init__(self, *, bins: int, limit: float, device: torch.device | str) -> None:
        if bins < 2 or bins % 2 or not limit > 0:
            raise ValueError(f"bins must be even and at least 2, and limit positive; got bins={bins}, limit={limit}")
        self.bins = bins
        self.limit = limit
        # One cell per class and bin, negatives first, then: ignored pixels, non-finite logits, clipped logits.
        with torch.inference_mode(False):  # a tensor born in inference mode could not be added to outside it
            self._tally = torch.zeros(2 * bins + 3, dtype=torch.int64, device=device)
        self._occupied: Occupied | None = None

    @classmethod
    def from_counts(cls, positives: Counts, negatives: Counts, *, limit: float, clipped: int = 0) -> PixelHistogram:
        """Build a histogram on the CPU from counts per bin, both (bins,) int64; the inverse of `state`."""
        if positives.shape != negatives.shape or positives.ndim != 1:
            raise ValueError(f"counts must have equal shapes (bins,), got {positives.shape} and {negatives.shape}")
        histogram = cls(bins=len(positives), limit=limit, device="cpu")
        tally = np.concatenate([negatives, positives, [0, 0, clipped]]).astype(np.int64)
        histogram._tally = torch.from_numpy(tally)
        return histogram

    def state(self) -> HistogramState:
        """Return the counts as arrays on the host, for `from_counts`."""
        return {
            "positives": self.positives,
            "negatives": self.negatives,
            "limit": self.limit,
            "clipped": self.clipped,
        }

    def update(self, logits: Tensor, target: Tensor, valid: Tensor) -> None:
        """Add pixels, without waiting for the device.

        Parameters
        ----------
        logits : Tensor
            Any shape, floating point, on the histogram's device.
        target : Tensor
            The same shape; True or 1 = positive.
        valid : Tensor
            The same shape; True or 1 = pixel that counts.
        """
        if not logits.shape == target.shape == valid.shape:
            shapes = [tuple(tensor.shape) for tensor in (logits, target, valid)]
            raise ValueError(f"logits, target and valid must have equal shapes, got {shapes}")
        pixels = (torch.split(tensor.detach().flatten(), CHUNK_PIXELS) for tensor in (logits, target, valid))
        for chunk in zip(*pixels, strict=True):
            self._count(*chunk)
        self._occupied = None

    def _count(self, logits: Tensor, target: Tensor, valid: Tensor) -> None:
        logits = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
        counts, finite, half = valid.bool(), logits.abs() < math.inf, self.bins // 2
        # Scale before shifting: adding the limit first would round small negative logits up to 0.
        cell = (logits * (self.bins / (2 * self.limit))).floor_().clamp_(-half, half - 1).int()
        cell.add_(target.bool(), alpha=self.bins).add_(half)
        cell.masked_fill_(~finite, 2 * self.bins + 1).masked_fill_(~counts, 2 * self.bins)
        self._tally.index_add_(0, cell, self._tally.new_ones(()).expand_as(cell))
        self._tally[-1] += (counts & finite & ((logits < -self.limit) | (logits >= self.limit))).sum()

    def merge(self, other: PixelHistogram) -> PixelHistogram:
        """Add the counts of a histogram with the same bins and return self."""
        if (self.bins, self.limit) != (other.bins, other.limit):
            ours, theirs = f"{self.bins} over ±{self.limit}", f"{other.bins} over ±{other.limit}"
            raise ValueError(f"histograms must have the same bins to merge, got {ours} and {theirs}")
        self._tally += other._tally.to(self._tally.device)
        self._occupied = None
        return self

    def __add__(self, other: PixelHistogram) -> PixelHistogram:
        total = PixelHistogram(bins=self.bins, limit=self.limit, device=self._tally.device)
        return total.merge(self).merge(other)

    @property
    def device(self) -> torch.device:
        """Where the counts are."""
        return self._tally.device

    @property
    def positives(self) -> Counts:
        """Positive pixels per bin, (bins,) int64, by rising logit."""
        return self._pull(self._tally[self.bins : 2 * self.bins])

    @property
    def negatives(self) -> Counts:
        """Negative pixels per bin, (bins,) int64, by rising logit."""
        return self._pull(self._tally[: self.bins])

    @property
    def clipped(self) -> int:
        """Pixels whose logit lay beyond the limit; they are in the outermost bins."""
        return int(self._pull(self._tally[-1:])[0])

    @property
    def occupied(self) -> Occupied:
        """The bins that hold pixels, found once after each change."""
        if self._occupied is None:
            negatives, positives = self._tally[: self.bins], self._tally[self.bins : 2 * self.bins]
            held = torch.nonzero(positives + negatives).squeeze(1)
            index = self._pull(held)
            self._occupied = Occupied(
                index=index,
                positives=self._pull(positives[held]),
                negatives=self._pull(negatives[held]),
                logits=self._middle(index),
            )
        return self._occupied

    @property
    def centres(self) -> NDArray[np.float64]:
        """Logit in the middle of each bin, (bins,)."""
        return self._middle(np.arange(self.bins))

    def _middle(self, index: Counts) -> NDArray[np.float64]:
        return (index.astype(np.float64) + 0.5 - self.bins // 2) * (2 * self.limit / self.bins)

    def cut(self, logit: float) -> int:
        """Return the number of the first bin at or above the bin edge nearest to `logit`, from 0 to `bins`."""
        return int(np.clip(np.round(logit * (self.bins / (2 * self.limit))) + self.bins // 2, 0, self.bins))

    def edge(self, cut: int) -> float:
        """Return the lower edge of bin `cut`; the outermost bins are open, so -inf for 0 and inf for `bins`."""
        if cut in (0, self.bins):
            return -np.inf if cut == 0 else np.inf
        return (cut - self.bins // 2) * (2 * self.limit / self.bins)

    def _pull(self, values: Tensor) -> Counts:
        """Copy counts to the host; refuse them if a valid logit was not finite."""
        pulled = values.cpu().numpy().copy()
        if broken := int(self._tally[-2]):
            remedy = "try a smaller optimizer.lr or training.precision=fp32"
            raise RunError(f"logits must be finite on valid pixels, got {broken} that are not; {remedy}")
        return pulled
