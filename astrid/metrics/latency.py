"""How long a forward pass takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

ENOUGH_FOR_P99 = 100
"""Passes from which on one in a hundred is at least one."""


@dataclass(frozen=True)
class Latency:
    """Time of a forward pass of one batch, from call to finished result.

    Attributes
    ----------
    p50_ms, p95_ms : float
        Median and 95th percentile in milliseconds.
    p99_ms : float or None
        99th percentile; None from fewer than 100 passes, where it would be little else than the slowest.
    mpix_per_s : float
        Throughput: image pixels (batch × height × width) per second over all passes, in millions.
    mpix : float
        Image pixels of the batch, in millions.
    """

    p50_ms: float
    p95_ms: float
    p99_ms: float | None
    mpix_per_s: float
    mpix: float

    def metrics(self, variant: str = "") -> dict[str, float]:
        """Return the numbers by the names under which they are logged; a variant's are ``latency/VARIANT/p50_ms``."""
        inside = f"{variant}/" if variant else ""
        quantiles = {"p50_ms": self.p50_ms, "p95_ms": self.p95_ms, "p99_ms": self.p99_ms}
        known = {name: value for name, value in quantiles.items() if value is not None}
        per_mpix = {f"{name}_per_mpix": value / self.mpix for name, value in known.items()}
        named = {f"latency/{inside}{name}": value for name, value in (known | per_mpix).items()}
        return named | {f"throughput/{inside}mpix_per_s": self.mpix_per_s}


def measure_latency(
    model: nn.Module,
    example: Tensor,
    *,
    warmup: int,
    repeats: int,
    synchronise: Callable[[], None],
    autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> Latency:
    """Time forward passes in evaluation mode, each synchronised with the device before and after.

    Parameters
    ----------
    model : nn.Module
        Called with `example`; its training mode is restored afterwards.
    example : (B, C, H, W) Tensor
        Batch on the model's device, in the memory format in which it will be used.
    warmup : int
        Untimed passes first: allocators, autotuners and compilers do their work there.
    repeats : int
        Timed passes.
    synchronise : callable
        Returns when the device has done all queued work; without it, only the queueing would be timed.
    autocast : callable
        Makes the context that sets the precision, a new one for each pass.
    """
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            seconds = [_time_pass(model, example, synchronise, autocast) for _ in range(warmup + repeats)][warmup:]
    finally:
        model.train(was_training)
    batch, _, height, width = example.shape
    mpix = batch * height * width / 1e6
    found = quantiles_ms(seconds)
    rate = mpix * repeats / sum(seconds)
    return Latency(found["p50_ms"], found["p95_ms"], found.get("p99_ms"), mpix_per_s=rate, mpix=mpix)


def quantiles_ms(seconds: Sequence[float] | NDArray[np.float64]) -> dict[str, float]:
    """Return `p50_ms`, `p95_ms` and, from 100 passes up, `p99_ms` of the seconds that passes took."""
    wanted = (50, 95, 99) if len(seconds) >= ENOUGH_FOR_P99 else (50, 95)
    return {f"p{percent}_ms": float(np.percentile(seconds, percent)) * 1e3 for percent in wanted}


def _time_pass(
    model: nn.Module,
    example: Tensor,
    synchronise: Callable[[], None],
    autocast: Callable[[], AbstractContextManager[object]],
) -> float:
    synchronise()
    start = time.perf_counter()
    with autocast():
        model(example)
    synchronise()
    return time.perf_counter() - start
