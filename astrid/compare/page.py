"""A comparison as one HTML file, which loads nothing: data, style and scripts are inside.

What the page shows is computed here; the scripts of `assets/` only draw.
"""

from __future__ import annotations

import html
import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from astrid.config import EPOCH_METRICS
from astrid.report.page import PALETTE

from .numbers import significant
from .ranking import Comparison, Group, Row, number_in, order
from .tables import cells, sort_keys, summary, titles

ASSETS = Path(__file__).with_name("assets")
SCRIPTS = ("draw.js", "table.js", "curves.js", "heatmap.js", "pareto.js", "parallel.js", "main.js")
MOST_POINTS = 200  # of a curve
MOST_AXES = 8  # of the parallel coordinates, without the metric
MOST_CHOICES = 12  # of a knob whose values are no numbers, to be an axis
UNITS = {"energy": "kWh", "latency": "ms"}


def render_page(comparison: Comparison, *, title: str) -> str:
    """Return the page of a comparison.

    Parameters
    ----------
    comparison : of runs with the histories that are to be drawn.
    title : what the runs are.
    """
    data = json.dumps({"title": title} | payload(comparison), allow_nan=False).replace("<", "\\u003c")
    parts = {
        "TITLE": html.escape(title),
        "STYLE": PALETTE.read_text() + (ASSETS / "style.css").read_text(),
        "DATA": data,
        "SCRIPT": "\n".join((ASSETS / name).read_text() for name in SCRIPTS),
    }
    page = (ASSETS / "page.html").read_text()
    before, *rest = page.split("{{")
    pieces = [before]
    for piece in rest:
        name, _, after = piece.partition("}}")
        pieces += [parts[name], after]
    return "".join(pieces)


def payload(comparison: Comparison) -> dict[str, Any]:
    """Return all that the page shows, as plain values."""
    return {
        "metric": comparison.metric,
        "lower": comparison.lower_is_better,
        "notes": comparison.notes,
        "titles": titles(comparison),
        "keys": shown_keys(comparison),
        "groups": [_group(comparison, group) for group in comparison.groups],
        "leftOut": [{"name": run.name, "reason": reason, "id": run.run_id} for run, reason in comparison.left_out],
        "differences": [[key, summary(by_run)] for key, by_run in comparison.differences.items()],
    }


def shown_keys(comparison: Comparison) -> list[str]:
    """Return the keys that the table has a column for: those that differ and are no column already."""
    return [key for key in comparison.differences if key not in ("model.depth", "model.filters")]


def _group(comparison: Comparison, group: Group) -> dict[str, Any]:
    return {
        "number": group.number,
        "fingerprint": group.fingerprint[:12],
        "verdict": group.verdict,
        "runs": [_run(comparison, row) for row in group.rows],
        "cells": heat_cells(group.rows),
        "fronts": {
            "energy": front(group.rows, lambda row: row.kwh, lower=comparison.lower_is_better),
            "latency": front(group.rows, lambda row: row.latency_ms, lower=comparison.lower_is_better),
        },
        "axes": parallel_axes(comparison, group.rows),
    }


def _run(comparison: Comparison, row: Row) -> dict[str, Any]:
    run = row.run
    return {
        "id": run.run_id,
        "name": run.name,
        "text": cells(row),
        "sort": sort_keys(row),
        "value": row.value,
        "low": row.low,
        "high": row.high,
        "energy": row.kwh,
        "latency": row.latency_ms,
        "params": {key: by_run[run.run_id] for key, by_run in comparison.differences.items()},
        "curves": {name: thinned(run.histories[name]) for name in EPOCH_METRICS if run.histories.get(name)},
    }


def thinned(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """Return a curve with at most `MOST_POINTS` points and its last."""
    stride = -(-len(points) // MOST_POINTS)
    kept = list(points[::stride])
    return kept if kept[-1] == points[-1] else [*kept, points[-1]]


def heat_cells(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return the mean of the metric for each depth and number of filters, over the runs that have them."""
    by_cell: dict[tuple[int, int], list[float]] = defaultdict(list)
    for row in rows:
        if row.depth is not None and row.filters is not None:
            by_cell[row.depth, row.filters].append(row.value)
    return [
        {
            "depth": depth,
            "filters": filters,
            "mean": sum(values) / len(values),
            "text": significant(sum(values) / len(values)),
            "count": len(values),
            "range": f"{significant(min(values))} to {significant(max(values))}",
        }
        for (depth, filters), values in sorted(by_cell.items())
    ]


def front(rows: Sequence[Row], cost: Callable[[Row], float | None], *, lower: bool) -> list[str]:
    """Return the ids of the runs that no other run beats in metric and cost at once, cheapest first.

    Examples
    --------
    >>> front([], lambda row: row.kwh, lower=False)
    []
    """
    known = [(price, row.value if lower else -row.value, row) for row in rows if (price := cost(row)) is not None]
    best, ids = float("inf"), []
    for _, badness, row in sorted(known, key=lambda item: item[:2]):
        if badness < best:
            best = badness
            ids.append(row.run.run_id)
    return ids


def parallel_axes(comparison: Comparison, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return the knobs that differ between the ranked runs of a group, as axes with numbers, named choices or both.

    Where runs are reported is no knob of interest, and a text with many values can't be read as an axis.
    """
    ids = {row.run.run_id for row in rows}
    axes: list[tuple[str, dict[str, Any]]] = []
    for key, by_run in comparison.differences.items():
        values = sorted({value for run_id, value in by_run.items() if run_id in ids}, key=order)
        numbers = [number for value in values if (number := number_in(value)) is not None]
        named = [value for value in values if number_in(value) is None]
        if len(values) > 1 and not key.startswith("tracking.") and len(named) <= MOST_CHOICES:
            axes.append((key, {"key": key, "numbers": numbers, "named": named}))
    first = ("model.depth", "model.filters")
    axes.sort(key=lambda axis: (axis[0] not in first, axis[0].startswith("choice.")))
    return [axis for _, axis in axes[:MOST_AXES]]
