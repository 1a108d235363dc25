"""Recognise pixels that occur in two frames, whichever way a copy is turned, mirrored or cut.

A frame is described by the surroundings of its local maxima. These are found in every copy of the frame that shows
them, and so are their surroundings, in one of eight orientations. Two exposures of one sky share none: their noise
differs.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Keys = NDArray[np.uint64]

WINDOW = 11  # pixels; a maximum is the highest pixel of a square of this size
PATCH = 7  # edge in pixels of the surroundings that are compared
LEAST_BITS = 64.0
"""Information in the surroundings: what has less, as in frames that count single photons, occurs twice by chance."""
MOST_OF_GROUP = 16
"""Images of a group that are compared about one hash."""
SHARED = 3
"""Surroundings that two frames must share: one may be a defect that was painted over alike."""

_WEIGHTS = np.random.default_rng(0x5EED).integers(0, 2**63, size=PATCH * PATCH, dtype=np.uint64) * np.uint64(2) + (
    np.uint64(1)
)


def describe_pixels(values: NDArray[np.floating]) -> Keys:
    """Return the sorted hashes of the surroundings of all local maxima of an image.

    Parameters
    ----------
    values : (H, W) float
        Compared as float32. Surroundings with a value that isn't finite count for nothing.

    Returns
    -------
    (N,) uint64
        About one for every 121 pixels of noise; those of a copy that is turned by quarters, mirrored or cut, but for
        what the cut took away.

    References
    ----------
    Local fingerprints that survive cutting: Schleimer, Wilkerson and Aiken 2003, doi:10.1145/872757.872770. Hashes are
    multilinear: Carter and Wegman 1979, doi:10.1016/0022-0000(79)90044-8.
    """
    image = np.asarray(values, dtype=np.float32) + np.float32(0)  # -0 becomes 0
    if min(image.shape) < PATCH:
        return np.empty(0, dtype=np.uint64)
    patches = _patches(image)
    bits = np.ascontiguousarray(patches).view(np.uint32).astype(np.uint64)
    ways = [turned for mirrored in (bits, bits[:, :, ::-1]) for turned in _turned(mirrored)]
    hashes = np.stack([(way.reshape(len(bits), PATCH * PATCH) * _WEIGHTS).sum(axis=1, dtype=np.uint64) for way in ways])
    return np.unique(hashes.min(axis=0))


def _turned(patches: NDArray[np.uint64]) -> list[NDArray[np.uint64]]:
    return [np.rot90(patches, quarter, axes=(1, 2)) for quarter in range(4)]


def _patches(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the (N, PATCH, PATCH) surroundings of the local maxima that can be told from others."""
    known = np.isfinite(image)
    low = np.where(known, image, -np.inf)
    peaks = known & (low == ndimage.maximum_filter(low, size=WINDOW, mode="constant", cval=-np.inf))
    half = PATCH // 2
    windows = np.lib.stride_tricks.sliding_window_view(image, (PATCH, PATCH))
    patches = windows[np.nonzero(peaks[half:-half, half:-half])]
    patches = patches[np.isfinite(patches).all(axis=(1, 2))]
    return np.asarray(patches[_information(patches) >= LEAST_BITS])


def _information(patches: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the bits in each of N patches: pixels times the entropy of their values (Shannon 1948)."""
    pixels = PATCH * PATCH
    ordered = np.sort(patches.reshape(len(patches), pixels), axis=1)
    is_new = np.ones(ordered.shape, dtype=bool)
    is_new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    value = np.cumsum(is_new) - 1
    occurrences = np.bincount(value)[value].reshape(ordered.shape)
    return np.asarray(np.log2(pixels / occurrences).sum(axis=1), dtype=np.float64)


def find_copies(
    keys: Sequence[Keys], groups: Sequence[int], *, may_share: Sequence[bool] | None = None
) -> tuple[int, int] | None:
    """Return the numbers of two images of different groups that share pixels, the smaller first; None if none do.

    Parameters
    ----------
    keys : sequence of (N,) uint64
        As `describe_pixels` gives them, of each image.
    groups : sequence of int
        Which group each image belongs to.
    may_share : sequence of bool, optional
        Which images may share pixels among each other, but with none of the rest; none by default.
    """
    lenient = np.zeros(len(keys), dtype=bool) if may_share is None else np.asarray(may_share, dtype=bool)
    owners = np.repeat(np.arange(len(keys)), [len(own) for own in keys])
    every = np.concatenate([*keys, np.empty(0, dtype=np.uint64)])
    order = np.argsort(every, kind="stable")
    every, owners = every[order], owners[order]
    starts = np.flatnonzero(np.append(True, every[1:] != every[:-1])) if len(every) else np.empty(0, dtype=np.intp)
    shared: dict[tuple[int, int], int] = {}
    for run in _runs_across(owners, starts, groups=np.asarray(groups), lenient=lenient):
        for pair in _pairs_across(run, groups, lenient):
            shared[pair] = shared.get(pair, 0) + 1
            if shared[pair] >= SHARED:
                return pair
    return None


def _runs_across(
    owners: NDArray[np.intp], starts: NDArray[np.intp], *, groups: NDArray[np.int_], lenient: NDArray[np.bool_]
) -> list[NDArray[np.intp]]:
    """Return the images that have one hash, where they belong to several groups and not all are lenient."""
    if not len(starts):
        return []
    own = groups[owners]
    parted = np.minimum.reduceat(own, starts) != np.maximum.reduceat(own, starts)
    strict = ~np.logical_and.reduceat(lenient[owners], starts)
    ends = np.append(starts[1:], len(owners))
    return [owners[starts[run] : ends[run]] for run in np.flatnonzero(parted & strict)]


def _pairs_across(
    run: NDArray[np.intp], groups: Sequence[int], lenient: NDArray[np.bool_]
) -> Iterator[tuple[int, int]]:
    """Yield each two images of different groups that have one hash and aren't both lenient, of the first of each group.

    What many share, as a defect that is painted over alike, would have as many pairs as their number squared. A frame
    that is copied so often is found among the first.
    """
    first: dict[tuple[int, bool], list[int]] = {}
    for member in run.tolist():
        own = first.setdefault((groups[member], bool(lenient[member])), [])
        if len(own) < MOST_OF_GROUP:
            own.append(member)
    for one, two in itertools.combinations(first, 2):
        if one[0] != two[0] and not (one[1] and two[1]):
            yield from (min(pair, pair[::-1]) for pair in itertools.product(first[one], first[two]))
