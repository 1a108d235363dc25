"""Whole sweeps and multiruns through joblib, submitit and Ray: they end as in one process, whatever dies."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import optuna
import psutil
import pytest
from optuna.trial import TrialState
from studies import run, study_in, sweep

from astrid.config.compose import PROJECT_ROOT
from astrid.sweep.trial import JOB

LOCAL = ("joblib_local", "slurm_local")
NEEDS_RAY = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="Ray is not installed: pip install -e '.[ray]'"
)


def train(*arguments: str) -> list[str]:
    return [sys.executable, str(PROJECT_ROOT / "train.py"), *arguments]


@pytest.fixture
def old_installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the package's entry points from every Python process that is started."""
    hidden = (
        "import importlib.metadata as m; real = m.entry_points;"
        "m.entry_points = lambda **by: m.EntryPoints() if by.get('group') == 'hydra.plugins' else real(**by)"
    )
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(hidden)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'site'}{os.pathsep}{PROJECT_ROOT}")


def overlap(trials: list[optuna.trial.FrozenTrial]) -> bool:
    """Tell whether each of two trials began before the other had ended."""
    began = [trial.user_attrs[JOB]["time_ms"] / 1000 for trial in trials]
    ended = [Path(trial.user_attrs["run_dir"], "metrics.json").stat().st_mtime for trial in trials]
    return max(began) < min(ended)


def threads(trial: optuna.trial.FrozenTrial) -> int:
    found = re.search(r'"threads": "(\d+)"', Path(trial.user_attrs["run_dir"], "journal.jsonl").read_text())
    assert found
    return int(found[1])


SMALL = ("sweep=depth_filters", "training.epochs=1", "data.train_fields=2", "training.threads=null")
"""What makes two trials of `depth_filters` quick."""


@pytest.mark.slow
def test_joblib_runs_two_trials_at_once_on_half_the_cores_each(
    tiny: list[str], old_installation: None, tmp_path: Path
) -> None:
    two = ("hydra/launcher=joblib_local", "hydra.sweeper.n_jobs=2", "hydra.sweeper.n_trials=2")
    done = run(sweep(*SMALL, *two, tiny=tiny, cwd=tmp_path), cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    trials = study_in(tmp_path, "depth_filters").trials
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 2
    assert overlap(trials)
    cores = len(os.sched_getaffinity(0))
    assert [threads(trial) for trial in trials] == [max(1, cores // 2)] * 2
    folders = [Path(trial.user_attrs["run_dir"]) for trial in trials]
    assert folders == [tmp_path / "outputs" / "sweeps" / "depth_filters" / str(number) for number in range(2)]


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["joblib", "slurm_local", pytest.param("ray_local", marks=NEEDS_RAY)])
def test_every_launcher_reaches_the_exact_total_and_reports_failures(
    launcher: str, tiny: list[str], tmp_path: Path
) -> None:
    broken = "loss.positive_weight=choice(1,1e39)"  # with 1e39 the loss is infinite, and that trial fails
    two = (f"hydra/launcher={launcher}", "hydra.sweeper.n_jobs=2", "hydra.sweeper.n_trials=3")
    done = run(sweep(*SMALL, *two, broken, tiny=tiny, cwd=tmp_path), cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    trials = study_in(tmp_path, "depth_filters").trials
    states = [trial.state for trial in trials]
    assert sum(state in (TrialState.COMPLETE, TrialState.PRUNED) for state in states) == 3
    for trial in trials:
        if trial.state == TrialState.FAIL:
            assert "the loss must be finite" in trial.user_attrs["failure"]
    assert len({trial.user_attrs["run_dir"] for trial in trials}) == len(trials)


def wait_until_training(cwd: Path, count: int) -> list[int]:
    """Wait until so many trials have finished two epochs, and return the numbers of their processes."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        time.sleep(0.2)
        try:
            trials = study_in(cwd, "depth_filters").trials
        except KeyError:
            continue
        if sum(trial.user_attrs.get("epochs", 0) >= 2 for trial in trials) == count:
            return [trial.user_attrs[JOB]["pid"] for trial in trials]
    raise AssertionError(f"{count} trials never trained at once")


def long_sweep(launcher: str, *, tiny: list[str], cwd: Path) -> subprocess.Popen[bytes]:
    two = (f"hydra/launcher={launcher}", "hydra.sweeper.n_jobs=2", "hydra.sweeper.n_trials=2")
    long = ("sweep=depth_filters", "hydra/sweeper/pruner=nop", "training.epochs=25")
    with (cwd / "output.txt").open("wb") as output:
        return subprocess.Popen(
            sweep(*long, *two, tiny=tiny, cwd=cwd), cwd=cwd, stdout=output, stderr=subprocess.STDOUT
        )


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [*LOCAL, pytest.param("ray_local", marks=NEEDS_RAY)])
def test_a_killed_job_is_a_failed_trial_and_the_sweep_reaches_its_total(
    launcher: str, tiny: list[str], tmp_path: Path
) -> None:
    command = long_sweep(launcher, tiny=tiny, cwd=tmp_path)
    os.kill(wait_until_training(tmp_path, 2)[0], signal.SIGKILL)
    assert command.wait(timeout=600) == 0, (tmp_path / "output.txt").read_text()[-2000:]
    trials = study_in(tmp_path, "depth_filters").trials
    assert trials[0].state == TrialState.FAIL
    assert sum(trial.state == TrialState.COMPLETE for trial in trials) == 2
    assert 0 in [trial.user_attrs.get("retry_of") for trial in trials]
    if launcher != "joblib_local":  # joblib ends the whole batch
        assert trials[1].state == TrialState.COMPLETE


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LOCAL)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_no_job_outlives_a_command_that_is_stopped(
    launcher: str, number: signal.Signals, tiny: list[str], tmp_path: Path
) -> None:
    command = long_sweep(launcher, tiny=tiny, cwd=tmp_path)
    jobs = wait_until_training(tmp_path, 2)
    command.send_signal(number)
    assert command.wait(timeout=90) == 1
    assert not [pid for pid in jobs if psutil.pid_exists(pid)]
    assert TrialState.RUNNING not in [trial.state for trial in study_in(tmp_path, "depth_filters").trials]


# Plain multirun.


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LOCAL)
@pytest.mark.parametrize(
    ("change", "code", "says"),
    [
        ("training.epochs=1", 0, ""),
        ("optimizer.lr=1e30", 1, "error: the loss"),
        ("data=frames", 2, "missing.fits"),
    ],
)
def test_exit_codes_of_a_multirun_are_those_of_one_process(
    launcher: str, change: str, code: int, says: str, tiny: list[str], tmp_path: Path
) -> None:
    secret = "hunter2hunter2"
    (tmp_path / "m.csv").write_text("field,science\na,missing.fits\n")
    if change == "data=frames":
        tiny = [f"data.root={tmp_path}", f"data.manifest={tmp_path}/m.csv"]
    command = train(
        "-m", *tiny, "tracking=server", f"tracking.uri=http://me:{secret}@127.0.0.1:9", "tracking.wait_seconds=0"
    )
    done = run([*command, f"hydra/launcher={launcher}", "model.filters=4,8", change], cwd=tmp_path)
    assert done.returncode == code, done.stdout + done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    written = [path for path in tmp_path.rglob("*") if path.is_file() and ".submitit" not in path.parts]
    assert not [path for path in written if secret.encode() in path.read_bytes()]
    assert secret not in done.stdout + done.stderr
