"""Which learning rate: a range test, and short trainings with the rates that come into question after it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from astrid.config import Config, RunError
from astrid.config.resume import load_config
from astrid.console import show_progress
from astrid.training import step

from .bench import Bench
from .step_figures import range_figure

Floats = NDArray[np.float64]

LOWEST_RATE, HIGHEST_RATE, RANGE_STEPS = 1e-6, 10.0, 120
DIVERGED = 4.0
"""A smoothed loss of so many times the lowest ends the test."""
SMOOTHING = 0.9
"""Weight of what was before in the running mean of the loss."""
TRIED = (3.0, 10.0, 30.0, 100.0)
"""What the rate of the lowest loss, which is about to raise it, is divided by for rates to try."""
BELOW = 10.0
"""What the run's own rate is divided by for one more."""
TRIAL_STEPS, JUDGED_STEPS = 90, 30
"""Steps of a short training, and how many of its last ones judge it."""
WORSE = 1.5
"""A rate whose short training ends with so many times the loss of the best one does not fit."""


@dataclass(frozen=True)
class RangeTest:
    """Loss by learning rate: of one step each, the rate rising, and of short trainings.

    Attributes
    ----------
    rates, losses : (K,) float64
        Learning rates, rising, and the smoothed loss of the step.
    trials : dict of float to float or None
        Mean loss at the end of a short training by its rate, rising; None where it became no number.
    """

    rates: Floats
    losses: Floats
    trials: dict[float, float | None]

    @property
    def proposed(self) -> float | None:
        """Rate to train with: that of the short training with the lowest loss; None where all became no number."""
        ended = {rate: loss for rate, loss in self.trials.items() if loss is not None}
        return min(ended, key=ended.__getitem__, default=None)

    def fits(self, rate: float) -> bool:
        """Tell whether a rate that was tried is about as good as the best."""
        own, best = self.trials[rate], None if self.proposed is None else self.trials[self.proposed]
        return own is not None and best is not None and own <= WORSE * best


def range_test(config: Config) -> RangeTest:
    """Raise the learning rate step by step and note the loss (Smith 2017, arXiv:1506.01186, section 3.3), then try.

    Every network starts anew, from the run's seed and with the run's batches in the same order, so that the short
    trainings differ in nothing but the rate. The rate stays as it is in them, without the run's schedule.

    Raises
    ------
    RunError
        Where not even the first loss is finite.
    """
    bench = Bench(config)
    rates, losses = _rising(bench)
    tried = rates_to_try(float(rates[losses.argmin()]), own=config.optimizer.lr)
    shown = show_progress(tried, "learning rates", len(tried), doing="trying")
    return RangeTest(rates, losses, {rate: _trial(bench, rate) for rate in shown})


def rates_to_try(lowest: float, *, own: float) -> list[float]:
    """Return rates of two digits below that of the lowest loss, the run's own and one below it, rising."""
    below = (*(lowest / part for part in TRIED), own / BELOW)
    return sorted({own, *(float(f"{max(rate, LOWEST_RATE):.2g}") for rate in below)})


def _rising(bench: Bench) -> tuple[Floats, Floats]:
    """Return rates and smoothed losses, up to where the loss has grown beyond bounds."""
    every = np.geomspace(LOWEST_RATE, HIGHEST_RATE, RANGE_STEPS).tolist()
    mean, smooth = 0.0, list[float]()
    for number, loss in enumerate(_losses(bench, show_progress(every, "steps", RANGE_STEPS, doing="raising")), start=1):
        mean = SMOOTHING * mean + (1 - SMOOTHING) * loss
        now = mean / (1 - SMOOTHING**number)  # or the first would be drawn towards 0
        if not np.isfinite(now) or now > DIVERGED * min([*smooth, np.inf]):
            break
        smooth.append(now)
    if not smooth:
        rule = f"the loss must be finite at a learning rate of {LOWEST_RATE:g}, got {now}"
        raise RunError(f"range test: {rule}; look for what is not finite by astrid diagnose, or try another loss")
    return np.array(every[: len(smooth)]), np.array(smooth)


def _trial(bench: Bench, rate: float) -> float | None:
    """Return the mean loss at the end of a short training, None where it became no number."""
    losses: list[float] = []
    for loss in _losses(bench, [rate] * TRIAL_STEPS):
        if not np.isfinite(loss):
            return None
        losses.append(loss)
    return float(np.mean(losses[-JUDGED_STEPS:]))


def _losses(bench: Bench, rates: Iterable[float]) -> Iterator[float]:
    """Take a step of a new network with each rate, and yield the loss before it."""
    learner, batches = bench.learner()
    windows = bench.windows(learner, batches)
    for rate in rates:
        for group in learner.optimizer.param_groups:
            group["lr"] = rate
        loss, _ = step(learner, next(windows), clip_norm=bench.config.training.clip_norm)
        yield float(loss)


def range_tested(run_dir: Path, folder: Path) -> str:
    """Run the range test for a run, write its numbers and figure into a folder, and say what it tells."""
    config = load_config(run_dir)
    test, lr = range_test(config), config.optimizer.lr
    numbers = {"rates": test.rates.tolist(), "losses": test.losses.tolist()}
    trials = [{"rate": rate, "loss": loss} for rate, loss in test.trials.items()]
    told = {"trials": trials, "proposed": test.proposed, "rate": lr, "fits": test.fits(lr)}
    (folder / "range_test.json").write_text(json.dumps(numbers | told, indent=2, allow_nan=False))
    range_figure(test.rates, test.losses, test.trials, rate=lr).savefig(folder / "range_test.png")
    whose = {lr: ", the run's peak"}
    lines = [f"range test: short trainings, mean loss of the last {JUDGED_STEPS} of {TRIAL_STEPS} steps"]
    for rate, loss in test.trials.items():
        lines.append(f"  {'not finite' if loss is None else f'{loss:.3g}':>10} at {rate:g}{whose.get(rate, '')}")
    return "\n".join([*lines, verdict(test, lr), f"  see: {folder / 'range_test.png'}"])


def verdict(test: RangeTest, lr: float) -> str:
    """Say whether the run's rate fits, and which one would."""
    if test.fits(lr):
        return f"the run's peak, {lr:g}, fits"
    if test.proposed is None:
        return f"none of these rates kept the loss finite; try another loss, or one below {min(test.trials):g}"
    wrong = "too high" if lr > test.proposed else "low"
    return f"the run's peak, {lr:g}, is {wrong}, try optimizer.lr={test.proposed:g}"
