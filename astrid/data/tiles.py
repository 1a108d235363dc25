"""Cut frames into tiles, and into windows whose cores make up the frame again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T", bound=np.generic)


def tile_origins(height: int, width: int, *, tile: int) -> list[tuple[int, int]]:
    """Return the upper left corners (y0, x0) of the tiles that cover a frame without overlap.

    The last row and column of tiles may stick out; `cut_tile` fills what lies outside.
    """
    return [(y0, x0) for y0 in range(0, height, tile) for x0 in range(0, width, tile)]


def cut_tile(planes: NDArray[T], y0: int, x0: int, *, tile: int) -> NDArray[T]:
    """Cut (C, tile, tile) out of (C, H, W); pixels outside of the frame are 0.

    The corner may lie outside of the frame, on any side.
    """
    channels, height, width = planes.shape
    cut = np.zeros((channels, tile, tile), dtype=planes.dtype)
    top, left = max(y0, 0), max(x0, 0)
    bottom, right = min(y0 + tile, height), min(x0 + tile, width)
    if top < bottom and left < right:
        cut[:, top - y0 : bottom - y0, left - x0 : right - x0] = planes[:, top:bottom, left:right]
    return cut


@dataclass(frozen=True)
class Window:
    """A part of a frame to predict, and the core of it to keep.

    Attributes
    ----------
    outer : pair of slices (y, x)
        What the network sees, in frame coordinates.
    inner : pair of slices (y, x)
        The core, in frame coordinates; cores tile the frame.
    core : pair of slices (y, x)
        The core, in the window's own coordinates.
    """

    outer: tuple[slice, slice]
    inner: tuple[slice, slice]
    core: tuple[slice, slice]


def windows(height: int, width: int, *, core: int, halo: int) -> Iterator[Window]:
    """Cover a frame by cores with a halo around them, clipped at the frame's edge.

    With a halo of at least the network's receptive radius, and both `core` and `halo` multiples of 2**depth, the
    stitched cores equal the prediction of the whole frame.
    """
    for y0, x0 in tile_origins(height, width, tile=core):
        y1, x1 = min(y0 + core, height), min(x0 + core, width)
        top, left = max(y0 - halo, 0), max(x0 - halo, 0)
        yield Window(
            outer=(slice(top, min(y1 + halo, height)), slice(left, min(x1 + halo, width))),
            inner=(slice(y0, y1), slice(x0, x1)),
            core=(slice(y0 - top, y1 - top), slice(x0 - left, x1 - left)),
        )
