"""What can be measured on an exposure, one function each. Images are (H, W) float32, valid (H, W) bool, True = good."""

from __future__ import annotations

import contextlib
import itertools
import math

import numpy as np
from astropy.nddata import CCDData, StdDevUncertainty
from astropy.stats import gaussian_fwhm_to_sigma
from numpy.typing import NDArray
from scipy import ndimage

from astrid.config import DataError

from ..difference import background_sigma
from ..frame_units import check_duration
from ..reduction.cosmics import flag_cosmic_rays
from .header import Facts

DEPTH_SIGMA = 5.0
"""Significance of a point source that counts as just seen."""
_LAG = 5
"""Pixels between those whose difference tells the noise."""
_MOST_CELLS, _SMALLEST_CELL = 8, 32
"""Along each axis, for the shape of the sky; the edge is in pixels."""
_GOOD_SHARE = 0.25
"""Of the pixels of such a cell."""
_PLANE_PARAMETERS = 3
_FEWEST_PILED, _PILED_SHARE = 5, 1e-5
"""Pixels, at least, that must share the highest value before it counts as saturated."""
_PILED_SIGMA = 20.0
_EXPLAINED = 0.1
"""Share of the variance that the level of the sky must explain, or it was subtracted."""
_BEYOND_READOUT = 2.0
"""Variance, in units of that of the readout, up to which a sky may be dark instead."""
_SHARPEST_FWHM = 2.2
"""In pixels; below it the cores of stars look like hits."""
_LARGEST_EDGE = 1024
"""Pixels along each axis, in the middle of the frame, that are searched for cosmic rays."""


def pixel_noise(image: NDArray[np.float32], valid: NDArray[np.bool_]) -> float:
    """Return the noise of a pixel of sky, from the differences of pixels that lie a few apart along each axis.

    Whatever is smooth over so few pixels, gradients and nebulae, takes no part in these; that neighbours share noise,
    as in resampled frames, makes no difference either, since they are farther apart than that reaches.

    Raises
    ------
    DataError
        If there is no noise, or no good pixel, to measure.
    """
    squares = []
    for axis in (0, 1):
        values, good = np.moveaxis(image, axis, 0), np.moveaxis(valid, axis, 0)
        difference = background_sigma(values[_LAG:] - values[:-_LAG], good[_LAG:] & good[:-_LAG])
        squares.append(difference.sigma**2 / 2)
    return math.sqrt(sum(squares) / len(squares))


def sky_shape(image: NDArray[np.float32], valid: NDArray[np.bool_], *, noise: float) -> tuple[float, float]:
    """Return gradient and flatness of a sky: the change of a plane over the frame, and what is left of it, rms.

    The plane is fitted to the sky's level in cells, which are measured one by one.

    Parameters
    ----------
    noise : float
        Unit of the results.

    Raises
    ------
    DataError
        If the frame has fewer than two cells along an axis, or fewer than four that can be measured.
    """
    cells = _sky_cells(image, valid)
    if len(cells) <= _PLANE_PARAMETERS:
        raise DataError(f"at least four cells of {_SMALLEST_CELL} pixels must have sky in them, got {len(cells)}")
    design = np.column_stack([cells[:, :2], np.ones(len(cells))])
    plane, *_ = np.linalg.lstsq(design, cells[:, 2], rcond=None)
    left = cells[:, 2] - design @ plane
    change = abs(plane[0]) * (image.shape[1] - 1) + abs(plane[1]) * (image.shape[0] - 1)
    return float(change / noise), float(np.sqrt((left**2).sum() / (len(left) - _PLANE_PARAMETERS)) / noise)


def _sky_cells(image: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return (x, y, level), (N, 3), of the cells of a frame that have enough good pixels."""
    edges = [np.linspace(0, size, min(_MOST_CELLS, size // _SMALLEST_CELL) + 1).astype(int) for size in image.shape]
    found = []
    for top, bottom in itertools.pairwise(edges[0]):
        for left, right in itertools.pairwise(edges[1]):
            cell = slice(top, bottom), slice(left, right)
            if valid[cell].mean() > _GOOD_SHARE:
                with contextlib.suppress(DataError):  # a cell without noise tells nothing
                    level = background_sigma(image[cell], valid[cell]).level
                    found.append(((left + right - 1) / 2, (top + bottom - 1) / 2, level))
    spread = min(len(edges[0]), len(edges[1])) > 2
    return np.array(found if spread else []).reshape(-1, 3)


def noise_ratio(facts: Facts, *, level: float, noise: float) -> float:
    """Return the noise of the sky in units of that of its photons and of the readout.

    Parameters
    ----------
    facts : Facts
    level, noise : float
        Of the sky, in the unit of the image.

    Raises
    ------
    DataError
        If something that it takes is unknown, or the sky was subtracted.

    References
    ----------
    Merline and Howell 1995, Experimental Astronomy 6, 163, doi:10.1007/BF00421131 (the equation of CCDs)
    """
    if facts.gain is None:
        remedy = "give data.quality.gain, electrons per unit of the image"
        check_duration(facts.unit, facts.seconds, remedy=remedy)
    known = {"gain": facts.gain, "read_noise": facts.read_noise, "pedestal": facts.pedestal}
    for name, value in known.items():
        if value is None:
            raise DataError(f"unknown {name.replace('_', ' ')}; give data.quality.{name}")
    gain, read_noise, pedestal = (float(value or 0.0) for value in known.values())
    electrons = (level - pedestal) * gain
    variance = (noise * gain) ** 2
    if electrons < _EXPLAINED * variance and variance > _BEYOND_READOUT * read_noise**2:
        raise DataError("its sky explains less than a tenth of its noise, as after the sky was subtracted")
    return math.sqrt(variance / (max(electrons, 0.0) + read_noise**2))


def saturation_level(
    image: NDArray[np.float32], valid: NDArray[np.bool_], *, facts: Facts, level: float, noise: float
) -> float:
    """Return the value from which pixels are saturated: that which is known, else that at which good ones pile up.

    Raises
    ------
    DataError
        If neither is there.
    """
    if facts.saturation is not None:
        return facts.saturation
    highest = float(image.max(initial=-np.inf, where=valid))
    piled = int((valid & (image == highest)).sum())
    if piled < max(_FEWEST_PILED, _PILED_SHARE * image.size) or highest < level + _PILED_SIGMA * noise:
        raise DataError("unknown saturation, and nothing piles up at the highest value; give data.quality.saturation")
    return highest


def count_sources(above: NDArray[np.float32], valid: NDArray[np.bool_], *, fwhm_pixels: float) -> int:
    """Count the maxima above five sigma of a background-subtracted frame that is smoothed to the width of its stars."""
    smooth = ndimage.gaussian_filter(np.where(valid, above, np.float32(0)), fwhm_pixels * gaussian_fwhm_to_sigma)
    threshold = DEPTH_SIGMA * background_sigma(smooth, valid).sigma
    highest = smooth == ndimage.maximum_filter(smooth, size=2 * math.ceil(fwhm_pixels) + 1)
    _, count = ndimage.label(highest & (smooth > threshold) & valid)
    return int(count)


def cosmic_ray_fraction(
    image: NDArray[np.float32], valid: NDArray[np.bool_], facts: Facts, *, level: float, noise: float, fwhm: float
) -> float:
    """Return the share of good pixels that L.A.Cosmic and the point-spread function call hits.

    Large frames are looked at in their middle. Without a gain, light above the sky is taken to add no noise, which
    only makes the first search find more; whatever looks like a star is spared.

    Raises
    ------
    DataError
        Where stars are so sharp that they look like hits.
    """
    if fwhm < _SHARPEST_FWHM:
        raise DataError(f"stars must be at least {_SHARPEST_FWHM} pixels wide to tell hits from them, got {fwhm:.2g}")
    rows, columns = (_middle(size) for size in image.shape)
    image, valid = image[rows, columns], valid[rows, columns]
    photons = np.maximum(image - level, 0) / (math.inf if facts.gain is None else facts.gain)
    exposure = CCDData(image, mask=~valid, unit="adu", uncertainty=StdDevUncertainty(np.sqrt(noise**2 + photons)))
    hits = flag_cosmic_rays(exposure, fwhm_pixels=fwhm, rim=False).mask & valid
    return float(hits.sum() / max(1, valid.sum()))


def _middle(size: int) -> slice:
    edge = min(size, _LARGEST_EDGE)
    return slice((size - edge) // 2, (size - edge) // 2 + edge)


def depth(profile: NDArray[np.float64], *, noise: float) -> float:
    """Return the flux of a point source that a matched filter finds at five sigma, in the unit of the image.

    The noise is that of the sky and is taken as white; that of resampled frames is not, and they are less deep.

    Parameters
    ----------
    profile : (K, K) float64
        Point-spread function of sum 1.

    References
    ----------
    Zackay and Ofek 2017, ApJ 836, 187, doi:10.3847/1538-4357/836/2/187 (signal-to-noise of a matched filter)
    """
    return float(DEPTH_SIGMA * noise / math.sqrt(float((profile**2).sum())))
