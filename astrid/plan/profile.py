"""What the training data are like, as far as the size of a network depends on it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from astrid.data.fields import Splits
from astrid.data.store import FieldStore

MOST_FIELDS, MOST_PIXELS = 64, 2**26
"""Bounds of what is searched for objects, so that a survey is profiled in seconds."""
NEIGHBOURS = np.ones((3, 3), dtype=int)
"""Positive pixels that touch by a corner belong to one object."""


@dataclass(frozen=True)
class DataProfile:
    """Measures of the prepared fields.

    Attributes
    ----------
    train_fields, val_fields, test_fields : int
    edge_pixels : int
        Median of the shorter edges of the training fields.
    smallest_edge_pixels, largest_edge_pixels : int
        Extremes of their edges.
    channels : int
    fwhm_pixels : float or None
        Median width of the PSF over the training fields that know theirs; None where none does.
    training_pixels : int
        Valid pixels to train on.
    positive_share : float
        Share of them that is positive.
    objects : int
        Connected positive regions that were measured.
    extent_pixels : float
        Longer edge of the box around an object, which 95 % of them don't exceed.
    """

    train_fields: int
    val_fields: int
    test_fields: int
    edge_pixels: int
    smallest_edge_pixels: int
    largest_edge_pixels: int
    channels: int
    fwhm_pixels: float | None
    training_pixels: int
    positive_share: float
    objects: int
    extent_pixels: float


def profile_data(splits: Splits) -> DataProfile:
    """Measure the training fields, of which one at least must hold a positive pixel."""
    store = splits.train
    edges = [(entry.height, entry.width) for entry in store.entries]
    widths = [entry.fwhm_pixels for entry in store.entries if entry.fwhm_pixels is not None]
    extents = object_extents(store)
    return DataProfile(
        train_fields=len(store),
        val_fields=len(splits.val),
        test_fields=len(splits.test),
        edge_pixels=int(np.median([min(edge) for edge in edges])),
        smallest_edge_pixels=min(min(edge) for edge in edges),
        largest_edge_pixels=max(max(edge) for edge in edges),
        channels=store.channels,
        fwhm_pixels=float(np.median(widths)) if widths else None,
        training_pixels=sum(entry.valid_pixels for entry in store.entries),
        positive_share=store.prior,
        objects=len(extents),
        extent_pixels=float(np.percentile(extents, 95)),
    )


def object_extents(store: FieldStore) -> NDArray[np.int64]:
    """Return the longer edges, in pixels, of the boxes around the objects of a sample of the fields."""
    with_objects = [number for number, entry in enumerate(store.entries) if entry.positives]
    stride = -(-len(with_objects) // MOST_FIELDS)
    found: list[NDArray[np.int64]] = []
    pixels = 0
    for number in with_objects[::stride]:
        target, valid = store.planes(number).astype(bool)
        found.append(_extents(target & valid))
        pixels += target.size
        if pixels >= MOST_PIXELS:
            break
    return np.concatenate(found)


def _extents(target: NDArray[np.bool_]) -> NDArray[np.int64]:
    labels, _ = ndimage.label(target, structure=NEIGHBOURS)
    boxes = [box for box in ndimage.find_objects(labels) if box is not None]
    return np.array([max(axis.stop - axis.start for axis in box) for box in boxes], dtype=np.int64)
