"""The figure of a set of exposures: each measure over the set, and the grades of the worst."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter
from numpy.typing import NDArray

from astrid.plots import BLUE, GREY, ORANGE, VERMILION, new_figure, styled

_ROWS = 16
_NAME_LETTERS = 34
_ENDING = re.compile(r"\.(fits|fit|fts)(\.\w+)?$")
_DECADES = 30.0
"""Ratio of the largest to the smallest value beyond which an axis is logarithmic."""
_MARGIN = 0.04
"""Beyond the outermost values, as a share of the axis."""
_GRADES = LinearSegmentedColormap.from_list("grades", [VERMILION, "#f6d9a8", "#d7e8f3"])


@dataclass(frozen=True)
class Scale:
    """What the axis of a measure shows at least: differences below that mean nothing.

    Attributes
    ----------
    span : float
        Least extent, in the unit of the measure.
    share : float
        The same as a share of the median value.
    start : float or None
        Where the axis begins; None: around the values.
    floor : float
        Smallest value that is told from smaller ones, which are drawn there.
    """

    span: float = 0.0
    share: float = 0.0
    start: float | None = None
    floor: float = 0.0

    def ends(self, values: NDArray[np.float64]) -> tuple[float, float]:
        """Return the ends of the axis for values, (N,), all finite."""
        low, high = float(values.min()), float(values.max())
        least = max(self.span, self.share * abs(float(np.median(values))))
        if self.start is not None:
            top = max(high, self.start + least)
            return self.start - _MARGIN * (top - self.start), top + _MARGIN * (top - self.start)
        half = max(least, (1 + 2 * _MARGIN) * (high - low)) / 2
        return (low + high) / 2 - half, (low + high) / 2 + half


@dataclass(frozen=True)
class Panel:
    """A measure over the set.

    Attributes
    ----------
    title : str
    values : (N,) float64
        One for each exposure; NaN where it is absent.
    limits : (good, useless) or None
        Between which its grade falls from 1 to 0.
    scale : Scale
    """

    title: str
    values: NDArray[np.float64]
    limits: tuple[float, float] | None = None
    scale: Scale = Scale(share=0.1)


@dataclass(frozen=True)
class Grades:
    """What the score of each exposure is made of.

    Attributes
    ----------
    names : sequence of N str
    scores : (N,) float64
    grades : mapping of str to (N,) float64
        By measure, from 0 to 1; NaN where it is absent.
    texts : mapping of str to N str
        By measure, its value as it is shown.
    """

    names: Sequence[str]
    scores: NDArray[np.float64]
    grades: Mapping[str, NDArray[np.float64]]
    texts: Mapping[str, Sequence[str]]


@styled
def quality_figure(panels: Sequence[Panel], table: Grades, *, passed: NDArray[np.bool_]) -> Figure:
    """Draw each measure by the number of the exposure, and the grades of those with the lowest scores.

    Parameters
    ----------
    panels : sequence of Panel
    table : Grades
        Of the same exposures, in the same order.
    passed : (N,) bool
        Whether the score is good enough.
    """
    shown = [panel for panel in panels if np.isfinite(panel.values).any()]
    rows, worst = -(-len(shown) // 4), np.argsort(table.scores, kind="stable")[:_ROWS].tolist()
    heights = (1.75 * rows, 0.9 + 0.2 * len(worst))
    figure = new_figure(height=sum(heights))
    upper, lower = figure.subfigures(2, 1, height_ratios=heights, squeeze=False)[:, 0]
    upper.suptitle(f"{len(passed)} exposures by number, {(~passed).sum()} below the least score (red)", fontsize=10)
    grid = upper.subplots(rows, 4, squeeze=False).ravel()
    for axes, panel in zip(grid, shown, strict=False):
        _draw_panel(axes, panel, passed)
    for axes in grid[len(shown) :]:
        axes.set_axis_off()
    _draw_grades(lower.subplots(), table, worst)
    return figure


def _draw_panel(axes: Axes, panel: Panel, passed: NDArray[np.bool_]) -> None:
    numbers = np.arange(1, len(panel.values) + 1)
    values = np.maximum(panel.values, panel.scale.floor) if panel.scale.floor else panel.values
    for chosen, color in ((passed, BLUE), (~passed, VERMILION)):
        axes.plot(numbers[chosen], values[chosen], color=color, marker="o", markersize=3, linestyle="")
    axes.set_title(panel.title, fontsize=8)  # more would reach beyond the edge in the last column
    axes.tick_params(labelsize=8)
    axes.set_xlim(0.5, len(numbers) + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    finite = values[np.isfinite(values)]
    axes.ticklabel_format(axis="y", useOffset=False)
    is_wide = finite.max() > max(panel.scale.span, _DECADES * finite.min())
    if finite.min() > 0 and is_wide:
        axes.set_yscale("log")
        axes.yaxis.set_minor_formatter(NullFormatter())  # labels of the minor ticks would lie on each other
    elif (ends := panel.scale.ends(finite))[0] < ends[1]:
        axes.set_ylim(*ends)
    if panel.limits is not None:
        _shade(axes, *panel.limits)


def _shade(axes: Axes, good: float, useless: float) -> None:
    """Shade what isn't good, and more strongly what is useless, as far as the axis reaches."""
    bottom, top = axes.get_ylim()
    far = top if useless > good else bottom
    axes.axhspan(good, useless, color=ORANGE, alpha=0.12, linewidth=0)
    if (far - useless) * (useless - good) > 0:
        axes.axhspan(useless, far, color=VERMILION, alpha=0.15, linewidth=0)
    axes.set_ylim(bottom, top)


def _draw_grades(axes: Axes, table: Grades, worst: Sequence[int]) -> None:
    columns = ["score", *table.grades]
    cells = np.column_stack([table.scores, *table.grades.values()])[list(worst)]
    axes.imshow(np.ma.masked_invalid(cells), cmap=_GRADES, vmin=0, vmax=1, aspect="auto")
    for (row, column), grade in np.ndenumerate(cells):
        text = f"{grade:.2f}" if column == 0 else table.texts[columns[column]][worst[row]]
        axes.text(column, row, text, ha="center", va="center", fontsize=7, color=GREY if np.isnan(grade) else "black")
    axes.set_xticks(range(len(columns)), [column.replace("_", "\n") for column in columns], fontsize=7)
    axes.set_yticks(range(len(worst)), [f"{_short(table.names[number])}  {number + 1}" for number in worst], fontsize=7)
    axes.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
    axes.grid(visible=False)
    several = f"the {len(worst)} worst of {len(table.names)}" if len(table.names) > len(worst) else "worst first"
    axes.set_xlabel(
        f"grades, {several}, with their numbers: blue is good, red is useless, grey text not graded",
        fontsize=8,
    )


def _short(name: str) -> str:
    """Leave out the middle of a long name: its ends tell exposures apart."""
    name = _ENDING.sub("", name)
    half = _NAME_LETTERS // 2
    return name if len(name) <= _NAME_LETTERS else f"{name[: half - 1]}…{name[-half:]}"
