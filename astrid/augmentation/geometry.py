"""Where a sample lies: orientations of the square and shifts by whole pixels, exact for every plane."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from astrid.config import AugmentConfig
from astrid.data.dataset import Batch

from .draws import Draws


def orient(batch: Batch, codes: Tensor) -> Batch:
    """Give each sample one of the eight orientations of the square.

    Parameters
    ----------
    batch : dict of (B, C, T, T) tensors
    codes : (B,) int64, on the CPU
        0 to 7: quarter turns in the lower two bits, a mirror in the third.

    Returns
    -------
    dict of new tensors, all turned alike.
    """
    turned = {name: planes.clone() for name, planes in batch.items()}
    for code in torch.unique(codes).tolist():
        chosen = torch.nonzero(codes == code).flatten()
        for name, planes in batch.items():
            index = chosen.to(planes.device, non_blocking=True)
            picked = torch.rot90(planes[index], code % 4, dims=(-2, -1))
            turned[name][index] = picked.flip(-1) if code >= 4 else picked
    return turned


def orient_at_random(batch: Batch, draws: Draws, config: AugmentConfig) -> Batch:
    """Give each sample any orientation, its own included."""
    return orient(batch, torch.from_numpy(draws.host.integers(0, 8, size=batch["image"].shape[0])))


def shift(batch: Batch, steps: Tensor) -> Batch:
    """Move each sample by whole pixels; what enters from outside is 0 in the image and False in target and valid.

    Parameters
    ----------
    batch : dict of (B, C, T, T) tensors
    steps : (B, 2) int64, on the device
        Pixels towards higher y and x.
    """
    height, width = batch["image"].shape[-2:]
    sample = torch.arange(len(steps), device=steps.device)[:, None, None]
    y = torch.arange(height, device=steps.device) - steps[:, :1]  # (B, T), where each row comes from
    x = torch.arange(width, device=steps.device) - steps[:, 1:]
    inside = ((y >= 0) & (y < height))[:, :, None] & ((x >= 0) & (x < width))[:, None, :]
    y, x = y.clamp(0, height - 1)[:, :, None], x.clamp(0, width - 1)[:, None, :]
    moved = {name: planes.permute(0, 2, 3, 1)[sample, y, x] for name, planes in batch.items()}  # (B, T, T, C)
    return {
        name: torch.where(inside[..., None], planes, torch.zeros_like(planes)).permute(0, 3, 1, 2)
        for name, planes in moved.items()
    }


def shift_at_random(batch: Batch, draws: Draws, config: AugmentConfig) -> Batch:
    """Move each sample to one of the other places within reach, all equally likely."""
    edge = 2 * config.shift_pixels + 1
    stay = edge**2 // 2
    places = draws.host.integers(0, edge**2 - 1, size=batch["image"].shape[0])
    places += places >= stay  # leaves out the middle, which is no move
    steps = np.stack(np.divmod(places, edge), axis=1) - config.shift_pixels
    return shift(batch, draws.to_device(torch.from_numpy(steps)))
