"""Calibrators: from the logits of a network to logits whose probabilities mean what they say.

All are strictly increasing, so that pixels rank after calibration as they did before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from astrid.config import CalibrationKind

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Calibrator:
    """A strictly increasing function of the logit.

    Attributes
    ----------
    kind : 'none', 'temperature' or 'isotonic'
    temperature : float
        What logits are divided by, for 'temperature'.
    knots, calibrated : tuple of K float
        Network's logits and the calibrated ones that belong to them, for 'isotonic'; straight lines join them, and
        beyond the outermost the slope is 1.
    """

    kind: CalibrationKind = "none"
    temperature: float = 1.0
    knots: tuple[float, ...] = ()
    calibrated: tuple[float, ...] = ()

    @classmethod
    def from_saved(cls, saved: Mapping[str, Any]) -> Calibrator:
        """Rebuild what `dataclasses.asdict` made, through JSON too."""
        return cls(saved["kind"], saved["temperature"], tuple(saved["knots"]), tuple(saved["calibrated"]))

    def __call__(self, logits: Floats) -> Floats:
        """Return calibrated logits of the same shape."""
        match self.kind:
            case "none":
                return logits
            case "temperature":
                return logits / self.temperature
            case "isotonic":
                beyond = np.minimum(logits - self.knots[0], 0.0) + np.maximum(logits - self.knots[-1], 0.0)
                return np.asarray(np.interp(logits, self.knots, self.calibrated) + beyond)

    def probability(self, logits: Tensor) -> Tensor:
        """Return calibrated probabilities of the same shape, float32, on the device of the logits."""
        if self.kind == "isotonic":
            calibrated = self(logits.double().cpu().numpy())
            return torch.sigmoid(torch.from_numpy(calibrated).float()).to(logits.device)
        return torch.sigmoid(logits / self.temperature)
