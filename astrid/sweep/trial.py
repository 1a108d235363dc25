"""The job's side of a trial: say how it goes, hear whether it is worth going on, and hand back how it ended."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, cast

import optuna
from hydra.utils import instantiate
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages._heartbeat import get_heartbeat_thread

from ..config import BudgetSpent, Config, Pruned, RunError, Stopped, SweepConfig
from ..config.compose import PROJECT_ROOT
from ..config.secrets import scrub
from ..energy import total_kwh
from ..energy.ledger import LEDGER, read_ledger
from ..energy.records import summarise
from ..tracking import known_run_id
from ..tracking.owner import this_process
from .study import default_storage, open_storage

log = logging.getLogger(__name__)

JOB, END, RUN_ID = "job", "end", "mlflow_run_id"
"""Attributes of a trial: its own process, how it ended (a sweep may lose sight of the process), its MLflow run."""
COST_UNIT = "cost_unit"
"""Attribute of a study with two objectives: the unit of the second, kWh or seconds, which its trials must share."""


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
    run_dir : Path
        Folder of its run.
    """

    def __init__(self, study: optuna.Study, number: int, *, run_dir: Path) -> None:
        self.study = study
        self._run_dir = run_dir
        self.seconds = 0.0
        self._id = study._storage.get_trial_id_from_study_id_trial_number(study._study_id, number)
        self._trial = optuna.trial.Trial(study, self._id)

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
        if len(self.study.directions) > 1:
            return
        self._trial.report(value, epoch)
        if self._trial.should_prune():
            raise Pruned(f"pruned after epoch {epoch} at {value:.4f}")

    def close(self, end: TrialEnd | None) -> None:
        """Keep how the trial ended, None where it was cut short; nothing where its sweep has given it up."""
        with suppress(UpdateFinishedTrialError):
            note_facts(self._trial, self._run_dir)
            self.note(**({JOB: None} if end is None else {END: asdict(end)}))

    def heartbeat(self) -> AbstractContextManager[None, None]:
        """Return a context in which a database hears that the trial lives; nothing on a journal file."""
        return cast(AbstractContextManager[None, None], get_heartbeat_thread(self._id, self.study._storage))


def note_facts(trial: optuna.trial.Trial, run_dir: Path) -> None:
    """Keep with a trial which MLflow run it is, and what energy its ledger holds, as far as they are known."""
    run_id, kwh = known_run_id(run_dir), spent_kwh(run_dir)
    if run_id is not None:
        trial.set_user_attr(RUN_ID, run_id)
    if kwh is not None:
        trial.set_user_attr("kwh", kwh)


def spent_kwh(run_dir: Path) -> float | None:
    """Return the energy that a run has used so far, None where none was measured."""
    path = run_dir / LEDGER
    return total_kwh(summarise(list(read_ledger(path).spans.values()))) if path.is_file() else None


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
    try:
        trial = open_trial(config.sweep, sweeper, run_dir=run_dir)
    except UpdateFinishedTrialError:
        return TrialEnd("failed", reason="it was given up before it began")
    end = None
    try:
        with trial.heartbeat():
            end = _train(run, config, run_dir=run_dir, trial=trial)
        return end
    except Stopped as stopped:
        number = config.sweep.trial
        raise Stopped(f"trial {number} was stopped; the sweep's own command tries its parameters again") from stopped
    finally:
        trial.close(end)


def _train(run: Callable[..., float], config: Config, *, run_dir: Path, trial: Trial) -> TrialEnd:
    def after_epoch(values: dict[str, float]) -> None:
        trial.report(values[config.training.monitor], values=values)

    try:
        objective = run(config, run_dir=run_dir, after_epoch=after_epoch)
        return finite([objective, *note_cost(trial, config.sweep, run_dir=run_dir)])
    except (Pruned, BudgetSpent) as pruned:
        log.info("trial %s: %s", config.sweep.trial, pruned)
        trial.note(budget_spent=isinstance(pruned, BudgetSpent))
        return TrialEnd("pruned", reason=str(pruned))
    except SystemExit as left:
        return TrialEnd("failed", reason=f"the trial left the process with code {left.code}")
    except Exception as error:  # whatever a trial raises is that trial's failure, and not the sweep's
        log.debug("trial %s failed", config.sweep.trial, exc_info=True)
        return TrialEnd("failed", reason=scrub(f"{type(error).__name__}: {error}"))


def finite(values: list[float]) -> TrialEnd:
    """Return the end of a trial that reached these objectives; one that is no number is a failure."""
    if all(math.isfinite(value) for value in values):
        return TrialEnd("complete", values=values)
    return TrialEnd("failed", reason=f"the objective is {values}, which is no number")


def open_trial(config: SweepConfig, sweeper: Mapping[str, Any], *, run_dir: Path) -> Trial:
    """Find the trial in the study's storage; its sampler is never asked, and the random one has nothing to disturb."""
    assert config.study is not None and config.trial is not None
    url = sweeper["storage"] or default_storage(config.study, PROJECT_ROOT)
    study = optuna.load_study(
        study_name=config.study,
        storage=open_storage(url, heartbeat_seconds=config.heartbeat_seconds),
        sampler=optuna.samplers.RandomSampler(),
        pruner=instantiate(sweeper["pruner"], _execution_whitelist_="optuna.pruners.*"),
    )
    trial = Trial(study, config.trial, run_dir=run_dir)
    trial.note(run_dir=str(run_dir), **{JOB: asdict(this_process())})
    return trial


def note_cost(trial: Trial, config: SweepConfig, *, run_dir: Path) -> list[float]:
    """Keep the energy of a finished run with its trial, and return what it cost where that is an objective.

    It is kWh, or seconds of training where no energy is measured; the first trial decides for the whole study.

    Raises
    ------
    RunError
        Where the study counts kWh and this run measured none.
    """
    kwh = json.loads((run_dir / "metrics.json").read_text()).get("energy/total_kwh")
    if kwh is not None:
        trial.note(kwh=kwh)
    elif config.energy_budget_kwh is not None:
        log.warning("sweep.energy_budget_kwh bounds nothing: no energy is measured here")
    if config.second_objective is None:
        return []
    unit = trial.study.user_attrs.get(COST_UNIT)
    if unit is None:
        unit = "seconds" if kwh is None else "kWh"
        trial.study.set_user_attr(COST_UNIT, unit)
        if kwh is None:
            log.warning("no energy is measured here: the second objective is the seconds of training")
    if unit == "seconds":
        return [trial.seconds]
    if kwh is None:
        raise RunError("the study's second objective is energy in kWh, and this run measured none; see its log for why")
    return [float(kwh)]
