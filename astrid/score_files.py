"""Planes to score, ours or another tool's, from files."""

from __future__ import annotations

import csv
import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from astrid.config import DataError
from astrid.data.frames import inspect_image, read_image
from astrid.data.rows import ImageFile
from astrid.scored_planes import Numbers, Planes, check_planes

log = logging.getLogger(__name__)

COLUMNS = ("scores", "truth", "valid")
"""Of a list of fields; the last may be left out."""


def read_planes(scores: str, truth: str, valid: str | None, *, logits: bool, folder: Path = Path()) -> Planes:
    """Read the files of one field, whose names start at the folder, and refuse what can't be scored.

    Raises
    ------
    DataError
        Naming the argument, where a file is missing, damaged or holds what can't be scored.
    """
    if scores == truth:
        raise DataError(f"TRUTH must be another image than SCORES, got {truth} for both; name an extension of each")
    files = {"SCORES": scores, "TRUTH": truth, "--valid": valid or None}
    found = {name: read_numbers(file, argument=name, folder=folder) for name, file in files.items() if file is not None}
    return check_planes(found["SCORES"], found["TRUTH"], found.get("--valid"), logits=logits)


def read_list(path: Path, *, logits: bool) -> dict[str, Planes]:
    """Read the fields that a CSV lists, a row each with the columns scores, truth and, where there is one, valid.

    Names start at the folder of the list. A field is called by its scores' name.

    Raises
    ------
    DataError
        Naming the line, for what is missing, given twice or can't be scored.
    """
    fields: dict[str, Planes] = {}
    for number, row in _rows(path):
        name = row["scores"]
        try:
            if name in fields:
                raise DataError(f"scores must be given once, got {name} again; leave one of its lines out")
            valid = row.get("valid")
            fields[name] = read_planes(name, row["truth"], valid, logits=logits, folder=path.parent)
        except DataError as error:
            raise DataError(f"{path}, line {number}: {error}") from error
    if not fields:
        raise DataError(f"{path} must list fields, got none; write a line of files for each")
    return fields


def _rows(path: Path) -> list[tuple[int, Mapping[str, str]]]:
    """Return the rows of a list with the numbers of their lines."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file, strict=True)
            rows: list[tuple[int, Mapping[str, str]]] = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"--list must be a CSV file, got {path}: {error}; check its name") from error
    named = set(reader.fieldnames or ())
    if not {"scores", "truth"} <= named or named - set(COLUMNS):
        rule, remedy = "have the columns scores, truth and, if need be, valid", "name them in its first line"
        raise DataError(f"{path} must {rule}, got {', '.join(sorted(named)) or 'none'}; {remedy}")
    for number, row in rows:
        if None in row or not row["scores"] or not row["truth"]:
            raise DataError(f"{path}, line {number}: a row must name scores and truth, and nothing more")
    return rows


def read_numbers(file: str, *, argument: str, folder: Path = Path()) -> Numbers:
    """Read an array of numbers of any shape from `.npy`, or a picture (H, W) from FITS, as `frame.fits[SCI]` too.

    Raises
    ------
    DataError
        Naming the argument, where the file is missing, damaged or holds no numbers.
    """
    if not file.endswith((".npy", ".npz")):
        return _read_picture(ImageFile.parse(file, folder))
    path = folder / file
    if not path.is_file():
        raise DataError(f"{argument} must be a file, got {path}, which isn't there; check its name")
    if file.endswith(".npz"):
        raise DataError(f"{argument} must be one array, got the archive {path}; save the array as .npy")
    try:
        values = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{argument} must be FITS or an array in .npy, got {path}: {error}; save it again") from error
    if values.dtype.kind not in "biuf":
        raise DataError(f"{argument} must hold numbers, got {path} of {values.dtype}; save it as float32")
    return np.asarray(values)


def _read_picture(source: ImageFile) -> Numbers:
    """Read the image that is named, or the first of a file, and say which where there are more."""
    info = inspect_image(source.path, hdu=source.hdu)
    if source.hdu is None and len(info.names) > info.hdu + 1:
        named = info.names[info.hdu] or info.hdu
        log.info("%s: HDU %s of %d is read; name another in brackets", source.path, named, len(info.names))
    return np.asarray(read_image(source.path, hdu=source.hdu).data)
