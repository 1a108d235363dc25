"""Trials whose process is gone: recorded as failed, tried again, and their tracked runs ended."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import optuna
from optuna.storages import fail_stale_trials
from optuna.storages._heartbeat import BaseHeartbeat, is_heartbeat_enabled
from optuna.trial import FrozenTrial, TrialState

from ..config import Config, DataError, SweepConfig
from ..tracking import ShippingError, StillRunning, sync
from ..tracking.owner import is_alive, this_process
from ..tracking.records import Attached
from .trial import END, JOB, TrialEnd

log = logging.getLogger(__name__)

LONGEST_STOP_SECONDS = 60
LOOK_SECONDS = 0.5


def note_owner(trial: optuna.trial.Trial) -> None:
    """Keep with a trial which process runs it; a journal file has no heartbeat, and this shows a death at once."""
    trial.set_user_attr("owner", asdict(this_process()))


def reap(study: optuna.Study, config: Config) -> None:
    """Fail every running trial whose process is gone, and ask for its parameters again.

    On this machine the process itself is looked for; a database also knows trials of other machines whose heartbeat
    has stopped.
    """
    if _has_heartbeat(study):
        _reap_silent(study, config.sweep)
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        owner = trial.user_attrs.get("owner")
        if owner is not None and is_alive(Attached(**owner)) is False:
            _fail(study, trial, config=config.sweep, reason="its process is gone")
            _end_tracked_run(trial, config)


def release(study: optuna.Study, trials: Sequence[optuna.trial.Trial], *, config: Config, reason: str) -> None:
    """Stop and fail trials of this process that were cut short, and ask for their parameters again."""
    running = [frozen for frozen in (study.trials[trial.number] for trial in trials) if not frozen.state.is_finished()]
    jobs = [job for job in map(_other_process, running) if job is not None]
    _stop(jobs)
    for frozen in running:
        _fail(study, frozen, config=config.sweep, reason=reason)
        if _other_process(frozen) is not None:
            _end_tracked_run(frozen, config)


def noted_ends(study: optuna.Study, trials: Sequence[optuna.trial.Trial]) -> list[TrialEnd | None]:
    """Return how trials ended by what their own processes noted in the study, None for those without an end."""
    ends = [study.trials[trial.number].user_attrs.get(END) for trial in trials]
    return [None if end is None else TrialEnd(**end) for end in ends]


def ends_after_loss(study: optuna.Study, trials: Sequence[optuna.trial.Trial]) -> list[TrialEnd | None]:
    """Return how the trials ended of which a launcher lost one, None for those without an end.

    The launcher no longer says how the others went on. Their study does: each is waited for while its process lives.
    """
    while True:
        alive = [_lives(study, study.trials[trial.number]) for trial in trials]
        ends = noted_ends(study, trials)  # after the look at the processes: what one noted before its death counts
        if not any(lives and end is None for lives, end in zip(alive, ends, strict=True)):
            return ends
        time.sleep(LOOK_SECONDS)


def _lives(study: optuna.Study, trial: FrozenTrial) -> bool:
    """Tell whether a trial's own process lives; on another host only a database's heartbeats can say so."""
    job = trial.user_attrs.get(JOB)
    if job is None:
        return False
    alive = is_alive(Attached(**job))
    if alive is None:
        return _has_heartbeat(study) and trial._trial_id not in _silent(study)
    return alive


def _other_process(trial: FrozenTrial) -> Attached | None:
    """Return the process that a launcher made for a trial, None where the trial ran in this one."""
    job = trial.user_attrs.get(JOB)
    ours = this_process()
    return None if job is None or (job["host"], job["pid"]) == (ours.host, ours.pid) else Attached(**job)


def _stop(jobs: Sequence[Attached]) -> None:
    """Ask the processes of this host to stop, which save first; those elsewhere learn of it after their epoch."""
    here = [job for job in jobs if is_alive(job)]
    for job in here:
        os.kill(job.pid, signal.SIGTERM)
    deadline = time.monotonic() + LONGEST_STOP_SECONDS
    while any(is_alive(job) for job in here) and time.monotonic() < deadline:
        time.sleep(LOOK_SECONDS)


def _has_heartbeat(study: optuna.Study) -> bool:
    return is_heartbeat_enabled(study._storage)  # a database is wrapped in a cache: its type doesn't say


def _silent(study: optuna.Study) -> list[int]:
    """Return the storage's numbers of trials whose heartbeat has stopped."""
    assert isinstance(study._storage, BaseHeartbeat)
    return study._storage._get_stale_trial_ids(study._study_id)


def _reap_silent(study: optuna.Study, config: SweepConfig) -> None:
    before = {trial.number for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))}
    fail_stale_trials(study)
    for trial in study.get_trials(deepcopy=False, states=(TrialState.FAIL,)):
        if trial.number in before:
            _ask_again(study, trial, config=config, reason="its heartbeat stopped")


def _fail(study: optuna.Study, trial: FrozenTrial, *, config: SweepConfig, reason: str) -> None:
    study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
    _ask_again(study, trial, config=config, reason=reason)


def _ask_again(study: optuna.Study, trial: FrozenTrial, *, config: SweepConfig, reason: str) -> None:
    retries = int(trial.user_attrs.get("retries", 0))
    again = retries < config.max_retries and bool(trial.params)
    log.warning("trial %d failed: %s%s", trial.number, reason, "; its parameters are tried again" if again else "")
    if again:
        study.enqueue_trial(trial.params, user_attrs={"retries": retries + 1, "retry_of": trial.number})


def _end_tracked_run(trial: FrozenTrial, config: Config) -> None:
    run_dir = trial.user_attrs.get("run_dir")
    if run_dir is None or config.tracking.backend == "off":
        return
    try:
        sync(Path(run_dir), config.tracking)
    except (DataError, StillRunning) as error:
        log.info("%s", error)  # killed before it had a journal
    except ShippingError as error:
        log.warning("%s; send it later with: astrid sync %s", error, run_dir)
