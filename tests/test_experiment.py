"""A whole run: what it prints, what it leaves in its folder, and what happens when it is resumed."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest
import torch

from astrid.config import DataError
from astrid.config.compose import load
from astrid.config.leaves import leaves
from astrid.config.resume import load_config
from astrid.experiment import run_experiment
from astrid.resumed import as_resolved

pytestmark = pytest.mark.usefixtures("in_this_process")

AVERAGES = [f"{name}_{kind}" for name in ("precision", "recall", "f1") for kind in ("macro", "micro", "weighted")]
PIXELS = ["auroc", "auprc", "mcc", "balanced_accuracy", "accuracy", "ece", "brier", *AVERAGES]
OBJECTS = ["completeness", "purity", "false_per_mpix"]
SPEED = ["latency/p50_ms", "latency/p95_ms", "throughput/mpix_per_s"]
CONTRACT = [*(f"test/{name}" for name in (*PIXELS, *OBJECTS)), *SPEED]


@pytest.fixture(scope="module")
def finished(drawn: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("runs") / "run"
    run_experiment(load([*drawn, "tracking=off"]), run_dir=run_dir)
    return run_dir


def journal(run_dir: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (run_dir / "journal.jsonl").read_text().splitlines()]


def points(run_dir: Path) -> list[tuple[str, int]]:
    """Return every (metric, step) of a journal, repeated where it was written twice."""
    return [
        (name, record["step"])  # type: ignore[misc]
        for record in journal(run_dir)
        if record.get("kind") == "Metrics" or ("values" in record and "step" in record)
        for name in record["values"]  # type: ignore[attr-defined]
    ]


def test_the_metrics_of_the_contract_are_measured_and_finite(finished: Path) -> None:
    metrics = json.loads((finished / "metrics.json").read_text())
    missing = [name for name in CONTRACT if name not in metrics]
    assert missing == []
    assert all(math.isfinite(value) for value in metrics.values())


def test_the_fingerprint_of_the_data_is_the_digest_of_the_dataset(finished: Path) -> None:
    told = [record for record in journal(finished) if record.get("kind") == "dataset"]
    assert len(told) == 1 and len(str(told[0]["digest"])) == 36
    assert f'"data.fingerprint": "{told[0]["digest"]}' in (finished / "journal.jsonl").read_text()


def test_unmeasured_energy_is_absent_and_labelled(finished: Path) -> None:
    metrics = json.loads((finished / "metrics.json").read_text())
    absent = [name for name in metrics if name.startswith(("energy/", "carbon/", "cost/"))]
    assert absent == []
    assert '"energy.gpu": "unavailable"' in (finished / "journal.jsonl").read_text()


def test_the_folder_holds_what_the_run_was(finished: Path, drawn: list[str]) -> None:
    assert load_config(finished) == load([*drawn, "tracking=off"])
    for name in ("environment.json", "git.diff", "checkpoints/last.pt", "checkpoints/best.pt", "energy.jsonl"):
        assert (finished / name).is_file(), name
    figures = {path.stem for path in (finished / "figures").glob("*.png")}
    assert figures >= {"training_curves", "roc", "precision_recall", "confusion", "reliability", "gallery"}


def test_every_epoch_is_journaled_once(finished: Path) -> None:
    written = points(finished)
    assert ("val/auprc", 1) in written
    assert ("val/auprc", 2) in written
    assert len(written) == len(set(written))


def test_every_leaf_of_the_configuration_is_a_parameter(finished: Path) -> None:
    text = (finished / "journal.jsonl").read_text()
    for key in ("model.depth", "data.augment.flips", "optimizer.betas", "tracking.backend"):
        assert f'"{key}"' in text


def test_a_taken_folder_is_refused_and_left_as_it_was(finished: Path, drawn: list[str]) -> None:
    files = ("config.yaml", "git.diff", "environment.json", "metrics.json", "journal.jsonl")
    before = [(finished / name).read_bytes() for name in files]
    with pytest.raises(DataError, match="already holds a run"):
        run_experiment(load([*drawn, "tracking=off", "optimizer.lr=0.1"]), run_dir=finished)
    assert [(finished / name).read_bytes() for name in files] == before


def test_a_finished_run_can_be_given_more_epochs(tiny: list[str], tmp_path: Path) -> None:
    run = tmp_path / "run"
    run_experiment(load([*tiny, "tracking=off", "training.epochs=1", "schedule=constant"]), run_dir=run)
    run_experiment(load([f"training.resume={run}", "training.epochs=3"]), run_dir=run)
    straight = tmp_path / "straight"
    run_experiment(load([*tiny, "tracking=off", "training.epochs=3", "schedule=constant"]), run_dir=straight)
    ours, theirs = (torch.load(folder / "checkpoints/last.pt", weights_only=True) for folder in (run, straight))
    for name, weight in theirs["model"].items():
        assert torch.equal(weight, ours["model"][name]), name
    written = points(run)
    assert len(written) == len(set(written))
    assert {step for name, step in written if name == "val/loss"} == {1, 2, 3}


def test_resuming_a_finished_run_changes_nothing(
    finished: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    with caplog.at_level("INFO"):
        objective = run_experiment(load([f"training.resume={run}"]), run_dir=run)
    assert objective == json.loads((run / "metrics.json").read_text())["objective"]
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    assert "is finished, evaluation included; a larger training.epochs goes on with it" in caplog.text


def test_the_objective_is_the_best_value_of_the_monitor(tiny: list[str], tmp_path: Path) -> None:
    config = load([*tiny, "tracking=off", "training.monitor=val/loss"])
    objective = run_experiment(config, run_dir=tmp_path / "run")
    history = torch.load(tmp_path / "run/checkpoints/last.pt", weights_only=True)["progress"]["history"]
    assert objective == min(values["val/loss"] for values in history)


def test_a_run_killed_before_its_first_checkpoint_starts_from_the_beginning(finished: Path, tmp_path: Path) -> None:
    for name in ("config.yaml", "journal.jsonl"):
        lines = (finished / name).read_text().splitlines(keepends=True)
        (tmp_path / name).write_text("".join(lines[:1] if name == "journal.jsonl" else lines))
    run_experiment(load([f"training.resume={tmp_path}"]), run_dir=tmp_path)
    ours, theirs = (torch.load(folder / "checkpoints/last.pt", weights_only=True) for folder in (tmp_path, finished))
    assert all(torch.equal(weight, ours["model"][name]) for name, weight in theirs["model"].items())


def test_other_data_than_the_run_was_started_with_are_refused(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "run")
    text = (tmp_path / "run/config.yaml").read_text()
    (tmp_path / "run/config.yaml").write_text(text.replace("sky_seed: 1", "sky_seed: 2"))
    with pytest.raises(DataError, match="must see the same data"):
        run_experiment(load([f"training.resume={tmp_path}/run", "training.epochs=9"]), run_dir=tmp_path / "run")


def test_what_auto_came_to_is_kept_and_a_changed_machine_is_announced(caplog: pytest.LogCaptureFixture) -> None:
    config = load().training
    saved = {"precision": "fp32", "device": "cpu", "threads": 7, "torch": torch.__version__}
    kept = as_resolved(config, saved)
    assert (kept.precision, kept.device) == ("fp32", "cpu")
    assert (config.precision, config.device) == ("auto", "auto")
    assert "threads was 7" in caplog.text


def test_leaves_are_named_as_on_the_command_line() -> None:
    assert leaves({"a": {"b": 1, "c": {"d": [1, 2]}}, "e": None}) == {"a.b": "1", "a.c.d": "[1, 2]", "e": "None"}
