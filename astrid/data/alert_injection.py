"""Point sources put into the crops of training packets, so that there is more to learn from than a night has found."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from astrid.config import AlertsData

from .difference import background_sigma
from .frames import Sources
from .inject.electrons import add_electrons, draw_photons, expected_light
from .inject.transients import Kinds, draw_sources
from .psf import point_source
from .psf_image import PsfImage, as_psf

KIND = "injected"

Image = NDArray[np.float32]


@dataclass(frozen=True)
class Crop:
    """The part of an alert's stamps that makes a field.

    Attributes
    ----------
    science, template, difference : (H, W) float32
        In the survey's unit; NaN where unknown.
    valid : (H, W) bool
        True = known in all of them.
    """

    science: Image
    template: Image
    difference: Image
    valid: NDArray[np.bool_]


def inject_into_crop(
    crop: Crop, rng: Generator, *, config: AlertsData, psf: PsfImage, free: NDArray[np.bool_]
) -> tuple[Crop, Sources]:
    """Add point sources to science frame and difference, the same photons to both.

    The PSF is that of the difference; in the science frame it may be a little narrower. All other pixels keep their
    bits.

    Parameters
    ----------
    crop : Crop
    rng : numpy.random.Generator
    config : AlertsData
        `injected_per_alert` is the mean of their number, which is Poisson's.
    psf : PsfImage
    free : (H, W) bool
        True = where a source may lie.

    Returns
    -------
    Crop
    Sources
        In the unit of the stamps.
    """
    number = int(rng.poisson(config.injected_per_alert)) if free.any() else 0
    sigma = config.injected_gain * background_sigma(crop.difference, crop.valid).sigma
    precision = np.where(crop.valid, sigma**-2, 0.0)
    drawn = draw_sources(number, rng, kinds=Kinds(config.injected_snr), precision=precision, free=free, psf=psf)
    light = expected_light(drawn, (free.shape[0], free.shape[1]), psf=psf)
    electrons = draw_photons(light, rng, valid=crop.valid)
    science, difference = (
        add_electrons(image, electrons, gain=config.injected_gain) for image in (crop.science, crop.difference)
    )
    flux = drawn.flux / config.injected_gain
    return replace(crop, science=science, difference=difference), replace(drawn, flux=flux, kind=[KIND] * number)


def crop_psf(given: Image | None, *, fwhm_pixels: float) -> PsfImage:
    """Return the PSF that came with a packet, or one of this width."""
    return as_psf(point_source(fwhm_pixels) if given is None else given)
