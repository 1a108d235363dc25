"""Every knob of AstrID: typed, with its default, unit and range.

`Config` is what a run receives; `conf/*.yaml` and the command line hold only what differs from it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from .alerts import AlertsConfig
from .augment import AugmentConfig
from .auto import Auto, settled
from .checks import BudgetSpent, ConfigError, DataError, Pruned, RunError, Stopped, check
from .data import DataConfig, FramesData
from .energy import EnergyConfig
from .injected import InjectedData
from .loss import BCEDiceLoss, BCELoss, DiceLoss, FocalLoss, LossConfig, TverskyLoss
from .metrics import PIXEL_FAMILIES, CalibrationKind, MetricsConfig, OperatingKind
from .model import ModelConfig
from .optimizer import AdamConfig, AdamWConfig, OptimizerConfig, SGDConfig
from .packets import AlertsData
from .preprocess import Header, PreprocessConfig
from .quality import LimitsConfig, QualityConfig
from .schedule import ConstantSchedule, CosineSchedule, OneCycleSchedule, PlateauSchedule, ScheduleConfig
from .sky import SimulatedData
from .sweep import SweepConfig
from .tracking import TrackingConfig
from .training import EPOCH_METRICS, LOWER_IS_BETTER, TrainingConfig

__all__ = [
    "EPOCH_METRICS",
    "LOWER_IS_BETTER",
    "PIXEL_FAMILIES",
    "AdamConfig",
    "AdamWConfig",
    "AlertsConfig",
    "AlertsData",
    "AugmentConfig",
    "Auto",
    "BCEDiceLoss",
    "BCELoss",
    "BudgetSpent",
    "CalibrationKind",
    "Config",
    "ConfigError",
    "ConstantSchedule",
    "CosineSchedule",
    "DataConfig",
    "DataError",
    "DiceLoss",
    "EnergyConfig",
    "FocalLoss",
    "FramesData",
    "Header",
    "InjectedData",
    "LimitsConfig",
    "LossConfig",
    "MetricsConfig",
    "ModelConfig",
    "OneCycleSchedule",
    "OperatingKind",
    "OptimizerConfig",
    "PlateauSchedule",
    "PreprocessConfig",
    "Pruned",
    "QualityConfig",
    "RunError",
    "SGDConfig",
    "ScheduleConfig",
    "SimulatedData",
    "Stopped",
    "SweepConfig",
    "TrackingConfig",
    "TrainingConfig",
    "TverskyLoss",
    "check",
    "settled",
]


@dataclass
class Config:
    """One run, complete."""

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=SimulatedData)
    optimizer: OptimizerConfig = field(default_factory=AdamWConfig)
    schedule: ScheduleConfig = field(default_factory=CosineSchedule)
    loss: LossConfig = field(default_factory=BCELoss)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    metrics: MetricsConfig = field(default_factory=MetricsConfig)
    energy: EnergyConfig = field(default_factory=EnergyConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    sweep: SweepConfig = field(default_factory=SweepConfig)

    def __post_init__(self) -> None:
        step: int = 2 ** (1 if self.model.depth == "auto" else self.model.depth)
        fitting = max(step * 2, round(self.data.tile_size / step) * step)
        rule = f"a multiple of 2**model.depth = {step} and at least {2 * step}"
        fits = self.data.tile_size % step == 0 and self.data.tile_size >= 2 * step
        remedy = f"try data.tile_size={fitting} or a smaller model.depth"
        check(fits, "data.tile_size", self.data.tile_size, rule, remedy)
        warmup = self.schedule.warmup_epochs
        rule = f"at most training.epochs = {self.training.epochs}"
        check(warmup <= self.training.epochs, "schedule.warmup_epochs", warmup, rule, "try schedule.warmup_epochs=0")
        augment = self.data.augment
        fits = not self.model.test_time_augmentation or (augment.flips and augment.flip_probability > 0)
        rule = "false where training knows no orientation but one (data.augment.flips)"
        check(fits, "model.test_time_augmentation", True, rule, "leave data.augment.flips at true")
        if self.sweep.trial is not None:
            self.check_single("in a sweep, where a trial is one run")

    @property
    def is_several(self) -> bool:
        """Whether this is several runs: repeats, or all folds of a cross-validation."""
        return self.training.repeats > 1 or (self.data.folds > 1 and self.data.fold is None)

    def check_single(self, where: str) -> None:
        """Refuse several runs where only one can be.

        Raises
        ------
        ConfigError
        """
        remedy = "leave it out, and repeat the best trial afterwards"
        check(self.training.repeats == 1, "training.repeats", self.training.repeats, f"1 {where}", remedy)
        whole = f"1, or data.fold a number, {where}"
        check(not self.is_several, "data.folds", self.data.folds, whole, "try data.fold=0")
