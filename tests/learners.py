"""A learner small enough to train within a test, and the tiles it learns from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from astrid.config import (
    AdamWConfig,
    AugmentConfig,
    BCEDiceLoss,
    BCELoss,
    ConstantSchedule,
    CosineSchedule,
    EnergyConfig,
    LossConfig,
    MetricsConfig,
    ModelConfig,
    ScheduleConfig,
    SimulatedData,
    TrainingConfig,
)
from astrid.data.dataset import training_loader, validation_loader
from astrid.data.frames import Field
from astrid.data.store import FieldStore, write_fields
from astrid.energy import build_meter
from astrid.learner import Learner, Progress
from astrid.losses import build_loss
from astrid.optimization import build_optimizer, build_schedule
from astrid.runtime import StopSignals, prepare_runtime
from astrid.training import EpochRecord, Loaders, StepReport, fit
from astrid.unet import build_unet

METRICS = MetricsConfig(bins=1024)


def spots(folder: Path, *, fields: int = 3, size: int = 48, seed: int = 0) -> FieldStore:
    """Write fields of noise with bright squares, which are the target."""
    generator = np.random.default_rng(seed)

    def field(number: int) -> Field:
        image = generator.normal(size=(1, size, size)).astype(np.float32)
        target = np.zeros((size, size), bool)
        for y, x in generator.integers(0, size - 4, size=(6, 2)):
            target[y : y + 4, x : x + 4] = True
        image[0, target] += 6.0
        return Field(f"f{number}", image, target, np.ones((size, size), bool))

    write_fields(folder, [field(number) for number in range(fields)])
    return FieldStore(folder)


def make_learner(
    config: TrainingConfig,
    *,
    steps_per_epoch: int,
    model: ModelConfig | None = None,
    loss: LossConfig | None = None,
    schedule: ScheduleConfig | None = None,
) -> Learner:
    """Build a learner on the CPU; the seed of `config` decides its weights."""
    runtime = prepare_runtime(config)
    network = build_unet(
        model or ModelConfig(depth=1, filters=4, dropout=0.1), channels=1, stretch="arcsinh", prior=0.04
    )
    optimizer = build_optimizer(network, AdamWConfig(lr=0.01))
    plan = schedule or CosineSchedule(warmup_epochs=0.5)
    return Learner(
        model=network,
        network=network,
        optimizer=optimizer,
        schedule=build_schedule(optimizer, plan, steps_per_epoch=steps_per_epoch, epochs=config.epochs),
        scaler=torch.amp.GradScaler("cpu", enabled=False),
        loss=build_loss(loss or BCEDiceLoss()),
        runtime=runtime,
    )


class Bench:
    """Everything that `fit` needs, in one place, with a data configuration that tests may change."""

    def __init__(
        self,
        store: FieldStore,
        folder: Path,
        *,
        batch_size: int = 4,
        workers: int = 0,
        augment: AugmentConfig | None = None,
    ) -> None:
        self.folder = folder
        data = SimulatedData(tile_size=16, batch_size=batch_size, workers=workers)
        self.loaders = Loaders(
            training_loader(store, data, seed=0, pin_memory=False),
            validation_loader(store, data, pin_memory=False),
            augment=augment or AugmentConfig(),
            fingerprint="spots",
        )
        self.stop = StopSignals()
        self.reports: list[StepReport] = []

    def learner(self, config: TrainingConfig, **choices: object) -> Learner:
        """Build a learner for these loaders."""
        steps = -(-len(self.loaders.train) // config.accumulate)
        return make_learner(config, steps_per_epoch=steps, **choices)  # type: ignore[arg-type]

    def fit(self, learner: Learner, config: TrainingConfig, progress: Progress | None = None) -> list[EpochRecord]:
        """Train to the end and return the records."""
        with build_meter(EnergyConfig(source="off"), gpu_uuids=[], synchronise=lambda: None, ledger=None) as meter:
            return list(
                fit(
                    learner,
                    self.loaders,
                    config=config,
                    metrics=METRICS,
                    meter=meter,
                    folder=self.folder,
                    stop=self.stop,
                    show=self.reports.append,
                    progress=progress or Progress(),
                )
            )


PLAIN = {
    "model": ModelConfig(depth=1, filters=4, norm="none"),
    "loss": BCELoss(),
    "schedule": ConstantSchedule(),
}
"""Choices under which a batch is the sum of its parts: no batch statistics, no dropout, a loss that is a mean."""
