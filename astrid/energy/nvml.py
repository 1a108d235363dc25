"""NVIDIA's management library: which GPUs a run is measured on, their energy counters and their power."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from astrid.config import ConfigError

from .sources import Counter, Integral, Source, SourceError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Device:
    """A whole GPU.

    Attributes
    ----------
    handle : object
        NVML's own.
    flags : tuple of str
        What else its energy holds, as that of other slices.
    """

    uuid: str
    handle: object
    flags: tuple[str, ...] = ()


def open_gpus(used: Sequence[str], *, wanted: str | Sequence[str] = "auto") -> list[Source]:
    """Find GPUs in NVML: their energy counters, or their power where they have none.

    Parameters
    ----------
    used : sequence of str
        UUIDs of the devices that this process uses, with or without the prefix "GPU-". Unlike an index, a UUID means
        the same device to CUDA and NVML whatever `CUDA_VISIBLE_DEVICES` says.
    wanted : str or sequence of str
        `energy.gpus`.

    Returns
    -------
    list of Source
        One per GPU. It counts everything that runs on the GPU, other processes included.

    Raises
    ------
    SourceError
        No GPU is measured, or NVML is absent, has no driver, forbids it or doesn't know the device.
    ConfigError
        A UUID that the user gave is none of this machine's.
    """
    nvml, devices = open_devices(used, wanted=wanted)
    try:
        return [_open_gpu(nvml, device) for device in devices]
    except nvml.NVMLError as error:
        raise SourceError(f"NVML: {error}") from error


def open_devices(used: Sequence[str], *, wanted: str | Sequence[str] = "auto") -> tuple[Any, list[Device]]:
    """Start NVML, and return its module with each device once. Parameters and errors are those of `open_gpus`."""
    if wanted == "none":
        raise SourceError("energy.gpus=none")
    if wanted == "auto" and not used:
        raise SourceError("no GPU is used by this process")
    import pynvml

    try:
        pynvml.nvmlInit()  # never shut down: NVML is shared with whatever else in this process uses it
        return pynvml, _choose(pynvml, used, wanted=wanted)
    except pynvml.NVMLError as error:
        if not isinstance(wanted, str):
            rule, remedy = "the UUIDs of GPUs that NVML can measure", "try energy.gpus=auto"
            raise ConfigError(f"energy.gpus must be {rule}, got {list(wanted)}: {error}; {remedy}") from error
        raise SourceError(f"NVML: {error}") from error


def _choose(nvml: Any, used: Sequence[str], *, wanted: str | Sequence[str]) -> list[Device]:
    if wanted == "all":
        handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
        if not handles:
            raise SourceError("NVML knows no GPU")
        found = [_whole(nvml, handle) for handle in handles]
    elif wanted == "auto":
        found = [_find(nvml, uuid) for uuid in used]
    else:
        found = [_find_given(nvml, uuid) for uuid in wanted]
    return list({device.uuid: device for device in found}.values())


def _find_given(nvml: Any, uuid: str) -> Device:
    try:
        return _find(nvml, uuid)
    except SourceError as error:
        rule, remedy = "the UUIDs of GPUs of this machine", "see nvidia-smi -L"
        raise ConfigError(f"energy.gpus must be {rule}, got {uuid}: {error}; {remedy}") from error


def _find(nvml: Any, uuid: str) -> Device:
    """Find a device by its UUID; torch writes that of a MIG slice like that of a GPU."""
    bare = uuid.removeprefix("GPU-")
    names = [uuid] if uuid.startswith("MIG-") else [f"GPU-{bare}", f"MIG-{bare}"]
    for name in names:
        try:
            return _whole(nvml, nvml.nvmlDeviceGetHandleByUUID(name))
        except nvml.NVMLError_NotFound:
            continue
    raise SourceError(f"NVML knows no device {names[0]}")


def _whole(nvml: Any, handle: object) -> Device:
    """Return the GPU of a handle, which may be that of a MIG slice: only whole GPUs have sensors."""
    flags: tuple[str, ...] = ()
    try:
        if nvml.nvmlDeviceIsMigDeviceHandle(handle).value:
            handle = nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(handle)
            flags = ("a MIG slice is used, the whole GPU is measured",)
        elif nvml.nvmlDeviceGetMigMode(handle)[0]:
            flags = ("MIG is on: what other slices use is measured too",)
    except (nvml.NVMLError_NotSupported, nvml.NVMLError_FunctionNotFound):  # no MIG on this GPU, or with this driver
        pass
    return Device(nvml.nvmlDeviceGetUUID(handle), handle, flags)


def _open_gpu(nvml: Any, device: Device) -> Source:
    power = _open_power(nvml, device)
    try:
        nvml.nvmlDeviceGetTotalEnergyConsumption(device.handle)
    except (nvml.NVMLError_NotSupported, nvml.NVMLError_FunctionNotFound) as error:  # before Volta, or an old driver
        if power is None:
            raise SourceError(f"NVML: {error}") from error
        power.flags += device.flags
        return power
    read = _thousandths(nvml, lambda: nvml.nvmlDeviceGetTotalEnergyConsumption(device.handle))
    counter = Counter(f"NVML energy counter of {device.uuid}", read, ticks=True, power=power)
    counter.flags += device.flags
    return counter


def _open_power(nvml: Any, device: Device) -> Integral | None:
    """Return the sampled power of a GPU: that of the moment where it is known, else an average over a second or so."""
    try:
        call = power_call(nvml, device.handle)
    except nvml.NVMLError as error:
        log.info("the power of %s can't be read, its counter may be: %s", device.uuid, error)
        return None
    if call is None:
        return None
    return Integral(f"NVML power of {device.uuid}", _thousandths(nvml, call))


def power_call(nvml: Any, handle: object) -> Callable[[], int] | None:
    """Return what reads the power of a GPU in milliwatts; None where it has no such sensor."""

    def of_this_moment() -> int:
        (field,) = nvml.nvmlDeviceGetFieldValues(handle, [nvml.NVML_FI_DEV_POWER_INSTANT])
        if field.nvmlReturn != nvml.NVML_SUCCESS:
            raise nvml.NVMLError(field.nvmlReturn)
        return int(field.value.uiVal)

    def averaged() -> int:
        return int(nvml.nvmlDeviceGetPowerUsage(handle))

    for call in (of_this_moment, averaged):
        try:
            call()
        except (nvml.NVMLError_NotSupported, nvml.NVMLError_FunctionNotFound, nvml.NVMLError_InvalidArgument):
            continue
        return call
    return None


def _thousandths(nvml: Any, call: Callable[[], int]) -> Callable[[], float]:
    """Wrap an NVML call that gives millijoules or milliwatts into one that gives joules or watts."""

    def read() -> float:
        try:
            return call() / 1000
        except nvml.NVMLError as error:
            raise SourceError(f"NVML: {error}") from error

    return read
