"""The figures of pixels and training, one function each: arrays in, a matplotlib Figure out, 1000 pixels wide."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy.nddata import block_reduce
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.colors import AsinhNorm, PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

BLUE, ORANGE, GREEN, VERMILION, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#767676"
"""Distinct for every kind of colour vision (Okabe and Ito 2008)."""

WIDTH_INCHES, DPI = 8.0, 125
_FLATTEST, _TALLEST = 0.5, 3.0

STYLE: dict[Any, Any] = {
    "axes.edgecolor": GREY,
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "font.size": 10,
    "grid.color": "#e8e8e8",
    "legend.frameon": False,
    "lines.markersize": 4,
}

styled = rc_context(STYLE)


@styled
def training_curves(
    history: Sequence[Mapping[str, float]], *, score: str = "val/auprc", best_epoch: int | None = None
) -> Figure:
    """Draw losses, a score and the learning rate by epoch.

    Parameters
    ----------
    history : sequence of mappings
        One record an epoch: `epoch`, and by name what was measured; the undefined are absent.
    score : str
        Name of the measure that chose the best epoch.
    best_epoch : int or None
        Epoch whose weights were kept.
    """
    figure = new_figure(height=3.2)
    losses, scores, rates = figure.subplots(1, 3)
    _curve(losses, history, "train/loss", BLUE)
    _curve(losses, history, "val/loss", VERMILION)
    _curve(scores, history, score, BLUE if score.startswith("train") else VERMILION)
    _curve(rates, history, "train/learning_rate", GREY)
    last = history[-1]["epoch"] if history else 1
    for axes, title in zip((losses, scores, rates), ("Loss", score, "Learning rate"), strict=True):
        axes.set(title=title, xlabel="epoch", xlim=(0.5, last + 0.5))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if not history:
            axes.text(0.5, 0.5, "no epoch was finished", transform=axes.transAxes, ha="center", color=GREY)
        if best_epoch is not None:
            axes.axvline(best_epoch, color=GREEN, linestyle=":", label=f"best, epoch {best_epoch}")
    figure.legend(*losses.get_legend_handles_labels(), loc="outside lower center", ncols=3)  # within it hid curves
    return figure


@styled
def roc_figure(
    fpr: Floats, tpr: Floats, *, auroc: float | None, operating_point: tuple[float, float] | None = None
) -> Figure:
    """Draw true against false positive rate, the latter logarithmic: rare positives are decided on its left.

    Parameters
    ----------
    fpr, tpr : (K,) float64
        Rates from strict to lenient.
    auroc : float, or None where undefined
    operating_point : (fpr, tpr) at the chosen threshold, or None
    """
    figure = new_figure(height=4.4)
    axes = figure.subplots()
    axes.set_xscale("log", nonpositive="clip")
    axes.plot(fpr, tpr, color=BLUE, label=_labelled("AUROC", auroc))
    lowest = 10.0 ** (np.ceil(np.log10(min(fpr[fpr > 0], default=0.1))) - 1)  # a decade below the smallest
    chance = np.geomspace(lowest, 1, 100)
    axes.plot(chance, chance, color=GREY, linestyle="--", linewidth=1, label="chance")
    _mark(axes, operating_point, "true {1:.2g}, false {0:.2g}")
    axes.set(title="Receiver operating characteristic of pixels", xlim=(lowest, 1), ylim=(0, 1.02))
    axes.set(xlabel="false positive rate", ylabel="true positive rate")
    axes.legend(loc="lower right" if lowest > 0.01 else "upper left")
    return figure


@styled
def precision_recall_figure(
    recall: Floats,
    precision: Floats,
    *,
    auprc: float | None,
    prevalence: float,
    operating_point: tuple[float, float] | None = None,
) -> Figure:
    """Draw precision against recall in the steps that average precision sums, over lines of equal F1.

    Parameters
    ----------
    recall, precision : (K,) float64
        From strict to lenient.
    auprc : float, or None where undefined
    prevalence : float
        Share of positive pixels, which is the precision of guessing.
    operating_point : (recall, precision) at the chosen threshold, or None
    """
    figure = new_figure(height=4.4)
    axes = figure.subplots()
    for f1 in (0.2, 0.4, 0.6, 0.8):
        line = np.linspace(f1 / (2 - f1), 1, 100)
        axes.plot(line, f1 * line / (2 * line - f1), color="#d0d0d0", linewidth=0.8)
        axes.text(1.005, f1 / (2 - f1), f"F1 {f1}", color=GREY, fontsize=8, va="center")
    axes.hlines(precision[:1], 0, recall[:1], color=BLUE)
    axes.step(recall, precision, color=BLUE, label=_labelled("AUPRC", auprc))
    axes.axhline(prevalence, color=GREY, linestyle="--", linewidth=1, label=f"prevalence {prevalence:.2g} (chance)")
    _mark(axes, operating_point, "recall {:.2g}, precision {:.2g}")
    axes.set(title="Precision and recall of pixels", xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision")
    axes.legend(loc="best")  # a good curve leaves the lower left free, a poor one the upper right
    return figure


@styled
def confusion_figure(counts: Integers) -> Figure:
    """Draw a confusion matrix, coloured by share of the true class.

    Parameters
    ----------
    counts : (2, 2) int64
        Pixels: row = truth, column = answer, negative first.
    """
    figure = new_figure(height=4.0)
    axes = figure.subplots()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for row, column in np.ndindex(2, 2):
        text = f"{counts[row, column]:,}\n{shares[row, column]:.2%}"
        axes.text(column, row, text, ha="center", va="center", color="white" if shares[row, column] > 0.6 else "black")
    axes.set(title="Confusion matrix of pixels", xlabel="answer", ylabel="truth", xticks=(0, 1), yticks=(0, 1))
    axes.set(xticklabels=("negative", "positive"), yticklabels=("negative", "positive"))
    axes.grid(False)
    figure.colorbar(image, label="share of the true class")
    return figure


@styled
def reliability_figure(
    predicted: Floats,
    observed: Floats,
    count: Integers,
    *,
    ece: float | None,
    bars: Floats | None = None,
    before: tuple[Floats, Floats] | None = None,
) -> Figure:
    """Draw the observed frequency of positives against the predicted probability, and how many pixels say so.

    Parameters
    ----------
    predicted, observed : (K,) float64
        Mean predicted probability and share of positive pixels, by bin.
    count : (K,) int64
        Pixels in the bin.
    ece : float, or None where undefined
    bars : (2, K) float64 or None
        Ends of the 95 % interval of the observed share; NaN where there is none.
    before : (predicted, observed) or None
        The same before calibration.
    """
    figure = new_figure(height=5.2)
    axes, counts = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1, label="perfect calibration")
    if before is not None:
        axes.plot(*before, color=ORANGE, marker="s", linewidth=1, label="before calibration")
    axes.plot(predicted, observed, color=BLUE, marker="o", label=_labelled("ECE", ece, spec=".2g"))
    if bars is not None:
        axes.vlines(predicted, *bars, color=BLUE, alpha=0.4, linewidth=4, label="95 % interval over fields")
    axes.set(title="Reliability of pixel probabilities", ylabel="observed frequency", xlim=(0, 1), ylim=(0, 1.02))
    axes.legend(loc="upper left")
    counts.bar(predicted, count, width=0.02, color=BLUE, alpha=0.6)
    counts.set(xlabel="predicted probability", ylabel="pixels", yscale="log")
    counts.yaxis.set_minor_formatter(NullFormatter())
    return figure


@dataclass(frozen=True)
class GalleryPanel:
    """One field of the prediction gallery.

    Attributes
    ----------
    science, probability : (H, W) float32
        The science channel in units of background sigma; what the network makes of it.
    target : (H, W) bool
        True = positive.
    hits, misses, false_alarms : (N, 2) float64
        Positions (x, y) in pixels of sources found, sources missed and detections of nothing.
    threshold : float or None
        Probability from which something is positive: outlined, and the middle of the colours; None for 0.5, unmarked.
    """

    name: str
    science: NDArray[np.float32]
    target: NDArray[np.bool_]
    probability: NDArray[np.float32]
    hits: Floats
    misses: Floats
    false_alarms: Floats
    threshold: float | None = None


MARKERS = {"hit": ("o", GREEN), "miss": ("s", VERMILION), "false alarm": ("D", ORANGE)}


@styled
def gallery_figure(panels: Sequence[GalleryPanel]) -> Figure:
    """Draw each field in a row: the science image with hits, misses and false alarms; truth; probability."""
    tall = [_tallness(panel.science) for panel in panels] or [1.0]
    figure = new_figure(height=0.8 + 2.55 * sum(tall))  # titles above, the legend below
    grid = figure.subplots(
        len(tall), 3, squeeze=False, subplot_kw={"xticks": [], "yticks": []}, gridspec_kw={"height_ratios": tall}
    )
    for axes, title in zip(grid[0], ("Science", "Truth", "Probability"), strict=True):
        axes.set_title(title)
    for row, panel in zip(grid, panels, strict=False):
        _draw_panel(row, panel)
    listed = [axes.get_legend_handles_labels() for axes in grid[:, ::2].flat]
    named = {label: mark for marks, labels in listed for mark, label in zip(marks, labels, strict=True)}
    if named:
        figure.legend(named.values(), named, loc="outside lower center", ncols=4)
    return figure


def _tallness(image: NDArray[np.floating]) -> float:
    """Return the height of a row over its width: that of its image, within bounds."""
    height, width = image.shape
    return float(np.clip(height / width, _FLATTEST, _TALLEST))


def new_figure(*, height: float) -> Figure:
    """Return an empty figure 1000 pixels wide; the height is in inches."""
    return Figure(figsize=(WIDTH_INCHES, height), dpi=DPI, layout="constrained")


def _labelled(name: str, value: float | None, *, spec: str = ".4f") -> str:
    return f"{name} undefined" if value is None else f"{name} {value:{spec}}"


def _curve(axes: Axes, history: Sequence[Mapping[str, float]], name: str, color: str) -> None:
    """Draw one measure over the epochs that have it."""
    measured = [(record["epoch"], record[name]) for record in history if name in record]
    epochs, values = [epoch for epoch, _ in measured], [value for _, value in measured]
    axes.plot(epochs, values, color=color, marker="o" if len(values) < 30 else "", label=name)


def _mark(axes: Axes, point: tuple[float, float] | None, text: str) -> None:
    if point is not None:
        label = "chosen threshold: " + text.format(*point)
        axes.plot(*point, color=VERMILION, marker="o", markersize=8, linestyle="", label=label, clip_on=False, zorder=5)


def _draw_panel(row: Sequence[Axes], panel: GalleryPanel) -> None:
    science, truth, probability = row
    science.set_ylabel(panel.name)
    greys, colours = colormaps["gray"].resampled(12), colormaps["viridis"].resampled(64)
    tall = _tallness(panel.science)
    # noise fills the file: few pixels and few greys
    coarse, fine = (round(pixels * max(1.0, tall)) for pixels in (128, 384))
    show_image(science, panel.science, np.mean, longest=coarse, cmap=greys, norm=AsinhNorm(3, vmin=-3, vmax=60))
    show_image(truth, panel.target, np.max, longest=fine, cmap=greys, vmin=0, vmax=1)
    norm = _centred(panel.threshold)
    show_image(probability, panel.probability, np.max, longest=fine, cmap=colours, norm=norm)
    _outline(probability, panel)
    positions = zip(MARKERS.items(), (panel.hits, panel.misses, panel.false_alarms), strict=True)
    for (kind, (marker, color)), where in positions:
        x, y = where.T
        for axes in (science, probability) if len(where) else ():
            axes.scatter(x, y, s=70, marker=marker, facecolors="none", edgecolors=color, linewidths=1.3, label=kind)


def _centred(threshold: float | None) -> PowerNorm:
    """Return colours from 0 to 1 whose middle is the threshold, or 0.5 without one."""
    middle = threshold if threshold is not None and 0 < threshold < 1 else 0.5
    return PowerNorm(math.log(0.5) / math.log(middle), vmin=0, vmax=1)


def _outline(axes: Axes, panel: GalleryPanel) -> None:
    """Outline the pixels from the threshold on, and tell it in the legend."""
    if panel.threshold is None:
        return
    positive = (panel.probability >= panel.threshold).astype(np.float32)
    if positive.min() < positive.max() and min(positive.shape) > 1:
        axes.contour(positive, levels=[0.5], colors=["white"], linewidths=0.5)
    axes.plot([], [], color=GREY, linewidth=0.8, label=f"probability {panel.threshold:.2g}, the chosen threshold")


def show_image(axes: Axes, image: NDArray[Any], reduce: Callable[..., Any], *, longest: int, **colours: Any) -> None:
    """Show an image in its own pixel coordinates, binned until its longest edge has at most `longest` pixels."""
    factor = -(-max(image.shape) // longest)
    whole = np.pad(image, [(0, -size % factor) for size in image.shape], mode="edge")  # or binning drops the rest
    extent = (-0.5, whole.shape[1] - 0.5, -0.5, whole.shape[0] - 0.5)
    axes.imshow(block_reduce(whole, factor, reduce), origin="lower", interpolation="nearest", extent=extent, **colours)
    axes.set(xlim=(-0.5, image.shape[1] - 0.5), ylim=(-0.5, image.shape[0] - 0.5))
