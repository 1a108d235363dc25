"""How fast a network is on tiles of the data at hand, and what memory it takes."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from dataclasses import dataclass

import psutil
import torch
from torch import Tensor, nn

from astrid.config import DataConfig, MetricsConfig
from astrid.data.dataset import validation_loader
from astrid.data.store import FieldStore
from astrid.metrics.latency import ENOUGH_FOR_P99, Latency, measure_latency
from astrid.metrics.peak_memory import peak_bytes
from astrid.runtime import Runtime, out_of_memory
from astrid.training import prepare

log = logging.getLogger(__name__)

MEBIBYTE = 2**20
LARGEST_BATCH = 1024
RISE = 1.05
"""A batch is better if its throughput is higher by this factor: two runs of the same differ by some 4 %."""
PATIENCE = 2
"""Doublings in a row without a rise that end the search, since one may be slow by chance."""
SHARE_OF_FREE_MEMORY = 0.5
SEARCH_REPEATS = 5


def example_tiles(store: FieldStore, config: DataConfig, *, runtime: Runtime) -> Tensor:
    """Return (B, C, T, T) float32 tiles on the device, in background sigma: the first batch of the grid."""
    loader = validation_loader(store, dataclasses.replace(config, workers=0), pin_memory=False)
    return prepare(next(loader.epoch(0)), runtime)["image"]


def time_network(model: nn.Module, tiles: Tensor, *, runtime: Runtime, config: MetricsConfig) -> dict[str, float]:
    """Measure latency for one tile and throughput for the whole batch, and whatever else is asked for.

    Parameters
    ----------
    model : nn.Module
    tiles : (B, C, T, T) Tensor
        On the device.
    runtime : Runtime
        Precision and memory order of the network.
    config : MetricsConfig

    Returns
    -------
    dict of float by metric name
        `latency/p50_ms` and so on for one tile, also per megapixel, and `throughput/mpix_per_s` for all tiles; of the
        best batch `latency/best/...` and `throughput/best/...`; of each variant `latency/VARIANT/...` for one tile and
        `throughput/VARIANT/mpix_per_s` for the best batch, or that of the data; `memory/...` in MiB. What can't be had
        is absent, and the log says why.
    """
    timer = Timer(model, tiles[:1], runtime=runtime, warmup=config.latency_warmup)
    if config.latency_repeats < ENOUGH_FOR_P99:
        log.info("no P99: metrics.latency_repeats=%d is below %d", config.latency_repeats, ENOUGH_FOR_P99)
    batch, found = len(tiles), timer.one_and_many(len(tiles), config=config)
    if config.peak_memory:
        found["memory/peak_mib"] = timer.peak_bytes(1) / MEBIBYTE
    if config.latency_best_batch:
        batch = best_batch(
            lambda size: timer.measure(size, repeats=SEARCH_REPEATS), fits=timer.fits, limit=LARGEST_BATCH
        )
        best = timer.measure(batch, repeats=config.throughput_repeats).metrics("best")
        found |= best | {"throughput/best/batch": float(batch)}
        if config.peak_memory:
            found["memory/best/peak_mib"] = timer.peak_bytes(batch) / MEBIBYTE
    for variant in config.latency_variants:
        found |= time_variant(timer, variant, batch=batch, config=config)
    return found


@dataclass(frozen=True)
class Timer:
    """Times one network on batches of one tile, in the precision of a runtime.

    Attributes
    ----------
    model : nn.Module
    tile : (1, C, T, T) Tensor
        On the device.
    runtime : Runtime
    warmup : int
        Untimed passes before each measurement.
    """

    model: nn.Module
    tile: Tensor
    runtime: Runtime
    warmup: int

    def measure(self, batch: int, *, repeats: int) -> Latency:
        """Time passes of a batch of so many tiles."""
        return measure_latency(
            self.model,
            self._tiles(batch),
            warmup=self.warmup,
            repeats=repeats,
            synchronise=self.runtime.synchronise,
            autocast=self.runtime.autocast,
        )

    def one_and_many(self, batch: int, *, config: MetricsConfig, variant: str = "") -> dict[str, float]:
        """Return latencies of one tile and the throughput of a batch."""
        single = self.measure(1, repeats=config.latency_repeats).metrics(variant)
        many = self.measure(batch, repeats=config.throughput_repeats).metrics(variant)
        return single | {name: value for name, value in many.items() if name.startswith("throughput/")}

    def peak_bytes(self, batch: int) -> int:
        """Return what a pass of so many tiles needs on top of the weights and its input."""
        return peak_bytes(self.model, self._tiles(batch), autocast=self.runtime.autocast)

    def fits(self, batch: int) -> bool:
        """Tell whether a batch will do with a part of the free memory: a machine that runs out raises nothing."""
        needed = batch * (self.peak_bytes(1) + self.tile.nbytes)
        return needed <= SHARE_OF_FREE_MEMORY * free_bytes(self.runtime.device)

    def _tiles(self, batch: int) -> Tensor:
        return self.tile.repeat(batch, 1, 1, 1).contiguous(memory_format=self.runtime.memory_format)


def free_bytes(device: torch.device) -> int:
    """Return the memory of a device that nobody uses."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else int(psutil.virtual_memory().available)


def best_batch(measure: Callable[[int], Latency], *, fits: Callable[[int], bool], limit: int) -> int:
    """Return the batch, a power of two, of the highest throughput; of two that hardly differ the smaller.

    Parameters
    ----------
    measure : callable
        Times a batch; may run out of memory.
    fits : callable
        Tells beforehand whether a batch will fit.
    limit : int
        Largest batch to try.
    """
    best, highest, stale, batch = 1, 0.0, 0, 1
    while batch <= limit and stale < PATIENCE and (batch == 1 or fits(batch)):
        try:
            rate = measure(batch).mpix_per_s
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            log.info("a batch of %d tiles takes more memory than there is", batch)
            break
        stale = stale + 1 if rate < RISE * highest else 0
        if stale == 0:
            best, highest = batch, rate
        batch *= 2
    return best


def time_variant(timer: Timer, variant: str, *, batch: int, config: MetricsConfig) -> dict[str, float]:
    """Time the network in another precision, compiled or not; nothing where that can't be done here."""
    precision, _, compiled = variant.partition("_")
    model = torch.compile(timer.model, dynamic=False) if compiled else timer.model
    assert isinstance(model, nn.Module)
    other = dataclasses.replace(
        timer, model=model, runtime=dataclasses.replace(timer.runtime, precision=precision), warmup=max(1, timer.warmup)
    )
    try:
        return other.one_and_many(batch, config=config, variant=variant)
    except (RuntimeError, MemoryError) as error:
        log.warning("latency/%s is left out: %s", variant, _why_not(error))
        return {}


def _why_not(error: Exception) -> str:
    """Say why a variant can't be had; raise what is no reason for that."""
    if out_of_memory(error):
        return "it takes more memory than there is"
    if isinstance(error, torch._dynamo.exc.TorchDynamoException):
        said = str(error).partition("raised:")[2] or str(error)
        return f"torch.compile doesn't work here: {said.strip().splitlines()[0]}"
    raise error
