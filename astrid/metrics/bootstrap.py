"""How sure the test metrics are: a bootstrap over test fields, the units that are independent of each other.

The fields drawn depend on the seed and the number of fields alone, so that two networks judged on the same fields
share them: the difference of their resampled values is the paired bootstrap.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, stdtrit

from .histogram import Counts
from .per_field import FieldCounts

log = logging.getLogger(__name__)

Floats = NDArray[np.float64]

CONFIDENCE = 0.95
FEW_FIELDS = 20
CHUNK_RESAMPLES = 100
"""Resamples whose ranked counts are held at once, a few MB."""


@dataclass(frozen=True)
class Resampled:
    """Test metrics of resampled fields.

    Attributes
    ----------
    values : dict of str to (R,) float64
        By name of the metric; NaN where a resample leaves it undefined.
    levels : (float, float)
        Percentiles that bound the interval.
    seed : int
        What the draws depend on.
    """

    values: Mapping[str, Floats]
    levels: tuple[float, float]
    seed: int

    def intervals(self) -> dict[str, float]:
        """Return `NAME_low` and `NAME_high` of every metric that is defined in all resamples and differs between them.

        A metric that is the same in all of them, such as a purity of 1, is not known exactly: fields that would lower
        it were just not seen.
        """
        found: dict[str, float] = {}
        for name, values in self.values.items():
            if not np.isfinite(values).all():
                undefined = int((~np.isfinite(values)).sum())
                log.warning("%s has no interval: undefined in %d of %d resamples", name, undefined, len(values))
                continue
            if np.ptp(values) == 0:
                log.warning("%s has no interval: it is %g in every resample", name, values[0])
                continue
            low, high = np.percentile(values, self.levels)
            found |= {f"{name}_low": float(low), f"{name}_high": float(high)}
        return found


def resample_fields(counts: FieldCounts, *, resamples: int, seed: int) -> Resampled | None:
    """Resample AUPRC and, where there is a catalogue, completeness and purity; None for a single field.

    Parameters
    ----------
    counts : FieldCounts
    resamples : int
        How many; the first ones stay the same when there are more.
    seed : int
    """
    fields = len(counts.names)
    if fields < 2:
        log.warning("the test metrics have no intervals: %d test field says nothing of how fields differ", fields)
        return None
    if fields < FEW_FIELDS:
        log.warning("%d test fields are few: intervals over less than %d are rough", fields, FEW_FIELDS)
    values = weighted_metrics(counts, draw_weights(fields, resamples=resamples, seed=seed))
    return Resampled(values, percentile_levels(fields), seed)


def field_metrics(counts: FieldCounts) -> dict[str, float]:
    """Return AUPRC and, where there is a catalogue, completeness and purity of all fields; the undefined are absent."""
    found = weighted_metrics(counts, np.ones((1, len(counts.names))))
    return {name: float(values[0]) for name, values in found.items()}


def weighted_metrics(counts: FieldCounts, weights: Floats) -> dict[str, Floats]:
    """Return each metric of the fields under each row of weights, (R, F) to (R,); what no row defines is absent."""
    values = {"auprc": resampled_auprc(counts.positives, counts.negatives, weights)}
    if counts.objects is not None:
        hits, misses, false_alarms = (weights @ counts.objects).T
        with np.errstate(invalid="ignore"):
            values |= {"completeness": hits / (hits + misses), "purity": hits / (hits + false_alarms)}
    return {name: resampled for name, resampled in values.items() if np.isfinite(resampled).any()}


def draw_weights(fields: int, *, resamples: int, seed: int) -> Floats:
    """Return how often each field is drawn in each resample, (resamples, fields), from fields drawn with replacement.

    References
    ----------
    Efron 1979, Annals of Statistics 7, 1, doi:10.1214/aos/1176344552
    """
    drawn = np.random.default_rng(seed).integers(fields, size=(resamples, fields))
    weights = np.zeros((resamples, fields))
    np.add.at(weights, (np.arange(resamples)[:, None], drawn), 1.0)
    return weights


def percentile_levels(fields: int) -> tuple[float, float]:
    """Return the percentiles between which 95 % of the values shall lie, widened for few fields.

    Plain percentiles are too narrow by the factor sqrt((n - 1) / n) and by using the normal law in place of Student's.

    References
    ----------
    Hesterberg 2015, American Statistician 69, 371, doi:10.1080/00031305.2015.1089789, section 3.3
    """
    quantile = float(stdtrit(fields - 1, (1 - CONFIDENCE) / 2))
    tail = 100 * float(ndtr(quantile * math.sqrt(fields / (fields - 1))))
    return tail, 100 - tail


def resampled_auprc(positives: Counts, negatives: Counts, weights: Floats) -> Floats:
    """Return the average precision of each resample, as `ranking.auprc` defines it; NaN without positives.

    Parameters
    ----------
    positives, negatives : (F, B) int64
        Pixels of each field by rising logit.
    weights : (R, F) float64
        How often each field counts.

    Returns
    -------
    (R,) float64
    """
    occupied = np.flatnonzero((positives + negatives).any(axis=0))[::-1]
    positive, negative = positives[:, occupied].astype(float), negatives[:, occupied].astype(float)
    starts = range(0, len(weights), CHUNK_RESAMPLES)
    chunks = [weights[start : start + CHUNK_RESAMPLES] for start in starts]
    return np.concatenate([_average_precision(chunk @ positive, chunk @ negative) for chunk in chunks])


def _average_precision(positives: Floats, negatives: Floats) -> Floats:
    """Return the average precision of each row of counts by falling logit, (R, K) to (R,)."""
    true, false = positives.cumsum(axis=1), negatives.cumsum(axis=1)
    precision = true / np.maximum(true + false, 1.0)  # a row may lack the highest bins; nothing is counted there
    with np.errstate(invalid="ignore"):
        return np.asarray((positives * precision).sum(axis=1) / true[:, -1])


def save_fields(path: Path, counts: FieldCounts, resampled: Resampled | None) -> None:
    """Write counts and resampled values as npz, from which another run can be compared with this one.

    Arrays: `names`, `positives`, `negatives`, `starts`, `objects` (absent without a catalogue), `fingerprint`; and,
    unless there is a single field, `seed`, `levels`, and `resampled_NAME` for each metric.
    """
    arrays: dict[str, NDArray[np.generic]] = {
        "names": np.array(counts.names),
        "positives": counts.positives,
        "negatives": counts.negatives,
        "fingerprint": np.array(counts.fingerprint),
    }
    for name, values in (("objects", counts.objects), ("starts", counts.starts)):
        if values is not None:
            arrays[name] = values
    if resampled is not None:
        arrays |= {"seed": np.array(resampled.seed), "levels": np.array(resampled.levels)}
        arrays |= {f"resampled_{name}": values for name, values in resampled.values.items()}
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]


def load_starts(path: Path) -> Counts | None:
    """Return the bins in which a network's fields were kept, as `FieldCounts.starts`; None where it doesn't say."""
    if not path.is_file():
        return None
    with np.load(path, allow_pickle=False) as arrays:
        return np.asarray(arrays["starts"]) if "starts" in arrays else None
