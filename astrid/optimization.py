"""Optimizers, and the learning rate over time."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from astrid.config import (
    AdamConfig,
    AdamWConfig,
    ConstantSchedule,
    CosineSchedule,
    OneCycleSchedule,
    OptimizerConfig,
    PlateauSchedule,
    ScheduleConfig,
    SGDConfig,
)


def build_optimizer(model: nn.Module, config: OptimizerConfig) -> Optimizer:
    """Return the optimizer that `config` names, with weight decay on weights only.

    Its first parameter group holds the weights of convolutions and linear layers; the second, without decay, biases
    and the scales and shifts of norms, which have one dimension.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [parameter for parameter in parameters if parameter.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [parameter for parameter in parameters if parameter.ndim <= 1], "weight_decay": 0.0},
    ]
    match config:
        case AdamWConfig():
            return AdamW(groups, lr=config.lr, betas=(config.betas[0], config.betas[1]), eps=config.eps)
        case AdamConfig():
            return Adam(groups, lr=config.lr, betas=(config.betas[0], config.betas[1]), eps=config.eps)
        case SGDConfig():
            return SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=config.nesterov)
    raise TypeError(f"no optimizer for {type(config).__name__}")


def build_schedule(optimizer: Optimizer, config: ScheduleConfig, *, steps_per_epoch: int, epochs: int) -> Schedule:
    """Return the schedule that `config` names, and set the rate of the first step.

    Parameters
    ----------
    optimizer : Optimizer
        Its rates at this moment are the peaks.
    config : ScheduleConfig
    steps_per_epoch : int
        Optimizer steps an epoch.
    epochs : int
        Epochs of the whole run.
    """
    peak = max(config.warmup_epochs * steps_per_epoch - 1, 0)  # counting from 0, the step that ends the warm-up
    last = steps_per_epoch * epochs - 1
    match config:
        case OneCycleSchedule():
            start, final = config.start_fraction, config.final_fraction
            return Schedule(optimizer, partial(_one_cycle, peak=peak, last=last, start=start, final=final))
        case CosineSchedule():
            return Schedule(optimizer, partial(_cosine, peak=peak, last=last, final=config.final_fraction))
        case PlateauSchedule():
            return Schedule(optimizer, partial(_warm_up, peak=peak), plateau=config)
        case ConstantSchedule():
            return Schedule(optimizer, partial(_warm_up, peak=peak))
    raise TypeError(f"no schedule for {type(config).__name__}")


class Schedule:
    """Learning rate as a function of the optimizer steps taken, times a cut for each plateau.

    torch's schedulers derive each rate from the one before and fix the total at the start. Here the state is a
    count of steps, so a run resumed with more or fewer epochs goes on along the curve of the new total, and a
    rate jumps at most once, when it is resumed. Steps beyond the total keep the last rate.

    Parameters
    ----------
    optimizer : Optimizer
        Its rates at this moment are the peaks.
    fraction : callable
        From the number of a step, counted from 0, to its rate as a fraction of the peak.
    plateau : PlateauSchedule or None
        When to cut the rate; None never does.
    """

    def __init__(
        self, optimizer: Optimizer, fraction: Callable[[int], float], *, plateau: PlateauSchedule | None = None
    ) -> None:
        self.optimizer, self.fraction, self.plateau = optimizer, fraction, plateau
        self.steps = self.cuts = self.epochs_without_improvement = 0
        self.best = -math.inf
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
        self._set_rates()

    @property
    def rate(self) -> float:
        """Learning rate of the next step."""
        return float(self.optimizer.param_groups[0]["lr"])

    def step(self) -> None:
        """Move on after an optimizer step."""
        self.steps += 1
        self._set_rates()

    def epoch(self, monitor_value: float | None, mode: Literal["min", "max"]) -> None:
        """Cut the rate where the monitor has not improved for more than `patience` epochs; plateau only.

        An epoch in which the monitor is undefined (None) counts neither way.
        """
        if self.plateau is None or monitor_value is None:
            return
        value = monitor_value if mode == "max" else -monitor_value
        if value > self.best:
            self.best, self.epochs_without_improvement = value, 0
            return
        self.epochs_without_improvement += 1
        if self.epochs_without_improvement > self.plateau.patience:
            self.cuts, self.epochs_without_improvement = self.cuts + 1, 0
            self._set_rates()

    def state_dict(self) -> dict[str, Any]:
        """Return what decides the rates to come."""
        return {name: getattr(self, name) for name in ("steps", "cuts", "epochs_without_improvement", "best")}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state; load the optimizer's first, for it brings its own rates."""
        for name, value in state.items():
            setattr(self, name, value)
        self._set_rates()

    def _set_rates(self) -> None:
        factor = self.fraction(self.steps)
        if self.plateau is not None:
            factor *= self.plateau.factor**self.cuts
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor


def _warm_up(step: int, *, peak: float) -> float:
    """Rise linearly from zero, which a step before the first would have, to 1 at `peak`."""
    return min(1.0, (step + 1) / (peak + 1))


def _cosine(step: int, *, peak: float, last: int, final: float) -> float:
    """Warm up to 1 at `peak`, then fall along half a cosine to `final` at `last` (arXiv:1608.03983, equation 5)."""
    return _warm_up(step, peak=peak) if step <= peak else _half_cosine(_share(step, peak, last), 1.0, final)


def _one_cycle(step: int, *, peak: float, last: int, start: float, final: float) -> float:
    """Rise from `start` to 1 at `peak` and fall to `final` at `last`, along half cosines (arXiv:1708.07120)."""
    if step < peak:
        return _half_cosine(_share(step, 0, peak), start, 1.0)
    return _half_cosine(_share(step, peak, last), 1.0, final)


def _share(step: int, first: float, last: float) -> float:
    """Share of the way from `first` to `last` that is behind `step`; a way of no length is never begun."""
    return min(1.0, (step - first) / (last - first)) if last > first else 0.0


def _half_cosine(share: float, start: float, end: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2
