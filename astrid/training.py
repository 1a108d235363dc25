"""The training loop, in the open: `fit` reads top to bottom as step, evaluate, save, stop, report."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from astrid.checkpoint import save_checkpoint
from astrid.config import MetricsConfig, RunError, Stopped, TrainingConfig
from astrid.data.dataset import Batch, TileLoader, augment
from astrid.energy import Meter, PhaseEnergy
from astrid.metrics.pixels import PixelHistogram, epoch_metrics
from astrid.optimization import Schedule
from astrid.runtime import Runtime, StopSignals, random_states, restore_random_states

log = logging.getLogger(__name__)

LAST, BEST = "last.pt", "best.pt"
CHECK_EVERY = 25
"""Steps between two looks at the loss on a GPU, where each look makes the device wait; on the CPU every step."""

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass
class Learner:
    """What learns: everything whose state changes with each step.

    Attributes
    ----------
    model : nn.Module
        The network as it is saved: (B, C, T, T) in background sigma to logits (B, 1, T, T).
    network : callable
        The network as it is called: the model itself, or its compiled form.
    """

    model: nn.Module
    network: Callable[[Tensor], Tensor]
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    scaler: torch.amp.GradScaler
    loss: Loss
    runtime: Runtime

    def state(self) -> dict[str, Any]:
        """Return everything that a checkpoint needs of it."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Take up what `state` returned."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.scaler.load_state_dict(state["scaler"])


@dataclass
class Progress:
    """How far training has come.

    Attributes
    ----------
    epoch, batch, step : int
        Finished epochs, finished batches of the next one, optimizer steps in all.
    loss_sum, pixels, images, seconds : float
        Sums over the finished batches of the unfinished epoch.
    best, best_epoch, stale_epochs
        Best value of the monitor, where it was reached, and epochs since then.
    history : list of dict
        The values of each finished epoch.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    pixels: float = 0.0
    images: int = 0
    seconds: float = 0.0
    best: float | None = None
    best_epoch: int = 0
    stale_epochs: int = 0
    history: list[dict[str, float]] = field(default_factory=list)

    def improves(self, value: float, config: TrainingConfig) -> bool:
        """Tell whether a value of the monitor beats the best so far by more than `min_delta`."""
        if self.best is None:
            return True
        gain = self.best - value if config.monitor_mode == "min" else value - self.best
        return gain > config.min_delta

    def judge(self, value: float, config: TrainingConfig) -> bool:
        """Take in an epoch's value of the monitor; return whether it is the best so far."""
        if not self.improves(value, config):
            self.stale_epochs += 1
            return False
        self.best, self.best_epoch, self.stale_epochs = value, self.epoch, 0
        return True


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
    """What one epoch came to: `values` by metric name, and whether it is the best so far."""

    epoch: int
    step: int
    values: dict[str, float]
    best: bool


@dataclass(frozen=True)
class Loaders:
    """Where batches come from, and how training batches are augmented."""

    train: TileLoader
    val: TileLoader
    flips: bool


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

    Parameters
    ----------
    learner, loaders
        What learns, and from what.
    folder : Path
        Receives `last.pt` (everything needed to go on) and `best.pt` (the best weights).
    progress : Progress
        Where to go on from; kept up to date.

    Raises
    ------
    RunError
        Where the loss is not finite, naming epoch and step.
    Stopped
        After a signal, with the state saved.
    """
    saver = Saver(learner, progress, folder, interval_seconds=60 * config.checkpoint_minutes)
    losses = LossLog(progress, every=1 if learner.runtime.device.type == "cpu" else CHECK_EVERY)

    while progress.epoch < config.epochs and not out_of_patience(progress, config):
        epoch = progress.epoch + 1

        # step
        learner.model.train()
        span = meter.start("train", epoch=epoch)
        batches = loaders.train.epoch(epoch, start=progress.batch)
        clock = Clock(progress)
        for window in accumulation_windows(batches, config.accumulate):
            seed = (config.seed, epoch, progress.batch)
            prepared = [prepare(batch, learner.runtime) for batch in window]
            augmented = [augment(batch, flips=loaders.flips, seed=(*seed, n)) for n, batch in enumerate(prepared)]
            loss, pixels = step(learner, augmented, clip_norm=config.clip_norm)
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
        values = training_values(learner, progress, span.reading)

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
        yield EpochRecord(epoch, progress.step, values, best)

        # stop
        stop_if_asked(stop, progress, run_dir=folder.parent)


def step(learner: Learner, window: list[Batch], *, clip_norm: float | None) -> tuple[Tensor, Tensor]:
    """Take one optimizer step on a window of batches, each weighted by its valid pixels.

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
    if clip_norm is not None:
        nn.utils.clip_grad_norm_(learner.model.parameters(), clip_norm)
    scale = learner.scaler.get_scale()
    learner.scaler.step(learner.optimizer)
    learner.scaler.update()
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
    loss_sum, pixels = torch.zeros((), dtype=torch.float64, device=device), torch.zeros((), device=device)
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


class LossLog:
    """Sum up losses on the device and look at them now and then, so that a look doesn't stall every step."""

    def __init__(self, progress: Progress, *, every: int) -> None:
        self.progress, self.every = progress, every
        self.latest: float | None = None
        self._pending: list[tuple[Tensor, Tensor]] = []

    def add(self, loss: Tensor, pixels: Tensor) -> None:
        """Note a step's mean loss and its number of valid pixels."""
        self._pending.append((loss, pixels))
        if len(self._pending) >= self.every:
            self.settle()

    def settle(self) -> None:
        """Add what is pending to the epoch's sums; a loss that is not finite stops the run."""
        first = self.progress.step - len(self._pending) + 1
        for number, (loss, pixels) in enumerate(self._pending, start=first):
            value = loss.item()
            if not math.isfinite(value):
                raise RunError(
                    f"the loss must be finite, got {value} in epoch {self.progress.epoch + 1}, step {number}; "
                    "try a smaller optimizer.lr, training.clip_norm=1 or training.precision=fp32"
                )
            self.progress.loss_sum += value * pixels.item()
            self.progress.pixels += pixels.item()
            self.latest = value
        self._pending.clear()


class Clock:
    """Seconds and images of the epoch, those before a resume included."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self._last = time.perf_counter()

    def count(self, window: list[Batch]) -> None:
        """Add a step's time and images."""
        now = time.perf_counter()
        self.progress.seconds += now - self._last
        self.progress.images += sum(batch["image"].shape[0] for batch in window)
        self._last = now

    @property
    def rate(self) -> float:
        """Images per second of this epoch."""
        return self.progress.images / self.progress.seconds


class Saver:
    """Write checkpoints, and know when the next one is due."""

    def __init__(self, learner: Learner, progress: Progress, folder: Path, *, interval_seconds: float) -> None:
        self.learner, self.progress, self.folder = learner, progress, folder
        self.interval_seconds = interval_seconds
        self._last = time.monotonic()

    def is_due(self) -> bool:
        """Tell whether the last checkpoint is older than the interval."""
        return time.monotonic() - self._last > self.interval_seconds

    def save_last(self) -> None:
        """Write everything that is needed to go on from here."""
        runtime = self.learner.runtime
        facts = {"precision": runtime.precision, "device": runtime.device.type, "threads": runtime.threads}
        state = self.learner.state() | {"progress": dataclasses.asdict(self.progress), "random": random_states()}
        save_checkpoint(self.folder / LAST, state | {"runtime": facts | {"torch": str(torch.__version__)}})
        self._last = time.monotonic()

    def save_best(self) -> None:
        """Write the weights of the best epoch; before `last.pt`, which names that epoch."""
        state = {"model": self.learner.model.state_dict(), "epoch": self.progress.best_epoch}
        save_checkpoint(self.folder / BEST, state | {"value": self.progress.best})


def take_up(learner: Learner, saved: dict[str, Any]) -> Progress:
    """Put learner, random generators and progress back to where a checkpoint left them."""
    learner.load_state(saved)
    restore_random_states(saved["random"])
    return Progress(**saved["progress"])


def training_values(learner: Learner, progress: Progress, energy: PhaseEnergy) -> dict[str, float]:
    """Return what the training half of the epoch came to; the loss is weighted by valid pixels."""
    values = {
        "train/loss": progress.loss_sum / max(progress.pixels, 1.0),
        "train/learning_rate": learner.schedule.rate,
        "train/seconds": progress.seconds,
        "train/images_per_second": progress.images / progress.seconds,
    }
    measured = {"train/gpu_joules": energy.gpu.joules, "train/cpu_joules": energy.cpu.joules}
    return values | {name: joules for name, joules in measured.items() if joules is not None}


def finish_epoch(progress: Progress, values: dict[str, float]) -> None:
    """Close the epoch: keep its values, and clear the sums for the next."""
    progress.epoch += 1
    progress.history.append({"epoch": float(progress.epoch), "step": float(progress.step)} | values)
    progress.batch, progress.images = 0, 0
    progress.loss_sum, progress.pixels, progress.seconds = 0.0, 0.0, 0.0


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
        resume = f"python train.py training.resume={run_dir}"
        raise Stopped(f"stopped by {stop.received} after {where}; all is saved, go on with: {resume}")
