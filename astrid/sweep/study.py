"""The study on disk: one journal file or database, shared by every process that searches."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import optuna
from filelock import FileLock
from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from sqlalchemy import text

from ..config import ConfigError

log = logging.getLogger(__name__)

JOURNAL = "journal://"
SPACE = "search_space"
Direction = Literal["minimize", "maximize"]
MISSED_HEARTBEATS = 3
SQLITE_WAIT_SECONDS = 60


def default_storage(study_name: str, root: Path) -> str:
    """Return the journal file in which a study is kept unless `hydra.sweeper.storage` says otherwise."""
    return f"{JOURNAL}{root / 'outputs' / 'studies' / study_name}.journal"


def open_storage(url: str, *, heartbeat_seconds: int) -> BaseStorage:
    """Open a journal file or a database; hold the study's lock while a database may be created.

    Parameters
    ----------
    url : str
        `journal:///path`, or a URL of SQLAlchemy.
    heartbeat_seconds : int
        Interval of the heartbeats by which a database knows that a trial lives; a journal file has none.
    """
    if url.startswith(JOURNAL):
        path = Path(url.removeprefix(JOURNAL))
        path.parent.mkdir(parents=True, exist_ok=True)
        return JournalStorage(JournalFileBackend(str(path)))
    engine = {"connect_args": {"timeout": SQLITE_WAIT_SECONDS}} if url.startswith("sqlite") else None
    return RDBStorage(
        url,
        engine_kwargs=engine,
        heartbeat_interval=heartbeat_seconds,
        grace_period=MISSED_HEARTBEATS * heartbeat_seconds,
    )


class StudyLock:
    """One holder at a time among all processes of a study, so that together they never ask for too many trials.

    A file lock beside a local file; on PostgreSQL an advisory lock, which holds across machines too. On any other
    database the file lock reaches the processes of this machine only.
    """

    def __init__(self, url: str, *, study_name: str, folder: Path) -> None:
        self._url = url
        folder.mkdir(parents=True, exist_ok=True)
        self._file = FileLock(folder / f"{study_name}.lock")
        self._key = int.from_bytes(hashlib.sha256(f"astrid {study_name}".encode()).digest()[:8], signed=True)

    @contextmanager
    def hold(self, storage: BaseStorage | None = None) -> Iterator[None]:
        """Wait for the lock and hold it; the storage is where a database's own lock is taken."""
        with self._file, self._database_lock(storage):
            yield

    @contextmanager
    def _database_lock(self, storage: BaseStorage | None) -> Iterator[None]:
        database = getattr(storage, "_backend", storage)  # Optuna wraps a database in a cache
        if not (self._url.startswith("postgresql") and isinstance(database, RDBStorage)):
            yield
            return
        with database.engine.connect() as connection:  # the lock ends with the connection, also when the process dies
            connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": self._key})
            try:
                yield
            finally:
                connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": self._key})


def open_study(
    storage: BaseStorage,
    *,
    name: str,
    directions: list[Direction],
    sampler: optuna.samplers.BaseSampler,
    pruner: optuna.pruners.BasePruner,
    space: Mapping[str, BaseDistribution],
) -> optuna.Study:
    """Create the study, or go on with it; hold the study's lock meanwhile.

    Raises
    ------
    ConfigError
        Where a pruner meets two objectives, or the study was made for other objectives or another search space.
    """
    if len(directions) > 1 and not isinstance(pruner, optuna.pruners.NopPruner):
        kind = type(pruner).__name__
        raise ConfigError(
            f"hydra.sweeper.pruner must be nop with {len(directions)} objectives, got {kind}: nobody can say which of "
            "two curves is the worse; try hydra/sweeper/pruner=nop"
        )
    study = optuna.create_study(
        study_name=name, storage=storage, sampler=sampler, pruner=pruner, directions=directions, load_if_exists=True
    )
    made_for = [direction.name.lower() for direction in study.directions]
    if made_for != directions:
        raise ConfigError(
            f"hydra.sweeper.direction must be what study {name!r} was made for, {made_for}, got {directions}; "
            "choose another hydra.sweeper.study_name"
        )
    _refuse_another_space(study, space)
    return study


def _refuse_another_space(study: optuna.Study, space: Mapping[str, BaseDistribution]) -> None:
    ours = {name: json.loads(distribution_to_json(distribution)) for name, distribution in sorted(space.items())}
    theirs = study.user_attrs.get(SPACE)
    if theirs is None:
        study.set_user_attr(SPACE, ours)
    elif theirs != ours:
        names = sorted(name for name in {*ours, *theirs} if ours.get(name) != theirs.get(name))
        lines = [f"{name}: {_shown(theirs.get(name))} there, {_shown(ours.get(name))} here" for name in names]
        raise ConfigError(
            f"study {study.study_name!r} must keep its search space; {'; '.join(lines)}; "
            "choose another hydra.sweeper.study_name"
        )


def _shown(distribution: Mapping[str, object] | None) -> str:
    return "fixed" if distribution is None else f"{distribution['name']} {distribution['attributes']}"
