"""`python train.py`, as a person types it: exit codes, messages, signals, and runs killed at any moment."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
import torch

from astrid.config.compose import PROJECT_ROOT

TRAIN = [sys.executable, str(PROJECT_ROOT / "train.py")]


def run(*arguments: str, cwd: Path, timeout: float = 240) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*TRAIN, *arguments], cwd=cwd, capture_output=True, text=True, timeout=timeout)


def start(*arguments: str, cwd: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([*TRAIN, *arguments], cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def only_run(cwd: Path) -> Path:
    (folder,) = (cwd / "outputs/runs").iterdir()
    return folder


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["model.dpeth=3"], "did you mean model.depth"),
        (["+model.dpeth=3"], "did you mean model.depth"),
        (["--cfg", "job", "model.depth=0"], "model.depth must be from 1 to 6"),
        (["-m", "model.depth=3,0,2"], "model.depth must be from 1 to 6"),
    ],
)
def test_a_mistake_ends_with_exit_code_2_and_one_message(arguments: list[str], message: str, tmp_path: Path) -> None:
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "outputs").exists()


def test_bad_data_ends_with_exit_code_2_before_training(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("field,science\na,missing.fits\n")
    done = run("data=frames", f"data.root={tmp_path}", f"data.manifest={tmp_path}/m.csv", cwd=tmp_path)
    assert done.returncode == 2
    assert "missing.fits" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert list((tmp_path / "outputs/runs").iterdir()) == [], "a refused run leaves no folder"


@pytest.mark.slow
def test_a_folder_that_was_there_stays_when_its_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("field,science\na,missing.fits\n")
    (tmp_path / "kept").mkdir()
    named = ["data=frames", f"data.root={tmp_path}", f"data.manifest={tmp_path}/m.csv", "hydra.run.dir=kept"]
    assert run(*named, cwd=tmp_path).returncode == 2
    assert (tmp_path / "kept" / "train.log").is_file()


def test_a_run_prints_its_table_and_ends_with_the_command_for_the_pages(drawn: list[str], tmp_path: Path) -> None:
    done = run(*drawn, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "completeness" in done.stdout
    assert "mlflow" in done.stdout.strip().splitlines()[-1]
    assert "ui --backend-store-uri sqlite:///" in done.stdout.strip().splitlines()[-1]
    check_database(tmp_path)
    synced = subprocess.run(
        [sys.executable, "-m", "astrid.cli", "sync", str(only_run(tmp_path)), str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "0 records sent" in synced.stdout
    assert synced.returncode == 2  # the second folder holds no run
    assert "a run folder must hold config.yaml" in synced.stderr


def check_database(cwd: Path) -> None:
    """What the run was is in MLflow: parameters, metrics, data, artifacts and a version of the model."""
    with closing(sqlite3.connect(cwd / "outputs/mlflow.db")) as database:
        params = dict(database.execute("select key, value from params").fetchall())
        metrics = {key for (key,) in database.execute("select distinct key from metrics")}
        tags = dict(database.execute("select key, value from tags").fetchall())
        datasets = database.execute("select digest from datasets").fetchall()
        models = database.execute("select name, version from model_versions").fetchall()
        (location,) = database.execute("select artifact_uri from runs").fetchone()
    folder = only_run(cwd)
    assert params["model.depth"] == "2"
    assert params["data.augment.flips"] == "True"
    assert {"val/auprc", "test/auprc", "latency/p50_ms"} <= metrics
    assert len(tags["git.commit"]) == 40
    assert tags["energy.gpu"] == "unavailable"
    assert len(datasets) == 1
    assert models == [("astrid-unet", 1)]
    stored = Path(location.removeprefix("file://"))
    assert stored.is_absolute()
    for name in ("config.yaml", "metrics.json", "git.diff", "environment.json", "figures/gallery.png"):
        assert (stored / name).read_bytes() == (folder / name).read_bytes(), name


@pytest.mark.parametrize("launcher", ["basic", pytest.param("joblib", marks=pytest.mark.slow)])
def test_a_failure_while_running_ends_with_exit_code_1_on_every_launcher(
    launcher: str, tiny: list[str], tmp_path: Path
) -> None:
    arguments = [
        "-m",
        f"hydra/launcher={launcher}",
        *tiny,
        "tracking=off",
        "optimizer.lr=1e30",
        "training.clip_norm=null",
        "metrics.report=true",
    ]
    done = run(*arguments, "training.seed=1,2", cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert "the loss must be finite" in done.stderr
    logs = [log.read_text() for log in (tmp_path / "outputs/sweeps").rglob("train.log")]
    assert any("report.html tells what was done; astrid diagnose " in log for log in logs)


@pytest.mark.slow
def test_tracking_off_imports_no_mlflow(tiny: list[str], tmp_path: Path) -> None:
    code = (
        "import sys, runpy; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__');"
        "sys.exit('mlflow was imported' if 'mlflow' in sys.modules else 0)"
    )
    command = [sys.executable, "-c", code, TRAIN[1], *tiny, "tracking=off", "training.epochs=1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr


def checkpoint_times(cwd: Path) -> set[int]:
    return {path.stat().st_mtime_ns for path in cwd.glob("outputs/runs/*/checkpoints/last.pt")}


def wait_for_steps(process: subprocess.Popen[str], cwd: Path, *, checkpoints: int) -> None:
    """Wait until this process has written `last.pt` at least so often."""
    before, seen = checkpoint_times(cwd), set[int]()
    while len(seen) < checkpoints and process.poll() is None:
        seen |= checkpoint_times(cwd) - before
        time.sleep(0.01)


def final_weights(cwd: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(only_run(cwd) / "checkpoints/last.pt", weights_only=True)["model"]
    return state


@pytest.fixture(scope="module")
def straight(tiny: list[str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    cwd = tmp_path_factory.mktemp("straight")
    assert run(*tiny, "training.epochs=6", "tracking=off", cwd=cwd).returncode == 0
    return final_weights(cwd)


def assert_same_weights(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> None:
    for name, weight in one.items():
        assert torch.equal(weight, two[name]), name


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_signal_saves_first_and_says_how_to_go_on(
    number: signal.Signals, tiny: list[str], straight: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    process = start(*tiny, "training.epochs=6", "tracking=off", cwd=tmp_path)
    wait_for_steps(process, tmp_path, checkpoints=2)
    process.send_signal(number)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 1, output
    assert "all is saved, go on with: python train.py training.resume=" in output
    assert "Traceback" not in output
    folder = only_run(tmp_path)
    assert run(f"training.resume={folder}", cwd=tmp_path).returncode == 0
    assert_same_weights(straight, final_weights(tmp_path))


def kill_at_random(arguments: list[str], cwd: Path, *, generator: random.Random) -> None:
    """Kill a run somewhere between its first step and the next few, in training, validation or saving."""
    process = start(*arguments, cwd=cwd)
    wait_for_steps(process, cwd, checkpoints=generator.randint(1, 9))
    time.sleep(generator.uniform(0, 0.1))
    assert process.poll() is None, process.communicate()
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)  # hangs if a process of the run outlives it with its output open


@pytest.mark.parametrize(
    ("workers", "kills"),
    [(0, 1), pytest.param(0, 5, marks=pytest.mark.slow), pytest.param(2, 5, marks=pytest.mark.slow)],
)
def test_a_run_killed_at_random_and_resumed_ends_with_the_same_bits(
    workers: int, kills: int, tiny: list[str], straight: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    generator = random.Random(os.environ.get("PYTEST_XDIST_TESTRUNUID", 0))
    often = "training.checkpoint_minutes=0.0001"  # save after nearly every step: kills fall into the midst of epochs
    arguments = [*tiny, "training.epochs=6", often, f"data.workers={workers}"]
    for _ in range(kills):
        kill_at_random(arguments, tmp_path, generator=generator)
        arguments = [f"training.resume={only_run(tmp_path)}"]
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert_same_weights(straight, final_weights(tmp_path))
    check_tracked_points(tmp_path)


def check_tracked_points(cwd: Path) -> None:
    """Every epoch of the killed run is in MLflow's database, once, and the run is over."""
    with closing(sqlite3.connect(cwd / "outputs/mlflow.db")) as database:
        points = database.execute("select key, step from metrics").fetchall()
        states = database.execute("select status from runs").fetchall()
    assert len(points) == len(set(points))
    assert {step for key, step in points if key == "val/loss"} == {1, 2, 3, 4, 5, 6}
    assert states == [("FINISHED",)]


@pytest.mark.slow
def test_runs_started_together_never_share_a_folder(tiny: list[str], tmp_path: Path) -> None:
    processes = [start(*tiny, "training.epochs=1", "tracking=off", cwd=tmp_path) for _ in range(2)]
    for process in processes:
        output, _ = process.communicate(timeout=240)
        assert process.returncode == 0, output
    assert len(list((tmp_path / "outputs/runs").iterdir())) == 2
