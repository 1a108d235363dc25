"""Runs for the tests of tracking, and what MLflow must hold of them afterwards."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from astrid.config import TrackingConfig
from astrid.tracking import ShippingError, Tracker, open_tracker, sync
from astrid.tracking.journal import FILE_NAME, Journal
from astrid.tracking.records import Metrics, read_records
from astrid.tracking.shipper import MLFLOW_DEFAULTS

MLFLOW_WARNINGS = [  # all three from inside MLflow
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated"),
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType"),
    pytest.mark.filterwarnings("ignore:starlette.middleware.wsgi is deprecated"),
]

PARAMS = {f"group.knob_{number}": str(number) for number in range(150)} | {"data.root": "x" * 7000}


@contextmanager
def patient_mlflow() -> Iterator[None]:
    """Set what a run sets, and ask a server once only, so that the tests which break one stay short."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in MLFLOW_DEFAULTS.items():
            patch.setenv(name, value)
        patch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
        patch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        yield


def start(config: TrackingConfig, run_dir: Path, *, resume: bool = False, **params: str) -> Tracker:
    tracker = open_tracker(config, run_dir, name="unet-d3", params=PARAMS | params, tags={}, resume=resume)
    tracker.tags({"data": "sky"})  # the first report, with which MLflow hears of the run
    return tracker


def report(tracker: Tracker, *, epochs: Iterable[int] = range(3)) -> None:
    """Do what a run does: data, epochs, a figure."""
    tracker.dataset("simulated", digest="ab" * 32, source="simulated://")
    for epoch in epochs:
        tracker.metrics({"train/loss": 1 / (epoch + 1), "val/auprc": 0.1 * epoch}, step=epoch)
    figure = tracker.journal.run_dir / "roc.png"
    figure.write_bytes(b"figure")
    tracker.artifact(figure, folder="figures")


def wait_until(holds: Callable[[], bool]) -> None:
    """Give the shipper's thread the time it needs."""
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def synced(run_dir: Path, config: TrackingConfig) -> bool:
    try:
        sync(run_dir, config)
    except ShippingError:
        return False
    return True


@contextmanager
def asking() -> Iterator[list[threading.Thread]]:
    """Note for each attempt to ask a server over HTTP, by MLflow and boto3 alike, the thread that waits for it."""
    from urllib3 import HTTPConnectionPool

    askers: list[threading.Thread] = []
    urlopen = HTTPConnectionPool.urlopen

    def noted(pool: HTTPConnectionPool, *arguments: Any, **options: Any) -> Any:
        askers.append(threading.current_thread())
        return urlopen(pool, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HTTPConnectionPool, "urlopen", noted)
        yield askers


def client_of(config: TrackingConfig) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(config.uri, registry_uri=config.uri)


def run_of(config: TrackingConfig, run_dir: Path) -> Any:
    """The one MLflow run that mirrors a run folder."""
    client = client_of(config)
    experiment = client.get_experiment_by_name(config.experiment)
    uid = Journal.open(run_dir).started.uid
    [run] = client.search_runs([experiment.experiment_id], f"tags.`astrid.run_uid` = '{uid}'")
    return run


def assert_mirrored(config: TrackingConfig, run_dir: Path) -> Any:
    """MLflow holds the journal's metric points, with their times, each once, and the rest of what `report` tells."""
    client, run = client_of(config), run_of(config, run_dir)
    points = [
        (point.key, point.value, point.step, point.timestamp)
        for name in run.data.metrics
        for point in client.get_metric_history(run.info.run_id, name)
    ]
    records = [record for record, _ in read_records(run_dir / FILE_NAME) if isinstance(record, Metrics)]
    told = [(name, value, record.step, record.time_ms) for record in records for name, value in record.values.items()]
    assert sorted(points) == sorted(told)
    assert set(run.data.params) == set(PARAMS)
    assert run.data.tags["data"] == "sky"
    assert [file.path for file in client.list_artifacts(run.info.run_id, "figures")] == ["figures/roc.png"]
    assert [(data.dataset.name, data.dataset.digest) for data in run.inputs.dataset_inputs] == [
        ("simulated", "ab" * 18)
    ]
    return run
