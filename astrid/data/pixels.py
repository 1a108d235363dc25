"""From the numbers that a FITS file stores to those that they mean."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from astrid.config import DataError


@dataclass(frozen=True)
class Scaling:
    """How stored numbers become values: `zero + scale * stored`, except `blank`, which is undefined.

    Reference: FITS Standard 4.0, sections 4.4.2.5 and 5.2 (Pence et al. 2010, doi:10.1051/0004-6361/201015362).
    """

    scale: float
    zero: float
    blank: int | None

    @classmethod
    def from_header(cls, header: Mapping[str, Any]) -> Scaling:
        """Read BSCALE, BZERO and BLANK."""
        numbers = [header.get(key, default) for key, default in (("BSCALE", 1), ("BZERO", 0), ("BLANK", 0))]
        for key, number in zip(("BSCALE", "BZERO", "BLANK"), numbers, strict=True):
            if isinstance(number, bool) or not isinstance(number, int | float):
                raise DataError(f"{key} must be a number, got {number!r}; mend the header")
        return cls(numbers[0], numbers[1], int(numbers[2]) if "BLANK" in header else None)


def physical_values(stored: NDArray[Any], scaling: Scaling) -> NDArray[np.floating[Any]]:
    """Return values in native byte order: float32 where it holds them exactly, else float64; undefined ones are NaN."""
    plain_integers = stored.dtype.itemsize <= 2 and scaling.scale == 1 and scaling.zero in (0, -128, 2**15)
    plain_floats = stored.dtype.kind == "f" and stored.dtype.itemsize == 4 and scaling.scale == 1 and scaling.zero == 0
    dtype = np.float32 if plain_integers or plain_floats else np.float64
    values: NDArray[np.floating[Any]] = stored.astype(dtype)
    if scaling.scale != 1 or scaling.zero != 0:
        values *= scaling.scale
        values += scaling.zero
    if scaling.blank is not None and stored.dtype.kind in "iu":
        values[stored == scaling.blank] = np.nan
    return values


def whole_numbers(stored: NDArray[Any], scaling: Scaling) -> NDArray[np.integer[Any]] | None:
    """Return the exact integers that a plane holds, or None if a value is undefined or not whole."""
    if stored.dtype.kind in "iu" and scaling.scale == 1:
        if scaling.blank is not None and bool((stored == scaling.blank).any()):
            return None
        if scaling.zero == 0:
            return stored.astype(stored.dtype.newbyteorder("="))
        if scaling.zero == _sign_change(stored.dtype):
            return _other_signedness(stored)
    values = physical_values(stored, scaling).astype(np.float64)
    exact = np.isfinite(values) & (values == np.rint(values)) & (np.abs(values) <= 2**53)
    return values.astype(np.int64) if bool(exact.all()) else None


def _sign_change(dtype: np.dtype[Any]) -> int:
    """Return the BZERO with which FITS, which knows int16 and uint8, stores uint16 and int8."""
    return int(2 ** (8 * dtype.itemsize - 1)) if dtype.kind == "i" else -128


def _other_signedness(stored: NDArray[Any]) -> NDArray[np.integer[Any]]:
    """Add half the range by flipping the highest bit, which needs no wider integers."""
    bits = 8 * stored.dtype.itemsize
    native = stored.astype(stored.dtype.newbyteorder("="))
    flipped: NDArray[np.integer[Any]] = native.view(f"u{bits // 8}") ^ np.array(1 << (bits - 1), dtype=f"u{bits // 8}")
    return flipped if native.dtype.kind == "i" else flipped.view(np.int8)


def digest_values(image: NDArray[np.floating[Any]]) -> str:
    """Return the SHA-256 of an image's shape and physical values: that of each lossless copy, however it is stored.

    Values are compared as float32; pixels that are not finite count as equal.
    """
    with np.errstate(over="ignore"):  # what is out of range becomes infinite
        values = np.asarray(image, dtype=np.float32)
    values = np.where(np.isfinite(values), values, np.float32(0)) + np.float32(0)  # -0 becomes 0
    return hashlib.sha256(repr(values.shape).encode() + values.tobytes()).hexdigest()
