"""What is told of the quality of exposures: a table and a figure."""

from __future__ import annotations

import csv
import dataclasses
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from astrid.config import LimitsConfig
from astrid.data.quality import MEASURES, Assessment, Verdict, explain
from astrid.quality_plots import Grades, Panel, Scale, quality_figure
from astrid.tracking.tables import Cell, Table

UNITS = {
    "background_gradient": "sigma",
    "flatness": "sigma",
    "fwhm_pixels": "pixels",
    "fwhm_arcsec": "arcsec",
    "wcs_residual_pixels": "pixels",
    "limiting_magnitude": "mag",
    "seconds": "s",
}
PANELS = {
    "score": ("score", Scale(span=1.0, start=0.0)),
    "fwhm_pixels": ("FWHM (pixels)", Scale(span=1.0)),
    "ellipticity": ("ellipticity", Scale(span=0.2, start=0.0)),
    "background": ("sky (image unit)", Scale(share=0.1)),
    "noise": ("noise (image unit)", Scale(share=0.1)),
    "noise_ratio": ("noise / expected", Scale(span=0.5)),
    "background_gradient": ("gradient (sigma)", Scale(span=1.0, start=0.0)),
    "flatness": ("structure (sigma)", Scale(span=1.0, start=0.0)),
    "sources": ("sources", Scale(span=10.0, start=0.0)),
    "saturated_fraction": ("saturated share", Scale(span=1e-3, start=0.0)),
    "cosmic_ray_fraction": ("cosmic-ray share", Scale(span=1e-3, start=0.0)),
    "depth": ("5-sigma flux (unit)", Scale(share=0.1)),
    "limiting_magnitude": ("limiting magnitude", Scale(span=0.5)),
    "wcs_residual_pixels": ("WCS residual (pix)", Scale(span=0.1, start=0.0, floor=1e-3)),
}
"""Measures that have a panel in the figure, with its title and the least that its axis shows."""


@dataclass(frozen=True)
class Judged:
    """An exposure with what was measured on it and what that came to."""

    found: Assessment
    verdict: Verdict


def quality_table(judged: Sequence[Judged]) -> Table:
    """Return a row an exposure: what it is, score, measures, what is wrong, and why measures are absent."""
    facts = ("kind", "unit", "seconds", "band")
    columns = ["exposure", "width", "height", *facts, "score", "passed", *MEASURES, "flaws", "absent"]
    rows: list[list[Cell]] = []
    for one in judged:
        found, verdict = one.found, one.verdict
        height, width = found.shape
        absent = "; ".join(f"{name}: {reason}" for name, reason in found.absent.items())
        own: list[Cell] = [getattr(found.facts, name) for name in facts]
        measured = [found.values.get(name) for name in MEASURES]
        passed = "yes" if verdict.passed else "no"
        rows.append(
            [found.name, width, height, *own, verdict.score, passed, *measured, explain(found, verdict), absent]
        )
    return Table(columns, rows, UNITS)


def as_csv(table: Table) -> str:
    """Write a table as CSV; what is absent is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.columns)
    writer.writerows([["" if cell is None else cell for cell in row] for row in table.rows])
    return text.getvalue()


def draw_quality(judged: Sequence[Judged], limits: LimitsConfig) -> Figure | None:
    """Return the figure of a set; None without any exposure."""
    scored = [one for one in judged if one.verdict.score is not None]
    if not scored:
        return None
    graded = [knob.name for knob in dataclasses.fields(limits) if getattr(limits, knob.name) is not None]
    names = short_names([one.found.name for one in scored])
    table = Grades(
        names,
        np.array([one.verdict.score for one in scored]),
        {name: _grades(scored, name) for name in graded},
        {name: [_text(one.found.values.get(name)) for one in scored] for name in graded},
    )
    panels = [
        Panel(title, _values(scored, name), None if name not in graded else tuple(getattr(limits, name)), scale)
        for name, (title, scale) in PANELS.items()
    ]
    return quality_figure(panels, table, passed=np.array([one.verdict.passed for one in scored]))


def _values(scored: Sequence[Judged], name: str) -> NDArray[np.float64]:
    if name == "score":
        return np.array([one.verdict.score for one in scored], dtype=np.float64)
    return np.array([one.found.values.get(name, np.nan) for one in scored])


def _grades(scored: Sequence[Judged], name: str) -> NDArray[np.float64]:
    return np.array([one.verdict.grades.get(name, np.nan) for one in scored])


def _text(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def short_names(names: Sequence[str]) -> list[str]:
    """Return names without the folder that all share; relative and absolute ones share none."""
    folders = [str(Path(name).parent) for name in names]
    folder = os.path.commonpath(folders) if len({Path(name).is_absolute() for name in names}) == 1 else ""
    return [os.path.relpath(name, folder) if folder else name for name in names]
