"""Bring a reference onto the grid of a science frame."""

from __future__ import annotations

import logging

import numpy as np
from astropy.nddata import CCDData
from numpy.typing import NDArray

from astrid.config import DataError, PreprocessConfig

from ..background import subtract_background
from .align import LEAST_SHARE, MOST_RMS_PIXELS, Alignment, align
from .chain import Record
from .resample import PixelMap, noise_correlation, resample, wcs_map

logger = logging.getLogger(__name__)


def register(reference: Record, science: CCDData, config: PreprocessConfig, *, box: int, name: str = "it") -> None:
    """Resample the reference of a record onto the grid of the science frame, and note how.

    A match of stars that rests on few of them, or is loose, is taken and warned of.

    Parameters
    ----------
    reference : Record
        What is resampled, in place.
    science : CCDData
        Frame whose grid it gets.
    config : PreprocessConfig
    box : int
        Edge in pixels of the cells of the background, above which stars are looked for.
    name : str
        What a warning calls the reference.

    Raises
    ------
    DataError
        If a frame lacks celestial coordinates, or the two don't show the same stars.
    """
    if config.register == "none":
        reference.take("register", None, detail="", knob="register")
        return
    mapping, detail = (
        _by_wcs(reference.frame, science)
        if config.register == "wcs"
        else _by_stars(reference.frame, science, box=box, name=name)
    )
    along_x, along_y = noise_correlation(mapping, shape=science.shape, generator=np.random.default_rng(0))
    reference.take(
        "register",
        lambda frame: resample(frame, mapping, shape=science.shape, conserve_flux=config.conserve_flux),
        detail=f"{detail}; noise of neighbours correlates by {along_x:.2f} along x, {along_y:.2f} along y",
        knob="register",
    )


def _by_wcs(reference: CCDData, science: CCDData) -> tuple[PixelMap, str]:
    for name, frame in (("the reference", reference), ("the science frame", science)):
        if frame.wcs is None:
            raise DataError(
                f"both frames must have celestial coordinates in their headers, but {name} has none; solve it, or try "
                "data.preprocess.register=stars"
            )
    return wcs_map(science.wcs, reference.wcs, shape=science.shape), "by celestial coordinates"


def _by_stars(reference: CCDData, science: CCDData, *, box: int, name: str) -> tuple[Alignment, str]:
    (target, target_valid), (source, source_valid) = (_above_sky(frame, box) for frame in (science, reference))
    found = align(target, source, target_valid=target_valid, source_valid=source_valid)
    if found.doubts:
        rule = f"at least {LEAST_SHARE:.0%} of these stars must agree, within {MOST_RMS_PIXELS:g} pixels rms"
        remedy = "look at the difference, or try data.preprocess.register=wcs, which follows distortions"
        logger.warning(
            "reference %s: its registration by stars is doubtful, %s: %s; %s", name, found.doubts, rule, remedy
        )
    return found, f"by {found.matches} of {found.shared} stars, rms {found.rms_pixels:.3f} pixels"


def _above_sky(frame: CCDData, box: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    good = ~frame.mask
    return subtract_background(frame.data, good, box=box), good
