"""What a machine and the process of a run use at one moment: processor, memory, disk, network and GPUs."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from astrid.energy import GpuLoad, SourceError

log = logging.getLogger(__name__)

GIB, MIB = 2**30, 2**20
UNREADABLE = (psutil.Error, OSError, NotImplementedError)
"""What psutil raises where the system hides something."""
CGROUPS = Path("/sys/fs/cgroup")
"""Where Linux shows the control groups, which limit the memory of containers and of batch jobs."""
UNLIMITED_BYTES = 2**60
"""What version 1 of the control groups shows as the limit where there is none is above this."""


@dataclass(frozen=True)
class Memory:
    """Memory in use within one limit."""

    used_bytes: int
    limit_bytes: int

    @property
    def percent(self) -> float:
        """Share of the limit that is in use."""
        return 100 * self.used_bytes / self.limit_bytes


@dataclass
class LoadReader:
    """Reads the load as metrics by name, each with its unit; what can't be known here is absent.

    Use of the processor and rates are averages since the reading before.

    Parameters
    ----------
    folder : Path
        Folder of the run, on the disk whose free space is read.
    read_gpu : callable or None
        Reads the load of the GPUs; None where the run uses none.
    cgroups : Path
        Where the control groups are shown.
    """

    folder: Path
    read_gpu: Callable[[], GpuLoad] | None = None
    cgroups: Path = CGROUPS
    _process: psutil.Process = field(default_factory=psutil.Process)
    _last: tuple[float, dict[str, float]] | None = None

    def __post_init__(self) -> None:
        self.read()  # begins the interval over which the first sample averages

    def read(self) -> dict[str, float]:
        """Read everything once; a source that the system hides is left out."""
        values: dict[str, float] = {}
        for source in (self._processor, self._memory, self._rates, self._gpu):
            try:
                values |= source()
            except UNREADABLE as error:
                log.debug("%s can't be read: %s", source.__name__, error)
        return {f"system/{name}": round(value, 3) for name, value in values.items()}

    def _processor(self) -> dict[str, float]:
        return {
            "cpu_percent": psutil.cpu_percent(interval=None),
            "process_cpu_percent": self._process.cpu_percent(interval=None),  # 200 are two whole cores
        }

    def _memory(self) -> dict[str, float]:
        machine = machine_memory()
        group = cgroup_memory(self.cgroups)
        values = {
            "memory_gib": machine.used_bytes / GIB,
            "memory_percent": max(part.percent for part in (machine, group) if part is not None),
            "process_memory_gib": self._process.memory_info().rss / GIB,
            "disk_free_gib": psutil.disk_usage(str(self.folder)).free / GIB,
        }
        return values | ({} if group is None else {"cgroup_memory_gib": group.used_bytes / GIB})

    def _rates(self) -> dict[str, float]:
        now, counters = time.monotonic(), byte_counters()
        last, self._last = self._last, (now, counters)
        if last is None or now <= last[0]:
            return {}
        return {
            f"{name}_mib_s": max(0.0, count - last[1][name]) / MIB / (now - last[0])  # 0 where a counter started again
            for name, count in counters.items()
            if name in last[1]
        }

    def _gpu(self) -> dict[str, float]:
        if self.read_gpu is None:
            return {}
        try:
            load = self.read_gpu()
        except SourceError as error:
            log.warning("the load of the GPU is not recorded from now on: %s", error)
            self.read_gpu = None
            return {}
        values = {"gpu_memory_gib": load.memory_bytes / GIB, "gpu_memory_percent": load.memory_percent}
        further = {
            "gpu_percent": load.busy_percent,
            "gpu_watts": load.watts,
            "gpu_celsius": load.celsius,
            "gpu_mhz": load.clock_mhz,
            "gpu_throttled": None if load.throttles is None else float(bool(load.throttles)),  # 1 while slowed
            "gpu_other_processes": load.other_processes,
        }
        return values | {name: float(value) for name, value in further.items() if value is not None}


def machine_memory() -> Memory:
    """Return the memory of the machine that can't be had without swapping."""
    memory = psutil.virtual_memory()
    return Memory(memory.total - memory.available, memory.total)


def free_memory_bytes(root: Path = CGROUPS, *, own: str | None = None) -> int:
    """Return what this process could still take before the machine, or a control group around it, is full.

    Parameters are those of `cgroup_memory`.
    """
    limits = [machine_memory(), *_limited_groups(root, own)]
    return max(0, min(memory.limit_bytes - memory.used_bytes for memory in limits))


def byte_counters() -> dict[str, float]:
    """Return the bytes that disks and network of the machine have moved since it started; some machines hide them."""
    disk, network = psutil.disk_io_counters(), psutil.net_io_counters()
    counters: dict[str, float] = {}
    if disk is not None:
        counters |= {"disk_read": disk.read_bytes, "disk_written": disk.write_bytes}
    if network is not None:
        counters |= {"network_sent": network.bytes_sent, "network_received": network.bytes_recv}
    return counters


def cgroup_memory(root: Path = CGROUPS, *, own: str | None = None) -> Memory | None:
    """Return the memory of the fullest control group around this process; None where none has a limit.

    Files that were read and could be dropped at once are not counted, as the kernel drops them before it kills.

    Parameters
    ----------
    root : Path
        Where the control groups are shown, of version 1 or 2.
    own : str, optional
        What `/proc/self/cgroup` says, where it should not be asked.
    """
    return max(_limited_groups(root, own), key=lambda memory: memory.percent, default=None)


def _limited_groups(root: Path, own: str | None) -> list[Memory]:
    text = own if own is not None else _read(Path("/proc/self/cgroup")) or ""
    return [memory for folder in _groups(text, root) if (memory := _limited(folder)) is not None]


def _groups(text: str, root: Path) -> list[Path]:
    """Return the folders of this process' memory groups and of all around them, up to the root."""
    folders: list[Path] = []
    for line in text.splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0":
            base = root
        elif "memory" in controllers.split(","):
            base = root / "memory"
        else:
            continue
        inner = Path(os.path.normpath(f"/{path.lstrip('/')}")).relative_to("/")  # ".." would lead out of a container
        folders += [base / inner, *(base / parent for parent in inner.parents)]
    return folders


def _limited(folder: Path) -> Memory | None:
    limit = _number(folder / "memory.max") or _number(folder / "memory.limit_in_bytes")
    used = _number(folder / "memory.current") or _number(folder / "memory.usage_in_bytes")
    if not limit or used is None or limit >= UNLIMITED_BYTES:
        return None
    stat = dict(line.split(maxsplit=1) for line in (_read(folder / "memory.stat") or "").splitlines())
    droppable = int(stat.get("total_inactive_file", stat.get("inactive_file", "0")))
    return Memory(max(0, used - droppable), limit)


def _number(path: Path) -> int | None:
    text = (_read(path) or "").strip()
    return int(text) if text.isdecimal() else None  # "max" is no limit


def _read(path: Path) -> str | None:
    try:
        return path.read_text()
    except OSError:  # another version of the control groups, another system, or hidden
        return None
