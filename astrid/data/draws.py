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


def draw_place(rng: Generator, precision: NDArray[np.float64]) -> tuple[float, float]:
    """Draw (x, y) evenly over the pixels of which something is known, those of precision above 0.

    Raises
    ------
    DataError
        If there is none.
    """
    if not precision.any():
        raise DataError(
            "there must be a pixel for a source to lie on, got none that is good and counts; leave the frame out, or "
            "look at its mask and its labels"
        )
    row, column = divmod(int(rng.choice(np.flatnonzero(precision))), precision.shape[1])
    dx, dy = rng.uniform(-0.5, 0.5, 2)
    return column + dx, row + dy


def is_visible(x: float, y: float, precision: NDArray[np.float64]) -> bool:
    """Tell whether the pixel at (x, y) is in the frame and something is known of it."""
    row, column = round(y), round(x)
    inside = 0 <= row < precision.shape[0] and 0 <= column < precision.shape[1]
    return inside and bool(precision[row, column] > 0)
