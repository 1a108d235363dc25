"""What becomes of a trial whose launcher lost it, the recipes of launchers, and the page about them."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

import optuna
import psutil
import pytest
from hydra import compose, initialize_config_dir
from joblib.externals.loky.process_executor import TerminatedWorkerError
from mlflow_servers import postgresql
from omegaconf import DictConfig
from optuna.trial import TrialState
from sqlalchemy import text
from studies import SPACE, new_study, run

from astrid.config.command_line import check_command_line
from astrid.config.compose import PROJECT_ROOT, load, register
from astrid.config.explain import explain
from astrid.config.lost_jobs import lost_job_errors
from astrid.sweep.launched import ends_after_loss
from astrid.sweep.living import reap, release
from astrid.sweep.proposals import ask
from astrid.sweep.search import Search, settle
from astrid.sweep.study import StudyLock, open_storage
from astrid.sweep.trial import END, JOB, Trial, TrialEnd, finite
from astrid.tracking.owner import this_process
from astrid.tracking.records import Attached

PAGE = (PROJECT_ROOT / "docs" / "launchers.md").read_text()
RECIPES = sorted(path.stem for path in (PROJECT_ROOT / "conf" / "hydra" / "launcher").glob("*.yaml"))
NEEDS_RAY = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="Ray is not installed: pip install -e '.[ray]'"
)


def train(*arguments: str) -> list[str]:
    return [sys.executable, str(PROJECT_ROOT / "train.py"), *arguments]


def composed(*overrides: str) -> DictConfig:
    """Return what Hydra makes of overrides, its own options included."""
    register()
    with initialize_config_dir(str(PROJECT_ROOT / "conf")):
        return compose("config", overrides=list(overrides), return_hydra_config=True)


@pytest.fixture
def base() -> Any:
    return load(["tracking=off"])


# What launchers raise, and the recipes.


def test_errors_of_lost_jobs_are_known_without_an_import() -> None:
    code = (
        "import sys; from astrid.config.lost_jobs import lost_job_errors; lost_job_errors();"
        "sys.exit(len({'joblib', 'submitit', 'ray'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], cwd=PROJECT_ROOT, check=True)
    assert issubclass(TerminatedWorkerError, lost_job_errors())
    from submitit.core.utils import FailedJobError

    assert issubclass(FailedJobError, lost_job_errors())
    assert not issubclass(RuntimeError, lost_job_errors())


@pytest.mark.parametrize("recipe", [pytest.param(name, marks=[NEEDS_RAY] * (name == "ray_local")) for name in RECIPES])
def test_a_recipe_keeps_what_its_plugin_says(recipe: str) -> None:
    target = composed(f"hydra/launcher={recipe}").hydra.launcher._target_
    assert re.fullmatch(r"hydra_plugins\.hydra_\w+\.\w+\.\w+Launcher", target)


def test_no_recipe_hides_an_entry_of_a_plugin() -> None:
    assert not {"basic", "joblib", "submitit_local", "submitit_slurm", "ray", "ray_aws"} & set(RECIPES)


def test_a_plugin_that_is_absent_is_named_with_its_extra() -> None:
    message = explain(ValueError("In 'hydra/launcher/slurm': Could not load 'hydra/launcher/submitit_slurm'."), {})
    assert message.endswith("try pip install -e '.[slurm]'")


# A launcher that lost a job.


class LosingLauncher:
    """A launcher whose first job dies."""

    def launch(self, jobs: list[list[str]], initial_job_idx: int) -> Any:
        raise TerminatedWorkerError("a worker was killed")


def sleeping_job(seconds: float = 60) -> tuple[subprocess.Popen[bytes], dict[str, Any]]:
    process = subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({seconds})"])
    started = psutil.Process(process.pid).create_time()
    return process, asdict(this_process()) | {"pid": process.pid, "process_started": started}


def test_a_lost_job_fails_alone_and_is_tried_again(base: Any, tmp_path: Path) -> None:
    study = new_study(tmp_path)
    trials = [study.ask(SPACE) for _ in range(4)]
    for trial, end in zip(
        trials, (TrialEnd("complete", [0.5]), TrialEnd("pruned"), TrialEnd("failed", reason="boom")), strict=False
    ):
        Trial(study, trial.number, run_dir=tmp_path).close(end)
    process, job = sleeping_job()
    process.kill()
    process.wait()
    trials[3].set_user_attr(JOB, job)
    ends = Search({}, LosingLauncher(), tmp_path)._launch(study, [[]] * 4, trials=trials)  # type: ignore[arg-type]
    settle(study, trials, ends=ends, config=base, lost=True)
    states = [trial.state for trial in study.trials]
    assert states == [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.FAIL, TrialState.WAITING]
    assert study.trials[2].user_attrs["failure"] == "boom"
    assert study.trials[4].user_attrs["retry_of"] == 3


def test_the_others_of_a_batch_are_waited_for(tmp_path: Path) -> None:
    study = new_study(tmp_path)
    trial = study.ask(SPACE)
    process, job = sleeping_job()
    trial.set_user_attr(JOB, job)

    def end() -> None:
        Trial(study, trial.number, run_dir=tmp_path).close(TrialEnd("complete", [0.7]))
        process.kill()
        process.wait()

    timer = threading.Timer(0.5, end)
    timer.start()
    assert ends_after_loss(study, [trial]) == [TrialEnd("complete", [0.7])]
    timer.join()


def test_releasing_a_trial_stops_its_process(base: Any, tmp_path: Path) -> None:
    study = new_study(tmp_path)
    trial = study.ask(SPACE)
    process, job = sleeping_job()
    trial.set_user_attr(JOB, job)
    release(study, [trial], config=base.sweep, lost=False)
    assert process.wait() == -signal.SIGTERM  # its own end, after a minute, is another
    assert study.trials[0].state == TrialState.FAIL


def test_a_trial_that_was_given_up_ends_without_a_word(tmp_path: Path) -> None:
    study = new_study(tmp_path)
    trial = study.ask(SPACE)
    own = Trial(study, trial.number, run_dir=tmp_path)
    study.tell(trial.number, state=TrialState.FAIL)
    own.close(TrialEnd("complete", [0.5]))
    assert END not in study.trials[0].user_attrs


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_objective_that_is_no_number_is_a_failure(value: float) -> None:
    assert finite([0.5, value]).state == "failed"
    assert finite([0.5]) == TrialEnd("complete", [0.5])


# Databases.


def test_a_trial_whose_heartbeat_stopped_is_failed_in_a_database(base: Any, tmp_path: Path) -> None:
    storage = open_storage(f"sqlite:///{tmp_path}/s.db", heartbeat_seconds=10)
    study = optuna.create_study(storage=storage)
    trial = ask(study, SPACE)
    elsewhere = Attached("another-host", 1, process_started=0.0, time_ms=0)
    trial.set_user_attr("owner", asdict(elsewhere))
    trial.set_user_attr(JOB, asdict(elsewhere))
    storage.record_heartbeat(trial._trial_id)  # type: ignore[attr-defined]
    reap(study, base.sweep)
    assert study.trials[0].state == TrialState.RUNNING
    with storage.engine.begin() as connection:  # type: ignore[attr-defined]
        connection.execute(text("UPDATE trial_heartbeats SET heartbeat = datetime('now', '-1 hour')"))
    assert ends_after_loss(study, [trial]) == [None]
    reap(study, base.sweep)
    assert study.trials[0].state == TrialState.FAIL


@pytest.mark.slow
@pytest.mark.parametrize("driver", ["postgresql", "postgresql+psycopg2"])
def test_postgresql_keeps_processes_of_two_machines_apart(driver: str, tmp_path: Path) -> None:
    with postgresql() as server:
        url = f"{driver}://{server.partition('://')[2]}"
        ours, theirs = (StudyLock(url, study_name="s", folder=tmp_path / name) for name in ("a", "b"))
        entered = threading.Event()

        def enter() -> None:
            with theirs.hold():
                entered.set()

        waiting = threading.Thread(target=enter)
        with ours.hold():
            waiting.start()
            assert not entered.wait(1.0)
        assert entered.wait(60.0)
        waiting.join()


# The page.


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


COMMANDS = [
    line.removeprefix("python train.py ")
    for block in blocks("")
    for line in block.splitlines()
    if line.startswith("python train.py ")
]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_the_page_is_valid(command: str) -> None:
    arguments = shlex.split(command)
    assert check_command_line(arguments) >= 1
    own = [argument for argument in arguments if argument.startswith(("hydra", "sweep="))]
    if "hydra/launcher=ray_local" in own and importlib.util.find_spec("ray") is None:
        own = [argument for argument in own if "ray" not in argument]
    assert composed(*own).hydra.launcher._target_


@pytest.mark.slow
@pytest.mark.parametrize("command", [line for line in COMMANDS if "slurm " not in line and "ray" not in line])
def test_the_commands_of_one_machine_run(command: str, tiny: list[str], tmp_path: Path) -> None:
    small = ["tracking=off", "training.epochs=1"]
    if "sweep=" in command:
        small += ["hydra.sweeper.n_trials=2", f"hydra.sweeper.storage=journal://{tmp_path}/study.journal"]
    done = run(train(*shlex.split(command), *tiny, *small), cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_batch_script_is_valid_and_runs_the_command(tmp_path: Path) -> None:
    (script,) = blocks("bash")
    path = tmp_path / "array.sh"
    path.write_text(script)
    subprocess.run(["bash", "-n", path], check=True)
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\nprintf "%s\\n" "$OMP_NUM_THREADS" "$@"\n')
    python.chmod(0o755)
    environment = os.environ | {"SLURM_SUBMIT_DIR": str(tmp_path), "SLURM_CPUS_PER_TASK": "4"}
    done = subprocess.run(["bash", path], env=environment, capture_output=True, text=True, check=True)
    threads, program, *arguments = done.stdout.split()
    assert (threads, program) == ("4", "train.py")
    assert check_command_line(arguments) == 1
    assert composed(*(argument for argument in arguments if argument.startswith(("hydra", "sweep=")))).hydra.sweeper
    assert "#SBATCH --signal=B:TERM@120" in script
    assert "\nexec " in script
