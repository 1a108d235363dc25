"""Bring a frame onto another grid, with its mask and with the uncertainty that the resampled pixels really have.

reproject resamples an image; it has no way to square the weights, which the variance needs. So the weights are ours.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
from astropy.nddata import CCDData, StdDevUncertainty
from astropy.wcs import WCS
from astropy.wcs.utils import pixel_to_pixel
from numpy.typing import NDArray
from scipy.interpolate import RectBivariateSpline

from astrid.config import DataError

Coordinates = NDArray[np.float64]
PixelMap = Callable[[Coordinates, Coordinates], tuple[Coordinates, Coordinates]]
"""From (x, y) on the new grid to (x, y) in the frame, pixel centres at integers from 0."""

MOST_BAD_SHARE = 0.05
"""Share of the kernel, by absolute weights, that may lie on bad pixels or beyond the edge; else the pixel is masked."""
_LOBES = 3
_BAND_PIXELS = 2**17
_WCS_STEP = 16
_PATCH = 96


def wcs_map(target: WCS, source: WCS, *, shape: tuple[int, int]) -> PixelMap:
    """Return the map from a target grid of `shape` (height, width) to a source by their celestial coordinates.

    Coordinates are exact every 16 pixels and splined between, as distortions are smooth.

    Raises
    ------
    DataError
        If a part of the target has no place in the projection of the source, or none on the sky.
    """
    height, width = shape
    y, x = (np.linspace(-0.5, size - 0.5, math.ceil(size / _WCS_STEP) + 4) for size in (height, width))
    there = pixel_to_pixel(target, source, *np.meshgrid(x, y))
    lost = 1 - np.isfinite(there).all(axis=0).mean()
    if lost > 0:
        raise DataError(
            f"celestial coordinates must reach from every pixel of the science frame to the reference, got none for "
            f"{100 * lost:.3g} % of them; check that the frames show one part of the sky, or trim what shows none"
        )
    splines = [RectBivariateSpline(y, x, coordinate) for coordinate in there]

    def apply(x_new: Coordinates, y_new: Coordinates) -> tuple[Coordinates, Coordinates]:
        found = [np.asarray(spline(y_new, x_new, grid=False)) for spline in splines]
        return found[0], found[1]

    return apply


def resample(frame: CCDData, mapping: PixelMap, *, shape: tuple[int, int], conserve_flux: bool = True) -> CCDData:
    """Resample a frame by Lanczos-3 interpolation, widened to the new pixel where that is larger.

    Each new pixel is a sum of weights times old pixels, weights on bad ones left out and the others scaled to sum to
    one. The variance is the sum of squared weights times variances; resampled like the image, it would be that of
    white noise that was never smoothed, and the pull too narrow. Neighbours share pixels, so the new noise is
    correlated, which `noise_correlation` measures.

    Parameters
    ----------
    frame : CCDData
        (H, W), with mask; with uncertainty where it has one.
    mapping : PixelMap
        From the new grid to the frame.
    shape : (height, width)
        Of the new grid.
    conserve_flux : bool
        Multiply by the ratio of the pixels' areas, so that the sum over a source stays; without it the surface
        brightness does.

    Returns
    -------
    CCDData
        The resampled frame in float32, without WCS; 0 where masked.

    References
    ----------
    Duchon 1979, J. Appl. Meteorol. 18, 1016, doi:10.1175/1520-0450(1979)018<1016:LFIOAT>2.0.CO;2 (the kernel);
    Fruchter and Hook 2002, PASP 114, 144, doi:10.1086/338393 (correlated noise of resampled images).
    """
    planes = _Planes(frame, stretch=_pixel_scale(mapping, shape))
    value, variance = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    masked = np.zeros(shape, dtype=bool)
    for band, x, y, area in _bands(mapping, shape):
        value[band], variance[band], masked[band] = planes.interpolate(x, y)
        if conserve_flux:
            value[band] *= area
            variance[band] *= area**2
    sigma = None if frame.uncertainty is None else StdDevUncertainty(np.sqrt(variance))
    return CCDData(value, mask=masked, unit=frame.unit, uncertainty=sigma, meta=frame.meta)


def noise_correlation(
    mapping: PixelMap, *, shape: tuple[int, int], generator: np.random.Generator
) -> tuple[float, float]:
    """Measure how white noise correlates once resampled: between neighbours along x, and along y.

    A patch of 96x96 pixels in the middle of the new grid stands for all of it.
    """
    height, width = (min(size, _PATCH) for size in shape)
    top, left = (shape[0] - height) // 2, (shape[1] - width) // 2
    corners_x, corners_y = mapping(*np.meshgrid(left + np.array([0.0, width - 1]), top + np.array([0.0, height - 1])))
    margin = 4 * _LOBES * math.ceil(_pixel_scale(mapping, shape))
    x0, y0 = math.floor(corners_x.min()) - margin, math.floor(corners_y.min()) - margin
    size = (math.ceil(corners_y.max()) + margin - y0, math.ceil(corners_x.max()) + margin - x0)

    def patch_map(x: Coordinates, y: Coordinates) -> tuple[Coordinates, Coordinates]:
        x_old, y_old = mapping(x + left, y + top)
        return x_old - x0, y_old - y0

    noise = CCDData(generator.standard_normal(size, dtype=np.float32), mask=np.zeros(size, dtype=bool), unit="")
    new = resample(noise, patch_map, shape=(height, width), conserve_flux=False).data
    variance = float(np.mean(new**2))
    return float(np.mean(new[:, 1:] * new[:, :-1])) / variance, float(np.mean(new[1:] * new[:-1])) / variance


class _Planes:
    """A frame's values, variances and good pixels, with a margin so that no kernel leaves them."""

    def __init__(self, frame: CCDData, *, stretch: float) -> None:
        self.stretch = stretch
        self.taps = 2 * math.ceil(_LOBES * stretch)
        bad = ~np.isfinite(frame.data) if frame.mask is None else frame.mask | ~np.isfinite(frame.data)
        sigma = np.zeros(frame.shape) if frame.uncertainty is None else frame.uncertainty.array
        self.shape = frame.shape
        self.width = frame.shape[1] + 2 * self.taps
        self.values, self.variances, self.good = (
            np.pad(plane.astype(np.float32), self.taps).ravel()
            for plane in (np.where(bad, 0, frame.data), np.where(bad, 0, sigma) ** 2, ~bad)
        )

    def interpolate(
        self, x: Coordinates, y: Coordinates
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]:
        """Return values, variances and which are bad at points of any shape."""
        column, x_weights = self._weights(x, self.shape[1])
        row, y_weights = self._weights(y, self.shape[0])
        start = row * self.width + column
        value, variance, weight, lost = (np.zeros(x.shape, np.float32) for _ in range(4))
        for dy in range(self.taps):
            for dx in range(self.taps):
                factor = y_weights[dy] * x_weights[dx]
                index = start + (dy * self.width + dx)
                good = self.good.take(index)
                value += factor * self.values.take(index)
                variance += factor**2 * self.variances.take(index)
                weight += factor * good
                lost += np.abs(factor) * (1 - good)
        bad = lost > MOST_BAD_SHARE * np.abs(x_weights).sum(axis=0) * np.abs(y_weights).sum(axis=0)
        weight[bad] = np.inf
        return value / weight, variance / weight**2, bad

    def _weights(self, position: Coordinates, size: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return the padded index of the first tap, and the taps' weights (taps, ...).

        Weights sum to 1, their absolute values to as much as 1.55, half-way between pixels.
        """
        inside = np.clip(np.nan_to_num(position, nan=-self.taps), -self.taps / 2, size - 1 + self.taps / 2)
        first = np.floor(inside).astype(np.int64) - self.taps // 2 + 1
        distance = (inside - first - np.arange(self.taps).reshape(-1, *[1] * position.ndim)) / self.stretch
        third = np.sinc(distance / _LOBES)
        whole = third * (1 - 4 / 3 * (third * np.pi * distance / _LOBES) ** 2)  # sin(3a) = 3 sin(a) - 4 sin(a)^3
        weights = whole * third * (np.abs(distance) < _LOBES)
        return first + self.taps, (weights / weights.sum(axis=0)).astype(np.float32)


def _bands(
    mapping: PixelMap, shape: tuple[int, int]
) -> Iterator[tuple[slice, Coordinates, Coordinates, NDArray[np.float32]]]:
    """Return bands of rows of the new grid: where each of their pixels lies in the frame, and how large it is there."""
    height, width = shape
    rows = max(1, _BAND_PIXELS // width)
    for start in range(0, height, rows):
        band = slice(start, min(start + rows, height))
        y, x = np.mgrid[band, 0:width].astype(np.float64)
        yield band, *mapping(x, y), _pixel_area(mapping, x, y)


def _pixel_area(mapping: PixelMap, x: Coordinates, y: Coordinates) -> NDArray[np.float32]:
    """Return the area of new pixels in old ones, by central differences over the pixel itself."""
    along_x = np.subtract(mapping(x + 0.5, y), mapping(x - 0.5, y))
    along_y = np.subtract(mapping(x, y + 0.5), mapping(x, y - 0.5))
    area = np.abs(along_x[0] * along_y[1] - along_x[1] * along_y[0])
    return np.asarray(area, dtype=np.float32)


def _pixel_scale(mapping: PixelMap, shape: tuple[int, int]) -> float:
    """Return the edge of a new pixel in old ones in the middle of the grid, at least 1."""
    middle = np.array([(shape[1] - 1) / 2]), np.array([(shape[0] - 1) / 2])
    return max(1.0, math.sqrt(float(_pixel_area(mapping, *middle)[0])))
