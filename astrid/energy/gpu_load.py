"""How busy the GPUs of a run are, and how full their memory is, from NVML."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .sources import SourceError, open_devices


@dataclass(frozen=True)
class GpuLoad:
    """Use of the GPUs of a run at one moment, other processes on them included."""

    busy_percent: float | None
    """Share of the last second or so in which a kernel ran, averaged over the GPUs; None where NVML can't say, as of a
    MIG slice."""
    memory_bytes: int
    """In use on all GPUs together."""
    memory_percent: float
    """In use on the fullest GPU."""


def open_gpu_load(uuids: Sequence[str]) -> Callable[[], GpuLoad]:
    """Find the GPUs of this process and return what reads their load.

    Parameters
    ----------
    uuids : sequence of str
        UUIDs of the devices in use, with or without the prefix "GPU-".

    Raises
    ------
    SourceError
        No GPU is in use, or NVML is absent or doesn't know it; the returned function raises it for a failed reading.
    """
    nvml, handles = open_devices(uuids)

    def read() -> GpuLoad:
        try:
            memory = [nvml.nvmlDeviceGetMemoryInfo(handle) for handle in handles]
            busy = [_busy_percent(nvml, handle) for handle in handles]
        except nvml.NVMLError as error:
            raise SourceError(f"NVML: {error}") from error
        known = [percent for percent in busy if percent is not None]
        return GpuLoad(
            busy_percent=sum(known) / len(known) if len(known) == len(busy) else None,
            memory_bytes=sum(part.used for part in memory),
            memory_percent=max(100 * part.used / part.total for part in memory),
        )

    return read


def _busy_percent(nvml: Any, handle: object) -> float | None:
    try:
        return float(nvml.nvmlDeviceGetUtilizationRates(handle).gpu)
    except nvml.NVMLError_NotSupported:
        return None
