"""Trials in processes that a launcher made: how they ended where it has lost sight of them, and their stop."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence

import optuna
from optuna.storages._heartbeat import BaseHeartbeat, is_heartbeat_enabled
from optuna.trial import FrozenTrial, Trial

from ..tracking.owner import is_alive, this_process
from ..tracking.records import Attached
from .trial import END, JOB, TrialEnd

LONGEST_STOP_SECONDS = 60
LOOK_SECONDS = 0.5


def noted_ends(study: optuna.Study, trials: Sequence[Trial]) -> list[TrialEnd | None]:
    """Return how trials ended by what their own processes noted in the study, None for those without an end."""
    ends = [study.trials[trial.number].user_attrs.get(END) for trial in trials]
    return [None if end is None else TrialEnd(**end) for end in ends]


def ends_after_loss(study: optuna.Study, trials: Sequence[Trial]) -> list[TrialEnd | None]:
    """Return how the trials ended of which a launcher lost one, None for those without an end.

    The launcher no longer says how the others went on. Their study does: each is waited for while its process lives.
    """
    while True:
        alive = [_lives(study, study.trials[trial.number]) for trial in trials]
        ends = noted_ends(study, trials)  # after the look at the processes: what one noted before its death counts
        if not any(lives and end is None for lives, end in zip(alive, ends, strict=True)):
            return ends
        time.sleep(LOOK_SECONDS)


def other_process(trial: FrozenTrial) -> Attached | None:
    """Return the process that a launcher made for a trial, None where the trial ran in this one."""
    job = trial.user_attrs.get(JOB)
    ours = this_process()
    return None if job is None or (job["host"], job["pid"]) == (ours.host, ours.pid) else Attached(**job)


def stop(jobs: Sequence[Attached]) -> None:
    """Ask the processes of this host to stop, which save first; those elsewhere learn of it after their epoch."""
    here = [job for job in jobs if is_alive(job)]
    for job in here:
        os.kill(job.pid, signal.SIGTERM)
    deadline = time.monotonic() + LONGEST_STOP_SECONDS
    while any(is_alive(job) for job in here) and time.monotonic() < deadline:
        time.sleep(LOOK_SECONDS)


def _lives(study: optuna.Study, trial: FrozenTrial) -> bool:
    """Tell whether a trial's own process lives; on another host only a database's heartbeats can say so."""
    job = trial.user_attrs.get(JOB)
    if job is None:
        return False
    alive = is_alive(Attached(**job))
    if alive is None:
        return is_heartbeat_enabled(study._storage) and trial._trial_id not in _silent(study)
    return alive


def _silent(study: optuna.Study) -> list[int]:
    """Return the storage's numbers of trials whose heartbeat has stopped."""
    assert isinstance(study._storage, BaseHeartbeat)
    return study._storage._get_stale_trial_ids(study._study_id)
