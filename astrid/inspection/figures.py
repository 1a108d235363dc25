"""Figures of an inspection: fields, calibration by signal-to-noise, saliency."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import AsinhNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from astrid.data.frames import Field
from astrid.plots import BLUE, GREY, VERMILION, GalleryPanel, gallery_figure, new_figure, styled

from .by_snr import SnrBins
from .objects import JudgedObject, Outcome, Probability
from .saliency import Saliency

CHANNELS = ("science", "reference", "difference")


def field_figure(field: Field, probability: Probability, objects: Sequence[JudgedObject]) -> Figure:
    """Draw a field: science image, truth, probability, with every object marked."""
    return gallery_figure(
        [
            GalleryPanel(
                name=field.name,
                science=field.image[0],
                target=field.target,
                probability=probability,
                hits=_places(objects, "hit"),
                misses=_places(objects, "miss"),
                false_alarms=_places(objects, "false alarm"),
            )
        ]
    )


def _places(objects: Sequence[JudgedObject], outcome: Outcome) -> NDArray[np.float64]:
    return np.array([[one.x, one.y] for one in objects if one.outcome == outcome], dtype=np.float64).reshape(-1, 2)


@styled
def calibration_figure(tables: Sequence[SnrBins]) -> Figure:
    """Draw the mean probability beside the share that is real, by signal-to-noise, one panel for each kind of thing."""
    figure = new_figure(height=4.4)
    row = figure.subplots(1, len(tables), squeeze=False)[0]
    for axes, bins in zip(row, tables, strict=True):
        _draw_bins(axes, bins)
    row[0].set_ylabel("probability, share")
    figure.legend(*row[-1].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    return figure


def _draw_bins(axes: Axes, bins: SnrBins) -> None:
    places = np.arange(len(bins.count))
    axes.plot(places, bins.predicted, color=BLUE, marker="o", label="mean probability")
    axes.plot(places, bins.observed, color=VERMILION, marker="s", linestyle="--", label="share that is real")
    if bins.bounds is not None:
        axes.vlines(places, *bins.bounds, color=VERMILION, alpha=0.4, linewidth=4, label="its 95 % interval")
    above = axes.get_xaxis_transform()
    for place, count in zip(places, bins.count, strict=True):
        axes.text(float(place), 1.02, f"{count:,}", fontsize=7, color=GREY, rotation=40, transform=above)
    axes.set_ylim(bottom=0)
    axes.set_xlabel(bins.what.replace(", by", ",\nby"))
    axes.set_xticks(places, bins.names(), rotation=40, ha="right", fontsize=8)


@styled
def saliency_figure(found: Saliency) -> Figure:
    """Draw the light of each channel, and below it by how much the logit falls when a piece there is covered."""
    channels = len(found.light)
    figure = new_figure(height=5.0 if channels > 1 else 3.4)
    top, bottom = figure.subplots(2, channels + 1, squeeze=False, subplot_kw={"xticks": [], "yticks": []})
    names = CHANNELS if channels == len(CHANNELS) else tuple(f"channel {number}" for number in range(channels))
    limit = max(float(np.abs(found.falls).max()), 1e-6)
    for number, name in enumerate((*names, "all channels")):
        if number < channels:
            top[number].imshow(found.light[number], cmap="gray", origin="lower", norm=AsinhNorm(3, vmin=-3, vmax=60))
            _ring(top[number], found)
        image = bottom[number].imshow(found.falls[number], cmap="RdBu_r", origin="lower", vmin=-limit, vmax=limit)
        _ring(bottom[number], found)
        (top[number] if number < channels else bottom[number]).set_title(name)
    top[channels].axis("off")
    bottom[0].set_ylabel("covered here")
    figure.colorbar(image, ax=bottom.tolist(), label=f"fall of the logit, {found.logit:.2f} uncovered", shrink=0.8)
    return figure


def _ring(axes: Axes, found: Saliency) -> None:
    row, column = found.origin
    place = ([found.judged.x - column], [found.judged.y - row])
    axes.scatter(*place, s=90, facecolors="none", edgecolors=BLUE)
    axes.grid(False)
