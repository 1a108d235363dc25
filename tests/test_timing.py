"""The best batch is the smallest that is as fast as any, and what can't be timed is absent with its reason."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from astrid import timing as module
from astrid.config import ConfigError, MetricsConfig
from astrid.config.compose import load
from astrid.metrics.latency import Latency
from astrid.runtime import Runtime
from astrid.timing import Timer, best_batch, time_network
from astrid.unet import build_unet


def rates(**by_batch: float) -> Callable[[int], Latency]:
    def measure(batch: int) -> Latency:
        return Latency(1.0, 1.0, None, mpix_per_s=by_batch[f"b{batch}"], mpix=1.0)

    return measure


def always(batch: int) -> bool:
    return True


@pytest.mark.parametrize(
    ("measured", "expected"),
    [
        ({"b1": 1.0, "b2": 2.0, "b4": 3.0, "b8": 3.1, "b16": 3.1}, 4),  # 3.1 is no rise over 3
        ({"b1": 3.0, "b2": 2.0, "b4": 1.0}, 1),
        ({"b1": 1.0, "b2": 0.9, "b4": 2.0, "b8": 2.0, "b16": 2.0}, 4),  # one slow measurement doesn't end the search
        ({"b1": 1.0, "b2": 2.0, "b4": 4.0, "b8": 8.0, "b16": 16.0}, 16),  # the limit
    ],
)
def test_the_batch_is_doubled_until_throughput_stops_rising(measured: dict[str, float], expected: int) -> None:
    assert best_batch(rates(**measured), fits=always, limit=16) == expected


def test_a_batch_that_would_not_fit_is_not_tried() -> None:
    assert best_batch(rates(b1=1.0, b2=2.0, b4=4.0), fits=lambda batch: batch <= 4, limit=16) == 4


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory")])
def test_running_out_of_memory_ends_the_search_with_the_best_so_far(error: Exception) -> None:
    def measure(batch: int) -> Latency:
        if batch == 4:
            raise error
        return rates(b1=1.0, b2=2.0)(batch)

    assert best_batch(measure, fits=always, limit=16) == 2


def test_any_other_error_of_a_pass_is_no_sign_of_little_memory() -> None:
    def measure(batch: int) -> Latency:
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        best_batch(measure, fits=always, limit=16)


def network() -> nn.Module:
    return build_unet(load(["model=unet_small"]).model, channels=3, stretch="arcsinh", prior=0.01)


CPU = Runtime(torch.device("cpu"), "fp32", 1, channels_last=True)
TILES = torch.zeros(2, 3, 32, 32)

COMPILES = pytest.mark.filterwarnings("ignore")
"""torch's own compiler uses what torch has deprecated, and would take a warning that raises for its failure."""


def test_by_default_one_tile_has_a_p99_and_nothing_else_is_timed() -> None:
    found = time_network(network(), TILES, runtime=CPU, config=MetricsConfig())
    quantiles = [f"latency/{name}_ms" for name in ("p50", "p95", "p99")]
    assert set(found) == {*quantiles, *(f"{name}_per_mpix" for name in quantiles), "throughput/mpix_per_s"}
    assert found["latency/p50_ms"] <= found["latency/p95_ms"] <= found["latency/p99_ms"]
    assert found["latency/p50_ms_per_mpix"] == pytest.approx(found["latency/p50_ms"] / (32 * 32 / 1e6))


def test_few_passes_leave_p99_out_and_say_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        found = time_network(network(), TILES, runtime=CPU, config=load(["metrics=fast"]).metrics)
    assert "latency/p99_ms" not in found
    assert "no P99: metrics.latency_repeats=5 is below 100" in caplog.text


def test_best_batch_memory_and_precisions_have_names_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LARGEST_BATCH", 4)
    config = MetricsConfig(
        latency_repeats=2,
        throughput_repeats=2,
        latency_best_batch=True,
        latency_variants=["fp32", "bf16"],
        peak_memory=True,
    )
    found = time_network(network(), TILES, runtime=CPU, config=config)
    assert found["throughput/best/batch"] >= 1
    for name in ("latency/best/p50_ms_per_mpix", "throughput/best/mpix_per_s", "memory/best/peak_mib"):
        assert found[name] > 0
    for variant in ("fp32", "bf16"):
        assert found[f"latency/{variant}/p50_ms"] > 0
        assert found[f"throughput/{variant}/mpix_per_s"] > 0
    assert found["memory/best/peak_mib"] >= found["memory/peak_mib"] > 0


class Precisions(nn.Module):
    """Notes in what precision it computes."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 1, 1)
        self.seen: set[torch.dtype] = set()

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.layer(image)
        self.seen.add(logits.dtype)
        return logits


@pytest.mark.parametrize(("variant", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_a_variant_computes_in_its_own_precision(variant: str, dtype: torch.dtype) -> None:
    model = Precisions()
    timer = Timer(model, TILES[:1], runtime=CPU, warmup=0)
    module.time_variant(timer, variant, batch=2, config=MetricsConfig(latency_repeats=1, throughput_repeats=1))
    assert model.seen == {dtype}


UNCOMPILED = """
import logging, torch
from test_timing import CPU, TILES, network
from astrid.config import MetricsConfig
from astrid.timing import time_network
logging.basicConfig()
config = MetricsConfig(latency_repeats=1, throughput_repeats=1, latency_variants=["fp32_compile"])
print(sorted(time_network(network(), TILES, runtime=CPU, config=config)))
"""


@pytest.mark.slow
def test_without_a_compiler_the_compiled_variant_is_absent_with_its_reason(tmp_path: Path) -> None:
    place = {"CXX": "/nowhere/g++", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", UNCOMPILED], env=os.environ | place, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    assert "latency/p50_ms" in done.stdout
    assert "compile" not in done.stdout
    assert "latency/fp32_compile is left out: torch.compile doesn't work here: InvalidCxxCompiler" in done.stderr


@COMPILES
@pytest.mark.slow
def test_a_compiled_network_is_timed_where_there_is_a_compiler() -> None:
    config = MetricsConfig(latency_repeats=2, throughput_repeats=2, latency_variants=["fp32_compile"])
    found = time_network(network(), TILES, runtime=CPU, config=config)
    assert found["latency/fp32_compile/p50_ms"] > 0
    assert found["throughput/fp32_compile/mpix_per_s"] > 0


def test_an_unknown_variant_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"metrics\.latency_variants must be a list from fp32, bf16, .*'fp64'"):
        load(["metrics.latency_variants=[fp64]"])
