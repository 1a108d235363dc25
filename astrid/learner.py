"""What learns, how far it has come, and how both are kept on disk."""

from __future__ import annotations

import dataclasses
import itertools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from astrid.checkpoint import BEST, LAST, save_checkpoint
from astrid.config import Config, RunError, TrainingConfig
from astrid.data.dataset import Batch, training_loader
from astrid.data.fields import Splits
from astrid.losses import build_loss
from astrid.optimization import Schedule, build_optimizer, build_schedule
from astrid.runtime import Runtime, random_states, restore_random_states
from astrid.unet import build_unet

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


def build_learner(config: Config, runtime: Runtime, splits: Splits) -> Learner:
    """Build network, optimizer, schedule and loss on the run's device."""
    model = build_unet(
        config.model, channels=splits.train.channels, stretch=config.data.stretch, prior=splits.train.prior
    )
    model = model.to(device=runtime.device, memory_format=runtime.memory_format)  # type: ignore[call-overload]
    optimizer = build_optimizer(model, config.optimizer)
    batches = len(training_loader(splits.train, config.data, seed=0, pin_memory=False))
    steps = -(-batches // config.training.accumulate)
    return Learner(
        model=model,
        network=torch.compile(model) if config.training.compile else model,
        optimizer=optimizer,
        schedule=build_schedule(optimizer, config.schedule, steps_per_epoch=steps, epochs=config.training.epochs),
        scaler=torch.amp.GradScaler(runtime.device.type, enabled=runtime.precision == "fp16"),
        loss=build_loss(config.loss),
        runtime=runtime,
    )


@dataclass
class Progress:
    """How far training has come.

    Attributes
    ----------
    epoch, batch, step : int
        Finished epochs, finished batches of the next one, optimizer steps in all.
    loss_sum, pixels, images, seconds : float
        Sums over the finished batches of the unfinished epoch.
    waiting_seconds : float
        How long it waited for batches, the first of each start left out.
    best, best_epoch
        Best value of the monitor, and where it was reached.
    reference, stale_epochs
        Value that the monitor has to beat by `min_delta`, and epochs since it last did.
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
    waiting_seconds: float = 0.0
    best: float | None = None
    best_epoch: int = 0
    reference: float | None = None
    stale_epochs: int = 0
    history: list[dict[str, float]] = field(default_factory=list)

    def judge(self, value: float, config: TrainingConfig) -> bool:
        """Take in an epoch's value of the monitor; return whether it is the best so far.

        Every improvement is kept, however small; patience starts anew only with one of more than `min_delta`.
        """
        if self.reference is None or _gain(value, self.reference, config) > config.min_delta:
            self.reference, self.stale_epochs = value, 0
        else:
            self.stale_epochs += 1
        if self.best is not None and _gain(value, self.best, config) <= 0:
            return False
        self.best, self.best_epoch = value, self.epoch
        return True


def _gain(value: float, reference: float, config: TrainingConfig) -> float:
    return reference - value if config.monitor_mode == "min" else value - reference


class LossNotFinite(RunError):
    """A loss that is infinite or not a number, after which every weight would be too."""


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
                raise LossNotFinite(
                    f"the loss must be finite, got {value} in epoch {self.progress.epoch + 1}, step {number}; "
                    "try a smaller optimizer.lr or training.clip_norm, or training.precision=fp32"
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

    def waiting(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Pass batches on and add up how long each was waited for, but for the first: it starts the loader."""
        for number in itertools.count():
            began = time.perf_counter()
            batch = next(batches, None)
            if batch is None:
                return
            self.progress.waiting_seconds += (time.perf_counter() - began) if number else 0.0
            yield batch

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

    def __init__(
        self, learner: Learner, progress: Progress, folder: Path, *, interval_seconds: float, facts: dict[str, str]
    ) -> None:
        self.learner, self.progress, self.folder = learner, progress, folder
        self.interval_seconds, self.facts = interval_seconds, facts
        self._last = time.monotonic()

    def is_due(self) -> bool:
        """Tell whether the last checkpoint is older than the interval."""
        return time.monotonic() - self._last > self.interval_seconds

    def save_last(self) -> None:
        """Write everything that is needed to go on from here."""
        runtime = self.learner.runtime
        facts = {"precision": runtime.precision, "device": runtime.device.type, "threads": runtime.threads}
        state = self.learner.state() | {"progress": dataclasses.asdict(self.progress), "random": random_states()}
        versions = {"torch": str(torch.__version__)}
        save_checkpoint(self.folder / LAST, state | {"runtime": facts | versions, "facts": self.facts})
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


def finish_epoch(progress: Progress, values: dict[str, float]) -> None:
    """Close the epoch: keep its values, and clear the sums for the next."""
    progress.epoch += 1
    progress.history.append({"epoch": float(progress.epoch), "step": float(progress.step)} | values)
    progress.batch, progress.images = 0, 0
    progress.loss_sum, progress.pixels, progress.seconds = 0.0, 0.0, 0.0
    progress.waiting_seconds = 0.0
