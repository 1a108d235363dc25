"""The sky beneath the sources: its level and its noise, cell by cell."""

from __future__ import annotations

import math
import warnings
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from photutils.background import Background2D, SExtractorBackground

from astrid.config import DataError

_MOST_BAD_PERCENT = 90.0  # of a background cell; with more its level is interpolated from its neighbours


class Sky(NamedTuple):
    """The background of a frame.

    Attributes
    ----------
    level : (H, W) float
        In the unit of the frame.
    rms : float
        Median of the noise of the cells.
    """

    level: NDArray[np.floating]
    rms: float


def measure_sky(image: NDArray[np.floating], valid: NDArray[np.bool_], *, box: int) -> Sky:
    """Measure a background that follows the frame over scales larger than the box.

    Its level in a cell is the mode as SExtractor estimates it, after clipping at three sigma, and cells are joined
    by a spline. Cells are as large as the box and fit the frame; a frame smaller than that is one cell.

    Parameters
    ----------
    image : (H, W) float
        Any unit.
    valid : (H, W) bool
        True = good pixel; the others' values are never read.
    box : int
        Edge of a cell in pixels.

    Raises
    ------
    DataError
        If no cell has enough good pixels.

    References
    ----------
    Bertin and Arnouts 1996, A&AS 117, 393, doi:10.1051/aas:1996164
    """
    cell = tuple(math.ceil(size / max(1, round(size / box))) for size in image.shape)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = Background2D(
                image,
                cell,
                mask=~valid,
                bkg_estimator=SExtractorBackground(),
                exclude_percentile=_MOST_BAD_PERCENT,
            )
            return Sky(found.background, float(found.background_rms_median))
    except ValueError as error:
        checks = "check for NaN, values beyond 1e30, masks and weights of 0"
        planes = "science, reference, target, valid and weight together"
        if not valid.any():
            raise DataError(f"it has no good pixel at all among {valid.size}, in {planes}; {checks}") from error
        share = f"{100 * float(valid.mean()):.1f} % of {valid.size}"
        raise DataError(
            f"a tenth of the pixels of a background cell must be good in all of {planes}, got {share}; {checks}"
        ) from error


def subtract_background(image: NDArray[np.floating], valid: NDArray[np.bool_], *, box: int) -> NDArray[np.float32]:
    """Subtract the level of the sky, 0 where not valid. Parameters and errors as of `measure_sky`."""
    return above_sky(image, valid, measure_sky(image, valid, box=box))


def above_sky(image: NDArray[np.floating], valid: NDArray[np.bool_], sky: Sky) -> NDArray[np.float32]:
    """Return what stands above the sky, 0 where not valid."""
    return np.where(valid, image - sky.level, 0.0).astype(np.float32)
