"""What a table says about alert packets: which are real, which are not."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Literal

from astrid.config import AlertsData, DataError

Label = Literal["positive", "negative"] | None
"""What a candidate is; None: nobody knows."""

_ID_COLUMNS = ("candid", "diaSourceId")


def read_labels(path: Path, config: AlertsData) -> dict[int, Label]:
    """Read what a CSV says about packets: by number, positive, negative or None for an empty cell.

    Raises
    ------
    DataError
        Naming the line.
    """
    if not path.is_file():
        raise DataError(f"data.labels: there is no file {path}; check the name, relative to the working directory")
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream, strict=True)
            column = next((name for name in _ID_COLUMNS if name in (reader.fieldnames or ())), None)
            if column is None or "label" not in (reader.fieldnames or ()):
                rule = f"a column label and one of {', '.join(_ID_COLUMNS)}"
                raise DataError(f"{path.name} must have {rule}, got {reader.fieldnames}; add them")
            return _labels_by_number(path, reader, column=column, config=config)
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{path.name} must be a comma-separated table in UTF-8 ({error}); save it as one") from error


def _labels_by_number(path: Path, reader: csv.DictReader[str], *, column: str, config: AlertsData) -> dict[int, Label]:
    meaning: dict[str, Label] = {"": None}
    meaning.update(dict.fromkeys(config.positive_labels, "positive"))
    meaning.update(dict.fromkeys(config.negative_labels, "negative"))
    labels: dict[int, Label] = {}
    for line in reader:
        where = f"{path.name}, line {reader.line_num}"
        number, text = (line.get(column) or "").strip(), (line.get("label") or "").strip()
        if not number.isdecimal():
            raise DataError(f"{where}: {column} must be a whole number, got {number!r}; mend it")
        if text not in meaning:
            known = ", ".join(name for name in meaning if name)
            raise DataError(f"{where}: label must be empty or one of {known}, got {text!r}; add it to data.*_labels")
        if labels.setdefault(int(number), meaning[text]) != meaning[text]:
            raise DataError(f"{where}: {column} {number} has another label above; remove one")
    return labels
