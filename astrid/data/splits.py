"""Put fields into training, validation and test, and refuse what one would tell another."""

from __future__ import annotations

import dataclasses
import itertools
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypeVar, cast

import numpy as np
from astropy.wcs import WCS
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from astrid.config import DataError

from .copies import find_copies
from .footprints import footprint, overlapping
from .frames import ImageInfo
from .looks import Look
from .rows import FrameRow, Section, Split

Group = TypeVar("Group", str, int)
Unit = Literal["field", "night", "exposure", "section"]

logger = logging.getLogger(__name__)

SPLITS: tuple[Split, ...] = ("train", "val", "test")


def group_rows(rows: Sequence[FrameRow], unit: Unit) -> list[str]:
    """Return the name of the group of each row, which no split parts.

    A field; with `night`, fields that share a night, and nights that share a field, in a chain; with `exposure` and
    `section`, the exposure or its section.

    Raises
    ------
    DataError
        If nights decide, and a row has none.
    """
    if unit == "exposure":
        return [str(row.picture) for row in rows]
    if unit == "section":
        return [row.origin for row in rows]
    if unit == "field":
        return [row.field for row in rows]
    for row in rows:
        if row.night is None:
            rule = "data.split_unit=night needs the night of every row, which is empty"
            raise DataError(f"row {row.number}: {rule}; fill column 'night', or state another data.split_unit")
    return _chained([row.field for row in rows], [str(row.night) for row in rows])


def positive_groups(rows: Sequence[FrameRow], unit: Unit) -> set[str]:
    """Return the groups of which a row has positives, by the names that `group_rows` gives them."""
    return {group for group, row in zip(group_rows(rows, unit), rows, strict=True) if row.positives}


def _chained(fields: Sequence[str], nights: Sequence[str]) -> list[str]:
    """Name each row by the first field of those that share a night with its own, in a chain."""
    names = sorted(set(fields))
    left, right = (np.unique(column, return_inverse=True)[1] for column in (fields, nights))
    size = len(names) + len(set(nights))
    graph = coo_array((np.ones(len(left)), (left, right + len(names))), shape=(size, size))
    groups = connected_components(graph, directed=False)[1][: len(names)].tolist()
    first: dict[int, str] = {}
    for name, group in zip(names, groups, strict=True):
        first.setdefault(group, name)
    return [first[groups[field]] for field in left]


def assign_splits(
    rows: Sequence[FrameRow], *, val_fraction: float, test_fraction: float, seed: int, unit: Unit = "field"
) -> list[FrameRow]:
    """Give every row a split: the one in the manifest, or whole groups at random where it names none.

    Groups with positives and those without are drawn apart, so that each split has its share of both.

    Parameters
    ----------
    rows : sequence of FrameRow
        All with a split or all without.
    val_fraction, test_fraction : float
        Share of the groups, at least one, that validates and tests.
    seed : int
        Of the assignment, which doesn't depend on the order of the rows.
    unit : {"field", "night", "exposure", "section"}
        What is drawn, as `group_rows` says.

    Raises
    ------
    DataError
        If some rows have a split and others don't, or a split stays empty.
    """
    without = [row.number for row in rows if row.split is None]
    if 0 < len(without) < len(rows):
        raise DataError(f"row {without[0]}: split must be filled in every row or in none; fill it")
    if without:
        groups = group_rows(rows, unit)
        shares = (val_fraction, test_fraction)
        splits = _draw_splits(set(groups), positive_groups(rows, unit), shares=shares, seed=seed, unit=unit)
        return [dataclasses.replace(row, split=splits[group]) for group, row in zip(groups, rows, strict=True)]
    for split in SPLITS:
        if all(row.split != split for row in rows):
            raise DataError(f"split {split!r} must have a row, got none among {len(rows)}; give it one")
    return list(rows)


def _draw_splits(
    groups: set[str], positive: set[str], *, shares: tuple[float, float], seed: int, unit: Unit
) -> dict[str, Split]:
    counts = [max(1, round(share * len(groups))) for share in shares]
    if sum(counts) >= len(groups):
        what = {"night": "groups of fields and nights"}.get(unit, f"{unit}s")
        raise DataError(
            f"its {len(groups)} {what} must fill train, val and test, but val takes {counts[0]} and test {counts[1]}; "
            f"add {what}, lower data.val_fraction and data.test_fraction, or add a split column"
        )
    rng = np.random.default_rng(seed)
    if not 0 < len(positive) < len(groups):
        return deal(sorted(groups), counts, rng=rng)
    own = share_out(len(positive), shares)
    if 0 in own:
        logger.warning(
            "%d %ss have positives, too few for train, val and test: %s has none", len(positive), unit, _lacking(own)
        )
    own = [min(own_count, count) for own_count, count in zip(own, counts, strict=True)]
    rest = [count - own_count for count, own_count in zip(counts, own, strict=True)]
    return deal(sorted(positive), own, rng=rng) | deal(sorted(groups - positive), rest, rng=rng)


def share_out(count: int, shares: tuple[float, float]) -> list[int]:
    """Return how many of so many groups validate and test: one trains first, then one tests, then one validates.

    Parameters
    ----------
    count : int
    shares : (float, float)
        What share of them validates, and what share tests, where they suffice.
    """
    if count < len(SPLITS):
        return [0, max(0, count - 1)]
    own = [max(1, round(share * count)) for share in shares]
    while sum(own) >= count:
        own[int(own[1] > own[0])] -= 1
    return own


def _lacking(own: Sequence[int]) -> str:
    return " and ".join(split for split, count in zip(SPLITS[1:], own, strict=True) if count == 0)


def deal(groups: Sequence[Group], counts: Sequence[int], *, rng: np.random.Generator) -> dict[Group, Split]:
    """Put so many groups at random into val and test, and the rest into train."""
    shuffled = [groups[index] for index in rng.permutation(len(groups))]
    val, test = counts
    splits: dict[Group, Split] = dict.fromkeys(shuffled, "train")
    return splits | dict.fromkeys(shuffled[:val], "val") | dict.fromkeys(shuffled[val : val + test], "test")


def each_by_itself(rows: Sequence[FrameRow], folds: int, *, unit: Unit) -> list[FrameRow]:
    """Return the rows with each group as its own split: sooner or later the folds part any two of them.

    Raises
    ------
    DataError
        Where the manifest names splits.
    """
    for row in rows:
        if row.split is not None:
            remedy = "leave the column out, or say data.folds=1"
            raise DataError(f"row {row.number}: data.folds must be 1 with a split column, got {folds}; {remedy}")
    groups = group_rows(rows, unit)
    return [dataclasses.replace(row, split=cast(Split, group)) for row, group in zip(rows, groups, strict=True)]


def refuse_leaks(
    rows: Sequence[FrameRow],
    science: Mapping[int, ImageInfo],
    looks: Mapping[int, Look],
    *,
    unit: Unit,
    receptive_field_pixels: int,
) -> None:
    """Refuse rows in different splits that share what the unit forbids, and what weaker units forbid.

    Parameters
    ----------
    rows : sequence of FrameRow
        Each with its split.
    science : mapping of int to ImageInfo
        What the science frame of each row is, by row number.
    looks : mapping of int to Look
        What tells its frames from others, by row number.
    unit : {"field", "night", "exposure", "section"}
        `section` forbids shared pixels, turned, mirrored or cut as they may be, and sections of one frame closer than
        the receptive field, be it science frame in both splits or reference in one; `exposure` also anything from the
        same science file, and a reference that is a science frame of another split; `field` also the same field, the
        same reference and overlap on the sky; `night` also the same night.
    receptive_field_pixels : int
        Smallest gap between sections of one frame.

    Raises
    ------
    DataError
        Naming the two rows and what they share.
    """
    if unit == "night":
        remedy = "put them into one split, or say data.split_unit=field"
        group_rows(rows, unit)  # refuses rows without a night
        _refuse_shared(rows, lambda row: row.night, what="night", remedy=remedy)
    of_sky = unit in ("field", "night")
    if of_sky:
        remedy = "put them into one split, or state a weaker data.split_unit"
        _refuse_shared(rows, lambda row: row.field, what="field", remedy=remedy)
        _refuse_shared(rows, lambda row: looks[row.number].reference, what="reference", remedy=remedy)
    if unit != "section":
        remedy = "put them into one split, or divide the frame with data.split_unit=section"
        _refuse_shared(rows, lambda row: row.science.digest(), what="science file", remedy=remedy)
        _refuse_shared(rows, lambda row: looks[row.number].science, what="science frame", remedy=remedy)
    _refuse_shown_science(rows, looks, smallest_gap=receptive_field_pixels if unit == "section" else None)
    _refuse_close_sections(rows, looks, smallest_gap=receptive_field_pixels)
    _refuse_copies(rows, looks, share_references=not of_sky)
    if of_sky:
        _refuse_overlaps(rows, science, looks)


def _leak(one: FrameRow, two: FrameRow, broken: str, remedy: str) -> DataError:
    return DataError(f"rows {one.number} ({one.split}) and {two.number} ({two.split}): {broken}; {remedy}")


def _refuse_shared(rows: Sequence[FrameRow], key: Callable[[FrameRow], str | None], *, what: str, remedy: str) -> None:
    """Refuse rows of different splits with the same key; None is shared with nobody."""
    first: dict[str, FrameRow] = {}
    for row in rows:
        shared = key(row)
        if shared is not None and first.setdefault(shared, row).split != row.split:
            raise _leak(first[shared], row, f"different splits must not share a {what}", remedy)


def _refuse_shown_science(rows: Sequence[FrameRow], looks: Mapping[int, Look], *, smallest_gap: int | None) -> None:
    """Refuse a reference that is a science frame of another split; with a gap, where their parts lie closer."""
    shown: dict[str | None, list[FrameRow]] = {}
    for row in rows:
        shown.setdefault(looks[row.number].reference, []).append(row)
    for row in rows:
        look = looks[row.number]
        for other in shown.get(look.science, []):
            gap = look.part.gap_to(looks[other.number].reference_part)
            if other.split != row.split and (smallest_gap is None or gap < smallest_gap):
                broken = "the reference of the first must not be the science frame of the second"
                if smallest_gap is not None:
                    broken += f", unless their sections lie apart by {_too_close(gap, smallest_gap)}"
                raise _leak(other, row, broken, "put them into one split, or name another reference")


def _refuse_close_sections(rows: Sequence[FrameRow], looks: Mapping[int, Look], *, smallest_gap: int) -> None:
    frames: dict[str, list[FrameRow]] = {}
    for row in rows:
        frames.setdefault(looks[row.number].science, []).append(row)
    for parts in frames.values():
        for one, two in itertools.combinations(parts, 2):
            gap = looks[one.number].part.gap_to(looks[two.number].part)
            if one.split != two.split and gap < smallest_gap:
                rule = f"sections of one frame in different splits must lie apart by {_too_close(gap, smallest_gap)}"
                raise _leak(one, two, rule, "move them apart, or lower model.depth")


def _too_close(gap: int, smallest_gap: int) -> str:
    return f"at least the network's receptive field of {smallest_gap} pixels, got {max(gap, 0)}"


def _refuse_copies(rows: Sequence[FrameRow], looks: Mapping[int, Look], *, share_references: bool) -> None:
    """Refuse rows of different splits that share pixels, but for references that do so among each other, if allowed."""
    numbers = {split: number for number, split in enumerate(dict.fromkeys(row.split for row in rows))}
    keys = [looks[row.number].science_keys for row in rows] + [looks[row.number].reference_keys for row in rows]
    may_share = [False] * len(rows) + [share_references] * len(rows)
    found = find_copies(keys, 2 * [numbers[row.split] for row in rows], may_share=may_share)
    if found is not None:
        one, two = sorted((rows[number % len(rows)] for number in found), key=lambda row: row.number)
        broken = "frames in different splits must not share pixels, and these do, as they are, turned, mirrored or cut"
        raise _leak(one, two, broken, "put them into one split, or remove the copy")


def _refuse_overlaps(rows: Sequence[FrameRow], science: Mapping[int, ImageInfo], looks: Mapping[int, Look]) -> None:
    """Refuse frames of different splits whose coordinates say that they show the same sky."""
    outlines = [(row, _footprint(row, science[row.number].wcs, part=looks[row.number].part)) for row in rows]
    seen = [(row, corners) for row, corners in outlines if corners is not None]
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


def _footprint(row: FrameRow, wcs: WCS | None, *, part: Section) -> NDArray[np.float64] | None:
    if wcs is None:
        return None
    corners = footprint(wcs, part)
    if corners is None:
        logger.warning("row %d: its coordinates are not finite at the corners, overlap is not checked", row.number)
    return corners
