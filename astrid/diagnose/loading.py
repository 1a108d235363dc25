"""Whether the loader starves the device."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from astrid.plots import BLUE, VERMILION, new_figure, styled

from .evidence import Evidence
from .finding import Finding

STARVING = 0.1
"""Share of the training time spent waiting for batches from which on the loader is worth mending."""
BUSY_PERCENT = 70.0
"""A GPU that is in use for so much of the time isn't starved: it works while the loop waits."""


def starving(evidence: Evidence) -> Iterator[Finding]:
    """Find a training that waits for its batches."""
    waiting, seconds = evidence.curve("train/waiting_seconds"), evidence.curve("train/seconds")
    if len(seconds) == 0 or not np.isfinite(waiting).all():
        return
    share = float(waiting.sum() / seconds.sum())
    busy = float(np.median(evidence.gpu_percent)) if evidence.gpu_percent else None
    if share < STARVING or (busy is not None and busy > BUSY_PERCENT):
        return
    workers = evidence.config.data.workers
    text = f"the loader starves the device: training waits for batches for {share:.0%} of its time"
    numbers = {"waiting_share": share, "waiting_seconds": float(waiting.sum()), "workers": float(workers)}
    numbers |= {} if busy is None else {"gpu_percent": busy}
    knob = f"data.workers={workers + 2}, or a cache on a faster disk: data.cache"
    yield Finding("loader", text, numbers, knob, waiting_figure(evidence))


@styled
def waiting_figure(evidence: Evidence) -> Figure:
    """Draw how the time of each epoch divides."""
    figure = new_figure(height=3.0)
    axes = figure.subplots()
    epochs = evidence.curve("epoch")
    waiting, seconds = evidence.curve("train/waiting_seconds"), evidence.curve("train/seconds")
    axes.bar(epochs, waiting, color=VERMILION, label="waiting for batches")
    axes.bar(epochs, seconds - waiting, bottom=waiting, color=BLUE, label="computing")
    axes.set(title="Training time", xlabel="epoch", ylabel="seconds")
    axes.set_axisbelow(True)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(loc="outside right upper")
    return figure
