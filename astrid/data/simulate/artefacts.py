"""What the camera and the sky add that is no source: cosmic rays, hot pixels and satellite trails."""

from __future__ import annotations

import math

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from astrid.config import SimulatedData

from ..draws import log_uniform
from ..psf import moffat_alpha
from .detector import Conditions
from .scene import DENSITY_PIXELS

_PARCELS_PER_PIXEL = 16  # of charge, that sample a track
_TRAIL_REACH_FWHM = 3.0  # farther out a trail is below any notice


def draw_cosmic_rays(config: SimulatedData, rng: Generator) -> NDArray[np.float64]:
    """Return the charge that cosmic rays leave, (H, W) electrons.

    It is freed in the silicon, not focused by the optics: tracks are as thin as charge diffusion allows.
    """
    size = config.field_size
    charge = np.zeros((size, size))
    for _ in range(rng.poisson(config.cosmic_rays * size**2 / DENSITY_PIXELS)):
        x, y, electrons = _track(config, rng)
        _collect(charge, x, y, electrons)
    return charge


def _track(
    config: SimulatedData, rng: Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Draw where parcels of charge along one track end, and their electrons.

    One pixel is added to the projected length: even a vertical particle crosses the depth of the detector. Losses
    fluctuate strongly from parcel to parcel, as the exponential does.
    """
    length = rng.exponential(config.cosmic_ray_length)
    parcels = math.ceil((length + 1.0) * _PARCELS_PER_PIXEL)
    step = length / parcels
    turn = config.cosmic_ray_turn * math.sqrt(step) if rng.random() < config.cosmic_ray_worms else 0.0
    direction = rng.uniform(0.0, 2.0 * math.pi) + np.cumsum(rng.normal(0.0, turn, parcels))
    start_x, start_y = rng.uniform(-0.5, config.field_size - 0.5, 2)
    aside_x, aside_y = rng.normal(0.0, config.cosmic_ray_diffusion, (2, parcels))
    x = start_x + np.cumsum(step * np.cos(direction)) + aside_x
    y = start_y + np.cumsum(step * np.sin(direction)) + aside_y
    mean_electrons = log_uniform(rng, config.cosmic_ray_charge, 1) * (length + 1.0) / parcels
    return x, y, mean_electrons * rng.exponential(1.0, parcels)


def _collect(
    charge: NDArray[np.float64], x: NDArray[np.float64], y: NDArray[np.float64], electrons: NDArray[np.float64]
) -> None:
    columns, rows = np.rint(x).astype(int), np.rint(y).astype(int)
    inside = (rows >= 0) & (rows < charge.shape[0]) & (columns >= 0) & (columns < charge.shape[1])
    np.add.at(charge, (rows[inside], columns[inside]), electrons[inside])


def draw_hot_pixels(config: SimulatedData, rng: Generator) -> NDArray[np.float64]:
    """Return the dark charge of hot pixels, (H, W) electrons."""
    size = config.field_size
    charge = np.zeros((size, size))
    number = rng.poisson(config.hot_pixels * size**2 / DENSITY_PIXELS)
    rows, columns = rng.integers(0, size, (2, number))
    charge[rows, columns] = log_uniform(rng, config.hot_pixel_charge, number)
    return charge


def draw_trail(config: SimulatedData, rng: Generator, *, conditions: Conditions) -> NDArray[np.float64]:
    """Return the light of a satellite trail, (H, W) electrons, all zero in a field without one.

    The trail is a straight line through a random point in a random direction, as wide as the PSF. A Moffat integrated
    along a line is again of Moffat form, with an exponent smaller by one half.
    """
    size = config.field_size
    crosses = rng.random() < config.trail_probability
    x, y = rng.uniform(-0.5, size - 0.5, 2)
    angle = rng.uniform(0.0, math.pi)
    brightness = log_uniform(rng, config.trail_brightness, 1)
    if not crosses:
        return np.zeros((size, size))
    across = np.arange(size)[:, None] * math.cos(angle) - np.arange(size)[None, :] * math.sin(angle)
    distance = np.abs(across - (y * math.cos(angle) - x * math.sin(angle)))
    alpha, exponent = moffat_alpha(conditions.fwhm, conditions.beta), conditions.beta - 0.5
    peak = math.gamma(exponent) / (math.sqrt(math.pi) * alpha * math.gamma(exponent - 0.5))
    light = brightness * peak * (1.0 + (distance / alpha) ** 2) ** -exponent
    return np.where(distance <= _TRAIL_REACH_FWHM * conditions.fwhm, light, 0.0)
