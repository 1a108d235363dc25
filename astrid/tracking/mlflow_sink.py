"""Send journal records to MLflow; with `registry`, the only importer of it, so import this late.

Everything here may be repeated: a record that is sent twice leaves the same run behind as one that is sent once, since
after a crash or a lost answer nobody knows how far the server got.
"""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import Dataset as MlflowDataset
from mlflow.entities import DatasetInput, InputTag, LoggedModelInput, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT
from sqlalchemy.exc import SQLAlchemyError

from ..config import TrackingConfig
from ..config.secrets import scrub
from .champion import Registered, hold_gate
from .places import artifact_root, database_path, resolve_uri
from .progress import Progress
from .records import (
    MEMBER_TAG,
    TRIAL_TAG,
    Artifact,
    Attached,
    Dataset,
    Ended,
    Metrics,
    Model,
    ModelUsed,
    ParamChanged,
    Params,
    Record,
    RunStarted,
    Tags,
)
from .registry import add_version, send_model
from .shipper import BATCHED, RunDeletedError, ShippingError
from .uploads import Bucket

log = logging.getLogger(__name__)

LONGEST_PARAM = 6000  # characters, MLflow's own limit, as is the next
LONGEST_TAG = 8000
UID_TAG = "astrid.run_uid"
FAILURES = (MlflowException, SQLAlchemyError, OSError, ImportError)
"""OSError is the base of what requests raises; ImportError says that a database's driver is not installed."""


class MlflowSink:
    """The MLflow run that mirrors a journal.

    Parameters
    ----------
    run_dir : folder of the run, in which artifacts are found.
    started : who the run is.
    config : which MLflow, experiment and registered model.
    """

    def __init__(self, run_dir: Path, started: RunStarted, config: TrackingConfig) -> None:
        self.uri = resolve_uri(config.uri)
        self.progress = Progress(run_dir, config.uri)
        self._run_dir = run_dir
        self._started = started
        self._config = config
        self._client: MlflowClient | None = None
        self._run_id = ""
        self._bucket = Bucket(config, run_dir) if config.on_s3 else None

    def connect(self) -> MlflowClient:
        """Find or create the MLflow run, once, and begin again where that run lacks what was sent before.

        Raises
        ------
        ShippingError
            If MLflow could not be reached or refused; try again later.
        """
        if self._client is None:
            with named_failures(self.uri):
                client = open_store(self.uri)
                self._run_id = self._known_run(client) or self._find_run(client) or self._create_run(client)
            if self._run_id != self.progress.run_id:
                self.progress.restart(self._run_id)
            self._client = client
        return self._client

    def send(self, records: Sequence[Record]) -> None:
        """Send one record, or several of the kinds that MLflow takes in batches.

        Raises
        ------
        ShippingError
            If MLflow could not be reached or refused; try again later.
        """
        client = self.connect()
        with named_failures(self.uri):
            if isinstance(records[0], BATCHED):
                self._send_batch(client, records)
            else:
                self._send_one(client, records[0])

    def _known_run(self, client: MlflowClient) -> str | None:
        run_id = self.progress.run_id
        return run_id if run_id is not None and run_exists(client, run_id) else None

    def _find_run(self, client: MlflowClient) -> str | None:
        return next(iter(self._runs_of_this_uid(client)), None)

    def _runs_of_this_uid(self, client: MlflowClient) -> list[str]:
        experiment = open_experiment(client, self._config)
        found = client.search_runs([experiment], f"tags.`{UID_TAG}` = '{self._started.uid}'")
        return [str(run.info.run_id) for run in found]

    def _delete_twins(self, client: MlflowClient) -> None:
        """Delete what a server created so late that it was created again: a paused one first sleeps, then obeys."""
        for twin in self._runs_of_this_uid(client):
            if twin != self._run_id:
                client.delete_run(twin)

    def _create_run(self, client: MlflowClient) -> str:
        tags = {UID_TAG: self._started.uid, "astrid.run_dir": scrub(str(self._run_dir.resolve()))}
        started = self._started
        experiment = open_experiment(client, self._config)
        run = client.create_run(experiment, start_time=started.time_ms, tags=tags, run_name=started.name)
        warn_of_other_place(str(run.info.artifact_uri), self._config)
        return str(run.info.run_id)

    def _send_batch(self, client: MlflowClient, records: Sequence[Record]) -> None:
        metrics = [metric for record in records for metric in _metrics(record)]
        params = [param for record in records for param in _params(record)]
        tags = [tag for record in records for tag in _tags(record)]
        client.log_batch(self._run_id, metrics=metrics, params=params, tags=tags)  # cuts it to the sizes MLflow allows

    def _send_one(self, client: MlflowClient, record: Record) -> None:
        match record:
            case Attached():
                client.update_run(self._run_id, status="RUNNING")
            case Artifact(path, folder) if self._is_there(path):
                self._send_artifact(client, self._run_dir / path, folder)
            case Model(path=path) if self._is_there(path):
                self._send_model(client, record)
            case Dataset():
                client.log_inputs(self._run_id, [_dataset_input(record)])
            case ModelUsed(model_id):
                client.log_inputs(self._run_id, models=[LoggedModelInput(model_id)])
            case Ended(status, reason, time_ms):
                if reason:
                    client.set_tag(self._run_id, "end_reason", _clip(reason, LONGEST_TAG))
                client.set_terminated(self._run_id, status, end_time=time_ms)
                self._delete_twins(client)

    def _send_model(self, client: MlflowClient, record: Model) -> None:
        folder, name = self._run_dir / record.path, self._config.registered_model
        model = send_model(client, record, folder, run_id=self._run_id, bucket=self._bucket)
        if not {TRIAL_TAG, MEMBER_TAG}.isdisjoint(client.get_run(self._run_id).data.tags):
            return  # what it is part of registers the best
        version = add_version(client, model, name=name, folder=folder)
        registered = Registered(client, self.uri, name)
        hold_gate(registered, version, folder=folder, run_id=self._run_id, config=self._config.gate)

    def _send_artifact(self, client: MlflowClient, path: Path, folder: str) -> None:
        uri = str(client.get_run(self._run_id).info.artifact_uri)
        if self._bucket is not None and self._bucket.takes(uri):
            self._bucket.upload(path, uri, f"{folder}/{path.name}".lstrip("/"))
        else:
            client.log_artifact(self._run_id, str(path), folder or None)

    def _is_there(self, path: str) -> bool:
        there = (self._run_dir / path).exists()
        if not there:
            log.warning("%s is gone and can't be sent to MLflow", self._run_dir / path)
        return there


@contextmanager
def named_failures(uri: str) -> Iterator[None]:
    """Turn whatever MLflow and its stores raise into a `ShippingError` that says where, and no secret."""
    try:
        yield
    except FAILURES as error:
        first_line = str(error).strip().partition("\n")[0]
        remedy = (
            "; install the database's driver, as pip install -e '.[postgres]'" if isinstance(error, ImportError) else ""
        )
        raise ShippingError(scrub(f"MLflow at {uri}: {first_line}{remedy}")) from error


def open_store(uri: str) -> MlflowClient:
    """Connect, creating a SQLite database under a lock: of four processes that create it at once, three crash.

    It is created under another name and appears whole: MLflow can't open one whose creation was cut short by a kill.
    """
    path = database_path(uri)
    if path is None:
        return MlflowClient(uri, registry_uri=uri)
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        if not path.exists():
            partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")
            MlflowClient(f"sqlite:///{partial}", registry_uri=f"sqlite:///{partial}")  # creates the tables
            partial.replace(path)
        return MlflowClient(uri, registry_uri=uri)


def open_experiment(client: MlflowClient, config: TrackingConfig) -> str:
    """Return the id of the experiment; create it with an absolute place for artifacts where it doesn't exist."""
    found = client.get_experiment_by_name(config.experiment)
    if found is not None:
        return str(found.experiment_id)
    try:
        return str(client.create_experiment(config.experiment, artifact_location=artifact_root(config)))
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    created_meanwhile = client.get_experiment_by_name(config.experiment)
    assert created_meanwhile is not None
    return str(created_meanwhile.experiment_id)


def find_location(config: TrackingConfig) -> str | None:
    """Return where an experiment keeps its artifacts; None if it doesn't exist or MLflow can't be asked."""
    try:
        found = open_store(resolve_uri(config.uri)).get_experiment_by_name(config.experiment)
    except FAILURES as error:
        log.debug("nobody knows yet where %s keeps its artifacts: %s", config.experiment, error)
        return None
    return None if found is None else str(found.artifact_location)


def warn_of_other_place(uri: str, config: TrackingConfig) -> None:
    """Say that a run's artifacts go elsewhere than asked: an experiment keeps the place with which it was made."""
    wanted = str(artifact_root(config))
    if config.artifacts is not None and not uri.startswith(wanted.rstrip("/") + "/"):
        remedy = "choose a new tracking.experiment to change that"
        where = f"where experiment {config.experiment} keeps them"
        log.warning("artifacts go to %s, %s, and not to %s; %s", uri, where, wanted, remedy)


def run_exists(client: MlflowClient, run_id: str) -> bool:
    """Say whether MLflow holds the run; a database may have been deleted since.

    Raises
    ------
    RunDeletedError
        If somebody has deleted the run, and not the database.
    """
    try:
        if client.get_run(run_id).info.lifecycle_stage == "deleted":
            raise RunDeletedError(f"run {run_id} was deleted in MLflow; restore it there to have the rest sent")
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return False
        raise
    return True


def _metrics(record: Record) -> list[Metric]:
    match record:
        case Metrics(values, step, time_ms):
            return [Metric(name, value, time_ms, step) for name, value in values.items()]
    return []


def _params(record: Record) -> list[Param]:
    match record:
        case Params(values):
            return [Param(key, _clip(value, LONGEST_PARAM)) for key, value in values.items()]
    return []


def _tags(record: Record) -> list[RunTag]:
    match record:
        case Tags(values):
            return _as_tags(values)
        case ParamChanged(key, old, new):  # MLflow refuses to change a parameter
            return _as_tags({f"changed.{key}": f"{old} -> {new}"})
    return []


def _as_tags(values: Mapping[str, str]) -> list[RunTag]:
    return [RunTag(key, _clip(value, LONGEST_TAG)) for key, value in values.items()]


def _clip(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 3] + "..."


def _dataset_input(record: Dataset) -> Any:
    source = json.dumps({"uri": record.source})
    data = MlflowDataset(record.name, record.digest, source_type="local", source=source)
    return DatasetInput(data, [InputTag(MLFLOW_DATASET_CONTEXT, record.context)])
