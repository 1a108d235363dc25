"""Count how often the 95 % intervals of the test metrics hold the truth, against percentiles of a bootstrap.

For each number of test fields, 200 repeats are drawn from the population of `tests/drawn_fields.py`, whose fields
differ in difficulty and whose false alarms come in crowds. Repeats in which a rule gives no interval don't count.

    PYTHONPATH=tests python experiments/benchmarks/bench_coverage.py
"""

from __future__ import annotations

import logging

import numpy as np
from drawn_fields import draw_fields
from rivals import record

from astrid.metrics.bootstrap import resample_fields
from astrid.metrics.intervals import field_intervals
from astrid.metrics.per_field import FieldCounts
from astrid.metrics.resampled import resampled_metrics

REPEATS, RESAMPLES = 200, 400
FIELDS = (4, 8, 12, 20, 32, 64)
POPULATION, PARTS = 4000, 5
Ends = dict[str, tuple[float, float]]


def known_truth(rng: np.random.Generator) -> dict[str, float]:
    """Return the metrics of 20,000 fields."""
    parts = [resampled_metrics(draw_fields(rng, POPULATION), np.ones((1, POPULATION))) for _ in range(PARTS)]
    return {name: float(np.mean([part[name][0] for part in parts])) for name in parts[0]}


def ours(counts: FieldCounts) -> Ends:
    """Return the intervals that a run reports."""
    found = field_intervals(counts)
    names = {name.removesuffix("_low") for name in found if name.endswith("_low")}
    return {name: (found[f"{name}_low"], found[f"{name}_high"]) for name in names}


def percentiles(counts: FieldCounts, seed: int) -> Ends:
    """Return intervals between percentiles of a bootstrap, widened for few fields."""
    resampled = resample_fields(counts, resamples=RESAMPLES, seed=seed)
    assert resampled is not None
    return {
        name: tuple(np.percentile(values, resampled.levels))
        for name, values in resampled.values.items()
        if np.isfinite(values).all() and np.ptp(values) > 0
    }


def cover(fields: int, truth: dict[str, float], rng: np.random.Generator) -> list[dict[str, list[bool]]]:
    """Return by metric whether each interval held the truth, for our intervals and for the percentiles."""
    held: list[dict[str, list[bool]]] = [{name: [] for name in truth} for _ in range(2)]
    for repeat in range(REPEATS):
        counts = draw_fields(rng, fields)
        for rule, ends in zip(held, (ours(counts), percentiles(counts, repeat)), strict=True):
            for name, (low, high) in ends.items():
                rule[name].append(low <= truth[name] <= high)
    return held


def say(held: dict[str, list[bool]]) -> str:
    """Write the share of each metric, and of how many repeats where that isn't all of them."""
    parts = []
    for name, inside in held.items():
        if inside:
            of = "" if len(inside) == REPEATS else f" of {len(inside)}"
            parts.append(f"{name} {np.mean(inside):.3f}{of}")
    return ", ".join(parts)


def main() -> None:
    """Measure every number of fields."""
    logging.disable(logging.WARNING)
    rng = np.random.default_rng(2026)
    truth = known_truth(rng)
    lines = []
    for fields in FIELDS:
        mine, theirs = cover(fields, truth, rng)
        lines += [f"{fields} fields: {say(mine)}", f"{fields} fields, bootstrap percentiles: {say(theirs)}"]
    record("bench_coverage", f"{REPEATS} repeats each; share of 95 % intervals that hold the truth", *lines)


if __name__ == "__main__":
    main()
