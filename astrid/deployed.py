"""A trained model taken into use: loaded from the registry or from a run folder, computing as its run did."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from astrid.checkpoint import BEST, CHECKPOINTS, load_checkpoint
from astrid.config import DataError
from astrid.config.resume import EVALUATION_FILE, load_config
from astrid.metrics.bootstrap import load_starts
from astrid.metrics.histogram import Counts
from astrid.model_card import FACTS_FILE, FIELDS_FILE, ModelFacts
from astrid.predictor import Predictor
from astrid.runtime import Runtime, choose_device
from astrid.tracking import Journal, known_run_id
from astrid.tracking.journal import FILE_NAME
from astrid.tracking.versions import ModelVersion, fetch_model
from astrid.unet import build_unet

METRICS_FILE = "metrics.json"


class AsRun(nn.Module):
    """A network that computes in the precision of the run it is from, whoever calls it.

    Parameters
    ----------
    network : nn.Module
        (B, C, H, W) float32 to logits (B, 1, H, W).
    precision : 'fp32', 'bf16' or 'fp16'
    """

    def __init__(self, network: nn.Module, precision: str) -> None:
        super().__init__()
        self.network = network
        self.precision = precision

    def forward(self, image: Tensor) -> Tensor:
        """Return float32 logits (B, 1, H, W) of an image (B, C, H, W)."""
        runtime = Runtime(image.device, self.precision, torch.get_num_threads(), channels_last=False)
        with runtime.autocast():
            logits: Tensor = self.network(image)
        return logits.float()


@dataclass(frozen=True)
class Source:
    """Where a model was taken from.

    Attributes
    ----------
    address : str
        Folder of the run, or the version of the registered model as ``models:/NAME/VERSION``.
    run_id : str
        Its run in MLflow; of a folder that was sent to none, or to several, the id that its journal gave it.
    version : ModelVersion or None
        None for a run folder.
    """

    address: str
    run_id: str
    version: ModelVersion | None = None


@dataclass(frozen=True)
class Deployed:
    """A model with all that belongs to it.

    Attributes
    ----------
    facts : ModelFacts
        Operating point, preprocessing, metrics and more.
    predictor : Predictor
        Runs the network over frames of any size.
    source : Source
        Where it was taken from.
    starts : (B,) int64 or None
        The bins in which its test fields were kept, as in `FieldCounts`; None in a model of before that was stored.
    """

    facts: ModelFacts
    predictor: Predictor
    source: Source
    starts: Counts | None

    @property
    def network(self) -> nn.Module:
        """The network itself, which computes in whatever precision its caller sets."""
        model = self.predictor.model
        return model.network if isinstance(model, AsRun) else model

    @property
    def logit_threshold(self) -> float | None:
        """Logit of the network, before calibration, from which a pixel is called positive, chosen on validation."""
        return self.facts.chosen.logit_threshold

    @property
    def detection_threshold(self) -> float | None:
        """Calibrated probability from which pixels make a detection, chosen on validation."""
        return self.facts.chosen.detection_threshold

    @property
    def pixel_threshold(self) -> float | None:
        """Calibrated probability that belongs to `logit_threshold`, with which to threshold `probabilities`."""
        return self.facts.chosen.pixel_threshold

    def probabilities(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the probability of each pixel, calibrated as the run chose, (H, W) float32.

        Parameters
        ----------
        image : (C, H, W) float32
            Channels in units of background sigma, prepared as `facts.preprocessing` says; 0 where not valid.

        Raises
        ------
        DataError
            For another number of channels.
        """
        channels = self.facts.network["channels"]
        if image.ndim != 3 or image.shape[0] != channels:
            rule, remedy = f"({channels}, height, width)", "prepare it as facts.preprocessing says"
            raise DataError(f"image must have the shape {rule}, got {image.shape}; {remedy}")
        logits = self.predictor.logits(np.asarray(image, dtype=np.float32))
        return self.facts.chosen.calibrator.probability(logits).cpu().numpy()


def load(source: str | Path, *, uri: str | None = None, device: str = "auto") -> Deployed:
    """Load a model.

    Parameters
    ----------
    source : str or Path
        Registered model, as in ``models:/astrid-unet@champion`` or ``models:/astrid-unet/3``, or the folder of a run.
    uri : str or None
        MLflow tracking URI of the registry; None is ``sqlite:///outputs/mlflow.db``.
    device : 'auto', 'cpu' or 'cuda'

    Raises
    ------
    DataError
        Where there is no such model.
    ConfigError
        For a device that this machine lacks.

    Examples
    --------
    >>> model = load("models:/astrid-unet@champion")
    >>> probability = model.probabilities(image)
    """
    chosen = choose_device(device)
    if not str(source).startswith("models:/"):
        run_dir = Path(source)
        return _deploy(*_from_run(run_dir), folder=run_dir, source=_source_of(run_dir), device=chosen)
    with fetch_model(str(source), uri) as model:
        facts, version = ModelFacts.load(model.folder / FACTS_FILE), model.version
        found = Source(f"models:/{version.name}/{version.number}", version.run_id, version)
        return _deploy(model.network, facts, folder=model.folder, source=found, device=chosen)


def _deploy(network: nn.Module, facts: ModelFacts, *, folder: Path, source: Source, device: torch.device) -> Deployed:
    runtime = Runtime(device, facts.precision, torch.get_num_threads(), facts.channels_last)
    network = network.to(device=device, memory_format=runtime.memory_format)  # type: ignore[call-overload]
    predictor = Predictor(network.eval(), runtime, facts.network["halo"], whole=facts.whole)
    return Deployed(facts, predictor, source, load_starts(folder / FIELDS_FILE))


def _source_of(run_dir: Path) -> Source:
    return Source(str(run_dir.resolve()), known_run_id(run_dir) or Journal.open(run_dir).started.uid)


def _from_run(run_dir: Path) -> tuple[nn.Module, ModelFacts]:
    if (run_dir / EVALUATION_FILE).is_file():
        evaluated = json.loads((run_dir / EVALUATION_FILE).read_text())["model"]
        raise DataError(f"{run_dir} must be a training run, but is an evaluation of {evaluated}; give that")
    _refuse_group(run_dir)
    facts, config = ModelFacts.load(run_dir / FACTS_FILE), load_config(run_dir)
    weights = run_dir / CHECKPOINTS / BEST
    if not weights.is_file():
        raise DataError(f"{run_dir} has no {CHECKPOINTS}/{BEST}, its weights; load the model from the registry")
    saved = load_checkpoint(weights)
    if saved["epoch"] != facts.best_epoch:
        found = f"its best weights are of epoch {saved['epoch']}, but {FACTS_FILE} tells of epoch {facts.best_epoch}"
        remedy = f"finish it with training.resume={run_dir}"
        raise DataError(f"{run_dir} was resumed and not evaluated since: {found}; {remedy}")
    network = build_unet(config.model, channels=facts.network["channels"], stretch=config.data.stretch, prior=0.5)
    network.load_state_dict(saved["model"])
    return network, facts


def _refuse_group(run_dir: Path) -> None:
    """Refuse the folder of repeats or folds, which have a model each, and name them."""
    if (run_dir / FACTS_FILE).is_file():
        return
    members = sorted(path.parent for path in run_dir.glob(f"*/{FACTS_FILE}") if (path.parent / FILE_NAME).is_file())
    if not members:
        return
    named = ", ".join(path.name for path in members)
    best = _best_repeat(run_dir, members)
    remedy = f"try {best}, the best by validation" if best else f"try {members[0]}"
    raise DataError(f"{run_dir} is a group of runs and has no model of its own; give one of {named}: {remedy}")


def _best_repeat(run_dir: Path, members: Sequence[Path]) -> Path | None:
    """Return the repeat of the best objective; None for folds, which were validated on other fields each."""
    config = load_config(run_dir)
    if config.data.folds > 1 and config.data.fold is None:
        return None
    values = {path: json.loads((path / METRICS_FILE).read_text())["objective"] for path in members}
    pick = min if config.training.monitor_mode == "min" else max
    return pick(values, key=lambda path: float(values[path]))
