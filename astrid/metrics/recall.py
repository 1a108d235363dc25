"""Recall at a rate of false detections: what is found by whoever may be wrong so often and no more often."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .bootstrap import draw_weights, percentile_levels
from .objects import ObjectTally

log = logging.getLogger(__name__)

Floats = NDArray[np.float64]

RESAMPLES, SEED = 2000, 0
"""Of the bootstrap; the seed is one for all, so that a network and its rivals are resampled alike."""


@dataclass(frozen=True)
class Recall:
    """Share of the sources that are found at the best threshold which keeps to a rate of false detections.

    Attributes
    ----------
    false_per_mpix : float
        The rate, in detections per million valid pixels.
    value : float
        0 where every threshold makes more.
    interval : (low, high) or None
        95 %; None with a single field, and where all sources or none are found, of which no resample knows better.
    """

    false_per_mpix: float
    value: float
    interval: tuple[float, float] | None = None

    @property
    def name(self) -> str:
        """Name under which it is logged."""
        return f"recall_at_{self.false_per_mpix:g}_per_mpix"


def recalls(tally: ObjectTally, rates: Sequence[float], groups: Sequence[str]) -> list[Recall]:
    """Return the recall at each rate of false detections; none without sources, and the log says so.

    The rate is that of the fields themselves, as for the true positive rate at a false positive rate: nothing is chosen
    but what the rate implies. Patches of sky are resampled with the threshold drawn anew for each resample.

    Parameters
    ----------
    tally : ObjectTally
        Closely spaced thresholds come closer to the rate.
    rates : sequence of float
        False detections per million valid pixels.
    groups : sequence of F str
        Patch of sky of each field: fields of one are no independent looks.

    References
    ----------
    Bunch et al. 1977, Proc. SPIE 127, 124, doi:10.1117/12.955926 (free-response curves); Efron 1979, Annals of
    Statistics 7, 1, doi:10.1214/aos/1176344552 (the bootstrap)
    """
    patches, patch = np.unique(np.array(groups), return_inverse=True)
    if rates and not tally.sources_by_field.any():
        log.warning("recall at a rate of false detections is undefined and left out: there are no sources")
        return []
    drawn = draw_weights(len(patches), resamples=RESAMPLES, seed=SEED) if rates and len(patches) > 1 else None
    return [_recall(tally, rate, drawn, patch) for rate in rates]


def _recall(tally: ObjectTally, rate: float, drawn: Floats | None, patch: NDArray[np.int64]) -> Recall:
    value = float(recall_of_mixes(tally, rate, np.ones((1, len(tally.sources_by_field))))[0])
    if drawn is None or value in (0.0, 1.0):
        return Recall(rate, value)
    mixes = recall_of_mixes(tally, rate, drawn[:, patch])
    low, high = np.nanpercentile(mixes, percentile_levels(drawn.shape[1]))  # NaN: a mix without sources
    return Recall(rate, value, (float(low), float(high)))


def recall_of_mixes(tally: ObjectTally, rate: float, weights: Floats) -> Floats:
    """Return the recall of mixes of the fields, (R,), each at the best threshold that keeps to the rate in it.

    False detections needn't fall as the threshold rises: groups that merge at a lax one are fewer.

    Parameters
    ----------
    weights : (R, F) float64
        How often each field counts.
    """
    hits, false = weights @ tally.hits_by_field, weights @ tally.false_alarms_by_field  # (R, T)
    kept = 1e6 * false <= rate * (weights @ tally.valid_pixels_by_field)[:, None]
    found = np.where(kept, hits, 0.0).max(axis=1)
    with np.errstate(invalid="ignore"):
        return np.asarray(found / (weights @ tally.sources_by_field))


def recall_metrics(found: Sequence[Recall], owner: str) -> dict[str, float]:
    """Return the recalls of a detector by `OWNER/name`."""
    return {f"{owner}/{one.name}": one.value for one in found}


def recall_ends(found: Sequence[Recall], owner: str) -> dict[str, float]:
    """Return the ends of their intervals by `OWNER/name_low` and `_high`; those without one are absent."""
    known = [(f"{owner}/{one.name}", one.interval) for one in found if one.interval is not None]
    return {f"{name}_{end}": value for name, ends in known for end, value in zip(("low", "high"), ends, strict=True)}
