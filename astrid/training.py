"""The training loop, in the open: `fit` reads top to bottom as step, evaluate, save, stop, report."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from astrid.augmentation import augment
from astrid.config import AugmentConfig, MetricsConfig, RunError, Stopped, TrainingConfig
from astrid.config.command import resume_command
from astrid.data.dataset import Batch, TileLoader
from astrid.energy import Meter, PhaseEnergy
from astrid.layer_norms import EpochNorms, NormLog
from astrid.learner import Clock, Learner, LossLog, Progress, Saver, finish_epoch
from astrid.metrics.pixels import PixelHistogram, epoch_metrics
from astrid.runtime import Runtime, StopSignals

log = logging.getLogger(__name__)

CHECK_EVERY = 25
"""Steps between two looks at the loss on a GPU, where each look makes the device wait; on the CPU every step."""


@dataclass(frozen=True)
class StepReport:
    """What the progress bar shows after a step."""

    epoch: int
    batch: int
    batches: int
    loss: float | None
    images_per_second: float
    watts: float | None


@dataclass(frozen=True)
class EpochRecord:
    """What one epoch came to: `values` by metric name, whether it is the best so far, norms where they were taken."""

    epoch: int
    step: int
    values: dict[str, float]
    best: bool
    norms: EpochNorms | None = None


@dataclass(frozen=True)
class Loaders:
    """Where batches come from, how training batches are augmented, and the fingerprint of the data behind them."""

    train: TileLoader
    val: TileLoader
    augment: AugmentConfig
    fingerprint: str


def fit(
    learner: Learner,
    loaders: Loaders,
    *,
    config: TrainingConfig,
    metrics: MetricsConfig,
    meter: Meter,
    folder: Path,
    stop: StopSignals,
    show: Callable[[StepReport], None],
    progress: Progress,
) -> Iterator[EpochRecord]:
    """Train, and yield a record after each epoch.

    `folder` receives `last.pt`, everything needed to go on, and `best.pt`, the best weights. `progress` says where to
    go on from, and is kept up to date.

    Raises
    ------
    RunError
        Where the loss is not finite, naming epoch and step.
    Stopped
        After a signal, with the state saved.
    """
    facts = {"data": loaders.fingerprint}
    saver = Saver(learner, progress, folder, interval_seconds=60 * config.checkpoint_minutes, facts=facts)
    if progress.step == 0:
        saver.save_last()  # a run killed in its first epoch goes on from here
    losses = LossLog(progress, every=1 if learner.runtime.device.type == "cpu" else CHECK_EVERY)
    steps = -(-len(loaders.train) // config.accumulate)
    norms = NormLog(learner.model, samples=config.log_gradients, steps=steps)

    while progress.epoch < config.epochs and not out_of_patience(progress, config):
        epoch = progress.epoch + 1

        # step
        learner.model.train()
        span = meter.start("train", epoch=epoch)
        batches = loaders.train.epoch(epoch, start=progress.batch)
        clock = Clock(progress)
        for window in accumulation_windows(clock.waiting(batches), config.accumulate):
            seeds = [(config.seed, epoch, progress.batch + number) for number in range(len(window))]
            prepared = [prepare(batch, learner.runtime) for batch in window]
            turned = [augment(batch, loaders.augment, seed=seed) for batch, seed in zip(prepared, seeds, strict=True)]
            loss, pixels = step(learner, turned, clip_norm=config.clip_norm, norms=norms)
            progress.batch += len(window)
            progress.step += 1
            losses.add(loss, pixels)
            clock.count(window)
            show(StepReport(epoch, progress.batch, len(loaders.train), losses.latest, clock.rate, meter.watts))
            if stop.received or saver.is_due():
                losses.settle()
                saver.save_last()
                stop_if_asked(stop, progress, run_dir=folder.parent)
        losses.settle()
        meter.stop(span)
        values = training_values(learner, progress, energy=meter.spent("train", epoch=epoch))

        # evaluate
        span = meter.start("validation", epoch=epoch)
        values |= validate(learner, loaders.val, metrics=metrics)
        meter.stop(span)
        values["val/seconds"] = span.reading.seconds

        # save
        monitored = monitored_value(values, config)
        finish_epoch(progress, values)
        best = progress.judge(monitored, config)
        learner.schedule.epoch(monitored, config.monitor_mode)
        if best:
            saver.save_best()
        saver.save_last()

        # report
        yield EpochRecord(epoch, progress.step, values, best, norms.settle(epoch))

        # stop
        stop_if_asked(stop, progress, run_dir=folder.parent)


def step(
    learner: Learner, window: list[Batch], *, clip_norm: float | None, norms: NormLog | None = None
) -> tuple[Tensor, Tensor]:
    """Take one optimizer step on a window of batches, each weighted by its valid pixels; `norms` may look at it.

    Returns
    -------
    loss, pixels : scalar tensors on the device
        Mean loss over the window's valid pixels, and their number.
    """
    counts = [batch["valid"].sum() for batch in window]
    pixels = torch.stack(counts).sum()
    total = torch.zeros((), device=learner.runtime.device)
    for batch, count in zip(window, counts, strict=True):
        with learner.runtime.autocast():
            logits = learner.network(batch["image"])  # (B, 1, T, T), or (B, K, T, T) under deep supervision
        loss = learner.loss(logits.float(), batch["target"], batch["valid"]) * (count / pixels.clamp(min=1))
        learner.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        total += loss.detach()
    learner.scaler.unscale_(learner.optimizer)
    if norms is not None:
        norms.before_step()
    if clip_norm is not None:
        nn.utils.clip_grad_norm_(learner.model.parameters(), clip_norm)
    scale = learner.scaler.get_scale()
    learner.scaler.step(learner.optimizer)
    learner.scaler.update()
    if norms is not None:
        norms.after_step()
    learner.optimizer.zero_grad(set_to_none=True)
    if learner.scaler.get_scale() >= scale:  # a scaler that had to back off has left this step out
        learner.schedule.step()
    return total, pixels


@torch.inference_mode()
def validate(learner: Learner, loader: TileLoader, *, metrics: MetricsConfig) -> dict[str, float]:
    """Return loss and pixel metrics over the valid pixels of the validation tiles; undefined ones are absent."""
    learner.model.eval()
    device = learner.runtime.device
    histogram = PixelHistogram(bins=metrics.bins, limit=metrics.logit_limit, device=device)
    loss_sum = torch.zeros((), dtype=torch.float64, device=device)
    pixels = torch.zeros((), dtype=torch.int64, device=device)
    for raw in loader.epoch(0):
        batch = prepare(raw, learner.runtime)
        with learner.runtime.autocast():
            logits = learner.network(batch["image"]).float()  # (B, 1, T, T)
        count = batch["valid"].sum()
        loss_sum += learner.loss(logits, batch["target"], batch["valid"]).double() * count
        pixels += count
        histogram.update(logits, batch["target"], batch["valid"])
    values = {"loss": (loss_sum / pixels).item()} | epoch_metrics(histogram)
    return {f"val/{name}": value for name, value in values.items()}


def prepare(batch: Batch, runtime: Runtime) -> Batch:
    """Bring a batch to the device: image float32 in the run's memory order, target and valid bool."""
    image = batch["image"].to(runtime.device, non_blocking=True, memory_format=runtime.memory_format)
    target, valid = (batch[name].to(runtime.device, non_blocking=True).bool() for name in ("target", "valid"))
    return {"image": image, "target": target, "valid": valid}


def accumulation_windows(batches: Iterable[Batch], length: int) -> Iterator[list[Batch]]:
    """Group batches into windows of one step each; the last may be shorter and is weighted by itself alone."""
    remaining = iter(batches)
    while window := list(itertools.islice(remaining, length)):
        yield window


def training_values(learner: Learner, progress: Progress, *, energy: PhaseEnergy) -> dict[str, float]:
    """Return what the training half of the epoch came to; the loss is weighted by valid pixels.

    The joules include those of steps that a killed process took and lost.
    """
    values = {
        "train/loss": progress.loss_sum / max(progress.pixels, 1.0),
        "train/learning_rate": learner.schedule.rate,
        "train/seconds": progress.seconds,
        "train/waiting_seconds": progress.waiting_seconds,
        "train/images_per_second": progress.images / progress.seconds,
    }
    measured = {"train/gpu_joules": energy.gpu.joules, "train/cpu_joules": energy.cpu.joules}
    return values | {name: joules for name, joules in measured.items() if joules is not None}


def monitored_value(values: dict[str, float], config: TrainingConfig) -> float:
    """Return the monitor's value of this epoch."""
    if config.monitor not in values:
        raise RunError(f"{config.monitor} is undefined on the validation tiles; try training.monitor=val/loss")
    return values[config.monitor]


def out_of_patience(progress: Progress, config: TrainingConfig) -> bool:
    """Tell whether the monitor has not improved for `training.patience` epochs."""
    return config.patience is not None and progress.stale_epochs >= config.patience


def stop_if_asked(stop: StopSignals, progress: Progress, *, run_dir: Path) -> None:
    """Raise `Stopped` where a signal has come; the state must have been saved before."""
    if stop.received:
        where = f"epoch {progress.epoch + 1}, batch {progress.batch}" if progress.batch else f"epoch {progress.epoch}"
        resume = resume_command(run_dir)
        raise Stopped(f"stopped by {stop.received} after {where}; all is saved, go on with: {resume}")
