"""Meters on scripted clocks and, in a process of its own, on GPUs that a compiled library plays."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from astrid.energy import Component, Meter, PhaseEnergy
from astrid.energy.channel import Channel
from astrid.energy.ledger import Ledger
from astrid.energy.sources import Source, SourceError

FAKE_UUID = "GPU-fake0000-0000-0000-0000-000000000000"
SECOND_UUID = "GPU-fake0000-0000-0000-0000-000000000001"
SLICE_UUID = "MIG-fake1111-0000-0000-0000-000000000000"

DRIVER = """
import ctypes, json, logging, sys, time
from dataclasses import asdict
from pathlib import Path
import numpy
from astrid.config import EnergyConfig
from astrid.energy import build_meter, energy_labels, energy_metrics, find_factors

def python(until):
    while time.monotonic() < until:
        sum(range(1000))

def in_numpy(until):
    square = numpy.ones((300, 300))
    while time.monotonic() < until:
        square @ square

def blocking(until):
    time.sleep(max(0.0, until - time.monotonic()))

logging.basicConfig(level=logging.INFO, format="%(message)s")
work = {"python": python, "numpy": in_numpy, "blocking": blocking}
options = json.loads(sys.argv[1])
config = EnergyConfig(**options["config"])
ledger = Path(options["ledger"])
spans, synchronised = [], []
meter = build_meter(config, gpu_uuids=options["uuids"], synchronise=lambda: synchronised.append(0), ledger=ledger,
                    powercap=Path("absent"))
with meter:
    for phase, epoch, seconds in options["phases"]:
        with meter.phase(phase, epoch=epoch) as span:
            work[options["work"]](time.monotonic() + seconds)
        spans.append({**asdict(span.reading), "start": span.begin.seconds, "watts": meter.watts})
    summary = meter.settle()
    end = time.monotonic()

def used(begin, end):
    try:
        library = ctypes.CDLL("libnvidia-ml.so.1")
        born = ctypes.c_double.in_dll(library, "fake_nvml_born").value
    except (OSError, ValueError):
        return None
    library.fake_nvml_joules.restype, library.fake_nvml_joules.argtypes = ctypes.c_double, [ctypes.c_double]
    return library.fake_nvml_joules(end - born) - library.fake_nvml_joules(begin - born)

for span in spans:
    span["truth"] = used(span["start"], span["start"] + span["seconds"])
total = summary.total
print(json.dumps({
    "spans": spans, "metrics": energy_metrics(summary, find_factors(config)), "labels": energy_labels(summary),
    "phases": {name: phase.joules for name, phase in summary.phases.items()}, "total": asdict(total),
    "idle": None if summary.idle is None else asdict(summary.idle),
    "truth": used(end - total.seconds, end), "notes": summary.notes, "synchronised": len(synchronised),
    "nvml_imported": "pynvml" in sys.modules,
}))
"""


class ScriptedClock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def scripted_meter(
    source: Source, clock: ScriptedClock, ledger: Path | None = None, synchronise: Callable[[], None] = lambda: None
) -> Meter:
    """Make a meter of one GPU source whose samples are taken by the test: before it is entered it has no thread."""
    gpu, cpu = Channel("GPU", [source]), Channel("CPU", reason="no RAPL")
    return Meter(gpu=gpu, cpu=cpu, synchronise=synchronise, ledger=Ledger(ledger), sample_seconds=0.1, clock=clock)


def reading(phase: str = "train", epoch: int | None = 1, joules: float | None = 5.0) -> PhaseEnergy:
    """Return a phase of two seconds on a GPU."""
    gpu = Component(joules, "measured" if joules is not None else "unavailable", "NVML", None if joules else "lost")
    return PhaseEnergy(phase, epoch, 2.0, gpu, Component(None, "unavailable", "none", "no RAPL"))


def fail_after(readings: int, value: Callable[[], float]) -> Callable[[], float]:
    """Make a sensor that gives that many readings and then breaks."""
    count = 0

    def read() -> float:
        nonlocal count
        count += 1
        if count > readings:
            raise SourceError("GPU is lost")
        return value()

    return read


def measure(
    library: Path,
    ledger: Path,
    phases: list[tuple[str, int, float]],
    *,
    uuids: tuple[str, ...] = (FAKE_UUID,),
    config: dict[str, Any] | None = None,
    work: str = "python",
    **gpu: str,
) -> dict[str, Any]:
    """Run phases of work in a process that finds NVML in `library`, and return what it measured, and the truth."""
    environment = {**os.environ, "LD_LIBRARY_PATH": str(library), **{f"FAKE_NVML_{k}": v for k, v in gpu.items()}}
    options = {"uuids": uuids, "ledger": str(ledger), "phases": phases, "config": config or {}, "work": work}
    arguments = [sys.executable, "-c", DRIVER, json.dumps(options)]
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {**json.loads(done.stdout), "log": done.stderr}
