"""What the GPUs of a run are doing at one moment, from NVML: use, memory, power, temperature, clocks, throttling."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from .nvml import open_devices, power_call
from .sources import SourceError

T = TypeVar("T")

THROTTLES = {
    0x04: "power cap",
    0x08: "hardware slowdown",
    0x20: "temperature (software)",
    0x40: "temperature (hardware)",
    0x80: "power brake",
}
"""Bits of NVML's clock event reasons that mean less speed than the GPU could give; idle and set clocks are none."""


@dataclass(frozen=True)
class GpuLoad:
    """State of the GPUs of a run at one moment, other processes on them included; None is what NVML can't say."""

    busy_percent: float | None
    """Share of the last second or so in which a kernel ran, averaged over the GPUs; unknown of a MIG slice."""
    memory_bytes: int
    """In use on all GPUs together."""
    memory_percent: float
    """In use on the fullest GPU."""
    watts: float | None = None
    """Power of all GPUs together."""
    celsius: float | None = None
    """Temperature of the hottest GPU."""
    clock_mhz: float | None = None
    """Clock of the slowest GPU's multiprocessors."""
    throttles: tuple[str, ...] | None = None
    """Why GPUs run slower than they could; empty where none does."""
    other_processes: int | None = None
    """Processes that compute on the GPUs and are not this one."""

    def state(self) -> dict[str, Any]:
        """Return what a sample of the energy ledger takes of it."""
        values = asdict(self)
        return {name: value for name, value in values.items() if name not in ("memory_percent", "watts")}


def open_gpu_load(used: Sequence[str], *, wanted: str | Sequence[str] = "auto") -> Callable[[], GpuLoad]:
    """Find the GPUs of a run and return what reads their load.

    Parameters and errors are those of `open_gpus`; the returned function raises SourceError for a failed reading.
    """
    nvml, devices = open_devices(used, wanted=wanted)
    try:
        powers = [power_call(nvml, device.handle) for device in devices]
    except nvml.NVMLError as error:
        raise SourceError(f"NVML: {error}") from error

    def read() -> GpuLoad:
        try:
            readings = [_read_one(nvml, device.handle, power) for device, power in zip(devices, powers, strict=True)]
        except nvml.NVMLError as error:
            raise SourceError(f"NVML: {error}") from error
        return _together(readings, uses_gpu=bool(used))

    return read


@dataclass(frozen=True)
class _Reading:
    """State of one GPU."""

    used_bytes: int
    total_bytes: int
    busy_percent: float | None
    milliwatts: float | None
    celsius: float | None
    clock_mhz: float | None
    reasons: int | None
    pids: list[int] | None


def _read_one(nvml: Any, handle: object, power: Callable[[], int] | None) -> _Reading:
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    return _Reading(
        used_bytes=memory.used,
        total_bytes=memory.total,
        busy_percent=_known(nvml, lambda: float(nvml.nvmlDeviceGetUtilizationRates(handle).gpu)),
        milliwatts=None if power is None else _known(nvml, power),
        celsius=_known(nvml, lambda: float(nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU))),
        clock_mhz=_known(nvml, lambda: float(nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM))),
        reasons=_known(nvml, lambda: _clock_reasons(nvml, handle)),
        pids=_known(nvml, lambda: [process.pid for process in nvml.nvmlDeviceGetComputeRunningProcesses_v3(handle)]),
    )


def _together(readings: Sequence[_Reading], *, uses_gpu: bool) -> GpuLoad:
    busy = _of_all([reading.busy_percent for reading in readings])
    milliwatts = _of_all([reading.milliwatts for reading in readings])
    celsius = _of_all([reading.celsius for reading in readings])
    clocks = _of_all([reading.clock_mhz for reading in readings])
    reasons = _of_all([reading.reasons for reading in readings])
    pids = _of_all([reading.pids for reading in readings])
    return GpuLoad(
        busy_percent=None if busy is None else sum(busy) / len(busy),
        memory_bytes=sum(reading.used_bytes for reading in readings),
        memory_percent=max(100 * reading.used_bytes / reading.total_bytes for reading in readings),
        watts=None if milliwatts is None else sum(milliwatts) / 1000,
        celsius=None if celsius is None else max(celsius),
        clock_mhz=None if clocks is None else min(clocks),
        throttles=None if reasons is None else tuple(why for bit, why in THROTTLES.items() if _any_has(bit, reasons)),
        other_processes=None if pids is None else _strangers([pid for part in pids for pid in part], uses_gpu=uses_gpu),
    )


def _any_has(bit: int, reasons: Sequence[int]) -> bool:
    return any(bits & bit for bits in reasons)


def _of_all(values: Sequence[T | None]) -> list[T] | None:
    """Return what is known of every GPU; what is unknown of one is unknown altogether."""
    known = [value for value in values if value is not None]
    return known if len(known) == len(values) else None


def _known(nvml: Any, call: Callable[[], T]) -> T | None:
    try:
        return call()
    except (nvml.NVMLError_NotSupported, nvml.NVMLError_FunctionNotFound, nvml.NVMLError_NoPermission):
        return None


def _clock_reasons(nvml: Any, handle: object) -> int:
    try:
        return int(nvml.nvmlDeviceGetCurrentClocksEventReasons(handle))
    except nvml.NVMLError_FunctionNotFound:  # its name in drivers before 535
        return int(nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle))


def _strangers(pids: Sequence[int], *, uses_gpu: bool) -> int:
    """Count the processes that are not this one.

    In a container NVML may number processes as the host does, so that this one can't be told from the others by its
    number: it is one of them then, where it uses the GPU at all.
    """
    is_hidden = uses_gpu and bool(pids) and os.getpid() not in pids
    return len(set(pids) - {os.getpid()}) - int(is_hidden)
