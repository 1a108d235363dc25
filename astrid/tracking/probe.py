"""Ask MLflow, before a run relies on it, whether it answers and lets itself be written to."""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING

from ..config import TrackingConfig
from .places import database_path, resolve_uri, without_password
from .shipper import ShippingError, prepare_mlflow

if TYPE_CHECKING:
    from mlflow import MlflowClient

LONGEST_SECONDS = 8.0
PROBE = "astrid-probe"
HASTE = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "5", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}


def probe_backend(config: TrackingConfig) -> str:
    """Write to MLflow, take it back without a trace, and say what was found; takes at most about 8 s.

    A tag goes onto the experiment. Where that doesn't exist yet, nor shall by this, it is a registered model; where the
    SQLite database doesn't exist yet, only its folder is tried.

    Raises
    ------
    ShippingError
        If MLflow could not be reached or refused.
    OSError
        If the folder of a SQLite database can't be written.
    """
    path = database_path(config.uri)
    if path is not None:
        probe_folder(path.parent)
        if not path.exists():
            return f"{path} will be created"
    prepare_mlflow(config)
    with _in_haste():
        return _within(LONGEST_SECONDS, lambda: _write_and_take_back(config), config)


def probe_folder(folder: Path) -> str:
    """Write a nameless file into a folder, or into the nearest one above it that exists; return the folder.

    Raises
    ------
    OSError
        If that can't be done.
    """
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    with TemporaryFile(dir=existing) as file:
        file.write(b"probe")
    return str(folder)


def _write_and_take_back(config: TrackingConfig) -> str:
    from .mlflow_sink import named_failures, open_store

    uri = resolve_uri(config.uri)
    with named_failures(uri):
        client = open_store(uri)
        experiment = client.get_experiment_by_name(config.experiment)
        if experiment is None:
            _probe_registry(client)
            return f"{without_password(uri)}; experiment {config.experiment} will be created"
        client.set_experiment_tag(experiment.experiment_id, PROBE, "may be deleted")
        client.delete_experiment_tag(experiment.experiment_id, PROBE)
        return f"{without_password(uri)}, experiment {config.experiment}"


def _probe_registry(client: MlflowClient) -> None:
    name = f"{PROBE}-{uuid.uuid4().hex}"
    client.create_registered_model(name)
    client.delete_registered_model(name)


def _within(seconds: float, call: Callable[[], str], config: TrackingConfig) -> str:
    """Call in a thread that is left behind when it takes too long: a database's driver knows no such limit."""
    answers: list[str] = []
    failures: list[Exception] = []

    def work() -> None:
        try:
            answers.append(call())
        except Exception as error:  # noqa: BLE001 - handed on to the caller, below
            failures.append(error)

    thread = threading.Thread(target=work, name=PROBE, daemon=True)
    thread.start()
    thread.join(seconds)
    if failures:
        raise failures[0]
    if not answers:
        raise ShippingError(f"MLflow at {without_password(config.uri)} has not answered within {seconds:g} s")
    return answers[0]


@contextmanager
def _in_haste() -> Iterator[None]:
    before = {name: os.environ.get(name) for name in HASTE}
    os.environ.update(HASTE)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
