"""Studies, and sweeps of tiny runs, that several test modules use."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import optuna

from astrid.config.compose import PROJECT_ROOT
from astrid.sweep.study import JOURNAL, open_storage, open_study

SPACE = {
    "model.depth": optuna.distributions.IntDistribution(1, 3),
    "optimizer.lr": optuna.distributions.FloatDistribution(1e-4, 1e-2, log=True),
}
SETTINGS = {"data.train_fields": "64", "training.epochs": "6", "training.seed": "1", "sweep.workers": "1"}


def new_study(folder: Path, **changes: object) -> optuna.Study:
    choices = {
        "name": "s",
        "directions": ["maximize"],
        "sampler": optuna.samplers.RandomSampler(seed=0),
        "pruner": optuna.pruners.NopPruner(),
        "space": SPACE,
        "settings": SETTINGS,
    } | changes
    storage = open_storage(f"{JOURNAL}{folder}/s.journal", heartbeat_seconds=10)
    return open_study(storage, **choices)  # type: ignore[arg-type]


def sweep(*overrides: str, tiny: list[str], cwd: Path) -> list[str]:
    own = ["-m", "tracking=off", "training.epochs=3", f"hydra.sweeper.storage={JOURNAL}{cwd}/study.journal"]
    return [sys.executable, str(PROJECT_ROOT / "train.py"), *tiny, *own, *overrides]


def study_in(cwd: Path, name: str) -> optuna.Study:
    storage = open_storage(f"{JOURNAL}{cwd}/study.journal", heartbeat_seconds=10)
    return optuna.load_study(study_name=name, storage=storage)


def run(command: list[str], *, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=900)
