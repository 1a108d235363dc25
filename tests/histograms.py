"""How the tests of the pixel metrics make histograms."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike

from astrid.metrics.histogram import PixelHistogram


def fill(
    logits: ArrayLike, target: ArrayLike, valid: ArrayLike | None = None, *, bins: int = 2**20, limit: float = 20.0
) -> PixelHistogram:
    """Count pixels given as arrays; all are valid unless `valid` says otherwise."""
    scores = torch.as_tensor(np.asarray(logits))
    truth = torch.as_tensor(np.asarray(target, dtype=bool))
    good = torch.ones_like(truth) if valid is None else torch.as_tensor(np.asarray(valid, dtype=bool))
    histogram = PixelHistogram(bins=bins, limit=limit, device="cpu")
    histogram.update(scores, truth, good)
    return histogram


def draw(
    pixels: int, positives: int, *, spread: float = 3.0, shift: float = 4.0, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Draw float32 logits, normal with the given spread, the positives' shifted up, and their truth."""
    rng = np.random.default_rng(seed)
    target = np.zeros(pixels, dtype=bool)
    target[rng.choice(pixels, positives, replace=False)] = True
    logits = rng.normal(-1.0, spread, pixels) + shift * target
    return logits.astype(np.float32), target


def on_centres(logits: np.ndarray, *, bins: int = 2**20, limit: float = 20.0) -> np.ndarray:
    """Move logits to the centres of their bins, in float64."""
    width = 2 * limit / bins
    return (np.clip(np.floor(logits.astype(float) / width), -bins // 2, bins // 2 - 1) + 0.5) * width
