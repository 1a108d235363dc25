"""What Optuna and the stock Hydra plugin must go on doing: each name that they keep private and we use."""

from __future__ import annotations

import inspect
import time
from pathlib import Path

import optuna
import pytest
from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra_plugins.hydra_optuna_sweeper._impl import create_params_from_overrides
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages._heartbeat import get_heartbeat_thread, is_heartbeat_enabled
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.trial import TrialState

from astrid.config import SweepConfig
from astrid.sweep.living import reap_silent
from astrid.sweep.proposals import ask
from astrid.sweep.study import MISSED_HEARTBEATS, open_storage


def test_the_plugin_parses_what_it_documents() -> None:
    searched, fixed, deleted = create_params_from_overrides(
        [
            "a=choice(x,2,true)",
            "b=range(1,5)",
            "c=interval(0.1,0.5)",
            "d=tag(log,interval(1e-4,1e-2))",
            "e=tag(log,interval(1,64))",
            "f=range(0,1,0.25)",
            "g=[1,2]",
            "~h",
        ]
    )
    assert searched == {
        "a": CategoricalDistribution(("x", 2, True)),
        "b": IntDistribution(1, 4),
        "c": FloatDistribution(0.1, 0.5),
        "d": FloatDistribution(1e-4, 1e-2, log=True),
        "e": FloatDistribution(1, 64, log=True),
        "f": FloatDistribution(0, 0.75, step=0.25),
    }
    assert (fixed, deleted) == ({"g": "[1,2]"}, ["~h"])


def test_a_study_and_a_trial_say_where_they_are_stored(tmp_path: Path) -> None:
    storage = JournalStorage(JournalFileBackend(str(tmp_path / "s.journal")))
    study = optuna.create_study(storage=storage, study_name="s")
    trial = study.ask()
    assert study._storage is storage
    assert storage.get_trial_id_from_study_id_trial_number(study._study_id, 0) == trial._trial_id
    assert study.trials[0]._trial_id == trial._trial_id


def test_a_database_has_a_heartbeat_and_a_journal_has_none(tmp_path: Path) -> None:
    database = optuna.create_study(storage=open_storage(f"sqlite:///{tmp_path}/s.db", heartbeat_seconds=60))
    journal = optuna.create_study(storage=open_storage(f"journal://{tmp_path}/s.journal", heartbeat_seconds=60))
    assert is_heartbeat_enabled(database._storage)
    assert not is_heartbeat_enabled(journal._storage)
    for study in (database, journal):
        with get_heartbeat_thread(ask(study, {})._trial_id, study._storage):
            pass
    reap_silent(database, SweepConfig())
    assert database.trials[0].state == TrialState.RUNNING


def test_a_trial_whose_heartbeat_has_stopped_is_failed_and_tried_again(tmp_path: Path) -> None:
    storage = open_storage(f"sqlite:///{tmp_path}/s.db", heartbeat_seconds=1)
    study = optuna.create_study(storage=storage)
    trial = ask(study, {"x": IntDistribution(1, 9)})
    storage.record_heartbeat(trial._trial_id)
    time.sleep(MISSED_HEARTBEATS + 2)
    reap_silent(study, SweepConfig())
    assert [trial.state for trial in study.trials] == [TrialState.FAIL, TrialState.WAITING]
    assert ask(study, {"x": IntDistribution(1, 9)}).params == study.trials[0].params


def test_the_lock_of_a_journal_file_is_the_one_that_its_writers_hold(tmp_path: Path) -> None:
    backend = JournalFileBackend(str(tmp_path / "s.journal"))
    ours = JournalFileSymlinkLock(str(tmp_path / "s.journal"))
    assert type(backend._lock) is type(ours)
    assert backend._lock._lock_file == ours._lock_file


def test_jobs_come_back_as_they_ended() -> None:
    done, failed = JobReturn(), JobReturn()
    done.status, done.return_value = JobStatus.COMPLETED, 3
    failed.status, failed.return_value = JobStatus.FAILED, KeyError("x")
    assert done.return_value == 3
    with pytest.raises(KeyError):
        _ = failed.return_value


def test_launchers_take_the_number_of_their_first_job() -> None:
    assert issubclass(BasicLauncher, Launcher)
    assert list(inspect.signature(Launcher.launch).parameters) == ["self", "job_overrides", "initial_job_idx"]
