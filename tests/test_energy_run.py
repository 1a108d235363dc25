"""Whole runs on a played GPU: what they report, and what a budget, a lost GPU or a kill does to their energy."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from mirrored_runs import wait_until

from astrid.config.compose import PROJECT_ROOT
from astrid.energy.ledger import read_ledger
from astrid.energy.records import summarise

pytestmark = pytest.mark.slow

PHASES = {f"energy/{name}_joules" for name in ("setup", "train", "validation", "test", "latency", "other")}


def start(fake_nvml: Path, *overrides: str, **gpu: str) -> subprocess.Popen[str]:
    """Start train.py on GPUs that are played."""
    environment = {**os.environ, "LD_LIBRARY_PATH": str(fake_nvml), "FAKE_NVML_TICK_MS": "20", **gpu}
    arguments = [sys.executable, "train.py", *overrides]
    pipe = subprocess.PIPE
    return subprocess.Popen(arguments, cwd=PROJECT_ROOT, env=environment, stdout=pipe, stderr=pipe, text=True)


def train_py(fake_nvml: Path, *overrides: str, **gpu: str) -> subprocess.CompletedProcess[str]:
    """Run train.py to its end."""
    with start(fake_nvml, *overrides, **gpu) as process:
        out, err = process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def test_a_whole_run_on_a_played_gpu_reports_its_energy_and_keeps_its_budget(
    fake_nvml: Path, tiny: list[str], tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    chosen = [*tiny, "tracking=off", "energy.gpus=all", "energy.country=DEU", "energy.pue=1.2", "training.epochs=40"]
    done = train_py(fake_nvml, *chosen, f"hydra.run.dir={run_dir}", "energy.budget_kwh=0.00002")
    assert done.returncode == 0, done.stderr
    assert "energy.budget_kwh=2e-05 is spent" in done.stdout and f"training.resume={run_dir}" in done.stdout
    text = (run_dir / "journal.jsonl").read_text()
    assert '"stopped"' in text and "energy/total_kwh" in text

    done = train_py(fake_nvml, f"training.resume={run_dir}", "energy.budget_kwh=1")
    assert done.returncode == 0, done.stderr
    metrics = json.loads((run_dir / "metrics.json").read_text())
    phases = [value for name, value in metrics.items() if name in PHASES]
    assert sum(phases) == pytest.approx(metrics["energy/gpu_joules"], rel=1e-3)
    assert metrics["energy/gpu_joules"] == pytest.approx(100 * metrics["energy/seconds"], rel=0.02)
    assert metrics["carbon/g_co2e"] == pytest.approx(metrics["energy/total_kwh"] * 1.2 * 381)
    tiles = {split: int(re.search(rf'"data.{split}_tiles": "(\d+)"', text)[1]) for split in ("train", "val")}  # type: ignore[index]
    for name, phase, split in (("train", "train", "train"), ("inference", "validation", "val")):
        joules = metrics[f"energy/{phase}_joules"] / (40 * tiles[split])
        assert metrics[f"energy/{name}_joules_per_image"] == pytest.approx(joules)
    assert {"energy_phases.png", "energy_power.png"} <= {path.name for path in (run_dir / "figures").iterdir()}
    assert (run_dir / "energy_phases.csv").is_file()
    text = (run_dir / "journal.jsonl").read_text()
    for name in ('"energy.country": "DEU"', '"energy.pue": "1.2"', '"carbon.source": "Germany 2023'):
        assert name in text, name


def test_a_gpu_that_is_lost_in_mid_run_leaves_no_number_and_training_ends_normally(
    fake_nvml: Path, tiny: list[str], tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    chosen = [*tiny, "tracking=off", "energy.gpus=all", f"hydra.run.dir={run_dir}", "training.epochs=60"]
    done = train_py(fake_nvml, *chosen, FAKE_NVML_FAIL_AFTER="1")
    assert done.returncode == 0, done.stderr
    assert "GPU energy is unavailable from now on: NVML: GPU is lost" in done.stderr + done.stdout
    metrics = json.loads((run_dir / "metrics.json").read_text())
    assert not [name for name in metrics if name.startswith(("energy/", "carbon/", "cost/"))]
    assert '"energy.gpu": "unavailable"' in (run_dir / "journal.jsonl").read_text()


def test_a_run_killed_in_mid_epoch_and_resumed_has_the_energy_of_both_parts_once(
    fake_nvml: Path, tiny: list[str], tmp_path: Path
) -> None:
    run_dir, ledger = tmp_path / "run", tmp_path / "run" / "energy.jsonl"
    chosen = [*tiny, "tracking=off", "energy.gpus=all", f"hydra.run.dir={run_dir}", "training.epochs=2000"]

    def has_begun() -> bool:
        return ledger.exists() and ledger.read_text().count('"phase": "validation"') > 5

    with start(fake_nvml, *chosen) as process:
        wait_until(has_begun)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    killed = read_ledger(ledger)
    first = summarise(list(killed.spans.values()))
    done = int(max(span.epoch or 0 for span in killed.spans.values() if span.phase == "validation"))
    resumed = train_py(fake_nvml, f"training.resume={run_dir}", f"training.epochs={done + 2}")
    assert resumed.returncode == 0, resumed.stderr

    contents = read_ledger(ledger)
    assert {key: span for key, span in contents.spans.items() if key[0] == 1} == killed.spans
    second = summarise([span for (session, _), span in contents.spans.items() if session == 2])
    whole = summarise(list(contents.spans.values()))
    assert first.total.joules and second.total.joules and whole.total.joules
    assert whole.total.joules == pytest.approx(first.total.joules + second.total.joules)
    assert whole.total.joules == pytest.approx(100 * whole.seconds, rel=0.02)
    metrics = json.loads((run_dir / "metrics.json").read_text())
    assert first.total.joules < metrics["energy/gpu_joules"] <= whole.total.joules + 2
