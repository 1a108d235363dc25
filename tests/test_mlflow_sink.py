"""MLflow ends up holding what the journal holds, once, whatever happens on the way."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mirrored_runs import (
    MLFLOW_WARNINGS,
    PARAMS,
    assert_mirrored,
    client_of,
    report,
    run_of,
    start,
    wait_until,
)

from astrid.config import TrackingConfig
from astrid.tracking import Journal, RunDeletedError, ShippingError, open_tracker, sync
from astrid.tracking import journal as journal_module
from astrid.tracking.journal import check_name
from astrid.tracking.owner import this_process
from astrid.tracking.progress import FILE_NAME as PROGRESS
from astrid.tracking.progress import Progress
from astrid.tracking.records import Attached

pytestmark = [*MLFLOW_WARNINGS, pytest.mark.usefixtures("mlflow_settings")]


def test_a_run_reaches_mlflow_whole(config: TrackingConfig, tmp_path: Path) -> None:
    tracker = start(config, tmp_path / "run")
    report(tracker)
    assert tracker.close("FINISHED", reason="done", wait_seconds=60)
    run = assert_mirrored(config, tmp_path / "run")
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "unet-d3"
    assert run.info.start_time == tracker.journal.started.time_ms
    assert run.info.end_time >= run.info.start_time
    assert run.info.artifact_uri.startswith(f"file://{tmp_path}/artifacts/")
    assert run.data.params["group.knob_149"] == "149"
    assert run.data.params["data.root"] == "x" * 5997 + "..."
    assert run.data.tags["end_reason"] == "done"


def test_what_is_sent_again_is_not_doubled(config: TrackingConfig, tmp_path: Path) -> None:
    tracker = start(config, tmp_path / "run")
    report(tracker)
    tracker.model(torch.nn.Conv2d(3, 1, 3, padding=1), torch.zeros(1, 3, 8, 8), step=2)
    assert tracker.close("FINISHED")
    assert sync(tmp_path / "run", config) == 0
    (tmp_path / "run" / PROGRESS).unlink()
    assert sync(tmp_path / "run", config) > 0
    run = assert_mirrored(config, tmp_path / "run")
    assert len(run.outputs.model_outputs) == 1
    assert len(client_of(config).search_model_versions()) == 1
    assert len(client_of(config).search_logged_models([run.info.experiment_id])) == 1


def test_a_deleted_database_is_filled_again(config: TrackingConfig, empty_database: Path, tmp_path: Path) -> None:
    tracker = start(config, tmp_path / "run")
    report(tracker)
    assert tracker.close("FINISHED")
    elsewhere = TrackingConfig(uri=f"sqlite:///{tmp_path}/other.db")
    shutil.copy(empty_database, tmp_path / "other.db")
    progress = tmp_path / "run" / PROGRESS
    progress.write_text(progress.read_text().replace("mlflow.db", "other.db"))
    assert sync(tmp_path / "run", elsewhere) > 0
    assert assert_mirrored(elsewhere, tmp_path / "run").info.status == "FINISHED"


def test_a_killed_run_is_ended_by_sync_and_goes_on_as_the_same_mlflow_run(
    config: TrackingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        dead = Attached(socket.gethostname(), this_process().pid, process_started=1.0, time_ms=0)
        patch.setattr(journal_module, "this_process", lambda: dead)
        killed = open_tracker(
            TrackingConfig(backend="off"), tmp_path, name="unet-d3", params=PARAMS, tags={"data": "sky"}
        )
    report(killed, epochs=range(2))
    sync(tmp_path, config)
    first = assert_mirrored(config, tmp_path)
    assert first.info.status == "KILLED"
    tracker = start(config, tmp_path, resume=True, **{"group.knob_7": "70"})
    wait_until(lambda: run_of(config, tmp_path).info.status == "RUNNING")
    report(tracker, epochs=range(1, 4))
    assert tracker.close("FINISHED")
    run = assert_mirrored(config, tmp_path)
    assert run.info.run_id == first.info.run_id
    assert run.info.status == "FINISHED"
    assert run.data.params["group.knob_7"] == "7"
    assert run.data.tags["changed.group.knob_7"] == "7 -> 70"


def test_a_file_that_is_gone_holds_nothing_up(
    config: TrackingConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tracker = open_tracker(TrackingConfig(backend="off"), tmp_path / "run", name="unet", params={}, tags={})
    report(tracker)
    (tmp_path / "run" / "roc.png").unlink()
    tracker.close("FINISHED")
    sync(tmp_path / "run", config)
    assert run_of(config, tmp_path / "run").info.status == "FINISHED"
    assert "roc.png is gone" in caplog.text


def test_a_registered_model_gives_the_same_outputs_elsewhere(config: TrackingConfig, tmp_path: Path) -> None:
    layers = torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.BatchNorm2d(4), torch.nn.Dropout(), torch.nn.Conv2d(4, 1, 1)
    network = torch.nn.Sequential(*layers).train()
    images = [torch.randn(batch, 3, height, width) for batch, height, width in [(1, 1, 1), (2, 37, 53), (3, 64, 64)]]
    for number in (1, 2):
        tracker = start(config, tmp_path / f"run-{number}")
        tracker.model(network, torch.zeros(2, 3, 16, 16), step=number)
        tracker.model(network, torch.zeros(2, 3, 16, 16), step=number)
        assert tracker.close("FINISHED")
    assert network.training
    versions = client_of(config).search_model_versions("name = 'astrid-unet'")
    assert sorted(version.version for version in versions) == [1, 2]
    torch.save(images, tmp_path / "images.pt")
    program = f"""
        import mlflow, torch
        mlflow.set_tracking_uri("{config.uri}")
        model = mlflow.pytorch.load_model("models:/astrid-unet/1")
        images = torch.load("{tmp_path}/images.pt")
        torch.save([model(image) for image in images], "{tmp_path}/logits.pt")
        info = mlflow.models.get_model_info("models:/astrid-unet/1")
        assert info.run_id == "{run_of(config, tmp_path / "run-1").info.run_id}", info.run_id
        assert [spec.shape for spec in info.signature.inputs.inputs] == [(-1, 3, -1, -1)]
        assert [spec.shape for spec in info.signature.outputs.inputs] == [(-1, 1, -1, -1)]
        assert info.saved_input_example_info["type"] == "ndarray"
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True, timeout=120, cwd=tmp_path)
    for image, logits in zip(images, torch.load(tmp_path / "logits.pt"), strict=True):
        torch.testing.assert_close(logits, network.eval()(image), rtol=0, atol=1e-6)


def test_a_run_that_a_server_created_twice_is_left_once(config: TrackingConfig, tmp_path: Path) -> None:
    tracker = start(config, tmp_path / "run")
    report(tracker)
    wait_until(lambda: Progress(tmp_path / "run", config.uri).offset > 0)
    first = run_of(config, tmp_path / "run")
    client_of(config).create_run(first.info.experiment_id, tags={"astrid.run_uid": tracker.journal.started.uid})
    assert tracker.close("FINISHED")
    assert assert_mirrored(config, tmp_path / "run").info.run_id == first.info.run_id


def test_two_runs_at_once_in_one_process_stay_apart(config: TrackingConfig, tmp_path: Path) -> None:
    trackers = [start(config, tmp_path / f"run-{number}") for number in range(2)]
    for tracker in trackers:
        report(tracker)
    assert all(tracker.close("FINISHED") for tracker in trackers)
    runs = [assert_mirrored(config, tmp_path / f"run-{number}") for number in range(2)]
    assert runs[0].info.run_id != runs[1].info.run_id


@settings(deadline=None)
@given(st.text(st.sampled_from("ab0_-.:/ @(),>\n"), max_size=8))
def test_a_name_is_accepted_only_if_mlflow_accepts_it(name: str) -> None:
    assert not accepts(name) or mlflow_accepts(name)


@pytest.mark.parametrize("name", ["val/loss", "a-b_0.1:c d"])
def test_ordinary_names_are_accepted(name: str) -> None:
    assert accepts(name) and mlflow_accepts(name)


def accepts(name: str) -> bool:
    try:
        check_name("metric", name)
    except ValueError:
        return False
    return True


def mlflow_accepts(name: str) -> bool:
    from mlflow.exceptions import MlflowException
    from mlflow.utils.validation import _validate_metric_name

    try:
        _validate_metric_name(name)
    except MlflowException:
        return False
    return True


@pytest.mark.slow
def test_four_processes_on_a_fresh_database_all_succeed(tmp_path: Path) -> None:
    program = f"""
        import sys
        from pathlib import Path
        from astrid.config import TrackingConfig
        from astrid.tracking import open_tracker
        config = TrackingConfig(uri="sqlite:///{tmp_path}/new/mlflow.db")
        name = sys.argv[1]
        tracker = open_tracker(config, Path("{tmp_path}") / name, name=name, params={{"a": "1"}}, tags={{}})
        for epoch in range(5):
            tracker.metrics({{"val/loss": 0.5}}, step=epoch)
        sys.exit(not tracker.close("FINISHED", wait_seconds=120))
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    processes = [subprocess.Popen([*command, f"run-{number}"], cwd=tmp_path) for number in range(4)]
    assert [process.wait(timeout=180) for process in processes] == [0, 0, 0, 0]
    client = client_of(TrackingConfig(uri=f"sqlite:///{tmp_path}/new/mlflow.db"))
    runs = client.search_runs([client.get_experiment_by_name("astrid").experiment_id])
    assert sorted(run.info.run_name for run in runs) == ["run-0", "run-1", "run-2", "run-3"]
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert all(len(client.get_metric_history(run.info.run_id, "val/loss")) == 5 for run in runs)


def test_a_driver_that_is_not_installed_is_named_with_its_remedy(tmp_path: Path) -> None:
    config = TrackingConfig(uri="mysql://me@host/db", artifacts=str(tmp_path / "artifacts"))
    Journal.create(tmp_path / "run", name="unet", experiment="astrid").write_end("FINISHED")
    with pytest.raises(ShippingError, match=r"mysql://me@host/db: No module named .*; install the database's driver"):
        sync(tmp_path / "run", config)


def test_a_run_that_was_deleted_in_mlflow_is_said_to_be_so(tmp_path: Path) -> None:
    config = TrackingConfig(uri=f"sqlite:///{tmp_path}/mlflow.db")
    tracker = start(config, tmp_path / "run")
    tracker.close("FINISHED")
    client_of(config).delete_run(run_of(config, tmp_path / "run").info.run_id)
    with pytest.raises(RunDeletedError, match="was deleted in MLflow; restore it there"):
        sync(tmp_path / "run", config)
