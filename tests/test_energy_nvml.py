"""NVML through its real bindings, on GPUs that a compiled library plays; the last test wants a real one."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from metered import FAKE_UUID, SECOND_UUID, measure

from astrid.config import EnergyConfig
from astrid.energy import build_meter

LOADS = {
    "square": {"SQUARE_S": "2"},
    "ramp": {"RAMP": "30"},
    "spiky": {"SPIKE_W": "400"},
    "late": {"LATE_MS": "60"},
}


def ledger(folder: Path) -> Path:
    return folder / "energy.jsonl"


def assert_is_true(run: dict, percent: float) -> None:
    metrics, truth = run["metrics"], run["truth"]
    assert metrics["energy/gpu_joules"] == pytest.approx(truth, rel=percent / 100)
    assert sum(run["phases"].values()) == pytest.approx(metrics["energy/gpu_joules"], rel=1e-3)
    assert metrics["energy/seconds"] == pytest.approx(run["total"]["seconds"])
    assert metrics["energy/total_kwh"] == pytest.approx(metrics["energy/gpu_joules"] / 3.6e6)


@pytest.mark.slow
@pytest.mark.parametrize("work", ["python", "numpy", "blocking"])
@pytest.mark.parametrize("load", LOADS)
def test_total_over_ten_seconds_is_right_within_1_percent_whatever_the_loop_does(
    fake_nvml: Path, tmp_path: Path, load: str, work: str
) -> None:
    phases = [("train", 1, 6.6), ("validation", 1, 2.2), ("test", 0, 1.4)]
    run = measure(fake_nvml, ledger(tmp_path), phases, work=work, **LOADS[load])
    assert run["metrics"]["energy/seconds"] >= 10
    assert_is_true(run, 1)
    assert run["notes"] == []


def test_total_of_two_seconds_is_right_within_1_percent_since_its_ends_lie_at_ticks(
    fake_nvml: Path, tmp_path: Path
) -> None:
    gpu = {"SPIKE_W": "300", "TICK_MS": "200"}
    run = measure(fake_nvml, ledger(tmp_path), [("train", 1, 1.5), ("test", 0, 0.5)], **gpu)
    assert_is_true(run, 1)
    assert run["labels"]["energy.gpu"] == "measured" and run["labels"]["energy.total"] == "gpu"


def test_a_phase_is_right_within_the_tick_that_is_its_stated_error(fake_nvml: Path, tmp_path: Path) -> None:
    phases = [("train", epoch, 0.33) for epoch in range(4)]
    run = measure(fake_nvml, ledger(tmp_path), phases, TICK_MS="80", work="blocking")
    for span in run["spans"]:
        error = span["gpu"]["error_joules"]
        assert error == pytest.approx(8, rel=0.35)
        assert abs(span["gpu"]["joules"] - span["truth"]) <= error * 1.05


@pytest.mark.parametrize("gpu", [{"SQUARE_S": "1"}, {"RAMP": "150", "NO_INSTANT": "1"}], ids=["square", "ramp"])
def test_sampled_power_without_a_counter_is_right_within_3_percent(
    fake_nvml: Path, tmp_path: Path, gpu: dict[str, str]
) -> None:
    config = {"sample_seconds": 0.02}
    run = measure(fake_nvml, ledger(tmp_path), [("train", 1, 2.5)], config=config, NO_COUNTER="1", **gpu)
    (train,) = run["spans"]
    assert train["gpu"]["joules"] == pytest.approx(train["truth"], rel=0.03)
    assert (train["gpu"]["label"], train["gpu"]["error_joules"]) == ("integrated", None)


@pytest.mark.slow
@pytest.mark.parametrize("load", ["square", "ramp"])
def test_sampled_power_at_the_default_interval_is_right_within_3_percent(
    fake_nvml: Path, tmp_path: Path, load: str
) -> None:
    run = measure(fake_nvml, ledger(tmp_path), [("train", 1, 10.3)], NO_COUNTER="1", **LOADS[load])
    assert_is_true(run, 3)


@pytest.mark.slow
def test_counter_and_power_that_disagree_are_both_on_record(fake_nvml: Path, tmp_path: Path) -> None:
    run = measure(fake_nvml, ledger(tmp_path), [("train", 1, 10.2)], work="blocking", POWER_FACTOR="1.3")
    gpu = run["total"]["gpu"]
    assert gpu["check_joules"] == pytest.approx(1.3 * gpu["joules"], rel=0.02)
    (note,) = run["notes"]
    assert "and sampled power differ by 23 %" in note and note in run["log"]
    assert run["labels"]["energy.notes"] == note
    assert run["metrics"]["energy/gpu_sampled_joules"] == pytest.approx(gpu["check_joules"])


def test_several_gpus_are_summed_and_one_named_twice_counts_once(fake_nvml: Path, tmp_path: Path) -> None:
    uuids = (FAKE_UUID, SECOND_UUID, FAKE_UUID.removeprefix("GPU-"))
    run = measure(fake_nvml, ledger(tmp_path), [("train", 1, 1.0)], uuids=uuids, GPUS="2", TICK_MS="10")
    (train,) = run["spans"]
    assert train["gpu"]["joules"] == pytest.approx(2 * train["truth"], rel=0.02)


@pytest.mark.slow
def test_counter_reset_is_bridged_by_the_sampled_power(fake_nvml: Path, tmp_path: Path) -> None:
    gpu = {"RESET_AFTER": "1.0", "TICK_MS": "20"}
    run = measure(fake_nvml, ledger(tmp_path), [("train", 1, 1.8)], work="blocking", **gpu)
    assert run["total"]["gpu"]["joules"] == pytest.approx(run["truth"], rel=0.03)
    assert run["notes"] == [f"NVML energy counter of {FAKE_UUID} started again: sampled power fills the gap"]
    assert '"joules": -' not in ledger(tmp_path).read_text()


def test_the_idle_machine_is_measured_before_and_reported_beside(fake_nvml: Path, tmp_path: Path) -> None:
    config = {"idle_seconds": 0.6}
    run = measure(fake_nvml, ledger(tmp_path), [("train", 1, 0.5)], config=config, TICK_MS="10", work="blocking")
    assert run["idle"]["gpu"]["joules"] == pytest.approx(60, rel=0.1)
    assert run["metrics"]["energy/idle_watts"] == pytest.approx(100, rel=0.1)
    assert run["metrics"]["energy/gpu_joules"] == pytest.approx(run["truth"], rel=0.03)


def test_gpu_lost_in_mid_run_is_unavailable_from_then_on_and_work_goes_on(fake_nvml: Path, tmp_path: Path) -> None:
    phases = [("train", 1, 0.3), ("train", 2, 0.9), ("test", 0, 0.1)]
    run = measure(fake_nvml, ledger(tmp_path), phases, FAIL_AFTER="0.9")
    assert [span["gpu"]["label"] for span in run["spans"]] == ["measured", "unavailable", "unavailable"]
    assert run["spans"][-1]["gpu"]["reason"] == "NVML: GPU is lost"
    assert run["metrics"] == {} and run["total"]["gpu"]["joules"] is None


@pytest.mark.parametrize(
    ("gpu", "reason"),
    [
        ({"INIT_ERROR": "9"}, "NVML: Driver Not Loaded"),
        ({"READ_ERROR": "4"}, "NVML: Insufficient Permissions"),
        ({"NO_COUNTER": "1", "NO_POWER": "1"}, "NVML: Not Supported"),
        ({"GPUS": "0"}, f"NVML knows no device {FAKE_UUID}"),
    ],
)
def test_nvml_that_gives_nothing_is_labelled_with_its_reason(
    fake_nvml: Path, tmp_path: Path, gpu: dict[str, str], reason: str
) -> None:
    run = measure(fake_nvml, ledger(tmp_path), [("train", 1, 0.05)], **gpu)
    assert (run["labels"]["energy.gpu"], run["labels"]["energy.gpu.reason"]) == ("unavailable", reason)
    assert run["metrics"] == {} and '"joules": 0' not in ledger(tmp_path).read_text()


def test_an_old_driver_without_counter_has_its_power_integrated(tmp_path: Path) -> None:
    if shutil.which("gcc") is None:
        pytest.skip("gcc is needed to compile the fake NVML library")
    source = Path(__file__).with_name("fake_nvml.c")
    compiled = ["gcc", "-DOLD_DRIVER", "-shared", "-fPIC", "-o", str(tmp_path / "libnvidia-ml.so.1"), str(source)]
    subprocess.run(compiled, check=True)
    run = measure(tmp_path, ledger(tmp_path), [("train", 1, 1.3)], work="blocking")
    assert run["labels"]["energy.gpu"] == "integrated"
    assert_is_true(run, 3)
    (sample, *_) = [
        json.loads(line)["sample"] for line in ledger(tmp_path).read_text().splitlines() if "sample" in line
    ]
    assert "throttles" in sample and "other_processes" not in sample


def test_missing_nvml_library_is_labelled_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "libnvidia-ml.so.1").write_text("not a library")  # found before one that this machine may have
    run = measure(tmp_path, ledger(tmp_path), [("train", 1, 0.05)])
    assert run["labels"]["energy.gpu.reason"] == "NVML: NVML Shared Library Not Found"
    assert run["metrics"] == {}


@pytest.mark.parametrize(("uuids", "config"), [((), {}), ((FAKE_UUID,), {"source": "off"})], ids=["cpu", "off"])
def test_a_process_without_gpu_or_with_energy_off_never_imports_nvml(
    tmp_path: Path, uuids: tuple[str, ...], config: dict[str, str]
) -> None:
    run = measure(tmp_path, ledger(tmp_path), [("train", 1, 0.01)], uuids=uuids, config=config)
    assert run["nvml_imported"] is False
    assert run["labels"]["energy.gpu.reason"] in ("no GPU is used by this process", "energy.source=off")


def test_the_state_of_the_gpu_is_in_the_ledger_once_a_second_and_other_processes_are_flagged(
    fake_nvml: Path, tmp_path: Path
) -> None:
    gpu = {"THROTTLE": "68", "TICK_MS": "20", "OTHERS": "2"}
    run = measure(fake_nvml, ledger(tmp_path), [("train", 1, 3.4)], work="blocking", **gpu)
    assert run["notes"] == ["other processes computed on the GPU: what they used is measured too"]
    samples = [json.loads(line) for line in ledger(tmp_path).read_text().splitlines() if '"sample"' in line]
    assert len(samples) in (3, 4, 5)
    assert samples[-1]["sample"] | {"time": 0} == {
        "time": 0,
        "phase": "train",
        "epoch": 1,
        "gpu_watts": pytest.approx(100, rel=0.05),
        "busy_percent": 60.0,
        "memory_bytes": 4 * 2**30,
        "celsius": 55.0,
        "clock_mhz": 1500.0,
        "throttles": ["power cap", "temperature (hardware)"],
        "other_processes": 2,
    }
    assert run["synchronised"] == 3  # both ends of the phase and of the whole, however long


@pytest.mark.gpu
def test_on_a_real_gpu_counter_and_sampled_power_agree_within_5_percent_under_steady_load() -> None:
    import torch

    if not torch.cuda.is_available():
        pytest.skip("needs an NVIDIA GPU")
    uuid = str(torch.cuda.get_device_properties(0).uuid)
    matrix = torch.randn(4096, 4096, device="cuda")

    def load(seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for _ in range(20):
                matrix @ matrix
            torch.cuda.synchronize()

    load(5)  # the averaged power of some GPUs takes a second to settle
    meter = build_meter(EnergyConfig(), gpu_uuids=[uuid], synchronise=torch.cuda.synchronize, ledger=None)
    with meter:
        load(3)
        with meter.phase("train") as span:
            load(30)
    gpu = span.reading.gpu
    assert gpu.joules is not None and gpu.check_joules is not None, gpu
    assert gpu.check_joules == pytest.approx(gpu.joules, rel=0.05)
    assert gpu.error_joules is not None and gpu.error_joules < 0.01 * gpu.joules
