"""Training steps of a throw-away network on a run's own data: a range test of the learning rate, and a profile."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch.profiler import ProfilerActivity, profile, record_function

from astrid.config import Config, RunError
from astrid.config.resume import load_config
from astrid.console import announce
from astrid.data.dataset import Batch, training_loader
from astrid.data.fields import build_splits
from astrid.learner import Learner, build_learner
from astrid.plan import known_reach
from astrid.runtime import prepare_runtime
from astrid.training import prepare, step

from .memory import LayerMemory, layer_memory, memory_table
from .step_figures import range_figure

Floats = NDArray[np.float64]

LOWEST_RATE, HIGHEST_RATE, RANGE_STEPS = 1e-6, 10.0, 120
DIVERGED = 4.0
"""A smoothed loss of so many times the lowest ends the test."""
SMOOTHING = 0.9
"""Weight of what was before in the running mean of the loss."""
SAFETY = 10.0
"""The rate that is proposed is the one of the lowest loss divided by this: there it is about to rise."""
TOO_LOW = 100.0
"""A rate that many times below the proposed one is too low."""
WARM_UP, PROFILED_STEPS = 2, 4
LISTED = 10


@dataclass(frozen=True)
class RangeTest:
    """Loss by learning rate, each rate a step.

    Attributes
    ----------
    rates, losses : (K,) float64
        Learning rates, rising, and the smoothed loss of the step.
    """

    rates: Floats
    losses: Floats

    @property
    def steepest(self) -> float:
        """Rate of the lowest loss: a larger one raises it."""
        return float(self.rates[self.losses.argmin()])

    @property
    def proposed(self) -> float:
        """Rate to train with."""
        return self.steepest / SAFETY


def range_test(config: Config) -> RangeTest:
    """Raise the learning rate step by step and note the loss (Smith 2017, arXiv:1506.01186, section 3.3).

    The network starts anew, from the run's seed; the run's data, loss and optimizer are used.

    Raises
    ------
    RunError
        Where not even the first loss is finite.
    """
    learner, batches = _learner(config)
    learner.model.train()
    rates: list[float] = []
    losses: list[float] = []
    mean = 0.0
    for number, rate in enumerate(np.geomspace(LOWEST_RATE, HIGHEST_RATE, RANGE_STEPS), start=1):
        for group in learner.optimizer.param_groups:
            group["lr"] = float(rate)
        loss, _ = step(learner, [prepare(next(batches), learner.runtime)], clip_norm=config.training.clip_norm)
        mean = SMOOTHING * mean + (1 - SMOOTHING) * float(loss)
        smooth = mean / (1 - SMOOTHING**number)  # or the first would be drawn towards 0
        if not np.isfinite(smooth) or smooth > DIVERGED * min([*losses, np.inf]):
            break
        rates.append(float(rate))
        losses.append(smooth)
    if not rates:
        rule = f"the loss must be finite at a learning rate of {LOWEST_RATE:g}, got {smooth}"
        raise RunError(f"range test: {rule}; look for what is not finite by astrid diagnose, or try another loss")
    return RangeTest(np.array(rates), np.array(losses))


def range_tested(run_dir: Path, folder: Path) -> str:
    """Run the range test for a run, write its numbers and figure into a folder, and say what it tells."""
    config = load_config(run_dir)
    test, lr = range_test(config), config.optimizer.lr
    numbers = {"rates": test.rates.tolist(), "losses": test.losses.tolist(), "proposed": test.proposed, "rate": lr}
    (folder / "range_test.json").write_text(json.dumps(numbers, indent=2))
    range_figure(test.rates, test.losses, rate=lr, proposed=test.proposed).savefig(folder / "range_test.png")
    told = f"range test: the loss falls until {test.steepest:.2g}"
    if test.proposed / TOO_LOW <= lr <= test.steepest:
        told += f"; the run's peak, {lr:g}, fits"
    else:
        verdict = "too high" if lr > test.steepest else "low"
        told += f"; the run's peak, {lr:g}, is {verdict}, try optimizer.lr={test.proposed:.1g}"
    return f"{told}\n  see: {folder / 'range_test.png'}"


@dataclass(frozen=True)
class Profile:
    """Where the time and the memory of a step go.

    Attributes
    ----------
    operations : list of (name, milliseconds a step)
        The slowest first.
    memory : list of LayerMemory
        The largest first.
    """

    operations: list[tuple[str, float]]
    memory: list[LayerMemory]


def profile_steps(config: Config, *, trace: Path) -> Profile:
    """Take a few steps under torch's profiler, and write a trace that a browser opens (ui.perfetto.dev)."""
    learner, batches = _learner(config)
    learner.model.train()
    for _ in range(WARM_UP):
        _profiled_step(learner, batches, config)
    cuda = learner.runtime.device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    with profile(activities=activities) as profiler:
        for _ in range(PROFILED_STEPS):
            _profiled_step(learner, batches, config)
        learner.runtime.synchronise()
    profiler.export_chrome_trace(str(trace))
    times = [
        (event.key, (event.self_device_time_total if cuda else event.self_cpu_time_total) / 1000 / PROFILED_STEPS)
        for event in profiler.key_averages()
    ]
    operations = sorted(times, key=lambda row: -row[1])[:LISTED]
    return Profile(operations, layer_memory(learner, prepare(next(batches), learner.runtime)["image"]))


def _profiled_step(learner: Learner, batches: Iterator[Batch], config: Config) -> None:
    with record_function("waiting for the batch"):
        batch = next(batches)
    with record_function("to the device"):
        prepared = prepare(batch, learner.runtime)
    step(learner, [prepared], clip_norm=config.training.clip_norm)


def profiled(run_dir: Path, folder: Path) -> str:
    """Profile a run's step, write trace and numbers into a folder, and return both tables."""
    trace = folder / "trace.json"
    found = profile_steps(load_config(run_dir), trace=trace)
    layers = [dataclasses.asdict(layer) for layer in found.memory]
    text = json.dumps({"operations_ms": dict(found.operations), "memory": layers}, indent=2)
    (folder / "profile.json").write_text(text)
    slowest = [f"  {milliseconds:8.2f} ms  {name}" for name, milliseconds in found.operations]
    lines = ["slowest operations of a step, by their own time", *slowest, *memory_table(found.memory[:LISTED])]
    return "\n".join([*lines, f"trace: {trace} (open it at ui.perfetto.dev)"])


def _learner(config: Config) -> tuple[Learner, Iterator[Batch]]:
    """Return a new learner as the run's was, on this machine's device, and batches without end."""
    training = dataclasses.replace(config.training, device="auto", precision="auto", compile=False)
    runtime = prepare_runtime(training)
    splits = build_splits(config.data, receptive_field_pixels=known_reach(config.model), announce=announce)
    learner = build_learner(dataclasses.replace(config, training=training), runtime, splits)
    loader = training_loader(splits.train, config.data, seed=config.training.seed, pin_memory=False)
    return learner, itertools.chain.from_iterable(loader.epoch(epoch) for epoch in itertools.count(1))
