"""Coarser copies of a frame: what a detector of larger pixels would have recorded."""

from __future__ import annotations

import dataclasses
from typing import TypeVar

import numpy as np
from astropy.nddata import CCDData
from numpy.typing import NDArray

from astrid.config import DataError

from ..preprocess import Labels, Loaded
from ..reduction.chain import Record, Taken
from ..rows import FrameRow, with_other_widths

Value = TypeVar("Value", bound=np.generic)


def binned(row: FrameRow, loaded: Loaded, factor: int) -> tuple[FrameRow, Loaded]:
    """Sum squares of `factor` times `factor` pixels, so that sources are sharper in pixels and noise stays white.

    A pixel is bad, or not counted, where any of those that it is made of is. Rows and columns that are left over at
    the end go.

    Raises
    ------
    DataError
        For a row that uses a section or brings its PSF, which are in the frame's own pixels.
    """
    if factor == 1:
        return row, loaded
    if row.section is not None or row.psf is not None:
        raise DataError("a row with a section or a psf can't be binned; say data.train_binning=[1]")
    reference = None if loaded.reference is None else _summed(loaded.reference, factor)
    labels = Labels(*(_any(getattr(loaded.labels, field.name), factor) for field in dataclasses.fields(Labels)))
    good, shown = (~_any(~plane, factor) for plane in (loaded.good, loaded.shown))
    coarse = Loaded(_summed(loaded.science, factor), reference, labels, good, shown)
    return with_other_widths(row, lambda fwhm: fwhm / factor), coarse


def blocks(plane: NDArray[Value], factor: int) -> NDArray[Value]:
    """Return the squares of a plane, (H // factor, W // factor, factor²)."""
    height, width = (size // factor for size in plane.shape)
    cut = plane[: height * factor, : width * factor].reshape(height, factor, width, factor)
    return cut.swapaxes(1, 2).reshape(height, width, factor**2)


def _any(plane: NDArray[np.bool_], factor: int) -> NDArray[np.bool_]:
    return np.asarray(blocks(plane, factor).any(axis=-1))


def _summed(record: Record, factor: int) -> Record:
    frame = record.frame
    data = blocks(np.asarray(frame.data), factor).sum(axis=-1)
    uncertainty = None
    if frame.uncertainty is not None:
        variance = blocks(frame.uncertainty.array.astype(np.float64) ** 2, factor).sum(axis=-1)
        uncertainty = type(frame.uncertainty)(np.sqrt(variance).astype(np.float32))
    coarse = CCDData(data, mask=_any(frame.mask, factor), uncertainty=uncertainty, unit=frame.unit, meta=frame.meta)
    steps = [*record.steps, Taken("binning", True, f"{factor}x{factor} pixels summed")]
    return dataclasses.replace(record, frame=coarse, steps=steps)
