"""Which GPUs are measured: those of this process, all, none or named ones; a slice of one as the whole."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from metered import FAKE_UUID, SECOND_UUID, SLICE_UUID, measure

from astrid.config import ConfigError, EnergyConfig
from astrid.config.compose import load
from astrid.config.resume import load_config, save_config
from astrid.energy.nvml import open_gpus
from astrid.energy.sources import SourceError

FIND = """
import sys
from astrid.config import ConfigError
from astrid.energy import SourceError
from astrid.energy.nvml import open_gpus
try:
    print("\\n".join(source.name for source in open_gpus(sys.argv[2:], wanted=sys.argv[1])))
except SourceError as error:
    print("unavailable:", error)
"""


def ledger(folder: Path) -> Path:
    return folder / "energy.jsonl"


def found(library: Path, wanted: str, *used: str, **gpu: str) -> str:
    environment = {**os.environ, "LD_LIBRARY_PATH": str(library), **{f"FAKE_NVML_{k}": v for k, v in gpu.items()}}
    arguments = [sys.executable, "-c", FIND, wanted, *used]
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=60, check=False)
    return done.stdout.strip() or done.stderr.strip().splitlines()[-1]


def test_auto_means_the_gpus_of_this_process_and_all_those_of_the_machine(fake_nvml: Path) -> None:
    names = [f"NVML energy counter of {uuid}" for uuid in (FAKE_UUID, SECOND_UUID)]
    assert found(fake_nvml, "auto", SECOND_UUID, GPUS="2") == names[1]
    assert found(fake_nvml, "all", GPUS="2").splitlines() == names
    assert found(fake_nvml, "auto", GPUS="2") == "unavailable: no GPU is used by this process"
    assert found(fake_nvml, "none", FAKE_UUID) == "unavailable: energy.gpus=none"
    assert found(fake_nvml, "all", GPUS="0") == "unavailable: NVML knows no GPU"


def test_all_gpus_serve_a_process_on_the_cpu(fake_nvml: Path, tmp_path: Path) -> None:
    config = {"gpus": "all"}
    run = measure(fake_nvml, ledger(tmp_path), [("train", 1, 0.6)], uuids=(), config=config, GPUS="2", TICK_MS="10")
    assert run["total"]["gpu"]["joules"] == pytest.approx(2 * run["truth"], rel=0.03)


def test_a_named_gpu_that_the_machine_lacks_is_the_users_mistake(fake_nvml: Path, tmp_path: Path) -> None:
    code = FIND.replace("wanted=sys.argv[1]", "wanted=[sys.argv[1]]")
    environment = {**os.environ, "LD_LIBRARY_PATH": str(fake_nvml)}
    run = [subprocess.run([sys.executable, "-c", code, uuid], env=environment, capture_output=True, text=True)
           for uuid in (FAKE_UUID, "GPU-nothing")]  # fmt: skip
    assert run[0].stdout.strip() == f"NVML energy counter of {FAKE_UUID}"
    assert "ConfigError: energy.gpus must be the UUIDs of GPUs of this machine, got GPU-nothing" in run[1].stderr


@pytest.mark.parametrize(
    ("uuid", "note"),
    [
        (SLICE_UUID, "a MIG slice is used, the whole GPU is measured"),
        (FAKE_UUID, "MIG is on: what other slices use is measured too"),
    ],
)
def test_a_slice_of_a_gpu_is_measured_as_the_whole_and_flagged(
    fake_nvml: Path, tmp_path: Path, uuid: str, note: str
) -> None:
    run = measure(fake_nvml, ledger(tmp_path), [("train", 1, 0.4)], uuids=(uuid,), MIG="1", TICK_MS="10")
    assert run["notes"] == [note]
    assert run["total"]["gpu"]["joules"] == pytest.approx(run["truth"], rel=0.05)
    assert run["total"]["gpu"]["source"] == f"NVML energy counter of {FAKE_UUID}"


def test_torch_writes_a_slice_like_a_gpu_and_it_is_found(fake_nvml: Path) -> None:
    as_torch_writes_it = SLICE_UUID.replace("MIG-", "GPU-")
    assert found(fake_nvml, "auto", as_torch_writes_it, MIG="1") == f"NVML energy counter of {FAKE_UUID}"
    assert found(fake_nvml, "auto", as_torch_writes_it) == f"unavailable: NVML knows no device {as_torch_writes_it}"


@pytest.mark.gpu
@pytest.mark.parametrize("form", ["index", "uuid"])
def test_on_a_real_gpu_the_visible_device_is_the_measured_one(form: str) -> None:
    code = """
import torch
from astrid.energy.nvml import open_devices
uuid = str(torch.cuda.get_device_properties(0).uuid)
_, (device,) = open_devices([uuid])
print(device.uuid)
"""
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True).stdout.splitlines()
    uuids = [line.rpartition("UUID: ")[2].rstrip(")") for line in listed if line.startswith("GPU")]
    visible = str(len(uuids) - 1) if form == "index" else uuids[-1]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": visible, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == uuids[-1]


def test_unknown_wishes_are_refused_before_nvml_is_asked() -> None:
    with pytest.raises(SourceError, match="no GPU is used by this process"):
        open_gpus([])
    for wanted in ("gpu0", [], ["0"]):
        with pytest.raises(ConfigError, match=r"energy\.gpus must be auto, all, none or a list of UUIDs"):
            EnergyConfig(gpus=wanted)


def test_the_wished_gpus_survive_a_resume(tmp_path: Path) -> None:
    for wanted in ("energy.gpus=all", f"energy.gpus=[{FAKE_UUID},{SLICE_UUID}]"):
        config = load([wanted])
        save_config(config, tmp_path)
        assert load_config(tmp_path) == config
