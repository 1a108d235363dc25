"""A run's tables as files: JSON as MLflow's pages show it, and Parquet for whoever computes with it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

Cell = str | float | None


@dataclass(frozen=True)
class Table:
    """Rows of text and finite numbers under named columns; None where there is nothing.

    `units` names the unit of a column's numbers, where it has one; Parquet keeps it with the column.
    """

    columns: list[str]
    rows: list[list[Cell]]
    units: Mapping[str, str] = field(default_factory=dict)


def write_table(table: Table, path: Path, *, about: Mapping[str, str]) -> list[Path]:
    """Write a table as `path.json` and `path.parquet` and return where.

    Parameters
    ----------
    table : Table
    path : Path
        Without an ending.
    about : mapping of text
        What the Parquet file says of itself beside pandas' own notes, as the name of the run.

    Examples
    --------
    >>> frame = pandas.read_parquet("outputs/runs/A/tables/epochs.parquet")      # doctest: +SKIP
    >>> pyarrow.parquet.read_schema(path).field("p50_ms").metadata               # doctest: +SKIP
    {b'unit': b'ms'}
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    as_json, as_parquet = (path.with_name(f"{path.name}.{ending}") for ending in ("json", "parquet"))
    as_json.write_text(json.dumps({"columns": table.columns, "data": table.rows}, allow_nan=False))
    arrays = [_column([row[number] for row in table.rows]) for number in range(len(table.columns))]
    fields = [
        pa.field(name, array.type, metadata={"unit": table.units[name]} if name in table.units else None)
        for name, array in zip(table.columns, arrays, strict=True)
    ]
    schema = pa.schema(fields, metadata={f"astrid.{key}": value for key, value in about.items()})
    pq.write_table(pa.table(arrays, schema=schema), as_parquet)
    return [as_json, as_parquet]


def _column(cells: Sequence[Cell]) -> pa.Array:
    """Return the cells as one type; a column without anything is one of numbers."""
    import pyarrow as pa

    return pa.array(cells, pa.float64() if all(cell is None for cell in cells) else None)
