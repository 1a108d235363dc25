"""What a point source in noise means: how well it can be seen, and which pixels are its own."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


def snr_per_flux(share: NDArray[np.float64], precision: NDArray[np.float64]) -> float:
    """Return the matched-filter signal-to-noise of a point source of unit flux, sqrt(sum(psf² / variance)).

    It is the optimum of any linear filter when the PSF is known and the source's own photons don't count as noise.

    Parameters
    ----------
    share : float64
        Share of the source's light on each pixel.
    precision : float64, same shape
        Inverse variance of each pixel, 0 where it is not valid; its unit is that of the flux to the power of -2.

    References
    ----------
    Zackay and Ofek 2017, ApJ 836, 187, doi:10.3847/1538-4357/836/2/187.
    """
    return math.sqrt(float(np.sum(share**2 * precision)))


def disc_mask(
    x: NDArray[np.float64], y: NDArray[np.float64], shape: tuple[int, int], *, radius: float
) -> NDArray[np.bool_]:
    """Mark the pixels whose centres lie within `radius` pixels of one of the places; (H, W) bool."""
    mask = np.zeros(shape, dtype=bool)
    for column, row in zip(x, y, strict=True):
        window = _window(row, radius, shape[0]), _window(column, radius, shape[1])
        rows, columns = np.ogrid[window]
        mask[window] |= (columns - column) ** 2 + (rows - row) ** 2 <= radius**2
    return mask


def _window(centre: float, radius: float, size: int) -> slice:
    """Return the rows, or columns, of a frame that a disc can reach."""
    start, stop = math.floor(centre - radius), math.ceil(centre + radius) + 1
    return slice(min(max(start, 0), size), min(max(stop, 0), size))
