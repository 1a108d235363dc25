"""What fields showed at one threshold of detections, and the object metrics of resamples of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .completeness import fitted_snr, resampled_snr
from .detections import Flags, Floats, Indices

SNR_SHARES = {"snr50": 0.5, "snr90": 0.9}
"""Signal-to-noise from which this share of the sources is found."""


@dataclass(frozen=True)
class ObjectCounts:
    """What each of F fields showed at one threshold.

    Attributes
    ----------
    counts : (F, 3) int64
        Hits, misses and false alarms.
    valid_pixels : (F,) int64
        Pixels that were searched.
    field : (N,) int64
        Field of each countable source.
    snr, distance_pixels : (N,) float64
        Its signal-to-noise, and how far its detection lies from it; NaN where it has none.
    """

    counts: Indices
    valid_pixels: Indices
    field: Indices
    snr: Floats
    distance_pixels: Floats

    @property
    def found(self) -> Flags:
        """Whether each source has a detection, (N,)."""
        return np.isfinite(self.distance_pixels)


def stack_objects(sets: Sequence[ObjectCounts]) -> ObjectCounts:
    """Return the counts of several sets of fields as those of one set."""
    first = np.cumsum([0, *(len(one.valid_pixels) for one in sets)])[:-1]
    return ObjectCounts(
        counts=np.concatenate([one.counts for one in sets]),
        valid_pixels=np.concatenate([one.valid_pixels for one in sets]),
        field=np.concatenate([one.field + start for one, start in zip(sets, first, strict=True)]),
        snr=np.concatenate([one.snr for one in sets]),
        distance_pixels=np.concatenate([one.distance_pixels for one in sets]),
    )


def snr_reached(counts: ObjectCounts) -> dict[str, float]:
    """Return the signal-to-noise from which each of `SNR_SHARES` is found; NaN where that lies beyond the sources."""
    return {name: fitted_snr(counts.snr, counts.found, share=share) for name, share in SNR_SHARES.items()}


def resampled_objects(counts: ObjectCounts, weights: Floats) -> dict[str, Floats]:
    """Return every object metric of each resample of the fields, NaN where it is undefined.

    Parameters
    ----------
    counts : ObjectCounts
    weights : (R, F) float64
        How often each field counts.

    Returns
    -------
    dict of str to (R,) float64
        Named as in `object_metrics`, without the threshold.
    """
    of_source = weights[:, counts.field]
    curves = resampled_snr(counts.snr, counts.found, weights=of_source, shares=tuple(SNR_SHARES.values()))
    return resampled_counts(counts, weights) | dict(zip(SNR_SHARES, curves, strict=True))


def resampled_counts(counts: ObjectCounts, weights: Floats) -> dict[str, Floats]:
    """Return the object metrics that are ratios of sums over the fields, as `resampled_objects` does."""
    hits, misses, false_alarms = (weights @ counts.counts).T
    distance = np.bincount(counts.field, np.nan_to_num(counts.distance_pixels), minlength=len(counts.valid_pixels))
    with np.errstate(invalid="ignore"):
        return {
            "completeness": hits / (hits + misses),
            "purity": hits / (hits + false_alarms),
            "false_per_mpix": false_alarms / (weights @ counts.valid_pixels) * 1e6,
            "centroid_error_pixels": (weights @ distance) / hits,
        }
