"""Transients: where they appear, and how bright they are for their signal-to-noise."""

from __future__ import annotations

import math

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from astrid.config import SimulatedData

from ..draws import Places, is_visible, log_uniform
from ..frames import Sources
from ..psf import psf_stamp
from ..truth import snr_per_flux
from .detector import Conditions
from .scene import DENSITY_PIXELS, Galaxies

_FILTER_RADIUS_FWHM = 5.0  # beyond it a Moffat's square holds no signal
_HALF_LIGHT_IN_SIGMA = 1.1774100225154747  # half of a circular normal's light lies within so many sigma
_HOST_ATTEMPTS = 20


def draw_transients(
    config: SimulatedData,
    rng: Generator,
    *,
    precision: NDArray[np.float64],
    galaxies: Galaxies,
    conditions: Conditions,
) -> Sources:
    """Draw transients and set each flux from its signal-to-noise.

    Parameters
    ----------
    precision : (H, W) float64, 1 / electrons²
        Inverse of the summed variance of science and reference without transients; 0 where no pixel is valid, and
        there none is placed: what cannot be seen is no truth.
    galaxies : Galaxies
        Possible hosts, chosen in proportion to their light; each hosts one at most, since two supernovae at once in
        one galaxy are not seen.
    conditions : Conditions
        Of the science frame.

    Returns
    -------
    Sources
        Kinds are 'transient' and 'transient_on_galaxy'.
    """
    number = rng.poisson(config.transients * precision.size / DENSITY_PIXELS)
    snr = log_uniform(rng, config.transient_snr, number)
    hosted = rng.random(number) < config.transients_on_galaxies
    x, y, flux = np.empty((3, number))
    kind = []
    light, anywhere = galaxies.flux.copy(), Places(precision)
    for i in range(number):
        place = _place_in_galaxy(rng, precision, galaxies, light) if hosted[i] else None
        kind.append("transient" if place is None else "transient_on_galaxy")
        x[i], y[i] = place or anywhere.draw(rng)
        flux[i] = flux_for_snr(snr[i], x=x[i], y=y[i], precision=precision, conditions=conditions)
    return Sources(x, y, flux, snr, kind)


def _place_in_galaxy(
    rng: Generator, precision: NDArray[np.float64], galaxies: Galaxies, light: NDArray[np.float64]
) -> tuple[float, float] | None:
    """Draw a place that follows the light of a galaxy (as a normal of its shape), or None if none is on the frame.

    `light`, (G,), is that of the galaxies that host none yet; the chosen one's is set to 0.
    """
    for _ in range(_HOST_ATTEMPTS if light.any() else 0):
        host = rng.choice(light.size, p=light / light.sum())
        major = rng.normal(0.0, galaxies.radius[host] / _HALF_LIGHT_IN_SIGMA)
        minor = rng.normal(0.0, galaxies.radius[host] / _HALF_LIGHT_IN_SIGMA) * galaxies.axis_ratio[host]
        cosine, sine = math.cos(galaxies.angle[host]), math.sin(galaxies.angle[host])
        x = float(galaxies.x[host] + major * cosine - minor * sine)
        y = float(galaxies.y[host] + major * sine + minor * cosine)
        if is_visible(x, y, precision):
            light[host] = 0.0
            return x, y
    return None


def flux_for_snr(snr: float, *, x: float, y: float, precision: NDArray[np.float64], conditions: Conditions) -> float:
    """Return the electrons that give a point source this matched-filter signal-to-noise."""
    where, share = psf_stamp(
        precision.shape,
        x=x,
        y=y,
        radius=_FILTER_RADIUS_FWHM * conditions.fwhm,
        fwhm=conditions.fwhm,
        beta=conditions.beta,
    )
    return snr / snr_per_flux(share, precision[where])
