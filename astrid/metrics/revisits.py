"""Visits of one patch of sky taken together: they share its sources and its background, so they are one unit."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from .object_counts import ObjectCounts
from .per_field import FieldCounts, PixelSums

Number = TypeVar("Number", bound=np.generic)


def merge_visits(counts: FieldCounts) -> FieldCounts:
    """Return the counts of F fields as those of their G patches of sky, in the order in which these first occur.

    Scores of single fields are left out, since sums don't tell them.

    Parameters
    ----------
    counts : FieldCounts
    """
    if counts.independent == len(counts.names):
        return counts
    return dataclasses.replace(
        counts,
        names=list(dict.fromkeys(counts.groups)),
        positives=sum_visits(counts.positives, counts.groups),
        negatives=sum_visits(counts.negatives, counts.groups),
        objects=None if counts.objects is None else merge_object_visits(counts.objects, counts.groups),
        scores={},
        pixels=None if counts.pixels is None else _merge_sums(counts.pixels, counts.groups),
        groups=tuple(dict.fromkeys(counts.groups)),
    )


def merge_object_visits(objects: ObjectCounts, groups: Sequence[str]) -> ObjectCounts:
    """Return what was detected in F fields as what was detected in their patches of sky.

    Parameters
    ----------
    objects : ObjectCounts
    groups : sequence of F str
        Patch of sky of each field.
    """
    return dataclasses.replace(
        objects,
        counts=sum_visits(objects.counts, groups),
        valid_pixels=sum_visits(objects.valid_pixels, groups),
        field=_places(groups)[objects.field],
    )


def sum_visits(values: NDArray[Number], groups: Sequence[str]) -> NDArray[Number]:
    """Add up the rows of the fields that share a patch of sky, (F, ...) to (G, ...)."""
    places = _places(groups)
    summed = np.zeros((places.max(initial=-1) + 1, *values.shape[1:]), dtype=values.dtype)
    np.add.at(summed, places, values)
    return summed


def _merge_sums(sums: PixelSums, groups: Sequence[str]) -> PixelSums:
    return PixelSums(**{name: sum_visits(values, groups) for name, values in vars(sums).items()})


def _places(groups: Sequence[str]) -> NDArray[np.int64]:
    """Return the place of each field's patch among all patches, (F,)."""
    places = {group: place for place, group in enumerate(dict.fromkeys(groups))}
    return np.array([places[group] for group in groups], dtype=np.int64)
