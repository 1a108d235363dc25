"""The columns of a manifest, and its rows as they are written."""

from __future__ import annotations

import csv
import difflib
from collections import Counter
from pathlib import Path

from astrid.config import DataError

IMAGE_COLUMNS = ("science", "reference", "target", "mask", "valid", "weight")
BIT_COLUMNS = ("target_bits", "ignore_bits", "unlabelled_bits", "mask_bits")
CODE_COLUMNS = ("target_codes", "ignore_codes", "unlabelled_codes", "mask_codes")
NOTES = ("filter", "exposure", "mjd")
"""Columns for people and for other tools, as `astrid manifest` writes them; nothing here reads them."""
NUMBER_COLUMNS = {
    "fwhm": "fwhm_pixels",
    "reference_fwhm": "reference_fwhm_pixels",
    "reference_scale": "reference_scale",
    "gain": "gain",
}
FILE_COLUMNS = (*IMAGE_COLUMNS, "psf")
"""Columns that name a file; the images among them have one shape."""
COLUMNS = ("field", *FILE_COLUMNS, *BIT_COLUMNS, *CODE_COLUMNS, "section", "split", "night", *NUMBER_COLUMNS)
REQUIRED = ("field", "science")


def read_cells(path: Path) -> list[tuple[int, dict[str, str]]]:
    """Return the line number and the cells by column of each row that isn't empty or a comment."""
    if not path.is_file():
        raise DataError(f"data.manifest: there is no file {path}; check the name, relative to the working directory")
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.reader(stream, strict=True)
            lines = [(reader.line_num, [cell.strip() for cell in line]) for line in reader]
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"the file must be a comma-separated table in UTF-8 ({error}); save it as one") from error
    lines = [(number, cells) for number, cells in lines if any(cells) and not cells[0].startswith("#")]
    _refuse_other_separators(lines)
    if len(lines) < 2:
        raise DataError(f"the file must have a header and at least a row, got {len(lines)} lines; add a row a frame")
    (first, header), *rest = lines
    _check_header(first, header)
    for number, cells in rest:
        if len(cells) != len(header):
            raise DataError(
                f"row {number}: must have {len(header)} cells like the header, got {len(cells)}; count its commas"
            )
    return [(number, dict(zip(header, cells, strict=True))) for number, cells in rest]


def _refuse_other_separators(lines: list[tuple[int, list[str]]]) -> None:
    for separator, name in ((";", "semicolons"), ("\t", "tabs")):
        if lines and len(lines[0][1]) == 1 and separator in lines[0][1][0]:
            raise DataError(f"row {lines[0][0]}: cells must be separated by commas, got {name}; save it with commas")


def _check_header(line: int, header: list[str]) -> None:
    for column, count in Counter(header).items():
        if column not in (*COLUMNS, *NOTES):
            nearest = difflib.get_close_matches(column.lower(), COLUMNS, n=1, cutoff=0.0)[0]
            known = ", ".join((*COLUMNS, *NOTES))
            raise DataError(f"row {line}: there is no column {column!r}; did you mean {nearest!r}? Known are {known}")
        if count > 1:
            raise DataError(f"row {line}: column {column!r} must occur once, got {count}; remove the others")
    for column in REQUIRED:
        if column not in header:
            raise DataError(f"row {line}: column {column!r} must be there, got {', '.join(header)}; add it")
