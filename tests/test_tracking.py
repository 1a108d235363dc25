"""A run is reported without waiting for MLflow, and without MLflow at all where tracking is off."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astrid.config import ConfigError, RunError, Stopped, TrackingConfig
from astrid.tracking import open_tracker, ui_command
from astrid.tracking.places import artifact_root, resolve_uri, without_password
from astrid.tracking.progress import FILE_NAME, Progress
from astrid.tracking.records import Artifact, Ended, Metrics, Params, Record, Tags, read_records
from astrid.tracking.shipper import BATCHED, LONGEST_GROUP, group

URI = "sqlite:///outputs/mlflow.db"
RECORDS: list[Record] = [Params({"a": "1"}), Tags({"b": "2"}), Metrics({"c": 3.0}, 0, 0), Artifact("d.png", "")]


def test_tracking_off_keeps_everything_in_the_run_folder_and_never_imports_mlflow(tmp_path: Path) -> None:
    program = f"""
        import sys
        from pathlib import Path
        from astrid.config import TrackingConfig
        from astrid.tracking import open_tracker
        off = TrackingConfig(backend="off")
        tracker = open_tracker(off, Path({str(tmp_path)!r}), name="run", params={{"a": "1"}}, tags={{}})
        tracker.dataset("simulated", digest="1234", source="simulated://")
        tracker.metrics({{"val/loss": 0.5}}, step=0)
        tracker.model(None, None, step=0)
        assert tracker.close("FINISHED")
        assert not [name for name in sys.modules if name.split(".")[0] in ("mlflow", "torch", "sqlalchemy")]
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True, timeout=60)
    kinds = [type(record).__name__ for record, _ in read_records(tmp_path / "journal.jsonl")]
    assert kinds == ["RunStarted", "Attached", "Params", "Tags", "Dataset", "Metrics", "Ended"]


def test_a_resumed_run_records_what_changed(tmp_path: Path) -> None:
    off = TrackingConfig(backend="off")
    open_tracker(off, tmp_path, name="run", params={"training.epochs": "10"}, tags={}).close("FINISHED")
    tracker = open_tracker(off, tmp_path, name="run", params={"training.epochs": "20"}, tags={}, resume=True)
    assert tracker.journal.params == {"training.epochs": "20"}
    assert tracker.journal.status == "RUNNING"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (None, "FINISHED"),
        (RunError("loss is nan"), "FAILED"),
        (ValueError("a bug"), "FAILED"),
        (Stopped("stopped by SIGTERM"), "KILLED"),
        (KeyboardInterrupt(), "KILLED"),
    ],
)
def test_a_run_says_how_it_ended(tmp_path: Path, error: BaseException | None, status: str) -> None:
    tracker = open_tracker(TrackingConfig(backend="off"), tmp_path, name="run", params={}, tags={})
    with suppress(type(error) if error else ()), tracker:
        if error is not None:
            raise error
    *_, (ended, _) = read_records(tmp_path / "journal.jsonl")
    assert isinstance(ended, Ended)
    assert ended.status == status
    assert (ended.reason or "") == (f"{type(error).__name__}: {error}" if error else "")


@given(st.lists(st.sampled_from(RECORDS), max_size=300))
def test_groups_keep_the_order_and_mix_nothing_that_mlflow_takes_alone(records: list[Record]) -> None:
    groups = list(group((record, 10 * place) for place, record in enumerate(records, start=1)))
    assert [record for gathered, _ in groups for record in gathered] == records
    assert [end for _, end in groups] == [
        10 * sum(len(some) for some, _ in groups[: i + 1]) for i in range(len(groups))
    ]
    for gathered, _ in groups:
        assert len(gathered) == 1 or all(isinstance(record, BATCHED) for record in gathered)
        assert len(gathered) <= LONGEST_GROUP


@given(st.lists(st.sampled_from(RECORDS[:3]), min_size=1, max_size=300))
def test_batched_records_are_sent_in_as_few_groups_as_fit(records: list[Record]) -> None:
    groups = list(group((record, place) for place, record in enumerate(records)))
    assert len(groups) == -(-len(records) // LONGEST_GROUP)


def test_progress_is_kept_apart_for_every_mlflow(tmp_path: Path) -> None:
    local, server = Progress(tmp_path, URI), Progress(tmp_path, "http://user:word@host:9003")
    local.restart("run-1")
    local.advance(100)
    server.restart("run-2")
    assert (Progress(tmp_path, URI).run_id, Progress(tmp_path, URI).offset) == ("run-1", 100)
    assert Progress(tmp_path, "http://host:9003").run_id == "run-2"
    assert "word" not in (tmp_path / FILE_NAME).read_text()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"sqlite:////nowhere": {"offset": 3}}'])
def test_damaged_progress_begins_again(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE_NAME).write_text(content)
    progress = Progress(tmp_path, URI)
    assert (progress.run_id, progress.offset) == (None, 0)
    progress.restart("run")
    assert "run" in json.dumps(json.loads((tmp_path / FILE_NAME).read_text()))


def test_places_are_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolve_uri(URI) == f"sqlite:///{tmp_path}/outputs/mlflow.db"
    assert artifact_root(TrackingConfig()) == f"file://{tmp_path}/outputs/artifacts"
    assert artifact_root(TrackingConfig(artifacts="elsewhere")) == f"file://{tmp_path}/elsewhere"
    assert artifact_root(TrackingConfig(artifacts="s3://bucket/prefix")) == "s3://bucket/prefix"
    assert artifact_root(TrackingConfig(uri="http://localhost:9003")) is None


def test_the_ui_command_opens_this_backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    command = ui_command(TrackingConfig())
    assert command is not None
    assert command.endswith(f"mlflow ui --backend-store-uri sqlite:///{tmp_path}/outputs/mlflow.db")
    assert ui_command(TrackingConfig(uri="http://me:secret@host:9003")) == "python -m webbrowser http://host:9003"
    assert ui_command(TrackingConfig(backend="off")) is None


@pytest.mark.parametrize("uri", [URI, "http://host:9003/path", "postgresql://host/db"])
def test_a_uri_without_a_password_is_shown_as_it_is(uri: str) -> None:
    assert without_password(uri) == uri


@pytest.mark.parametrize(
    ("knobs", "match"),
    [
        ({"uri": "mlruns"}, r"tracking\.uri.*sqlite:///outputs"),
        ({"uri": "file:///tmp/mlruns"}, r"tracking\.uri"),
        ({"uri": "sqlite://outputs/mlflow.db"}, r"tracking\.uri"),
        ({"uri": "http:/host"}, r"tracking\.uri"),
        ({"uri": "postgresql://host/db"}, r"tracking\.artifacts.*try outputs/artifacts"),
        ({"experiment": " "}, r"tracking\.experiment"),
    ],
)
def test_a_backend_that_cannot_work_is_refused(knobs: dict[str, str], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        TrackingConfig(**knobs)  # type: ignore[arg-type]


def test_a_database_with_its_driver_is_known() -> None:
    assert TrackingConfig(uri="postgresql+psycopg2://host/db", artifacts="s3://bucket").scheme == "postgresql"
