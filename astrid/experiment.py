"""One run from configuration to objective: build the parts, consume `fit`, evaluate, report."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from astrid.aims import check_operating_point
from astrid.alerts import Alerts, find_webhook_url, open_alerts
from astrid.baselines import compare
from astrid.budget import Budget, in_phase, open_meter
from astrid.checkpoint import BEST, CHECKPOINTS, load_checkpoint
from astrid.config import Config, InjectedData, RunError
from astrid.config.resume import save_config
from astrid.console import announce, training_view
from astrid.data.dataset import training_loader, validation_loader
from astrid.data.fields import HISTORIES, Splits, build_splits, check_splits, write_histories
from astrid.data.injected import CATALOGUE, write_catalogue
from astrid.energy import Factors, Meter, find_factors
from astrid.energy.ledger import LEDGER
from astrid.evaluate import evaluate
from astrid.layer_norms import NORMS_FILE
from astrid.learner import Learner, Progress, build_learner, take_up
from astrid.monitor import open_monitor, report_errors
from astrid.plan import known_reach, settle
from astrid.predictor import build_predictor
from astrid.report.written import EndReport
from astrid.results import EarlyEnd, Outcome, report, report_quality, say_where
from astrid.resumed import as_resolved, check_same_data, load_saved, nothing_is_left, send_rest
from astrid.run_facts import describe, save_surroundings
from astrid.runtime import Runtime, StopSignals, memory_advice, prepare_runtime
from astrid.timing import example_tiles, time_network
from astrid.tracking import Tracker, check_artifacts, open_tracker
from astrid.training import Loaders, fit, stop_if_asked
from astrid.unet import parameter_count

log = logging.getLogger(__name__)

AfterEpoch = Callable[[dict[str, float]], None]
Links = Callable[[], Mapping[str, str]]
MEMORY_ADVICE = "try a smaller data.batch_size, model.filters or data.tile_size, or model.gradient_checkpointing=true"


def run_experiment(
    config: Config, *, run_dir: Path, after_epoch: AfterEpoch = lambda values: None, links: Links = dict
) -> float:
    """Train, evaluate and record one network.

    Parameters
    ----------
    config : Config
    run_dir : Path
        Folder of the run: configuration, journal, checkpoints, figures, metrics.
    after_epoch : callable, optional
        Called with the values of each epoch once they are reported; what it raises ends the run.
    links : callable, optional
        Called once the run is about to begin; gives tags that say what it is part of.

    Returns
    -------
    float
        The objective: the best value of `training.monitor`.

    Raises
    ------
    ConfigError, DataError
        Before the first step, for what cannot run.
    RunError
        For what had to stop afterwards.
    BudgetSpent
        Where the run has used what it may; all is saved.
    """
    began = time.perf_counter()
    saved = load_saved(config.training, run_dir)
    if saved is not None and nothing_is_left(saved, config.training, run_dir):
        log.info("%s is finished, evaluation included; a larger training.epochs goes on with it", run_dir)
        send_rest(run_dir, config.tracking)
        return float(saved["progress"]["best"])
    factors, runtime = find_factors(config.energy), choose_runtime(config, saved)
    with ExitStack() as stack:
        meter = stack.enter_context(open_meter(config.energy, runtime))
        with meter.phase("setup"):
            config, splits = set_up(config, saved, runtime=runtime)
            stack.enter_context(memory_advice(MEMORY_ADVICE))
            learner = build_learner(config, runtime, splits)
            stop = stack.enter_context(StopSignals())
            tracker = stack.enter_context(open_run(config, run_dir, runtime, splits, learner, links()))
            stack.enter_context(EndReport(tracker, run_dir, wanted=config.metrics.report))
            meter.keep_in(run_dir / LEDGER)
        alerts = stack.enter_context(open_alerts(config, tracker, meter))
        gpus, listen = () if config.energy.source == "off" else runtime.gpu_uuids, alerts.sample
        monitor = open_monitor(config.tracking, tracker, gpu_uuids=gpus, listen=listen, read_watts=lambda: meter.watts)
        stack.enter_context(monitor)
        progress = Progress() if saved is None else take_up(learner, saved)
        stack.enter_context(EarlyEnd(tracker, progress, meter=meter, factors=factors))
        budget = Budget(config.energy, factors, meter=meter, stop=stop, tell=alerts.tell)
        train(
            learner,
            progress,
            config=config,
            splits=splits,
            run_dir=run_dir,
            tracker=tracker,
            meter=meter,
            alerts=alerts,
            budget=budget,
            stop=stop,
            after_epoch=after_epoch if config.sweep.trial is None else in_phase(meter, "sweep", after_epoch),
        )
        outcome = judge(learner, progress, config=config, splits=splits, run_dir=run_dir, meter=meter, factors=factors)
        stop_if_asked(stop, progress, run_dir=run_dir)
        with meter.phase("report"):
            report(outcome, config=config, run_dir=run_dir, tracker=tracker, seconds=time.perf_counter() - began)
        report_errors(tracker, step=outcome.epoch)
    if config.sweep.trial is None:
        say_where(config.tracking, run_dir)
    return outcome.objective


def choose_runtime(config: Config, saved: dict[str, Any] | None) -> Runtime:
    """Refuse what cannot be reported to, and choose the device; that of a resumed run stays where it can."""
    check_artifacts(config.tracking)
    find_webhook_url(config.tracking.alerts)
    return prepare_runtime(config.training if saved is None else as_resolved(config.training, saved["runtime"]))


def set_up(config: Config, saved: dict[str, Any] | None, *, runtime: Runtime) -> tuple[Config, Splits]:
    """Prepare the fields, and settle every `auto` that depends on them and on the device.

    A resumed run must find the same fields; in its configuration nothing is open any more.
    """
    splits = build_splits(config.data, receptive_field_pixels=known_reach(config.model), announce=announce)
    check_splits(splits, monitor=config.training.monitor)
    check_operating_point(splits.val, config.metrics)
    if saved is not None:
        check_same_data(saved["facts"]["data"], splits)
    return settle(config, runtime, splits), splits


def open_run(
    config: Config, run_dir: Path, runtime: Runtime, splits: Splits, learner: Learner, links: Mapping[str, str]
) -> Tracker:
    """Claim the run folder, or go on in it, and report what the run is."""
    resume = config.training.resume is not None
    facts = describe(config, run_dir, runtime=runtime, splits=splits, parameters=parameter_count(learner.model))
    tags = {f"resumed.{name}": value for name, value in facts.tags.items()} if resume else facts.tags
    tags |= links
    tracker = open_tracker(config.tracking, run_dir, name=facts.name, params=facts.params, tags=tags, resume=resume)
    fresh = dataclasses.replace(config.training, resume=None)
    save_config(dataclasses.replace(config, training=fresh), run_dir)  # with what a resume changed
    if not resume:
        save_surroundings(facts.surroundings, run_dir)
        if write_histories(splits, run_dir / HISTORIES):
            tracker.artifact(run_dir / HISTORIES)
        report_quality(splits.quality, config, run_dir=run_dir, tracker=tracker)
        if isinstance(config.data, InjectedData) and write_catalogue(splits.stores, run_dir / CATALOGUE):
            tracker.artifact(run_dir / CATALOGUE)
    tracker.dataset(name=type(config.data).__name__, digest=splits.fingerprint, source=splits.description)
    return tracker


def train(
    learner: Learner,
    progress: Progress,
    *,
    config: Config,
    splits: Splits,
    run_dir: Path,
    tracker: Tracker,
    meter: Meter,
    alerts: Alerts,
    budget: Budget,
    stop: StopSignals,
    after_epoch: AfterEpoch,
) -> None:
    """Consume `fit`, and report every epoch, those finished before a resume included."""
    for values in progress.history:  # a killed run may have saved an epoch that it could not report any more
        report_epoch(tracker, values)
    alerts.remember(progress.history)
    pin = learner.runtime.device.type == "cuda"
    loaders = Loaders(
        train=training_loader(splits.train, config.data, seed=config.training.seed, pin_memory=pin),
        val=validation_loader(splits.val, config.data, pin_memory=pin),
        augment=config.data.augment,
        fingerprint=splits.fingerprint,
    )
    tracker.tags(
        {"data.train_tiles": str(loaders.train.batches.tiles), "data.val_tiles": str(loaders.val.batches.tiles)}
    )
    label = "" if config.sweep.trial is None else f"trial {config.sweep.trial}  "
    view_of_run = training_view(config.training.epochs, monitor=config.training.monitor, label=label)
    with alerts.training(), budget.ending(), view_of_run as view:
        records = fit(
            learner,
            loaders,
            config=config.training,
            metrics=config.metrics,
            meter=meter,
            folder=run_dir / CHECKPOINTS,
            stop=stop,
            show=budget.watching(view.step),
            progress=progress,
        )
        for record in records:
            view.epoch(record)
            report_epoch(tracker, progress.history[-1])
            if record.norms is not None:
                record.norms.append_to(run_dir / NORMS_FILE)
            alerts.epoch(progress.history[-1])
            after_epoch(progress.history[-1])
            budget.look()


def report_epoch(tracker: Tracker, values: dict[str, float]) -> None:
    """Report the values of a finished epoch; `epoch` itself is the step."""
    metrics = {name: value for name, value in values.items() if name not in ("epoch", "step")}
    tracker.metrics(metrics, step=int(values["epoch"]))


def judge(
    learner: Learner,
    progress: Progress,
    *,
    config: Config,
    splits: Splits,
    run_dir: Path,
    meter: Meter,
    factors: Factors,
) -> Outcome:
    """Evaluate the best weights on the test fields, and time them."""
    if progress.best is None:
        raise RunError("no epoch was trained: training.epochs is not above the epochs already done")
    learner.model.load_state_dict(load_checkpoint(run_dir / CHECKPOINTS / BEST)["model"])
    predictor = build_predictor(learner.model, learner.runtime, config.model)
    with meter.phase("test"):
        evaluation = evaluate(predictor, val=splits.val, test=splits.test, config=config.metrics)
        rivals = compare(evaluation, val=splits.val, test=splits.test, config=config.metrics)
    with meter.phase("latency"):
        tiles = example_tiles(splits.val, config.data, runtime=learner.runtime)
        latency = time_network(learner.model, tiles, runtime=learner.runtime, config=config.metrics)
    return Outcome(
        objective=progress.best,
        epoch=progress.epoch,
        best_epoch=progress.best_epoch,
        history=progress.history,
        evaluation=evaluation,
        rivals=rivals,
        latency=latency,
        energy=meter.settle(),
        factors=factors,
        val_tiles=validation_loader(splits.val, config.data, pin_memory=False).batches.tiles,
        predictor=predictor,
        description=splits.description,
        fingerprint=splits.fingerprint,
        origins=splits.origins,
        example=tiles[:1],
    )
