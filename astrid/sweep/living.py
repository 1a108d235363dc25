"""Trials whose process is gone: recorded as failed, tried again, and their tracked runs ended."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import fail_stale_trials
from optuna.storages._heartbeat import is_heartbeat_enabled
from optuna.trial import FrozenTrial, Trial, TrialState

from ..config import Config, DataError, SweepConfig
from ..tracking import ShippingError, known_run_id, sync
from ..tracking.owner import is_alive, this_process
from ..tracking.records import Attached
from .bounds import INTERRUPTED

log = logging.getLogger(__name__)

RUN_ID = "mlflow_run_id"
"""Attribute of a trial that names its MLflow run."""


def note_owner(trial: Trial) -> None:
    """Keep with a trial which process runs it; a journal file has no heartbeat, and this shows a death at once."""
    trial.set_user_attr("owner", asdict(this_process()))


def reap(study: optuna.Study, config: Config) -> None:
    """Fail every running trial whose process is gone, and ask for its parameters again.

    On this machine the process itself is looked for; a database also knows trials of other machines whose heartbeat
    has stopped.
    """
    if is_heartbeat_enabled(study._storage):
        reap_silent(study, config.sweep)
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        owner = trial.user_attrs.get("owner")
        if owner is not None and is_alive(Attached(**owner)) is False:
            _end_tracked_run(study, trial, config)
            study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
            _ask_again(study, trial, config=config.sweep, reason="its process is gone")


def release(study: optuna.Study, trials: Sequence[Trial], *, config: Config) -> None:
    """Fail trials of this process that somebody stopped, and ask for their parameters again."""
    for trial in trials:
        frozen = study.trials[trial.number]
        if frozen.state == TrialState.RUNNING:
            trial.set_user_attr(INTERRUPTED, True)
            study.tell(trial.number, state=TrialState.FAIL)
            _ask_again(study, study.trials[trial.number], config=config.sweep, reason="it was stopped")


def note_run(trial: Trial, run_dir: Path) -> None:
    """Keep with a trial which MLflow run it is, once that is known."""
    run_id = known_run_id(run_dir)
    if run_id is not None:
        trial.set_user_attr(RUN_ID, run_id)


def reap_silent(study: optuna.Study, config: SweepConfig) -> None:
    """Fail the trials whose heartbeat has stopped, on whatever machine, and ask for their parameters again."""
    before = {trial.number for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # Optuna says so of its heartbeats
        fail_stale_trials(study)
    for trial in study.get_trials(deepcopy=False, states=(TrialState.FAIL,)):
        if trial.number in before:
            _ask_again(study, trial, config=config, reason="its heartbeat stopped")


def _ask_again(study: optuna.Study, trial: FrozenTrial, *, config: SweepConfig, reason: str) -> None:
    retries = int(trial.user_attrs.get("retries", 0)) + (0 if trial.user_attrs.get(INTERRUPTED) else 1)
    again = retries <= config.max_retries and bool(trial.params)
    log.warning("trial %d failed: %s%s", trial.number, reason, "; its parameters are tried again" if again else "")
    if again:
        study.enqueue_trial(trial.params, user_attrs={"retries": retries, "retry_of": trial.number})


def _end_tracked_run(study: optuna.Study, trial: FrozenTrial, config: Config) -> None:
    run_dir = trial.user_attrs.get("run_dir")
    if run_dir is None or config.tracking.backend == "off":
        return
    try:
        sync(Path(run_dir), config.tracking, tags={"trial.state": "FAIL"})
    except DataError as error:  # killed before it had a journal, or its own process lives on
        log.info("%s", error)
    except ShippingError as error:
        log.warning("%s; send it later with: astrid sync %s", error, run_dir)
    note_run(Trial(study, trial._trial_id), Path(run_dir))
