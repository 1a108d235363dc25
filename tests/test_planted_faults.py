"""Whole runs with a fault planted from outside: `astrid diagnose` names it and nothing else, and a healthy run nothing.

The thresholds were set on the seeds 1 and 2; the slow tests use others.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import pytest
from planted_faults import (
    Change,
    built_with,
    flip_fields,
    flip_objects,
    flip_pixels,
    freeze_encoder,
    kill_layer,
    leak_fields,
    shift_labels,
    slow_tiles,
    train,
    train_real,
)

from astrid.cli import main
from astrid.diagnose import diagnose

SHORT = "training.epochs=2"
UNSEEN_SEEDS = (11, 12, 13)


@dataclass(frozen=True)
class Fault:
    """How a fault is planted, and what it is called when found."""

    found: str
    overrides: tuple[str, ...] = ()
    change: Callable[[int], Change | None] = lambda seed: None
    context: Callable[[], AbstractContextManager[None]] = nullcontext


FAULTS = {
    "learning rate × 1000": Fault("learning_rate_high", ("optimizer.lr=10",)),
    "learning rate / 1000": Fault("learning_rate_low", ("optimizer.lr=1e-5",)),
    "frozen encoder": Fault("frozen", context=lambda: built_with(freeze_encoder)),
    "labels shifted by 5 pixels": Fault("shifted_labels", change=lambda seed: shift_labels(5)),
    "labels shifted by 5 pixels, no flips": Fault(
        "shifted_labels", ("data.augment.flips=false",), change=lambda seed: shift_labels(-5, axis=0)
    ),
    "20 % of the objects flipped": Fault("label_noise", change=lambda seed: flip_objects(0.2, seed)),
    "20 % of the pixels flipped": Fault("label_noise", change=lambda seed: flip_pixels(0.2, seed)),
    "20 % of the fields flipped": Fault("label_noise", change=lambda seed: flip_fields(0.2)),
    "loader that sleeps 50 ms a batch": Fault("loader", (SHORT,), context=lambda: slow_tiles(0.05 / 4)),
    "dead layer": Fault("dead_units", context=lambda: built_with(kill_layer)),
    "validation fields in training": Fault("leak", change=lambda seed: leak_fields(4)),
}
QUICK = ("labels shifted by 5 pixels",)
"""Fault that shows within two epochs over half of the fields."""

HEALTHY = {
    "as it is": (),
    "two epochs": (SHORT,),
    "default network": ("model=unet", "optimizer.lr=0.003"),
    "GELU and group norm": ("model.activation=gelu", "model.norm=group"),
    "residual, attention, Dice": ("model.residual=true", "model.attention=true", "loss=bce_dice"),
    "cosmic rays": ("data.target=cosmic_ray",),
    "without norms": ("training.log_gradients=0",),
}


def seeded(seed: int) -> tuple[str, str]:
    return f"data.sky_seed={seed}", f"training.seed={seed}"


def kinds_found(fault: Fault, folder: Path, *overrides: str, seed: int) -> list[str]:
    with fault.context():
        run = train(folder, *seeded(seed), *fault.overrides, *overrides, change=fault.change(seed))
    return [finding.kind for finding in diagnose(run).findings]


@pytest.mark.parametrize("name", QUICK)
def test_a_fault_is_found_and_nothing_else(name: str, tmp_path: Path) -> None:
    assert kinds_found(FAULTS[name], tmp_path, SHORT, "data.train_fields=16", seed=5) == [FAULTS[name].found]


@pytest.mark.slow
@pytest.mark.parametrize("seed", UNSEEN_SEEDS)
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found_and_nothing_else_on_unseen_seeds(name: str, seed: int, tmp_path: Path) -> None:
    assert kinds_found(FAULTS[name], tmp_path, seed=seed) == [FAULTS[name].found]


@pytest.mark.slow
@pytest.mark.parametrize("seed", UNSEEN_SEEDS)
@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_run_gives_no_finding_on_unseen_seeds(name: str, seed: int, tmp_path: Path) -> None:
    assert kinds_found(Fault("none"), tmp_path, *HEALTHY[name], seed=seed) == []


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["decam_artifacts", "hrc_cosmic_rays"])
def test_the_recipes_with_real_frames_give_no_finding(recipe: str, sample_data: Path, tmp_path: Path) -> None:
    run = train_real(tmp_path, f"experiment={recipe}")
    assert diagnose(run).findings == []


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("healthy"), *seeded(5), SHORT)


@pytest.fixture
def copied(healthy: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(healthy, tmp_path / "run"))


def test_a_healthy_run_gives_no_finding(healthy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.read_bytes() for path in healthy.rglob("*") if path.is_file()}
    assert main(["diagnose", str(healthy), "--strict"]) == 0
    assert capsys.readouterr().out == "nothing found\n"
    assert json.loads((healthy / "diagnose" / "diagnosis.json").read_text())["findings"] == []
    assert all(path.read_bytes() == content for path, content in before.items())


@pytest.mark.slow
def test_findings_end_in_1_where_that_is_asked_for(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (copied / "journal.jsonl").read_text()
    (copied / "journal.jsonl").write_text(text.replace('"train/waiting_seconds": 0.', '"train/waiting_seconds": 99.'))
    assert main(["diagnose", str(copied)]) == 0
    assert main(["diagnose", str(copied), "--strict"]) == 1
    assert "the loader starves the device" in capsys.readouterr().out
    assert (copied / "diagnose" / "loader.png").is_file()


def test_a_run_without_epochs_or_checkpoints_is_looked_at_as_far_as_it_goes(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(copied / "checkpoints")
    (copied / "norms.jsonl").unlink()
    lines = (copied / "journal.jsonl").read_text().splitlines(keepends=True)
    (copied / "journal.jsonl").write_text("".join(line for line in lines if "train/loss" not in line))
    assert main(["diagnose", str(copied)]) == 0
    told = capsys.readouterr().out
    assert "not examined: curves and loader: no epoch is finished" in told
    assert f"label noise: {copied / 'checkpoints'} holds no checkpoint: the run ended before its first, or" in told


@pytest.mark.slow
def test_a_run_without_its_norms_is_told_from_one_that_kept_none(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (copied / "norms.jsonl").unlink()
    assert main(["diagnose", str(copied)]) == 0
    assert "norms.jsonl is gone or empty, though the run kept norms" in capsys.readouterr().out
    text = (copied / "config.yaml").read_text()
    (copied / "config.yaml").write_text(re.sub(r"log_gradients: \d+", "log_gradients: 0", text))
    assert main(["diagnose", str(copied)]) == 0
    assert "the run kept no norms; training.log_gradients=4 does" in capsys.readouterr().out


@pytest.mark.slow
def test_a_run_whose_data_are_gone_is_looked_at_without_them(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (copied / "config.yaml").read_text()
    (copied / "config.yaml").write_text(text.replace("sky_seed: 5", "sky_seed: 6"))
    assert main(["diagnose", str(copied)]) == 0
    told = capsys.readouterr().out
    assert told.startswith("nothing found in what was examined\n")
    assert f"not examined: data, labels and units: the fields of {copied} must be those that it was trained on" in told


def test_what_is_no_run_is_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diagnose", str(tmp_path)]) == 2
    assert "holds no run: journal.jsonl is missing" in capsys.readouterr().err


@pytest.mark.slow
def test_the_range_test_proposes_a_rate_that_learns(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diagnose", str(copied), "--range-test"]) == 0
    found = json.loads((copied / "diagnose" / "range_test.json").read_text())
    assert 1e-3 < found["proposed"] < 0.1  # 0.01 is known to train this network
    assert min(found["losses"]) < 0.8 * found["losses"][0]
    assert "the run's peak, 0.01, fits" in capsys.readouterr().out


def test_the_profile_names_the_convolutions_and_writes_a_trace(copied: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["diagnose", str(copied), "--profile"]) == 0
    said = capfd.readouterr()
    assert "conv" in said.out and "profiler_start" not in said.err
    assert json.loads((copied / "diagnose" / "trace.json").read_text())["traceEvents"]
    layers = json.loads((copied / "diagnose" / "profile.json").read_text())["memory"]
    first = next(layer for layer in layers if layer["name"] == "encoders.0.first")
    weights = 3 * 8 * 3 * 3  # channels, filters, kernel
    assert first["weight_bytes"] == 4 * (4 * weights) + 4  # weight, gradient, two moments; the count of steps
