"""From the configuration to the meter of a run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from astrid.config import EnergyConfig

from .channel import Channel
from .gpu_load import GpuLoad, open_gpu_load
from .ledger import Ledger
from .meter import Meter
from .nvml import open_gpus
from .rapl import POWERCAP, open_rapl
from .sources import Given, Source, SourceError

logger = logging.getLogger(__name__)


def build_meter(
    config: EnergyConfig,
    *,
    gpu_uuids: Sequence[str],
    synchronise: Callable[[], None],
    ledger: Path | None,
    powercap: Path = POWERCAP,
) -> Meter:
    """Make the meter of a run.

    Parameters
    ----------
    config : EnergyConfig
        With `source="off"` nothing is imported or measured and no thread starts; phases still have their seconds.
    gpu_uuids : sequence of str
        UUIDs of the GPUs that this process uses; empty on the CPU.
    synchronise : callable
        Waits for the device.
    ledger : Path or None
        File of JSON lines, continued where it exists; None keeps everything in memory until `Meter.keep_in`.
    powercap : Path
        Where the RAPL counters of the CPU are.

    Raises
    ------
    ConfigError
        `energy.gpus` names a GPU that this machine doesn't have.
    """
    if config.source == "off":
        gpu, cpu = Channel("GPU", reason="energy.source=off"), Channel("CPU", reason="energy.source=off")
    else:
        gpu = Channel.open("GPU", lambda: open_gpus(gpu_uuids, wanted=config.gpus))
        cpu = Channel.open("CPU", lambda: _open_cpu(powercap, watts=config.cpu_watts))
    return Meter(
        gpu=gpu,
        cpu=cpu,
        synchronise=synchronise,
        ledger=Ledger(ledger),
        sample_seconds=config.sample_seconds,
        idle_seconds=config.idle_seconds,
        read_load=_find_load(config, gpu_uuids) if gpu.available else None,
    )


def _open_cpu(powercap: Path, *, watts: float | None) -> list[Source]:
    """Open the counters of the CPU, or take the power that the user gave where there are none."""
    try:
        return open_rapl(powercap)
    except SourceError as error:
        if watts is None:
            raise
        logger.info("CPU energy is estimated from energy.cpu_watts=%g: %s", watts, error)
        return [Given(f"{watts:g} W given as energy.cpu_watts", watts)]


def _find_load(config: EnergyConfig, gpu_uuids: Sequence[str]) -> Callable[[], GpuLoad] | None:
    try:
        return open_gpu_load(gpu_uuids, wanted=config.gpus)
    except SourceError as error:
        logger.info("the state of the GPU is not recorded: %s", error)
        return None
