"""Where joules come from: hardware counters, sampled power, NVIDIA GPUs (NVML) and CPUs (RAPL).

Every sensor ends as a `Source` that gives joules since its first reading. One that cannot be read raises `SourceError`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

logger = logging.getLogger(__name__)

Label = Literal["measured", "integrated", "estimated", "unavailable"]
"""How a number was obtained: an energy counter, sampled power, a figure of the user's, or not at all."""

LABELS: tuple[Label, ...] = ("measured", "integrated", "estimated", "unavailable")
"""From the most to the least trustworthy: a sum is worth as much as its worst part."""

POWERCAP = Path("/sys/class/powercap")
"""Where Linux shows the RAPL counters."""


class SourceError(RuntimeError):
    """A sensor that cannot be read; the message is the reason that the run reports."""


class Source(Protocol):
    """Energy of one device from a moment of its own."""

    name: str
    label: Label

    def read(self, now: float) -> float:
        """Give the joules since the first reading; `now` is this reading's time in seconds. Raises `SourceError`."""
        ...


class Counter:
    """Joules from a hardware counter, which may wrap around or start again.

    Parameters
    ----------
    name : str
        What the user knows the counter by.
    read_joules : callable
        Gives the counter's value in joules.
    wrap_joules : float, optional
        Value at which the counter wraps around to zero. Without it, a counter that goes back was reset: counting goes
        on from its new value, and what was used between the last reading and the reset is not counted.
    """

    label: Label = "measured"

    def __init__(self, name: str, read_joules: Callable[[], float], *, wrap_joules: float | None = None) -> None:
        self.name = name
        self._read_joules = read_joules
        self._wrap_joules = wrap_joules
        self._last: float | None = None
        self._joules = 0.0

    def read(self, now: float) -> float:
        """Give the joules since the first reading."""
        value = self._read_joules()
        if self._last is not None:
            self._joules += self._step(self._last, value)
        self._last = value
        return self._joules

    def _step(self, before: float, after: float) -> float:
        if after >= before:
            return after - before
        if self._wrap_joules is not None:
            return after - before + self._wrap_joules
        logger.warning("%s went back from %.3f J to %.3f J: counting goes on from there", self.name, before, after)
        return 0.0


class Integral:
    """Joules from sampled power, by the trapezoidal rule over the times of the readings."""

    label: Label = "integrated"

    def __init__(self, name: str, read_watts: Callable[[], float]) -> None:
        self.name = name
        self._read_watts = read_watts
        self._last: tuple[float, float] | None = None
        self._joules = 0.0

    def read(self, now: float) -> float:
        """Take a sample of the power and give the joules since the first one."""
        watts = self._read_watts()
        if self._last is not None:
            since, before = self._last
            self._joules += (before + watts) / 2 * (now - since)
        self._last = (now, watts)
        return self._joules


def open_gpus(uuids: Sequence[str]) -> list[Source]:
    """Find the GPUs of this process in NVML: their energy counters, or their power where they have none.

    Parameters
    ----------
    uuids : sequence of str
        UUIDs of the devices in use, with or without the prefix "GPU-". Unlike an index, a UUID means the same device
        to CUDA and NVML whatever `CUDA_VISIBLE_DEVICES` says.

    Returns
    -------
    list of Source
        One per GPU. It counts everything that runs on the GPU, other processes included.

    Raises
    ------
    SourceError
        No GPU is in use, or NVML is absent, has no driver, forbids it or doesn't know the device.
    """
    nvml, handles = open_devices(uuids)
    names = dict.fromkeys(map(_nvml_uuid, uuids))
    try:
        return [_open_gpu(nvml, uuid, handle) for uuid, handle in zip(names, handles, strict=True)]
    except nvml.NVMLError as error:
        raise SourceError(f"NVML: {error}") from error


def open_devices(uuids: Sequence[str]) -> tuple[Any, list[object]]:
    """Start NVML, and return its module with a handle of each device, one that is named twice once.

    Raises
    ------
    SourceError
        No GPU is in use, or NVML is absent, has no driver, forbids it or doesn't know the device.
    """
    if not uuids:
        raise SourceError("no GPU is used by this process")
    import pynvml

    try:
        pynvml.nvmlInit()  # never shut down: NVML is shared with whatever else in this process uses it
        return pynvml, [_handle_of(pynvml, uuid) for uuid in dict.fromkeys(map(_nvml_uuid, uuids))]
    except pynvml.NVMLError as error:
        raise SourceError(f"NVML: {error}") from error


def _nvml_uuid(uuid: str) -> str:
    return uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}"


def _handle_of(nvml: Any, uuid: str) -> object:
    try:
        handle: object = nvml.nvmlDeviceGetHandleByUUID(uuid)
    except nvml.NVMLError_NotFound as error:
        raise SourceError(f"NVML knows no device {uuid}") from error
    return handle


def _open_gpu(nvml: Any, uuid: str, handle: object) -> Source:
    try:
        nvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except (nvml.NVMLError_NotSupported, nvml.NVMLError_FunctionNotFound):  # older than Volta, or an old driver
        nvml.nvmlDeviceGetPowerUsage(handle)
        return Integral(f"NVML power of {uuid}", _nvml_reader(nvml, nvml.nvmlDeviceGetPowerUsage, handle))
    counter = _nvml_reader(nvml, nvml.nvmlDeviceGetTotalEnergyConsumption, handle)
    return Counter(f"NVML energy counter of {uuid}", counter)


def _nvml_reader(nvml: Any, call: Callable[[Any], int], handle: object) -> Callable[[], float]:
    """Wrap an NVML call that gives millijoules or milliwatts into one that gives joules or watts."""

    def read() -> float:
        try:
            return call(handle) / 1000
        except nvml.NVMLError as error:
            raise SourceError(f"NVML: {error}") from error

    return read


def open_rapl(root: Path = POWERCAP) -> list[Source]:
    """Find the energy counters of the CPU packages and their DRAM under a powercap tree.

    Parameters
    ----------
    root : Path
        Folder with the flat list of powercap zones.

    Returns
    -------
    list of Source
        One per package and per DRAM domain. They count the whole machine, other processes included.

    Raises
    ------
    SourceError
        There is no RAPL, or its counters may not be read.

    References
    ----------
    https://docs.kernel.org/power/powercap/powercap.html
    """
    # "intel-rapl:" also serves AMD; "intel-rapl-mmio:" is the same package through another door and "psys" contains it
    zones = [zone for zone in sorted(root.glob("intel-rapl:*")) if _is_package_or_dram(_read_text(zone / "name"))]
    if not zones:
        raise SourceError(f"this machine shows no RAPL energy counters in {root}")
    return [_open_zone(zone) for zone in zones]


def _is_package_or_dram(domain: str) -> bool:
    return domain == "dram" or domain.startswith("package")


def _open_zone(zone: Path) -> Source:
    energy = zone / "energy_uj"
    _read_joules(energy)
    name = f"RAPL {_read_text(zone / 'name')} ({zone.name})"
    return Counter(name, lambda: _read_joules(energy), wrap_joules=_read_joules(zone / "max_energy_range_uj"))


def _read_joules(path: Path) -> float:
    """Read a file of whole microjoules."""
    text = _read_text(path)
    try:
        return int(text) / 1e6
    except ValueError as error:
        raise SourceError(f"RAPL: {path} must hold a whole number of microjoules, got {text!r}") from error


def _read_text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except PermissionError as error:
        remedy = "ask the administrator to let you read it"
        raise SourceError(f"RAPL: {path} is readable by the administrator only; {remedy}") from error
    except OSError as error:
        raise SourceError(f"RAPL: cannot read {path}: {error.strerror}") from error
