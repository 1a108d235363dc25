"""Stars for training frames that have few of them, or none as sharp as other instruments show."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from astrid.config import InjectedData

from ..draws import log_uniform
from ..preprocess import Loaded
from ..psf import psf_stamp
from .electrons import draw_photons, with_electrons

PIXELS_PER_MPIX = 1e6
_RADIUS_FWHM = 8.0  # where a Moffat of a million electrons has faded into the noise
_SPIKED_RADIUS_FWHM = 25.0  # where a spike has a fortieth of its brightness
_SPIKE_CORE_FWHM = 4.0
"""How far from its star a spike has half its brightness."""


def add_stars(loaded: Loaded, config: InjectedData, rng: Generator, *, gain: float) -> None:
    """Add stars to the science frame: Moffats with photon noise, of one shape a frame, evenly spread.

    They are nothing to be found, but what cosmic rays and the like must be told from: each copy of a training frame
    shows them under another seeing, and as dense as its draw makes them.
    """
    height, width = loaded.shown.shape
    shape = _draw_shape(config, rng)
    spikes = _draw_spikes(config, rng) if config.train_star_spikes > 0 else None
    radius = (_RADIUS_FWHM if spikes is None else _SPIKED_RADIUS_FWHM) * shape["fwhm"]
    light = np.zeros((height, width))
    number = rng.poisson(_draw_density(config, rng) * light.size / PIXELS_PER_MPIX)
    for electrons in log_uniform(rng, config.train_star_flux, number):
        y, x = rng.uniform(-0.5, np.array(light.shape) - 0.5)
        where, share = psf_stamp((height, width), x=x, y=y, radius=radius, **shape)
        if spikes is not None:
            dy, dx = (np.arange(span.start, span.stop) - centre for span, centre in zip(where, (y, x), strict=True))
            share = (1 - spikes.share) * share + spikes.share * spikes.light(dx[None, :], dy[:, None], shape["fwhm"])
        light[where] += electrons * share
    photons = draw_photons(light, rng, valid=loaded.shown)
    loaded.science.frame = with_electrons(loaded.science.frame, photons, gain=gain)


class Spikes(NamedTuple):
    """Diffraction spikes: their share of a star's light, and lines through it, turned by an angle in radians."""

    share: float
    lines: int
    angle: float

    def light(self, dx: NDArray[np.float64], dy: NDArray[np.float64], fwhm: float) -> NDArray[np.float64]:
        """Return the spikes' share of light per pixel, of sum 1 over the plane.

        Along a spike light falls as the inverse square of the distance, which is the envelope of Fraunhofer diffraction
        at a straight vane far from the star; across it is a Gaussian of the seeing.

        Parameters
        ----------
        dx, dy : (1, W), (H, 1) float64
            Offsets from the star in pixels.
        fwhm : float
            Of the stars, in pixels.
        """
        core = _SPIKE_CORE_FWHM * fwhm
        turns = self.angle + np.pi / self.lines * np.arange(self.lines)
        lines = []
        for cosine, sine in zip(np.cos(turns), np.sin(turns), strict=True):
            along, across = dx * cosine + dy * sine, dy * cosine - dx * sine
            lines.append(np.exp(-4 * math.log(2) * (across / fwhm) ** 2) / (1 + (along / core) ** 2))
        whole = math.pi * core * fwhm * math.sqrt(math.pi / (4 * math.log(2)))  # of one line
        return np.asarray(np.mean(lines, axis=0) / whole)


def _draw_spikes(config: InjectedData, rng: Generator) -> Spikes:
    share = rng.uniform(0.0, config.train_star_spikes)
    return Spikes(share, lines=int(rng.integers(2, 4)), angle=rng.uniform(0.0, math.pi))


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
