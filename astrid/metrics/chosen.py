"""What validation decides before a test field is seen, and what goes with the model: calibrator, thresholds, target."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scipy.special import expit

from astrid.config import OperatingKind

from .calibrators import Calibrator


@dataclass(frozen=True)
class Aim:
    """What a threshold is to be chosen for: see `OperatingPoint`."""

    kind: OperatingKind
    target: float | None


@dataclass(frozen=True)
class OperatingPoint:
    """The threshold that was chosen for a target.

    Attributes
    ----------
    kind : 'f1', 'fpr', 'purity' or 'false_per_mpix'
        What was aimed at: the best F1 of pixels, or a false positive rate of pixels, a purity of detections, or false
        detections per million valid pixels.
    target : float or None
        Value aimed at; None for 'f1', which shall be as great as possible.
    threshold : float
        For 'f1' and 'fpr' the network's logit from which a pixel is called positive; for the others the calibrated
        probability from which pixels make a detection.
    achieved : float
        What the validation fields showed at the threshold.
    """

    kind: OperatingKind
    target: float | None
    threshold: float
    achieved: float

    @property
    def reached(self) -> bool:
        """Whether validation keeps to the target; where it doesn't, the threshold is the one that comes closest."""
        if self.target is None:
            return True
        return self.achieved >= self.target if self.kind == "purity" else self.achieved <= self.target


@dataclass(frozen=True)
class Chosen:
    """What the validation fields decided, before a test field was seen; it goes with the model.

    Attributes
    ----------
    logit_threshold : float or None
        Logit of the network, before calibration, from which a pixel is called positive; None where validation has no
        positives.
    detection_threshold : float or None
        Calibrated probability from which pixels make a detection; None without a catalogue.
    calibrator : Calibrator
        From logits of the network to calibrated ones.
    operating_point : OperatingPoint or None
        What one of the thresholds was chosen for; None where validation could not say.
    missed : Aim or None
        What no threshold could be chosen for, where validation could not say; both are those of the best F1 then.
    """

    logit_threshold: float | None
    detection_threshold: float | None
    calibrator: Calibrator = dataclasses.field(default_factory=Calibrator)
    operating_point: OperatingPoint | None = None
    missed: Aim | None = None

    @property
    def cut(self) -> float:
        """Logit from which a pixel is called positive; that of probability 0.5 where validation could not choose."""
        return 0.0 if self.logit_threshold is None else self.logit_threshold

    def knobs(self) -> dict[str, str | float | None]:
        """Return the knobs of `metrics` that this came from, as far as it tells."""
        knobs: dict[str, str | float | None] = {"calibration": self.calibrator.kind}
        aim = self.operating_point or self.missed
        if aim is not None:
            knobs |= {"operating_point": aim.kind, "operating_target": aim.target}
        return knobs

    @property
    def pixel_threshold(self) -> float | None:
        """Calibrated probability that belongs to `logit_threshold`."""
        return None if self.logit_threshold is None else float(expit(self.calibrator.at(self.logit_threshold)))

    @classmethod
    def from_saved(cls, saved: Mapping[str, Any]) -> Chosen:
        """Rebuild what `dataclasses.asdict` made; a model of before calibration has thresholds only."""
        calibrator, point, missed = (saved.get(name) for name in ("calibrator", "operating_point", "missed"))
        return cls(
            logit_threshold=saved["logit_threshold"],
            detection_threshold=saved["detection_threshold"],
            calibrator=Calibrator() if calibrator is None else Calibrator.from_saved(calibrator),
            operating_point=None if point is None else OperatingPoint(**point),
            missed=None if missed is None else Aim(**missed),
        )
