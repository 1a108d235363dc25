"""How fast a network is on tiles of the data at hand."""

from __future__ import annotations

import dataclasses

from torch import Tensor, nn

from astrid.config import DataConfig, MetricsConfig
from astrid.data.dataset import validation_loader
from astrid.data.store import FieldStore
from astrid.metrics.latency import Latency, measure_latency
from astrid.runtime import Runtime
from astrid.training import prepare


def example_tiles(store: FieldStore, config: DataConfig, *, runtime: Runtime) -> Tensor:
    """Return (B, C, T, T) float32 tiles on the device, in background sigma: the first batch of the grid."""
    loader = validation_loader(store, dataclasses.replace(config, workers=0), pin_memory=False)
    return prepare(next(loader.epoch(0)), runtime)["image"]


def time_network(model: nn.Module, tiles: Tensor, *, runtime: Runtime, config: MetricsConfig) -> dict[str, float]:
    """Measure latency for one tile and throughput for the whole batch."""

    def measure(example: Tensor) -> Latency:
        return measure_latency(
            model,
            example,
            warmup=config.latency_warmup,
            repeats=config.latency_repeats,
            synchronise=runtime.synchronise,
            autocast=runtime.autocast,
        )

    single = measure(tiles[:1]).metrics()
    throughput = "throughput/mpix_per_s"
    return single | {throughput: measure(tiles).metrics()[throughput]}
