"""A profile of a few training steps of a throw-away network on a run's own data."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from torch.profiler import ProfilerActivity, profile, record_function

from astrid.config import Config
from astrid.config.resume import load_config
from astrid.data.dataset import Batch
from astrid.learner import Learner
from astrid.metrics.peak_memory import silence_profiler
from astrid.training import prepare, step

from .bench import Bench
from .memory import LayerMemory, layer_memory, memory_table

WARM_UP, PROFILED_STEPS = 2, 4
LISTED = 10


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
    learner, batches = Bench(config).learner()
    for _ in range(WARM_UP):
        _profiled_step(learner, batches, config)
    cuda = learner.runtime.device.type == "cuda"
    silence_profiler()
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
