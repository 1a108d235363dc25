"""Device, precision, seeds and signals are what was asked for, or refused."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from astrid.config import ConfigError, RunError, TrainingConfig
from astrid.runtime import (
    GitState,
    Runtime,
    StopSignals,
    choose_precision,
    git_state,
    hardware_facts,
    has_bf16,
    memory_advice,
    package_versions,
    prepare_runtime,
    random_states,
    restore_random_states,
    seed_everything,
)

CPU = torch.device("cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_cuda_and_fp16_are_refused_where_there_is_no_cuda() -> None:
    with pytest.raises(ConfigError, match=r"training\.device must be one that this machine has.*try cpu"):
        prepare_runtime(TrainingConfig(device="cuda"))
    with pytest.raises(ConfigError, match=r"training\.precision must be fp32 or bf16 without CUDA"):
        prepare_runtime(TrainingConfig(precision="fp16"))


def test_auto_precision_is_bf16_only_with_the_instructions_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    assert choose_precision("auto", CPU) == "bf16"
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True})
    assert not has_bf16(CPU)
    assert choose_precision("auto", CPU) == "fp32"
    assert choose_precision("bf16", CPU) == "bf16"


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_the_network_computes_in_the_precision_of_the_run(precision: str, dtype: torch.dtype) -> None:
    runtime = Runtime(CPU, precision, threads=1, channels_last=True)
    with runtime.autocast():
        assert torch.nn.functional.linear(torch.ones(2, 2), torch.ones(2, 2)).dtype == dtype


def test_every_generator_comes_back_to_where_it_was() -> None:
    seed_everything(3)
    states = random_states()
    first = (random.random(), np.random.random(), torch.rand(1).item())
    restore_random_states(states)
    assert (random.random(), np.random.random(), torch.rand(1).item()) == first


def test_a_first_signal_is_noted_and_a_second_one_interrupts() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with StopSignals() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.received == "SIGTERM"
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("[x] can't allocate memory: 9 bytes"), MemoryError()],
)
def test_running_out_of_memory_names_the_knobs(error: Exception) -> None:
    with pytest.raises(RunError, match=r"out of memory: try data\.batch_size"), memory_advice("try data.batch_size"):
        raise error


def test_other_errors_pass_through_the_memory_advice() -> None:
    with pytest.raises(RuntimeError, match="shapes differ"), memory_advice("try"):
        raise RuntimeError("shapes differ")


def test_real_exhaustion_of_host_memory_is_recognised() -> None:
    with pytest.raises(RunError, match="out of memory"), memory_advice("try less"):
        torch.empty(2**50, dtype=torch.uint8)


def test_the_facts_name_versions_and_machine() -> None:
    facts = hardware_facts(Runtime(CPU, "fp32", 1, True))
    assert facts["cores"] == str(os.cpu_count())
    assert package_versions()["torch"].startswith(torch.__version__.split("+")[0])


def test_a_folder_without_git_has_no_commit(tmp_path: Path) -> None:
    assert git_state(tmp_path) == GitState("", "", "", "")
    assert not git_state(tmp_path).is_dirty
