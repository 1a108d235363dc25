"""Defects of the detector: those that a mask knows, and those that none does."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from astrid.config import AugmentConfig
from astrid.data.dataset import Batch

from .draws import Draws
from .photometry import spread

FAINTEST_HOT_SIGMA = 5.0


def break_pixels(batch: Batch, draws: Draws, config: AugmentConfig) -> Batch:
    """Add hot pixels and blank dead ones.

    Dead pixels and columns are in the detector's mask: 0 in every channel, no target and not valid, as prepared fields
    have them. Hot pixels are in none: they stay valid and are no target, so that the network learns to leave them.
    """
    hot = batch | {"image": batch["image"] + spread(hot_pixels(batch["valid"], draws, config), batch, config)}
    alive = ~dead_pixels(batch["valid"], draws, config)
    image = torch.where(alive, hot["image"], 0.0)
    return {"image": image, "target": batch["target"] & alive, "valid": batch["valid"] & alive}


def hot_pixels(valid: Tensor, draws: Draws, config: AugmentConfig) -> Tensor:
    """Return what hot pixels add to the science frame, (B, 1, T, T) float32 in its sigma."""
    is_hot = draws.uniform_like(valid) < config.hot_share
    reach = math.log(config.hot_sigma / FAINTEST_HOT_SIGMA)
    brightness = FAINTEST_HOT_SIGMA * torch.exp(reach * draws.uniform_like(valid))
    return torch.where(is_hot, brightness, 0.0)


def dead_pixels(valid: Tensor, draws: Draws, config: AugmentConfig) -> Tensor:
    """Return dead pixels and columns, (B, 1, T, T) bool."""
    samples, width, most = valid.shape[0], valid.shape[-1], config.dead_columns
    counts = draws.host.integers(min(1, most), most, size=samples, endpoint=True)
    ranks = draws.host.random((samples, width)).argsort(axis=1)  # the columns in random order
    columns = torch.from_numpy(ranks < counts[:, None])
    return (draws.uniform_like(valid) < config.dead_share) | draws.to_device(columns)[:, None, None, :]
