"""What a group leaves behind: metrics, table, figure, and what is printed at its end."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from astrid.card_sections import with_interval
from astrid.config import Config, RunError
from astrid.config.command import resume_command
from astrid.console import print_plain, print_table
from astrid.metrics.intervals import field_intervals
from astrid.metrics.resampled import field_metrics
from astrid.model_card import CARD_FILE
from astrid.results import FIGURES, METRICS_FILE, save_figure
from astrid.tracking import Table, Tracker, known_run_id
from astrid.tracking.parent_run import register_best
from astrid.tracking.tables import Cell
from astrid.units import unit_of, units_of

from .card import GroupFacts, group_card
from .figures import draw_members
from .members import Member
from .pooling import load_fold, pool_folds
from .statistics import over_folds, over_repeats

log = logging.getLogger(__name__)

HEADLINES = ("objective", "test/auprc", "test/completeness", "test/purity")
COLUMNS = (*HEADLINES, "test/ece", "latency/p50_ms", "energy/total_kwh")
"""Metrics of each member in the table."""
SHOWN = ("objective", "test/", "latency/", "throughput/", "energy/total_kwh")
"""How the names begin of what is printed."""
SPREADS = ("_std", "_low", "_high", "_fold_mean", "_fold_std")


@dataclass(frozen=True)
class MemberEnd:
    """How a member ended: with its objective, or with the reason why it has none."""

    member: Member
    objective: float | None
    reason: str = ""

    @property
    def metrics(self) -> dict[str, float]:
        """Final metrics; nothing where it failed."""
        if self.objective is None:
            return {}
        metrics: dict[str, float] = json.loads((self.member.run_dir / METRICS_FILE).read_text())
        return metrics


def report_group(ends: Sequence[MemberEnd], *, config: Config, run_dir: Path, tracker: Tracker) -> dict[str, float]:
    """Report what the members came to, and return it.

    Raises
    ------
    RunError
        Where members failed, once those that finished are reported.
    """
    finished = [end for end in ends if end.objective is not None]
    tracker.tags({"members": f"{len(finished)} of {len(ends)} finished", "statistics": describe_statistics(config)})
    combined = combine(ends, config)
    metrics = tracker.metrics(combined, step=config.training.epochs * len(finished))
    tracker.tables({"members": members_table(ends), "metrics": metrics_table(metrics)})
    if metrics:
        (run_dir / METRICS_FILE).write_text(json.dumps(metrics, indent=2))
        figure = draw_members({end.member.name: end.metrics for end in finished}, metrics, names=HEADLINES)
        tracker.artifact(save_figure(figure, run_dir / FIGURES / "members.png"), folder=FIGURES)
        (run_dir / CARD_FILE).write_text(group_card(_facts(finished, metrics, config=config, name=run_dir.name)))
        for name in ("config.yaml", METRICS_FILE, CARD_FILE):
            tracker.artifact(run_dir / name)
        print_group(metrics, config=config)
    failed = [end for end in ends if end.objective is None]
    if failed:
        reasons = "; ".join(f"{end.member.name}: {end.reason}" for end in failed)
        remedy = f"try them again with: {resume_command(run_dir)}"
        raise RunError(f"{len(failed)} of {len(ends)} runs failed ({reasons}); {remedy}")
    crown(finished, config)
    return metrics


def _facts(finished: Sequence[MemberEnd], metrics: Mapping[str, float], *, config: Config, name: str) -> GroupFacts:
    best = best_member(finished, config)
    return GroupFacts(
        name=name,
        statistics=describe_statistics(config),
        metrics=metrics,
        members={end.member.name: end.metrics for end in finished},
        folders={end.member.name: end.member.run_dir for end in finished},
        best=None if best is None else best.member.name,
    )


def combine(ends: Sequence[MemberEnd], config: Config) -> dict[str, float]:
    """Return the metrics of the group; a repeat of which a fold failed is left out, since its fields are incomplete."""
    repeats: dict[int | None, list[MemberEnd]] = {}
    for end in ends:
        repeats.setdefault(end.member.repeat, []).append(end)
    whole = [own for own in repeats.values() if all(end.objective is not None for end in own)]
    if len(whole) < len(repeats):
        log.warning("%d of %d repeats are complete; only those count", len(whole), len(repeats))
    results = [_of_repeat(own, config) for own in whole]
    if not results:
        return {}
    return results[0] if config.training.repeats == 1 else over_repeats(results, monitor=config.training.monitor)


def _of_repeat(own: Sequence[MemberEnd], config: Config) -> dict[str, float]:
    """Return the metrics of one run, or of all folds, each field tested once, with intervals over the fields."""
    if own[0].member.fold is None:
        return own[0].metrics
    fields = pool_folds([load_fold(end.member.run_dir, config.metrics) for end in own])
    pooled = field_metrics(fields) | field_intervals(fields)
    return over_folds([end.metrics for end in own], {f"test/{name}": value for name, value in pooled.items()})


def describe_statistics(config: Config) -> str:
    """Say what the numbers of the group mean, and by whose method."""
    folds, repeats = config.data.folds if config.data.fold is None else 1, config.training.repeats
    pooled = f"all fields, each tested once by the network of the one in {folds} folds that did not see it"
    if repeats == 1:
        sure = "in brackets 95 % by leaving out one field after the other (Efron and Stein 1981, Tukey 1958)"
        return f"{pooled}; {sure}; _fold_mean and _fold_std are over folds and tell no certainty (Bengio 2004)"
    what = f"mean over {repeats} seeds" + (f" of {pooled}" if folds > 1 else ", data and test fields the same")
    sure = "in brackets 95 % for that mean by Student's t (Student 1908), of shares in logit, of amounts in logarithm"
    return f"{what}; {sure}; _std is the sample's"


def members_table(ends: Sequence[MemberEnd]) -> Table:
    """Return a row for each member, a failed one with its reason."""
    columns = ["member", "repeat", "fold", "seed", "status", *COLUMNS, "run_id", "folder", "reason"]
    rows: list[list[Cell]] = []
    for end in ends:
        member, metrics = end.member, end.metrics
        who: list[Cell] = [member.name, member.repeat, member.fold, str(member.config.training.seed)]
        status = "FAILED" if end.objective is None else "FINISHED"
        where: list[Cell] = [known_run_id(member.run_dir), member.run_dir.name, end.reason or None]
        rows.append([*who, status, *(metrics.get(name) for name in COLUMNS), *where])
    return Table(columns, rows, units_of(columns))


def metrics_table(metrics: Mapping[str, float]) -> Table:
    """Return a row for each metric with its scatter and its interval."""
    rows: list[list[Cell]] = [
        [name, metrics[name], *(metrics.get(f"{name}{end}") for end in ("_std", "_low", "_high")), unit_of(name)]
        for name in metrics
        if not name.endswith(("_std", "_low", "_high"))
    ]
    return Table(["metric", "value", "std", "low", "high", "unit"], rows)


def print_group(metrics: Mapping[str, float], *, config: Config) -> None:
    """Print what the members came to together, and what the numbers mean."""
    several = config.training.repeats > 1
    scatter = "_std" if several else "_fold_std"
    bare = dict.fromkeys(name.removesuffix("_fold_mean") for name in metrics if not name.endswith(SPREADS[:3]))
    rows = [(name, *_cells(metrics, name, scatter)) for name in bare if name.startswith(SHOWN)]
    columns = ("metric", "mean" if several else "all fields", "std" if several else "of folds: mean ± std")
    print_table("together", rows, columns=columns)
    print_plain(describe_statistics(config))


def _cells(metrics: Mapping[str, float], name: str, scatter: str) -> tuple[str, str]:
    value = with_interval(metrics, name) if name in metrics else ""
    spread = f"{metrics[name + scatter]:.2g}" if name + scatter in metrics else ""
    if f"{name}_fold_mean" in metrics and scatter == "_fold_std":
        spread = f"{metrics[f'{name}_fold_mean']:.4g} ± {spread}"
    return value, spread


def crown(finished: Sequence[MemberEnd], config: Config) -> None:
    """Register the model of the best repeat, by validation; networks of different folds can't be compared."""
    best = best_member(finished, config)
    if config.tracking.backend == "off" or best is None:
        return
    run_id = known_run_id(best.member.run_dir)
    version = None if run_id is None else register_best(config.tracking, run_id)
    if version is not None:
        log.info("the network of %s is version %s of %s", best.member.name, version, config.tracking.registered_model)


def best_member(finished: Sequence[MemberEnd], config: Config) -> MemberEnd | None:
    """Return the best repeat by validation; None for folds, which were judged on other fields each."""
    if any(end.member.fold is not None for end in finished):
        return None
    sign = -1.0 if config.training.monitor_mode == "min" else 1.0
    return max(finished, key=lambda end: sign * (end.objective or 0.0))
