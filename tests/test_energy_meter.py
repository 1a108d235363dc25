"""Meter on scripted clocks and, through the real NVML bindings, on a GPU that a compiled library plays."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from astrid.config import EnergyConfig
from astrid.energy import Component, Meter, PhaseEnergy, build_meter, energy_metrics
from astrid.energy.ledger import Ledger, add_components
from astrid.energy.meter import Channel
from astrid.energy.sources import Counter, Integral, Source, SourceError

FAKE_UUID = "GPU-fake0000-0000-0000-0000-000000000000"
SECOND_UUID = "GPU-fake0000-0000-0000-0000-000000000001"

DRIVER = """
import ctypes, json, sys, time
from dataclasses import asdict
from pathlib import Path
from astrid.config import EnergyConfig
from astrid.energy import build_meter, energy_labels, energy_metrics

def work_in_pure_python(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        sum(range(1000))

def zero_time_of_fake_nvml():
    try:
        return ctypes.c_double.in_dll(ctypes.CDLL("libnvidia-ml.so.1"), "fake_nvml_born").value
    except (OSError, ValueError):
        return None

uuids, ledger, phases, sample_seconds = json.loads(sys.argv[1])
config = EnergyConfig(sample_seconds=sample_seconds)
readings = []
meter = build_meter(config, gpu_uuids=uuids, synchronise=lambda: None, ledger=Path(ledger), powercap=Path("absent"))
with meter:
    for phase, epoch, seconds in phases:
        start = time.monotonic()
        with meter.phase(phase, epoch=epoch) as span:
            work_in_pure_python(seconds)
        readings.append({**asdict(span.reading), "start": start, "watts": meter.watts})
summary = meter.summary()
print(json.dumps({
    "readings": readings, "metrics": energy_metrics(summary, config), "labels": energy_labels(summary),
    "nvml_imported": "pynvml" in sys.modules, "zero_time": zero_time_of_fake_nvml(),
}))
"""


class ScriptedClock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def scripted_meter(
    source: Source, clock: ScriptedClock, ledger: Path | None = None, synchronise: Callable[[], None] = lambda: None
) -> Meter:
    """Make a meter of one GPU source whose samples are taken by the test: it is never entered, so it has no thread."""
    gpu, cpu = Channel("GPU", [source]), Channel("CPU", reason="no RAPL")
    return Meter(gpu=gpu, cpu=cpu, synchronise=synchronise, ledger=Ledger(ledger), sample_seconds=0.1, clock=clock)


def off_meter(ledger: Path | None = None) -> Meter:
    return build_meter(EnergyConfig(source="off"), gpu_uuids=[], synchronise=lambda: None, ledger=ledger)


def reading(phase: str = "train", epoch: int | None = 1, joules: float | None = 5.0) -> PhaseEnergy:
    gpu = Component(joules, "measured" if joules is not None else "unavailable", "NVML", None if joules else "lost")
    return PhaseEnergy(phase, epoch, 2.0, gpu, Component(None, "unavailable", "none", "no RAPL"))


def fail_after(readings: int, value: Callable[[], float]) -> Callable[[], float]:
    """Make a sensor that gives that many readings and then breaks."""
    count = 0

    def read() -> float:
        nonlocal count
        count += 1
        if count > readings:
            raise SourceError("GPU is lost")
        return value()

    return read


def measure(
    library: Path,
    ledger: Path,
    phases: list[tuple[str, int, float]],
    *,
    uuids: tuple[str, ...] = (FAKE_UUID,),
    sample_seconds: float = 0.1,
    **gpu: str,
) -> dict[str, Any]:
    """Run phases of pure Python work in a process that finds NVML in `library`."""
    environment = {**os.environ, "LD_LIBRARY_PATH": str(library), **{f"FAKE_NVML_{k}": v for k, v in gpu.items()}}
    arguments = [sys.executable, "-c", DRIVER, json.dumps([uuids, str(ledger), phases, sample_seconds])]
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# The arithmetic, on a scripted clock


@settings(deadline=None)
@given(
    steps=st.lists(st.tuples(st.floats(0.001, 5.0), st.floats(0, 700), st.booleans()), min_size=2, max_size=30),
)
def test_phases_on_sampled_power_equal_the_analytic_integral(steps: list[tuple[float, float, bool]]) -> None:
    times = np.cumsum([step for step, _, _ in steps])
    powers = np.array([watts for _, watts, _ in steps])
    clock = ScriptedClock()
    meter = scripted_meter(Integral("scripted", lambda: float(np.interp(clock.now, times, powers))), clock)
    clock.now = float(times[0])
    span = meter.start("train")
    spans, begins = [span], [clock.now]
    for now, (_, _, is_boundary) in zip(times[1:], steps[1:], strict=True):
        clock.now = float(now)
        meter.sample()
        if is_boundary:
            meter.stop(span)
            span = meter.start("train")
            spans.append(span)
            begins.append(clock.now)
    meter.stop(span)
    ends = [*begins[1:], float(times[-1])]
    energy_until = np.concatenate([[0], np.cumsum(np.diff(times) * (powers[1:] + powers[:-1]) / 2)])
    for span, begin, end in zip(spans, begins, ends, strict=True):
        analytic = np.interp(end, times, energy_until) - np.interp(begin, times, energy_until)
        assert span.reading.gpu.joules == pytest.approx(analytic, rel=1e-9, abs=1e-6)
        assert span.reading.seconds == pytest.approx(end - begin)
    assert meter.summary().gpu.joules == pytest.approx(energy_until[-1], rel=1e-9, abs=1e-6)


def test_counter_is_read_after_the_device_has_finished() -> None:
    clock, work_done_joules = ScriptedClock(), 0.0

    def synchronise() -> None:
        nonlocal work_done_joules
        work_done_joules += 7.0

    meter = scripted_meter(Counter("c", lambda: work_done_joules), clock, synchronise=synchronise)
    with meter.phase("train") as span:
        pass
    assert span.reading.gpu.joules == 7.0


def test_device_is_synchronised_at_boundaries_only() -> None:
    clock, synchronised = ScriptedClock(), []
    meter = scripted_meter(Counter("c", lambda: clock.now), clock, synchronise=lambda: synchronised.append(clock.now))
    with meter.phase("train"):
        for clock.now in (1.0, 2.0, 3.0):
            meter.sample()
    assert synchronised == [0.0, 3.0]


def test_power_for_display_is_averaged_over_two_seconds_and_absent_before() -> None:
    clock = ScriptedClock()
    meter = scripted_meter(Counter("c", lambda: 100 * float(int(clock.now * 2)) / 2), clock)
    shown = []
    for tenth in range(100):
        clock.now = tenth / 10
        meter.sample()
        shown.append(meter.watts)
    assert set(shown[:20]) == {None}
    assert shown[20:] == pytest.approx([100.0] * 80, rel=0.26)


def test_phase_inside_a_phase_is_refused() -> None:
    meter = off_meter()
    with meter.phase("train"), pytest.raises(RuntimeError, match="'train' must stop before 'test' starts"):
        meter.start("test")


def test_span_has_no_reading_before_it_stops() -> None:
    span = off_meter().start("train")
    with pytest.raises(RuntimeError, match="before it has stopped"):
        _ = span.reading


def test_phase_that_raises_is_still_recorded() -> None:
    meter = off_meter()
    with pytest.raises(KeyboardInterrupt), meter.phase("train", epoch=3):
        raise KeyboardInterrupt
    assert list(meter.summary().phases) == ["train"]


def test_leaving_the_meter_stops_an_open_phase_and_its_thread() -> None:
    clock = ScriptedClock()
    with scripted_meter(Counter("c", lambda: 50 * clock.now), clock) as meter:
        span = meter.start("train", epoch=1)
        clock.now = 2.0
    assert span.reading.gpu.joules == 100.0
    assert "astrid-energy" not in {thread.name for thread in threading.enumerate()}


# What was not measured


@pytest.mark.parametrize("source", ["auto", "off"])
def test_unmeasured_energy_is_absent_and_labelled_and_seconds_remain(source: Any, tmp_path: Path) -> None:
    config = EnergyConfig(source=source, grams_co2e_per_kwh=400, usd_per_kwh=0.3)
    ledger, nowhere = tmp_path / "energy.jsonl", tmp_path / "absent"
    with build_meter(config, gpu_uuids=[], synchronise=lambda: None, ledger=ledger, powercap=nowhere) as meter:
        assert "astrid-energy" not in {thread.name for thread in threading.enumerate()}
        with meter.phase("train", epoch=1) as span:
            time.sleep(0.01)
    assert span.reading.seconds >= 0.01
    assert span.reading.gpu.joules is None and span.reading.cpu.joules is None
    assert span.reading.gpu.label == span.reading.cpu.label == "unavailable"
    assert span.reading.gpu.reason and span.reading.cpu.reason
    assert energy_metrics(meter.summary(), config) == {}
    assert meter.watts is None
    assert '"joules": 0' not in ledger.read_text()


def test_run_without_phases_has_no_energy() -> None:
    clock = ScriptedClock()
    total = scripted_meter(Counter("c", lambda: 1.0), clock).summary().total
    assert (total.gpu.joules, total.gpu.label, total.gpu.reason) == (None, "unavailable", "no phase has finished")


def test_source_that_fails_makes_its_phase_and_all_later_ones_unavailable() -> None:
    clock = ScriptedClock()
    sensor = fail_after(4, lambda: 100 * clock.now)
    meter = scripted_meter(Counter("c", sensor), clock)
    labels = []
    for epoch in range(4):
        with meter.phase("train", epoch=epoch) as span:
            clock.now += 1
            meter.sample()
        labels.append(span.reading.gpu.label)
    assert labels == ["measured", "unavailable", "unavailable", "unavailable"]
    assert meter.watts is None
    total = meter.summary().gpu
    assert (total.joules, total.reason) == (None, "missing in 3 of 4 phases: GPU is lost")


def test_one_gpu_of_two_that_fails_leaves_no_partial_sum() -> None:
    gpus = Channel("GPU", [Counter("a", lambda: 1.0), Counter("b", fail_after(1, lambda: 1.0))])
    assert gpus.read(0.0) == 0
    assert gpus.read(1.0) is None and not gpus.available


def test_sum_is_labelled_as_its_least_trustworthy_part() -> None:
    gpus = Channel("GPU", [Counter("a", lambda: 1.0), Integral("b", lambda: 1.0)])
    assert gpus.between(gpus.read(0.0), gpus.read(1.0)).label == "integrated"


def test_total_is_labelled_as_its_least_trustworthy_phase() -> None:
    parts = [
        Component(1.0, "measured", "RAPL"),
        Component(2.0, "estimated", "65 W"),
        Component(3.0, "measured", "RAPL"),
    ]
    assert add_components(parts) == Component(6.0, "estimated", "RAPL, 65 W")


def test_component_cannot_claim_joules_it_lacks() -> None:
    with pytest.raises(ValueError, match="must be None exactly where"):
        Component(None, "measured", "NVML")
    with pytest.raises(ValueError, match="must be None exactly where"):
        Component(0.0, "unavailable", "none")


# The ledger


def test_ledger_continues_after_a_resume(tmp_path: Path) -> None:
    path = tmp_path / "energy.jsonl"
    for joules_per_second in (10, 30):
        clock = ScriptedClock()
        meter = scripted_meter(Counter("c", lambda clock=clock, j=joules_per_second: j * clock.now), clock, path)
        for epoch in range(2):
            with meter.phase("train", epoch=epoch):
                clock.now += 1
    summary = meter.summary()
    assert summary.gpu.joules == summary.phases["train"].gpu.joules == 2 * 10 + 2 * 30
    assert summary.seconds == 4


@pytest.mark.parametrize("kept_bytes", [1, 40, -1])
def test_line_torn_by_a_kill_is_dropped_and_the_rest_goes_on(tmp_path: Path, kept_bytes: int) -> None:
    path = tmp_path / "energy.jsonl"
    Ledger(path).finish(1, reading(joules=5.0))
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:kept_bytes])
    Ledger(path).finish(1, reading(joules=7.0))
    assert [kept.gpu.joules for kept in Ledger(path).readings] == [5.0, 7.0]


def test_killed_phase_keeps_its_last_saved_reading_and_counts_once(tmp_path: Path) -> None:
    path, clock = tmp_path / "energy.jsonl", ScriptedClock()
    meter = scripted_meter(Counter("c", lambda: 100 * clock.now), clock, path)
    meter.start("train", epoch=1)
    for clock.now in np.arange(0.0, 17.0):
        meter.sample()
    assert len(path.read_text().splitlines()) == 3
    assert Ledger(path).readings[-1].gpu.joules == 1500  # saved every 5 s: killed at 16 s, 1 s is lost


def test_finished_phase_replaces_its_saved_readings(tmp_path: Path) -> None:
    path = tmp_path / "energy.jsonl"
    ledger = Ledger(path)
    ledger.save_open(1, reading(joules=3.0))
    ledger.finish(1, reading(joules=5.0))
    assert Ledger(path).readings == ledger.readings == (reading(joules=5.0),)


def test_ledger_gives_back_what_it_was_given(tmp_path: Path) -> None:
    path = tmp_path / "energy.jsonl"
    given_readings = (reading(), reading("test", None, 1.5), reading("train", 2, None))
    ledger = Ledger(path)
    for number, item in enumerate(given_readings):
        ledger.finish(number, item)
    assert Ledger(path).readings == given_readings


@pytest.mark.parametrize("line", ["{}", "nonsense", '{"session": 1}', "\xff"])
def test_ledger_damaged_in_the_middle_is_refused_by_line(tmp_path: Path, line: str) -> None:
    path = tmp_path / "energy.jsonl"
    Ledger(path).finish(1, reading())
    path.write_bytes(path.read_bytes() + line.encode("latin-1") + b"\n")
    with pytest.raises(ValueError, match=r"energy.jsonl, line 2: .*move the file away"):
        Ledger(path)


def test_ledger_that_cannot_be_written_does_not_end_the_sampling(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = ScriptedClock()
    meter = scripted_meter(Counter("c", lambda: clock.now), clock, tmp_path / "gone" / "energy.jsonl")
    meter.start("train")
    clock.now = 6.0
    meter.sample()
    assert "could not be written" in caplog.text


# NVML through its real bindings


def test_100_watts_are_100_joules_a_second_while_python_is_busy(fake_nvml: Path, tmp_path: Path) -> None:
    phases = [("train", 1, 7.0), ("validation", 1, 3.3)]
    run = measure(fake_nvml, tmp_path / "energy.jsonl", phases)
    metrics = run["metrics"]
    assert metrics["energy/seconds"] >= 10
    assert metrics["energy/gpu_joules"] == pytest.approx(100 * metrics["energy/seconds"], rel=0.02)
    assert metrics["energy/total_kwh"] == pytest.approx(metrics["energy/gpu_joules"] / 3.6e6)
    assert "energy/cpu_joules" not in metrics
    assert run["labels"]["energy.gpu"] == "measured" and run["labels"]["energy.total"] == "gpu"
    assert sum(item["gpu"]["joules"] for item in run["readings"]) == pytest.approx(metrics["energy/gpu_joules"])
    assert run["readings"][0]["watts"] == pytest.approx(100, rel=0.1)


def square_wave_seconds_on(age: float) -> float:
    return age // 2.0 + min(age % 2.0, 1.0)


@pytest.mark.parametrize(
    ("gpu", "seconds", "joules_until"),
    [
        ({"RAMP": "150"}, 1.0, lambda age: 100 * age + 75 * age**2),
        ({"SQUARE_S": "2"}, 4.0, lambda age: 100 * square_wave_seconds_on(age)),
    ],
    ids=["ramp", "square"],
)
def test_sampled_power_without_a_counter_is_right_within_3_percent(
    fake_nvml: Path, tmp_path: Path, gpu: dict[str, str], seconds: float, joules_until: Callable[[float], float]
) -> None:
    ledger = tmp_path / "energy.jsonl"
    run = measure(fake_nvml, ledger, [("train", 1, seconds)], sample_seconds=0.02, NO_COUNTER="1", **gpu)
    (train,) = run["readings"]
    start = train["start"] - run["zero_time"]
    expected = joules_until(start + train["seconds"]) - joules_until(start)
    assert train["gpu"]["joules"] == pytest.approx(expected, rel=0.03)
    assert train["gpu"]["label"] == "integrated"


@pytest.mark.slow
def test_several_gpus_are_summed_and_one_named_twice_counts_once(fake_nvml: Path, tmp_path: Path) -> None:
    uuids = (FAKE_UUID, SECOND_UUID, FAKE_UUID.removeprefix("GPU-"))
    run = measure(fake_nvml, tmp_path / "energy.jsonl", [("train", 1, 2.0)], uuids=uuids, GPUS="2", TICK_MS="10")
    (train,) = run["readings"]
    assert train["gpu"]["joules"] == pytest.approx(200 * train["seconds"], rel=0.02)


@pytest.mark.slow
def test_counter_reset_costs_what_lay_around_it_and_no_more(fake_nvml: Path, tmp_path: Path) -> None:
    run = measure(fake_nvml, tmp_path / "energy.jsonl", [("train", 1, 3.0)], RESET_AFTER="1.5", TICK_MS="20")
    (train,) = run["readings"]
    assert 100 * (train["seconds"] - 0.8) < train["gpu"]["joules"] < 100 * train["seconds"] + 2


def test_gpu_lost_in_mid_run_is_unavailable_from_then_on_and_work_goes_on(fake_nvml: Path, tmp_path: Path) -> None:
    ledger = tmp_path / "energy.jsonl"
    run = measure(fake_nvml, ledger, [("train", 1, 0.3), ("train", 2, 0.6), ("test", 0, 0.1)], FAIL_AFTER="0.6")
    assert [item["gpu"]["label"] for item in run["readings"]] == ["measured", "unavailable", "unavailable"]
    assert run["readings"][-1]["gpu"]["reason"] == "NVML: GPU is lost"
    assert run["metrics"] == {}
    assert '"joules": 0' not in ledger.read_text()


@pytest.mark.parametrize(
    ("gpu", "reason"),
    [
        ({"INIT_ERROR": "9"}, "NVML: Driver Not Loaded"),
        ({"READ_ERROR": "4"}, "NVML: Insufficient Permissions"),
        ({"READ_ERROR": "3"}, "NVML: Not Supported"),
        ({"GPUS": "0"}, f"NVML knows no device {FAKE_UUID}"),
    ],
)
def test_nvml_that_gives_nothing_is_labelled_with_its_reason(
    fake_nvml: Path, tmp_path: Path, gpu: dict[str, str], reason: str
) -> None:
    ledger = tmp_path / "energy.jsonl"
    run = measure(fake_nvml, ledger, [("train", 1, 0.05)], **gpu)
    assert (run["labels"]["energy.gpu"], run["labels"]["energy.gpu.reason"]) == ("unavailable", reason)
    assert run["metrics"] == {} and '"joules": 0' not in ledger.read_text()


def test_missing_nvml_library_is_labelled_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "libnvidia-ml.so.1").write_text("not a library")  # found before one that this machine may have
    run = measure(tmp_path, tmp_path / "energy.jsonl", [("train", 1, 0.05)])
    assert run["labels"]["energy.gpu.reason"] == "NVML: NVML Shared Library Not Found"
    assert run["metrics"] == {}


def test_process_on_the_cpu_never_imports_nvml(tmp_path: Path) -> None:
    run = measure(tmp_path, tmp_path / "energy.jsonl", [("train", 1, 0.01)], uuids=())
    assert run["nvml_imported"] is False
    assert run["labels"]["energy.gpu.reason"] == "no GPU is used by this process"
