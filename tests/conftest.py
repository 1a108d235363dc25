"""What several test modules share."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import joblib
import pytest
from browser import Browser
from mirrored_runs import patient_mlflow
from registered_runs import create_database, save_network, tracking_on_copy

from astrid.config import TrackingConfig

PROJECT_ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def sample_data() -> Path:
    """Folder of real astronomical data; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("ASTRID_DATA", PROJECT_ROOT / ".." / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"sample data not found at {folder}; set ASTRID_DATA to its folder")
    return folder


TINY = (
    "model=unet_small",
    "data.train_fields=8",
    "data.val_fields=2",
    "data.test_fields=2",
    "data.field_size=128",
    "data.tile_size=64",
    "data.transients=8",
    "data.transient_snr=[30,100]",
    "optimizer.lr=0.01",
    "data.batch_size=4",
    "training.epochs=2",
    "training.device=cpu",
    "training.threads=1",
    "metrics.bins=4096",
    "metrics.latency_repeats=2",
    "metrics.throughput_repeats=2",
    "metrics.figures=false",
    "metrics.report=false",
)
"""Overrides under which a whole run takes seconds; the sky is crowded so that few fields hold enough."""


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Overrides of a tiny run, with one cache of prepared fields for all of them."""
    return [*TINY, f"data.cache={tmp_path_factory.getbasetemp()}/cache"]


@pytest.fixture(scope="module")
def in_this_process() -> Iterator[None]:
    """Prepare the few fields of a module's tests here: starting processes would take most of their time."""
    with joblib.parallel_config(backend="sequential"):
        yield


@pytest.fixture(scope="session")
def drawn(tiny: list[str]) -> list[str]:
    """Overrides of a tiny run with its figures and its report, which take as long as the rest of it."""
    return [*tiny, "metrics.figures=true", "metrics.report=true"]


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One browser for the pages of all tests, since it takes a second to start."""
    with Browser(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


@pytest.fixture(scope="session")
def fake_nvml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with a libnvidia-ml.so.1 that plays the GPUs which the environment describes."""
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("gcc is needed to compile the fake NVML library")
    folder = tmp_path_factory.mktemp("nvml")
    source = Path(__file__).with_name("fake_nvml.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", folder / "libnvidia-ml.so.1", source], check=True)
    return folder


@pytest.fixture(scope="module")
def mlflow_settings() -> Iterator[None]:
    """What a run sets for MLflow, for modules that ask for it by `usefixtures`."""
    with patient_mlflow():
        yield


@pytest.fixture(scope="module")
def empty_database(mlflow_settings: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database that is created once, since that takes seconds, and copied for each test."""
    return create_database(tmp_path_factory.mktemp("mlflow"))


@pytest.fixture(scope="module")
def saved_network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network, saved as runs do."""
    return save_network(tmp_path_factory.mktemp("network"))


@pytest.fixture(name="config")
def database_of_its_own(empty_database: Path, tmp_path: Path) -> TrackingConfig:
    """Tracking of a test that has a database of its own."""
    return tracking_on_copy(empty_database, tmp_path)
