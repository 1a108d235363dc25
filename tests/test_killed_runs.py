"""A run that is killed, or whose disk is full, loses nothing that it reported and doubles nothing."""

from __future__ import annotations

import errno
import random
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import Literal

import pytest
from mirrored_runs import MLFLOW_WARNINGS, patient_mlflow
from mlflow_servers import assert_holds_the_journal, points_of

from astrid.checkpoint import load_checkpoint
from astrid.config import RunError, TrackingConfig
from astrid.config.compose import load
from astrid.experiment import run_experiment
from astrid.tracking import Journal, Tracker, open_tracker, sync
from astrid.tracking import journal as journal_module
from astrid.tracking.owner import this_process
from astrid.tracking.records import Attached, Metrics, read_records

pytestmark = MLFLOW_WARNINGS


@pytest.fixture(autouse=True)
def patient() -> Iterator[None]:
    with patient_mlflow():
        yield


def sqlite(folder: Path) -> TrackingConfig:
    return TrackingConfig(uri=f"sqlite:///{folder}/mlflow.db")


REPORTER = """
    import sys, time
    from pathlib import Path
    from astrid.config import TrackingConfig
    from astrid.tracking import open_tracker
    folder, first, value, backend, uri = sys.argv[1:]
    config = TrackingConfig(backend=backend, uri=uri)
    resume = (Path(folder) / "journal.jsonl").exists()
    tracker = open_tracker(config, Path(folder), name="unet", params={"a": "1"}, tags={}, resume=resume)
    for step in range(int(first), 10**9):
        tracker.metrics({"train/loss": float(value), "val/auprc": step / 7}, step=step)
        print(step, flush=True)
        time.sleep(0.001)
"""


def told_points(run_dir: Path) -> list[tuple[str, int]]:
    records = [record for record, _ in read_records(run_dir / "journal.jsonl") if isinstance(record, Metrics)]
    return [(name, record.step) for record in records for name in record.values]


def kill_often(run_dir: Path, *, times: int, config: TrackingConfig, longest_seconds: float) -> int:
    """Start a run, kill it at a random moment, go on with it, again and again; return the last step it reported."""
    rng = random.Random(0)
    last = 0
    for attempt in range(times):
        arguments = [str(run_dir), str(max(0, last - 3)), str(attempt), config.backend, config.uri]
        command = [sys.executable, "-c", textwrap.dedent(REPORTER), *arguments]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            printed = [child.stdout.readline()] if attempt < 2 else []  # later ones may die before they report
            time.sleep(rng.uniform(0, longest_seconds))
            child.kill()
            printed += child.stdout.readlines()
        steps = [int(line) for line in printed if line.endswith("\n")]
        points = told_points(run_dir)
        assert {("train/loss", step) for step in steps} <= set(points), "a point that was reported is lost"
        assert len(points) == len(set(points)), "a point is doubled"
        assert Journal.open(run_dir).status == "RUNNING"
        last = max(step for _, step in points)
    return last


def assert_killed_run_is_whole(run_dir: Path, config: TrackingConfig, last: int) -> None:
    sync(run_dir, config)
    assert assert_holds_the_journal(config, run_dir).info.status == "KILLED"
    tracker = open_tracker(config, run_dir, name="unet", params={"a": "1"}, tags={}, resume=True)
    tracker.metrics({"train/loss": 0.5, "val/auprc": 0.5}, step=last + 1)
    assert tracker.close("FINISHED", wait_seconds=60)
    assert assert_holds_the_journal(config, run_dir).info.status == "FINISHED"
    steps = [step for name, step, _, _ in points_of(config, run_dir) if name == "train/loss"]
    assert steps == list(range(last + 2))


def test_a_run_killed_again_and_again_loses_and_doubles_nothing(tmp_path: Path) -> None:
    last = kill_often(tmp_path / "run", times=4, config=TrackingConfig(backend="off"), longest_seconds=0.4)
    assert_killed_run_is_whole(tmp_path / "run", sqlite(tmp_path), last)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["off", "mlflow"])
def test_a_run_killed_ten_times_while_it_writes_and_sends_loses_and_doubles_nothing(
    tmp_path: Path, backend: Literal["off", "mlflow"]
) -> None:
    config = TrackingConfig(backend=backend, uri=sqlite(tmp_path).uri)
    longest_seconds = 1.0 if backend == "off" else 8.0  # importing MLflow takes seconds
    last = kill_often(tmp_path / "run", times=10, config=config, longest_seconds=longest_seconds)
    assert last > 50
    assert_killed_run_is_whole(tmp_path / "run", sqlite(tmp_path), last)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device that is always full")
def test_a_disk_that_is_full_stops_the_run_and_leaves_its_checkpoint(
    tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    epochs = count_epochs(monkeypatch)

    class FullAfterOneEpoch(FileIO):
        def write(self, data: bytes) -> int:  # type: ignore[override]
            if len(epochs) > 1:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(data)

    run_dir = tmp_path / "run"
    with monkeypatch.context() as patch:
        gone = Attached(socket.gethostname(), this_process().pid, process_started=1.0, time_ms=0)
        patch.setattr(journal_module, "this_process", lambda: gone)  # as if it had been a process of its own
        patch.setattr(journal_module, "FileIO", FullAfterOneEpoch)
        with pytest.raises(RunError, match=r"cannot write .*No space left on device; make room, then continue with"):
            run_experiment(load([*tiny, "tracking=off"]), run_dir=run_dir)
    assert load_checkpoint(run_dir / "checkpoints" / "last.pt")["progress"]["epoch"] == 2
    run_experiment(load([f"training.resume={run_dir}"]), run_dir=run_dir)
    assert Journal.open(run_dir).status == "FINISHED"
    assert [step for name, step in told_points(run_dir) if name == "train/loss"] == [1, 2]


def count_epochs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that grows by the number of each epoch when it is about to be reported."""
    epochs: list[int] = []
    original = Tracker.metrics

    def metrics(self: Tracker, values: dict[str, float], *, step: int) -> dict[str, float]:
        epochs.append(step)
        return original(self, values, step=step)

    monkeypatch.setattr(Tracker, "metrics", metrics)
    return epochs
