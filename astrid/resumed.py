"""What a run that is resumed goes on from, and whether it may."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any

import torch

from astrid.checkpoint import CHECKPOINTS, LAST, load_checkpoint
from astrid.config import ConfigError, DataError, TrackingConfig, TrainingConfig
from astrid.data.fields import Splits
from astrid.learner import Progress
from astrid.tracking import Journal, ShippingError, sync
from astrid.training import out_of_patience

log = logging.getLogger(__name__)


def load_saved(config: TrainingConfig, run_dir: Path) -> dict[str, Any] | None:
    """Return what a resumed run goes on from; None for a new run, or one that was killed before it began to train."""
    if config.resume is None:
        return None
    path = run_dir / CHECKPOINTS / LAST
    if not path.exists():
        log.warning("%s was stopped before its first checkpoint: it starts from the beginning", run_dir)
        return None
    saved = load_checkpoint(path)
    done = saved["progress"]["epoch"]
    if done > config.epochs:
        rule = f"at least the {done} epochs that are done"
        raise ConfigError(f"training.epochs must be {rule}, got {config.epochs}; try training.epochs={done + 1}")
    return saved


def nothing_is_left(saved: dict[str, Any], config: TrainingConfig, run_dir: Path) -> bool:
    """Tell whether a run that is to be resumed came to its end, and has no more epochs to train."""
    progress = Progress(**saved["progress"])
    trained = progress.epoch == config.epochs or out_of_patience(progress, config)
    return trained and Journal.open(run_dir).status == "FINISHED"


def send_rest(run_dir: Path, config: TrackingConfig) -> None:
    """Send what MLflow lacks of a finished run, which may have been killed while it waited for MLflow."""
    if config.backend == "off":
        return
    try:
        sync(run_dir, config)
    except ShippingError as error:
        log.warning("%s; send it later with: astrid sync %s", error, run_dir)


def as_resolved(config: TrainingConfig, runtime: dict[str, Any]) -> TrainingConfig:
    """Return the configuration with what `auto` came to when the run was started; announce what can't be kept."""
    precision = runtime["precision"] if config.precision == "auto" else config.precision
    device = runtime["device"] if config.device == "auto" else config.device
    now = {"device": device, "threads": config.threads or torch.get_num_threads(), "torch": torch.__version__}
    for name, value in now.items():
        if str(value) != str(runtime[name]):
            log.warning("%s was %s, is %s: the weights may differ in their last bits", name, runtime[name], value)
    return dataclasses.replace(config, precision=precision, device=device)


def check_same_data(saved_fingerprint: str, splits: Splits) -> None:
    """Refuse to go on with other data than the run was started with.

    Raises
    ------
    DataError
        Where the fingerprints differ.
    """
    if saved_fingerprint != splits.fingerprint:
        raise DataError(
            f"a resumed run must see the same data, but their fingerprint was {saved_fingerprint[:16]} and is "
            f"{splits.fingerprint[:16]}: files, versions or preparation changed; start a new run"
        )
