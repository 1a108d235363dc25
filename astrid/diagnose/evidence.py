"""What a run left in its folder, as far as it came: configuration, journal, norms."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from astrid.config import Config, DataError, LossConfig
from astrid.config.resume import EVALUATION_FILE, load_config
from astrid.layer_norms import NORMS_FILE, EpochNorms, read_norms
from astrid.losses import build_loss
from astrid.run_facts import PRIOR_TAG
from astrid.tracking.journal import FILE_NAME, Journal
from astrid.tracking.records import Metrics, Tags
from astrid.watch.state import Reader

PIXELS = 2**20
"""Pixels of the made-up image on which a loss is taken that knows nothing but the share of positives."""


@dataclass(frozen=True)
class Evidence:
    """What a run's folder tells without its data.

    Attributes
    ----------
    config : Config
    status, reason : str, str or None
        How the run ended, RUNNING where it has not, GONE where its process left no word of an end; and why.
    history : list of dict
        Values of each finished epoch by metric name, `epoch` among them.
    norms : list of EpochNorms
        Empty where none were kept.
    gpu_percent : list of float
        Samples of how busy the GPU was; empty without one.
    prior : float or None
        Share of positive pixels in training; None in a run of before that was kept.
    fingerprint : str or None
        Digest of the data it saw; None where it ended before they were known.
    """

    run_dir: Path
    config: Config
    status: str
    reason: str | None
    history: list[dict[str, float]]
    norms: list[EpochNorms] = field(default_factory=list)
    gpu_percent: list[float] = field(default_factory=list)
    prior: float | None = None
    fingerprint: str | None = None

    def curve(self, name: str) -> NDArray[np.float64]:
        """Return a metric by epoch, (E,) float64; NaN where an epoch lacks it."""
        return np.array([values.get(name, np.nan) for values in self.history])

    @property
    def weights(self) -> list[str]:
        """Names of the weights of convolutions and heads: those of norms and biases have scales of their own."""
        names = self.norms[0].weight if self.norms else {}
        return [name for name in names if name.endswith("weight") and "norm" not in name]

    @property
    def blind_loss(self) -> float | None:
        """Training loss of an answer that knows nothing but the share of positives; None where that isn't known."""
        return None if self.prior is None else blind_loss(self.config.loss, self.prior)


def read_evidence(run_dir: Path) -> Evidence:
    """Read the folder of a run that is finished, failed or still going.

    Raises
    ------
    ConfigError, DataError
        Where the folder holds no training run.
    """
    if (run_dir / EVALUATION_FILE).is_file():
        raise DataError(f"{run_dir} must be a training run, but is an evaluation; give the run of its model")
    Journal.open(run_dir)  # refuses what is no run
    config = load_config(run_dir)
    if config.is_several:
        members = ", ".join(sorted(path.parent.name for path in run_dir.glob(f"*/{FILE_NAME}"))) or "none yet"
        raise DataError(f"{run_dir} must be one run, but is a group of several; give one of its members ({members})")
    reader, tags, gpu = Reader(run_dir), dict[str, str](), list[float]()
    records, status = reader.look()
    for record in records:
        if isinstance(record, Tags):
            tags |= record.values
        if isinstance(record, Metrics) and "system/gpu_percent" in record.values:
            gpu.append(record.values["system/gpu_percent"])
    return Evidence(
        run_dir,
        config=config,
        status=status,
        reason=reader.state.reason,
        history=[{"epoch": float(epoch)} | record.values for epoch, record in sorted(reader.state.epochs.items())],
        norms=read_norms(run_dir / NORMS_FILE),
        gpu_percent=gpu,
        prior=float(tags[PRIOR_TAG]) if PRIOR_TAG in tags else None,
        fingerprint=tags.get("data.fingerprint"),
    )


def blind_loss(config: LossConfig, prior: float) -> float:
    """Return the loss of the answer `prior` in every pixel of an image with that share of positives."""
    target = torch.zeros((1, 1, 1, PIXELS), dtype=torch.bool)
    target[..., : max(1, round(prior * PIXELS))] = True
    logits = torch.full(target.shape, float(np.log(prior / (1 - prior))))
    return float(build_loss(config)(logits, target, torch.ones_like(target)))
