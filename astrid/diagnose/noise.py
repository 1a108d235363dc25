"""Labels that contradict what is plain to see: speckle, fields whose labels are turned over, objects without a label.

Labels are called wrong as in confident learning (Northcutt, Jiang and Chuang 2021, doi:10.1613/jair.1.12125): where
the network is as sure of the other class as it is, typically, of those that bear that label. Objects are counted
rather than pixels, since every object has an edge whose pixels could bear either label.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.ndimage import convolve, distance_transform_edt
from scipy.stats import binom, rankdata

from astrid.metrics.detections import Detections, find_detections
from astrid.plots import ORANGE, VERMILION, new_figure, styled

from .finding import Finding
from .probe import Probe, Seen

Plane = NDArray[np.bool_]

SPECKLE = 0.02
"""Share of positives among pixels with at most one positive neighbour: in masks of objects one in a thousand."""
MOST_AROUND = 1
TURNED_AUROC = 0.3
"""A field in which the network ranks pixels the wrong way round, below the 0.5 of chance, has its labels reversed."""
LOWEST_LOSS = 0.1
"""Detections begin where a pixel without a label would cost this much: at a probability of 0.1."""
NEAR_PIXELS = 4.0
"""A detection that is nearer to a labelled pixel belongs to it."""
TOP_SHARE = 0.5
"""Contradictions are as sure as this share, the surest, of the labelled detections."""
TOLERATED = 0.05
"""Share of contradictions among the surest detections that a sound set may have."""
IN_EACH = 0.05
"""Share of contradictions that each split must have: one split alone may have a kind of sky that the other lacks."""
CONFIDENCE = 1e-3
"""Probability with which a sound set may seem unsound."""
SHOWN = 6
"""Suspects in the figure."""
EDGE = 32
"""Half of the edge of their cutouts, in pixels."""


@dataclass(frozen=True)
class Suspect:
    """A place whose label is likely wrong, and how much its loss would be."""

    seen: Seen
    y: int
    x: int
    loss: float


@dataclass(frozen=True)
class Agreement:
    """Detections as sure as the surest labelled ones: how many have a label, and those that have none."""

    labelled: int
    suspects: list[Suspect]

    @property
    def share(self) -> float:
        """Share of them without a label."""
        return len(self.suspects) / max(1, self.labelled + len(self.suspects))

    @property
    def is_unsound(self) -> bool:
        """Whether more have none than chance allows a sound set."""
        found = len(self.suspects)
        return bool(binom.sf(found - 1, self.labelled + found, TOLERATED) < CONFIDENCE) if found else False


def label_noise(probe: Probe) -> Iterator[Finding]:
    """Find labels that are wrong: by the pixel, by the field or by the object."""
    yield from next(filter(None, (check(probe.seen) for check in (speckled, turned_over, contradictory))), [])


def speckled(seen: Sequence[Seen]) -> list[Finding]:
    """Find single pixels that are labelled here and there."""
    shares = {
        split: float(np.median([speckle(one.field.target, one.field.valid) for one in seen if one.split == split]))
        for split in {one.split for one in seen}
    }
    share = max(shares.values(), default=0.0)
    if share < SPECKLE:
        return []
    text = f"label noise: {share:.1%} of the pixels that have no labelled neighbours are labelled, one by one"
    suspects = [_worst_of(one) for one in seen[:SHOWN]]
    return [_finding(text, {"speckle_share": share}, suspects)]


def turned_over(seen: Sequence[Seen]) -> list[Finding]:
    """Find fields in which the network ranks pixels the wrong way round."""
    areas = [(area, number) for number, one in enumerate(seen) if (area := auroc(one)) is not None]
    ranked = sorted(pair for pair in areas if pair[0] < TURNED_AUROC)
    if not ranked or len(ranked) > len(seen) / 2:
        return []
    wrong, lowest = [seen[number] for _, number in ranked], ranked[0][0]
    text = (
        f"label noise: in {len(wrong)} of {len(seen)} fields the labels seem turned over, {wrong[0].split} field "
        f"{wrong[0].field.name} first: AUROC {lowest:.2f}, below chance"
    )
    numbers = {"fields": float(len(wrong)), "of_fields": float(len(seen)), "lowest_auroc": lowest}
    return [_finding(text, numbers, [_worst_of(one) for one in wrong[:SHOWN]])]


def contradictory(seen: Sequence[Seen]) -> list[Finding]:
    """Find objects without a label of which the network is as sure as of those that have one."""
    agreement = agree(seen)
    splits = [agree([one for one in seen if one.split == split]) for split in sorted({one.split for one in seen})]
    if not agreement.is_unsound or min(part.share for part in splits) < IN_EACH:
        return []
    text = (
        f"label noise: {len(agreement.suspects)} of the {len(agreement.suspects) + agreement.labelled} objects of "
        f"which the network is surest have no label ({agreement.share:.0%})"
    )
    numbers = {"unlabelled": float(len(agreement.suspects)), "labelled": float(agreement.labelled)}
    return [_finding(text, numbers, agreement.suspects)]


def speckle(target: Plane, valid: Plane) -> float:
    """Return the share of positives among the valid pixels with at most one positive neighbour of eight."""
    around = convolve(target.astype(np.uint8), np.ones((3, 3), np.uint8), mode="constant") - target
    lonely = valid & (around <= MOST_AROUND)
    return float(target[lonely].mean()) if lonely.any() else 0.0


def auroc(one: Seen) -> float | None:
    """Return the area under the ROC curve of a field's pixels; None where it has one class only."""
    target, logits = one.field.target[one.field.valid], one.logits[one.field.valid]
    positives = int(target.sum())
    if positives in (0, target.size):
        return None
    ranks = rankdata(logits)[target].sum() - positives * (positives + 1) / 2
    return float(ranks / (positives * (target.size - positives)))


def agree(seen: Sequence[Seen]) -> Agreement:
    """Count the surest detections that have a label, and collect those that have none."""
    scores: list[float] = []
    strangers: list[Suspect] = []
    for one in seen:
        found, is_near = _detections(one)
        scores += found.score[is_near].tolist()
        for y, x, score in zip(found.y[~is_near], found.x[~is_near], found.score[~is_near], strict=True):
            strangers.append(Suspect(one, round(y), round(x), float(score)))
    if not scores:
        return Agreement(0, [])
    sure = float(np.quantile(scores, 1 - TOP_SHARE))
    surest = [suspect for suspect in strangers if suspect.loss >= sure]
    return Agreement(sum(score >= sure for score in scores), sorted(surest, key=lambda suspect: -suspect.loss))


def _detections(one: Seen) -> tuple[Detections, Plane]:
    """Return a field's detections, and which of them may bear a label.

    The response is the loss of a negative, -log(1 - p), which ranks as p does and doesn't end at 1. What lies beside
    pixels whose label isn't known may bear one.
    """
    response = np.logaddexp(0, one.logits)
    found = find_detections(response, one.field.valid, threshold=LOWEST_LOSS, min_pixels=2)
    known_empty = one.field.valid & ~one.field.target
    away = np.full(response.shape, np.inf) if known_empty.all() else distance_transform_edt(known_empty)
    return found, away[np.rint(found.y).astype(int), np.rint(found.x).astype(int)] < NEAR_PIXELS


def _worst_of(one: Seen) -> Suspect:
    """Return the pixel of a field with the highest loss."""
    towards_truth = np.where(one.field.target, one.logits, -one.logits)
    towards_truth[~one.field.valid] = np.inf
    y, x = np.unravel_index(towards_truth.argmin(), towards_truth.shape)
    return Suspect(one, int(y), int(x), float(np.logaddexp(0, -towards_truth[y, x])))


def _finding(text: str, numbers: dict[str, float], suspects: Sequence[Suspect]) -> Finding:
    knob = "the labels: the figure shows the worst; loss=focal or a smaller model.filters learns fewer of them by heart"
    return Finding("label_noise", text, numbers, knob, _figure(suspects[:SHOWN]))


@styled
def _figure(suspects: Sequence[Suspect]) -> Figure:
    figure = new_figure(height=5.4)
    for axes, suspect in zip(figure.subplots(2, SHOWN // 2).flat, suspects, strict=False):
        _draw(axes, suspect)
    figure.suptitle("Suspects: last channel, labels outlined, the highest losses circled", fontsize=10)
    return figure


def _draw(axes: Axes, suspect: Suspect) -> None:
    """Draw the surroundings of a suspect."""
    field = suspect.seen.field
    centre, sizes = (suspect.y, suspect.x), field.target.shape
    top, left = (max(0, min(at - EDGE, size - 2 * EDGE)) for at, size in zip(centre, sizes, strict=True))
    part = (slice(top, top + 2 * EDGE), slice(left, left + 2 * EDGE))
    axes.imshow(field.image[-1][part], origin="lower", cmap="gray", vmin=-3, vmax=10)
    if field.target[part].any() and not field.target[part].all():
        axes.contour(field.target[part], [0.5], colors=ORANGE, linewidths=1)
    axes.plot(suspect.x - left, suspect.y - top, color=VERMILION, marker="o", markersize=16, fillstyle="none")
    axes.set_title(f"{suspect.seen.split} {field.name}, loss {suspect.loss:.1f}", fontsize=8)
    axes.set(xticks=(), yticks=())
    axes.grid(False)
