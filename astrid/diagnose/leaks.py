"""Pixels that training and evaluation share, be they rescaled or a little noised.

Noise never repeats: where many runs of neighbouring pixels rise and fall alike, they come from one exposure. A run is
described by which of its pixels exceed which (as in BRIEF, Calonder et al. 2010, doi:10.1007/978-3-642-15561-1_56), so
that neither scale nor level matter. As in winnowing of texts (Schleimer, Wilkerson and Aiken 2003,
doi:10.1145/872757.872770), only runs whose hash is a multiple of a number are kept, so that any overlap is found at any
offset while few hashes are compared.
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

LENGTH = 16
"""Pixels of a run, in a row."""
LAGS = (1, 2, 3, 5)
"""Distances at which the pixels of a run are compared."""
TURNS = 8
"""Times that a run must turn from rising to falling or back, as noise does nine times; blended stars do less often."""
KEPT = 32
"""One in so many hashes is kept."""
SHARED, SHARED_PART = 8, 0.02
"""Kept hashes that two fields must have in common, also as a part of those of one."""
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
    """Return the kept hashes of a plane, (N,) uint64, each once; what is smooth or has equal neighbours has none.

    Parameters
    ----------
    image : (H, W) float32
    """
    width = image.shape[1] - LENGTH + 1
    if width < 1:
        return np.empty(0, np.uint64)
    rises = {lag: (image[:, lag:] > image[:, :-lag]).astype(np.uint64) for lag in LAGS}
    word = np.zeros((image.shape[0], width), np.uint64)
    for lag in LAGS:
        for offset in range(LENGTH - lag):
            word = (word ^ rises[lag][:, offset : offset + width]) * MULTIPLIER
            word ^= word >> np.uint64(29)
    return np.unique(word[_is_noise(image) & (word % np.uint64(KEPT) == 0)])


def _is_noise(image: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Tell of each run, (H, W - LENGTH + 1), whether it turns often enough and has no equal neighbours."""
    steps = np.sign(np.diff(image, axis=1))
    turns, equal = steps[:, 1:] * steps[:, :-1] < 0, steps == 0
    noisy: NDArray[np.bool_] = (_within(turns, LENGTH - 2) >= TURNS) & (_within(equal, LENGTH - 1) == 0)
    return noisy


def _within(flags: NDArray[np.bool_], length: int) -> NDArray[np.int64]:
    """Return how many are set in each window of a length along the rows."""
    counted = np.pad(np.cumsum(flags, axis=1, dtype=np.int64), ((0, 0), (1, 0)))
    return counted[:, length:] - counted[:, :-length]


def _match(store: FieldStore, number: int, everything: Hashes, owner: NDArray[np.int64]) -> tuple[int, int] | None:
    """Return the training field that shares most with a field, and how many hashes; None where none does."""
    own = fingerprints(store.image(number)[0])
    counts = np.bincount(owner[np.isin(everything, own)], minlength=1)
    best = int(counts.argmax())
    return (best, int(counts[best])) if counts[best] >= max(SHARED, SHARED_PART * len(own)) else None


def _finding(probe: Probe, split: str, pairs: dict[int, tuple[int, int]]) -> Finding:
    store, train = getattr(probe.splits, split), probe.splits.train
    number, (twin, _) = next(iter(pairs.items()))
    names = f"{store.entries[number].name} of {split} and {train.entries[twin].name} of training"
    text = f"leak: {len(pairs)} of {len(store)} {split} fields share pixels with training fields, {names} among them"
    knob = (
        "the manifest's columns field and split, data.split_unit=field (or night), or data.split_seed: one "
        "exposure, one side; delete data.cache if its files were touched"
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
