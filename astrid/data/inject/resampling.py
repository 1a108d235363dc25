"""Training copies as reprojection leaves a frame: on another grid, with noise that neighbours share."""

from __future__ import annotations

import dataclasses
import math
from typing import TypeVar

import numpy as np
from astropy.nddata import CCDData
from numpy.random import Generator
from numpy.typing import NDArray

from astrid.config import DataError

from ..preprocess import Labels, Loaded
from ..reduction.chain import Record, Taken
from ..rows import FrameRow, with_other_widths

Value = TypeVar("Value", bound=np.generic)
Shares = tuple[float, float]

_GAUSSIAN_FWHM = 2.0 * math.sqrt(2.0 * math.log(2.0))


def resampled(row: FrameRow, loaded: Loaded, rng: Generator) -> tuple[FrameRow, Loaded]:
    """Shift the frames of a row by a fraction of a pixel along each axis, as bilinear interpolation does.

    The light of sources spreads over more pixels, and their noise is less and correlated, squared weights for
    squared errors. A pixel is bad, or not counted, where any of the four that it is made of is. The last row and column
    go.

    Raises
    ------
    DataError
        For a row that uses a section or brings its PSF, which are on the frame's own grid.
    """
    if row.section is not None or row.psf is not None:
        raise DataError("a row with a section or a psf can't be resampled; say data.train_resampled=0")
    dy, dx = rng.uniform(0.0, 1.0, 2)
    spread = (dy * (1.0 - dy) + dx * (1.0 - dx)) / 2.0  # variance of the kernel along an axis, in pixels squared
    reference = None if loaded.reference is None else _shifted(loaded.reference, (dy, dx))
    labels = Labels(*(_any(getattr(loaded.labels, field.name)) for field in dataclasses.fields(Labels)))
    good, shown = (~_any(~plane) for plane in (loaded.good, loaded.shown))
    moved = Loaded(_shifted(loaded.science, (dy, dx)), reference, labels, good, shown)
    return with_other_widths(row, lambda fwhm: math.hypot(fwhm, _GAUSSIAN_FWHM * math.sqrt(spread))), moved


def between(plane: NDArray[np.float64], shares: Shares, *, power: int = 1) -> NDArray[np.float64]:
    """Return a plane between its pixels, (H - 1, W - 1), with bilinear weights raised to a power.

    Parameters
    ----------
    plane : (H, W) float64
    shares : (dy, dx)
        Where between a pixel and the next along each axis, 0 to 1.
    power : int
        2 for variances.
    """
    dy, dx = shares
    rows = (1.0 - dy) ** power * plane[:-1] + dy**power * plane[1:]
    return np.asarray((1.0 - dx) ** power * rows[:, :-1] + dx**power * rows[:, 1:])


def _any(plane: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return np.asarray(plane[:-1, :-1] | plane[:-1, 1:] | plane[1:, :-1] | plane[1:, 1:])


def _shifted(record: Record, shares: Shares) -> Record:
    frame = record.frame
    data = between(np.asarray(frame.data, dtype=np.float64), shares)
    uncertainty = None
    if frame.uncertainty is not None:
        variance = between(frame.uncertainty.array.astype(np.float64) ** 2, shares, power=2)
        uncertainty = type(frame.uncertainty)(np.sqrt(variance).astype(np.float32))
    moved = CCDData(data, mask=_any(frame.mask), uncertainty=uncertainty, unit=frame.unit, meta=frame.meta)
    steps = [
        *record.steps,
        Taken("resampling", True, f"shifted by ({shares[1]:.3f}, {shares[0]:.3f}) pixels, bilinear"),
    ]
    return dataclasses.replace(record, frame=moved, steps=steps)
