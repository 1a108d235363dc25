"""The sweep command itself, with tiny runs: totals, kills, recipes, MLflow."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from astrid.config.compose import PROJECT_ROOT, load
from astrid.sweep.study import JOURNAL, open_storage

# The command itself, with tiny runs.


def sweep(*overrides: str, tiny: list[str], cwd: Path) -> list[str]:
    own = ["-m", "tracking=off", "training.epochs=3", f"hydra.sweeper.storage={JOURNAL}{cwd}/study.journal"]
    return [sys.executable, str(PROJECT_ROOT / "train.py"), *tiny, *own, *overrides]


def study_in(cwd: Path, name: str) -> optuna.Study:
    storage = open_storage(f"{JOURNAL}{cwd}/study.journal", heartbeat_seconds=10)
    return optuna.load_study(study_name=name, storage=storage)


def run(command: list[str], *, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=900)


RECIPES = sorted(path.stem for path in (PROJECT_ROOT / "conf" / "sweep").glob("*.yaml"))


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_runs_with_tiny_settings(recipe: str, tiny: list[str], tmp_path: Path) -> None:
    small = ["data.train_fields=2", "hydra.sweeper.n_trials=3"]
    done = run(sweep(f"sweep={recipe}", *small, tiny=tiny, cwd=tmp_path), cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    states = [trial.state for trial in study_in(tmp_path, recipe).trials]
    assert sum(state in (TrialState.COMPLETE, TrialState.PRUNED) for state in states) == 3
    assert f"astrid compare --sweep {recipe}" in done.stdout
    assert (tmp_path / "outputs/sweeps" / recipe / "trials.json").is_file()


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_composes_into_a_run(recipe: str) -> None:
    assert load([f"sweep={recipe}"]).training.epochs < 10


def test_the_sweeper_is_known_where_the_installed_entry_points_are_old() -> None:
    code = (
        "import hydra.core.plugins as plugins; plugins.entry_points = lambda group: [];"
        "from astrid.sweep.plugin import register_sweeper; register_sweeper();"
        "print(*plugins.Plugins.instance().class_name_to_class)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True)
    assert "astrid.sweep.plugin.StudySweeper" in done.stdout.split()


def test_a_sweep_without_multirun_says_so(tmp_path: Path) -> None:
    done = run([sys.executable, str(PROJECT_ROOT / "train.py"), "sweep=grid"], cwd=tmp_path)
    assert done.returncode == 2
    assert "must be given with -m" in done.stderr


def wait_for_trial(cwd: Path, number: int) -> None:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        journal = cwd / "study.journal"
        if journal.exists():
            try:
                if len(study_in(cwd, "depth_filters").trials) > number:
                    return
            except KeyError:
                pass
        time.sleep(0.2)
    raise AssertionError(f"trial {number} never began")


@pytest.mark.slow
def test_a_killed_study_goes_on_to_exactly_its_total(tiny: list[str], tmp_path: Path) -> None:
    command = sweep("sweep=depth_filters", "hydra.sweeper.n_trials=4", tiny=tiny, cwd=tmp_path)
    killed = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for_trial(tmp_path, 2)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    done = run(command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    trials = study_in(tmp_path, "depth_filters").trials
    ended = [trial for trial in trials if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    failed = [trial for trial in trials if trial.state == TrialState.FAIL]
    assert len(ended) == 4
    assert len(failed) <= 1
    assert all(trial.user_attrs["retry_of"] == failed[0].number for trial in trials if "retry_of" in trial.user_attrs)
    folders = [trial.user_attrs["run_dir"] for trial in ended]
    assert len(set(folders)) == 4
    again = run(command, cwd=tmp_path)
    assert again.returncode == 0
    assert len(study_in(tmp_path, "depth_filters").trials) == len(trials)
