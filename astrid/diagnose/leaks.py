"""Pixels that training and evaluation share.

Noise never repeats: runs of eight neighbouring pixels that agree to the last bit come from one exposure. As in
winnowing of texts (Schleimer, Wilkerson and Aiken 2003, doi:10.1145/872757.872770), only those whose hash is a
multiple of a number are kept, so that any overlap is found at any offset while few hashes are compared.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from astrid.data.store import FieldStore
from astrid.plots import new_figure, styled

from .finding import Finding
from .probe import Probe

Hashes = NDArray[np.uint64]

LENGTH = 8
"""Neighbouring pixels in a row that are hashed together."""
KEPT = 32
"""One in so many hashes is kept."""
SHARED = 8
"""Kept hashes that two fields must have in common."""
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
"""2**64 over the golden ratio, odd: Knuth's multiplicative hashing, The Art of Computer Programming 3, section 6.4."""


def leaks(probe: Probe) -> Iterator[Finding]:
    """Find validation and test fields that share pixels with training fields."""
    known = [fingerprints(probe.splits.train.image(number)[0]) for number in range(len(probe.splits.train))]
    owner = np.repeat(np.arange(len(known)), [len(part) for part in known])
    everything = np.concatenate(known)
    for split in ("val", "test"):
        store: FieldStore = getattr(probe.splits, split)
        pairs = {number: pair for number in range(len(store)) if (pair := _match(store, number, everything, owner))}
        if pairs:
            yield _finding(probe, split, pairs)


def fingerprints(image: NDArray[np.float32]) -> Hashes:
    """Return the kept hashes of a plane, (N,) uint64, each once; runs in which two neighbours agree don't count.

    Parameters
    ----------
    image : (H, W) float32
    """
    bits = np.ascontiguousarray(image, dtype=np.float32).view(np.uint32).astype(np.uint64)
    width = bits.shape[1] - LENGTH + 1
    hashed, varied = np.zeros((bits.shape[0], width), np.uint64), np.ones((bits.shape[0], width), bool)
    for offset in range(LENGTH):
        part = bits[:, offset : offset + width]
        hashed = (hashed ^ part) * MULTIPLIER
        hashed ^= hashed >> np.uint64(29)
        if offset:
            varied &= part != bits[:, offset - 1 : offset - 1 + width]
    return np.unique(hashed[varied & (hashed % np.uint64(KEPT) == 0)])


def _match(store: FieldStore, number: int, everything: Hashes, owner: NDArray[np.int64]) -> tuple[int, int] | None:
    """Return the training field that shares most with a field, and how many hashes; None where none does."""
    common = np.isin(everything, fingerprints(store.image(number)[0]))
    counts = np.bincount(owner[common], minlength=1)
    best = int(counts.argmax())
    return (best, int(counts[best])) if counts[best] >= SHARED else None


def _finding(probe: Probe, split: str, pairs: dict[int, tuple[int, int]]) -> Finding:
    store, train = getattr(probe.splits, split), probe.splits.train
    number, (twin, _) = next(iter(pairs.items()))
    names = f"{store.entries[number].name} of {split} and {train.entries[twin].name} of training"
    text = f"leak: {len(pairs)} of {len(store)} {split} fields share pixels with training fields, {names} among them"
    knob = (
        "the manifest's columns field and split, data.split_unit=sky, or data.split_seed: one exposure, one side; "
        "delete data.cache if its files were touched"
    )
    numbers = {"shared_fields": float(len(pairs)), "fields": float(len(store))}
    return Finding("leak", text, numbers, knob, _figure(store.image(number)[0], train.image(twin)[0], names))


@styled
def _figure(ours: NDArray[np.float32], theirs: NDArray[np.float32], names: str) -> Figure:
    figure = new_figure(height=4.4)
    for axes, image, title in zip(figure.subplots(1, 2), (ours, theirs), names.split(" and "), strict=True):
        axes.imshow(image[:256, :256], origin="lower", cmap="gray", vmin=-3, vmax=10)
        axes.set(title=title, xticks=(), yticks=())
        axes.grid(False)
    return figure
