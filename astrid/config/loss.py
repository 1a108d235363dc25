"""Knobs of the masked losses, one dataclass per choice of the group."""

from __future__ import annotations

from dataclasses import dataclass

from .checks import check


@dataclass
class LossConfig:
    """Base of the loss choices."""


@dataclass
class BCELoss(LossConfig):
    """Binary cross-entropy over valid pixels."""

    positive_weight: float = 1.0
    """Weight of a positive pixel relative to a negative one; above 1 trades calibration for recall."""

    def __post_init__(self) -> None:
        check(self.positive_weight > 0, "loss.positive_weight", self.positive_weight, "positive", "try 1.0")


@dataclass
class DiceLoss(LossConfig):
    """Soft Dice over the valid pixels of a batch (Milletari et al. 2016, arXiv:1606.04797).

    A batch without positives gives it no useful gradient: `bce_dice` is the safer choice.
    """

    smooth: float = 1.0
    """Pixels added to numerator and denominator, so that empty batches have a value."""

    def __post_init__(self) -> None:
        check(self.smooth > 0, "loss.smooth", self.smooth, "positive", "try loss.smooth=1.0")


@dataclass
class FocalLoss(LossConfig):
    """Focal loss (Lin et al. 2017, arXiv:1708.02002)."""

    gamma: float = 2.0
    """How strongly easy pixels are discounted; 0 is cross-entropy."""
    alpha: float = 0.75
    """Weight of positive pixels; negatives have 1 - alpha. In (0, 1)."""

    def __post_init__(self) -> None:
        check(self.gamma >= 0, "loss.gamma", self.gamma, "at least 0", "try loss.gamma=2")
        check(0 < self.alpha < 1, "loss.alpha", self.alpha, "in (0, 1)", "try loss.alpha=0.75")


@dataclass
class TverskyLoss(LossConfig):
    """Tversky loss (Salehi et al. 2017, arXiv:1706.05721): Dice with its own price for each kind of error."""

    false_positive_weight: float = 0.3
    """Price of a false positive pixel."""
    false_negative_weight: float = 0.7
    """Price of a false negative pixel."""
    smooth: float = 1.0
    """Pixels added to numerator and denominator."""

    def __post_init__(self) -> None:
        for name in ("false_positive_weight", "false_negative_weight"):
            check(getattr(self, name) >= 0, f"loss.{name}", getattr(self, name), "at least 0", "try 0.5")
        check(self.smooth > 0, "loss.smooth", self.smooth, "positive", "try loss.smooth=1.0")


@dataclass
class BCEDiceLoss(BCELoss):
    """Cross-entropy plus soft Dice: calibrated gradients everywhere, pressure on the rare class."""

    dice_weight: float = 0.5
    """Weight of the Dice term; cross-entropy has 1."""
    smooth: float = 1.0
    """Pixels added to numerator and denominator of Dice."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.dice_weight >= 0, "loss.dice_weight", self.dice_weight, "at least 0", "try loss.dice_weight=0.5")
        check(self.smooth > 0, "loss.smooth", self.smooth, "positive", "try loss.smooth=1.0")
