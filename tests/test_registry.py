"""The registry: what a version carries, and how the aliases move."""

from __future__ import annotations

import json
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from mirrored_runs import MLFLOW_WARNINGS, client_of, run_of
from mlflow_servers import STORE, MlflowServer
from registered_runs import (
    FIELDS,
    NAME,
    finish_run,
)

from astrid.cli import main
from astrid.config import TrackingConfig
from astrid.config.gate import GateConfig
from astrid.deployed import load
from astrid.tracking import Table, open_tracker, sync
from astrid.tracking.progress import FILE_NAME as PROGRESS

pytestmark = [*MLFLOW_WARNINGS, pytest.mark.usefixtures("mlflow_settings")]


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
    assert "must name a registered model, as astrid-unet, got 'other'" in capsys.readouterr().err


def test_rollback_passes_over_a_former_champion_that_was_deleted(
    config: TrackingConfig, tmp_path: Path, saved_network: Path
) -> None:
    for number in (1, 2, 3):
        finish_run(config, tmp_path / f"run-{number}", saved_network, quality=12.0)
    for version in ("2", "3"):
        assert main(["promote", version, "--uri", config.uri]) == 0
    client_of(config).delete_model_version(NAME, "2")
    assert main(["rollback", "--uri", config.uri]) == 0
    assert aliases(config)["champion"] == 1


def test_a_database_that_is_not_there_is_not_created(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rollback", "--uri", f"sqlite:///{tmp_path}/none.db"]) == 2
    assert "there is no such file" in capsys.readouterr().err
    assert not (tmp_path / "none.db").exists()


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
