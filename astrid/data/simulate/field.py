"""One field of the simulated sky: a science frame, its reference, and the truth about both."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator, SeedSequence, default_rng
from numpy.typing import NDArray

from astrid.config import SimulatedData

from ..frames import Sources
from ..psf import subtract_matched
from ..truth import disc_mask
from .artefacts import draw_cosmic_rays, draw_hot_pixels, draw_trail
from .detector import Conditions, bleed, draw_conditions, read_out
from .scene import Galaxies, draw_galaxies, draw_stars, galaxy_spectrum, render_galaxies, render_stars
from .transients import draw_transients

SPLIT_NUMBERS = {"train": 0, "val": 1, "test": 2}
"""Part of each field's seed, so that no split shares a field with another."""
_INGREDIENTS = (
    "nights",
    "stars",
    "galaxies",
    "trail",
    "cosmic rays",
    "hot pixels",
    "transients",
    "science photons",
    "reference photons",
    "trail photons",
    "transient photons",
    "science read-out",
    "reference read-out",
)


@dataclass(frozen=True)
class Nights:
    """How both frames were taken, and where an object of the science frame lies on the reference: (x, y) pixels off."""

    science: Conditions
    reference: Conditions
    shift: tuple[float, float]


@dataclass(frozen=True)
class SimulatedField:
    """A simulated pair of frames with exact truth.

    Attributes
    ----------
    science, reference : (H, W) float32, electrons
        Frames with their sky; the reference is on the flux scale of the science frame.
    masks : dict of (H, W) bool
        True = pixel touched by 'transient', 'cosmic_ray', 'trail', 'hot_pixel', 'saturated' (in either frame) or
        'residue' (of the static sky in the matched difference). Each is complete: they may overlap.
    valid : (H, W) bool
        False = saturated in either frame, which a pipeline knows from the full well. No transient is centred on a
        saturated pixel, though its disc may reach over some. Hot pixels and cosmic rays stay valid: nobody has
        flagged them yet.
    sources : Sources
        The transients.
    nights : Nights
        How the frames were taken.
    """

    science: NDArray[np.float32]
    reference: NDArray[np.float32]
    masks: dict[str, NDArray[np.bool_]]
    valid: NDArray[np.bool_]
    sources: Sources
    nights: Nights

    @property
    def science_fwhm(self) -> float:
        """Seeing of the science frame in pixels."""
        return self.nights.science.fwhm

    @property
    def reference_fwhm(self) -> float:
        """Seeing of the reference in pixels."""
        return self.nights.reference.fwhm


@dataclass(frozen=True)
class _Pair:
    """An (H, W) float64 image in electrons for each of the two frames."""

    science: NDArray[np.float64]
    reference: NDArray[np.float64]


def simulate_field(config: SimulatedData, *, split: str, index: int) -> SimulatedField:
    """Simulate one field: the same for the same configuration, split and index, whatever was simulated before.

    Every ingredient has its own generator, so taking one away (`hot_pixels=0`) leaves the rest of the sky as it was.
    Photons of independent sources are drawn apart and added, since sums of Poisson numbers are Poisson numbers.

    Parameters
    ----------
    config : SimulatedData
        The sky.
    split : {'train', 'val', 'test'}
        Part of the seed.
    index : int
        Number of the field within its split, from 0.

    Examples
    --------
    >>> field = simulate_field(SimulatedData(), split="test", index=0)
    >>> field.science.shape, sorted(field.masks)[0]
    ((256, 256), 'cosmic_ray')
    """
    rngs = _generators(config.sky_seed, split, index)
    nights = _draw_nights(config, rngs["nights"])
    galaxies = draw_galaxies(config, rngs["galaxies"])
    light = _static_light(config, rngs["stars"], galaxies, nights)
    artefacts = _draw_artefacts(config, rngs, nights)
    charge = _static_charge(config, rngs, light, artefacts, nights)

    # Transients come after saturation, which decides where they can be seen and how much each pixel tells.
    precision = _unsaturated(config, charge) / _variance(light, artefacts["trail"], nights)
    sources = draw_transients(
        config, rngs["transients"], precision=precision, galaxies=galaxies, conditions=nights.science
    )
    charge = _add_transients(config, rngs["transient photons"], charge, sources, nights)

    valid = _unsaturated(config, charge)
    masks = _artefact_masks(config, artefacts, nights)
    masks["transient"] = disc_mask(
        sources.x, sources.y, valid.shape, radius=config.target_radius_fwhm * nights.science.fwhm
    )
    masks["saturated"] = ~valid
    masks["residue"] = _residue_mask(config, light, nights, valid)
    science = read_out(charge.science, nights.science, rngs["science read-out"])
    reference = read_out(charge.reference, nights.reference, rngs["reference read-out"])
    return SimulatedField(science, reference, masks=masks, valid=valid, sources=sources, nights=nights)


def _generators(sky_seed: int, split: str, index: int) -> dict[str, Generator]:
    field_seed = SeedSequence(entropy=sky_seed, spawn_key=(SPLIT_NUMBERS[split], index))
    seeds = field_seed.spawn(len(_INGREDIENTS))
    return {name: default_rng(seed) for name, seed in zip(_INGREDIENTS, seeds, strict=True)}


def _draw_nights(config: SimulatedData, rng: Generator) -> Nights:
    science = draw_conditions(config, rng, seeing=config.science_seeing, exposures=1)
    reference = draw_conditions(config, rng, seeing=config.reference_seeing, exposures=config.reference_exposures)
    dx, dy = rng.normal(0.0, config.registration_rms, 2)
    return Nights(science, reference, shift=(float(dx), float(dy)))


def _static_light(config: SimulatedData, rng: Generator, galaxies: Galaxies, nights: Nights) -> _Pair:
    """Render what both frames see: expected electrons per exposure, without noise."""
    stars = draw_stars(config, rng)
    size = config.field_size
    spectrum = galaxy_spectrum(galaxies, size)
    science = nights.science.sky + render_galaxies(spectrum, size, conditions=nights.science, shift=(0.0, 0.0))
    reference = nights.reference.sky + render_galaxies(spectrum, size, conditions=nights.reference, shift=nights.shift)
    render_stars(science, x=stars.x, y=stars.y, flux=stars.flux * stars.variation, conditions=nights.science)
    dx, dy = nights.shift
    render_stars(reference, x=stars.x + dx, y=stars.y + dy, flux=stars.flux, conditions=nights.reference)
    return _Pair(science, reference)


def _draw_artefacts(
    config: SimulatedData, rngs: dict[str, Generator], nights: Nights
) -> dict[str, NDArray[np.float64]]:
    """Return what each artefact adds to the science frame, (H, W) electrons, before the trail's photon noise."""
    return {
        "trail": draw_trail(config, rngs["trail"], conditions=nights.science),
        "cosmic_ray": draw_cosmic_rays(config, rngs["cosmic rays"]),
        "hot_pixel": draw_hot_pixels(config, rngs["hot pixels"]),
    }


def _artefact_masks(
    config: SimulatedData, artefacts: dict[str, NDArray[np.float64]], nights: Nights
) -> dict[str, NDArray[np.bool_]]:
    floor = config.artefact_floor_sigma * math.sqrt(nights.science.sky_variance)
    return {name: added > floor for name, added in artefacts.items()}


def _static_charge(
    config: SimulatedData,
    rngs: dict[str, Generator],
    light: _Pair,
    artefacts: dict[str, NDArray[np.float64]],
    nights: Nights,
) -> _Pair:
    """Collect everything but transients, summed over the exposures of each frame, and let what is too much bleed."""
    photons = rngs["science photons"].poisson(light.science) + rngs["trail photons"].poisson(artefacts["trail"])
    science = photons + artefacts["cosmic_ray"] + artefacts["hot_pixel"]
    exposures = config.reference_exposures
    reference = rngs["reference photons"].poisson(light.reference * exposures).astype(np.float64)
    return _Pair(
        science=bleed(science, full_well=config.full_well),
        reference=bleed(reference, full_well=config.full_well * exposures),
    )


def _unsaturated(config: SimulatedData, charge: _Pair) -> NDArray[np.bool_]:
    reference_well = config.full_well * config.reference_exposures
    return (charge.science < config.full_well) & (charge.reference < reference_well)


def _variance(light: _Pair, trail: NDArray[np.float64], nights: Nights) -> NDArray[np.float64]:
    """Return the variance of science minus reference, each under its own PSF; (H, W) electrons squared."""
    return nights.science.variance(light.science + trail) + nights.reference.variance(light.reference)


def _add_transients(config: SimulatedData, rng: Generator, charge: _Pair, sources: Sources, nights: Nights) -> _Pair:
    expected = np.zeros_like(charge.science)
    render_stars(expected, x=sources.x, y=sources.y, flux=sources.flux, conditions=nights.science)
    return _Pair(np.minimum(charge.science + rng.poisson(expected), config.full_well), charge.reference)


def _residue_mask(config: SimulatedData, light: _Pair, nights: Nights, valid: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Mark the pixels where the static sky, free of noise, does not subtract to zero."""
    difference = subtract_matched(
        (np.minimum(light.science, config.full_well) - nights.science.sky).astype(np.float32),
        (np.minimum(light.reference, config.full_well) - nights.reference.sky).astype(np.float32),
        valid=valid,
        science_fwhm=nights.science.fwhm,
        reference_fwhm=nights.reference.fwhm,
    )
    sigma = math.sqrt(nights.science.sky_variance + nights.reference.sky_variance)
    return np.abs(difference) > np.float32(config.residue_sigma * sigma)
