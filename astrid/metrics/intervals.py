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

from .per_field import FieldCounts
from .resampled import field_metrics, resampled_metrics
from .revisits import merge_visits

log = logging.getLogger(__name__)

Floats = NDArray[np.float64]

CONFIDENCE = 0.95
FEW_FIELDS = 20
UNSURE_WITH_FEW = ("snr90",)
"""Metrics without an interval below so many fields: what was measured held the truth in 81 to 89 % of the cases."""


class Scale(NamedTuple):
    """A scale without ends, on which the spread of a metric is the same on both sides, and the way back."""

    there: Callable[[Floats], Floats]
    back: Callable[[float], float]


SHARE, CORRELATION, AMOUNT = Scale(logit, expit), Scale(np.arctanh, math.tanh), Scale(np.log, math.exp)
FROM_0_TO_1 = ("auprc", "auroc", "balanced_accuracy", "completeness", "purity", "brier", "ece")
SCALES = {"mcc": CORRELATION} | dict.fromkeys(FROM_0_TO_1, SHARE)
"""Scale of each metric; the others are amounts."""


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
    merged = merge_visits(counts)
    defined = field_metrics(merged)
    values = resampled_metrics(merged, leave_one_out(fields))
    return jackknife_intervals({name: values[name] for name in values if name in defined}, what="test")


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
    missing: list[str] = []
    for name, metric in values.items():
        if not np.isfinite(metric[0]):
            continue  # the metric itself is absent, which was said
        scale = SCALES.get(name, AMOUNT)
        with np.errstate(divide="ignore", invalid="ignore"):
            whole, *rest = scale.there(metric)
        too_few = len(rest) < FEW_FIELDS and name in UNSURE_WITH_FEW
        if too_few or not np.isfinite([whole, *rest]).all() or np.ptp(rest) == 0:
            missing.append(name)
            continue
        reach = _standard_error(np.array(rest)) * float(-stdtrit(len(rest) - 1, (1 - CONFIDENCE) / 2))
        found |= {f"{name}_low": scale.back(whole - reach), f"{name}_high": scale.back(whole + reach)}
    if missing:
        rule = "undefined, at a limit or always the same when one of the fields is left out, or these are too few"
        log.info("%s metrics without an interval, since they are %s: %s", what, rule, ", ".join(missing))
    return {name: float(end) for name, end in found.items()}


def _standard_error(left_out: Floats) -> float:
    fields = len(left_out)
    return math.sqrt((fields - 1) / fields * float(((left_out - left_out.mean()) ** 2).sum()))
