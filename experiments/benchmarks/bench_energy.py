"""What the energy meter costs a run, and what it says beside codecarbon and zeus about the same ten seconds.

The cost is the processor time of the sampling thread plus the time for which the loop waits at boundaries, as a share
of the default run; a wall clock can't see it, so that the interleaved A/B of training with and without the meter comes
with an A/A control beside it. Without an NVIDIA GPU one is played: `tests/fake_nvml.c`, compiled, behind the real
bindings, with 100 W and spikes of 300 W; then the truth is known. The others are compared where they can be imported;
`--others` adds the folder of packages that holds them, as `.../site-packages` of an environment of their own.

    python experiments/benchmarks/bench_energy.py
    python experiments/benchmarks/bench_energy.py --others DIR
"""

from __future__ import annotations

import argparse
import ctypes
import dataclasses
import importlib.util
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import torch
from bench_loop import ListLoader
from loops import default_learner, default_splits
from rivals import compare, record, spread

from astrid.config import AugmentConfig, Config, EnergyConfig, TrainingConfig
from astrid.data.dataset import Batch, training_loader
from astrid.energy import Meter, build_meter
from astrid.learner import Progress
from astrid.runtime import StopSignals
from astrid.training import Loaders, fit, prepare

FAKE_SOURCE = Path(__file__).parents[2] / "tests" / "fake_nvml.c"
RUN_SECONDS, EPOCHS = 197.0, 4
"""Length of the default run on two cores, and its epochs."""
BOUNDARIES = 2 * (2 * EPOCHS + 3)
"""Both ends of each epoch's training and validation, of set-up, test and latency."""
LOAD_SECONDS, STEPS = 30.0, 5


def play_gpu() -> None:
    """Start this program again with a played GPU, unless there is a real one or it is played already."""
    if torch.cuda.is_available() or "FAKE_NVML_W" in os.environ:
        return
    with tempfile.TemporaryDirectory() as folder:
        library = str(Path(folder) / "libnvidia-ml.so.1")
        subprocess.run(["gcc", "-w", "-shared", "-fPIC", "-o", library, str(FAKE_SOURCE)], check=True)
        listing = Path(folder) / "nvidia-smi"  # codecarbon takes a machine without that command for one without a GPU
        listing.write_text("#!/bin/sh\n")
        listing.chmod(0o755)
        played = {"LD_LIBRARY_PATH": folder, "FAKE_NVML_W": "100", "FAKE_NVML_SPIKE_W": "200"}
        played["PATH"] = f"{folder}:{os.environ['PATH']}"
        sys.exit(subprocess.run([sys.executable, *sys.argv], env=os.environ | played, check=False).returncode)


def open_meter(source: str = "auto") -> Meter:
    """Return a meter on all GPUs, with its ledger on the disk, as that of a run."""
    config = EnergyConfig(source=source, gpus="all")  # type: ignore[arg-type]
    synchronise: Callable[[], None] = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    ledger = Path(tempfile.mkdtemp()) / "energy.jsonl"
    return build_meter(config, gpu_uuids=[], synchronise=synchronise, ledger=ledger)


def work(seconds: float) -> None:
    """Keep the processor busy in NumPy."""
    end = time.monotonic() + seconds
    square = np.ones((200, 200))
    while time.monotonic() < end:
        square @ square


def sampling_clock() -> float:
    """Return the processor seconds of the sampling thread."""
    (thread,) = [thread for thread in threading.enumerate() if thread.name == "astrid-energy"]
    assert thread.ident is not None
    return time.clock_gettime(time.pthread_getcpuclockid(thread.ident))


def measure_cost() -> list[str]:
    """Time thread, boundaries and alignment, and weigh the memory."""
    process = psutil.Process()
    threads, before = threading.active_count(), process.memory_info().rss
    start = time.perf_counter()
    meter = open_meter()
    opening = time.perf_counter() - start
    with meter:
        aligned = time.perf_counter() - start - opening
        begin = sampling_clock()
        work(LOAD_SECONDS)
        share = (sampling_clock() - begin) / LOAD_SECONDS
        boundary = [time_boundary(meter) for _ in range(200)]
        start = time.perf_counter()
        meter.settle()
        settling = time.perf_counter() - start
        extra = threading.active_count() - threads
    memory = (process.memory_info().rss - before) / 2**20
    blocked = aligned + settling + BOUNDARIES * float(np.median(boundary))
    percent = 100 * (share + blocked / RUN_SECONDS)
    return [
        f"sampling thread {100 * share:.3f} % of a core, over {LOAD_SECONDS:.0f} s",
        f"a boundary blocks {spread([1000 * one for one in boundary])} ms, "
        f"waiting for ticks {1000 * aligned:.0f} ms at the beginning and {1000 * settling:.0f} ms at the end",
        f"together {percent:.3f} % of the default run of {RUN_SECONDS:.0f} s",
        f"{extra} thread, {memory:.1f} MiB, opened in {1000 * opening:.0f} ms",
    ]


def time_boundary(meter: Meter) -> float:
    """Return the seconds of one end of a phase."""
    start = time.perf_counter()
    with meter.phase("train", epoch=1):
        pass
    return (time.perf_counter() - start) / 2


def train(config: Config, batches: list[Batch], source: str) -> float:
    """Train an epoch with or without the meter; return the seconds of its steps."""
    learner = default_learner(config)
    plain = AugmentConfig(flips=False)
    loaders = Loaders(ListLoader(batches), ListLoader(batches[:1]), augment=plain, fingerprint="list")
    ends: list[float] = []
    with tempfile.TemporaryDirectory() as folder, open_meter(source) as meter:
        options = {"config": config.training, "metrics": config.metrics, "meter": meter, "folder": Path(folder)}
        show = lambda report: ends.append(time.perf_counter())  # noqa: E731
        list(fit(learner, loaders, **options, stop=StopSignals(), show=show, progress=Progress()))
    return ends[-1] - ends[0]


def measure_wall_clock() -> str:
    """Let training with and without the meter take turns."""
    config = dataclasses.replace(Config(), training=TrainingConfig(epochs=1))
    learner = default_learner(config)
    loader = training_loader(default_splits(config).train, config.data, seed=0, pin_memory=False)
    batches = [prepare(batch, learner.runtime) for batch, _ in zip(loader.epoch(1), range(STEPS), strict=False)]
    times = compare(lambda: train(config, batches, "auto"), lambda: train(config, batches, "off"))
    return f"{STEPS - 1} steps with the meter against without: {times}"


def beside_others(seconds: float = 10.0) -> list[str]:
    """Measure the same work with everything that can be imported, nested, and time what it takes to start."""
    with open_meter() as meter:
        others = [open_other() for name, open_other in OTHERS.items() if importlib.util.find_spec(name) is not None]
        with meter.phase("train") as span:
            for other in others:
                other.begin()
            work(seconds)
            stopped = [other.end() for other in others]
        truth = used(span.begin.seconds, span.begin.seconds + span.reading.seconds)
    gpu = span.reading.gpu
    error = "" if gpu.error_joules is None else f" +- {gpu.error_joules:.0f}"
    known = "" if truth is None else f"; truth {truth:.1f} J"
    lines = [f"AstrID {gpu.joules or float('nan'):.1f}{error} J of the GPU in {span.reading.seconds:.2f} s{known}"]
    return lines + [
        f"{other.name} {text}, {other.start:.2f} s to start" for other, text in zip(others, stopped, strict=True)
    ]


def used(begin: float, end: float) -> float | None:
    """Return what the played GPU used; None of a real one."""
    if "FAKE_NVML_W" not in os.environ:
        return None
    library = ctypes.CDLL("libnvidia-ml.so.1")
    born = ctypes.c_double.in_dll(library, "fake_nvml_born").value
    library.fake_nvml_joules.restype, library.fake_nvml_joules.argtypes = ctypes.c_double, [ctypes.c_double]
    return float(library.fake_nvml_joules(end - born) - library.fake_nvml_joules(begin - born))


class Zeus:
    """The energy window of zeus."""

    name = "zeus"

    def __init__(self) -> None:
        start = time.perf_counter()
        from zeus.monitor import ZeusMonitor

        self._monitor = ZeusMonitor(gpu_indices=[0])
        self.start = time.perf_counter() - start
        self._options = {"sync_execution": torch.cuda.is_available()}

    def begin(self) -> None:
        """Open the window."""
        self._monitor.begin_window("run", **self._options)

    def end(self) -> str:
        """Close it and say what it shows."""
        window = self._monitor.end_window("run", **self._options)
        return f"{window.total_energy:.1f} J of the GPU in {window.time:.2f} s"


class CodeCarbon:
    """The offline tracker of codecarbon, which asks no server."""

    name = "codecarbon"

    def __init__(self) -> None:
        start = time.perf_counter()
        from codecarbon import OfflineEmissionsTracker

        self._tracker = OfflineEmissionsTracker(
            country_iso_code="DEU", save_to_file=False, log_level="critical", measure_power_secs=1
        )
        self.start = time.perf_counter() - start

    def begin(self) -> None:
        """Start the tracker."""
        begin = time.perf_counter()
        self._tracker.start()
        self.start += time.perf_counter() - begin

    def end(self) -> str:
        """Stop it and say what it shows."""
        self._tracker.stop()
        data = self._tracker.final_emissions_data
        parts = [
            f"{getattr(data, f'{name}_energy') * 3.6e6:.1f} J of the {name.upper()}" for name in ("gpu", "cpu", "ram")
        ]
        return f"{', '.join(parts)} in {data.duration:.2f} s"


OTHERS: dict[str, type[Zeus] | type[CodeCarbon]] = {"zeus": Zeus, "codecarbon": CodeCarbon}


def main() -> None:
    """Measure the cost, the wall clock and the others, and record them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--others", metavar="DIR", help="folder of packages with codecarbon and zeus")
    arguments = parser.parse_args()
    play_gpu()
    if arguments.others is not None:
        sys.path.append(arguments.others)
    kind = "a played GPU, 100 W with spikes of 300 W" if "FAKE_NVML_W" in os.environ else "a real GPU"
    record("bench_energy", kind, *measure_cost(), measure_wall_clock(), *beside_others())


if __name__ == "__main__":
    main()
