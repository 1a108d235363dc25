"""Put fields into training, validation and test, and refuse what one would tell another."""

from __future__ import annotations

import dataclasses
import itertools
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray

from astrid.config import DataError

from .footprints import footprint, overlapping
from .frames import ImageInfo
from .rows import FrameRow, Pictures, Section, Split

logger = logging.getLogger(__name__)

SPLITS: tuple[Split, ...] = ("train", "val", "test")


def assign_splits(rows: Sequence[FrameRow], *, val_fraction: float, test_fraction: float, seed: int) -> list[FrameRow]:
    """Give every row a split: the one in the manifest, or whole fields at random where it names none.

    Parameters
    ----------
    rows : sequence of FrameRow
        All with a split or all without.
    val_fraction, test_fraction : float
        Share of the fields, at least one, that validates and tests.
    seed : int
        Of the assignment, which doesn't depend on the order of the rows.

    Raises
    ------
    DataError
        If some rows have a split and others don't, or a split stays empty.
    """
    without = [row.number for row in rows if row.split is None]
    if 0 < len(without) < len(rows):
        raise DataError(f"row {without[0]}: split must be filled in every row or in none; fill it")
    if without:
        splits = _draw_splits(sorted({row.field for row in rows}), val_fraction, test_fraction, seed)
        return [dataclasses.replace(row, split=splits[row.field]) for row in rows]
    for split in SPLITS:
        if all(row.split != split for row in rows):
            raise DataError(f"split {split!r} must have a row, got none among {len(rows)}; give it one")
    return list(rows)


def _draw_splits(fields: list[str], val_fraction: float, test_fraction: float, seed: int) -> dict[str, Split]:
    val, test = (max(1, round(fraction * len(fields))) for fraction in (val_fraction, test_fraction))
    if val + test >= len(fields):
        raise DataError(
            f"its {len(fields)} fields must fill train, val and test, but val takes {val} and test {test}; "
            "add fields, lower data.val_fraction and data.test_fraction, or add a split column"
        )
    order = np.random.default_rng(seed).permutation(len(fields))
    shuffled = [fields[index] for index in order]
    splits: dict[str, Split] = dict.fromkeys(shuffled, "train")
    return splits | dict.fromkeys(shuffled[:val], "val") | dict.fromkeys(shuffled[val : val + test], "test")


def each_by_itself(rows: Sequence[FrameRow], folds: int) -> list[FrameRow]:
    """Return the rows with each field as its own split: sooner or later the folds part any two fields.

    Raises
    ------
    DataError
        Where the manifest names splits.
    """
    for row in rows:
        if row.split is not None:
            remedy = "leave the column out, or say data.folds=1"
            raise DataError(f"row {row.number}: data.folds must be 1 with a split column, got {folds}; {remedy}")
    return [dataclasses.replace(row, split=cast(Split, row.field)) for row in rows]


def refuse_leaks(
    rows: Sequence[FrameRow],
    science: Mapping[int, ImageInfo],
    pictures: Mapping[int, Pictures],
    *,
    unit: Literal["sky", "exposure", "section"],
    receptive_field_pixels: int,
) -> None:
    """Refuse rows in different splits that share what the unit forbids, and what weaker units forbid.

    Parameters
    ----------
    rows : sequence of FrameRow
        Each with its split.
    science : mapping of int to ImageInfo
        What the science frame of each row is, by row number.
    pictures : mapping of int to Pictures
        What tells its frames from others, by row number.
    unit : {"sky", "exposure", "section"}
        `section` forbids sections of one frame closer than the receptive field; `exposure` also anything from the
        same science file; `sky` also the same field, the same reference and overlap on the sky.
    receptive_field_pixels : int
        Smallest gap between sections of one frame.

    Raises
    ------
    DataError
        Naming the two rows and what they share.
    """
    if unit == "sky":
        remedy = "put them into one split, or state a weaker data.split_unit"
        _refuse_shared(rows, lambda row: row.field, what="field", remedy=remedy)
        _refuse_shared(rows, lambda row: pictures[row.number].reference, what="reference", remedy=remedy)
    if unit != "section":
        remedy = "put them into one split, or divide the frame with data.split_unit=section"
        _refuse_shared(rows, lambda row: row.science.digest(), what="science file", remedy=remedy)
        _refuse_shared(rows, lambda row: pictures[row.number].science, what="science frame", remedy=remedy)
    _refuse_close_sections(rows, science, pictures, smallest_gap=receptive_field_pixels)
    if unit == "sky":
        _refuse_overlaps(rows, science)


def _leak(one: FrameRow, two: FrameRow, broken: str, remedy: str) -> DataError:
    return DataError(f"rows {one.number} ({one.split}) and {two.number} ({two.split}): {broken}; {remedy}")


def _refuse_shared(rows: Sequence[FrameRow], key: Callable[[FrameRow], str | None], *, what: str, remedy: str) -> None:
    """Refuse rows of different splits with the same key; None is shared with nobody."""
    first: dict[str, FrameRow] = {}
    for row in rows:
        shared = key(row)
        if shared is not None and first.setdefault(shared, row).split != row.split:
            raise _leak(first[shared], row, f"different splits must not share a {what}", remedy)


def _refuse_close_sections(
    rows: Sequence[FrameRow],
    science: Mapping[int, ImageInfo],
    pictures: Mapping[int, Pictures],
    *,
    smallest_gap: int,
) -> None:
    frames: dict[str, list[FrameRow]] = {}
    for row in rows:
        frames.setdefault(pictures[row.number].science, []).append(row)
    for parts in frames.values():
        for one, two in itertools.combinations(parts, 2):
            gap = _part(one, science).gap_to(_part(two, science))
            if one.split != two.split and gap < smallest_gap:
                rule = f"at least the network's receptive field of {smallest_gap} pixels"
                broken = f"sections of one frame in different splits must lie apart by {rule}, got {max(gap, 0)}"
                raise _leak(one, two, broken, "move them apart, or lower model.depth")


def _part(row: FrameRow, science: Mapping[int, ImageInfo]) -> Section:
    """Return the part of the frame that a row uses."""
    height, width = science[row.number].shape
    return row.section or Section(1, width, 1, height)


def _refuse_overlaps(rows: Sequence[FrameRow], science: Mapping[int, ImageInfo]) -> None:
    """Refuse frames of different splits whose coordinates say that they show the same sky."""
    seen = [(row, corners) for row in rows if (corners := _footprint(row, science)) is not None]
    if len(seen) < len(rows):
        logger.warning(
            "%d of %d frames have no celestial coordinates: whether they overlap others on the sky is not checked",
            len(rows) - len(seen),
            len(rows),
        )
    owners = [row for row, _ in seen]

    def parted(one: int, two: int) -> bool:
        return owners[one].split != owners[two].split

    for one, two in overlapping([corners for _, corners in seen], matters=parted):
        remedy = "put them into one field and split, or state a weaker data.split_unit"
        raise _leak(owners[one], owners[two], "frames in different splits must not overlap on the sky", remedy)


def _footprint(row: FrameRow, science: Mapping[int, ImageInfo]) -> NDArray[np.float64] | None:
    wcs = science[row.number].wcs
    if wcs is None:
        return None
    corners = footprint(wcs, _part(row, science))
    if corners is None:
        logger.warning("row %d: its coordinates are not finite at the corners, overlap is not checked", row.number)
    return corners
