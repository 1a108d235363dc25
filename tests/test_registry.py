"""The registry: what a version carries, what it computes elsewhere, and how the aliases move."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mirrored_runs import MLFLOW_WARNINGS, client_of, patient_mlflow, run_of
from mlflow_servers import STORE, MlflowServer

from astrid.cli import main
from astrid.config import DataError, ModelConfig, TrackingConfig
from astrid.config.compose import load as load_config
from astrid.config.gate import GateConfig
from astrid.deployed import AsRun, load
from astrid.evaluate import Predictor
from astrid.metrics.bootstrap import resample_fields, save_fields
from astrid.metrics.per_field import FieldCounts
from astrid.model_card import ModelFacts, model_card
from astrid.runtime import Runtime
from astrid.tracking import Table, open_tracker, sync
from astrid.tracking.progress import FILE_NAME as PROGRESS
from astrid.unet import build_unet

pytestmark = MLFLOW_WARNINGS

NAME = "astrid-unet"
FIELDS = 12


@pytest.fixture(scope="module", autouse=True)
def mlflow_settings() -> Iterator[None]:
    with patient_mlflow():
        yield


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database that is created once, since that takes seconds, and copied for each test."""
    from astrid.tracking.mlflow_sink import open_store

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    open_store(f"sqlite:///{path}")
    return path


@pytest.fixture
def config(empty_database: Path, tmp_path: Path) -> TrackingConfig:
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    return TrackingConfig(uri=f"sqlite:///{tmp_path}/mlflow.db")


@pytest.fixture(scope="module")
def saved_network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model as `save_model` writes it, once, since that takes a second."""
    from astrid.tracking.registry import save_model

    folder = tmp_path_factory.mktemp("network") / "model"
    save_model(torch.nn.Conv2d(3, 1, 1), torch.zeros(1, 3, 8, 8), folder)
    return folder


def facts(**changes: Any) -> ModelFacts:
    values: dict[str, Any] = {
        "network": {"depth": 2, "filters": 4, "channels": 3, "parameters": 10, "halo": 16},
        "precision": "bf16",
        "channels_last": True,
        "whole": False,
        "logit_threshold": 0.25,
        "detection_threshold": 0.6,
        "min_pixels": 1,
        "preprocessing": {"choice": "SimulatedData", "stretch": "arcsinh"},
        "description": "simulated sky",
        "fingerprint": "ab" * 32,
        "test_fingerprint": "cd" * 32,
        "test_fields": FIELDS,
        "metrics": {"test/auprc": 0.8, "test/ece": 0.001, "latency/p50_ms": 5.0, "latency/p95_ms": 6.0},
        "machine": {"host": "here", "device": "cpu", "threads": "2"},
        "best_epoch": 1,
    }
    return ModelFacts(**values | changes)


def fields_of_quality(quality: float) -> FieldCounts:
    """Fields whose positives lie the higher in logit the better the network; their difficulty is the same for all."""
    rng, bins = np.random.default_rng(5), 50
    means = 25 + quality * rng.uniform(0.9, 1.1, FIELDS)
    rows = [rng.normal(means[:, None], 5, (FIELDS, 60)), np.random.default_rng(6).normal(25, 5, (FIELDS, 600))]
    counts = [
        np.stack([np.bincount(row.clip(0, bins - 1).astype(int), minlength=bins) for row in part]) for part in rows
    ]
    return FieldCounts([f"f{number}" for number in range(FIELDS)], *counts, None, "cd" * 32)


def finish_run(config: TrackingConfig, run_dir: Path, network: Path, *, quality: float, ship: bool = True) -> None:
    """Do what a finished run does; with `ship` false it is left to `sync`."""
    counts = fields_of_quality(quality)
    resampled = resample_fields(counts, resamples=200, seed=0)
    assert resampled is not None
    value = float(np.mean(resampled.values["auprc"]))
    tracker = open_tracker(TrackingConfig(backend="off"), run_dir, name=run_dir.name, params={}, tags={})
    shutil.copytree(network, run_dir / "model-1")
    told = facts(metrics=facts().metrics | {"test/auprc": value})
    told.save(run_dir / "model-1" / "model.json")
    (run_dir / "model-1" / "model_card.md").write_text(model_card(told, run=run_dir.name, energy="energy: none"))
    save_fields(run_dir / "model-1" / "test_fields.npz", counts, resampled)
    tracker.journal.write_model(run_dir / "model-1", step=1)
    tracker.close("FINISHED")
    if ship:
        sync(run_dir, config)


def aliases(config: TrackingConfig) -> dict[str, int]:
    return {alias: int(version) for alias, version in client_of(config).get_registered_model(NAME).aliases.items()}


def decisions(config: TrackingConfig) -> dict[int, str]:
    client = client_of(config)
    numbers = sorted(int(version.version) for version in client.search_model_versions(f"name = '{NAME}'"))
    return {number: client.get_model_version(NAME, str(number)).tags["gate.decision"] for number in numbers}


def test_only_a_better_version_becomes_champion(config: TrackingConfig, tmp_path: Path, saved_network: Path) -> None:
    expected = [(12.0, "promoted", 1), (6.0, "refused", 1), (12.0, "refused", 1), (20.0, "promoted", 4)]
    for number, (quality, verdict, champion) in enumerate(expected, start=1):
        finish_run(config, tmp_path / f"run-{number}", saved_network, quality=quality)
        assert decisions(config)[number] == verdict
        assert aliases(config) == {"challenger": number, "champion": champion}
    version = client_of(config).get_model_version(NAME, "4")
    run = run_of(config, tmp_path / "run-4")
    for name in ("gate.decision", "gate.reason", "gate.difference", "gate.low", "gate.high", "gate.ece_difference"):
        assert run.data.tags[name] == version.tags[name]
    assert float(version.tags["gate.low"]) > 0
    assert version.description.startswith("# U-Net of depth 2")


def test_sending_again_moves_no_alias_and_decides_nothing_anew(
    config: TrackingConfig, tmp_path: Path, saved_network: Path
) -> None:
    for number, quality in enumerate([12.0, 20.0], start=1):
        finish_run(config, tmp_path / f"run-{number}", saved_network, quality=quality)
    assert main(["promote", "1", "--uri", config.uri]) == 0
    before = [client_of(config).get_model_version(NAME, number).tags for number in "12"]
    for number in (2, 1):
        (tmp_path / f"run-{number}" / PROGRESS).unlink()
        assert sync(tmp_path / f"run-{number}", config) > 0
    assert [client_of(config).get_model_version(NAME, number).tags for number in "12"] == before
    assert aliases(config) == {"challenger": 2, "champion": 1}


def test_a_crash_between_moving_the_alias_and_noting_it_is_mended_by_sending_again(
    config: TrackingConfig, tmp_path: Path, saved_network: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from astrid.tracking import champion

    finish_run(config, tmp_path / "run-1", saved_network, quality=12.0)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(champion.Registered, "note", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        finish_run(config, tmp_path / "run-2", saved_network, quality=20.0)
    assert aliases(config)["champion"] == 2
    sync(tmp_path / "run-2", config)
    assert decisions(config) == {1: "promoted", 2: "promoted"}
    assert main(["rollback", "--uri", config.uri]) == 0
    assert aliases(config)["champion"] == 1


def test_runs_that_finish_together_leave_the_best_as_champion(
    config: TrackingConfig, tmp_path: Path, saved_network: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from astrid.tracking.champion import Registered

    move = Registered.move_champion

    def move_late(model: Registered, version: str) -> None:
        """Give the worse ones the last word, unless they take turns."""
        run = model.client.get_run(model.client.get_model_version(NAME, version).run_id)
        time.sleep(0.0 if run.info.run_name == "b" else 0.5)
        move(model, version)

    monkeypatch.setattr(Registered, "move_champion", move_late)
    qualities = {"a": 10.0, "b": 30.0, "c": 18.0}
    for name, quality in qualities.items():
        finish_run(config, tmp_path / name, saved_network, quality=quality, ship=False)
    threads = [threading.Thread(target=sync, args=(tmp_path / name, config)) for name in qualities]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    now = aliases(config)
    assert (
        client_of(config).get_model_version(NAME, str(now["champion"])).run_id
        == run_of(config, tmp_path / "b").info.run_id
    )
    assert now["challenger"] == 3
    assert len(decisions(config)) == 3


def test_a_champion_that_another_host_moves_meanwhile_is_the_one_to_beat(
    config: TrackingConfig, tmp_path: Path, saved_network: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from astrid.tracking import champion

    for number, quality in ((1, 12.0), (2, 20.0)):
        finish_run(config, tmp_path / f"run-{number}", saved_network, quality=quality)
    client_of(config).set_registered_model_alias(NAME, "champion", "1")
    asked = []

    def decide(new: champion.Candidate, rival: champion.Candidate, gate: GateConfig) -> champion.Decision:
        asked.append(rival.version)
        client_of(config).set_registered_model_alias(NAME, "champion", "2")
        return champion_decide(new, rival, gate)

    champion_decide = champion.decide
    monkeypatch.setattr(champion, "decide", decide)
    finish_run(config, tmp_path / "run-3", saved_network, quality=16.0)
    assert asked == ["1", "2"]
    assert decisions(config)[3] == "refused"
    assert aliases(config)["champion"] == 2


def test_a_model_without_test_results_challenges_but_takes_no_title(
    config: TrackingConfig, tmp_path: Path, saved_network: Path
) -> None:
    finish_run(config, tmp_path / "run-1", saved_network, quality=12.0)
    tracker = open_tracker(TrackingConfig(backend="off"), tmp_path / "bare", name="bare", params={}, tags={})
    shutil.copytree(saved_network, tmp_path / "bare" / "model-1")
    tracker.journal.write_model(tmp_path / "bare" / "model-1", step=1)
    tracker.close("FINISHED")
    sync(tmp_path / "bare", config)
    assert aliases(config) == {"challenger": 2, "champion": 1}
    assert decisions(config)[2] == "undecided"


def test_promote_and_rollback_say_what_moved(
    config: TrackingConfig, tmp_path: Path, saved_network: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in (1, 2, 3):
        finish_run(config, tmp_path / f"run-{number}", saved_network, quality=12.0)
    for version in ("2", "1", "1"):
        assert main(["promote", version, "--uri", config.uri]) == 0
    assert "champion is version 2 (it was version 1)" in capsys.readouterr().out
    for champion, former in ((2, 1), (1, 2)):
        assert main(["rollback", "--uri", config.uri]) == 0
        assert aliases(config)["champion"] == champion
        assert f"champion is version {champion} again (it was version {former})" in capsys.readouterr().out
    assert main(["rollback", "--uri", config.uri]) == 2
    assert "had no champion before version 1" in capsys.readouterr().err
    client_of(config).set_registered_model_tag(NAME, "astrid.former_champions", '["1"]')  # a move that was cut short
    assert main(["rollback", "--uri", config.uri]) == 2
    assert "had no champion before version 1" in capsys.readouterr().err
    assert main(["promote", "9", "--uri", config.uri]) == 2
    assert "which are 1, 2, 3, got '9'" in capsys.readouterr().err
    assert main(["promote", "1", "--uri", config.uri, "--model", "other"]) == 2
    assert "which are astrid-unet, got 'other'" in capsys.readouterr().err


def test_a_database_that_is_not_there_is_not_created(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rollback", "--uri", f"sqlite:///{tmp_path}/none.db"]) == 2
    assert "there is no such file" in capsys.readouterr().err
    assert not (tmp_path / "none.db").exists()


def registered_network(config: TrackingConfig, folder: Path) -> np.ndarray:
    """Register a network that computes in bf16, keep an image, and return the probabilities that its run sees."""
    torch.manual_seed(0)
    network = build_unet(ModelConfig(depth=2, filters=4), channels=3, stretch="arcsinh", prior=0.1)
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for parameter in network.heads[0].parameters():
        torch.nn.init.normal_(parameter)  # so that probabilities differ from pixel to pixel
    runtime = Runtime(torch.device("cpu"), "bf16", torch.get_num_threads(), channels_last=True)
    image = np.random.default_rng(0).normal(size=(3, 45, 70)).astype(np.float32)
    wanted = torch.sigmoid(Predictor(network, runtime, halo=16).logits(image)).numpy()
    assert np.ptp(wanted) > 0.1
    np.save(folder / "image.npy", image)
    told = facts().save(folder / "model.json")
    tracker = open_tracker(config, folder / "run", name="unet", params={}, tags={})
    tracker.model(AsRun(network, "bf16"), torch.from_numpy(image[None]), step=1, extras=[told])
    assert tracker.close("FINISHED", wait_seconds=60)
    return wanted


def test_a_registered_model_has_the_probabilities_of_its_run(config: TrackingConfig, tmp_path: Path) -> None:
    wanted, image = registered_network(config, tmp_path), np.load(tmp_path / "image.npy")
    model = load(f"models:/{NAME}@challenger", uri=config.uri, device="cpu")
    np.testing.assert_allclose(model.probabilities(image), wanted, rtol=0, atol=1e-6)
    with torch.inference_mode():  # as who loads the network alone does, in no precision of its own
        alone = torch.sigmoid(model.predictor.model(torch.from_numpy(image[None])))[0, 0].numpy()
    np.testing.assert_allclose(alone, wanted, rtol=0, atol=1e-6)
    assert (model.logit_threshold, model.detection_threshold) == (0.25, 0.6)


@pytest.mark.slow
def test_a_model_computes_in_a_fresh_process_what_its_run_did(config: TrackingConfig, tmp_path: Path) -> None:
    wanted = registered_network(config, tmp_path)
    program = f"""
        import numpy as np, torch
        from astrid.deployed import load
        image = np.load("image.npy")
        model = load("models:/{NAME}@champion", uri="{config.uri}", device="cpu")
        assert (model.logit_threshold, model.detection_threshold) == (0.25, 0.6)
        import mlflow
        mlflow.set_tracking_uri("{config.uri}")
        bare = mlflow.pytorch.load_model("models:/{NAME}@champion")
        with torch.inference_mode():
            alone = torch.sigmoid(bare(torch.from_numpy(image[None])))[0, 0].numpy()
        np.savez("answers.npz", ours=model.probabilities(image), alone=alone)
        print(mlflow.models.get_model_info("models:/{NAME}@champion").signature)
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    done = subprocess.run(command, timeout=120, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Tensor('float32', (-1, 3, -1, -1))" in done.stdout
    answers = np.load(tmp_path / "answers.npz")
    np.testing.assert_allclose(answers["ours"], wanted, rtol=0, atol=1e-6)
    np.testing.assert_allclose(answers["alone"], wanted, rtol=0, atol=1e-6)


def test_what_is_no_model_is_refused_by_name(config: TrackingConfig, tmp_path: Path, saved_network: Path) -> None:
    with pytest.raises(DataError, match=r"holds no model of AstrID: model\.json is missing"):
        load(tmp_path)
    finish_run(config, tmp_path / "run", saved_network, quality=9.0)
    with pytest.raises(DataError, match=r"which are challenger \(1\), champion \(1\); choose one"):
        load(f"models:/{NAME}@winner", uri=config.uri)
    with pytest.raises(DataError, match="which are 1, got '2'"):
        load(f"models:/{NAME}/2", uri=config.uri)
    model = load(f"models:/{NAME}/1", uri=config.uri, device="cpu")
    with pytest.raises(DataError, match=r"shape \(3, height, width\), got \(2, 8, 8\)"):
        model.probabilities(np.zeros((2, 8, 8), np.float32))
    (tmp_path / "run/model.json").write_text('{"format": "astrid-model-9"}')
    with pytest.raises(DataError, match="must have format astrid-model-1, got 'astrid-model-9'"):
        load(tmp_path / "run")


def test_tables_are_what_mlflow_reads_as_tables(
    config: TrackingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = open_tracker(config, tmp_path / "run", name="unet", params={}, tags={})
    tracker.tables({"epochs": Table(["epoch", "val/loss"], [[1.0, 0.5], [2.0, None]])})
    assert tracker.close("FINISHED", wait_seconds=60)
    run = run_of(config, tmp_path / "run")
    shown = json.loads(run.data.tags["mlflow.loggedArtifacts"])
    assert shown == [{"path": "tables/epochs.json", "type": "table"}]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", config.uri)  # load_table asks there, whatever its client does
    frame = client_of(config).load_table(run.info.experiment_id, "tables/epochs.json", [run.info.run_id])
    assert frame["val/loss"].iloc[0] == 0.5
    assert np.isnan(frame["val/loss"].iloc[1])


def test_the_card_says_how_sure_and_what_is_not_known() -> None:
    sure = facts(metrics=facts().metrics | {"test/auprc_low": 0.77, "test/auprc_high": 0.83}, logit_threshold=None)
    card = model_card(sure, run="unet-1", energy="energy: GPU unavailable (no GPU)")
    assert "| auprc | 0.8 [0.77, 0.83] |" in card
    assert "auprc_low" not in card
    assert "undefined, since validation had no positives" in card
    assert "Energy: GPU unavailable (no GPU)." in card
    assert "Too few test fields" not in card
    assert "Too few test fields" in model_card(facts(), run="unet-1", energy="energy: none")


@pytest.mark.slow
def test_a_server_that_keeps_the_artifacts_gives_the_gate_the_champions(tmp_path: Path, saved_network: Path) -> None:
    server = MlflowServer(tmp_path, store=STORE)
    server.start()
    try:
        config = TrackingConfig(uri=server.uri)
        for number, quality in enumerate([12.0, 20.0, 6.0], start=1):
            finish_run(config, tmp_path / f"run-{number}", saved_network, quality=quality)
        assert decisions(config) == {1: "promoted", 2: "promoted", 3: "refused"}
        assert aliases(config) == {"challenger": 3, "champion": 2}
        assert load(f"models:/{NAME}@champion", uri=server.uri).facts.test_fields == FIELDS
    finally:
        server.kill()


@pytest.mark.slow
def test_a_whole_run_is_registered_with_all_that_belongs_to_it(
    config: TrackingConfig, tiny: list[str], tmp_path: Path
) -> None:
    from astrid.experiment import run_experiment

    run_dir = tmp_path / "run"
    run_experiment(load_config([*tiny, f"tracking.uri={config.uri}", "data.test_fields=3"]), run_dir=run_dir)
    run = run_of(config, run_dir)
    metrics = run.data.metrics
    assert metrics["test/auprc_low"] < metrics["test/auprc"] < metrics["test/auprc_high"]
    assert run.data.tags["gate.decision"] == "promoted"
    client = client_of(config)
    held = {
        file.path for folder in ("", "checkpoints", "tables") for file in client.list_artifacts(run.info.run_id, folder)
    }
    assert held >= {"checkpoints/best.pt", "checkpoints/last.pt", "energy.jsonl", "model_card.md", "test_fields.npz"}
    assert held >= {"tables/epochs.json", "tables/metrics.json", "tables/test_fields.json"}
    registered, local = load(f"models:/{NAME}@champion", uri=config.uri), load(run_dir)
    assert registered.facts == local.facts
    image = np.random.default_rng(0).normal(size=(3, 64, 64)).astype(np.float32)
    np.testing.assert_allclose(registered.probabilities(image), local.probabilities(image), rtol=0, atol=1e-6)
    assert GateConfig().metric in local.facts.metrics
