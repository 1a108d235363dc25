"""Units that say nothing, the same in every pixel that was looked at, and networks that answer no number."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from matplotlib.figure import Figure

from astrid.plots import BLUE, VERMILION, new_figure, styled

from .finding import Finding
from .probe import Probe

DEAD_SHARE = 0.9
"""A layer with that share of dead channels is dead; single ones are common and cost only their computing."""
SAME = 1e-6
"""Outputs that differ by less than this, as a share of their size, are the same."""


def not_finite(probe: Probe) -> Iterator[Finding]:
    """Find a network whose answer is infinite or no number."""
    share = 1 - len(probe.seen) / max(1, len(probe.answers))
    if len(probe.seen) == len(probe.answers):
        return
    text = f"the network answers no number, or infinity, in {share:.0%} of the fields looked at"
    knob = "a smaller optimizer.lr or training.clip_norm, or training.precision=fp32; check the frames for huge values"
    yield Finding("not_finite", text, {"fields": share}, knob, _figure({"fields without an answer": share}))


def dead_units(probe: Probe) -> Iterator[Finding]:
    """Find layers whose channels are dead."""
    shares = {
        layer: float(np.mean(high - low <= SAME * (1e-30 + np.abs(high)))) for layer, (low, high) in probe.spans.items()
    }
    dead = [layer for layer, share in shares.items() if share >= DEAD_SHARE]
    if not dead:
        return
    share = f"{shares[dead[0]]:.0%} of the channels of {dead[0]}"
    text = f"dead units: {share} are constant on the validation fields looked at"
    text += f"; so are those behind it, {', '.join(dead[1:])}" if dead[1:] else ""
    knob = "model.activation=leaky_relu, a smaller optimizer.lr, schedule.warmup_epochs=1"
    yield Finding("dead_units", text, {f"{layer}.dead_share": shares[layer] for layer in dead}, knob, _figure(shares))


@styled
def _figure(shares: Mapping[str, float]) -> Figure:
    figure = new_figure(height=0.9 + 0.25 * len(shares))
    axes = figure.subplots()
    colors = [VERMILION if share >= DEAD_SHARE else BLUE for share in shares.values()]
    axes.barh(list(shares), list(shares.values()), color=colors)
    axes.set_axisbelow(True)
    axes.axvline(DEAD_SHARE, color="black", linestyle="--", linewidth=1)
    axes.set(title="Channels that are constant on validation, or fields without an answer", xlabel="share", xlim=(0, 1))
    axes.invert_yaxis()
    return figure
