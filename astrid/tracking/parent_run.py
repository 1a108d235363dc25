"""The MLflow run of a whole study, under which its trials are found; imports MLflow late, as the shipper does."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from ..config import TrackingConfig
from .places import resolve_uri
from .shipper import ShippingError, prepare_mlflow

log = logging.getLogger(__name__)

PARENT_TAG = "astrid.study"


def open_parent(config: TrackingConfig, *, study: str, known: str | None) -> str | None:
    """Return the id of the study's run, creating it where there is none; None without MLflow.

    Hold the study's lock, or two workers create one each. An MLflow that doesn't answer keeps no sweep from running:
    the log says so, and the trials are found by their tag `sweep`.
    """
    if config.backend == "off":
        return None
    prepare_mlflow(config)
    from .mlflow_sink import named_failures, open_experiment, open_store, run_exists

    try:
        with named_failures(config.uri):
            client = open_store(resolve_uri(config.uri))
            if known is not None and run_exists(client, known):
                return known
            experiment = open_experiment(client, config)
            tags = {PARENT_TAG: study, "sweep": study, "task": "sweep"}
            return str(client.create_run(experiment, run_name=f"sweep {study}", tags=tags).info.run_id)
    except ShippingError as error:
        log.warning("%s; the sweep goes on without a parent run", error)
        return None


def report_parent(
    config: TrackingConfig,
    run_id: str,
    *,
    tags: Mapping[str, str],
    metrics: Mapping[str, float],
    files: Path,
    done: bool,
) -> None:
    """Replace what the study's run says: tags, metrics, and the files of a folder; end it where the study is done."""
    prepare_mlflow(config)
    from mlflow.entities import Metric, RunTag

    from .mlflow_sink import named_failures, open_store
    from .owner import now_ms

    try:
        with named_failures(config.uri):
            client = open_store(resolve_uri(config.uri))
            points = [Metric(name, value, now_ms(), 0) for name, value in metrics.items()]
            client.log_batch(run_id, metrics=points, tags=[RunTag(name, value) for name, value in tags.items()])
            client.log_artifacts(run_id, str(files))
            if done:
                client.set_terminated(run_id, "FINISHED")
    except ShippingError as error:
        log.warning("%s; the study's run lacks its summary until the command is run again", error)
