"""`astrid doctor` says what is wrong before a run meets it, and leaves nothing behind."""

from __future__ import annotations

import shutil
import socket
import sqlite3
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from mirrored_runs import MLFLOW_WARNINGS, asking
from mlflow_servers import free_port

from astrid import doctor
from astrid.cli import main
from astrid.commands.doctor import as_line
from astrid.config import TrackingConfig
from astrid.doctor import Finding, examine_disk, examine_torch
from astrid.tracking import ShippingError, probe

pytestmark = [*MLFLOW_WARNINGS, pytest.mark.usefixtures("patient")]


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine MLflow may need longer than the doctor waits for it."""
    monkeypatch.setattr(probe, "LONGEST_SECONDS", 60.0)


def diagnose(capsys: pytest.CaptureFixture[str], *overrides: str) -> tuple[int, dict[str, str]]:
    """Run the command; return its exit code and, by what was looked at, the lines."""
    code = main(["doctor", "energy=off", *overrides])
    *lines, _ = capsys.readouterr().out.splitlines()
    return code, {line[10:24].strip(): line for line in lines}


@pytest.fixture(scope="module")
def created(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database that holds one experiment, `old`."""
    from astrid.tracking.mlflow_sink import open_experiment, open_store

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    config = TrackingConfig(uri=f"sqlite:///{path}", experiment="old")
    open_experiment(open_store(config.uri), config)
    return path


def test_a_machine_that_can_run_gets_a_line_for_each_thing_and_exit_code_0(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, lines = diagnose(capsys, f"tracking.uri=sqlite:///{tmp_path}/new/mlflow.db", "training.precision=fp32")
    assert code == 0
    looked_at = "Python torch device CUDA precision NVML RAPL MLflow:backend artifact:store disk data"
    assert list(lines) == [name.replace(":", " ") for name in looked_at.split()]
    assert {line.split()[0] for line in lines.values()} <= {"ok", "optional"}
    assert "fp32 (fp32)" in lines["precision"]
    assert list(tmp_path.iterdir()) == [], "the doctor created something"


@pytest.mark.parametrize("experiment", ["old", "new"])
def test_an_mlflow_that_was_written_to_holds_exactly_what_it_held(
    created: Path, experiment: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with sqlite3.connect(created) as database:
        before = list(database.iterdump())
        code, lines = diagnose(capsys, f"tracking.uri=sqlite:///{created}", f"tracking.experiment={experiment}")
        assert code == 0
        assert experiment in lines["MLflow backend"]
        assert list(database.iterdump()) == before
    database.close()


def test_a_database_that_cannot_be_written_is_red(
    created: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(created, tmp_path)
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        database.execute("CREATE TRIGGER full BEFORE INSERT ON experiment_tags BEGIN SELECT RAISE(FAIL, 'full'); END")
    database.close()
    code, lines = diagnose(capsys, f"tracking.uri=sqlite:///{tmp_path}/mlflow.db", "tracking.experiment=old")
    assert code == 1
    assert lines["MLflow backend"].startswith("red")
    assert "choose another file with tracking.uri=" in lines["MLflow backend"]


def test_a_folder_that_cannot_be_written_is_red(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    code, lines = diagnose(
        capsys, f"tracking.uri=sqlite:///{tmp_path}/file/mlflow.db", f"tracking.artifacts={tmp_path}/file/artifacts"
    )
    assert code == 1
    assert lines["MLflow backend"].startswith("red")
    assert lines["artifact store"].startswith("red")
    assert "tracking.artifacts=FOLDER" in lines["artifact store"]


def test_a_dead_server_is_named_after_one_attempt_with_what_starts_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # as in a run
    uri = f"http://127.0.0.1:{free_port()}"
    with asking() as askers:
        code, lines = diagnose(capsys, "tracking=server", f"tracking.uri={uri}")
    assert len(askers) == 1
    assert code == 1
    assert uri in lines["MLflow backend"]
    assert "make mlflow-server" in lines["MLflow backend"]
    assert lines["artifact store"].startswith("ok")


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of a server that accepts and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_a_server_that_hangs_is_given_up_after_the_time_out_of_the_doctor(
    silent: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert probe.HASTE["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "5"
    monkeypatch.setitem(probe.HASTE, "MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
    code, lines = diagnose(capsys, "tracking=server", f"tracking.uri=http://127.0.0.1:{silent}")
    assert code == 1
    assert "(read timeout=1)" in lines["MLflow backend"]


def test_a_driver_that_knows_no_limit_is_left_behind() -> None:
    done = threading.Event()
    with pytest.raises(ShippingError, match=r"MLflow at postgresql://host/db has not answered within 0\.1 s"):
        config = TrackingConfig(uri="postgresql://user:pass@host/db", artifacts="artifacts")
        probe._within(0.1, lambda: str(done.wait()), config)
    done.set()


class Porter(BaseHTTPRequestHandler):
    """Lets nobody in, and notes who asked."""

    asked: ClassVar[list[str | None]] = []

    def do_GET(self) -> None:
        self.asked.append(self.headers["Authorization"])
        self.send_response(401)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *words: object) -> None:
        """Stay quiet."""


def test_a_server_that_wants_a_password_is_told_who_asks_and_the_remedy_says_how(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with HTTPServer(("127.0.0.1", 0), Porter) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        override = f"tracking.uri=http://127.0.0.1:{http.server_port}"
        _, first = diagnose(capsys, "tracking=server", override)
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ada")
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "engine")
        _, second = diagnose(capsys, "tracking=server", override)
        http.shutdown()
        thread.join()
    assert "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD" in first["MLflow backend"]
    assert Porter.asked == [None, "Basic YWRhOmVuZ2luZQ=="]
    assert "engine" not in second["MLflow backend"]


def test_a_bucket_without_credentials_is_red(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    uri = f"tracking.uri=http://127.0.0.1:{free_port()}"
    code, lines = diagnose(capsys, "tracking=server", uri, "tracking.artifacts=s3://bucket/runs")
    assert code == 1
    assert lines["artifact store"].startswith("red")
    assert "export AWS_ACCESS_KEY_ID" in lines["artifact store"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_gpu_that_is_asked_for_and_absent_is_red(capsys: pytest.CaptureFixture[str]) -> None:
    code, lines = diagnose(capsys, "tracking=off", "training.device=cuda")
    assert code == 1
    assert lines["device"].endswith("without a CUDA device; try cpu")
    assert lines["CUDA"].startswith("optional")
    assert "precision" not in lines


def test_sample_data_is_optional_but_frames_that_were_asked_for_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ASTRID_DATA", str(tmp_path / "nowhere"))
    code, lines = diagnose(capsys, "tracking=off")
    assert (code, lines["data"].split()[0]) == (0, "optional")
    assert "ASTRID_DATA" in lines["data"]
    frames = ("data=frames", f"data.root={tmp_path}", f"data.manifest={tmp_path}/frames.csv")
    code, lines = diagnose(capsys, "tracking=off", *frames)
    assert (code, lines["data"].split()[0]) == (1, "red")
    (tmp_path / "frames.csv").touch()
    code, lines = diagnose(capsys, "tracking=off", *frames)
    assert (code, lines["data"].split()[0]) == (0, "ok")
    for name, expected in (("nowhere.avro", (1, "red")), ("frames.csv", (0, "ok"))):
        code, lines = diagnose(capsys, "tracking=off", "data=alerts", f"data.packets={tmp_path}/{name}")
        assert (code, lines["data"].split()[0]) == expected


def test_a_disk_that_is_nearly_full_is_red(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert examine_disk(tmp_path / "outputs").state == ("ok" if shutil.disk_usage(tmp_path).free > 2e9 else "red")
    monkeypatch.setattr(doctor, "NEEDED_GB", 1e9)
    finding = examine_disk(tmp_path / "outputs")
    assert finding.state == "red"
    assert "make room" in finding.remedy


def test_a_torch_that_cannot_be_imported_is_red(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert examine_torch().state == "red"


def test_a_mistyped_override_is_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "tracking.url=x"]) == 2
    assert "tracking.uri" in capsys.readouterr().err


def test_a_line_says_in_a_word_what_its_colour_says_and_stays_one_line() -> None:
    finding = Finding("disk", "red", "0.1 GB free\nin outputs", "make room")
    assert as_line(finding, coloured=False) == "red       disk            0.1 GB free in outputs; make room"
    assert "\033[31mred" in as_line(finding, coloured=True)
