"""Whether the loss suits how rare positives are."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.special import expit

from astrid.config import DiceLoss, TverskyLoss, settled
from astrid.data.tiles import cut_tile, tile_origins
from astrid.plots import BLUE, VERMILION, new_figure, styled

from .finding import Finding
from .probe import Probe

RARE = 0.05
"""Share of positive pixels below which negatives may drown them."""
EMPTY_BATCHES = 0.3
"""Share of batches without a positive pixel from which on a loss of overlap alone wastes its steps."""
TOLD_APART = 3.0
"""Factor by which the mean probability of positive pixels must exceed that of negatives."""


def imbalance(probe: Probe) -> Iterator[Finding]:
    """Find a loss of overlap that sees empty batches, and a network that calls everything negative."""
    yield from _empty_batches(probe)
    yield from _all_negative(probe)


def _empty_batches(probe: Probe) -> Iterator[Finding]:
    if not isinstance(probe.config.loss, DiceLoss | TverskyLoss):
        return
    empty = np.concatenate([_empty_tiles(probe, number) for number in range(len(probe.splits.train))])
    share = float(empty.mean() ** settled("data.batch_size", probe.config.data.batch_size))
    if share < EMPTY_BATCHES:
        return
    name = type(probe.config.loss).__name__.removesuffix("Loss").lower()
    text = f"class imbalance: {share:.0%} of the batches have no positive pixel, where the {name} loss has no gradient"
    numbers = {"empty_batches": share, "empty_tiles": float(empty.mean()), "prior": probe.splits.train.prior}
    yield Finding("imbalance", text, numbers, "loss=bce_dice, or a larger data.batch_size", _bars(numbers))


def _empty_tiles(probe: Probe, number: int) -> NDArray[np.bool_]:
    """Tell of each tile of a training field on the grid whether it has no positive pixel."""
    planes, tile = probe.splits.train.planes(number), probe.config.data.tile_size
    cuts = (cut_tile(planes, y0, x0, tile=tile) for y0, x0 in tile_origins(*planes.shape[1:], tile=tile))
    return np.array([not (target & valid).any() for target, valid in cuts])


def _all_negative(probe: Probe) -> Iterator[Finding]:
    prior = probe.splits.train.prior
    if not probe.seen or prior > RARE:
        return
    positive, negative = (
        np.concatenate([expit(one.logits[one.field.valid & (one.field.target == truth)]) for one in probe.seen])
        for truth in (True, False)
    )
    if positive.size == 0 or positive.mean() > TOLD_APART * negative.mean() or positive.max() > 0.5:
        return
    text = (
        f"class imbalance: {prior:.2%} of the pixels are positive, and the network calls all of them negative "
        f"(mean probability {positive.mean():.2g} where positive, {negative.mean():.2g} elsewhere)"
    )
    numbers = {"prior": prior, "positive": float(positive.mean()), "negative": float(negative.mean())}
    yield Finding("imbalance", text, numbers, "loss=bce_dice, loss=focal or loss.positive_weight=10", _bars(numbers))


@styled
def _bars(numbers: dict[str, float]) -> Figure:
    figure = new_figure(height=2.8)
    axes = figure.subplots()
    axes.barh(list(numbers), list(numbers.values()), color=[VERMILION, *[BLUE] * (len(numbers) - 1)])
    axes.set_axisbelow(True)
    axes.set(title="Positives and what the network says", xlabel="share, or mean probability")
    return figure
