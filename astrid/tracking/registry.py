"""Trained models in MLflow: saved in the run folder first, then sent and registered as a new version."""

from __future__ import annotations

import copy
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow.pytorch
import numpy as np
import torch
from mlflow import MlflowClient
from mlflow.entities import LoggedModel, LoggedModelOutput, LoggedModelStatus
from mlflow.exceptions import MlflowException
from mlflow.models import Model as MlflowModel
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec
from mlflow.utils.mlflow_tags import MLFLOW_MODEL_VERSIONS

from .records import Model
from .uploads import Bucket

UID_TAG = "astrid.model_uid"
CARD_FILE = "model_card.md"
LONGEST_DESCRIPTION = 5000  # characters, MLflow's own limit


def save_model(module: torch.nn.Module, example: torch.Tensor, folder: Path) -> None:
    """Save a trained network as an MLflow model that takes images of any size and number.

    It is pickled: MLflow's default, an exported graph, holds only for image sizes that pad as the example does, and
    only on the device of the export. Loading it needs the package that defines the network.

    Parameters
    ----------
    module : network from (B, C, H, W) float32 to logits (B, 1, H, W); left as it is, a copy is saved on the CPU.
    example : (B, C, H, W) float32; the first image is kept as the input example, about 20 bytes a value.
    folder : where the model goes; must not exist.
    """
    on_cpu = copy.deepcopy(module).cpu().eval()
    image = example[:1].detach().cpu().float()
    with torch.inference_mode():
        logits = on_cpu(image)
    with _without_pickle_warning():
        mlflow.pytorch.save_model(
            on_cpu,
            str(folder),
            signature=ModelSignature(_image_schema(image), _image_schema(logits)),
            input_example=image.numpy(),
            serialization_format="pickle",
            pip_requirements=[f"torch=={torch.__version__.partition('+')[0]}", f"numpy=={np.__version__}"],
        )


def send_model(
    client: MlflowClient, record: Model, folder: Path, *, run_id: str, bucket: Bucket | None = None
) -> LoggedModel:
    """Send a saved model, directly to a bucket where there is one; what has happened before is not done again."""
    model = find_model(client, record.uid, run_id=run_id) or _create_model(client, record, run_id)
    if model.status != LoggedModelStatus.READY:
        _link_to_run(folder, model, run_id)
        if bucket is not None and bucket.takes(model.artifact_location):
            bucket.upload(folder, model.artifact_location, "")
        else:
            client.log_model_artifacts(model.model_id, str(folder))
        client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    outputs = client.get_run(run_id).outputs
    if model.model_id not in [output.model_id for output in (outputs.model_outputs if outputs else [])]:
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, record.step)])
    return model


def add_version(client: MlflowClient, model: LoggedModel, *, name: str, folder: Path) -> str:
    """Register a model that was sent, and return its version; `folder` holds its card, if it has one."""
    version = _find_version(client, model, name) or _create_version(client, model, name)
    client.set_logged_model_tags(model.model_id, {MLFLOW_MODEL_VERSIONS: _version_link(name, version)})
    card = folder / CARD_FILE
    if card.is_file():
        client.update_model_version(name, version, description=card.read_text()[:LONGEST_DESCRIPTION])
    return version


def _image_schema(images: torch.Tensor) -> Schema:
    return Schema([TensorSpec(np.dtype(np.float32), (-1, images.shape[1], -1, -1))])


def find_model(client: MlflowClient, uid: str, *, run_id: str) -> LoggedModel | None:
    """Return the model that a run has sent under the id that its journal gave it; None where there is none."""
    experiment = client.get_run(run_id).info.experiment_id
    found = client.search_logged_models([experiment], f"tags.`{UID_TAG}` = '{uid}'")
    return found[0] if found else None


def _create_model(client: MlflowClient, record: Model, run_id: str) -> LoggedModel:
    run = client.get_run(run_id)
    tags = {UID_TAG: record.uid}
    return client.create_logged_model(run.info.experiment_id, name="model", source_run_id=run_id, tags=tags)


def _link_to_run(folder: Path, model: LoggedModel, run_id: str) -> None:
    saved = MlflowModel.load(str(folder))
    saved.run_id, saved.model_id, saved.model_uuid = run_id, model.model_id, model.model_id
    saved.save(str(folder / "MLmodel"))


def find_sent_model(client: MlflowClient, run_id: str) -> LoggedModel | None:
    """Return the model that a run has sent last; None where it has sent none."""
    run = client.get_run(run_id)
    sent = [output.model_id for output in (run.outputs.model_outputs if run.outputs else [])]
    models = [client.get_logged_model(model_id) for model_id in sent]
    return max((model for model in models if UID_TAG in model.tags), key=lambda m: m.creation_timestamp, default=None)


def _find_version(client: MlflowClient, model: LoggedModel, name: str) -> str | None:
    found = client.search_model_versions(f"run_id = '{model.source_run_id}'")
    uid = model.tags[UID_TAG]
    versions = [version for version in found if version.name == name and version.tags.get(UID_TAG) == uid]
    return str(versions[0].version) if versions else None


def _create_version(client: MlflowClient, model: LoggedModel, name: str) -> str:
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    version = client.create_model_version(
        name,
        model.artifact_location,  # models:/ID would be looked up at the process-wide tracking URI
        run_id=model.source_run_id,
        tags={UID_TAG: model.tags[UID_TAG]},
        await_creation_for=0,
        model_id=model.model_id,
    )
    return str(version.version)


def _version_link(name: str, version: str) -> str:
    return json.dumps([{"name": name, "version": version}])


@contextmanager
def _without_pickle_warning() -> Iterator[None]:
    """Silence advice to export a graph instead, which doesn't work for images of any size."""
    logger = logging.getLogger("mlflow.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
