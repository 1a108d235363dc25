"""Knobs of the learning-rate schedules, one dataclass per choice of the group."""

from __future__ import annotations

from dataclasses import dataclass

from .checks import check


@dataclass
class ScheduleConfig:
    """What every schedule has."""

    warmup_epochs: float = 0.0
    """Epochs over which the rate rises linearly to `optimizer.lr`; the first step already has a share of it."""

    def __post_init__(self) -> None:
        check(self.warmup_epochs >= 0, "schedule.warmup_epochs", self.warmup_epochs, "at least 0", "try 0.5")


@dataclass
class ConstantSchedule(ScheduleConfig):
    """Warm up, then stay."""


@dataclass
class CosineSchedule(ScheduleConfig):
    """Warm up, then fall along half a cosine to a fraction of the peak (Loshchilov and Hutter, arXiv:1608.03983)."""

    warmup_epochs: float = 0.5
    final_fraction: float = 0.01
    """Rate at the last step as a fraction of the peak."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(0 <= self.final_fraction <= 1, "schedule.final_fraction", self.final_fraction, "in [0, 1]", "try 0.01")


@dataclass
class OneCycleSchedule(ScheduleConfig):
    """Rise and fall once along cosines (Smith and Topin 2018, arXiv:1708.07120); its rise is the warm-up."""

    warmup_epochs: float = 1.0
    """Epochs over which the rate rises."""
    start_fraction: float = 0.04
    """Rate at the first step as a fraction of the peak."""
    final_fraction: float = 4e-6
    """Rate at the last step as a fraction of the peak."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(0 < self.start_fraction <= 1, "schedule.start_fraction", self.start_fraction, "in (0, 1]", "try 0.04")
        check(0 <= self.final_fraction <= 1, "schedule.final_fraction", self.final_fraction, "in [0, 1]", "try 4e-6")


@dataclass
class PlateauSchedule(ScheduleConfig):
    """Warm up, stay, and cut the rate whenever `training.monitor` stops improving."""

    warmup_epochs: float = 0.5
    factor: float = 0.5
    """The rate is multiplied by this at each cut, in (0, 1)."""
    patience: int = 1
    """Epochs without improvement that are borne; one more cuts the rate."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(0 < self.factor < 1, "schedule.factor", self.factor, "in (0, 1)", "try schedule.factor=0.5")
        check(self.patience >= 0, "schedule.patience", self.patience, "at least 0", "try schedule.patience=1")
