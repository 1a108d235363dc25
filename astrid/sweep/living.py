"""Trials whose process is gone: recorded as failed, tried again, and their tracked runs ended."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import optuna
from optuna.storages import fail_stale_trials
from optuna.trial import FrozenTrial, TrialState

from ..config import Config, DataError, SweepConfig
from ..tracking import ShippingError, StillRunning, sync
from ..tracking.owner import is_alive, this_process
from ..tracking.records import Attached

log = logging.getLogger(__name__)


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


def release(study: optuna.Study, trials: Sequence[optuna.trial.Trial], *, config: SweepConfig, reason: str) -> None:
    """Fail trials of this process that were cut short, and ask for their parameters again."""
    for trial in trials:
        frozen = study.trials[trial.number]
        if frozen.state == TrialState.RUNNING:
            _fail(study, frozen, config=config, reason=reason)


def _has_heartbeat(study: optuna.Study) -> bool:
    return isinstance(study._storage, optuna.storages.RDBStorage)


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
