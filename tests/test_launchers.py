"""Trials and runs through joblib, submitit and Ray: they end as in one process, and a lost job is only its own loss."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import optuna
import psutil
import pytest
from joblib.externals.loky.process_executor import TerminatedWorkerError
from mlflow_servers import postgresql
from optuna.trial import TrialState
from test_sweep import SPACE, new_study, run, study_in, sweep

from astrid.config.command_line import check_command_line
from astrid.config.compose import PROJECT_ROOT, load
from astrid.config.explain import explain
from astrid.config.lost_jobs import lost_job_errors
from astrid.sweep.living import ends_after_loss, reap, release
from astrid.sweep.search import Search, settle
from astrid.sweep.study import StudyLock, open_storage, open_study
from astrid.sweep.trial import END, JOB, Trial, TrialEnd, finite
from astrid.tracking.owner import this_process
from astrid.tracking.records import Attached

PAGE = (PROJECT_ROOT / "docs" / "launchers.md").read_text()
RECIPES = sorted(path.stem for path in (PROJECT_ROOT / "conf" / "hydra" / "launcher").glob("*.yaml"))
LOCAL = ("joblib_local", "slurm_local")
NEEDS_RAY = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="Ray is not installed: pip install -e '.[ray]'"
)


def train(*arguments: str) -> list[str]:
    return [sys.executable, str(PROJECT_ROOT / "train.py"), *arguments]


@pytest.fixture
def base() -> Any:
    return load(["tracking=off"])


# What launchers raise, and the recipes.


def test_errors_of_lost_jobs_are_known_without_an_import() -> None:
    code = (
        "import sys; from astrid.config.lost_jobs import lost_job_errors; lost_job_errors();"
        "sys.exit(str({'joblib', 'submitit', 'ray'} & set(sys.modules) or ''))"
    )
    subprocess.run([sys.executable, "-c", code], cwd=PROJECT_ROOT, check=True)
    assert issubclass(TerminatedWorkerError, lost_job_errors())
    from submitit.core.utils import FailedJobError

    assert issubclass(FailedJobError, lost_job_errors())
    assert not issubclass(RuntimeError, lost_job_errors())


@pytest.mark.parametrize("recipe", [pytest.param(name, marks=[NEEDS_RAY] * (name == "ray_local")) for name in RECIPES])
def test_a_recipe_keeps_what_its_plugin_says(recipe: str) -> None:
    shown = run(train(f"hydra/launcher={recipe}", "--cfg", "hydra", "-p", "hydra.launcher"), cwd=PROJECT_ROOT)
    assert re.search(r"_target_: hydra_plugins\.\w+\.", shown.stdout), shown.stdout + shown.stderr


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
        Trial(study, trial.number).close(end)
    process, job = sleeping_job()
    process.kill()
    process.wait()
    trials[3].set_user_attr(JOB, job)
    ends = Search({}, LosingLauncher(), tmp_path)._launch(study, [[]] * 4, trials=trials)  # type: ignore[arg-type]
    settle(study, trials, ends=ends, config=base, reason="its job was lost")
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
        Trial(study, trial.number).close(TrialEnd("complete", [0.7]))
        process.kill()
        process.wait()

    timer = threading.Timer(1.0, end)
    timer.start()
    began = time.monotonic()
    assert ends_after_loss(study, [trial]) == [TrialEnd("complete", [0.7])]
    assert time.monotonic() - began > 0.5
    timer.join()


def test_releasing_a_trial_stops_its_process(base: Any, tmp_path: Path) -> None:
    study = new_study(tmp_path)
    trial = study.ask(SPACE)
    process, job = sleeping_job()
    trial.set_user_attr(JOB, job)
    release(study, [trial], config=base, reason="the sweep was interrupted")
    assert process.wait(timeout=5) == -signal.SIGTERM
    assert study.trials[0].state == TrialState.FAIL


def test_a_trial_that_was_given_up_ends_without_a_word(tmp_path: Path) -> None:
    study = new_study(tmp_path)
    trial = study.ask(SPACE)
    own = Trial(study, trial.number)
    study.tell(trial.number, state=TrialState.FAIL)
    own.close(TrialEnd("complete", [0.5]))
    assert END not in study.trials[0].user_attrs


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_objective_that_is_no_number_is_a_failure(value: float) -> None:
    assert finite([0.5, value]).state == "failed"
    assert finite([0.5]) == TrialEnd("complete", [0.5])


# Databases.


def test_a_trial_whose_heartbeat_stopped_is_failed_in_a_database(base: Any, tmp_path: Path) -> None:
    with pytest.warns(optuna.exceptions.ExperimentalWarning):
        storage = open_storage(f"sqlite:///{tmp_path}/s.db", heartbeat_seconds=1)
    pruner, sampler = optuna.pruners.NopPruner(), optuna.samplers.RandomSampler(seed=0)
    study = open_study(storage, name="s", directions=["maximize"], sampler=sampler, pruner=pruner, space=SPACE)
    trial = study.ask(SPACE)
    elsewhere = Attached("another-host", 1, process_started=0.0, time_ms=0)
    trial.set_user_attr("owner", asdict(elsewhere))
    trial.set_user_attr(JOB, asdict(elsewhere))
    storage.record_heartbeat(trial._trial_id)  # type: ignore[attr-defined]
    reap(study, base)
    assert study.trials[0].state == TrialState.RUNNING
    time.sleep(4.5)
    assert ends_after_loss(study, [trial]) == [None]
    reap(study, base)
    assert study.trials[0].state == TrialState.FAIL


@pytest.mark.slow
def test_postgresql_keeps_processes_of_two_machines_apart(tmp_path: Path) -> None:
    with postgresql() as url:
        storages = [open_storage(url, heartbeat_seconds=10) for _ in range(2)]
        storage = open_study(
            storages[0],
            name="s",
            directions=["maximize"],
            sampler=optuna.samplers.RandomSampler(),
            pruner=optuna.pruners.NopPruner(),
            space=SPACE,
        )._storage
        ours, theirs = (StudyLock(url, study_name="s", folder=tmp_path / name) for name in ("a", "b"))
        entered = threading.Event()

        def enter() -> None:
            with theirs.hold(storages[1]):
                entered.set()

        waiting = threading.Thread(target=enter)
        with ours.hold(storage):
            waiting.start()
            assert not entered.wait(1.0)
        assert entered.wait(10.0)
        waiting.join()
        for one in (storage._backend, storages[1]):  # type: ignore[attr-defined]
            one.engine.dispose()


# Whole sweeps.


@pytest.fixture
def old_installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the package's entry points from every Python process that is started."""
    hidden = "import importlib.metadata as m\nm.entry_points = lambda **named: []\n"
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
    broken = "+hydra.sweeper.params.loss.pos_weight=choice(1,1e38)"  # an infinite loss: that trial fails
    two = (f"hydra/launcher={launcher}", "hydra.sweeper.n_jobs=2", "hydra.sweeper.n_trials=3")
    done = run(sweep(*SMALL, *two, broken, tiny=tiny, cwd=tmp_path), cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    trials = study_in(tmp_path, "depth_filters").trials
    states = [trial.state for trial in trials]
    assert sum(state in (TrialState.COMPLETE, TrialState.PRUNED) for state in states) == 3
    for trial in trials:
        if trial.state == TrialState.FAIL:
            assert "RunError" in trial.user_attrs["failure"]
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
        ("loss.pos_weight=1e38", 1, "error: "),
        ("data.transients=0", 2, "error: "),
    ],
)
def test_exit_codes_of_a_multirun_are_those_of_one_process(
    launcher: str, change: str, code: int, says: str, tiny: list[str], tmp_path: Path
) -> None:
    secret = "hunter2hunter2"
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


# The page.


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


COMMANDS = [
    line.removeprefix("python train.py ")
    for text in blocks("")
    for line in text.splitlines()
    if line.startswith("python train.py ")
]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_the_page_is_valid(command: str) -> None:
    arguments = shlex.split(command)
    assert check_command_line(arguments) >= 1
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key == "hydra/launcher":
            assert value in RECIPES
    extras = [a for a in arguments if a.startswith("hydra") and "ray" not in a]
    recipe = [argument for argument in arguments if argument.startswith("sweep=")]
    shown = run(train("--cfg", "hydra", *recipe, *extras), cwd=PROJECT_ROOT)
    assert shown.returncode == 0, shown.stderr


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
    assert "#SBATCH --signal=B:TERM@120" in script
    assert "\nexec " in script
