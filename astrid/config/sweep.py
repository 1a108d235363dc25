"""Knobs of a sweep; what is searched, by which sampler and pruner, is said by `conf/sweep/` in `hydra.sweeper`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .checks import check


@dataclass
class SweepConfig:
    """How the trials of a study are run; without `sweep=<recipe>` nothing here has an effect."""

    workers: int = 1
    """Processes that share the study on this machine, each pinned to its GPU or its share of the cores."""
    max_failures: int = 10
    """Failed trials, in all, after which no further trial is started; those that somebody stopped don't count."""
    max_retries: int = 3
    """Times that the parameters of a trial whose process died are tried again; one that was stopped always is."""
    max_seconds: float | None = None
    """Seconds of training, over all trials of the study, after which no further one is started; null is no bound."""
    energy_budget_kwh: float | None = None
    """Measured energy of the study's trials after which no further trial is started; null is no bound."""
    heartbeat_seconds: int = 10
    """Interval in which a trial says through a database that it lives; three missed ones are its death."""
    second_objective: Literal["energy"] | None = None
    """`energy` adds kWh as something to minimise; where no energy is measured it is seconds, and the log says so."""
    worker: int | None = None
    """Number of the process among those that search here; set by the one that starts them."""
    study: str | None = None
    """Name of the study that this trial belongs to; set by the sweeper from `hydra.sweeper.study_name`."""
    trial: int | None = None
    """Number of the trial that this run is; set by the sweeper."""
    parent_run: str | None = None
    """MLflow run of the study that this trial belongs to; set by the sweeper."""

    def __post_init__(self) -> None:
        for name in ("workers", "max_failures", "heartbeat_seconds"):
            value = getattr(self, name)
            check(value >= 1, f"sweep.{name}", value, "at least 1", f"try sweep.{name}=1")
        check(self.max_retries >= 0, "sweep.max_retries", self.max_retries, "at least 0", "try sweep.max_retries=3")
        for name in ("max_seconds", "energy_budget_kwh"):
            bound = getattr(self, name)
            check(bound is None or bound > 0, f"sweep.{name}", bound, "null or positive", f"try sweep.{name}=null")
