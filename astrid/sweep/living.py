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
from ..tracking import ShippingError, sync
from ..tracking.owner import is_alive, this_process
from ..tracking.records import Attached
from .bounds import INTERRUPTED
from .launched import other_process, stop
from .trial import note_run

log = logging.getLogger(__name__)


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


def release(study: optuna.Study, trials: Sequence[Trial], *, config: Config, lost: bool) -> None:
    """Stop and fail those trials of this process that have no end, and ask for their parameters again.

    Parameters
    ----------
    study : Study
    trials : sequence of Trial
    config : Config
    lost : bool
        Their processes died; otherwise somebody stopped them, which is no failure.
    """
    running = [frozen for frozen in (study.trials[trial.number] for trial in trials) if not frozen.state.is_finished()]
    stop([job for job in map(other_process, running) if job is not None])
    for frozen in running:
        if other_process(frozen) is not None:
            _end_tracked_run(study, frozen, config)
        if not lost:
            Trial(study, frozen._trial_id).set_user_attr(INTERRUPTED, True)
        study.tell(frozen.number, state=TrialState.FAIL)
        reason = "its job was lost" if lost else "it was stopped"
        _ask_again(study, study.trials[frozen.number], config=config.sweep, reason=reason)


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
