"""What bad pixels hide: their neighbours tell, and where a star is hidden, its wings."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, optimize

_BRIDGE_SIGMA = 2.0  # of the Gaussian over the neighbours of a bad pixel: pixels
_LEAST_WEIGHT = 1e-3
_TOUCHING = np.ones((3, 3), dtype=bool)
_RIM_PIXELS = 4
"""Width of the rim around a hole to which a star is fitted."""
_BRIGHT_SIGMA = 10.0
"""A hole may be that of a star where something beside it is brighter than this."""
_UNLIKE_STAR = 0.5
"""Residual of the fit over its star, both rms over the rim, from which on it is none."""


class Filling(NamedTuple):
    """What may be in the bad pixels, (H, W) float32 each: the light, and how wrong that may be, 0 at good pixels."""

    light: NDArray[np.float32]
    error: NDArray[np.float32]


class _Star(NamedTuple):
    """A star fitted to a rim: its light at pixels that are asked for, and the residual as a share of it."""

    light: NDArray[np.float64]
    unlike: float


def fill_holes(
    image: NDArray[np.float32], valid: NDArray[np.bool_], *, psf: NDArray[np.floating], sigma: float
) -> Filling:
    """Estimate the light of pixels that are not valid.

    Each is the Gaussian mean of its neighbours, and as uncertain as it is bright. Where pixels that touch form the core
    of a star, a star is fitted to the rim around them; if that explains the rim, it fills the core, and is as uncertain
    as its residual.

    Parameters
    ----------
    image : (H, W) float32
        Background subtracted.
    valid : (H, W) bool
        True = good pixel; the others' values are never read.
    psf : (K, K) float
        Point-spread function, its centre in the middle pixel.
    sigma : float
        Noise of the background, rms per pixel, in the unit of the image.
    """
    seen = np.where(valid, image, np.float32(0))
    weight = ndimage.gaussian_filter(valid.astype(np.float32), _BRIDGE_SIGMA)
    smooth = ndimage.gaussian_filter(seen, _BRIDGE_SIGMA)
    light = np.divide(smooth, weight, out=np.zeros_like(smooth), where=(weight > _LEAST_WEIGHT) & ~valid)
    error = np.abs(light)
    spline = ndimage.spline_filter(psf)
    holes, _ = ndimage.label(~valid, structure=_TOUCHING)
    for number, box in enumerate(ndimage.find_objects(holes), start=1):
        around = tuple(slice(max(0, span.start - _RIM_PIXELS), span.stop + _RIM_PIXELS) for span in box)
        large = max(span.stop - span.start for span in box) > psf.shape[0] // 2
        if large or seen[around].max() < _BRIGHT_SIGMA * sigma:
            continue
        hole = holes[around] == number
        rim = ndimage.binary_dilation(hole, _TOUCHING, iterations=_RIM_PIXELS) & valid[around]
        beside = np.where(rim, seen[around], -np.inf)
        if not np.isfinite(beside).any() or not _touches(hole, np.unravel_index(beside.argmax(), beside.shape)):
            continue
        star = _fit_star(seen[around], hole, rim, spline=spline)
        if star is None:
            continue
        if star.unlike < _UNLIKE_STAR:
            light[around][hole] = star.light
            error[around][hole] = star.unlike * np.abs(star.light)
        else:
            error[around][hole] = np.maximum(error[around][hole], np.abs(star.light))
    return Filling(light, error)


def _touches(hole: NDArray[np.bool_], place: tuple[np.intp, ...]) -> bool:
    """Whether a pixel touches a hole: a core whose brightest pixel doesn't lies outside."""
    row, column = place
    return bool(hole[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2].any())


def _fit_star(
    image: NDArray[np.float32], hole: NDArray[np.bool_], rim: NDArray[np.bool_], *, spline: NDArray[np.floating]
) -> _Star | None:
    """Fit a star and a level to a rim, its centre within the hole; None where the best has no positive flux."""
    inside, outside, values = np.argwhere(hole), np.argwhere(rim), image[rim].astype(np.float64)

    def solve(centre: NDArray[np.float64]) -> NDArray[np.float64]:
        model = np.stack([_shape(spline, outside - centre), np.ones(len(outside))], axis=1)
        return np.asarray(np.linalg.lstsq(model, values, rcond=None)[0])

    def residual(centre: NDArray[np.float64]) -> NDArray[np.float64]:
        flux, level = solve(centre)
        return np.asarray(values - flux * _shape(spline, outside - centre) - level)

    middle, reach = inside.mean(axis=0), np.maximum(np.ptp(inside, axis=0) / 2, 1.0)
    centre = optimize.least_squares(residual, middle, bounds=(middle - reach, middle + reach)).x
    flux, level = solve(centre)
    if not flux > 0:
        return None
    unlike = np.linalg.norm(residual(centre)) / np.linalg.norm(flux * _shape(spline, outside - centre))
    return _Star(flux * _shape(spline, inside - centre) + level, float(unlike))


def _shape(spline: NDArray[np.floating], offsets: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return a star of flux 1 at offsets (N, 2) of (y, x) from its centre, 0 beyond its stamp."""
    places = offsets.T + spline.shape[0] // 2
    return np.asarray(ndimage.map_coordinates(spline, places, prefilter=False), dtype=np.float64)
