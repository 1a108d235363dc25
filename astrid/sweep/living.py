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

from ..config import DataError, SweepConfig, TrackingConfig
from ..tracking import ShippingError, sync
from ..tracking.owner import is_alive, this_process
from ..tracking.records import Attached
from .bounds import INTERRUPTED
from .jobs import PLACE, place_of, tell
from .launched import other_process, stop
from .trial import END, JOB, TrialEnd, note_facts

log = logging.getLogger(__name__)

RETRY_OF = "retry_of"
"""Attribute of a trial: the one whose point it tries again."""


def note_owner(trial: Trial) -> None:
    """Keep with a trial which process runs it; a journal file has no heartbeat, and this shows a death at once."""
    trial.set_user_attr("owner", asdict(this_process()))


def reap(study: optuna.Study, config: SweepConfig) -> list[FrozenTrial]:
    """Fail every running trial whose process is gone, ask for its parameters again, and return these trials.

    Hold the study's lock. On this machine the process itself is looked for; a database also knows trials of other
    machines whose heartbeat has stopped. A trial without an owner was cut short in the moment it was asked for. What a
    dead process has seen to its end counts as it ended.
    """
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    for trial in running:
        if (end := trial.user_attrs.get(END)) is not None:
            tell(study, trial, TrialEnd(**end))
    if is_heartbeat_enabled(study._storage):
        reap_silent(study, config)
    orphans = [trial for trial in running if END not in trial.user_attrs and _is_orphan(trial)]
    stop([job for job in map(other_process, orphans) if job is not None])
    return [trial for trial in orphans if _give_up(study, trial, config=config, reason="its process is gone")]


def release(study: optuna.Study, trials: Sequence[Trial], *, config: SweepConfig, lost: bool) -> list[FrozenTrial]:
    """Stop and fail those trials of this process that have no end, ask for their parameters again, and return them.

    Parameters
    ----------
    study : Study
    trials : sequence of Trial
    config : SweepConfig
    lost : bool
        Their processes died; otherwise somebody stopped them, which is no failure, as is a job that never began.
    """
    running = [frozen for frozen in (study.trials[trial.number] for trial in trials) if not frozen.state.is_finished()]
    stop([job for job in map(other_process, running) if job is not None])
    for frozen in running:
        began = JOB in frozen.user_attrs
        if not lost or not began:
            _note(study, frozen, INTERRUPTED)
        reason = "it was stopped" if not lost else "its job was lost" if began else "its batch was lost before it began"
        _give_up(study, study.trials[frozen.number], config=config, reason=reason)
    return [frozen for frozen in running if other_process(frozen) is not None]


def reap_silent(study: optuna.Study, config: SweepConfig) -> None:
    """Fail the trials whose heartbeat has stopped, on whatever machine, and ask for their parameters again."""
    before = {trial.number for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # Optuna says so of its heartbeats
        fail_stale_trials(study)
    for trial in study.get_trials(deepcopy=False, states=(TrialState.FAIL,)):
        if trial.number in before:
            _ask_again(study, trial, config=config, reason="its heartbeat stopped")


def end_tracked_runs(trials: Sequence[FrozenTrial], config: TrackingConfig) -> None:
    """End the tracked runs of trials that were given up; the study's lock is not needed for that."""
    if config.backend == "off":
        return
    for run_dir in (trial.user_attrs.get("run_dir") for trial in trials):
        if run_dir is None:
            continue
        try:
            sync(Path(run_dir), config, tags={"trial.state": "FAIL"})
        except DataError as error:  # killed before it had a journal, or its own process lives on
            log.info("%s", error)
        except ShippingError as error:
            log.warning("%s; send it later with: astrid sync %s", error, run_dir)


def _is_orphan(trial: FrozenTrial) -> bool:
    owner = trial.user_attrs.get("owner")
    return owner is None or is_alive(Attached(**owner)) is False


def _give_up(study: optuna.Study, trial: FrozenTrial, *, config: SweepConfig, reason: str) -> bool:
    """Fail a trial and ask for its parameters again; say whether it was there to be given up."""
    if study.trials[trial.number].state.is_finished():
        return False
    if (run_dir := trial.user_attrs.get("run_dir")) is not None:
        note_facts(Trial(study, trial._trial_id), Path(run_dir))
    study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
    _ask_again(study, trial, config=config, reason=reason)
    return True


def _note(study: optuna.Study, trial: FrozenTrial, name: str) -> None:
    Trial(study, trial._trial_id).set_user_attr(name, True)


def _ask_again(study: optuna.Study, trial: FrozenTrial, *, config: SweepConfig, reason: str) -> None:
    retries = int(trial.user_attrs.get("retries", 0)) + (0 if trial.user_attrs.get(INTERRUPTED) else 1)
    again = retries <= config.max_retries and bool(trial.params)
    log.warning("trial %d failed: %s%s", trial.number, reason, "; its parameters are tried again" if again else "")
    if again:
        kept = {"retries": retries, RETRY_OF: trial.number, PLACE: place_of(trial)}
        study.enqueue_trial(trial.params, user_attrs=kept)
