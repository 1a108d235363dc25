"""What labels look like beside the light and beside what the network makes of it: shifted, speckled, contradictory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from astrid.data.frames import Field
from astrid.data.store import FieldStore
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
    blocks : (N, C, S, S) float64
        Sum over the positive pixels of each block of the light of each channel at a shift from them, S = 2 REACH + 1,
        rows are dy.
    pixels : (N,) float64
        How many there are.
    """

    blocks: Floats
    pixels: Floats

    @cached_property
    def channel(self) -> int:
        """Channel in which the light stands out most from that at the other shifts."""
        means = self.blocks.sum(axis=0) / self.pixels.sum()
        return int((means.max(axis=(1, 2)) - np.median(means, axis=(1, 2))).argmax())

    @cached_property
    def mean(self) -> Floats:
        """Mean light of that channel by shift, (S, S) in background sigma."""
        result: Floats = self.blocks[:, self.channel].sum(axis=0) / self.pixels.sum()
        return result

    @property
    def shift(self) -> tuple[int, int] | None:
        """Where the light lies, (dy, dx) pixels from the labels; None where that is under them, or can't be told."""
        dy, dx = (int(index) - REACH for index in np.unravel_index(self.mean.argmax(), self.mean.shape))
        is_lit = self.mean.max() >= CONTRAST * self.mean[REACH, REACH] and self.excess(dy, dx) >= SIGNIFICANT
        return (dy, dx) if is_lit and np.hypot(dy, dx) >= SMALLEST_SHIFT else None

    def excess(self, dy: int, dx: int) -> float:
        """Return by how many standard errors the light at a shift exceeds that at none, over blocks."""
        gain = self.blocks[:, self.channel, REACH + dy, REACH + dx] - self.blocks[:, self.channel, REACH, REACH]
        return float(gain.sum() / max(np.sqrt(np.square(gain).sum()), 1e-30))


def shifted_labels(probe: Probe) -> Iterator[Finding]:
    """Find labels that lie beside the light they mark, by the cross-correlation of light and target."""
    splits = {"training": light_around(probe.splits.train), "validation": light_around(probe.splits.val)}
    shifted = {name: lit for name, lit in splits.items() if lit is not None and lit.shift is not None}
    whole = pooled([lit for lit in splits.values() if lit is not None])
    if not shifted and whole is not None and whole.shift is not None:  # each has too few positives to tell alone
        shifted = {"training and validation": whole}
    if shifted:
        yield _finding(shifted)


def light_around(store: FieldStore) -> LightAround | None:
    """Measure the light around the positive pixels of a split; None where none is positive."""
    return pooled([part for field in fields_of(store) if (part := _around(field)) is not None])


def pooled(parts: Sequence[LightAround]) -> LightAround | None:
    """Put measurements together; None where there is none."""
    if not parts:
        return None
    return LightAround(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("blocks", "pixels")))


def _finding(shifted: Mapping[str, LightAround]) -> Finding:
    lit = next(iter(shifted.values()))
    assert lit.shift is not None
    (dy, dx), mean = lit.shift, lit.mean
    here, there, errors = float(mean[REACH, REACH]), float(mean.max()), lit.excess(dy, dx)
    text = (
        f"shifted labels: in {' and '.join(shifted)} the light lies {dx:+d} pixels in x and {dy:+d} in y from what is "
        f"labelled ({there:.2g} sigma there, {here:.2g} under the labels)"
    )
    numbers = {"dx": float(dx), "dy": float(dy), "sigma_there": there, "sigma_here": here, "standard_errors": errors}
    knob = "the target column of the manifest: check its WCS, origin (0 or 1), binning and section"
    return Finding("shifted_labels", text, numbers, knob, _figure(mean))


def _around(field: Field) -> LightAround | None:
    """Measure the light around a field's positive pixels; None where it has none."""
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
    return LightAround(sums, np.bincount(block).astype(np.float64))


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
