"""Training is not held up by a tracking server in trouble, which gets everything in the end.

All of it takes a real server and a real training, so all of it is slow; `test_shipper.py` has the short variants.
"""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from mirrored_runs import MLFLOW_WARNINGS, asking, patient_mlflow
from mlflow_servers import STORE, MlflowServer, Trouble, assert_holds_the_journal, points_of, running

from astrid.config import TrackingConfig
from astrid.config.compose import load
from astrid.experiment import run_experiment
from astrid.tracking import Journal, Tracker, sync
from astrid.tracking.shipper import MLFLOW_DEFAULTS

pytestmark = [*MLFLOW_WARNINGS, pytest.mark.slow]


@pytest.fixture
def as_in_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow gives up after as long as it does in a run."""
    for name, value in MLFLOW_DEFAULTS.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    with running(MlflowServer(tmp_path_factory.mktemp("server"), store=STORE)) as server:
        yield server


class Course:
    """What happens beside a run, just before the report of an epoch; and whether its end found everything sent."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, events: dict[int, Callable[[], None]]) -> None:
        self.complete = False
        report, close = Tracker.metrics, Tracker.close

        def reported(tracker: Tracker, values: Mapping[str, float], *, step: int) -> dict[str, float]:
            events.pop(step, lambda: None)()
            return report(tracker, values, step=step)

        def closed(tracker: Tracker, *arguments: Any, **options: Any) -> bool:
            self.complete = close(tracker, *arguments, **options)
            return self.complete

        monkeypatch.setattr(Tracker, "metrics", reported)
        monkeypatch.setattr(Tracker, "close", closed)


def train_long(tiny: list[str], uri: str, run_dir: Path) -> TrackingConfig:
    config = load([*tiny, "training.epochs=12", f"tracking.uri={uri}"])
    run_experiment(config, run_dir=run_dir)
    return config.tracking


def scores(config: TrackingConfig, run_dir: Path) -> list[tuple[str, int, float]]:
    """Points that don't depend on the clock."""
    points = [(name, step, value) for name, step, value, _ in points_of(config, run_dir)]
    return [point for point in points if re.match(r"(train/loss|val/(?!seconds)|test/(?!seconds))", point[0])]


@pytest.fixture(scope="module")
def undisturbed(tiny: list[str], tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, int, float]]:
    """What MLflow holds of a run that nothing happened to."""
    folder = tmp_path_factory.mktemp("undisturbed")
    with patient_mlflow():
        config = train_long(tiny, f"sqlite:///{folder}/mlflow.db", folder / "run")
        assert_holds_the_journal(config, folder / "run")
        return scores(config, folder / "run")


@pytest.mark.usefixtures("as_in_a_run")
@pytest.mark.parametrize("kind", ["killed", "paused", "slow", "500", "back"])
def test_training_is_not_held_up_by_a_server_in_trouble_which_gets_everything_in_the_end(
    kind: str,
    server: MlflowServer,
    undisturbed: list[tuple[str, int, float]],
    tiny: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    restart = threading.Thread(target=server.start)
    with Trouble(server.port) as proxy:
        begin, end = {
            "killed": (server.kill, server.start),
            "paused": (lambda: server.signal(signal.SIGSTOP), lambda: server.signal(signal.SIGCONT)),
            "slow": (lambda: vars(proxy).update(delay_seconds=2.0), lambda: vars(proxy).update(delay_seconds=0.0)),
            "500": (lambda: vars(proxy).update(broken=True), lambda: vars(proxy).update(broken=False)),
            "back": (server.kill, lambda: None),
        }[kind]
        events = {3: begin} | ({5: restart.start, 9: restart.join} if kind == "back" else {})
        course = Course(monkeypatch, events)
        uri = proxy.uri if kind in ("slow", "500") else server.uri
        with asking() as askers:
            config = train_long(tiny, uri, tmp_path / "run")
        assert askers and threading.current_thread() not in askers
        assert Journal.open(tmp_path / "run").status == "FINISHED"
        assert course.complete == (kind == "back") or kind == "slow"
        end()
        sync(tmp_path / "run", config)
        assert assert_holds_the_journal(config, tmp_path / "run").info.status == "FINISHED"
        assert scores(config, tmp_path / "run") == undisturbed
    assert kind != "back" or "MLflow answers again" in caplog.text
