"""Light as it reaches a detector: expected from the PSF, drawn as photons, added to the counts of a frame."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from astrid.config import DataError

from ..frames import Sources
from ..psf_image import PsfImage

Counts = TypeVar("Counts", bound=np.generic)


def expected_light(sources: Sources, shape: tuple[int, int], *, psf: PsfImage) -> NDArray[np.float64]:
    """Return the light of point sources without noise, (H, W) electrons.

    Raises
    ------
    DataError
        For a flux that is negative or not finite: light can't be taken out of a frame, only added to the other one.
    """
    bad = ~np.isfinite(sources.flux) | (sources.flux < 0)
    if bad.any():
        remedy = "what fades is added to the reference"
        raise DataError(f"the flux of a source must be at least 0, got {sources.flux[bad][0]:g} electrons; {remedy}")
    light = np.zeros(shape)
    for x, y, flux in zip(sources.x, sources.y, sources.flux, strict=True):
        where, share = psf.stamp(shape, x=x, y=y)
        light[where] += flux * share
    return light


def draw_photons(light: NDArray[np.float64], rng: Generator, *, valid: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Draw how many electrons arrive on each pixel, by Poisson; none where `valid` is False, as nothing is read there.

    Sums of Poisson numbers are Poisson numbers, so these may be added to a frame that has its own noise already.
    """
    return np.where(valid, rng.poisson(light), 0).astype(np.float64)


def add_electrons(image: NDArray[Counts], electrons: NDArray[np.float64], *, gain: float) -> NDArray[Counts]:
    """Return the frame with electrons added; pixels without any, and those that are not finite, keep every bit.

    Parameters
    ----------
    image : (H, W), integers or floats
        Counts.
    electrons : (H, W) float64
        What to add; 0 leaves a pixel alone.
    gain : float
        Electrons per count. Integer counts are rounded, and end at the highest that their type holds.
    """
    if not gain > 0:
        raise DataError(f"the gain must be above 0, got {gain} electrons per count; look for it in the header")
    touched = (electrons != 0) & np.isfinite(image)
    result = image.copy()
    counts = image[touched].astype(np.float64) + electrons[touched] / gain
    if np.issubdtype(image.dtype, np.integer):
        ends = np.iinfo(image.dtype)  # type: ignore[type-var]
        counts = np.clip(np.rint(counts), ends.min, ends.max)
    result[touched] = counts.astype(image.dtype)
    return result
