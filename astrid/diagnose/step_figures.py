"""The figure of a range test."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from astrid.plots import BLUE, GREEN, GREY, VERMILION, new_figure, styled


@styled
def range_figure(
    rates: NDArray[np.float64], losses: NDArray[np.float64], trials: Mapping[float, float | None], *, rate: float
) -> Figure:
    """Draw the smoothed loss by rising learning rate, the ends of the short trainings, and the run's rate."""
    figure = new_figure(height=3.6)
    axes = figure.subplots()
    axes.plot(rates, losses, color=GREY, label="rising, a step a rate")
    ended = {tried: loss for tried, loss in trials.items() if loss is not None}
    axes.plot(list(ended), list(ended.values()), color=BLUE, marker="o", label="end of a short training")
    best = min(ended, key=ended.__getitem__, default=None)
    if best is not None:
        axes.plot([best], [ended[best]], color=GREEN, marker="o", linestyle="", label=f"lowest, {best:g}")
    if lost := [tried for tried, loss in trials.items() if loss is None]:
        above = axes.get_xaxis_transform()
        axes.plot(lost, [0.97] * len(lost), "x", color=VERMILION, transform=above, label="became no number")
    axes.axvline(rate, color=VERMILION, linestyle="--", label=f"the run's {rate:g}")
    axes.set(title="Range test", xlabel="learning rate", ylabel="loss", xscale="log", yscale="log")
    axes.legend()
    return figure
