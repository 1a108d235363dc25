"""Stars for training frames that have few of them, or none as sharp as other instruments show."""

from __future__ import annotations

import math

import numpy as np
from numpy.random import Generator

from astrid.config import InjectedData

from ..draws import log_uniform
from ..preprocess import Loaded
from ..psf import psf_stamp
from .electrons import draw_photons, with_electrons

PIXELS_PER_MPIX = 1e6
_RADIUS_FWHM = 8.0  # where a Moffat of a million electrons has faded into the noise


def add_stars(loaded: Loaded, config: InjectedData, rng: Generator, *, gain: float) -> None:
    """Add stars to the science frame: Moffats with photon noise, of one shape a frame, evenly spread.

    They are nothing to be found, but what cosmic rays and the like must be told from: each copy of a training frame
    shows them under another seeing, and as dense as its draw makes them.
    """
    height, width = loaded.shown.shape
    shape = _draw_shape(config, rng)
    light = np.zeros((height, width))
    number = rng.poisson(_draw_density(config, rng) * light.size / PIXELS_PER_MPIX)
    for electrons in log_uniform(rng, config.train_star_flux, number):
        y, x = rng.uniform(-0.5, np.array(light.shape) - 0.5)
        where, share = psf_stamp((height, width), x=x, y=y, radius=_RADIUS_FWHM * shape["fwhm"], **shape)
        light[where] += electrons * share
    photons = draw_photons(light, rng, valid=loaded.shown)
    loaded.science.frame = with_electrons(loaded.science.frame, photons, gain=gain)


def _draw_shape(config: InjectedData, rng: Generator) -> dict[str, float]:
    """Draw the shape of a copy's stars, as `psf_stamp` takes it."""
    narrowest, widest = config.train_star_fwhm
    shallow, steep = config.train_star_beta
    return {
        "fwhm": rng.uniform(narrowest, widest),
        "beta": rng.uniform(shallow, steep),
        "axis_ratio": 1.0 - rng.uniform(0.0, config.train_star_ellipticity),
        "angle": rng.uniform(0.0, math.pi),
    }


def _draw_density(config: InjectedData, rng: Generator) -> float:
    """Draw how many stars a copy has per million pixels."""
    crowding = config.train_star_crowding
    return float(config.train_stars_per_mpix * log_uniform(rng, (1.0 / crowding, crowding), 1)[0])
