"""AstrID from Python: the counterpart of `train.py`, for notebooks and scripts.

Only this module, `train.py`, the `astrid` command and tests start runs.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO

from astrid.array_scores import compute_metrics
from astrid.config import Config, ConfigError, RunError
from astrid.config.checks import check
from astrid.config.compose import PROJECT_ROOT, load, run_folder
from astrid.energy import EnergyAnalyzer
from astrid.energy_runs import read_run
from astrid.tracking.journal import FILE_NAME
from astrid.tracking.records import read_records
from astrid.tracking.stored_runs import read_folder

__all__ = ["FinishedRun", "analyse_energy", "compute_metrics", "fresh_folder", "train", "train_async", "watch_epochs"]

CONSOLE = "console.log"
"""What a run that was started in a process of its own would have said on the terminal."""


@dataclass(frozen=True)
class FinishedRun:
    """A run that has come to its end.

    Attributes
    ----------
    folder : Path
        Configuration, journal, checkpoints, figures and tables.
    objective : float
        The best value of `training.monitor`.
    metrics : dict of str to float
        The last of each name, such as ``test/auprc``.
    """

    folder: Path
    objective: float
    metrics: dict[str, float]


def fresh_folder() -> Path:
    """Return a folder for a new run below ``outputs/runs``, named as those of `train.py`."""
    return PROJECT_ROOT / "outputs" / "runs" / f"{datetime.now():%Y-%m-%d_%H-%M-%S}-{secrets.token_hex(4)}"


def train(overrides: Sequence[str] = (), *, folder: Path | None = None) -> FinishedRun:
    """Train, evaluate and record in this process what ``python train.py OVERRIDES`` does, and return when it is done.

    Parameters
    ----------
    overrides : sequence of str
        As on the command line: ``["model=unet_deep", "data.batch_size=16"]``.
    folder : Path, optional
        Of the new run; without it, one below ``outputs/runs``.

    Raises
    ------
    ConfigError, DataError
        Before the first step, for what cannot run.
    RunError
        For what had to stop afterwards; what was done until then is saved, and ``training.resume=FOLDER`` goes on.
    BudgetSpent
        Where the run has used the energy that it may; all is saved.

    Examples
    --------
    >>> train(["model=unet_small", "training.epochs=2"]).metrics["test/auprc"]  # doctest: +SKIP
    0.71
    """
    config = load(overrides)
    run_dir = _folder_of(config) if folder is None else folder
    return FinishedRun(run_dir, _run(config, run_dir), read_folder(run_dir).metrics)


def _folder_of(config: Config) -> Path:
    return Path(run_folder(str(fresh_folder()), config.training.resume))


def _run(config: Config, run_dir: Path) -> float:
    from astrid.experiment import run_experiment
    from astrid.repeats import run_group

    if config.is_several:
        return float(run_group(run_experiment, config, run_dir=run_dir))
    return run_experiment(config, run_dir=run_dir)


async def train_async(overrides: Sequence[str] = (), *, folder: Path | None = None) -> FinishedRun:
    """Do what `train` does in a process of its own, so that an event loop goes on meanwhile.

    Whoever cancels it has the run stopped as by SIGTERM: it saves first, and can be resumed. What it prints is in
    ``console.log`` of its folder, which exists from the start and can be followed live.

    Parameters
    ----------
    overrides, folder
        As for `train`.

    Raises
    ------
    ConfigError
        For a configuration that cannot run, or a folder that is taken, before any process starts.
    RunError
        With the last lines of what the run said, where it ended with another exit code than 0.
    """
    config = load(overrides)
    run_dir = (_folder_of(config) if folder is None else folder).resolve()
    resumed = config.training.resume is not None
    _make_folder(run_dir, exist_ok=resumed)
    where = [] if resumed else [f"hydra.run.dir={_quoted(run_dir)}"]
    with (run_dir / CONSOLE).open("ab") as console:
        code = await _call([*overrides, *where], console)
    if code != 0:
        said = (run_dir / CONSOLE).read_text(errors="replace").strip().splitlines()[-5:]
        raise RunError(f"the run in {run_dir} ended with exit code {code}:\n" + "\n".join(said))
    metrics = read_folder(run_dir).metrics
    return FinishedRun(run_dir, metrics["objective"], metrics)


def _make_folder(run_dir: Path, *, exist_ok: bool) -> None:
    check("${" not in str(run_dir), "folder", str(run_dir), "a path without ${, which Hydra would fill in", "rename it")
    try:
        run_dir.mkdir(parents=True, exist_ok=exist_ok)
    except FileExistsError as error:
        raise ConfigError(f"folder must be a new one, got {str(run_dir)!r}; give another, or remove it") from error


def _quoted(path: Path) -> str:
    """Return a path as Hydra reads it back: in quotes, with quotes and the backslashes before them escaped."""
    return "'" + re.sub(r"(\\*)('|\Z)", lambda found: found[1] * 2 + ("\\'" if found[2] else ""), str(path)) + "'"


async def _call(arguments: Sequence[str], console: IO[bytes]) -> int:
    """Run `train.py` and return its exit code; a cancelled call has it save and stop first."""
    command = (sys.executable, str(PROJECT_ROOT / "train.py"), *arguments)
    process = await asyncio.create_subprocess_exec(*command, cwd=PROJECT_ROOT, stdout=console, stderr=console)
    try:
        return await process.wait()
    except asyncio.CancelledError:
        process.terminate()
        await process.wait()
        raise


async def watch_epochs(
    task: asyncio.Task[FinishedRun], folder: Path, *, interval_seconds: float = 1.0
) -> AsyncIterator[list[dict[str, float]]]:
    """Yield the history of a run whenever an epoch has ended, until its task has; for curves that grow.

    Parameters
    ----------
    task : asyncio.Task
        Of `train_async`.
    folder : Path
        That of the run.
    interval_seconds : float
        Time between two looks at the journal.

    Yields
    ------
    list of dict of str to float
        One record an epoch, as `astrid.plots.training_curves` takes them: `epoch`, and values by name.
    """
    seen = 0
    while not task.done():
        await asyncio.wait([task], timeout=interval_seconds)
        history = _history(folder)
        if len(history) > seen:
            seen = len(history)
            yield history


def _history(folder: Path) -> list[dict[str, float]]:
    """Return what every epoch logged so far; empty before the run has begun."""
    journal = folder / FILE_NAME
    if not journal.is_file() or next(read_records(journal), None) is None:  # its first line is still to be written
        return []
    values = {name: dict(points) for name, points in read_folder(folder).histories.items()}
    return [
        {"epoch": epoch} | {name: points[epoch] for name, points in values.items() if epoch in points}
        for epoch in values.get("train/loss", {})
    ]


def analyse_energy(folders: Sequence[str | Path]) -> EnergyAnalyzer:
    """Return the energy of runs, read from their folders, ready for questions.

    Raises
    ------
    DataError
        For a folder that holds no run, or one without an energy ledger.
    """
    return EnergyAnalyzer([read_run(folder) for folder in folders])
