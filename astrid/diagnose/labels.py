"""What labels look like beside the light and beside what the network makes of it: shifted, speckled, contradictory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from astrid.data.frames import Field
from astrid.plots import VERMILION, new_figure, styled

from .finding import Finding
from .probe import Probe, fields_of

Floats = NDArray[np.float64]

REACH = 10
"""Shifts of up to so many pixels to either side are tried."""
SMALLEST_SHIFT = 2.0
"""Pixels; a smaller one is within the objects."""
SIGNIFICANT = 4.0
"""Standard errors by which the light at the best shift must exceed that at none."""
CONTRAST = 1.5
"""Factor by which it must."""
CLIP_SIGMA = 10.0
"""Light beyond it counts as that much, so that one star doesn't decide."""
MOST_PIXELS = 2000
"""Positive pixels of a field that are looked at."""
BLOCK = 32
"""Edge of the blocks that are taken as independent, in pixels."""


@dataclass(frozen=True)
class LightAround:
    """Light around positive pixels, as a function of the shift.

    Attributes
    ----------
    blocks : (N, S, S) float64
        Sum over the positive pixels of each block of the light at a shift from them, S = 2 REACH + 1, rows are dy.
    pixels : (N,) float64
        How many there are.
    """

    blocks: Floats
    pixels: Floats

    @property
    def mean(self) -> Floats:
        """Mean light by shift, (S, S) in background sigma."""
        result: Floats = self.blocks.sum(axis=0) / self.pixels.sum()
        return result

    def excess(self, dy: int, dx: int) -> float:
        """Return by how many standard errors the light at a shift exceeds that at none, over blocks."""
        gain = self.blocks[:, REACH + dy, REACH + dx] - self.blocks[:, REACH, REACH]
        return float(gain.sum() / max(np.sqrt(np.square(gain).sum()), 1e-30))


def shifted_labels(probe: Probe) -> Iterator[Finding]:
    """Find labels that lie beside the light they mark, by the cross-correlation of light and target."""
    maps = light_around(probe)
    if maps is None:
        return
    lit = max(maps, key=lambda around: float(around.mean.max() - np.median(around.mean)))
    dy, dx = (int(index) - REACH for index in np.unravel_index(lit.mean.argmax(), lit.mean.shape))
    here, there = lit.mean[REACH, REACH], lit.mean.max()
    if np.hypot(dy, dx) < SMALLEST_SHIFT or there < CONTRAST * here or lit.excess(dy, dx) < SIGNIFICANT:
        return
    text = (
        f"shifted labels: the light lies {dx:+d} pixels in x and {dy:+d} in y from what is labelled "
        f"({there:.2g} sigma there, {here:.2g} under the labels)"
    )
    numbers = {"dx": float(dx), "dy": float(dy), "sigma_there": float(there), "sigma_here": float(here)}
    knob = "the target column of the manifest: check its WCS, origin (0 or 1), binning and section"
    yield Finding("shifted_labels", text, numbers | {"standard_errors": lit.excess(dy, dx)}, knob, _figure(lit.mean))


def light_around(probe: Probe) -> list[LightAround] | None:
    """Measure the light around positive pixels of training and validation, by channel; None where none is positive."""
    parts = [
        part
        for store in (probe.splits.train, probe.splits.val)
        for field in fields_of(store)
        if (part := _around(field)) is not None
    ]
    if not parts:
        return None
    blocks, pixels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return [LightAround(blocks[:, channel], pixels) for channel in range(blocks.shape[1])]


def _around(field: Field) -> tuple[Floats, Floats] | None:
    """Return sums (N, C, S, S) of a field's light around its positive pixels by block, and their numbers (N,)."""
    rows, columns = np.nonzero(field.target & field.valid)
    if rows.size == 0:
        return None
    step = -(-rows.size // MOST_PIXELS)
    rows, columns = rows[::step], columns[::step]
    _, block = np.unique((rows // BLOCK) * 100_000 + columns // BLOCK, return_inverse=True)
    light = np.clip(np.abs(field.image), 0, CLIP_SIGMA)
    padded = np.pad(light, ((0, 0), (REACH, REACH), (REACH, REACH)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (2 * REACH + 1, 2 * REACH + 1), axis=(1, 2))
    sums = np.zeros((block.max() + 1, len(light), 2 * REACH + 1, 2 * REACH + 1))
    for channel, shifts in enumerate(windows):
        np.add.at(sums[:, channel], block, shifts[rows, columns])
    return sums, np.bincount(block).astype(np.float64)


@styled
def _figure(mean: Floats) -> Figure:
    figure = new_figure(height=4.6)
    axes = figure.subplots()
    extent = (-REACH - 0.5, REACH + 0.5, -REACH - 0.5, REACH + 0.5)
    shown = axes.imshow(mean, origin="lower", extent=extent, cmap="viridis")
    axes.plot(0, 0, color=VERMILION, marker="+", markersize=14, linestyle="")
    axes.set(
        title="Mean light around positive pixels; the labels are at the cross",
        xlabel="shift in x, pixels",
        ylabel="shift in y, pixels",
    )
    axes.grid(False)
    figure.colorbar(shown, label="background sigma")
    return figure
