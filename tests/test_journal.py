"""The journal keeps what it was told, whatever cuts a run short."""

from __future__ import annotations

import dataclasses
import errno
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from io import FileIO
from pathlib import Path

import psutil
import pytest

from astrid.config import DataError, RunError
from astrid.tracking import journal as journal_module
from astrid.tracking.journal import FILE_NAME, Journal, StillRunning
from astrid.tracking.owner import is_alive, this_process
from astrid.tracking.records import (
    Artifact,
    Attached,
    Dataset,
    Ended,
    Metrics,
    Model,
    ParamChanged,
    Params,
    Record,
    RunStarted,
    Tags,
    decode,
    encode,
    read_records,
)

EXAMPLES: list[Record] = [
    RunStarted("0af", "unet-d3", "astrid", 1),
    Attached("host", 12, 3.5, 4),
    Params({"model.depth": "3"}),
    ParamChanged("training.epochs", "10", "20"),
    Tags({"git.branch": "main", "läßt": "größer\n"}),
    Metrics({"val/loss": 0.1 + 0.2, "val/auprc": 1e-300}, 3, 1_700_000_000_000),
    Artifact("figures/roc.png", "figures"),
    Dataset("simulated", "ab" * 18, "simulated://", "training"),
    Model("1b", "model-3", 3),
    Ended("FAILED", None, 5),
]


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal.create(tmp_path / "run", name="unet", experiment="astrid")


def records_of(journal: Journal) -> list[Record]:
    return [record for record, _ in read_records(journal.path)]


def points_of(journal: Journal) -> list[tuple[str, float, int]]:
    metrics = [record for record in records_of(journal) if isinstance(record, Metrics)]
    return [(name, value, record.step) for record in metrics for name, value in record.values.items()]


@pytest.fixture
def killed_process() -> Iterator[Attached]:
    """A process that was killed and that nobody has waited for."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    process = psutil.Process(child.pid)
    owner = Attached(socket.gethostname(), child.pid, process.create_time(), time_ms=0)
    assert is_alive(owner)
    child.kill()
    while process.status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    yield owner
    child.communicate()


@pytest.mark.parametrize("record", EXAMPLES, ids=lambda record: type(record).__name__)
def test_every_record_survives_the_journal(record: Record) -> None:
    line = encode(record)
    assert decode(line) == record
    assert line.count(b"\n") == 1


def test_a_run_folder_belongs_to_one_run(journal: Journal) -> None:
    with pytest.raises(DataError, match=r"already holds a run.*training.resume="):
        Journal.create(journal.run_dir, name="other", experiment="astrid")


def test_a_journal_cut_at_any_byte_keeps_its_whole_lines_and_goes_on(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal.write_params({"model.depth": "3"})
    journal.write_metrics({"val/loss": 0.5, "val/auprc": 0.7}, step=0)
    journal.write_metrics({"val/loss": 0.25, "val/auprc": 0.8}, step=1)
    whole = journal.path.read_bytes()
    known = list(read_records(journal.path))
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    for cut in range(known[1][1], len(whole) + 1):
        run_dir = tmp_path / f"cut-{cut}"
        run_dir.mkdir()
        (run_dir / FILE_NAME).write_bytes(whole[:cut])
        resumed = Journal.open(run_dir)
        assert records_of(resumed) == [record for record, end in known if end <= cut]
        resumed.write_tags({"resumed": "yes"})
        resumed.write_metrics({"val/loss": 0.25, "val/auprc": 0.8}, step=1)
        kept = [record for record, end in known if end <= cut]
        assert records_of(resumed)[: len(kept) + 1] == [*kept, Tags({"resumed": "yes"})]
        last = [point for point in points_of(Journal.open(run_dir)) if point[2] == 1]
        assert last == [("val/loss", 0.25, 1), ("val/auprc", 0.8, 1)]


def test_a_point_is_recorded_once_and_keeps_its_first_value(journal: Journal) -> None:
    journal.write_metrics({"val/loss": 0.5}, step=3)
    journal.write_metrics({"val/loss": 0.4, "val/auprc": 0.9}, step=3)
    resumed = Journal.open(journal.run_dir)
    resumed.write_metrics({"val/loss": 0.3, "val/auprc": 0.8}, step=3)
    resumed.write_metrics({"val/loss": 0.3}, step=4)
    assert points_of(resumed) == [("val/loss", 0.5, 3), ("val/auprc", 0.9, 3), ("val/loss", 0.3, 4)]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_value_that_is_no_number_is_left_out_and_said(
    journal: Journal, value: float, caplog: pytest.LogCaptureFixture
) -> None:
    journal.write_metrics({"val/loss": value, "val/auprc": 0.5}, step=2)
    assert points_of(journal) == [("val/auprc", 0.5, 2)]
    assert "val/loss" in caplog.text
    assert "step 2" in caplog.text


@pytest.mark.parametrize(
    "name", ["loss@1", "a(b", "a)b", "a>b", "a,b", "/a", "a//b", "a/", "../a", ".", "", "a\n", "a" * 251]
)
def test_a_name_that_mlflow_refuses_is_refused_at_once(journal: Journal, name: str) -> None:
    with pytest.raises(ValueError, match="metric name"):
        journal.write_metrics({name: 1.0}, step=0)
    with pytest.raises(ValueError, match="parameter name"):
        journal.write_params({name: "1"})


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device that is always full")
def test_a_full_disk_stops_the_run_and_spoils_nothing(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    journal.write_metrics({"val/loss": 0.5}, step=0)
    with monkeypatch.context() as patch:
        patch.setattr(journal_module, "FileIO", lambda path, mode: FileIO("/dev/full", "w"))
        with pytest.raises(RunError, match=r"journal\.jsonl.*No space left.*make room"):
            journal.write_metrics({"val/loss": 0.4}, step=1)
    journal.write_metrics({"val/loss": 0.4}, step=1)
    assert points_of(journal) == [("val/loss", 0.5, 0), ("val/loss", 0.4, 1)]


def test_a_line_that_only_half_fitted_spoils_nothing(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    class NearlyFull(FileIO):
        room = 20

        def write(self, data: bytes) -> int:  # type: ignore[override]
            if not self.room:
                raise OSError(errno.ENOSPC, "No space left on device")
            written = super().write(data[: self.room])
            self.room -= written
            return written

    with monkeypatch.context() as patch:
        patch.setattr(journal_module, "FileIO", NearlyFull)
        with pytest.raises(RunError):
            journal.write_tags({"half": "written" * 5})
    assert not journal.path.read_bytes().endswith(b"\n")
    journal.write_tags({"whole": "again"})
    assert records_of(journal)[-1] == Tags({"whole": "again"})


def test_a_changed_parameter_is_recorded_with_both_values(journal: Journal) -> None:
    journal.write_params({"training.epochs": "10", "model.depth": "3"})
    for epochs in ("20", "20", "10"):
        resumed = Journal.open(journal.run_dir)
        resumed.write_params({"training.epochs": epochs, "model.depth": "3"})
    changes = [record for record in records_of(journal) if isinstance(record, ParamChanged)]
    assert changes == [ParamChanged("training.epochs", "10", "20"), ParamChanged("training.epochs", "20", "10")]


def test_a_run_that_is_still_going_cant_be_taken_over(journal: Journal) -> None:
    with pytest.raises(DataError, match="still being written by process"):
        Journal.open(journal.run_dir).attach()


def test_a_killed_run_is_ended_as_killed_and_goes_on(
    tmp_path: Path, killed_process: Attached, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(journal_module, "this_process", lambda: killed_process)
        killed = Journal.create(tmp_path, name="unet", experiment="astrid")
    resumed = Journal.open(tmp_path)
    assert resumed.status == "RUNNING"
    resumed.attach()
    _, first, ended, second = records_of(killed)
    assert first == killed_process
    assert isinstance(ended, Ended)
    assert ended.status == "KILLED"
    assert isinstance(second, Attached)
    assert second.pid == this_process().pid


def test_an_ended_run_can_go_on(journal: Journal) -> None:
    journal.write_end("FINISHED")
    assert Journal.open(journal.run_dir).status == "FINISHED"
    resumed = Journal.open(journal.run_dir)
    resumed.attach()
    assert Journal.open(journal.run_dir).status == "RUNNING"


def test_a_process_of_another_host_is_neither_dead_nor_alive() -> None:
    assert is_alive(this_process())
    assert is_alive(Attached("another-host", 1, 0.0, 0)) is None


def test_a_number_that_another_process_got_later_is_not_the_same_process() -> None:
    mine = this_process()
    assert not is_alive(Attached(mine.host, mine.pid, mine.process_started - 60, 0))


@pytest.mark.parametrize(("content", "match"), [(None, "missing"), (b"", "which run"), (b'{"kind": "ru', "which run")])
def test_a_folder_without_a_run_is_refused(tmp_path: Path, content: bytes | None, match: str) -> None:
    if content is not None:
        (tmp_path / FILE_NAME).write_bytes(content)
    with pytest.raises(DataError, match=match):
        Journal.open(tmp_path)


def test_a_file_outside_the_run_folder_is_no_artifact(journal: Journal, tmp_path: Path) -> None:
    journal.write_artifact(Path("figures/roc.png"), folder="figures")
    journal.write_artifact(journal.run_dir / "config.yaml")
    assert records_of(journal)[-2:] == [Artifact("figures/roc.png", "figures"), Artifact("config.yaml", "")]
    with pytest.raises(ValueError, match="elsewhere"):
        journal.write_artifact(tmp_path / "elsewhere.png")


def test_the_first_value_of_a_point_is_the_one_on_record(tmp_path: Path) -> None:
    journal = Journal.create(tmp_path / "run", name="unet", experiment="astrid")
    journal.write_metrics({"latency/p50_ms": 2.0, "test/auprc": 0.5}, step=3)
    again = Journal.open(tmp_path / "run")
    again.write_metrics({"latency/p50_ms": 9.0, "test/auprc": 0.5, "test/ece": 0.1}, step=3)
    names = ["latency/p50_ms", "test/auprc", "test/ece", "never"]
    assert again.recorded(names, step=3) == {"latency/p50_ms": 2.0, "test/auprc": 0.5, "test/ece": 0.1}
    assert again.recorded(names, step=2) == {}


def test_of_two_processes_that_take_up_a_killed_run_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = dataclasses.replace(this_process(), pid=2**22 + 1)
    with monkeypatch.context() as patch:
        patch.setattr(journal_module, "this_process", lambda: dead)
        Journal.create(tmp_path / "run", name="unet", experiment="astrid")
    one, two = Journal.open(tmp_path / "run"), Journal.open(tmp_path / "run")  # both see the same dead owner
    one.attach()
    with pytest.raises(StillRunning, match="is still being written by process"):
        two.attach()
    one.write_metrics({"val/loss": 0.5}, step=2)
    with pytest.raises(StillRunning):
        two.end_if_killed()
