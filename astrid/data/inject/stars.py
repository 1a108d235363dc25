"""Stars for training frames that have few of them, or none as sharp as other instruments show."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from astrid.config import InjectedData

from ..draws import log_uniform
from ..preprocess import Loaded
from ..psf import MATCHING_BETA, psf_stamp
from .electrons import draw_photons, with_electrons

PIXELS_PER_MPIX = 1e6
_RADIUS_FWHM = 8.0  # where a Moffat of a million electrons has faded into the noise


def add_stars(loaded: Loaded, config: InjectedData, rng: Generator, *, gain: float) -> None:
    """Add stars to the science frame: Moffats with photon noise, of one width a frame, evenly spread.

    They are nothing to be found, but what cosmic rays and the like must be told from: each copy of a training frame
    shows them under another seeing.
    """
    shape = loaded.shown.shape
    narrowest, widest = config.train_star_fwhm
    fwhm = rng.uniform(narrowest, widest)
    number = rng.poisson(config.train_stars_per_mpix * loaded.shown.size / PIXELS_PER_MPIX)
    light = np.zeros(shape)
    for electrons in log_uniform(rng, config.train_star_flux, number):
        y, x = rng.uniform(-0.5, np.array(shape) - 0.5)
        where, share = psf_stamp(
            (shape[0], shape[1]), x=x, y=y, radius=_RADIUS_FWHM * fwhm, fwhm=fwhm, beta=MATCHING_BETA
        )
        light[where] += electrons * share
    photons = draw_photons(light, rng, valid=loaded.shown)
    loaded.science.frame = with_electrons(loaded.science.frame, photons, gain=gain)
