"""Rank runs by one metric, say how sure the order is, and find what differs between them."""

from __future__ import annotations

import difflib
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from astrid.config import EPOCH_METRICS, LOWER_IS_BETTER, ConfigError
from astrid.tracking.records import EVALUATED_TAG
from astrid.tracking.stored_runs import StoredRun

from .numbers import with_interval

FALLING = {
    "loss",
    "ece",
    "brier",
    "latency",
    "memory",
    "kwh",
    "co2e",
    "usd",
    "joules",
    "seconds",
    "false",
    "snr50",
    "reliability",
}
"""Words in the name of a metric that improves by falling."""
UNDIRECTED = {"threshold", "epoch", "lr", "operating", "uncertainty", "within"}
"""Words in the name of a metric of which neither more nor less is better."""
ABSENT = "(absent)"


@dataclass(frozen=True)
class Row:
    """A ranked run, with the interval of its metric where one was logged and what it cost where that is known."""

    run: StoredRun
    rank: int
    value: float
    low: float | None
    high: float | None

    @property
    def text(self) -> str:
        """The metric with its interval."""
        return with_interval(self.value, self.low, self.high)

    @property
    def depth(self) -> int | None:
        """Depth of the network."""
        return _integer(self.run.params.get("model.depth"))

    @property
    def filters(self) -> int | None:
        """Filters of the network's first level."""
        return _integer(self.run.params.get("model.filters"))

    @property
    def parameters(self) -> int | None:
        """Parameters of the network."""
        return _integer(self.run.tags.get("model.parameters"))

    @property
    def seconds(self) -> float | None:
        """Wall clock of the run; for one that was resumed the seconds metered, since its clock holds the pause too."""
        run = self.run
        resumed = any(tag.startswith("resumed.") for tag in run.tags)
        if resumed or run.ended_ms is None:
            return run.metrics.get("energy/seconds")
        return (run.ended_ms - run.started_ms) / 1000

    @property
    def kwh(self) -> float | None:
        """Measured energy, None where nothing was measured."""
        return self.run.metrics.get("energy/total_kwh")

    @property
    def latency_ms(self) -> float | None:
        """Median latency of one tile."""
        return self.run.metrics.get("latency/p50_ms")


@dataclass(frozen=True)
class Group:
    """The runs that saw the same data, best first; only these can be compared.

    `fingerprint` is that of the data, empty where none was recorded.
    """

    number: int
    fingerprint: str
    rows: list[Row]
    verdict: str


@dataclass(frozen=True)
class Comparison:
    """Groups of comparable runs, largest first; the runs left out with the reason; and the keys that differ."""

    metric: str
    lower_is_better: bool
    groups: list[Group]
    left_out: list[tuple[StoredRun, str]]
    differences: dict[str, dict[str, str]]
    notes: list[str]

    @property
    def rows(self) -> list[tuple[Group, Row]]:
        """All ranked runs, group by group."""
        return [(group, row) for group in self.groups for row in group.rows]


def compare(runs: Sequence[StoredRun], metric: str) -> Comparison:
    """Rank runs by a metric.

    Parameters
    ----------
    runs : what to compare. For a metric that is logged each epoch, give them its history: the epoch that the run
        called its best counts, else the last.
    metric : name of the metric, as ``test/auprc``.

    Raises
    ------
    ConfigError
        If no run has the metric, or neither more nor less of it is better.
    """
    lower = lower_is_better(metric, runs)
    if not any(metric in run.metrics for run in runs):
        raise ConfigError(_unknown_metric(metric, runs))
    ranked = [run for run in runs if reason_to_leave_out(run, metric) is None]
    left_out = [(run, reason) for run in runs if (reason := reason_to_leave_out(run, metric)) is not None]
    fingerprints = Counter(run.tags.get("data.fingerprint", "") for run in ranked)
    groups = [
        _group(number, fingerprint, ranked, metric=metric, lower=lower)
        for number, (fingerprint, _) in enumerate(fingerprints.most_common(), start=1)
    ]
    return Comparison(metric, lower, groups, left_out, differing(runs), _notes(groups, metric))


def lower_is_better(metric: str, runs: Iterable[StoredRun] = ()) -> bool:
    """Say whether a metric improves by falling; that of `objective` is said by the runs' monitor.

    Raises
    ------
    ConfigError
        If neither more nor less is better, or the runs disagree.
    """
    if metric == "objective":
        monitors = {run.params.get("training.monitor", "") for run in runs}
        if len({monitor in LOWER_IS_BETTER for monitor in monitors}) > 1:
            names = ", ".join(sorted(monitors))
            raise ConfigError(f"--metric objective must mean the same in all runs, got {names}; name one of them")
        return bool(monitors & LOWER_IS_BETTER)
    words = set(re.split(r"[/_]", metric.lower()))
    if words & UNDIRECTED:
        raise ConfigError(f"--metric must have a better direction, got {metric}; try test/auprc")
    return bool(words & FALLING)


def value_of(run: StoredRun, metric: str) -> float:
    """Return a run's value of a metric: that of its best epoch where it is logged each epoch, else the last."""
    best_epoch = _integer(run.tags.get("best_epoch"))
    if metric in EPOCH_METRICS and best_epoch is not None:
        return dict(run.histories.get(metric, [])).get(best_epoch, run.metrics[metric])
    return run.metrics[metric]


def reason_to_leave_out(run: StoredRun, metric: str) -> str | None:
    """Say why a run can't be ranked, None if it can."""
    if run.status != "FINISHED":
        return run.status.lower()
    return None if metric in run.metrics else f"finished without {metric}"


def differing(runs: Sequence[StoredRun]) -> dict[str, dict[str, str]]:
    """Return each configuration key of which the runs hold several values, with the value by run id.

    An evaluation has no knobs of training: those that it lacks are no difference.
    """
    keys = sorted({key for run in runs for key in run.params})
    values = {
        key: {
            run.run_id: run.params.get(key, ABSENT)
            for run in runs
            if key in run.params or EVALUATED_TAG not in run.tags
        }
        for key in keys
    }
    return {key: by_run for key, by_run in values.items() if len(set(by_run.values())) > 1}


def tally(by_run: Mapping[str, str]) -> list[tuple[str, int]]:
    """Count the runs of each value of a key, values in order, numbers as numbers."""
    return sorted(Counter(by_run.values()).items(), key=lambda item: order(item[0]))


def order(value: str) -> tuple[bool, float, str]:
    """Return what sorts values of a key: numbers first, by size, then texts."""
    number = number_in(value)
    return number is None, number or 0.0, value


def number_in(value: str) -> float | None:
    """Return the finite number that a value is, None if it is none."""
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _group(number: int, fingerprint: str, runs: Sequence[StoredRun], *, metric: str, lower: bool) -> Group:
    own = [run for run in runs if run.tags.get("data.fingerprint", "") == fingerprint]
    values = {run.run_id: value_of(run, metric) for run in own}
    own.sort(key=lambda run: values[run.run_id], reverse=not lower)
    ordered = [values[run.run_id] for run in own]
    rows = [
        Row(
            run,
            rank=ordered.index(values[run.run_id]) + 1,  # equal values share a rank
            value=values[run.run_id],
            low=run.metrics.get(f"{metric}_low"),
            high=run.metrics.get(f"{metric}_high"),
        )
        for run in own
    ]
    return Group(number, fingerprint, rows, verdict(rows, metric))


def verdict(rows: Sequence[Row], metric: str) -> str:
    """Say how sure it is that the best run of a group is best."""
    if len(rows) < 2:
        return f"{rows[0].run.name} stands alone: no other run can be compared with it"
    best, second = rows[0], rows[1]
    pair = f"{best.run.name} ({metric} {best.text}) and {second.run.name} ({second.text})"
    if not (_bounded(best) and _bounded(second)):
        return f"{pair}: whether the first is better can't be said, as not both have a 95 % interval"
    if not _overlap(best, second):
        return f"{pair}: the 95 % intervals don't overlap, so the first is better on these fields"
    close = sum(_overlap(best, row) for row in rows[2:])
    others = f"; so does that of the best with {_runs(close)} more" if close else ""
    pairing = "pairing the test fields, as the gate of the registry does, may tell more"
    return f"{pair} can't be told apart by their 95 % intervals, which overlap{others}; {pairing}"


def _bounded(row: Row) -> bool:
    return row.low is not None and row.high is not None


def _overlap(one: Row, other: Row) -> bool:
    if one.low is None or one.high is None or other.low is None or other.high is None:
        return False
    return one.low <= other.high and other.low <= one.high


def _notes(groups: Sequence[Group], metric: str) -> list[str]:
    notes = []
    if len(groups) > 1:
        sizes = ", ".join(f"data {group.number}: {_runs(len(group.rows))}" for group in groups)
        notes.append(
            f"NOT COMPARABLE: the runs saw {len(groups)} different sets of data ({sizes}); "
            "each is ranked by itself, and numbers must not be compared across them"
        )
    if any(group.fingerprint == "" for group in groups):
        notes.append("Runs without the tag data.fingerprint may have seen different data")
    if metric.startswith("test/") and any(len(group.rows) > 2 for group in groups):
        notes.append(
            "A run picked by its test value looks better than it is; pick by --metric val/auprc and read the test once"
        )
    return notes


def _unknown_metric(metric: str, runs: Iterable[StoredRun]) -> str:
    known = sorted({name for run in runs for name in run.metrics})
    close = difflib.get_close_matches(metric, known, n=3) or known[:3] or ["none was logged"]
    return f"--metric must be one that the runs logged, got {metric}; try {', '.join(close)}"


def _integer(text: str | None) -> int | None:
    return int(text) if text is not None and re.fullmatch(r"\d+", text) else None


def _runs(number: int) -> str:
    return f"{number} run" if number == 1 else f"{number} runs"
