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
    """

    logit_threshold: float | None
    detection_threshold: float | None
    calibrator: Calibrator = dataclasses.field(default_factory=Calibrator)
    operating_point: OperatingPoint | None = None

    @property
    def pixel_threshold(self) -> float | None:
        """Calibrated probability that belongs to `logit_threshold`."""
        return None if self.logit_threshold is None else float(expit(self.calibrator.at(self.logit_threshold)))

    @classmethod
    def from_saved(cls, saved: Mapping[str, Any]) -> Chosen:
        """Rebuild what `dataclasses.asdict` made; a model of before calibration has thresholds only."""
        calibrator, point = saved.get("calibrator"), saved.get("operating_point")
        return cls(
            logit_threshold=saved["logit_threshold"],
            detection_threshold=saved["detection_threshold"],
            calibrator=Calibrator() if calibrator is None else Calibrator.from_saved(calibrator),
            operating_point=None if point is None else OperatingPoint(**point),
        )
