"""What a run leaves behind: its description, metrics, figures, model, and the table at the end."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from matplotlib.figure import Figure
from torch import Tensor

from astrid.config import Config, DataError, FramesData, RunError, TrackingConfig
from astrid.config.compose import PROJECT_ROOT
from astrid.config.leaves import leaves
from astrid.config.secrets import scrub_values
from astrid.console import print_plain, print_table
from astrid.data.fields import Splits
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
from astrid.evaluate import Evaluation, Predictor
from astrid.figures import draw_figures
from astrid.handover import hand_over_model, model_facts, run_tables
from astrid.learner import Progress
from astrid.metrics.bootstrap import Resampled, resample_fields
from astrid.model_card import with_interval
from astrid.runtime import Runtime, git_state, hardware_facts, package_versions
from astrid.tracking import Tracker, ui_command
from astrid.tracking.records import PARENT_TAG, STUDY_TAG, TRIAL_TAG

log = logging.getLogger(__name__)

METRICS_FILE, ENVIRONMENT_FILE, DIFF_FILE, FIGURES = "metrics.json", "environment.json", "git.diff", "figures"
PHASES_FILE = "energy_phases.csv"


@dataclass(frozen=True)
class RunFacts:
    """How a run is named and found: name, parameters (every leaf of the configuration), tags, and what it ran on."""

    name: str
    params: dict[str, str]
    tags: dict[str, str]
    environment: dict[str, dict[str, str]]
    diff: str


@dataclass(frozen=True)
class Outcome:
    """Everything that a finished run has to report."""

    objective: float
    epoch: int
    best_epoch: int
    history: list[dict[str, float]]
    evaluation: Evaluation
    baseline: dict[str, float]
    latency: dict[str, float]
    energy: EnergySummary
    factors: Factors
    val_tiles: int
    predictor: Predictor
    description: str
    fingerprint: str
    example: Tensor


def describe(config: Config, run_dir: Path, *, runtime: Runtime, splits: Splits, parameters: int) -> RunFacts:
    """Collect what identifies a run, and the facts about its code and machine."""
    git = git_state(PROJECT_ROOT)
    hardware, versions = hardware_facts(runtime), package_versions()
    data = type(config.data).__name__.removesuffix("Data").lower()
    tags = {
        "task": getattr(config.data, "target", data),
        "data": splits.description,
        "data.fingerprint": splits.fingerprint,
        "git.commit": git.commit or "unknown",
        "git.branch": git.branch or "unknown",
        "git.dirty": str(git.is_dirty).lower(),
        "git.remote": git.remote or "none",
        "host": hardware["host"],
        "device": hardware["device"],
        "precision": runtime.precision,
        "threads": str(runtime.threads),
        "model.parameters": str(parameters),
    }
    if config.sweep.study is not None:
        tags |= {STUDY_TAG: config.sweep.study, TRIAL_TAG: str(config.sweep.trial)}
    if config.sweep.parent_run is not None:
        tags[PARENT_TAG] = config.sweep.parent_run
    if isinstance(config.data, FramesData) and config.data.split_unit != "sky":
        tags["data.split_unit"] = f"{config.data.split_unit} (weaker than sky: splits share a patch of sky)"
    name = f"unet-d{config.model.depth}-f{config.model.filters}-{data}-{run_dir.name[-8:]}"
    choices = {field.name: type(getattr(config, field.name)).__name__ for field in dataclasses.fields(config)}
    params = leaves(dataclasses.asdict(config)) | {f"choice.{group}": choice for group, choice in choices.items()}
    params.pop("training.resume", None)  # how a run is taken up again is no property of it
    return RunFacts(name, params, tags, {"hardware": hardware, "versions": versions}, git.diff)


def save_facts(facts: RunFacts, run_dir: Path) -> None:
    """Write versions, hardware and uncommitted changes into the folder of a new run."""
    (run_dir / ENVIRONMENT_FILE).write_text(json.dumps(scrub_values(facts.environment), indent=2))
    (run_dir / DIFF_FILE).write_text(facts.diff)


def report(outcome: Outcome, *, config: Config, run_dir: Path, tracker: Tracker, seconds: float) -> None:
    """Write metrics and figures, hand everything to the tracker, and print the table."""
    gate, fields = config.tracking.gate, outcome.evaluation.fields
    resampled = resample_fields(fields, resamples=gate.resamples, seed=gate.seed)
    metrics = tracker.metrics(final_metrics(outcome, config, resampled), step=outcome.epoch)
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
    )
    hand_over_model(
        facts,
        outcome.predictor,
        outcome.example,
        fields=outcome.evaluation.fields,
        resampled=resampled,
        energy=_energy_line(outcome.energy, metrics),
        run_dir=run_dir,
        tracker=tracker,
    )


def say_where(config: TrackingConfig, run_dir: Path) -> None:
    """Print where the run is, and last the command that opens MLflow's pages."""
    print_plain(f"run folder: {run_dir}")
    command = ui_command(config)
    if command is not None:
        print_plain(command)


def final_metrics(outcome: Outcome, config: Config, resampled: Resampled | None) -> dict[str, float]:
    """Return every final metric by the name under which it is logged; the undefined are absent."""
    energy = energy_metrics(outcome.energy, outcome.factors)
    energy |= per_image(
        outcome.energy,
        train_images=images_trained(outcome.history),
        val_images=outcome.val_tiles * len(outcome.history),
        tile_size=config.data.tile_size,
    )
    ends = {} if resampled is None else {f"test/{name}": value for name, value in resampled.intervals().items()}
    tested = outcome.evaluation.metrics | ends | outcome.baseline
    return tested | outcome.latency | energy | {"objective": outcome.objective}


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
    """Print what the test fields showed, beside the plain threshold on the difference, and what it cost."""
    names = [name.removeprefix("test/") for name in outcome.evaluation.metrics]
    rows = [(name, with_interval(metrics, f"test/{name}"), _baseline(outcome.baseline, name)) for name in names]
    columns = ("metric", "U-Net", "5 sigma") if outcome.baseline else ("metric", "U-Net")
    shown = [row[: len(columns)] for row in rows]
    print_table(f"test fields, best epoch {outcome.best_epoch}", shown, columns=columns)
    speed = f"latency {metrics['latency/p50_ms']:.1f} ms (P95 {metrics['latency/p95_ms']:.1f} ms) a tile"
    print_plain(f"{speed}, {metrics['throughput/mpix_per_s']:.2f} Mpix/s in batches")
    print_plain(f"{_energy_line(outcome.energy, metrics)}; {seconds:.0f} s in all")


def print_trial(outcome: Outcome, metrics: Mapping[str, float], *, config: Config, seconds: float) -> None:
    """Print what a sweep's trial came to, in one line: the table of the best ones comes at the end of the sweep."""
    shown = [f"{config.training.monitor} {outcome.objective:.4f} in epoch {outcome.best_epoch}"]
    for name in ("test/auprc", "test/completeness", "test/purity"):
        if name in metrics:
            shown.append(f"{name} {with_interval(metrics, name)}")
    print_plain(f"trial {config.sweep.trial}: {', '.join(shown)}; {seconds:.0f} s in all")


def _baseline(baseline: Mapping[str, float], name: str) -> str:
    value = baseline.get(f"difference_5sigma/{name}")
    return "" if value is None else f"{value:.4g}"


def _energy_line(energy: EnergySummary, metrics: Mapping[str, float]) -> str:
    parts = [f"{name} {_joules(part)}" for name, part in (("GPU", energy.gpu), ("CPU", energy.cpu))]
    carbon = [f"{metrics['carbon/g_co2e']:.2g} gCO2e"] if "carbon/g_co2e" in metrics else []
    return "energy: " + ", ".join(parts + carbon)


def _joules(part: Component) -> str:
    if part.joules is None:
        return f"{part.label} ({part.reason})"
    error = "" if part.error_joules is None else f" ± {part.error_joules:.2g}"
    return f"{part.joules:.0f}{error} J ({part.label}, {part.source})"
