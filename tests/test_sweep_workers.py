"""Several processes on one study: an exact total, no number and no folder twice, whoever is killed or stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
import psutil
import pytest
from mirrored_runs import MLFLOW_WARNINGS
from mlflow_servers import postgresql
from optuna.trial import FrozenTrial, TrialState

from astrid.config.compose import PROJECT_ROOT
from astrid.sweep.bounds import FINISHED
from astrid.sweep.study import JOURNAL, open_storage
from astrid.tracking.mlflow_sink import open_store

pytestmark = [*MLFLOW_WARNINGS, pytest.mark.usefixtures("mlflow_settings")]

TRIALS = 24
LONGEST_SECONDS = 1500


@pytest.fixture(params=["journal", "postgresql"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A place for studies: a file, or a real database."""
    if request.param == "journal":
        yield f"{JOURNAL}{tmp_path}/study.journal"
    else:
        with postgresql() as url:
            yield url


class Sweep:
    """The same command, started as often as one likes in one folder."""

    def __init__(self, folder: Path, storage: str, tiny: list[str], *, trials: int = TRIALS) -> None:
        self.folder, self.storage, self.name = folder, storage, f"study-{os.getpid()}-{time.time_ns()}"
        options = [f"hydra.sweeper.storage='{storage}'", f"hydra.sweeper.study_name={self.name}"]
        options += [f"hydra.sweeper.n_trials={trials}", f"tracking.uri=sqlite:///{folder}/mlflow.db"]
        settings = [
            "optimizer.lr=tag(log,interval(1e-3,2e-2))",
            "training.epochs=3",
            "sweep.heartbeat_seconds=2",
            "data.train_fields=4",
        ]
        self.command = [sys.executable, str(PROJECT_ROOT / "train.py"), "-m", "sweep=depth_filters", *tiny, *options]
        self.command += [*settings, f"hydra.sweep.dir={folder}/sweep"]

    def start(self) -> subprocess.Popen[bytes]:
        with (self.folder / "output.log").open("ab") as output:
            return subprocess.Popen(self.command, cwd=self.folder, stdout=output, stderr=output)

    @property
    def trials(self) -> list[FrozenTrial]:
        try:
            return optuna.load_study(study_name=self.name, storage=self._open()).trials
        except KeyError:
            return []

    def _open(self) -> optuna.storages.BaseStorage:
        return open_storage(self.storage, heartbeat_seconds=2)

    def wait_for(self, holds: Callable[[list[FrozenTrial]], bool]) -> None:
        deadline = time.monotonic() + LONGEST_SECONDS
        while not holds(self.trials):
            assert time.monotonic() < deadline, (self.folder / "output.log").read_text()[-3000:]
            time.sleep(0.3)

    def check(self, count: int) -> list[FrozenTrial]:
        """Check that a study is whole, and return its failed trials."""
        trials = self.trials
        finished = [trial for trial in trials if trial.state in FINISHED]
        failed = [trial for trial in trials if trial.state == TrialState.FAIL]
        assert len(finished) == count
        assert len(failed) + len(finished) == len(trials)  # nothing runs or waits
        began = [trial for trial in trials if "run_dir" in trial.user_attrs]
        assert all(trial in began for trial in finished)
        folders = [trial.user_attrs["run_dir"] for trial in began]
        assert folders == [f"{self.folder}/sweep/{trial.number}" for trial in began]
        return failed


def end(process: subprocess.Popen[bytes]) -> int:
    return process.wait(timeout=LONGEST_SECONDS)


def worker_of(command: subprocess.Popen[bytes]) -> psutil.Process:
    """The process in which a started command searches."""
    return next(child for child in psutil.Process(command.pid).children() if "sweep.worker=0" in child.cmdline())


@pytest.mark.slow
def test_three_commands_share_a_study_while_one_is_killed_and_one_is_stopped(
    storage: str, tiny: list[str], tmp_path: Path
) -> None:
    sweep = Sweep(tmp_path, storage, tiny)
    commands = [sweep.start() for _ in range(3)]
    sweep.wait_for(lambda trials: sum(trial.state == TrialState.RUNNING for trial in trials) >= 3 and len(trials) >= 6)
    pids = {
        trial.user_attrs["owner"]["pid"]: trial.number for trial in sweep.trials if trial.state == TrialState.RUNNING
    }
    victim = worker_of(commands[0]).pid
    commands[0].kill()
    commands[1].send_signal(signal.SIGINT)
    assert [end(command) for command in commands] == [-signal.SIGKILL, 1, 0], (tmp_path / "output.log").read_text()[
        -3000:
    ]
    failed = sweep.check(TRIALS)
    assert pids.get(victim) in {trial.number for trial in failed} | {None}
    check_mlflow(sweep, tmp_path)


def check_mlflow(sweep: Sweep, folder: Path) -> None:
    """One parent, a child for every trial that began, each linked both ways and ended as its trial."""
    client = open_store(f"sqlite:///{folder}/mlflow.db")
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()], max_results=1000)
    parents = [run for run in runs if run.data.tags.get("task") == "sweep"]
    assert [parent.info.status for parent in parents] == ["FINISHED"]
    children = {
        run.info.run_id: run for run in runs if run.data.tags.get("mlflow.parentRunId") == parents[0].info.run_id
    }
    assert len(children) == len(runs) - 1
    for trial in sweep.trials:
        run = children.get(trial.user_attrs.get("mlflow_run_id", ""))
        if run is None:
            assert trial.state == TrialState.FAIL  # gone before MLflow heard of it
            continue
        assert run.data.tags["trial"] == str(trial.number)
        assert run.data.tags["trial.state"] == trial.state.name
        assert run.info.status in (["FINISHED"] if trial.state in FINISHED else ["KILLED", "FAILED"])
        assert run.data.params["model.depth"] == str(trial.params["model.depth"])
    best = max((trial for trial in sweep.trials if trial.state == TrialState.COMPLETE), key=lambda trial: trial.value)
    versions = client.search_model_versions("name = 'astrid-unet'")
    assert [version.run_id for version in versions] == [best.user_attrs["mlflow_run_id"]]
    assert "challenger" in client.get_registered_model("astrid-unet").aliases
    tags = parents[0].data.tags
    assert tags["best.run"] == best.user_attrs["mlflow_run_id"]
    assert tags["best.command"].startswith("python train.py ")
    sent = {file.path for file in client.list_artifacts(parents[0].info.run_id)}
    assert sent == {"figures", "trials.json", "optimization_results.yaml"}


@pytest.mark.slow
def test_a_command_killed_at_its_third_trial_goes_on_when_it_is_run_again(tiny: list[str], tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, f"{JOURNAL}{tmp_path}/study.journal", tiny, trials=6)
    command = sweep.start()
    sweep.wait_for(lambda trials: len(trials) == 3 and "epochs" in trials[2].user_attrs)
    command.kill()
    end(command)
    assert end(sweep.start()) == 0, (tmp_path / "output.log").read_text()[-3000:]
    (failed,) = sweep.check(6)
    assert failed.number == 2
    retried = next(trial for trial in sweep.trials if trial.user_attrs.get("retry_of") == 2)
    assert retried.params == failed.params
    check_mlflow(sweep, tmp_path)


@pytest.mark.slow
def test_a_trial_that_the_system_kills_fails_alone(tiny: list[str], tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, f"{JOURNAL}{tmp_path}/study.journal", tiny, trials=4)
    command = sweep.start()
    sweep.wait_for(lambda trials: len(trials) == 2 and "run_dir" in trials[1].user_attrs)
    worker_of(command).kill()
    assert end(command) == 0, (tmp_path / "output.log").read_text()[-3000:]
    (failed,) = sweep.check(4)
    assert failed.number == 1
    assert "worker 0 was killed by signal 9 and is started again" in (tmp_path / "output.log").read_text()
    check_mlflow(sweep, tmp_path)
