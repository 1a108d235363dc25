"""Every command and every block of Python in README, docs and the headers of `conf/` does what the page says.

All run under `-m slow`, through the shell, with tiny overrides by rule and tiny things in place of the placeholders
(`workshop.py`). A chosen few run in CI, in this process.
"""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
from archive_servers import archive_server, play_panstarrs
from astropy.coordinates import name_resolve
from mlflow_servers import MlflowServer, postgresql, running
from page_commands import all_commands, code_blocks
from s3_servers import s3_server
from workshop import Done, Workshop, must, shortened, write_footprints

from astrid.cli import main
from astrid.config.compose import PROJECT_ROOT

PARTLY = {
    "pip install -e '.[ray]'": "installs packages: the extra is looked up",
    "pip install -e '.[postgres]'": "installs packages: the extra is looked up",
    "pip install -e '.[slurm]'": "installs packages: the extra is looked up",
    "optuna-dashboard outputs/studies/depth_filters.journal": "serves, and is no dependency: the file is there",
    "docker compose up": "starts a database and a bucket in containers: `test_compose.py` reads the file",
    "export AWS_ACCESS_KEY_ID=KEY AWS_SECRET_ACCESS_KEY=SECRET": "the fake bucket's keys are in the environment",
    "astrid doctor training.device=cuda": "needs a GPU: without one it must say so",
    "python train.py training.device=cuda data.workers=4": "needs a GPU: without one it must be refused",
    "python train.py training.device=cuda": "needs a GPU: without one it must be refused",
    "source .venv/bin/activate": "the environment of these tests is what it would activate",
}
"""Commands that can't be run here, with the reason and what is checked in their place."""
RAY = "hydra/launcher=ray_local"
"""Needs Ray, an extra; without it the same command runs with Hydra's own launcher."""
STATED = {"astrid diagnose outputs/runs/<run> --strict": {0, 1}}
"""Exit codes beside 0 that the page names."""
IN_CI = (
    "python train.py --cfg job",
    "astrid score scores.fits truth.fits",
    "astrid manifest DIR",
    "make mlflow-server",
    'make train ARGS="model=unet_deep data.batch_size=16"',
    "cp .env.example .env",
)
"""They need no run; a start of Python each is what they cost."""
SLOW = [command for command in all_commands() if command not in IN_CI]


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("workshop"))


@pytest.fixture(scope="session")
def servers(workshop: Workshop) -> Iterator[Callable[[str], str]]:
    """What puts servers that run here in place of those of a page, and starts each when it is first named."""
    with ExitStack() as stack:
        started: dict[str, str] = {}

        def mlflow() -> str:
            folder = workshop.folder / "server"
            folder.mkdir()
            server = MlflowServer(folder, store=f"sqlite:///{folder}/mlflow.db")
            return stack.enter_context(running(server)).uri

        def bucket() -> str:
            server = stack.enter_context(s3_server())
            server.make_bucket("bucket")
            return server.url

        def database() -> str:
            return stack.enter_context(postgresql())

        make = {
            r"http://(localhost|mlflow\.example):9003": mlflow,
            r"https://ACCOUNT\.r2\.cloudflarestorage\.com": bucket,
            r"postgresql://\w+@(db\.example|host)/studies": database,
        }

        def replaced(command: str) -> str:
            for pattern, start in make.items():
                if re.search(pattern, command):
                    started.setdefault(pattern, "") or started.update({pattern: start()})
                    command = re.sub(pattern, started[pattern], command)
            return command

        yield replaced


# What is on the pages.


def test_the_lists_of_this_file_name_commands_that_pages_have() -> None:
    assert {*PARTLY, *IN_CI, *STATED} - set(all_commands()) == set()
    assert len(all_commands()) > 90


# Running them.


def filled(command: str, workshop: Workshop, *, home: Path) -> str:
    """Put things that are there in place of what stands for the user's own."""
    if "DIR" in command or "FILE.csv" in command:
        command = with_data(command, workshop)
    if "TABLE.fits" in command:
        write_footprints(home / "TABLE.fits")
    run = workshop.run if needs_a_run(command) else Path()
    command = re.sub(r"outputs/runs/<\w+>|\b(RUN|MODEL)\b", str(run), command)
    command = command.replace("<id or name>", run_name(home, run) if "<id" in command else "")
    return command.replace("outputs/sweeps/<sweep>", "outputs/sweeps/depth_filters").replace("KNOB=VALUE", "loss=focal")


def with_data(command: str, workshop: Workshop) -> str:
    """Name folders and manifests."""
    if "data.packets=DIR" in command:
        return command.replace("DIR", str(workshop.packets))
    if "fetch" in command:
        return command.replace("DIR", "fetched")
    data = workshop.raw if "data.preprocess" in command else workshop.frames
    is_alone = data == workshop.raw and "register" not in command  # references have another grid
    manifest = data / ("alone.csv" if is_alone else "FILE.csv")
    return command.replace("DIR", str(data)).replace("FILE.csv", str(manifest))


def needs_a_run(command: str) -> bool:
    """Tell whether a command speaks about what an earlier one made."""
    return (
        command.startswith("astrid")
        and re.search(r"astrid (plan|manifest|quality|fetch|doctor|score|reduce)", command) is None
    )


def run_name(home: Path, run: Path) -> str:
    """Return the name of a run in MLflow."""
    found = re.search(r'"run_name": "([^"]+)"|"name": "(unet[^"]+)"', (home / run / "journal.jsonl").read_text())
    assert found
    return found[1] or found[2]


def fresh(request: pytest.FixtureRequest) -> str:
    return re.sub(r"\W+", "-", request.node.name)[:60]


def given(command: str, workshop: Workshop, *, name: str) -> Done:
    """Run a command as it stands on a page."""
    if command.startswith("python train.py"):
        return train(command.removeprefix("python train.py").strip(), workshop, name=name)
    home = home_of(command, workshop, name=name)
    text = filled(command, workshop, home=home)
    if command.startswith("make"):
        return make(command, workshop, home=home)
    if command.startswith("astrid fetch"):
        return fetch(shlex.split(text)[1:], home=home)
    if "outputs/reduced" in command:
        must(workshop.shell(f"astrid reduce {workshop.raw} data.preprocess.overscan=header", cwd=home))
    return workshop.shell(text, cwd=home)


def home_of(command: str, workshop: Workshop, *, name: str) -> Path:
    """Return where a command is given: where there is what it speaks about."""
    if command.startswith("astrid score"):
        return workshop.scored
    if not needs_a_run(command):
        return workshop.home(name)
    return workshop.searched if re.search(r"promote|rollback|models:|sweep|stud", command) else workshop.finished


def train(overrides: str, workshop: Workshop, *, name: str) -> Done:
    """Run `train.py` in a folder of its own, or go on in that of a run that was stopped."""
    home = workshop.home(name)
    for file in ("night.avro", "labels.csv"):
        if file in overrides:
            source = workshop.packets / file if file == "night.avro" else workshop.packets.parent / file
            (home / file).symlink_to(source)
    if "training.resume" in overrides:
        repeats = "training.repeats=2" if "<group>" in overrides else ""
        stopped = workshop.stopped(name, repeats)
        return workshop.train(re.sub(r"outputs/runs/<\w+>", str(stopped), overrides), cwd=home)
    return workshop.train(shortened(filled(overrides, workshop, home=home)), cwd=home)


def make(command: str, workshop: Workshop, *, home: Path) -> Done:
    """Have make say what it would do, since it installs or serves."""
    done = workshop.shell(command.replace("make", "make -n", 1), cwd=home)
    assert re.search(r"bin/|pip|venv", done.said), done.said
    return done


def fetch(words: list[str], *, home: Path) -> Done:
    """Fetch from archives that are played in this process."""
    with archive_server() as server, pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        play_panstarrs(server)
        server.answers["sesame/SNV"] = b"# M\n#=S=Simbad\n%J 10.684708 +41.268750 = 00:42:44.33 +41:16:07.5\n"
        with name_resolve.sesame_url.set([f"{server.url}/sesame/"]):
            return Done(main(words), "")


def complaints(command: str, done: Done) -> str:
    """Return what is wrong with how a command ended: otherwise than its page says, or with warnings for no user."""
    stated = STATED.get(command, {0})
    if done.code not in stated:
        return f"exit code {done.code}, stated are {sorted(stated)}\n{done.said[-4000:]}"
    return "\n".join(done.warnings)


@pytest.mark.parametrize("command", IN_CI)
def test_a_chosen_command_does_what_its_page_says(
    command: str, workshop: Workshop, request: pytest.FixtureRequest
) -> None:
    assert not (wrong := complaints(command, given(command, workshop, name=fresh(request)))), wrong


@pytest.mark.slow
@pytest.mark.parametrize("command", [command for command in SLOW if command not in PARTLY])
def test_every_other_command_does_what_its_page_says(
    command: str, workshop: Workshop, servers: Callable[[str], str], request: pytest.FixtureRequest, sample_data: Path
) -> None:
    changed = command
    if RAY in command:
        changed = re.sub(rf"{RAY}|hydra\.launcher\.\S+", "", command)
    if "hydra/launcher=slurm " in command:
        write_slurm(workshop.folder / "bin")
    name = fresh(request)
    if "rubin.parquet" in command:
        (workshop.home(name) / "rubin.parquet").symlink_to(sample_data / "lsst_alerts_2026a/lsst_20260309.parquet")
    if "doctor" in command:
        # an experiment of its own: that of the other commands keeps its artifacts elsewhere
        changed = f"{command} tracking.uri=http://localhost:9003 tracking.experiment=doctor"
    assert not (wrong := complaints(command, given(servers(changed), workshop, name=name))), wrong


@pytest.mark.slow
@pytest.mark.parametrize("command", [command for command in SLOW if command in PARTLY])
def test_what_can_not_be_run_is_true_as_far_as_it_goes(command: str, workshop: Workshop) -> None:
    if command.startswith("pip"):
        extra = command.partition("[")[2].partition("]")[0]
        extras = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        assert extra in extras
    elif command.startswith("optuna-dashboard"):
        assert (workshop.searched / command.split()[1]).is_file()
    elif command.startswith("docker"):
        assert (PROJECT_ROOT / "compose.yaml").is_file()
    elif "device=cuda" in command and not torch.cuda.is_available():
        done = workshop.shell(command, cwd=workshop.home("no-gpu"))
        assert done.code == (2 if "train.py" in command else 1) and "CUDA" in done.said, done.said
    elif "device=cuda" in command:
        assert not (wrong := complaints(command, given(command, workshop, name="gpu"))), wrong
    else:
        assert command.startswith(("source .venv/bin/activate", "export AWS_"))


# A Slurm of one machine, as far as submitit asks: it starts a job at once and forgets nothing.

SBATCH = """#!/usr/bin/env python3
import os, re, subprocess, sys, time
script = sys.argv[-1]
text = open(script).read()
number = str(time.time_ns() % 10**9)
array = re.search(r"--array=(\\d+)-(\\d+)", text)
tasks = range(int(array[1]), int(array[2]) + 1) if array else [None]
for task in tasks:
    own = {"SLURM_JOB_ID": number, "SLURM_CPUS_PER_TASK": "1", "SLURM_NTASKS": "1", "SLURM_JOB_NUM_NODES": "1",
           "SLURM_NODEID": "0", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_JOB_NODELIST": "here"}
    if task is not None:
        own |= {"SLURM_ARRAY_JOB_ID": number, "SLURM_ARRAY_TASK_ID": str(task)}
    job = number if task is None else f"{number}_{task}"
    log = open(os.path.join(os.path.dirname(script), f"{job}.fake"), "w")
    process = subprocess.Popen(["bash", script], env={**os.environ, **own}, stdout=log, stderr=log,
                               start_new_session=True)
    with open(os.path.join(os.path.dirname(__file__), "jobs"), "a") as jobs:
        jobs.write(f"{job} {process.pid}\\n")
print(f"Submitted batch job {number}")
"""
SRUN = """#!/usr/bin/env python3
import os, subprocess, sys
words = sys.argv[1:]
while words[0].startswith("-"):
    words = words[1:] if "=" in words[0] or words[0] == "--unbuffered" else words[2:]
sys.exit(subprocess.call(words))
"""
SACCT = """#!/usr/bin/env python3
import os
print("JobID|State|NodeList")
for line in open(os.path.join(os.path.dirname(__file__), "jobs")):
    job, pid = line.split()
    alive = os.path.exists(f"/proc/{pid}") and " Z " not in open(f"/proc/{pid}/stat").read()
    print(f"{job}|{'RUNNING' if alive else 'COMPLETED'}|here")
"""


def write_slurm(folder: Path) -> None:
    """Write Slurm's commands into a folder of the search path."""
    folder.mkdir(exist_ok=True)
    for name, text in {"sbatch": SBATCH, "srun": SRUN, "sacct": SACCT, "scancel": "#!/bin/sh\n"}.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)


@pytest.mark.slow
@pytest.mark.parametrize("block", code_blocks("bash"), ids=lambda block: block.page)
def test_every_script_runs_as_a_task_would(
    block: Any, workshop: Workshop, servers: Callable[[str], str], request: pytest.FixtureRequest
) -> None:
    home = workshop.home(fresh(request))
    few = "training.epochs=1 data.train_fields=2 data.val_fields=2 data.test_fields=4"
    tiny = f"sweep=depth_filters hydra.sweeper.study_name=script {few} data.cache={home}/cache"
    script = servers(block.text).replace("n_trials=64", "n_trials=2").replace("sweep=depth_filters", tiny, 1)
    script = re.sub(r"exec \.venv/bin/python", "exec python", script)
    done = workshop.shell(script, cwd=home, env={"SLURM_SUBMIT_DIR": str(home), "SLURM_CPUS_PER_TASK": "1"})
    assert done.code == 0 and done.warnings == [], done.said[-4000:]


# Python.


@pytest.mark.slow
@pytest.mark.parametrize("block", code_blocks("python"), ids=lambda block: block.page)
def test_every_block_of_python_runs(block: Any, workshop: Workshop, request: pytest.FixtureRequest) -> None:
    code = block.text.replace('train(["', 'train([*TINY, "').replace('train_async(["', 'train_async([*TINY, "')
    code = "\n".join(f"    {line}" for line in code.splitlines())
    program = PREPARED.format(cache=workshop.folder / "cache") + f"\nasync def main():\n{code}\n\nasyncio.run(main())\n"
    script = workshop.searched / f"{fresh(request)}.py"
    script.write_text(program)
    done = workshop.shell(f"python {script}", cwd=workshop.finished)
    assert done.code == 0 and done.warnings == [], done.said[-4000:]


PREPARED = """\
import asyncio
import numpy as np
rng = np.random.default_rng(0)
y_true = rng.random((64, 64)) < 0.1
y_scores = np.clip(0.4 * y_true + 0.6 * rng.random(y_true.shape), 0, 1)
y_pred = y_scores > 0.5
seconds = [0.010, 0.011, 0.012]
channels = rng.normal(size=(3, 128, 128)).astype(np.float32)
TINY = ["data.train_fields=4", "data.val_fields=2", "data.test_fields=2", "data.field_size=128", "data.tile_size=64",
        "training.threads=1", "training.device=cpu", "metrics=fast", "data.cache={cache}"]
"""
