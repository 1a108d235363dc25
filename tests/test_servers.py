"""Whatever happens to the server, or to the run, MLflow ends up holding the run, once; and the run is not held up."""

from __future__ import annotations

import shutil
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
from mirrored_runs import (
    MLFLOW_WARNINGS,
    assert_mirrored,
    client_of,
    patient_mlflow,
    report,
    run_of,
    start,
    wait_until,
)
from mlflow_servers import STORE, MlflowServer, free_port, postgresql, running

from astrid.config import TrackingConfig
from astrid.tracking import Journal, ShippingError, Tracker, sync
from astrid.tracking import shipper as shipper_module
from astrid.tracking.progress import Progress
from astrid.tracking.shipper import PATIENCE_SECONDS, Shipper

pytestmark = MLFLOW_WARNINGS


@pytest.fixture(scope="module", autouse=True)
def patient() -> Iterator[None]:
    with patient_mlflow():
        yield


@dataclass
class Created:
    """A database, and the ids of its experiment that those who needed it at once were given."""

    path: Path
    experiments: list[str]


@pytest.fixture(scope="module")
def created(tmp_path_factory: pytest.TempPathFactory) -> Created:
    from astrid.tracking.mlflow_sink import open_experiment, open_store

    config = sqlite(tmp_path_factory.mktemp("mlflow"))
    with ThreadPoolExecutor(4) as pool:
        experiments = list(pool.map(lambda _: open_experiment(open_store(config.uri), config), range(4)))
    return Created(Path(config.uri.removeprefix("sqlite:///")), experiments)


def sqlite(folder: Path) -> TrackingConfig:
    return TrackingConfig(uri=f"sqlite:///{folder}/mlflow.db")


# What the end of a run waits for


class Clock:
    """A clock that is a second on with every look at it, and lets a server answer again at some time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.looks = 0
        self.answers_at: tuple[int, threading.Event] | None = None
        monkeypatch.setattr(shipper_module, "SAY_AFTER_SECONDS", 0.01)
        monkeypatch.setattr(shipper_module, "time", SimpleNamespace(monotonic=self.look))

    def look(self) -> float:
        self.looks += 1
        if self.answers_at is not None and self.looks >= self.answers_at[0]:
            self.answers_at[1].set()
        return float(self.looks)


def seconds_of_its_end(tracker: Tracker, clock: Clock) -> int:
    """Close a run that has met its dead server, and say how long it waited by that clock."""
    wait_until(lambda: bool(tracker.retried_uploads))
    begin = clock.looks
    assert not tracker.close("FINISHED")
    return clock.looks - begin


def test_a_dead_server_ends_a_run_soon_and_the_run_says_what_it_waits_for(
    created: Created, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO")
    clock = Clock(monkeypatch)
    dead = TrackingConfig(uri=f"http://127.0.0.1:{free_port()}")
    tracker = start(dead, tmp_path / "run")
    report(tracker)
    assert PATIENCE_SECONDS < seconds_of_its_end(tracker, clock) < 2 * PATIENCE_SECONDS
    assert f"waiting up to 30 s for MLflow at {dead.uri}" in caplog.text
    assert f"astrid sync {tmp_path / 'run'}" in caplog.text
    shutil.copy(created.path, tmp_path)
    sync(tmp_path / "run", sqlite(tmp_path))
    assert assert_mirrored(sqlite(tmp_path), tmp_path / "run").info.status == "FINISHED"


class HoldingSink:
    """Stands for a server that doesn't answer so often, then takes so much, and holds the rest until it is released."""

    uri = "http://holding"

    def __init__(self, *, failures: int = 0, takes: int = 0) -> None:
        self.failures, self.takes, self.sent, self.offset = failures, takes, 0, 0
        self.progress = self
        self.holds, self.released = threading.Event(), threading.Event()

    def connect(self) -> None:
        if self.failures:
            self.failures -= 1
            raise ShippingError("MLflow answers 500")

    def send(self, records: Sequence[object]) -> None:
        if self.sent >= self.takes:
            self.holds.set()
            self.released.wait(60)
        self.sent += len(records)

    def advance(self, offset: int) -> None:
        self.offset = offset


def shipper_of(sink: HoldingSink, folder: Path) -> Shipper:
    """Begin to send a journal of two records, of kinds that go one by one."""
    Journal.create(folder, name="unet", experiment="astrid")
    shipper = Shipper(sink, folder)  # type: ignore[arg-type]
    shipper.wake()
    return shipper


@pytest.mark.parametrize("failures", [0, 1])
def test_a_server_that_answers_late_is_waited_for_longer_than_one_that_does_not(
    tmp_path: Path, failures: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shipper_module, "FIRST_PAUSE_SECONDS", 0.01)
    sink = HoldingSink(failures=failures)
    sink.released.set()
    shipper = shipper_of(sink, tmp_path)
    wait_until(lambda: sink.sent == 2 and shipper._failure is None)
    assert shipper.failed_attempts == failures
    sink.released.clear()
    Journal.open(tmp_path).write_tags({"a": "late one"})
    Clock(monkeypatch).answers_at = (3 * int(PATIENCE_SECONDS), sink.released)
    assert shipper.close(wait_seconds=600)  # which are as many looks at the clock
    assert sink.sent == 3


def test_a_server_that_is_back_is_waited_for_while_it_takes_what_it_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shipper_module, "FIRST_PAUSE_SECONDS", 0.01)
    clock, sink = Clock(monkeypatch), HoldingSink(failures=1, takes=1)
    shipper = shipper_of(sink, tmp_path)
    assert sink.holds.wait(60)
    assert sink.sent == shipper.failed_attempts == 1
    clock.answers_at = (clock.looks + 3 * int(PATIENCE_SECONDS), sink.released)
    assert shipper.close(wait_seconds=600)  # which are as many looks at the clock
    assert sink.sent == 2


def test_the_end_of_a_run_waits_no_longer_than_until_all_is_sent(tmp_path: Path) -> None:
    sink = HoldingSink()
    sink.released.set()
    shipper = shipper_of(sink, tmp_path)
    assert shipper.close(wait_seconds=60)
    assert not shipper._thread.is_alive()  # else the whole time was waited for


def test_the_wait_never_exceeds_the_configured_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sink = HoldingSink()
    assert not shipper_of(sink, tmp_path).close(wait_seconds=0.2)
    assert sink.sent == 0
    assert "needs more than 0.2 s" in caplog.text
    sink.released.set()


def test_a_run_that_gave_up_sends_no_more_beside_a_sync(tmp_path: Path) -> None:
    sink = HoldingSink()
    shipper = shipper_of(sink, tmp_path)
    assert sink.holds.wait(60)
    assert not shipper.close(wait_seconds=0.1)
    sink.released.set()
    shipper._thread.join(60)
    assert sink.sent == 1, "only what was under way"


def test_the_note_of_what_was_sent_may_be_written_by_two_at_once(tmp_path: Path) -> None:
    notes = [Progress(tmp_path, "http://server") for _ in range(2)]

    def write(note: Progress) -> None:
        for offset in range(300):
            note.advance(offset)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, notes))
    assert Progress(tmp_path, "http://server").offset == 299
    assert [path.name for path in tmp_path.iterdir()] == ["shipped.json"]


def test_the_knob_bounds_the_wait_of_a_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO")
    clock = Clock(monkeypatch)
    tracker = start(TrackingConfig(uri=f"http://127.0.0.1:{free_port()}", wait_seconds=2), tmp_path / "run")
    assert seconds_of_its_end(tracker, clock) < PATIENCE_SECONDS
    assert "waiting up to 2 s" in caplog.text


# Many runs at once


def test_a_fresh_database_is_created_once_by_all_who_need_it(created: Created) -> None:
    assert len(created.experiments) == 4
    assert len(set(created.experiments)) == 1


WRITER = """
    import sys, time
    from pathlib import Path
    from astrid.config import TrackingConfig
    from mirrored_runs import report, start
    import mlflow
    folder, number, uri = sys.argv[1:]
    print("ready", flush=True)
    while not (Path(folder) / "go").exists():
        time.sleep(0.001)
    tracker = start(TrackingConfig(uri=uri), Path(folder) / f"run-{number}")
    report(tracker, epochs=range(20))
    sys.exit(not tracker.close("FINISHED", wait_seconds=300))
"""


def run_eight_together(config: TrackingConfig, folder: Path) -> list[str]:
    """Start eight runs in the same instant, see all of each in MLflow, and return what they came to."""
    tests = Path(__file__).parent
    with ExitStack() as stack:
        command = [sys.executable, "-c", textwrap.dedent(WRITER), str(folder)]
        children = [
            stack.enter_context(
                subprocess.Popen([*command, str(number), config.uri], cwd=tests, stdout=subprocess.PIPE)
            )
            for number in range(8)
        ]
        assert [child.stdout.readline() for child in children if child.stdout] == [b"ready\n"] * 8
        (folder / "go").touch()
        assert [child.wait(timeout=400) for child in children] == [0] * 8
    runs = [assert_mirrored(config, folder / f"run-{number}") for number in range(8)]
    assert len(client_of(config).search_runs([runs[0].info.experiment_id])) == 8
    return [run.info.status for run in runs]


@pytest.mark.slow
def test_eight_runs_started_together_on_a_fresh_database_lose_nothing(tmp_path: Path) -> None:
    assert run_eight_together(sqlite(tmp_path), tmp_path) == ["FINISHED"] * 8


@pytest.mark.slow
def test_eight_runs_started_together_on_a_server_with_postgresql_lose_nothing(tmp_path: Path) -> None:
    with postgresql() as store, running(MlflowServer(tmp_path, store=store)) as server:
        assert run_eight_together(TrackingConfig(uri=server.uri), tmp_path) == ["FINISHED"] * 8


# A server that asks who is there


@pytest.mark.slow
def test_a_server_with_basic_auth_takes_a_run_from_those_it_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("flask_wtf", reason="MLflow's basic-auth app needs Flask-WTF")
    password = "correct horse battery"
    env = {"MLFLOW_AUTH_ADMIN_PASSWORD": password, "MLFLOW_FLASK_SERVER_SECRET_KEY": "only-for-this-test"}
    auth = ("--app-name", "basic-auth")
    with running(MlflowServer(tmp_path, store=STORE, options=auth, env=env)) as server:
        config = TrackingConfig(uri=server.uri, wait_seconds=10)
        tracker = start(config, tmp_path / "run")
        report(tracker)
        assert not tracker.close("FINISHED")
        assert "not authenticated" in caplog.text
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)
        sync(tmp_path / "run", config)
        assert assert_mirrored(config, tmp_path / "run").info.status == "FINISHED"
        assert run_of(config, tmp_path / "run").info.run_name == "unet-d3"
    assert password not in (tmp_path / "run" / "journal.jsonl").read_text() + caplog.text
