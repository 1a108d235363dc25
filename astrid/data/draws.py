"""What simulated and injected sources share: how their places and sizes are drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from astrid.config import DataError


def log_uniform(rng: Generator, bounds: Sequence[float], size: int) -> NDArray[np.float64]:
    """Draw numbers whose logarithm is uniform between two bounds."""
    return np.exp(rng.uniform(math.log(bounds[0]), math.log(bounds[1]), size))


class Places:
    """The pixels of which something is known, those of precision (H, W) above 0; listed once for all draws."""

    def __init__(self, precision: NDArray[np.float64]) -> None:
        self._width = precision.shape[1]
        self._pixels = np.flatnonzero(precision)

    def draw(self, rng: Generator) -> tuple[float, float]:
        """Draw (x, y) evenly over the pixels.

        Raises
        ------
        DataError
            If there is none.
        """
        if not self._pixels.size:
            raise DataError(
                "there must be a pixel for a source to lie on, got none that is good and counts; leave the frame out, "
                "or look at its mask and its labels"
            )
        row, column = divmod(int(rng.choice(self._pixels)), self._width)
        dx, dy = rng.uniform(-0.5, 0.5, 2)
        return column + dx, row + dy


def is_visible(x: float, y: float, precision: NDArray[np.float64]) -> bool:
    """Tell whether the pixel at (x, y) is in the frame and something is known of it."""
    row, column = round(y), round(x)
    inside = 0 <= row < precision.shape[0] and 0 <= column < precision.shape[1]
    return inside and bool(precision[row, column] > 0)
