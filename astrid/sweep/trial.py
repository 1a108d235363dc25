"""The job's side of a trial: say how it goes, hear whether it is worth going on, and hand back how it ended."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import optuna
from hydra.utils import instantiate
from optuna.storages._heartbeat import get_heartbeat_thread

from ..config import BudgetSpent, Config, Pruned, SweepConfig
from ..config.compose import PROJECT_ROOT
from .study import default_storage, open_storage

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrialEnd:
    """How a trial ended; it crosses processes, and no exception does, which Hydra would print with its trace.

    Attributes
    ----------
    state : "complete", "pruned" or "failed"
    values : list of float or None
        The objectives of a complete trial.
    reason : str
        Why a trial failed, or where it was pruned.
    """

    state: Literal["complete", "pruned", "failed"]
    values: list[float] | None = None
    reason: str = ""


class Trial:
    """An Optuna trial, found again in the process that trains it.

    Parameters
    ----------
    study : Study
        Loaded from the shared storage, with the sweep's pruner.
    number : int
        The trial's number in it.
    """

    def __init__(self, study: optuna.Study, number: int) -> None:
        self._study = study
        storage = study._storage
        self._id = storage.get_trial_id_from_study_id_trial_number(study._study_id, number)
        self._trial = optuna.trial.Trial(study, self._id)
        self._can_prune = len(study.directions) == 1
        self.seconds = 0.0

    def note(self, **attributes: Any) -> None:
        """Keep facts with the trial, from its start on, so that a killed one has them too."""
        for name, value in attributes.items():
            self._trial.set_user_attr(name, value)

    def report(self, value: float, *, values: Mapping[str, float]) -> None:
        """Report the objective after an epoch, of which `values` tell number and seconds.

        Raises
        ------
        Pruned
            Where the other trials show that this one isn't worth going on with.
        """
        epoch = int(values["epoch"])
        self.seconds += values["train/seconds"] + values["val/seconds"]
        self.note(epochs=epoch, seconds=self.seconds)
        if not self._can_prune:
            return
        self._trial.report(value, epoch)
        if self._trial.should_prune():
            raise Pruned(f"pruned after epoch {epoch} at {value:.4f}")

    def heartbeat(self) -> AbstractContextManager[None, None]:
        """Return a context in which a database hears that the trial lives; nothing on a journal file."""
        return cast(AbstractContextManager[None, None], get_heartbeat_thread(self._id, self._study._storage))


def run_trial(run: Callable[..., float], config: Config, *, run_dir: Path, sweeper: Mapping[str, Any]) -> TrialEnd:
    """Train one trial and return how it ended.

    A trial that raises is a failed trial; only what stops the whole sweep (Ctrl-C, SIGTERM) goes on as an exception.

    Parameters
    ----------
    run : callable
        `run_experiment`.
    config : Config
        The trial's own, with `sweep.trial`.
    run_dir : Path
    sweeper : mapping
        Options of the sweeper, as Hydra hands them to the job: storage, study, pruner.
    """
    trial = open_trial(config.sweep, sweeper)
    trial.note(run_dir=str(run_dir))

    def after_epoch(values: dict[str, float]) -> None:
        trial.report(values[config.training.monitor], values=values)

    with trial.heartbeat():
        try:
            objective = run(config, run_dir=run_dir, after_epoch=after_epoch)
            cost = note_cost(trial, run_dir)
            return TrialEnd("complete", values=[objective, *([cost] if config.sweep.second_objective else [])])
        except (Pruned, BudgetSpent) as pruned:
            return TrialEnd("pruned", reason=str(pruned))
        except SystemExit as left:
            return TrialEnd("failed", reason=f"the trial left the process with code {left.code}")
        except Exception as error:  # whatever a trial raises is that trial's failure, and not the sweep's
            log.debug("trial %s failed", config.sweep.trial, exc_info=True)
            return TrialEnd("failed", reason=f"{type(error).__name__}: {error}")


def open_trial(config: SweepConfig, sweeper: Mapping[str, Any]) -> Trial:
    """Find the trial in the study's storage; its sampler is never asked, and the random one has nothing to disturb."""
    assert config.study is not None and config.trial is not None
    url = sweeper["storage"] or default_storage(config.study, PROJECT_ROOT)
    study = optuna.load_study(
        study_name=config.study,
        storage=open_storage(url, heartbeat_seconds=config.heartbeat_seconds),
        sampler=optuna.samplers.RandomSampler(),
        pruner=instantiate(sweeper["pruner"], _execution_whitelist_="optuna.pruners.*"),
    )
    return Trial(study, config.trial)


def note_cost(trial: Trial, run_dir: Path) -> float:
    """Keep what a whole run cost with its trial, and return the kWh, or the seconds where none were measured."""
    metrics = json.loads((run_dir / "metrics.json").read_text())
    kwh = metrics.get("energy/total_kwh")
    trial.note(kwh=kwh)
    if kwh is None:
        log.info("no energy was measured: the second objective, if any, is the seconds of training")
        return float(trial.seconds)
    return float(kwh)
