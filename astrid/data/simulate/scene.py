"""The static sky: stars and galaxies, drawn once per field and rendered under the PSF of each frame."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy.fft
from numpy.random import Generator
from numpy.typing import NDArray

from astrid.config import SimulatedData

from ..draws import log_uniform
from ..psf import moffat_alpha, psf_stamp
from .detector import Conditions

DENSITY_PIXELS = 128 * 128
"""Densities in the configuration are per so many pixels."""
MARGIN = 16
"""Pixels beyond each edge in which objects are drawn too, since their light reaches in."""
_FAINTEST_LIGHT = 0.05  # electrons per pixel, far below the noise of any frame: where a star's stamp ends
_GALAXY_RADII = 8.0  # half-light radii to which a galaxy is rendered
_CUSP_PIXELS = 0.25  # a Sersic cusp sampled at a point would overrate its pixel; this softens the innermost radius


@dataclass(frozen=True)
class Stars:
    """Positions (pixels of the science frame), electrons, and the factor by which the science epoch is brighter."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    flux: NDArray[np.float64]
    variation: NDArray[np.float64]


@dataclass(frozen=True)
class Galaxies:
    """Positions (pixels of the science frame), electrons and shapes.

    Attributes
    ----------
    radius : (N,) float64
        Half-light radius along the major axis in pixels.
    sersic : (N,) float64
        Sersic index.
    axis_ratio : (N,) float64
        Minor over major axis.
    angle : (N,) float64
        Of the major axis against x, in radians.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    flux: NDArray[np.float64]
    radius: NDArray[np.float64]
    sersic: NDArray[np.float64]
    axis_ratio: NDArray[np.float64]
    angle: NDArray[np.float64]


def power_law(rng: Generator, bounds: list[float], *, slope: float, size: int) -> NDArray[np.float64]:
    """Draw fluxes with cumulative counts N(> flux) proportional to flux**-slope between two bounds."""
    faintest, brightest = bounds
    share = rng.uniform((brightest / faintest) ** -slope, 1.0, size)
    return faintest * share ** (-1.0 / slope)


def draw_stars(config: SimulatedData, rng: Generator) -> Stars:
    """Draw the stars of a field and of its margin."""
    x, y = _positions(config, rng, density=config.stars)
    flux = power_law(rng, config.star_flux, slope=config.star_slope, size=x.size)
    varies = rng.random(x.size) < config.variable_fraction
    magnitudes = np.where(varies, rng.normal(0.0, config.variable_magnitudes, x.size), 0.0)
    return Stars(x, y, flux, variation=10.0 ** (-0.4 * magnitudes))


def draw_galaxies(config: SimulatedData, rng: Generator) -> Galaxies:
    """Draw the galaxies of a field and of its margin."""
    x, y = _positions(config, rng, density=config.galaxies)
    flattest, roundest = config.galaxy_axis_ratio
    return Galaxies(
        x=x,
        y=y,
        flux=power_law(rng, config.galaxy_flux, slope=config.galaxy_slope, size=x.size),
        radius=log_uniform(rng, config.galaxy_radius, x.size),
        sersic=log_uniform(rng, config.galaxy_sersic, x.size),
        axis_ratio=rng.uniform(flattest, roundest, x.size),
        angle=rng.uniform(0.0, math.pi, x.size),
    )


def _positions(
    config: SimulatedData, rng: Generator, *, density: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    edge = config.field_size + 2 * MARGIN
    number = rng.poisson(density * edge**2 / DENSITY_PIXELS)
    x, y = rng.uniform(-MARGIN - 0.5, config.field_size + MARGIN - 0.5, (2, number))
    return x, y


def render_stars(
    light: NDArray[np.float64],
    *,
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    flux: NDArray[np.float64],
    conditions: Conditions,
) -> None:
    """Add point sources under a frame's PSF to `light`, (H, W) electrons, in place."""
    for column, row, electrons in zip(x, y, flux, strict=True):
        radius = stamp_radius(electrons, conditions)
        where, share = psf_stamp(
            light.shape, x=column, y=row, radius=radius, fwhm=conditions.fwhm, beta=conditions.beta
        )
        light[where] += electrons * share


def stamp_radius(electrons: float, conditions: Conditions) -> float:
    """Return the radius in pixels where a point source's light has faded below any notice."""
    alpha, beta = moffat_alpha(conditions.fwhm, conditions.beta), conditions.beta
    peak = electrons * (beta - 1.0) / (math.pi * alpha**2)
    fading = max(peak / _FAINTEST_LIGHT, 1.0) ** (1.0 / beta)
    return max(alpha * math.sqrt(fading - 1.0), 2.0 * conditions.fwhm)


def galaxy_spectrum(galaxies: Galaxies, size: int) -> NDArray[np.complex128]:
    """Render galaxies above the atmosphere and return the transform of that image, to be convolved once per frame."""
    edge = size + 2 * _padding(size)
    image = np.zeros((edge, edge))
    for number in range(galaxies.x.size):
        _add_sersic(image, galaxies, number, origin=_padding(size))
    return scipy.fft.rfft2(image)


def _padding(size: int) -> int:
    """Return a margin that holds the drawn margin and the PSF's wings, and makes the edge quick to transform."""
    return (scipy.fft.next_fast_len(size + 4 * MARGIN, real=True) - size + 1) // 2


def _add_sersic(image: NDArray[np.float64], galaxies: Galaxies, number: int, *, origin: int) -> None:
    """Add one Sersic profile, normalised over its stamp before the image's edges clip it.

    References
    ----------
    Sersic 1963, BAAA 6, 41; Ciotti and Bertin 1999, A&A 352, 447 (b_n).
    """
    x, y = galaxies.x[number] + origin, galaxies.y[number] + origin
    radius, index = galaxies.radius[number], galaxies.sersic[number]
    reach = _GALAXY_RADII * radius
    rows = np.arange(math.ceil(y - reach), math.floor(y + reach) + 1)
    columns = np.arange(math.ceil(x - reach), math.floor(x + reach) + 1)
    cosine, sine = math.cos(galaxies.angle[number]), math.sin(galaxies.angle[number])
    major = cosine * (columns - x) + sine * (rows[:, None] - y)
    minor = (cosine * (rows[:, None] - y) - sine * (columns - x)) / galaxies.axis_ratio[number]
    distance = np.sqrt(major**2 + minor**2 + _CUSP_PIXELS**2) / radius
    steepness = 2.0 * index - 1.0 / 3.0 + 4.0 / (405.0 * index)
    profile = np.exp(-steepness * distance ** (1.0 / index))
    profile *= galaxies.flux[number] / profile.sum()
    on_rows = (rows >= 0) & (rows < image.shape[0])
    on_columns = (columns >= 0) & (columns < image.shape[1])
    image[np.ix_(rows[on_rows], columns[on_columns])] += profile[np.ix_(on_rows, on_columns)]


def render_galaxies(
    spectrum: NDArray[np.complex128], size: int, *, conditions: Conditions, shift: tuple[float, float]
) -> NDArray[np.float64]:
    """Convolve the galaxies with a frame's PSF, moved by `shift` (x, y) pixels; (size, size) electrons."""
    padding = _padding(size)
    edge = size + 2 * padding
    psf = np.zeros((edge, edge))
    centre = edge // 2
    where, share = psf_stamp(
        psf.shape,
        x=centre + shift[0],
        y=centre + shift[1],
        radius=2 * MARGIN,
        fwhm=conditions.fwhm,
        beta=conditions.beta,
    )
    psf[where] = share
    image = scipy.fft.irfft2(spectrum * scipy.fft.rfft2(np.roll(psf, (-centre, -centre), axis=(0, 1))), s=psf.shape)
    return np.maximum(image[padding : padding + size, padding : padding + size], 0.0)
