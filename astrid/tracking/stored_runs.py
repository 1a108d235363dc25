"""Read runs back: from any MLflow backend, or from the journal in a run folder.

MLflow is imported where a store is opened, not before.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import ConfigError, DataError, RunError
from .journal import FILE_NAME, Journal
from .owner import is_alive
from .places import database_path, resolve_uri, without_password
from .progress import known_run_id
from .records import STUDY_TAG, Ended, Metrics, Tags, read_records
from .shipper import MLFLOW_DEFAULTS

if TYPE_CHECKING:
    from mlflow import MlflowClient

Points = list[tuple[int, float]]
"""Steps and values of one metric, by rising step."""

RUNS_A_PAGE = 1000
NO_LIMIT = 10**9  # points: MLflow wants a number
PARALLEL_CALLS = 8
CHANGED = "changed."
FOLDER_TAG, TASK_TAG = "astrid.run_dir", "task"
SWEEP_TASK = "sweep"
"""Task of a run that stands for a whole study."""


@dataclass(frozen=True)
class StoredRun:
    """One run as it was recorded.

    `params` are those of the end: what a resumed run changed has its new value. `metrics` are the last of each name.
    """

    run_id: str
    name: str
    status: str
    started_ms: int
    ended_ms: int | None = None
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    histories: dict[str, Points] = field(default_factory=dict)


def read_folder(run_dir: Path) -> StoredRun:
    """Read a run, histories included, from the journal in its folder, which needs no MLflow.

    Raises
    ------
    DataError
        If the folder holds no run.
    """
    journal = Journal.open(run_dir)
    killed = journal.owner is not None and is_alive(journal.owner) is False
    tags = {FOLDER_TAG: str(run_dir.resolve())}
    histories: dict[str, dict[int, float]] = {}
    ended_ms = None
    for record, _ in read_records(run_dir / FILE_NAME):
        match record:
            case Tags(values):
                tags |= values
            case Metrics(values, step):
                for name, value in values.items():
                    histories.setdefault(name, {})[step] = value
            case Ended(_, _, time_ms):
                ended_ms = time_ms
    points = {name: sorted(values.items()) for name, values in histories.items()}
    return StoredRun(
        run_id=known_run_id(run_dir) or journal.started.uid,
        name=journal.started.name,
        status="KILLED" if killed else journal.status,
        started_ms=journal.started.time_ms,
        ended_ms=None if journal.owner is not None else ended_ms,
        params=dict(journal.params),
        tags=tags,
        metrics={name: values[-1][1] for name, values in points.items()},
        histories=points,
    )


class RunStore:
    """The runs of one MLflow backend, read only.

    Parameters
    ----------
    uri : database or server, as in `tracking.uri`.

    Raises
    ------
    ConfigError
        If `uri` names a SQLite database that doesn't exist.
    RunError
        Here and below, if MLflow could not be reached.
    """

    def __init__(self, uri: str) -> None:
        path = database_path(uri)
        if path is not None and not path.is_file():
            raise ConfigError(f"the MLflow database must exist, got {uri}; give --uri, or train a run first")
        self.uri = uri
        self._client = self._open(resolve_uri(uri))

    def of_experiment(self, name: str) -> list[StoredRun]:
        """Return all runs of an MLflow experiment.

        Raises
        ------
        ConfigError
            If there is no such experiment.
        """
        experiments = self._experiments()
        if name not in experiments:
            known = ", ".join(sorted(experiments))
            raise ConfigError(
                f"--experiment must be one of {known} in {without_password(self.uri)}, got {name!r}; or give --uri"
            )
        return self._search([experiments[name]], "")

    def of_sweep(self, name: str) -> list[StoredRun]:
        """Return all trials of a sweep: tagged with its name, or in its folder ``outputs/sweeps/NAME``.

        Raises
        ------
        ConfigError
            If there are none.
        """
        everywhere = list(self._experiments().values())
        tagged = self._search(everywhere, f"tags.{STUDY_TAG} = {_quoted(name)}")
        inside = self._search(everywhere, f"tags.`{FOLDER_TAG}` LIKE {_quoted(f'%/sweeps/{name}/%')}")
        inside = [run for run in inside if f"/sweeps/{name}/" in run.tags[FOLDER_TAG]]  # LIKE reads _ as any letter
        runs = [run for run in tagged + inside if run.tags.get(TASK_TAG) != SWEEP_TASK]
        runs = list({run.run_id: run for run in runs}.values())
        if not runs:
            rule = "the tag `sweep` of a run, or a folder of outputs/sweeps"
            remedy = "check --uri, or send what waits with: astrid sync"
            raise ConfigError(
                f"--sweep must be {rule}, got {name!r}, unknown to {without_password(self.uri)}; {remedy}"
            )
        return runs

    def of_name(self, name: str) -> list[StoredRun]:
        """Return the run with this MLflow id, or all runs of this name.

        Raises
        ------
        ConfigError
            If there is none.
        """
        key = "run_id" if re.fullmatch(r"[0-9a-f]{32}", name) else "run_name"
        runs = self._search(list(self._experiments().values()), f"attributes.{key} = {_quoted(name)}")
        if not runs:
            rule = "a run folder, or the id or name of a run"
            remedy = "check --uri, or send what waits with: astrid sync"
            raise ConfigError(f"RUN must be {rule}, got {name!r}, unknown to {without_password(self.uri)}; {remedy}")
        return runs

    def with_histories(self, runs: Sequence[StoredRun], names: Iterable[str]) -> list[StoredRun]:
        """Add the histories of the named metrics, fetched together; those that a run has are kept."""
        fetched: dict[str, dict[str, Points]] = {run.run_id: {} for run in runs}
        for name in names:
            lacking = [run.run_id for run in runs if name in run.metrics and name not in run.histories]
            with _reading(self.uri):
                for run_id, points in self._history(lacking, name).items():
                    fetched[run_id][name] = points
        return [dataclasses.replace(run, histories=run.histories | fetched[run.run_id]) for run in runs]

    def _open(self, uri: str) -> MlflowClient:
        for name, value in MLFLOW_DEFAULTS.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient

        with _reading(self.uri):
            return MlflowClient(uri, registry_uri=uri)

    def _experiments(self) -> dict[str, str]:
        with _reading(self.uri):
            found = _all_pages(lambda token: self._client.search_experiments(page_token=token))
            return {str(experiment.name): str(experiment.experiment_id) for experiment in found}

    def _search(self, experiments: list[str], condition: str) -> list[StoredRun]:
        def page(token: str | None) -> Any:
            return self._client.search_runs(experiments, condition, max_results=RUNS_A_PAGE, page_token=token)

        with _reading(self.uri):
            return [_stored(run) for run in _all_pages(page)]

    def _history(self, run_ids: Sequence[str], name: str) -> dict[str, Points]:
        if not run_ids:
            return {}
        store = self._client._tracking_client.store  # the client itself asks for one run at a time
        if hasattr(store, "get_metric_history_bulk"):
            by_run: dict[str, list[Any]] = {run_id: [] for run_id in run_ids}
            for point in store.get_metric_history_bulk(run_ids, name, NO_LIMIT):
                by_run[point.run_id].append(point)
        else:  # a server
            with ThreadPoolExecutor(PARALLEL_CALLS) as pool:
                found = pool.map(lambda run_id: self._client.get_metric_history(run_id, name), run_ids)
                by_run = dict(zip(run_ids, map(list, found), strict=True))
        return {run_id: _points(metrics) for run_id, metrics in by_run.items()}


@contextmanager
def _reading(uri: str) -> Iterator[None]:
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError) as error:  # OSError is the base of what requests raises
        shown = without_password(uri)
        first_line = str(error).strip().partition("\n")[0].replace(uri.rstrip("/"), shown.rstrip("/"))
        raise RunError(f"MLflow at {shown} can't be read: {first_line}") from error


def _all_pages(call: Callable[[str | None], Any]) -> Iterator[Any]:
    token: str | None = None
    while True:
        page = call(token)
        yield from page
        token = page.token
        if not token:
            return


def _stored(run: Any) -> StoredRun:
    tags = dict(run.data.tags)
    return StoredRun(
        run_id=run.info.run_id,
        name=run.info.run_name,
        status=run.info.status,
        started_ms=run.info.start_time,
        ended_ms=run.info.end_time,
        params=run.data.params | _changes(tags),
        tags=tags,
        metrics=dict(run.data.metrics),
    )


def _changes(tags: Mapping[str, str]) -> dict[str, str]:
    """Return what a resumed run changed, which MLflow keeps as tags ``changed.KEY`` = ``old -> new``."""
    changed = {key: value for key, value in tags.items() if key.startswith(CHANGED)}
    return {key.removeprefix(CHANGED): value.partition(" -> ")[2] for key, value in changed.items()}


def _points(metrics: Iterable[Any]) -> Points:
    ordered = sorted(metrics, key=lambda metric: metric.timestamp)
    return sorted({int(metric.step): float(metric.value) for metric in ordered}.items())


def _quoted(text: str) -> str:
    """Quote a value of a search; MLflow knows no escapes.

    Raises
    ------
    DataError
        For a text that holds both kinds of quotes.
    """
    for quote in "'\"":
        if quote not in text:
            return f"{quote}{text}{quote}"
    raise DataError(f"a name must not hold both kinds of quotes, got {text}; give the run's folder or id")
