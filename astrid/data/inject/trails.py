"""Satellite trails for real frames: a line of light under the frame's own PSF."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from ..draws import log_uniform
from ..psf_image import PsfImage

_STEP_PIXELS = 0.5
"""Distance of the point sources that make up a trail; the PSF is at least two pixels wide, so they don't show."""


def trail_light(
    shape: tuple[int, int], *, x: float, y: float, angle: float, brightness: float, psf: PsfImage
) -> NDArray[np.float64]:
    """Return the light of a straight trail through (x, y) from edge to edge, (H, W) electrons.

    Parameters
    ----------
    angle : float
        Against x, in radians.
    brightness : float
        Electrons per pixel of length.
    """
    reach = math.hypot(*shape) + max(psf.pixels.shape)
    along = np.arange(-reach, reach, _STEP_PIXELS)
    light = np.zeros(shape)
    for column, row in zip(x + along * math.cos(angle), y + along * math.sin(angle), strict=True):
        where, share = psf.stamp(shape, x=float(column), y=float(row))
        light[where] += brightness * _STEP_PIXELS * share
    return light


def draw_trail(
    shape: tuple[int, int], rng: Generator, *, brightness: Sequence[float], psf: PsfImage
) -> NDArray[np.float64]:
    """Return the light of a trail through a random place in a random direction, of log-uniform brightness."""
    x, y = rng.uniform(-0.5, shape[1] - 0.5), rng.uniform(-0.5, shape[0] - 0.5)
    angle, level = rng.uniform(0.0, math.pi), float(log_uniform(rng, brightness, 1)[0])
    return trail_light(shape, x=x, y=y, angle=angle, brightness=level, psf=psf)
