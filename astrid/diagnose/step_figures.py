"""The figure of a range test."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from astrid.plots import BLUE, GREEN, GREY, VERMILION, new_figure, styled


@styled
def range_figure(
    rates: NDArray[np.float64], losses: NDArray[np.float64], trials: Mapping[float, float], *, rate: float
) -> Figure:
    """Draw the smoothed loss by rising learning rate, the ends of the short trainings, and the run's rate."""
    figure = new_figure(height=3.6)
    axes = figure.subplots()
    axes.plot(rates, losses, color=GREY, label="rising, a step a rate")
    finite = {tried: loss for tried, loss in trials.items() if np.isfinite(loss)}
    axes.plot(list(finite), list(finite.values()), color=BLUE, marker="o", label="end of a short training")
    best = min(finite, key=finite.__getitem__, default=None)
    if best is not None:
        axes.plot([best], [finite[best]], color=GREEN, marker="o", linestyle="", label=f"lowest, {best:.1g}")
    axes.axvline(rate, color=VERMILION, linestyle="--", label=f"the run's {rate:g}")
    axes.set(title="Range test", xlabel="learning rate", ylabel="loss", xscale="log", yscale="log")
    axes.legend()
    return figure
