"""The MLflow run of a whole study, under which its trials are found; imports MLflow late, as the shipper does."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..config import TrackingConfig
from ..config.secrets import scrub_values
from .gate import FACTS_FILE, FIELDS_FILE
from .places import resolve_uri
from .records import STUDY_TAG
from .shipper import RunDeletedError, ShippingError, prepare_mlflow
from .stored_runs import SWEEP_TASK, TASK_TAG

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)

Ending = Literal["FINISHED", "FAILED", "KILLED"]


@dataclass(frozen=True)
class StudyReport:
    """What the run of a study says of it.

    Attributes
    ----------
    tags : mapping of text
    metrics : mapping of float
    files : Path
        Folder whose files go with it.
    tables : sequence of str
        Those of the files that MLflow's pages show as tables.
    status : "RUNNING", "FINISHED", "FAILED" or "KILLED"
    """

    tags: Mapping[str, str]
    metrics: Mapping[str, float]
    files: Path
    tables: tuple[str, ...]
    status: Ending | Literal["RUNNING"]


def open_parent(config: TrackingConfig, *, study: str, known: str | None) -> str | None:
    """Return the id of the study's run, which is RUNNING again, creating it where there is none; None without MLflow.

    Hold the study's lock, or two workers create one each. An MLflow that doesn't answer keeps no sweep from running:
    the log says so, and the trials are found by their tag `sweep`. A run that somebody deleted is made anew.
    """
    if config.backend == "off":
        return None
    try:
        with _store(config) as client:
            from .mlflow_sink import open_experiment

            if known is not None and _is_there(client, known):
                client.update_run(known, status="RUNNING")
                return known
            experiment = open_experiment(client, config)
            tags = {STUDY_TAG: study, TASK_TAG: SWEEP_TASK}
            return str(client.create_run(experiment, run_name=f"sweep {study}", tags=tags).info.run_id)
    except ShippingError as error:
        log.warning("%s; the sweep goes on %s", error, "without a parent run" if known is None else "all the same")
        return known


def report_parent(config: TrackingConfig, run_id: str, report: StudyReport) -> None:
    """Replace what the study's run says: tags, metrics, the files of a folder, and how the study ended."""
    try:
        with _store(config) as client:
            from mlflow.entities import Metric, RunTag

            from .owner import now_ms

            shown = json.dumps([{"path": name, "type": "table"} for name in report.tables])
            tags = scrub_values(dict(report.tags)) | {"mlflow.loggedArtifacts": shown}
            points = [Metric(name, value, now_ms(), 0) for name, value in report.metrics.items()]
            client.log_batch(run_id, metrics=points, tags=[RunTag(name, value) for name, value in tags.items()])
            client.log_artifacts(run_id, str(report.files))
            if report.status == "RUNNING":
                client.update_run(run_id, status="RUNNING")
            else:
                client.set_terminated(run_id, report.status)
    except ShippingError as error:
        log.warning("%s; the study's run lacks its summary until the command is run again", error)


def register_best(config: TrackingConfig, run_id: str) -> str | None:
    """Register the model of the best of several runs, so that it is challenger and faces the gate; return its version.

    None where MLflow doesn't answer, or lacks the model.
    """
    try:
        with _store(config) as client:
            from .champion import Registered, fetch_files, hold_gate
            from .registry import CARD_FILE, add_version, find_sent_model

            model = find_sent_model(client, run_id)
            if model is None:
                log.warning("run %s, the best, holds no model to register", run_id)
                return None
            registered = Registered(client, resolve_uri(config.uri), config.registered_model)
            with fetch_files(model.artifact_location, {FACTS_FILE, FIELDS_FILE, CARD_FILE}, uri=registered.uri) as here:
                version = add_version(client, model, name=registered.name, folder=here)
                hold_gate(registered, version, folder=here, run_id=run_id, config=config.gate)
            return version
    except ShippingError as error:
        log.warning("%s; the best model is not registered until the command is run again", error)
        return None


def _is_there(client: MlflowClient, run_id: str) -> bool:
    from .mlflow_sink import run_exists

    try:
        return run_exists(client, run_id)
    except RunDeletedError:
        return False


@contextmanager
def _store(config: TrackingConfig) -> Iterator[MlflowClient]:
    """Open MLflow for as long as the block lasts; whatever it raises there says where.

    Raises
    ------
    ShippingError
    """
    prepare_mlflow(config)
    from .mlflow_sink import named_failures, open_store

    with named_failures(config.uri):
        yield open_store(resolve_uri(config.uri))
