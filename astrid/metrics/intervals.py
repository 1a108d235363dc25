"""How sure the test metrics are: 95 % intervals over test fields, the units that are independent of each other.

Each field is left out in turn, and the spread of what is left becomes a Student interval. Percentiles of a bootstrap
were tried first: with 20 fields they hold the truth in 88 % of the cases for AUPRC where this does in 90 %, with 8 in
89 % (95 %) and with 4 in 82 % (96 %); see `experiments/benchmarks/results.md`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit, stdtrit

from .bootstrap import CONFIDENCE
from .per_field import FieldCounts
from .resampled import field_metrics, resampled_metrics
from .revisits import merge_visits

log = logging.getLogger(__name__)

Floats = NDArray[np.float64]

FEWEST_TRIED = 4
"""Fields down to which simulated repeats were counted for how often intervals hold the truth."""
FEW_FIELDS = 20
UNSURE_WITH_FEW = ("snr90",)
"""Metrics without an interval below so many fields: what was measured held the truth in 81 to 89 % of the cases."""


class Scale(NamedTuple):
    """A scale without ends, on which the spread of a metric is the same on both sides, and the way back."""

    there: Callable[[Floats], Floats]
    back: Callable[[float], float]


SHARE, CORRELATION, AMOUNT = Scale(logit, expit), Scale(np.arctanh, math.tanh), Scale(np.log, math.exp)
FROM_0_TO_1 = (
    *("auprc", "auroc", "tpr", "fpr", "accuracy", "precision", "recall", "f1", "false_positive_rate"),
    *("balanced_accuracy", "completeness", "purity", "brier", "ece", "threshold", "prevalence"),
)
"""Words by which shares are named, as in `precision_macro` and `network_tpr`."""
SCALES = {"mcc": CORRELATION} | dict.fromkeys(FROM_0_TO_1, SHARE)
"""Scale of each metric by a word of its name; the others are amounts."""


def scale_of(name: str) -> Scale:
    """Return the scale of a metric by its name, with or without what it was measured on.

    Examples
    --------
    >>> scale_of("test/precision_macro") is SHARE, scale_of("latency/p50_ms") is AMOUNT
    (True, True)
    """
    bare = f"_{name.rpartition('/')[2].removesuffix('_fold_mean')}_"
    return next((scale for word, scale in SCALES.items() if f"_{word}_" in bare), AMOUNT)


def field_intervals(counts: FieldCounts) -> dict[str, float]:
    """Return `NAME_low` and `NAME_high` of every metric whose interval the fields can tell.

    Visits of one patch of sky are left out together. A metric that has no value has no bounds either.

    Parameters
    ----------
    counts : FieldCounts
    """
    fields = counts.independent
    if fields < len(counts.names):
        log.info("intervals count the %d test fields as %d, one for each patch of sky", len(counts.names), fields)
    if fields < 2:
        log.warning("the test metrics have no intervals: %d test field says nothing of how fields differ", fields)
        return {}
    if fields < FEWEST_TRIED:
        unsure = f"whether they hold the truth was never tried below {FEWEST_TRIED}"
        log.warning("intervals rest on %d test fields, and %s; don't rely on them", fields, unsure)
    merged = merge_visits(counts)
    defined = field_metrics(merged)
    values = resampled_metrics(merged, leave_one_out(fields))
    return jackknife_intervals({name: values[name] for name in values if name in defined}, what="the network")


def leave_one_out(fields: int) -> Floats:
    """Return weights under which all fields count once, and then all but one in turn, (1 + F, F)."""
    return np.vstack([np.ones(fields), 1.0 - np.eye(fields)])


def jackknife_intervals(values: Mapping[str, Floats], *, what: str) -> dict[str, float]:
    """Return the bounds of 95 % intervals; a metric without one is absent, and the log says why.

    The jackknife's standard error on a scale without ends, times Student's quantile for F - 1 degrees of freedom.

    Parameters
    ----------
    values : mapping of str to (1 + F,) float64
        Each metric of all fields, and with each field left out in turn.
    what : str
        Whose metrics they are, for the log.

    References
    ----------
    Efron and Stein 1981, Annals of Statistics 9, 586, doi:10.1214/aos/1176345462 (the variance); Tukey 1958, Annals of
    Mathematical Statistics 29, 614 (Student's quantile)
    """
    found: dict[str, float] = {}
    missing: dict[str, list[str]] = {}
    for name, metric in values.items():
        if not np.isfinite(metric[0]):
            continue  # the metric itself is absent, which was said
        scale = scale_of(name)
        with np.errstate(divide="ignore", invalid="ignore"):
            whole, *rest = scale.there(metric)
        if (reason := _why_none(name, metric, np.array([whole, *rest]))) is not None:
            missing.setdefault(reason, []).append(name)
            continue
        reach = _standard_error(np.array(rest)) * float(-stdtrit(len(rest) - 1, (1 - CONFIDENCE) / 2))
        found |= {f"{name}_low": scale.back(whole - reach), f"{name}_high": scale.back(whole + reach)}
    if missing:
        said = "; ".join(f"{', '.join(names)} {reason}" for reason, names in missing.items())
        log.info("no interval for these metrics of %s: %s", what, said)
    return {name: float(end) for name, end in found.items()}


def _why_none(name: str, metric: Floats, moved: Floats) -> str | None:
    """Say why a metric has no interval, in words that follow its name; None where it has one.

    Parameters
    ----------
    name : str
    metric, moved : (1 + F,) float64
        The metric of all fields and with each left out, as it is and on its scale.
    """
    if len(metric) - 1 < FEW_FIELDS and name in UNSURE_WITH_FEW:
        return f"(needs {FEW_FIELDS} fields)"
    if not np.isfinite(metric).all():
        return "(undefined without one of the fields)"
    if not np.isfinite(moved).all():
        return "(at the end of its range)"
    return "(the same whichever field is left out)" if np.ptp(moved[1:]) == 0 else None


def _standard_error(left_out: Floats) -> float:
    fields = len(left_out)
    return math.sqrt((fields - 1) / fields * float(((left_out - left_out.mean()) ** 2).sum()))
