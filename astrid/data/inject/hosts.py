"""Galaxies of a real frame, as places where transients are likely."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import ndimage

from astrid.config import DataError

_DETECTION_SIGMA = 3.0
_LEAST_PIXELS = 9
_EXTENDED = 1.3
"""Half-light radius in units of that of a point source, from which an object is a galaxy."""
_HALF_LIGHT_FWHM = 0.55
"""Half-light radius of a Moffat of exponent 3.5 in units of its FWHM (0.5 for a Gaussian, 0.59 for exponent 2.5)."""


@dataclass(frozen=True)
class Hosts:
    """Galaxies and their light.

    Attributes
    ----------
    labels : (H, W) int
        Number of the galaxy that a pixel belongs to, from 1; 0 for none.
    light : (H, W) float64
        Of the galaxies above the sky, 0 elsewhere.
    """

    labels: NDArray[np.int32]
    light: NDArray[np.float64]


class HostPlaces:
    """Places in galaxies that host nothing yet, of precision (H, W) above 0.

    A draw looks for its row in the light summed along rows, then for its column in that row: the frame is gone through
    once for all draws.
    """

    def __init__(self, hosts: Hosts, precision: NDArray[np.float64]) -> None:
        self._labels = hosts.labels
        self._light = np.where(precision > 0, hosts.light, 0.0)
        self._row_light = self._light.sum(axis=1)
        self._windows = ndimage.find_objects(hosts.labels)

    def draw(self, rng: Generator) -> tuple[float, float] | None:
        """Draw (x, y) in proportion to the light, and take that galaxy out of the next draws.

        None where no galaxy is left whose pixels are valid.
        """
        if not self._row_light.any():
            return None
        up_to_row = np.cumsum(self._row_light)
        level = rng.random() * up_to_row[-1]
        row = _reached(up_to_row, level)
        column = _reached(np.cumsum(self._light[row]), level - (up_to_row[row - 1] if row else 0.0))
        self._take_out(int(self._labels[row, column]))
        dx, dy = rng.uniform(-0.5, 0.5, 2)
        return column + dx, row + dy

    def _take_out(self, galaxy: int) -> None:
        window = self._windows[galaxy - 1]
        self._light[window][self._labels[window] == galaxy] = 0.0
        self._row_light[window[0]] = self._light[window[0]].sum(axis=1)


def _reached(cumulative: NDArray[np.float64], level: float) -> int:
    """Return the first place at which a running sum exceeds a level; rounding may bring the level up to its end."""
    below_end = min(level, float(np.nextafter(cumulative[-1], 0.0)))
    return int(np.searchsorted(cumulative, below_end, side="right"))


def find_hosts(image: NDArray[np.float32], valid: NDArray[np.bool_], *, sigma: float, fwhm_pixels: float) -> Hosts:
    """Find what is wider than a point source.

    Parameters
    ----------
    image : (H, W) float32
        Frame above its sky.
    valid : (H, W) bool
        True = good pixel. An object that touches a bad one is left out: it may be a saturated star.
    sigma : float
        Noise of the sky, in the unit of the frame.
    fwhm_pixels : float
        Of a point source.

    Raises
    ------
    DataError
        If SEP can't tell the objects apart.

    References
    ----------
    Barbary 2016, JOSS 1, 58, doi:10.21105/joss.00058 (SEP, which deblends and measures).
    """
    import sep

    sep.set_extract_pixstack(max(sep.get_extract_pixstack(), valid.size))
    clean = np.ascontiguousarray(np.where(valid, image, np.float32(0)))
    try:
        objects, labels = sep.extract(
            clean, _DETECTION_SIGMA, err=sigma, mask=~valid, minarea=_LEAST_PIXELS, segmentation_map=True
        )
    except Exception as error:
        if type(error) is not Exception:  # SEP raises no narrower one for what its C code refuses
            raise
        remedy = "leave the frame out, or say data.transients_on_galaxies=0"
        raise DataError(f"galaxies must be found by SEP, got: {error}; {remedy}") from error
    reach = 6.0 * np.maximum(objects["a"], 1.0)
    radius, _ = sep.flux_radius(clean, objects["x"], objects["y"], reach, 0.5, normflux=objects["flux"], subpix=5)
    wide = radius > _EXTENDED * _HALF_LIGHT_FWHM * fwhm_pixels
    chosen = np.isin(labels, 1 + np.flatnonzero(wide & ~_touches_bad(labels, valid, len(objects))))
    return Hosts(np.where(chosen, labels, 0), np.where(chosen, np.maximum(clean, 0), 0).astype(np.float64))


def _touches_bad(labels: NDArray[np.int32], valid: NDArray[np.bool_], number: int) -> NDArray[np.bool_]:
    """Tell of each object whether a pixel of it, or beside it, is bad."""
    beside = ndimage.binary_dilation(~valid, np.ones((3, 3), dtype=bool))
    return np.isin(1 + np.arange(number), labels[beside])
