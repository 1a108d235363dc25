"""The curves of all runs of a sweep in one figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from astrid.plots import new_figure, styled
from astrid.tracking.stored_runs import Points, StoredRun

from .pictures import drawn

MOST_NAMED = 8
"""Curves of runs that have their name in a legend; more would hide them."""


@dataclass(frozen=True)
class Drawn:
    """A figure, and what it shows in words."""

    png: bytes
    words: str


def monitored_curves(runs: Sequence[StoredRun]) -> Drawn | None:
    """Draw the monitored value of each run by epoch; nothing where no run has finished one."""
    monitor = next((run.params["training.monitor"] for run in runs if "training.monitor" in run.params), "val/auprc")
    curves = {run.name: run.histories[monitor] for run in runs if run.histories.get(monitor)}
    if not curves:
        return None
    ends = [points[-1][1] for points in curves.values()]
    words = f"{monitor} by epoch of {len(curves)} runs, at the end from {min(ends):.4g} to {max(ends):.4g}."
    return Drawn(drawn(curves_figure(curves, title=monitor)), words)


@styled
def curves_figure(curves: Mapping[str, Points], *, title: str) -> Figure:
    """Draw a value by epoch for each of several runs, named where they are few."""
    figure = new_figure(height=3.6)
    axes = figure.subplots()
    for name, points in curves.items():
        axes.plot(*zip(*points, strict=True), marker="o", linewidth=1.2, label=name)
    axes.set(title=title, xlabel="epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if len(curves) <= MOST_NAMED:
        axes.legend(fontsize=8)
    return figure
