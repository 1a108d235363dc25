"""Read the manifest of a set of real frames, and refuse, naming the row, what cannot be trained on."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from astrid.config import DataError, FramesData, InjectedData
from astrid.config.checks import saying_of

from .frame_units import check_units
from .frames import ImageInfo, inspect_image
from .looks import Look, look_at
from .manifest_table import (
    BIT_COLUMNS,
    CODE_COLUMNS,
    FILE_COLUMNS,
    NOTES,
    NUMBER_COLUMNS,
    REQUIRED,
    read_cells,
)
from .quality.header import SMALLEST_EDGE
from .reduction.sets import masters_key
from .rows import FrameRow, ImageFile, Section, with_unique_names
from .splits import SPLITS, assign_splits, each_by_itself, refuse_leaks

_SEEING = (0.5, 100.0)
POSSIBLE = {"fwhm": _SEEING, "reference_fwhm": _SEEING, "reference_scale": (1e-6, 1e6), "gain": (1e-6, 1e9)}
"""Lowest and highest value of these columns: seeing in pixels, a ratio of fluxes, electrons per count."""

_SEPARATORS = re.compile(r"[|;,\s]+")


def read_manifest(config: FramesData, *, receptive_field_pixels: int) -> list[FrameRow]:
    """Read a manifest, look into every file that it names, and put every row into a split, unless there are folds.

    Lines that start with # are comments. Several codes or bits are separated by |.

    Parameters
    ----------
    config : FramesData
        Where the manifest and its files are, and how they are split.
    receptive_field_pixels : int
        Edge of the square of input pixels that one output pixel sees: the smallest gap between sections of one
        frame in different splits.

    Raises
    ------
    DataError
        For anything that cannot be used, naming the row by its line in the file.
    """
    with named(config):
        rows, science, looks = read_rows(config)
        unit = config.split_unit
        parted = each_by_itself(rows, config.folds, unit=unit) if config.folds > 1 else assigned(rows, config)
        refuse_leaks(parted, science, looks, unit=unit, receptive_field_pixels=receptive_field_pixels)
    return with_unique_names(rows if config.folds > 1 else parted)


def named(config: FramesData) -> AbstractContextManager[None]:
    """Say in which manifest something is wrong."""
    return saying_of(f"{Path(config.manifest).name}, ")


def read_rows(config: FramesData) -> tuple[list[FrameRow], dict[int, ImageInfo], dict[int, Look]]:
    """Read the rows and look into every file; return them with what their frames are and show, by row number."""
    rows = [_parse_row(line, cells, Path(config.root)) for line, cells in read_cells(Path(config.manifest))]
    on_grid = config.preprocess.register == "none"
    science = {row.number: _inspect_row(row, on_grid=on_grid) for row in rows}
    for column in ("reference",) if isinstance(config, InjectedData) else ("reference", "target"):
        _refuse_mixed(rows, column)  # what is injected is the truth of every row, whether it has a target or not
    looks = look_at(rows, config)
    _refuse_duplicates(rows, looks)
    rows = [
        dataclasses.replace(row, picture=looks[row.number].science, positives=looks[row.number].positives)
        for row in rows
    ]
    return rows, science, looks


def assigned(rows: Sequence[FrameRow], config: FramesData) -> list[FrameRow]:
    """Give every row its split, as `assign_splits` does with the fractions and the seed of the configuration."""
    fractions = {"val_fraction": config.val_fraction, "test_fraction": config.test_fraction}
    return assign_splits(rows, **fractions, seed=config.split_seed, unit=config.split_unit)


def fingerprint_rows(rows: Sequence[FrameRow], config: FramesData) -> str:
    """Return the SHA-256 of everything that decides the prepared fields: file contents, rows, preparation knobs.

    Where the files lie doesn't count, so that a copy elsewhere has the same fingerprint.
    """
    masters = masters_key(config.preprocess, Path(config.root))
    text = json.dumps([[describe_row(row) for row in rows], config.background_box, masters], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def describe_row(row: FrameRow) -> dict[str, object]:
    """Return everything that a row says, and of files their content, wherever they lie."""
    return {
        name: [value.digest(), value.hdu] if isinstance(value, ImageFile) else str(value)
        for name, value in vars(row).items()
    }


def _parse_row(line: int, cells: dict[str, str], root: Path) -> FrameRow:
    """Turn the cells of a row into what they mean."""
    filled = {column: text for column, text in cells.items() if text and column not in NOTES}
    for column in REQUIRED:
        if column not in filled:
            raise DataError(f"row {line}: {column} must not be empty; fill it")
    try:
        _check_company(filled)
        values: dict[str, Any] = {
            column: ImageFile.parse(filled[column], root) for column in FILE_COLUMNS if column in filled
        }
        values |= {column: _bit_mask(column, filled[column]) for column in BIT_COLUMNS if column in filled}
        values |= {column: _whole_numbers(column, filled[column]) for column in CODE_COLUMNS if column in filled}
        values |= {
            name: _possible(column, filled[column]) for column, name in NUMBER_COLUMNS.items() if column in filled
        }
        values["section"] = Section.parse(filled["section"]) if "section" in filled else None
        _check_labels(values)
        values["night"] = filled.get("night")
        return FrameRow(number=line, name=filled["field"], field=filled["field"], split=_split(filled), **values)
    except DataError as error:
        raise DataError(f"row {line}: {error}") from error


def _check_company(filled: dict[str, str]) -> None:
    """Refuse columns that contradict each other or lack the one that they are about."""
    needs = {"reference_fwhm": "reference", "reference_scale": "reference"}
    for plane in ("target", "mask"):
        bits, codes = (
            [name for name in names if name in filled and (name.startswith("mask") == (plane == "mask"))]
            for names in (BIT_COLUMNS, CODE_COLUMNS)
        )
        if bits and codes:
            exclude = f"{bits[0]} and {codes[0]} exclude each other"
            raise DataError(f"{exclude}: a plane holds bits or codes; empty one of them")
        needs |= dict.fromkeys((*bits, *codes), plane)
    for column, needed in needs.items():
        if column in filled and needed not in filled:
            raise DataError(f"{column} is about the {needed}, which is empty; name its file in column {needed!r}")


def _check_labels(values: dict[str, Any]) -> None:
    """Refuse a bit or a code that means two things."""
    for kind in ("bits", "codes"):
        seen: dict[int, str] = {}
        for column in (f"target_{kind}", f"ignore_{kind}", f"unlabelled_{kind}"):
            given = values.get(column, ())
            for number in (1 << bit for bit in range(64) if given >> bit & 1) if isinstance(given, int) else given:
                if seen.setdefault(number, column) != column:
                    raise DataError(f"{number} must not be in both {seen[number]} and {column}; leave it in one")


def _split(filled: dict[str, str]) -> Any:
    split = filled.get("split")
    if split not in (*SPLITS, None):
        raise DataError(f"split must be train, val or test, got {split!r}; mend it, or leave the column out")
    return split


def _whole_numbers(column: str, text: str) -> tuple[int, ...]:
    try:
        return tuple(int(number, 0) for number in _SEPARATORS.split(text) if number)
    except ValueError:
        remedy = "256|2048 or 0x1000: bit n has the value 2**n" if column in BIT_COLUMNS else "3|4"
        raise DataError(f"{column} must be whole numbers separated by |, got {text!r}; try {remedy}") from None


def _bit_mask(column: str, text: str) -> int:
    mask = 0
    for number in _whole_numbers(column, text):
        if not 0 < number < 2**64:
            rule = f"{column} must be values of bits from 1 to 2**63, got {number}"
            raise DataError(f"{rule}; try 4096 or 256|2048: bit n has the value 2**n")
        mask |= number
    return mask


def _possible(column: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    low, high = POSSIBLE[column]
    if not low <= number <= high:
        raise DataError(
            f"{column} must be a number from {low:g} to {high:g}, got {text!r}; leave it empty to have it measured"
        )
    return number


def _refuse_mixed(rows: Sequence[FrameRow], column: str) -> None:
    """Refuse rows with and without an image that all must have: fields of other channels, or without any truth."""
    given = [row.number for row in rows if getattr(row, column) is not None]
    empty = [row.number for row in rows if getattr(row, column) is None]
    remedies = {
        "reference": "split the manifest in two",
        "target": "where nothing is to be found, name a plane of zeros",
    }
    if given and empty:
        raise DataError(
            f"row {empty[0]}: every row or none must have a {column}, row {given[0]} has one and row {empty[0]} "
            f"hasn't; {remedies[column]}"
        )


def refuse_without_truth(rows: Sequence[FrameRow]) -> None:
    """Refuse rows of which none has a target.

    Raises
    ------
    DataError
        Naming the first row, and what makes a truth where there is none.
    """
    if all(row.target is None for row in rows):
        rule = "column 'target' must be filled, or there is no truth to learn or to judge by"
        plane = "name the plane that marks what is to be found, or a plane of zeros where nothing is"
        remedy = f"{plane}; or plant transients with data=injected"
        raise DataError(f"row {rows[0].number}: {rule}; {remedy}")


def _inspect_row(row: FrameRow, *, on_grid: bool) -> ImageInfo:
    """Look into every file of a row, compare their shapes, and return what the science frame is.

    A reference has another shape only where it isn't yet on the grid of the science frame.
    """
    try:
        infos = {column: inspect_image(image.path, hdu=image.hdu) for column, image in row.images.items()}
        science = infos["science"]
        if min(science.shape) < SMALLEST_EDGE:
            rule = f"at least {SMALLEST_EDGE} pixels along each axis, got {_size(science.shape)}"
            raise DataError(f"science must have {rule}: there is neither sky nor star to measure; leave it out")
        for column, info in infos.items():
            if info.shape != science.shape and (on_grid or column != "reference"):
                shapes = f"{_size(info.shape)} where science has {_size(science.shape)}"
                raise DataError(f"{column} must have the shape of science, got {shapes}; bring them onto one grid")
        if row.psf is not None:
            inspect_image(row.psf.path, hdu=row.psf.hdu)
        check_units(infos)
        if row.section is not None and not row.section.fits_in(science.shape):
            raise DataError(f"section {row.section} must lie in the frame of {_size(science.shape)} pixels; shrink it")
    except DataError as error:
        raise DataError(f"row {row.number}: {error}") from error
    return science


def _size(shape: tuple[int, int]) -> str:
    return f"{shape[1]}x{shape[0]}"


def _refuse_duplicates(rows: Sequence[FrameRow], looks: Mapping[int, Look]) -> None:
    """Refuse a frame, or a section of it, that is listed twice, under whatever file name and however it is packed."""
    seen: dict[tuple[str, Section | None], int] = {}
    for row in rows:
        first = seen.setdefault((looks[row.number].science, row.section), row.number)
        if first != row.number:
            raise DataError(f"row {row.number}: science must occur once, row {first} has the same frame; remove one")
