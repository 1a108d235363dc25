"""What several runs come to: a mean, how far they scatter, and how sure the mean is."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.special import stdtrit

from astrid.metrics.bootstrap import CONFIDENCE
from astrid.metrics.intervals import scale_of

log = logging.getLogger(__name__)

ENDS = ("_low", "_high")


def student_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Return the 95 % interval of the mean of independent, normally distributed values; None where there is none.

    mean ± t(n - 1) · s / sqrt(n), with the sample standard deviation s and Student's t. A single value has none. Nor
    have values that are all the same, such as a purity of 1: others were just not seen.

    References
    ----------
    Student 1908, Biometrika 6, 1, doi:10.1093/biomet/6.1.1

    Examples
    --------
    >>> student_interval([0.80, 0.82, 0.84])
    (0.7703..., 0.8696...)
    """
    count = len(values)
    if count < 2 or np.ptp(values) == 0:
        return None
    half_width = float(stdtrit(count - 1, (1 + CONFIDENCE) / 2)) * float(np.std(values, ddof=1)) / math.sqrt(count)
    mean = float(np.mean(values))
    return mean - half_width, mean + half_width


def bounded_interval(name: str, values: Sequence[float]) -> tuple[float, float] | None:
    """Return the 95 % interval of a metric's mean on the scale on which it has no ends, as for a single run.

    So a share stays within 0 and 1, and an amount above 0, also with the two repeats for which Student's t is 12.7.
    None as for `student_interval`, and where a value lies at an end of the scale.

    Examples
    --------
    >>> bounded_interval("test/auroc", [0.55, 0.68])
    (0.09..., 0.96...)
    """
    scale = scale_of(name)
    with np.errstate(divide="ignore", invalid="ignore"):
        moved = scale.there(np.asarray(values, dtype=np.float64))
    if not np.isfinite(moved).all() or (ends := student_interval(list(moved))) is None:
        return None
    return scale.back(ends[0]), scale.back(ends[1])


def common_names(results: Sequence[Mapping[str, float]]) -> list[str]:
    """Return the metrics that all results have, but for the ends of their own intervals.

    The log names those that only some have: their mean would be one of the runs that went well.
    """
    every = dict.fromkeys(name for result in results for name in result)
    names = [name for name in every if not _is_end(name, results)]
    partial = [name for name in names if any(name not in result for result in results)]
    if partial:
        log.warning("not all of the %d runs define %s: no mean is given", len(results), ", ".join(partial))
    return [name for name in names if name not in partial]


def _is_end(name: str, results: Sequence[Mapping[str, float]]) -> bool:
    bare = next((name.removesuffix(end) for end in ENDS if name.endswith(end)), None)
    return bare is not None and any(bare in result for result in results)


def over_repeats(results: Sequence[Mapping[str, float]], *, monitor: str) -> dict[str, float]:
    """Return, for each metric NAME that all repeats have, its mean, `NAME_std`, and `NAME_low` and `NAME_high`.

    The interval says how sure the mean over seeds is, for these data and these test fields. `monitor` names what the
    objective is.
    """
    found: dict[str, float] = {}
    for name in common_names(results):
        values = [result[name] for result in results]
        found |= {name: float(np.mean(values))} | standard_deviation(f"{name}_std", values)
        if (interval := bounded_interval(monitor if name == "objective" else name, values)) is not None:
            found |= {f"{name}_low": interval[0], f"{name}_high": interval[1]}
    return found


def standard_deviation(name: str, values: Sequence[float]) -> dict[str, float]:
    """Return the sample standard deviation under a name, nothing for a single value."""
    return {name: float(np.std(values, ddof=1))} if len(values) > 1 else {}


def over_folds(results: Sequence[Mapping[str, float]], pooled: Mapping[str, float]) -> dict[str, float]:
    """Return what the folds of one cross-validation come to.

    Parameters
    ----------
    results : sequence of mappings
        Final metrics of each fold.
    pooled : mapping
        Metrics of all fields together, each tested once.

    Returns
    -------
    dict of float by name
        The pooled metrics by their own names; of every test metric the mean and standard deviation of the folds as
        `NAME_fold_mean` and `NAME_fold_std`; of what is no test metric, such as latency, the mean as NAME. None of
        these means has an interval: folds share their training fields, so their scatter doesn't tell how sure it is.

    References
    ----------
    Bengio and Grandvalet 2004, Journal of Machine Learning Research 5, 1089
    """
    found = dict(pooled)
    for name in common_names(results):
        values = [result[name] for result in results]
        mean = float(np.mean(values))
        if name.startswith("test/"):
            found |= {f"{name}_fold_mean": mean} | standard_deviation(f"{name}_fold_std", values)
        else:
            found[name] = mean
    return found
