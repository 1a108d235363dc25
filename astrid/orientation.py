"""The eight orientations of the square: 0 to 7, quarter turns in the lower two bits, a mirror in the third."""

from __future__ import annotations

import torch
from torch import Tensor

ORIENTATIONS = range(8)


def turned(planes: Tensor, orientation: int) -> Tensor:
    """Turn (..., H, W) by quarters, then mirror it where the third bit says so; exact for every pixel."""
    result = torch.rot90(planes, orientation % 4, dims=(-2, -1))
    return result.flip(-1) if orientation >= 4 else result


def turned_back(planes: Tensor, orientation: int) -> Tensor:
    """Undo `turned`."""
    mirrored = planes.flip(-1) if orientation >= 4 else planes
    return torch.rot90(mirrored, -(orientation % 4), dims=(-2, -1))
