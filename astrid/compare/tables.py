"""A comparison as text: aligned table, Markdown, CSV, JSON."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .numbers import UNAVAILABLE, count, measured
from .ranking import Comparison, Group, Row, tally

FORMATS = ("table", "csv", "json", "markdown")
NUMBER = rf"|{UNAVAILABLE}|-?[\d.,]+(e[+-]\d+)?( \[.*\])?"
MOST_VALUES = 8  # of a key that differs, in text for people


def render(comparison: Comparison, form: str, *, limit: int | None = None) -> str:
    """Write a comparison in one of `FORMATS`, the best `limit` runs of each set of data only."""
    match form:
        case "csv":
            return to_csv(comparison, limit)
        case "json":
            return json.dumps(to_json(comparison, limit), indent=2) + "\n"
        case "markdown":
            return to_text(comparison, limit, markdown=True)
    return to_text(comparison, limit, markdown=False)


def to_text(comparison: Comparison, limit: int | None, *, markdown: bool) -> str:
    """Write what a person wants to read: ranks, how sure they are, what was left out, what differs."""
    draw = markdown_table if markdown else aligned
    better = "lower" if comparison.lower_is_better else "higher"
    parts = [f"{comparison.metric}, {better} is better"]
    parts += [f"{note}." for note in comparison.notes]
    for group in comparison.groups:
        parts += [_heading(comparison, group, limit), draw([titles(comparison), *shown(group, limit)])]
        parts.append(f"{group.verdict}.")
    if comparison.left_out:
        rows = [[run.name, reason, run.run_id] for run, reason in comparison.left_out]
        parts += ["Not ranked:", draw([["run", "status", "id"], *rows])]
    parts += _differences(comparison, draw)
    return "\n\n".join(part for part in parts if part) + "\n"


def titles(comparison: Comparison) -> list[str]:
    """Return the column heads of `shown`."""
    return ["rank", "run", comparison.metric, "depth", "filters", "parameters", "wall s", "kWh", "latency ms"]


def shown(group: Group, limit: int | None) -> list[list[str]]:
    """Return the cells of a group's rows, for people."""
    return [cells(row) for row in group.rows[:limit]]


def cells(row: Row) -> list[str]:
    """Return what a table shows of a run."""
    return [
        str(row.rank),
        row.run.name,
        row.text,
        count(row.depth),
        count(row.filters),
        count(row.parameters),
        measured(row.seconds, 3),
        measured(row.kwh, 2, absent=UNAVAILABLE),
        measured(row.latency_ms, 2),
    ]


def sort_keys(row: Row) -> list[str | float | None]:
    """Return what the columns of `cells` sort by."""
    numbers = (row.depth, row.filters, row.parameters, row.seconds, row.kwh, row.latency_ms)
    return [row.rank, row.run.name, row.value, *numbers]


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Write rows in aligned columns, the first row as their heads; columns of numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    right = [_is_numeric([row[column] for row in rows[1:]]) for column in range(len(widths))]
    lines = []
    for row in rows:
        padded = [
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        ]
        lines.append("  ".join(padded).rstrip())
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """Write rows as a Markdown table, the first row as its heads."""
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    lines = [f"| {' | '.join(row)} |" for row in escaped]
    return "\n".join([lines[0], f"|{' --- |' * len(rows[0])}", *lines[1:]])


def to_csv(comparison: Comparison, limit: int | None) -> str:
    """Write one line a run, with full digits, every key that differs, and blanks for what is unknown."""
    records = _records(comparison, limit)
    keys = list(comparison.differences)
    heads = list(records[0]) if records else []
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*heads, *keys])
    for record in records:
        values = [comparison.differences[key][record["run_id"]] for key in keys]
        writer.writerow([*record.values(), *values])
    return out.getvalue()


def to_json(comparison: Comparison, limit: int | None) -> dict[str, Any]:
    """Return the comparison as plain values, with full digits and null for what is unknown."""
    return {
        "metric": comparison.metric,
        "lower_is_better": comparison.lower_is_better,
        "notes": comparison.notes,
        "data": [
            {"number": group.number, "fingerprint": group.fingerprint or None, "verdict": group.verdict}
            for group in comparison.groups
        ],
        "runs": _records(comparison, limit),
        "differences": comparison.differences,
    }


def _records(comparison: Comparison, limit: int | None) -> list[dict[str, Any]]:
    ranked = [_record(comparison, group, row) for group in comparison.groups for row in group.rows[:limit]]
    blank = dict.fromkeys(_FIELDS)
    others = [{**blank, "run": run.name, "run_id": run.run_id, "status": reason} for run, reason in comparison.left_out]
    return ranked + others


_FIELDS = (
    *("rank", "data", "run", "run_id", "status", "metric", "value", "low", "high"),
    *("depth", "filters", "parameters", "seconds", "energy_kwh", "latency_p50_ms"),
)


def _record(comparison: Comparison, group: Group, row: Row) -> dict[str, Any]:
    values = (
        *(row.rank, group.number, row.run.name, row.run.run_id, "finished"),
        *(comparison.metric, row.value, row.low, row.high),
        *(row.depth, row.filters, row.parameters, row.seconds, row.kwh, row.latency_ms),
    )
    return dict(zip(_FIELDS, values, strict=True))


def _heading(comparison: Comparison, group: Group, limit: int | None) -> str:
    data = f"Data {group.number} ({group.fingerprint[:12] or 'no fingerprint'})" if len(comparison.groups) > 1 else ""
    hidden = len(group.rows) - len(group.rows[:limit])
    cut = f"the best {limit} of {len(group.rows)} runs" if hidden else ""
    return ", ".join(part for part in (data, cut) if part)


def _differences(comparison: Comparison, draw: Callable[[Sequence[Sequence[str]]], str]) -> list[str]:
    if not comparison.differences:
        return ["Their configurations are the same."]
    rows = [[key, summary(by_run)] for key, by_run in comparison.differences.items()]
    return ["What differs in their configurations:", draw([["key", "values"], *rows])]


def summary(by_run: Mapping[str, str]) -> str:
    """Write the values of a key with how many runs have each; of many values the first and the last."""
    values = tally(by_run)
    if len(values) > MOST_VALUES:
        return f"{len(values)} values, {values[0][0]} to {values[-1][0]}"
    return ", ".join(f"{value} ({number}x)" for value, number in values)


def _is_numeric(column: Sequence[str]) -> bool:
    return any(column) and all(re.fullmatch(NUMBER, cell) for cell in column)
