"""What a run leaves behind: its metrics, figures, model, and the table at the end."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from matplotlib.figure import Figure
from torch import Tensor

from astrid.aims import aim_and_outcome
from astrid.baselines import Comparison, MaskRival
from astrid.baselines.table import print_rivals
from astrid.card_sections import with_interval
from astrid.config import Config, DataError, RunError, TrackingConfig
from astrid.console import print_plain, print_table
from astrid.energy import (
    Component,
    EnergyAnalyzer,
    EnergySummary,
    Factors,
    Meter,
    energy_labels,
    energy_metrics,
    per_image,
)
from astrid.energy.figures import energy_figures
from astrid.energy.tables import phases_csv
from astrid.energy_runs import read_run
from astrid.evaluate import Evaluation
from astrid.figures import draw_figures
from astrid.handover import hand_over_model, model_facts, run_tables
from astrid.learner import Progress
from astrid.metrics.bootstrap import Resampled, resample_fields
from astrid.metrics.intervals import field_intervals
from astrid.metrics.operating import MEASURED_AS
from astrid.predictor import Predictor
from astrid.run_facts import DIFF_FILE, ENVIRONMENT_FILE
from astrid.tracking import Tracker, ui_command

log = logging.getLogger(__name__)

METRICS_FILE, FIGURES = "metrics.json", "figures"
PHASES_FILE = "energy_phases.csv"


@dataclass(frozen=True)
class Outcome:
    """Everything that a finished run has to report."""

    objective: float
    epoch: int
    best_epoch: int
    history: list[dict[str, float]]
    evaluation: Evaluation
    rivals: Comparison | MaskRival | None
    latency: dict[str, float]
    energy: EnergySummary
    factors: Factors
    val_tiles: int
    predictor: Predictor
    description: str
    fingerprint: str
    origins: dict[str, list[str]]
    example: Tensor


def report(outcome: Outcome, *, config: Config, run_dir: Path, tracker: Tracker, seconds: float) -> None:
    """Write metrics and figures, hand everything to the tracker, and print the table."""
    gate, fields = config.tracking.gate, outcome.evaluation.fields
    resampled = resample_fields(fields, resamples=gate.resamples, seed=gate.seed)
    metrics = tracker.metrics(final_metrics(outcome, config), step=outcome.epoch)
    (run_dir / METRICS_FILE).write_text(json.dumps(metrics, indent=2))
    tracker.tags(energy_labels(outcome.energy) | outcome.factors.tags() | {"best_epoch": str(outcome.best_epoch)})
    if config.metrics.figures:
        report_figures(outcome, config=config, run_dir=run_dir, tracker=tracker)
    for name in ("config.yaml", ENVIRONMENT_FILE, DIFF_FILE, METRICS_FILE):
        tracker.artifact(run_dir / name)
    tracker.tables(run_tables(outcome.history, metrics, fields))
    hand_over(outcome, metrics, resampled, config=config, run_dir=run_dir, tracker=tracker)
    if config.sweep.trial is None:
        print_outcome(outcome, metrics, seconds=seconds)
    else:
        print_trial(outcome, metrics, config=config, seconds=seconds)


def report_figures(outcome: Outcome, *, config: Config, run_dir: Path, tracker: Tracker) -> None:
    """Draw, save and report every figure of the run."""
    figures = draw_figures(
        outcome.history,
        outcome.evaluation,
        best_epoch=outcome.best_epoch,
        monitor=config.training.monitor,
        config=config.metrics,
        comparison=outcome.rivals if isinstance(outcome.rivals, Comparison) else None,
    )
    for name, figure in figures.items():
        tracker.artifact(save_figure(figure, run_dir / FIGURES / f"{name}.png"), folder=FIGURES)
    report_energy_figures(run_dir, tracker)


def report_energy_figures(run_dir: Path, tracker: Tracker) -> None:
    """Draw power and phases, write the phases as a table and note what would save energy, where it was measured."""
    try:
        run = read_run(run_dir)
    except DataError as error:  # the numbers are on record already
        log.warning("no figure of the energy is drawn: %s", error)
        return
    analyzer = EnergyAnalyzer([run])
    if run.total_joules is None:
        return
    if advice := analyzer.advice(run.name):
        tracker.tags({"energy.advice": "; ".join(advice)})
    for name, figure in energy_figures(analyzer, "test/auprc", lower=False).items():
        tracker.artifact(save_figure(figure, run_dir / FIGURES / f"energy_{name}.png"), folder=FIGURES)
    (run_dir / PHASES_FILE).write_text(phases_csv(analyzer))
    tracker.artifact(run_dir / PHASES_FILE)


def hand_over(
    outcome: Outcome,
    metrics: Mapping[str, float],
    resampled: Resampled | None,
    *,
    config: Config,
    run_dir: Path,
    tracker: Tracker,
) -> None:
    """Report the model with all that belongs to it."""
    facts = model_facts(
        outcome.predictor,
        outcome.evaluation,
        metrics,
        config=config,
        channels=outcome.example.shape[1],
        description=outcome.description,
        fingerprint=outcome.fingerprint,
        best_epoch=outcome.best_epoch,
        origins=outcome.origins,
    )
    hand_over_model(
        facts,
        outcome.predictor,
        outcome.example,
        fields=outcome.evaluation.fields,
        resampled=resampled,
        energy=energy_line(outcome.energy, metrics),
        run_dir=run_dir,
        tracker=tracker,
    )


def say_where(config: TrackingConfig, run_dir: Path) -> None:
    """Print where the run is, and last the command that opens MLflow's pages."""
    print_plain(f"run folder: {run_dir}")
    command = ui_command(config)
    if command is not None:
        print_plain(command)


def final_metrics(outcome: Outcome, config: Config) -> dict[str, float]:
    """Return every final metric by the name under which it is logged; the undefined are absent."""
    energy = energy_metrics(outcome.energy, outcome.factors)
    energy |= per_image(
        outcome.energy,
        train_images=images_trained(outcome.history),
        val_images=outcome.val_tiles * len(outcome.history),
        tile_size=config.data.tile_size,
    )
    tested = tested_metrics(outcome.evaluation, outcome.rivals)
    return tested | outcome.latency | energy | {"objective": outcome.objective}


def tested_metrics(evaluation: Evaluation, rivals: Comparison | MaskRival | None) -> dict[str, float]:
    """Return what the test fields showed, by name: metrics, the ends of their intervals, and what rivals showed."""
    metrics = evaluation.metrics
    ends = {f"test/{name}": value for name, value in field_intervals(evaluation.fields).items()}
    if (point := evaluation.chosen.operating_point) is not None:
        of_point = {
            f"test/operating_achieved_{end}": f"test/{MEASURED_AS[point.kind]}_{end}" for end in ("low", "high")
        }
        ends |= {name: ends[same] for name, same in of_point.items() if same in ends}
    ends = {name: value for name, value in ends.items() if name.rpartition("_")[0] in metrics}
    return metrics | ends | ({} if rivals is None else rivals.metrics())


def images_trained(history: Sequence[Mapping[str, float]]) -> int:
    """Return how many images the finished epochs took, each as often as it was seen."""
    return round(sum(values["train/images_per_second"] * values["train/seconds"] for values in history))


class EarlyEnd:
    """Report what a run used that doesn't come to its report: stopped, pruned, over its budget or failed."""

    def __init__(self, tracker: Tracker, progress: Progress, *, meter: Meter, factors: Factors) -> None:
        self._tracker, self._progress, self._meter, self._factors = tracker, progress, meter, factors

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            return
        energy = self._meter.summary()
        try:
            self._tracker.metrics(energy_metrics(energy, self._factors), step=self._progress.epoch)
            self._tracker.tags(energy_labels(energy) | self._factors.tags())
        except RunError as trouble:  # the journal can't be written; what ended the run stays the error that is seen
            log.error("%s", trouble)


def save_figure(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG and return where."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return path


def print_outcome(outcome: Outcome, metrics: Mapping[str, float], *, seconds: float) -> None:
    """Print what the test fields showed, beside what needs no training, and what it cost."""
    title = f"test fields, best epoch {outcome.best_epoch}"
    print_test(title, outcome.evaluation, metrics, rivals=outcome.rivals)
    speed = f"latency {metrics['latency/p50_ms']:.1f} ms (P95 {metrics['latency/p95_ms']:.1f} ms) a tile"
    print_plain(f"{speed}, {metrics['throughput/mpix_per_s']:.2f} Mpix/s in batches")
    print_plain(f"{energy_line(outcome.energy, metrics)}; {seconds:.0f} s in all")


def print_test(
    title: str,
    evaluation: Evaluation,
    metrics: Mapping[str, float],
    *,
    rivals: Comparison | MaskRival | None,
    where: str = "test fields",
) -> None:
    """Print the metrics of an evaluation with their intervals, beside what needs no training where there is such."""
    names = [name.removeprefix("test/") for name in evaluation.metrics]
    print_table(title, [(name, with_interval(metrics, f"test/{name}")) for name in names], columns=("metric", "U-Net"))
    print_rivals(rivals, metrics)
    if said := aim_and_outcome(evaluation.chosen, metrics, where=where):
        print_plain(f"operating point: {said}")


def print_trial(outcome: Outcome, metrics: Mapping[str, float], *, config: Config, seconds: float) -> None:
    """Print what a sweep's trial came to, in one line: the table of the best ones comes at the end of the sweep."""
    shown = [f"{config.training.monitor} {outcome.objective:.4f} in epoch {outcome.best_epoch}"]
    for name in ("test/auprc", "test/completeness", "test/purity"):
        if name in metrics:
            shown.append(f"{name} {with_interval(metrics, name)}")
    print_plain(f"trial {config.sweep.trial}: {', '.join(shown)}; {seconds:.0f} s in all")


def energy_line(energy: EnergySummary, metrics: Mapping[str, float]) -> str:
    """Say in a line what was measured, and how."""
    parts = [f"{name} {_joules(part)}" for name, part in (("GPU", energy.gpu), ("CPU", energy.cpu))]
    carbon = [f"{metrics['carbon/g_co2e']:.2g} gCO2e"] if "carbon/g_co2e" in metrics else []
    return "energy: " + ", ".join(parts + carbon)


def _joules(part: Component) -> str:
    if part.joules is None:
        return f"{part.label} ({part.reason})"
    error = "" if part.error_joules is None else f" ± {part.error_joules:.2g}"
    return f"{part.joules:.0f}{error} J ({part.label}, {part.source})"
