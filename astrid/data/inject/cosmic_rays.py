"""Real cosmic rays, as dark exposures recorded them, pasted into frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from astrid.config import DataError

from ..frames import read_table
from ..rows import Split

COLUMNS = ("fp_id", "y0", "x0", "pixel_values")
"""Of the table of spans: number of the footprint, row and first column of the span, electrons of its pixels."""
_PARTS: dict[Split, tuple[float, float]] = {"train": (0.0, 0.6), "val": (0.6, 0.8), "test": (0.8, 1.0)}
"""Which part of the shuffled footprints each split draws from: none is seen by two."""


@dataclass(frozen=True)
class Footprint:
    """One cosmic ray.

    Attributes
    ----------
    number : int
        In its table.
    charge : (H, W) float64
        Electrons, 0 beside the track.
    """

    number: int
    charge: NDArray[np.float64]


@dataclass(frozen=True)
class Hits:
    """What cosmic rays left in a frame.

    Attributes
    ----------
    charge : (H, W) float64
        Electrons.
    placed : list of str
        Number and lower left corner of each, `17@(x,y)`.
    """

    charge: NDArray[np.float64]
    placed: list[str]


def read_footprints(path: Path) -> list[Footprint]:
    """Read a table of spans, the form in which imSim keeps cosmic rays.

    Raises
    ------
    DataError
        If there is no such table, or it holds no footprint with charge.

    References
    ----------
    LSST DESC imSim, https://github.com/LSSTDESC/imSim (cosmic_rays.py): a span is painted as `image[y0, x0 + i]`.
    """
    table = read_table(path, columns=COLUMNS)
    spans: dict[int, list[tuple[int, int, NDArray[np.float64]]]] = {}
    for number, row, first, values in zip(*(table[name] for name in COLUMNS), strict=True):
        charge = np.maximum(np.asarray(values, dtype=np.float64), 0.0)
        spans.setdefault(int(number), []).append((int(row), int(first), charge))
    footprints = [_joined(number, own) for number, own in sorted(spans.items())]
    found = [one for one in footprints if one.charge.any()]
    if not found:
        raise DataError(f"{path}: there must be footprints with charge, got none; name another file")
    return found


def _joined(number: int, spans: Sequence[tuple[int, int, NDArray[np.float64]]]) -> Footprint:
    """Put the spans of a footprint into the smallest rectangle that holds them."""
    top, left = min(row for row, _, _ in spans), min(first for _, first, _ in spans)
    height = max(row for row, _, _ in spans) - top + 1
    width = max(first + values.size for _, first, values in spans) - left
    charge = np.zeros((height, width))
    for row, first, values in spans:
        charge[row - top, first - left : first - left + values.size] += values
    return Footprint(number, charge)


def footprints_of(split: Split, footprints: Sequence[Footprint], *, seed: int) -> list[Footprint]:
    """Return the footprints that only one split may use: three fifths train, a fifth validates, a fifth tests."""
    order = np.random.default_rng(seed).permutation(len(footprints))
    start, stop = (round(share * len(footprints)) for share in _PARTS[split])
    if start == stop:
        raise DataError(f"there must be at least 5 footprints of cosmic rays, got {len(footprints)}; name another file")
    return [footprints[number] for number in sorted(order[start:stop])]


def draw_hits(shape: tuple[int, int], rng: Generator, *, footprints: Sequence[Footprint], number: int) -> Hits:
    """Drop footprints anywhere on a frame, each in one of the eight orientations; what sticks out is lost.

    A track keeps the charge of each of its pixels, noise included: it was recorded, not computed, so no photon noise
    is added to it.
    """
    charge, placed = np.zeros(shape), []
    for choice in rng.integers(len(footprints), size=number):
        turned = np.rot90(footprints[choice].charge, int(rng.integers(4)))
        turned = turned[:, ::-1] if rng.random() < 0.5 else turned
        top, left = (int(rng.integers(1 - size, edge)) for size, edge in zip(turned.shape, shape, strict=True))
        _paste(charge, turned, top=top, left=left)
        placed.append(f"{footprints[choice].number}@({left},{top})")
    return Hits(charge, placed)


def _paste(plane: NDArray[np.float64], stamp: NDArray[np.float64], *, top: int, left: int) -> None:
    rows = slice(max(top, 0), min(top + stamp.shape[0], plane.shape[0]))
    columns = slice(max(left, 0), min(left + stamp.shape[1], plane.shape[1]))
    plane[rows, columns] += stamp[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
