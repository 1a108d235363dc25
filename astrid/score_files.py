"""Planes to score, ours or another tool's, from files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from astrid.array_scores import Numbers
from astrid.config import DataError
from astrid.data.frames import read_image
from astrid.data.rows import ImageFile


def read_numbers(file: str, *, argument: str) -> Numbers:
    """Read an array of numbers of any shape from `.npy`, or a picture (H, W) from FITS, as `frame.fits[SCI]` too.

    Raises
    ------
    DataError
        Naming the argument, where the file is missing, damaged or holds no numbers.
    """
    if not file.endswith(".npy"):
        source = ImageFile.parse(file, Path())
        return np.asarray(read_image(source.path, hdu=source.hdu).data)
    try:
        values = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{argument} must be a FITS or .npy file, got {file}: {error}; check its name") from error
    if values.dtype.kind not in "biuf":
        raise DataError(f"{argument} must hold numbers, got {file} of {values.dtype}; save it as float32")
    return np.asarray(values)
