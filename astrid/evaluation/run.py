"""One evaluation: claim a folder, judge, report, and link the model to it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import torch

from astrid.baselines import compare_as_chosen
from astrid.budget import open_meter
from astrid.config import Config, DataError
from astrid.config.evaluation import OPEN, settings_to_load
from astrid.config.leaves import leaves
from astrid.config.resume import save_config
from astrid.console import show_progress
from astrid.data.judged import JudgedSplit
from astrid.deployed import Deployed, load
from astrid.energy import find_factors
from astrid.energy.ledger import LEDGER
from astrid.evaluate import Evaluation, judge, judged_by
from astrid.metrics.histogram import Counts
from astrid.metrics.pixels import PixelHistogram
from astrid.report.written import EndReport
from astrid.results import report_quality, say_where
from astrid.run_facts import save_surroundings, surroundings
from astrid.runtime import memory_advice
from astrid.timing import example_tiles, time_network
from astrid.tracking import Tracker, check_artifacts, open_tracker
from astrid.tracking.journal import FILE_NAME

from .links import link_model
from .report import Judged, report
from .subject import Subject, configure, prepare_subject

MEMORY_ADVICE = "judge smaller frames (sections of them, in the manifest), or on another device (training.device=cpu)"


def run_evaluation(
    source: str, overrides: Sequence[str] = (), *, run_dir: Path, split: JudgedSplit = "test"
) -> dict[str, float]:
    """Judge a finished model on the data that the overrides describe, and record that as a run of its own.

    Thresholds, calibration and the preparation of the data are the model's own; nothing is chosen here.

    Parameters
    ----------
    source : str
        Registered model, as ``models:/astrid-unet@champion``, or the folder of a run.
    overrides : sequence of str
        As for train.py, of `data`, `metrics`, `energy`, `tracking`, `training.device` and `training.threads`. Without
        any of `data` the model is judged on the data of its own run.
    run_dir : Path
        Folder of the evaluation, which must not hold a run.
    split : 'train', 'val', 'test' or 'all'
        Which of the described fields are judged.

    Returns
    -------
    dict
        The metrics by name, `test/...`.

    Raises
    ------
    ConfigError, DataError
        Before anything is predicted, for what can't be judged.
    RunError
        For what had to stop afterwards.
    """
    began = time.perf_counter()
    run_dir = run_dir.absolute()
    _refuse_taken(run_dir)
    asked = settings_to_load(overrides)
    check_artifacts(asked.tracking)
    if asked.training.threads is not None:
        torch.set_num_threads(asked.training.threads)
    model = load(source, uri=asked.tracking.uri, device=asked.training.device)
    config = configure(model.facts, overrides)
    factors = find_factors(config.energy)
    with ExitStack() as stack:
        meter = stack.enter_context(open_meter(config.energy, model.predictor.runtime))
        with meter.phase("setup"):
            subject = prepare_subject(model, config, split=split)
            stack.enter_context(memory_advice(MEMORY_ADVICE))
            tracker = stack.enter_context(open_run(subject, config, run_dir))
            stack.enter_context(EndReport(tracker, run_dir, wanted=config.metrics.report))
            meter.keep_in(run_dir / LEDGER)
        with meter.phase("test"):
            evaluation = go_over(subject, config)
            rivals = compare_as_chosen(
                evaluation, subject.fields.store, chosen=model.facts.metrics, config=config.metrics
            )
        with meter.phase("latency"):
            latency = time_model(subject, config)
        judged = Judged(subject, evaluation, rivals, latency, energy=meter.settle(), factors=factors)
        with meter.phase("report"):
            seconds = time.perf_counter() - began
            metrics = report(judged, config=config, run_dir=run_dir, tracker=tracker, seconds=seconds)
    link_model(subject, metrics, run_dir=run_dir, config=config.tracking)
    say_where(config.tracking, run_dir)
    return metrics


def _refuse_taken(run_dir: Path) -> None:
    """Refuse a folder that holds a run already, before a model is fetched and fields are prepared for it."""
    if (run_dir / FILE_NAME).exists():
        raise DataError(
            f"--folder must be a new folder, but {run_dir} already holds a run; name another or leave it out"
        )


def go_over(subject: Subject, config: Config) -> Evaluation:
    """Judge the fields, once, with what goes with the model."""
    model, store, metrics = subject.model, subject.fields.store, config.metrics
    device = model.predictor.runtime.device
    return judge(
        model.predictor,
        store,
        chosen=model.facts.chosen,
        seen=PixelHistogram(bins=metrics.bins, limit=metrics.logit_limit, device=device),
        starts=starts_of(model, config),
        config=metrics,
        show=partial(show_progress, what="fields", count=len(store), doing="judging"),
    )


def time_model(subject: Subject, config: Config) -> dict[str, float]:
    """Time the network on tiles of the fields."""
    runtime = subject.model.predictor.runtime
    tiles = example_tiles(subject.fields.store, config.data, runtime=runtime)
    return time_network(subject.model.network, tiles, runtime=runtime, config=config.metrics)


def starts_of(model: Deployed, config: Config) -> Counts | None:
    """Return the bins in which the model's own test fields were kept; None, for even ones, under other knobs.

    They were laid where validation's logits are. Laying them anew by the judged fields would make the bins depend on
    what is judged, and take a second pass.
    """
    return model.starts if judged_by(config.metrics) == model.facts.judged_by else None


def open_run(subject: Subject, config: Config, run_dir: Path) -> Tracker:
    """Claim the folder, and report what is judged."""
    model, fields = subject.model, subject.fields
    around = surroundings(model.predictor.runtime)
    data = type(config.data).__name__.removesuffix("Data").lower()
    size = model.facts.network
    name = f"evaluate-d{size['depth']}-f{size['filters']}-{data}-{run_dir.name[-8:]}"
    tags = {
        "task": getattr(config.data, "target", data),
        "data": fields.description,
        "data.fingerprint": fields.fingerprint,
        "model.parameters": str(size["parameters"]),
    }
    tracker = open_tracker(
        config.tracking, run_dir, name=name, params=params_of(config), tags=around.tags | tags | subject.tags()
    )
    version = model.source.version
    if version is not None and version.model_id is not None:
        tracker.uses_model(version.model_id)
    save_config(config, run_dir)
    save_surroundings(around, run_dir)
    tracker.artifact(subject.save(run_dir))
    report_quality(fields.quality, config, run_dir=run_dir, tracker=tracker)
    tracker.dataset(data, digest=fields.fingerprint, source=fields.description, context="evaluation")
    return tracker


def params_of(config: Config) -> dict[str, str]:
    """Return the leaves of the configuration that have a part in an evaluation."""
    kept = (*OPEN, "model.depth", "model.filters", "model.test_time_augmentation")
    flat = {key: value for key, value in leaves(dataclasses.asdict(config)).items() if key.startswith(kept)}
    return flat | {"choice.data": type(config.data).__name__}
