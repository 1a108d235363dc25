"""Calibrators: from the logits of a network to logits whose probabilities mean what they say.

All are strictly increasing, so that pixels rank after calibration as they did before.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression, minimize_scalar
from scipy.special import logit
from torch import Tensor

from astrid.config import CalibrationKind

from .histogram import Occupied, PixelHistogram

log = logging.getLogger(__name__)

Floats = NDArray[np.float64]

LOG_TEMPERATURES = (-4.0, 4.0)
"""Natural logarithms between which the temperature is sought: 0.018 to 55."""
FEWEST_OF_CLASS = 100
"""Fewest pixels of either class that a temperature is fitted to: with 20 positives of which none lies among the
negatives, 4 of 20 draws ran away to 0.018, with 50 it was 2, with 100 none."""


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

    def at(self, logit: float) -> float:
        """Return the calibrated value of one logit, which may be infinite."""
        return float(self(np.array([logit]))[0])

    def probability(self, logits: Tensor) -> Tensor:
        """Return calibrated probabilities of the same shape, float32, on the device of the logits."""
        if self.kind == "isotonic":
            calibrated = self(logits.double().cpu().numpy())
            return torch.sigmoid(torch.from_numpy(calibrated).float()).to(logits.device)
        return torch.sigmoid(logits / self.temperature)


def fit_calibrator(histogram: PixelHistogram, *, kind: CalibrationKind) -> Calibrator:
    """Fit a calibrator to counted logits, which should be those of fields that are neither trained nor tested on.

    Where the counts don't decide it, because a class is absent or, for a temperature, has less than `FEWEST_OF_CLASS`
    pixels or is parted from the other, probabilities stay as they are and the log says so.
    """
    bins = histogram.occupied
    if kind != "none" and not (bins.positives.any() and bins.negatives.any()):
        counts = f"{bins.positives.sum()} positive and {bins.negatives.sum()} negative pixels"
        log.warning("probabilities are not calibrated: %s calibration needs both classes, got %s", kind, counts)
        return Calibrator()
    match kind:
        case "none":
            return Calibrator()
        case "temperature":
            temperature = _fit_temperature(bins)
            return Calibrator() if temperature is None else Calibrator("temperature", temperature=temperature)
        case "isotonic":
            return _fit_isotonic(bins)


def _fit_temperature(bins: Occupied) -> float | None:
    """Return the temperature of greatest likelihood; None, and said, where there are too few pixels to tell.

    References
    ----------
    Guo et al. 2017, ICML, arXiv:1706.04599, section 4.2
    """
    fewest = min(int(bins.positives.sum()), int(bins.negatives.sum()))
    if fewest < FEWEST_OF_CLASS:
        rule = f"a temperature needs at least {FEWEST_OF_CLASS} validation pixels of either class"
        log.warning("probabilities stay as they are: %s, got %d; add validation fields", rule, fewest)
        return None

    def loss(log_temperature: float) -> float:
        scaled = bins.logits / np.exp(log_temperature)
        surprise = bins.positives @ np.logaddexp(0, -scaled) + bins.negatives @ np.logaddexp(0, scaled)
        return float(surprise / bins.positives.size)

    found = minimize_scalar(loss, bounds=LOG_TEMPERATURES, method="bounded", options={"xatol": 1e-6})
    if min(abs(found.x - end) for end in LOG_TEMPERATURES) < 0.01:
        end = float(np.exp(found.x))
        log.warning("probabilities stay as they are: the temperature ran to the end of what is tried, %.3g", end)
        return None
    return float(np.exp(found.x))


def _fit_isotonic(bins: Occupied) -> Calibrator:
    """Pool adjacent violators, and join the middles of the blocks by straight lines in logit.

    Steps would tie pixels that the network ranks. A block without positives, or without negatives, has the frequency
    of half a pixel more, and at most half (odds) that of its neighbour, so that its logit is finite and in order.

    References
    ----------
    Oron & Flournoy 2017, Statistics in Biopharmaceutical Research 9, 258, doi:10.1080/19466315.2017.1286256
    """
    pixels = (bins.positives + bins.negatives).astype(float)
    fit = isotonic_regression(bins.positives / pixels, weights=pixels)
    starts = fit.blocks[:-1]
    count, positive = (np.add.reduceat(values, starts) for values in (pixels, bins.positives.astype(float)))
    knots = np.add.reduceat(pixels * bins.logits, starts) / count
    calibrated = logit(positive / count)
    finest = np.log(2 * count + 1)  # logit of half a pixel in all of the block and one more
    if np.isneginf(calibrated[0]):
        calibrated[0] = min([-finest[0], *(calibrated[1:2] - np.log(2))])
    if np.isposinf(calibrated[-1]):
        calibrated[-1] = max([finest[-1], *(calibrated[-2:-1] + np.log(2))])
    return Calibrator("isotonic", knots=tuple(knots.tolist()), calibrated=tuple(calibrated.tolist()))
