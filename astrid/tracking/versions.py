"""What is done with registered models by hand: promote, roll back, load. MLflow is imported on the way."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..config import DataError, TrackingConfig
from .gate import CHAMPION
from .places import database_path, resolve_uri, without_password
from .shipper import ShippingError, prepare_mlflow

if TYPE_CHECKING:
    import torch
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion as RegisteredVersion

    from .champion import Registered


@dataclass(frozen=True)
class Moved:
    """What moved: the version that was champion before, None where there was none, and the one that is now."""

    before: str | None
    after: str


@dataclass(frozen=True)
class FetchedModel:
    """A registered model on this machine: its network, on the CPU, the folder of its files, and which version it is."""

    network: torch.nn.Module
    folder: Path
    version: ModelVersion


@dataclass(frozen=True)
class ModelVersion:
    """A version of a registered model, the MLflow run that it comes from, and its id as a model of that run if any."""

    name: str
    number: str
    run_id: str
    model_id: str | None


def promote(version: str, *, name: str, uri: str | None = None) -> Moved:
    """Make a version the champion by hand.

    Raises
    ------
    DataError
        Where there is no such model or version; the known ones are listed.
    ShippingError
        If MLflow could not be reached.
    """
    with _open(name, uri) as model, model.lock():
        model.check_known(version)
        before = model.holder(CHAMPION)
        model.move_champion(version)
        return Moved(before, version)


def rollback(*, name: str, uri: str | None = None) -> Moved:
    """Make the version champion that was it before.

    Raises
    ------
    DataError
        Where there is no such model, or no champion before.
    ShippingError
        If MLflow could not be reached.
    """
    with _open(name, uri) as model, model.lock():
        before = model.holder(CHAMPION)
        return Moved(before, model.take_champion_back())


def _parts(source: str) -> tuple[str, str, str]:
    """Split ``models:/NAME@ALIAS`` into name, mark and alias, and ``models:/NAME/VERSION`` likewise."""
    address = source.removeprefix("models:/")
    return address.partition("@" if "@" in address else "/")


@dataclass(frozen=True)
class Typed:
    """By what the user named a model and the MLflow that has it, for messages."""

    model: str = "--model"
    uri: str = "--uri"


BY_OPTION = Typed()


@contextmanager
def fetch_model(source: str, uri: str | None = None) -> Iterator[FetchedModel]:
    """Fetch a registered model, named as in ``models:/NAME@ALIAS`` or ``models:/NAME/VERSION``, and load its network.

    The folder exists within the block only.

    Raises
    ------
    DataError
        Where there is no such model.
    ShippingError
        If MLflow could not be reached.
    """
    name, _, chosen = _parts(source)
    if not name or not chosen:
        rule, remedy = "models:/NAME@ALIAS or models:/NAME/VERSION", f"try models:/{name or 'NAME'}@{CHAMPION}"
        raise DataError(f"a registered model must be named as {rule}, got {source!r}; {remedy}")
    with tempfile.TemporaryDirectory() as folder, _open(name, uri, typed=Typed(source, "tracking.uri")) as model:
        yield _download(model, _version_of(model, source), folder)


def _download(model: Registered, version: str, folder: str) -> FetchedModel:
    import mlflow.pytorch

    found = model.client.get_model_version(model.name, version)
    files = mlflow.artifacts.download_artifacts(artifact_uri=found.source, dst_path=folder, tracking_uri=model.uri)
    named = ModelVersion(model.name, version, str(found.run_id), _model_id(model.client, found))
    return FetchedModel(mlflow.pytorch.load_model(files, map_location="cpu"), Path(files), named)


def _model_id(client: MlflowClient, version: RegisteredVersion) -> str | None:
    """Return the model of MLflow behind a version, which MLflow doesn't say itself; None where its run is gone."""
    from mlflow.exceptions import MlflowException

    from .registry import UID_TAG, find_model

    uid = version.tags.get(UID_TAG)
    try:
        sent = None if uid is None else find_model(client, uid, run_id=str(version.run_id))
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise
    return None if sent is None else str(sent.model_id)


def tag_version(version: ModelVersion, tags: Mapping[str, str], *, uri: str | None = None) -> None:
    """Write tags to a version of a registered model and to the run that it comes from.

    Raises
    ------
    DataError
        Where there is no such model.
    ShippingError
        If MLflow could not be reached, or the run is gone.
    """
    with _open(version.name, uri) as model:
        for key, value in tags.items():
            model.client.set_model_version_tag(version.name, version.number, key, value)
            model.client.set_tag(version.run_id, key, value)


def _version_of(model: Registered, source: str) -> str:
    """Return the version that a ``models:/`` address means."""
    _, mark, chosen = _parts(source)
    version = model.holder(chosen) if mark == "@" else chosen
    if version is None:
        aliases = model.client.get_registered_model(model.name).aliases
        known = ", ".join(f"{alias} ({version})" for alias, version in aliases.items()) or "none"
        raise DataError(f"{source} must have an alias that exists, which are {known}; choose one of them")
    model.check_known(version, typed=source)
    return version


def _is_registered(client: MlflowClient, name: str) -> bool:
    from mlflow.exceptions import MlflowException

    try:
        client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return False
        raise
    return True


@contextmanager
def _open(name: str, uri: str | None, *, typed: Typed = BY_OPTION) -> Iterator[Registered]:
    """Open a registered model that exists; failures of MLflow are named by its place."""
    uri = resolve_uri(uri or TrackingConfig().uri)
    path = database_path(uri)
    if path is not None and not path.is_file():
        missing = "there is no such file; finish a run first"
        raise DataError(f"{typed.uri} must be an MLflow that exists, got {uri}: {missing}")
    prepare_mlflow(TrackingConfig())
    from .champion import Registered
    from .mlflow_sink import FAILURES, open_store

    try:
        client = open_store(uri)
        if not _is_registered(client, name):
            listed = ", ".join(str(model.name) for model in client.search_registered_models()) or "none"
            raise DataError(
                f"{typed.model} must name a registered model, as {listed}, got {name!r}; choose one that exists"
            )
        yield Registered(client, uri, name)
    except FAILURES as error:
        first_line = str(error).strip().partition("\n")[0]
        raise ShippingError(f"MLflow at {without_password(uri)}: {first_line}") from error
