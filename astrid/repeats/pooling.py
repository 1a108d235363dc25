"""The test fields of all folds as one set, in which each field was judged once by a network that never saw it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from astrid.config import MetricsConfig, RunError
from astrid.metrics.bootstrap import load_fields
from astrid.metrics.histogram import Counts
from astrid.metrics.object_counts import stack_objects
from astrid.metrics.per_field import COARSE_BINS, FieldCounts, stack_sums
from astrid.tracking.gate import FIELDS_FILE


@dataclass(frozen=True)
class FoldFields:
    """What a fold kept of its test fields: `FieldCounts`, and the logit in the middle of each of its bins, (B,)."""

    counts: FieldCounts
    logits: NDArray[np.float64]


def load_fold(run_dir: Path, config: MetricsConfig) -> FoldFields:
    """Read what a fold's run kept of its test fields.

    Parameters
    ----------
    run_dir : Path
    config : MetricsConfig
        With the bins and the limit of the histogram whose bins were joined.
    """
    counts = load_fields(run_dir / FIELDS_FILE)
    assert counts.starts is not None  # a run writes them
    edges = np.append(counts.starts, config.bins) - config.bins / 2
    logits = (edges[:-1] + edges[1:]) / 2 * (2 * config.logit_limit / config.bins)
    return FoldFields(counts, logits)


def pool_folds(folds: Sequence[FoldFields]) -> FieldCounts:
    """Bring the fields of all folds into common bins of logit.

    Each fold has bins of its own, which follow the logits of its network. They are ranked together by the logit in
    their middle and joined, so that each common bin holds about as much of either class as any other. Logits of several
    networks are ranked as if they were one's; that they are comparable is an assumption, which calibrated ones deserve.

    References
    ----------
    Forman and Scholz 2010, SIGKDD Explorations 12, 49, doi:10.1145/1882471.1882479

    Raises
    ------
    RunError
        Where a field was tested twice.
    """
    names = [name for fold in folds for name in fold.counts.names]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise RunError(f"each field must be tested in one fold, but {twice[0]} is in several; start a new run")
    bins = _common_bins(folds)
    count = 1 + max(int(one[-1]) for one in bins)
    objects = [fold.counts.objects for fold in folds if fold.counts.objects is not None]
    sums = [fold.counts.pixels for fold in folds if fold.counts.pixels is not None]
    return FieldCounts(
        names=names,
        positives=np.concatenate(
            [_joined(fold.counts.positives, one, count) for fold, one in zip(folds, bins, strict=True)]
        ),
        negatives=np.concatenate(
            [_joined(fold.counts.negatives, one, count) for fold, one in zip(folds, bins, strict=True)]
        ),
        objects=stack_objects(objects) if len(objects) == len(folds) else None,
        pixels=stack_sums(sums) if len(sums) == len(folds) else None,
        groups=tuple(group for fold in folds for group in fold.counts.groups or fold.counts.names),
        fingerprint=hashlib.sha256("".join(fold.counts.fingerprint for fold in folds).encode()).hexdigest(),
    )


def _common_bins(folds: Sequence[FoldFields]) -> list[NDArray[np.int64]]:
    """Return for each fold the common bin of each of its own, rising."""
    logits, place = np.unique(np.concatenate([fold.logits for fold in folds]), return_inverse=True)
    mass = np.zeros(len(logits))
    for classes in ("positives", "negatives"):
        pixels = np.concatenate([getattr(fold.counts, classes).sum(axis=0) for fold in folds])
        mass += np.bincount(place, weights=pixels) / max(1, pixels.sum())
    before = np.concatenate([[0.0], mass.cumsum()[:-1]])
    common = np.floor(before / mass.sum() * COARSE_BINS).astype(np.int64)
    common = np.unique(common, return_inverse=True)[1]
    ends = np.cumsum([len(fold.logits) for fold in folds])
    return np.split(common[place], ends[:-1])


def _joined(counts: Counts, bins: NDArray[np.int64], count: int) -> Counts:
    """Add up (F, B) counts whose bins belong to the same common bin, giving (F, count)."""
    occupied, starts = np.unique(bins, return_index=True)
    joined = np.zeros((len(counts), count), dtype=np.int64)
    joined[:, occupied] = np.add.reduceat(counts, starts, axis=1)
    return joined
