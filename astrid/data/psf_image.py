"""A point-spread function given as an image: checked once, then placed anywhere between the pixels."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import RectBivariateSpline

from astrid.config import DataError

_FEWEST_PIXELS = 5
_OFF_CENTRE_PIXELS = 0.5  # of the frame


@dataclass(frozen=True)
class PsfImage:
    """The share of a point source's light per pixel, against the distance of the pixel's centre from the source.

    The response of the pixel is part of it, as in an effective PSF, so nothing is integrated over pixels again.

    Attributes
    ----------
    pixels : (K, L) float64
        Odd edges, the source in the middle of the central pixel, nowhere negative.
    oversampling : int
        Pixels of this image per pixel of the frame.

    References
    ----------
    Anderson and King 2000, PASP 112, 1360, doi:10.1086/316632 (the effective PSF).
    """

    pixels: NDArray[np.float64]
    oversampling: int = 1

    @functools.cached_property
    def _surface(self) -> RectBivariateSpline:
        """The cubic spline through the pixels, over (y, x) in pixels of the frame from the source."""
        y, x = (_offsets(size, self.oversampling) for size in self.pixels.shape)
        return RectBivariateSpline(y, x, self.pixels)

    def stamp(self, shape: tuple[int, int], *, x: float, y: float) -> tuple[tuple[slice, slice], NDArray[np.float64]]:
        """Place the PSF at (x, y), in pixels from the centre of pixel (0, 0), and clip it at the edges of a frame.

        Returns
        -------
        where : two slices
            Rows and columns of the stamp in a frame of this shape; empty for a source far outside.
        light : float64
            Share of the source's light per pixel. Before the edges clip it the sum is 1 wherever the source lies.
        """
        rows, columns = (
            _reached(centre, size, self.oversampling) for centre, size in zip((y, x), self.pixels.shape, strict=True)
        )
        light = np.maximum(self._surface(rows - y, columns - x), 0.0)
        light /= light.sum()
        inside = tuple(_within(span, size) for span, size in zip((rows, columns), shape, strict=True))
        where = tuple(
            slice(int(span[0]) + part.start, int(span[0]) + part.stop)
            for span, part in zip((rows, columns), inside, strict=True)
        )
        return (where[0], where[1]), light[inside[0], inside[1]]


def _offsets(size: int, oversampling: int) -> NDArray[np.float64]:
    return (np.arange(size) - size // 2) / oversampling


def _reached(centre: float, size: int, oversampling: int) -> NDArray[np.int64]:
    """Return the rows, or columns, whose centres lie within the PSF's edge."""
    reach = (size // 2) / oversampling
    return np.arange(math.ceil(centre - reach), math.floor(centre + reach) + 1)


def _within(span: NDArray[np.int64], size: int) -> slice:
    """Return the part of consecutive numbers that lies from 0 to size - 1."""
    start = min(max(-int(span[0]), 0), span.size)
    return slice(start, max(start, min(span.size, size - int(span[0]))))


def as_psf(pixels: NDArray[np.floating], *, oversampling: int = 1) -> PsfImage:
    """Check a PSF as it comes with the data, blank what is negative, and bring its sum to 1.

    Parameters
    ----------
    pixels : (K, L) float
        In any unit, centred. An even edge is taken to have its source at pixel K // 2, and loses its first row.
    oversampling : int
        Pixels of this image per pixel of the frame.

    Raises
    ------
    DataError
        If it is no image with light and finite values, or its light is not centred within half a pixel of the frame.
    """
    rule = f"a PSF must be an image of at least {_FEWEST_PIXELS}x{_FEWEST_PIXELS} finite pixels with light"
    if pixels.ndim != 2 or min(pixels.shape) < _FEWEST_PIXELS or not np.isfinite(pixels).all():
        raise DataError(f"{rule}, got {pixels.shape}; give another")
    light = np.maximum(np.asarray(pixels, dtype=np.float64)[1 - pixels.shape[0] % 2 :, 1 - pixels.shape[1] % 2 :], 0.0)
    if not light.sum() > 0:
        raise DataError(f"{rule}, got no pixel above 0; give another")
    light /= light.sum()
    y, x = (float(_offsets(size, oversampling) @ light.sum(1 - axis)) for axis, size in enumerate(light.shape))
    if max(abs(x), abs(y)) > _OFF_CENTRE_PIXELS:
        middle = f"({x:+.2f}, {y:+.2f}) pixels"
        raise DataError(f"a PSF must have its source in the middle, got its light {middle} off; cut it out again")
    return PsfImage(light, oversampling)
