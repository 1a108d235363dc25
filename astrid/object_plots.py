"""Figures of detections: completeness by signal-to-noise, and against false detections."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from astropy.stats import binom_conf_interval
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator, ScalarFormatter
from numpy.typing import NDArray

from astrid.plots import BLUE, GREEN, GREY, ORANGE, VERMILION, new_figure, styled

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

SKY, PINK = "#56B4E9", "#CC79A7"
RIVAL_COLOURS = (ORANGE, GREEN, VERMILION, SKY, PINK)
"""Beside the network's blue, and distinct for every kind of colour vision (Okabe and Ito 2008)."""


IDEAL_NOTE = (
    "Ideal: a source alone in known noise, measured at its true position. A detector can lie above it where sources\n"
    "are faint: it takes the highest point near the position, and a trained one knows which sources to expect where."
)
"""What the ideal line is, and why it isn't a bound at low signal-to-noise."""


@dataclass(frozen=True)
class Line:
    """Share of the sources found along an axis.

    Attributes
    ----------
    x, completeness : (K,) float64
        Signal-to-noise or false detections per megapixel, and the share found.
    """

    x: Floats
    completeness: Floats


@styled
def completeness_figure(
    edges: Floats,
    found: Integers,
    total: Integers,
    *,
    snr50: float | None,
    false_per_mpix: float | None = None,
    fit: Line | None = None,
    rivals: Mapping[str, Line] | None = None,
    ideal: Line | None = None,
) -> Figure:
    """Draw the share of sources found by signal-to-noise, with 95 % Wilson intervals (Wilson 1927).

    Parameters
    ----------
    edges : (B + 1,) float64
        Edges of the bins of signal-to-noise.
    found, total : (B,) int64
        Sources found, and all sources, in each bin; a bin without sources is left out.
    snr50 : float or None
        Signal-to-noise at which half are found.
    false_per_mpix : float or None
        False detections of the network per megapixel.
    fit, ideal : Line or None
        Fitted curve of the network, and what a matched filter finds in noise alone.
    rivals : mapping of str to Line, optional
        Fitted curves of other detectors by label.
    """
    figure = new_figure(height=5.0)
    axes = figure.subplots()
    for (label, line), colour in zip((rivals or {}).items(), RIVAL_COLOURS, strict=False):
        axes.plot(line.x, line.completeness, color=colour, linewidth=1.2, label=label)
    if ideal is not None:
        label = "ideal matched filter in noise alone,\nwith as many false detections as the U-Net"
        figure.supxlabel(IDEAL_NOTE, fontsize=8, color=GREY)
        axes.plot(ideal.x, ideal.completeness, color=GREY, linestyle="--", linewidth=1.2, label=label)
    if fit is not None:
        axes.plot(fit.x, fit.completeness, color=BLUE, linewidth=2)
    rate = "" if false_per_mpix is None else f", {false_per_mpix:.3g} false/Mpix"
    _draw_shares(axes, edges, found, total, label=f"U-Net{rate}; bars: 95 % intervals")
    if snr50 is not None:
        axes.axvline(snr50, color=BLUE, linestyle=":", label=f"U-Net: half are found at {snr50:.1f}")
    axes.set(title="Completeness by signal-to-noise", xlabel="signal-to-noise", ylabel="share of sources found")
    axes.set(xscale="log", xlim=(edges[0], edges[-1]), ylim=(0, 1.05))
    ticks, names = LogLocator(subs=(1, 2, 3, 5)), ScalarFormatter()
    axes.xaxis.set(major_locator=ticks, major_formatter=names, minor_locator=NullLocator())
    axes.legend(loc="lower right", fontsize=9)
    return figure


def _draw_shares(axes: Axes, edges: Floats, found: Integers, total: Integers, *, label: str) -> None:
    held = total > 0
    centres, share = np.sqrt(edges[:-1] * edges[1:])[held], found[held] / total[held]
    low, high = binom_conf_interval(found[held], total[held], confidence_level=0.95, interval="wilson")
    bars = np.maximum([share - low, high - share], 0)  # an interval that ends at 0 or 1 misses it by a rounding
    axes.errorbar(centres, share, yerr=bars, fmt="o", color=BLUE, capsize=3, label=label)


@styled
def free_response_figure(curves: Mapping[str, Line], *, chosen: Mapping[str, tuple[float, float]]) -> Figure:
    """Draw completeness against false detections per megapixel as the threshold falls.

    Parameters
    ----------
    curves : mapping of str to Line
        By label, the network first.
    chosen : mapping of str to (false detections per megapixel, completeness)
        Where each detector works, at the threshold that validation chose.

    References
    ----------
    Chakraborty and Winter 1990, Radiology 174, 873, doi:10.1148/radiology.174.3.2305073 (free-response curves)
    """
    figure = new_figure(height=4.6)
    axes = figure.subplots()
    for (label, line), colour in zip(curves.items(), (BLUE, *RIVAL_COLOURS), strict=False):
        seen = line.x > 0  # the axis is logarithmic
        axes.plot(
            line.x[seen], line.completeness[seen], color=colour, linewidth=2 if colour == BLUE else 1.2, label=label
        )
        if label in chosen:
            axes.plot(*chosen[label], color=colour, marker="o", markersize=7)
    axes.set(title="Free-response curve: completeness against false detections", xscale="log", ylim=(0, 1.02))
    axes.set(xlabel="false detections per megapixel", ylabel="share of sources found")
    axes.plot([], [], color=GREY, marker="o", markersize=7, linestyle="", label="threshold chosen on validation")
    axes.legend(loc="lower left", bbox_to_anchor=(0.01, 0.08), fontsize=9)
    return figure
