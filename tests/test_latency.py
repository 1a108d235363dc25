"""Latency is the time from call to finished result, after warm-up, with the device's queue drained on both sides."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from astrid.metrics import latency as module
from astrid.metrics.latency import Latency, measure_latency


class Clockwork(nn.Module):
    """A model whose passes take scripted times on a scripted clock."""

    def __init__(self, seconds: list[float]) -> None:
        super().__init__()
        self.seconds = seconds
        self.now = 0.0
        self.events: list[str] = []
        self.conditions: set[tuple[bool, bool]] = set()

    def forward(self, image: Tensor) -> Tensor:
        self.now += self.seconds[self.events.count("pass")]
        self.events.append("pass")
        self.conditions.add((self.training, torch.is_inference_mode_enabled()))
        return image

    def synchronise(self) -> None:
        self.events.append("synchronise")

    def read(self) -> float:
        self.events.append("read")
        return self.now

    @contextmanager
    def autocast(self) -> Iterator[None]:
        self.events.append("enter")
        yield
        self.events.append("leave")


def measure(model: Clockwork, monkeypatch: pytest.MonkeyPatch, *, warmup: int, repeats: int) -> Latency:
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=model.read))
    return measure_latency(
        model,
        torch.zeros(2, 3, 500, 1000),
        warmup=warmup,
        repeats=repeats,
        synchronise=model.synchronise,
        autocast=model.autocast,
    )


def test_warm_up_is_not_counted(monkeypatch: pytest.MonkeyPatch):
    result = measure(Clockwork([9.0, 7.0] + [0.1] * 4), monkeypatch, warmup=2, repeats=4)
    assert (result.p50_ms, result.p95_ms) == (pytest.approx(100), pytest.approx(100))
    assert result.mpix_per_s == pytest.approx(10.0)


def test_percentiles_and_throughput_over_uneven_passes(monkeypatch: pytest.MonkeyPatch):
    result = measure(Clockwork([0.1 * (i + 1) for i in range(21)]), monkeypatch, warmup=0, repeats=21)
    assert result.p50_ms == pytest.approx(1100)
    assert result.p95_ms == pytest.approx(2000)
    assert result.mpix_per_s == pytest.approx(21 / 23.1)


def test_the_device_is_drained_before_each_reading_of_the_clock(monkeypatch: pytest.MonkeyPatch):
    model = Clockwork([0.1] * 3)
    measure(model, monkeypatch, warmup=1, repeats=2)
    assert model.events == ["synchronise", "read", "enter", "pass", "leave", "synchronise", "read"] * 3


@pytest.mark.parametrize("training", [True, False])
def test_passes_run_in_evaluation_and_inference_mode_and_the_mode_is_restored(
    training: bool, monkeypatch: pytest.MonkeyPatch
):
    model = Clockwork([0.1] * 3).train(training)
    measure(model, monkeypatch, warmup=1, repeats=2)
    assert model.conditions == {(False, True)}
    assert model.training is training


def test_names_are_the_contracted_ones():
    measured = Latency(p50_ms=1.0, p95_ms=2.0, p99_ms=None, mpix_per_s=3.0, mpix=0.5)
    assert measured.metrics() == {
        "latency/p50_ms": 1.0,
        "latency/p95_ms": 2.0,
        "latency/p50_ms_per_mpix": 2.0,
        "latency/p95_ms_per_mpix": 4.0,
        "throughput/mpix_per_s": 3.0,
    }
    variant = dataclasses.replace(measured, p99_ms=5.0).metrics("bf16")
    assert (variant["latency/bf16/p99_ms"], variant["latency/bf16/p99_ms_per_mpix"]) == (5.0, 10.0)
    assert variant["throughput/bf16/mpix_per_s"] == 3.0


@pytest.mark.parametrize(("repeats", "expected"), [(99, None), (100, pytest.approx(100.0 * 99.01))])
def test_p99_needs_a_hundred_passes(repeats: int, expected: Any, monkeypatch: pytest.MonkeyPatch):
    result = measure(Clockwork([0.1 * (i + 1) for i in range(repeats)]), monkeypatch, warmup=0, repeats=repeats)
    assert result.p99_ms == expected


def test_a_real_pass_takes_as_long_as_it_takes():
    class Sleeper(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            time.sleep(0.02)
            return image

    result = measure_latency(Sleeper(), torch.zeros(1, 1, 8, 8), warmup=0, repeats=3, synchronise=lambda: None)
    assert result.p50_ms >= 20
