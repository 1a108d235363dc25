"""Memory of the device of a run: what is free, and the peak of what is done with it."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil
import torch

from astrid.machine_load import free_memory_bytes
from astrid.runtime import Runtime, hardware_facts

SHARE = {"cpu": 0.6, "cuda": 0.85}
"""Share of the free memory that a step may take; the rest is for fragments, validation and what else runs there."""
SAMPLE_SECONDS = 0.001


@dataclass(frozen=True)
class DeviceMemory:
    """The device of a run, and its memory before any trial; on the CPU the machine's, or its control group's.

    Attributes
    ----------
    kind : "cpu" or "cuda"
    name : str
    free_bytes : int
    held_bytes : int
        What this process held at that moment.
    """

    kind: str
    name: str
    free_bytes: int
    held_bytes: int

    @property
    def budget_bytes(self) -> int:
        """What a training step may take."""
        return int(SHARE[self.kind] * self.free_bytes)

    @property
    def budget(self) -> str:
        """The same in words."""
        free, budget = self.free_bytes / 2**20, self.budget_bytes / 2**20
        return f"{budget:.0f} MiB ({SHARE[self.kind]:.0%} of the {free:.0f} MiB free on {self.name})"


def device_memory(runtime: Runtime, *, sharers: int = 1) -> DeviceMemory:
    """Look at the device's free memory; `sharers` runs share that of a machine."""
    facts = hardware_facts(runtime)
    if runtime.device.type == "cuda":
        release(runtime)
        free, _ = torch.cuda.mem_get_info(runtime.device)
        return DeviceMemory("cuda", facts["device"], free, torch.cuda.memory_reserved(runtime.device))
    return DeviceMemory("cpu", facts["processor"] or "CPU", free_memory_bytes() // sharers, _resident_bytes())


def release(runtime: Runtime) -> None:
    """Give back what earlier work left reserved, and forget its peak; call it when no exception holds on to tensors."""
    if runtime.device.type == "cuda":
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(runtime.device)


def _resident_bytes() -> int:
    return int(psutil.Process().memory_info().rss)


@dataclass
class Peak:
    """The most bytes that were held."""

    bytes: int = 0


@contextmanager
def peak_memory(runtime: Runtime) -> Iterator[Peak]:
    """Measure the peak of the device's memory: CUDA's own counter, or the resident set of this process, sampled."""
    peak = Peak()
    if runtime.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(runtime.device)
        yield peak
        peak.bytes = torch.cuda.max_memory_reserved(runtime.device)
        return
    done = threading.Event()
    watcher = threading.Thread(target=_watch_resident_set, args=(peak, done), daemon=True)
    watcher.start()
    try:
        yield peak
    finally:
        done.set()
        watcher.join()


def _watch_resident_set(peak: Peak, done: threading.Event) -> None:
    while not done.wait(SAMPLE_SECONDS):
        peak.bytes = max(peak.bytes, _resident_bytes())
