"""The figure of a range test."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from astrid.plots import BLUE, GREEN, VERMILION, new_figure, styled


@styled
def range_figure(rates: NDArray[np.float64], losses: NDArray[np.float64], *, rate: float, proposed: float) -> Figure:
    """Draw the smoothed loss by learning rate, with the run's rate and the proposed one."""
    figure = new_figure(height=3.6)
    axes = figure.subplots()
    axes.plot(rates, losses, color=BLUE)
    axes.axvline(proposed, color=GREEN, linestyle=":", label=f"proposed {proposed:.1g}")
    axes.axvline(rate, color=VERMILION, linestyle="--", label=f"the run's {rate:g}")
    axes.set(title="Range test", xlabel="learning rate", ylabel="loss, smoothed", xscale="log")
    axes.legend()
    return figure
