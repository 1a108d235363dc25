"""Test metrics of fields drawn with replacement, by which the gate compares two networks.

The fields drawn depend on the seed and the number of fields alone, so that two networks judged on the same fields
share them: the difference of their resampled values is the paired bootstrap.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, stdtrit

from .histogram import Counts
from .object_counts import ObjectCounts, resampled_counts
from .per_field import FieldCounts, PixelSums
from .resampled import resampled_ranking
from .revisits import merge_visits

Floats = NDArray[np.float64]

CONFIDENCE = 0.95
"""Share of the cases in which an interval shall hold the truth."""


@dataclass(frozen=True)
class Resampled:
    """Test metrics of resampled fields.

    Attributes
    ----------
    values : dict of str to (R,) float64
        By name of the metric; NaN where a resample leaves it undefined.
    levels : (float, float)
        Percentiles that bound a 95 % interval.
    seed : int
        What the draws depend on.
    """

    values: Mapping[str, Floats]
    levels: tuple[float, float]
    seed: int


def resample_fields(counts: FieldCounts, *, resamples: int, seed: int) -> Resampled | None:
    """Resample AUPRC, AUROC and, where there is a catalogue, shares and rates of detections; None for a single field.

    Visits of one patch of sky are drawn together.

    Parameters
    ----------
    counts : FieldCounts
    resamples : int
        How many; the first ones stay the same when there are more.
    seed : int
    """
    fields, counts = counts.independent, merge_visits(counts)
    if fields < 2:
        return None
    weights = draw_weights(fields, resamples=resamples, seed=seed)
    values = resampled_ranking(counts.positives, counts.negatives, weights)
    if counts.objects is not None:
        values |= resampled_counts(counts.objects, weights)
    values = {name: resampled for name, resampled in values.items() if np.isfinite(resampled).any()}
    return Resampled(values, percentile_levels(fields), seed)


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


def save_fields(path: Path, counts: FieldCounts, resampled: Resampled | None) -> None:
    """Write counts and resampled values as npz, from which another run can be compared with this one.

    Arrays: `names`, `groups`, `positives`, `negatives`, `starts`, `fingerprint`; `pixels_...` where decisions and
    calibration were summed, `objects_...` with a catalogue; and, unless there is a single field, `seed`, `levels`, and
    `resampled_NAME` for each metric.
    """
    arrays: dict[str, NDArray[np.generic]] = {
        "names": np.array(counts.names),
        "positives": counts.positives,
        "negatives": counts.negatives,
        "fingerprint": np.array(counts.fingerprint),
    }
    if counts.groups:
        arrays["groups"] = np.array(counts.groups)
    if counts.starts is not None:
        arrays["starts"] = counts.starts
    if counts.pixels is not None:
        arrays |= {f"pixels_{name}": values for name, values in vars(counts.pixels).items()}
    if counts.objects is not None:
        arrays |= {f"objects_{name}": values for name, values in vars(counts.objects).items()}
    if resampled is not None:
        arrays |= {"seed": np.array(resampled.seed), "levels": np.array(resampled.levels)}
        arrays |= {f"resampled_{name}": values for name, values in resampled.values.items()}
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]


def load_fields(path: Path) -> FieldCounts:
    """Read what `save_fields` kept of the fields, but for the scores of each by itself."""
    with np.load(path, allow_pickle=False) as arrays:
        kept = {name: arrays[name] for name in arrays.files}
    pixels, objects = (
        {name.removeprefix(of): values for name, values in kept.items() if name.startswith(of)}
        for of in ("pixels_", "objects_")
    )
    return FieldCounts(
        names=[str(name) for name in kept["names"]],
        positives=kept["positives"],
        negatives=kept["negatives"],
        objects=ObjectCounts(**objects) if objects else None,
        fingerprint=str(kept["fingerprint"]),
        pixels=PixelSums(**pixels) if pixels else None,
        starts=kept.get("starts"),
        groups=tuple(str(group) for group in kept.get("groups", ())),
    )


def load_starts(path: Path) -> Counts | None:
    """Return the bins in which a network's fields were kept, as `FieldCounts.starts`; None where it doesn't say."""
    if not path.is_file():
        return None
    with np.load(path, allow_pickle=False) as arrays:
        return np.asarray(arrays["starts"]) if "starts" in arrays else None
