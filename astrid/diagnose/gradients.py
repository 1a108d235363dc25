"""What the norms of gradients and updates tell by layer: what never moves, what vanishes, what explodes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from astrid.layer_norms import EpochNorms
from astrid.plots import BLUE, VERMILION, new_figure, styled

from .evidence import Evidence
from .finding import Finding

VANISHED = 1e-4
"""A layer whose gradient, as a share of its weights, is below this part of the median layer's has all but none."""
EXPLODED = 300.0
"""Gradients of a later epoch that are typically that many times the largest of the first grow without bound."""


def frozen(evidence: Evidence) -> Iterator[Finding]:
    """Find parameters that no step that was looked at has changed, while others moved."""
    names = _names(evidence)
    still = [name for name in names if _is_still(evidence.norms, name)]
    if not still or len(still) == len(names):
        return
    text = f"frozen: {_blocks(still)} never changed ({len(still)} of {len(names)} parameters), the others did"
    numbers = {"frozen_parameters": float(len(still)), "parameters": float(len(names))}
    knob = "let these layers learn: whoever built the network set requires_grad to False, or left them out of the loss"
    yield Finding("frozen", text, numbers, knob, layers_figure(evidence, "update", marked=still))


def vanishing(evidence: Evidence) -> Iterator[Finding]:
    """Find layers whose gradients are next to nothing beside those of the others, in every epoch."""
    shares = {name: _typical(evidence.norms, name, "gradient") for name in evidence.weights}
    shares = {name: share for name, share in shares.items() if np.isfinite(share)}
    if not shares:
        return
    middle = float(np.median([share for share in shares.values() if share > 0] or [0.0]))
    gone = [name for name, share in shares.items() if share <= VANISHED * middle]
    if not gone:
        return
    worst = min(shares[name] for name in gone)
    text = (
        f"vanishing gradients: in {_blocks(gone)} they are down to {worst:.1e} of the weights, where those of the "
        f"median layer are {middle:.1e}"
    )
    knob = "model.norm=batch, model.residual=true or a smaller model.depth"
    yield Finding(
        "vanishing_gradients",
        text,
        {"smallest_share": worst, "median_share": middle},
        knob,
        layers_figure(evidence, "gradient", marked=gone),
    )


def exploding(evidence: Evidence) -> Iterator[Finding]:
    """Find gradients that are not finite, or grow from epoch to epoch beyond all bounds."""
    totals = np.array([_epoch_norm(norms) for norms in evidence.norms])
    finite = bool(np.isfinite(totals).all())
    growth = _growth(evidence.norms, totals) if finite else np.inf
    if growth < EXPLODED:
        return
    worst = int(np.argmax(np.where(np.isfinite(totals), totals, np.inf)))
    epoch, first = evidence.norms[worst].epoch, evidence.norms[0].epoch
    text = f"exploding gradients: their norm is {totals[worst]:.3g} in epoch {epoch}, {totals[0]:.3g} in epoch {first}"
    knob = "training.clip_norm=1, a smaller optimizer.lr, or training.precision=fp32"
    yield Finding("exploding_gradients", text, {"growth": growth}, knob, layers_figure(evidence, "gradient", marked=[]))


def total_norms(norms: EpochNorms) -> NDArray[np.float64]:
    """Return the norm of all gradients together, by step, (S,) float64; a parameter without one adds nothing."""
    known = [[0.0 if value is None else value for value in values] for values in norms.gradient.values()]
    total: NDArray[np.float64] = np.sqrt(np.square(known).sum(axis=0))
    return total


def _growth(epochs: Sequence[EpochNorms], typical: NDArray[np.float64]) -> float:
    """Return how many times the largest norm of the first epoch that of a later one typically is.

    The largest, since a first batch without positives has next to no gradient.
    """
    first = max((float(_taken(norms).max()) for norms in epochs[:1]), default=0.0)
    return float(typical[1:].max(initial=0.0) / max(first, 1e-30))


def _taken(norms: EpochNorms) -> NDArray[np.float64]:
    """Return the norms of the steps that changed a weight, or of all where none did.

    Under mixed precision the scaler leaves out steps that overflow, as it should.
    """
    totals, taken = total_norms(norms), np.any(list(norms.update.values()), axis=0)
    return totals[taken] if taken.any() else totals


def _epoch_norm(norms: EpochNorms) -> float:
    """Return the typical norm of an epoch's gradients, or one that is not finite where there is such a step."""
    totals = _taken(norms)
    wrong = totals[~np.isfinite(totals)]
    return float(wrong[0] if wrong.size else np.median(totals))


@styled
def layers_figure(evidence: Evidence, kind: str, *, marked: Iterable[str]) -> Figure:
    """Draw gradient or update as a share of the weight, by layer from input to output, each epoch a line."""
    names, marked = evidence.weights, set(marked)
    figure = new_figure(height=4.6)
    axes = figure.subplots()
    shares = np.array(
        [[_share(getattr(norms, kind), norms.weight, name) for name in names] for norms in evidence.norms]
    )
    axes.plot(shares.T, color=BLUE, alpha=0.3, linewidth=1)
    lowest = shares[shares > 0].min(initial=1.0)
    hit = [number for number, name in enumerate(names) if name in marked]
    axes.plot(hit, np.full(len(hit), lowest / 10), color=VERMILION, marker="v", linestyle="", label="found")
    axes.set_yscale("log", nonpositive="clip")
    axes.set(title=f"{kind} as a share of the weight, a line an epoch", ylabel="share")
    axes.set_xticks(range(len(names)), [name.removesuffix(".weight") for name in names], rotation=90, fontsize=7)
    axes.legend()
    return figure


def _is_still(epochs: list[EpochNorms], name: str) -> bool:
    """Tell whether a parameter never changed though it could have: it has no gradient at all, or one above 0.

    One with a gradient of 0 has nothing to learn from, which is another fault.
    """
    unchanged = all(max(norms.update[name]) == 0 for norms in epochs)
    return unchanged and all(gradient != 0 for norms in epochs for gradient in norms.gradient[name])


def _names(evidence: Evidence) -> list[str]:
    return list(evidence.norms[0].weight) if evidence.norms else []


def _share(values: Mapping[str, Sequence[float | None]], weights: Mapping[str, list[float]], name: str) -> float:
    known = np.array(values[name], dtype=np.float64)  # None becomes NaN
    return float(np.median(known / np.maximum(weights[name], 1e-30)))


def _typical(epochs: list[EpochNorms], name: str, kind: str) -> float:
    """Return the median share of a layer in its best epoch, so that one good epoch clears it."""
    return max(_share(getattr(norms, kind), norms.weight, name) for norms in epochs)


def _blocks(names: Iterable[str]) -> str:
    """Name the blocks that parameters belong to, each once."""
    return ", ".join(dict.fromkeys(".".join(name.split(".")[:2]) for name in names))
