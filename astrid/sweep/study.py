"""The study on disk: one journal file or database, shared by every process that searches."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import optuna
from filelock import FileLock
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from sqlalchemy import create_engine, text
from sqlalchemy.exc import ArgumentError, NoSuchModuleError
from sqlalchemy.pool import NullPool

from ..config import ConfigError
from ..config.secrets import scrub
from ..tracking.journal import FILE_NAME

JOURNAL, SQLITE = "journal://", "sqlite:///"
SPACE, SETTINGS = "search_space", "settings"
NEUTRAL = (
    "tracking.",
    "energy.",
    "sweep.",
    "training.device",
    "training.threads",
    "training.seed",
    "data.workers",
    "data.prepare_workers",
)
"""Knobs that may differ between the trials of a study: they change no value that is compared, or only its noise."""
Direction = Literal["minimize", "maximize"]
REMEDY = "choose another hydra.sweeper.study_name"
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
    try:
        return _open_journal(url) if url.startswith(JOURNAL) else _open_database(url, heartbeat_seconds)
    except OSError as error:
        rule = "a file in a folder that can be written"
        raise ConfigError(f"hydra.sweeper.storage must be {rule}, got {url}: {error.strerror}; try another") from error
    except (ArgumentError, NoSuchModuleError) as error:
        rule = "journal:///path/study.journal or a URL of a database, as postgresql://user@host/studies"
        raise ConfigError(scrub(f"hydra.sweeper.storage must be {rule}, got {url}")) from error
    except ImportError as error:
        remedy = "try pip install -e '.[postgres]'"
        raise ConfigError(scrub(f"hydra.sweeper.storage {url} must have a driver: {error}; {remedy}")) from error


def _open_journal(url: str) -> BaseStorage:
    path = journal_path(url)
    path.parent.mkdir(parents=True, exist_ok=True)
    _drop_torn_line(path)
    return JournalStorage(JournalFileBackend(str(path)))


def _open_database(url: str, heartbeat_seconds: int) -> BaseStorage:
    engine = {"connect_args": {"timeout": SQLITE_WAIT_SECONDS}} if url.startswith("sqlite") else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # Optuna says so of its heartbeats
        return RDBStorage(
            url,
            engine_kwargs=engine,
            heartbeat_interval=heartbeat_seconds,
            grace_period=MISSED_HEARTBEATS * heartbeat_seconds,
        )


def journal_path(url: str) -> Path:
    """Return the absolute path of a journal file."""
    return Path(url.removeprefix(JOURNAL)).absolute()


def _drop_torn_line(path: Path) -> None:
    """Cut off a last line that a crash or a full disk cut short; Optuna would never read past it again."""
    if not path.exists():
        return
    lock = JournalFileSymlinkLock(str(path))
    lock.acquire()
    try:
        data = path.read_bytes()
        if data and not data.endswith(b"\n"):
            with path.open("r+b") as file:
                file.truncate(data.rfind(b"\n") + 1)
    finally:
        lock.release()


class StudyLock:
    """One holder at a time among all processes of a study, so that together they never ask for too many trials.

    A file lock beside a journal or SQLite file; on PostgreSQL an advisory lock, which holds across machines too. On any
    other database a file lock in `folder`, which reaches the processes of this checkout only.
    """

    def __init__(self, url: str, *, study_name: str, folder: Path) -> None:
        self._url = url
        local = url.startswith((JOURNAL, SQLITE))
        path = Path(url.partition(":///")[2] if url.startswith(SQLITE) else url.removeprefix(JOURNAL)).absolute()
        place = path.with_name(f"{path.name}.study") if local else folder / study_name
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            rule = "a file in a folder that can be written"
            raise ConfigError(f"hydra.sweeper.storage must be {rule}, got {url}: {error.strerror}") from error
        self._file = FileLock(f"{place}.lock")
        self._key = int.from_bytes(hashlib.sha256(f"astrid {study_name}".encode()).digest()[:8], signed=True)

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Wait for the lock and hold it."""
        with self._file, self._database_lock():
            yield

    @contextmanager
    def _database_lock(self) -> Iterator[None]:
        if not self._url.startswith("postgresql"):
            yield
            return
        engine = create_engine(self._url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:  # the lock ends with the connection, also when the process dies
            connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": self._key})
            yield


def open_study(
    storage: BaseStorage,
    *,
    name: str,
    directions: list[Direction],
    sampler: optuna.samplers.BaseSampler,
    pruner: optuna.pruners.BasePruner,
    space: Mapping[str, BaseDistribution],
    settings: Mapping[str, str],
) -> optuna.Study:
    """Create the study, or go on with it; hold the study's lock meanwhile.

    Parameters
    ----------
    storage : BaseStorage
    name : str
    directions : list of "minimize" or "maximize"
        One for each objective.
    sampler : BaseSampler
    pruner : BasePruner
    space : mapping of distribution by key
        What is searched.
    settings : mapping of text by key
        What every trial has, by the keys of the configuration.

    Raises
    ------
    ConfigError
        Where a pruner meets two objectives, or the study was made for other objectives, another search space, or
        other settings, whose values can't be compared with these.
    """
    _refuse_pruner(pruner, directions)
    study = optuna.create_study(
        study_name=name, storage=storage, sampler=sampler, pruner=pruner, directions=directions, load_if_exists=True
    )
    made_for = [direction.name.lower() for direction in study.directions]
    if made_for != directions:
        raise ConfigError(
            f"hydra.sweeper.direction must be what study {name!r} was made for, {made_for}, got {directions}; {REMEDY}"
        )
    shown = {key: _shown(distribution) for key, distribution in space.items()}
    _refuse_another(study, SPACE, shown, missing="fixed")
    compared = {key: text for key, text in settings.items() if key not in space and not key.startswith(NEUTRAL)}
    _refuse_another(study, SETTINGS, compared, missing="absent")
    return study


def refuse_used_folder(study: optuna.Study, folder: Path) -> None:
    """Refuse to begin a study in a folder that holds the trials of another.

    Raises
    ------
    ConfigError
    """
    if not study.get_trials(deepcopy=False) and any(folder.glob(f"[0-9]*/{FILE_NAME}")):
        rule = f"a folder without trials, since study {study.study_name!r} is new"
        raise ConfigError(f"hydra.sweep.dir must be {rule}, got {folder}; move it away, or {REMEDY}")


def _refuse_pruner(pruner: optuna.pruners.BasePruner, directions: list[Direction]) -> None:
    if len(directions) > 1 and not isinstance(pruner, optuna.pruners.NopPruner):
        kind = type(pruner).__name__
        raise ConfigError(
            f"hydra.sweeper.pruner must be nop with {len(directions)} objectives, got {kind}: nobody can say which of "
            "two curves is the worse; try hydra/sweeper/pruner=nop"
        )


def _refuse_another(study: optuna.Study, what: str, ours: Mapping[str, str], *, missing: str) -> None:
    """Keep with the study what it was made for, and refuse anything else later, with the difference."""
    theirs = study.user_attrs.get(what)
    if theirs is None:
        study.set_user_attr(what, dict(ours))
        return
    names = sorted(name for name in {*ours, *theirs} if ours.get(name) != theirs.get(name))
    if names:
        lines = [f"{name}: {theirs.get(name, missing)} there, {ours.get(name, missing)} here" for name in names]
        raise ConfigError(
            f"study {study.study_name!r} must keep its {what.replace('_', ' ')}; {'; '.join(lines)}; {REMEDY}"
        )


def _shown(distribution: BaseDistribution) -> str:
    """Write a distribution as one would on the command line, as far as there is a way."""
    match distribution:
        case CategoricalDistribution(choices=choices):
            return f"choice({','.join(map(str, choices))})"
        case IntDistribution(low=low, high=high, step=step, log=log_scale) if not log_scale:
            return f"range({low},{high + 1})" if step == 1 else f"range({low},{high + 1},{step})"
        case FloatDistribution(low=low, high=high, step=None, log=log_scale):
            return f"tag(log,interval({low:g},{high:g}))" if log_scale else f"interval({low:g},{high:g})"
    return str(distribution)
