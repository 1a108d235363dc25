"""What a sweep costs beside training: seconds of study and tracking for each trial, and of the plugin at every start.

A study with the recipe's own sampler, pruner and journal runs trials that do everything but train and judge: Hydra
composes each, the journal and SQLite take six epochs of metrics, parameters and tags, the study hears of every epoch.
The seconds from the start of one trial to that of the next are its overhead. The plugin's share of
`python train.py --cfg job` is that command against the same one from which the plugin is hidden, turn by turn.

    python experiments/benchmarks/bench_sweep.py
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import optuna
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from rivals import record, spread

from astrid.config import Config
from astrid.config.compose import CONF, PROJECT_ROOT, register, to_config
from astrid.config.leaves import leaves
from astrid.sweep.plugin import register_sweeper
from astrid.sweep.study import open_storage
from astrid.sweep.trial import run_trial
from astrid.tracking import open_tracker

TRIALS, STARTS = 30, 7
HIDING = """
import runpy, sys
import hydra.core.plugins as plugins
if {hide}:
    known = plugins.entry_points
    plugins.entry_points = lambda group: [e for e in known(group=group) if not e.value.startswith("astrid.")]
    sys.modules["astrid.sweep.plugin"] = type(sys)("astrid.sweep.plugin")
    sys.modules["astrid.sweep.plugin"].register_sweeper = lambda: None
sys.argv = ["train.py", "--cfg", "job"]
runpy.run_path("train.py", run_name="__main__")
"""


def report_only(config: Config, *, run_dir: Path, after_epoch: Callable[[dict[str, float]], None]) -> float:
    """Do what a run does but for training and judging."""
    params = leaves({"model": vars(config.model), "optimizer": vars(config.optimizer)})
    tags = {"sweep": str(config.sweep.study), "trial": str(config.sweep.trial)}
    score = 0.0
    with open_tracker(config.tracking, run_dir, name="no training", params=params, tags=tags) as tracker:
        for epoch in range(1, config.training.epochs + 1):
            score = 1 - 1 / (config.model.depth * config.model.filters * epoch)
            values = {"train/loss": 1 / epoch, "train/seconds": 0.0, "val/seconds": 0.0, "val/auprc": score}
            tracker.metrics(values, step=epoch)
            after_epoch(values | {"epoch": epoch})
        (run_dir / "metrics.json").write_text(json.dumps({"objective": score}))
        tracker.artifact(run_dir / "metrics.json")
    return score


@hydra.main(config_path=str(CONF), config_name="config")
def sweep(composed: DictConfig) -> Any:
    """Be the job of a trial, as `train.py` is."""
    job = HydraConfig.get()
    config = to_config(composed, overrides=job.overrides.task)
    return run_trial(report_only, config, run_dir=Path(job.runtime.output_dir), sweeper=job.sweeper)


def overhead_seconds(folder: Path) -> list[float]:
    """Run a study and return the seconds from the start of each trial to that of the next, the first ones left out."""
    storage = f"journal://{folder}/study.journal"
    command = [
        sys.executable,
        __file__,
        "-m",
        "sweep=depth_filters",
        "sweep.worker=0",
        f"hydra.sweep.dir={folder}/sweep",
    ]
    command += [
        f"hydra.sweeper.n_trials={TRIALS}",
        "hydra.sweeper.study_name=bench",
        f"hydra.sweeper.storage={storage}",
    ]
    subprocess.run([*command, f"tracking.uri=sqlite:///{folder}/mlflow.db"], check=True, capture_output=True)
    study = optuna.load_study(study_name="bench", storage=open_storage(storage, heartbeat_seconds=10))
    starts = [trial.datetime_start.timestamp() for trial in study.trials if trial.datetime_start is not None]
    return [float(seconds) for seconds in np.diff(starts)[1:]]


def start_seconds(*, hide: bool) -> float:
    """Time `python train.py --cfg job`, with or without the plugin."""
    begin = time.perf_counter()
    code = HIDING.format(hide=hide)
    subprocess.run([sys.executable, "-c", code], cwd=PROJECT_ROOT, check=True, capture_output=True)
    return time.perf_counter() - begin


def main() -> None:
    """Measure both and record them."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        overhead = overhead_seconds(Path(folder))
    start_seconds(hide=True)
    pairs = [(start_seconds(hide=False), start_seconds(hide=True)) for _ in range(STARTS)]
    control = [start_seconds(hide=True) - hidden for _, hidden in pairs]
    shown = spread([visible for visible, _ in pairs])
    plugin = spread([visible - hidden for visible, hidden in pairs])
    record(
        "bench_sweep",
        f"study and tracking {spread(overhead)} s a trial, over {len(overhead)} trials with a journal",
        f"`--cfg job` {shown} s, of which the plugin is {plugin} s; control {spread(control)} s",
    )


if __name__ == "__main__":
    register_sweeper()
    if "-m" in sys.argv:
        register()
        sweep()
    else:
        main()
