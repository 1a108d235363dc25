"""The figure of a group: what each member reached, beside what they come to together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from astrid.plots import BLUE, DPI, ORANGE, WIDTH_INCHES, styled


@styled
def draw_members(
    results: Mapping[str, Mapping[str, float]], combined: Mapping[str, float], *, names: Sequence[str]
) -> Figure:
    """Draw the headline metrics of each member as points, and the combined value with its interval as a band.

    Parameters
    ----------
    results : mapping of metrics by name of the member
    combined : mapping
        Metrics of the group, with `NAME_low` and `NAME_high` where there is an interval.
    names : sequence of str
        What to draw; a metric that no member has is left out.
    """
    shown = [name for name in names if any(name in metrics for metrics in results.values())]
    figure = Figure(figsize=(WIDTH_INCHES, 3.2), dpi=DPI, layout="constrained")
    for axes, name in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        _draw(axes, name, [metrics.get(name) for metrics in results.values()], combined)
    return figure


def _draw(axes: Axes, name: str, values: Sequence[float | None], combined: Mapping[str, float]) -> None:
    points = [(number, value) for number, value in enumerate(values) if value is not None]
    axes.plot(*zip(*points, strict=True), "o", color=BLUE, label="each run")
    if name in combined:
        axes.axhline(combined[name], color=ORANGE, label="together")
    if f"{name}_low" in combined:
        axes.axhspan(combined[f"{name}_low"], combined[f"{name}_high"], color=ORANGE, alpha=0.2, linewidth=0)
    axes.set(title=name, xlabel="run", xlim=(-0.5, len(values) - 0.5))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if name == "objective":
        axes.legend()
