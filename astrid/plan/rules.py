"""Which sizes suit which data: pure rules, each with its reason. What fits into memory is measured elsewhere."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from .profile import DataProfile

SKY_AROUND_FWHM = 5.0
"""FWHM of sky on each side of an object that tell it from its surroundings: the wings of the PSF, and background."""
EFFECTIVE = 2.0
"""A receptive field counts by its middle half; its edge has hardly any weight (Luo et al. 2016, arXiv:1701.04128)."""
NOMINAL_FWHM_PIXELS = 3.0
"""Width of the PSF where the data don't tell it; the reason says so."""
SMALLEST_BOTTLENECK = 4
"""Pixels along the bottleneck of a tile; with fewer, most of what a 3×3 convolution sees there is padding."""
DEEPEST = 6
FILTERS = (8, 16, 32, 64)
"""Channels of the first level that are considered."""
PIXELS_PER_WEIGHT = 8
"""Training pixels for each weight, below which a network may learn them by heart. Sixteen were too many: on 64 fields
of the default sky 16 filters, with 9 pixels each, scored above 8 filters with 35 (experiments/LOG.md)."""
MOST_FILTERS = {"cpu": 16, "cuda": 64}
"""Twice the filters take about four times as long, which few processors can bear."""
SMALLEST_TILE = 16
ENOUGH_STEPS = 2000
"""Steps of a run below which a larger batch costs more than it gains: on the default sky, at equal epochs, the score
falls with each doubling of the batch from 4, which leaves 2048 steps (experiments/LOG.md)."""
SMALLEST_BATCH = 4
"""Tiles per step that a short run gets all the same: smaller batches make noisy gradients."""


@dataclass(frozen=True)
class Choice:
    """What a knob should be, and why: one sentence with its numbers."""

    value: int
    reason: str


def needed_field_pixels(profile: DataProfile) -> float:
    """Receptive field that sees an object with the sky around it in its effective middle."""
    fwhm = NOMINAL_FWHM_PIXELS if profile.fwhm_pixels is None else profile.fwhm_pixels
    return EFFECTIVE * (profile.extent_pixels + 2 * SKY_AROUND_FWHM * fwhm)


def deepest_for(edge: int, *, tile: int | None = None) -> int:
    """Largest depth whose bottleneck keeps enough pixels in a tile of this edge, and that divides it where it's given.

    At least 1, for which no smaller network exists.
    """
    fitting = [
        depth
        for depth in range(1, DEEPEST + 1)
        if edge // 2**depth >= SMALLEST_BOTTLENECK and (tile is None or tile % 2**depth == 0)
    ]
    return max(fitting, default=1)


def deepest_where(holds: Callable[[int], bool]) -> int:
    """Largest depth up to which something holds; at least 1."""
    return next((depth for depth in range(2, DEEPEST + 1) if not holds(depth)), DEEPEST + 1) - 1


def choose_depth(profile: DataProfile, *, reach: Callable[[int], int], bounds: Mapping[str, int]) -> Choice:
    """Choose the smallest depth whose receptive field, `reach(depth)`, shows what is needed.

    Parameters
    ----------
    profile : DataProfile
    reach : callable
        Depth to receptive field in pixels.
    bounds : mapping of str to int
        Largest possible depth by what bounds it, in words.
    """
    needed = needed_field_pixels(profile)
    bound, deepest = min(bounds.items(), key=lambda item: item[1])
    depth = next((depth for depth in range(1, deepest + 1) if reach(depth) >= needed), deepest)
    width = (
        f"{profile.fwhm_pixels:.1f}" if profile.fwhm_pixels is not None else f"unknown, taken as {NOMINAL_FWHM_PIXELS}"
    )
    why = (
        f"95 % of {profile.objects} objects are within {profile.extent_pixels:.0f} pixels, the PSF's FWHM is {width}: "
        f"with {SKY_AROUND_FWHM:.0f} FWHM of sky around them, twice that is {needed:.0f} pixels, and a logit sees "
        f"{reach(depth)}"
    )
    return Choice(depth, why if reach(depth) >= needed else f"{why}; {bound} for more")


def choose_tile(profile: DataProfile, *, depth: int, reach_pixels: int) -> Choice:
    """Choose the power of two that holds the receptive field, or what the fields have; a multiple of 2**depth."""
    step = 2**depth
    least = max(2 * step, SMALLEST_TILE)
    wanted = max(least, 2 ** (reach_pixels - 1).bit_length())
    if wanted <= profile.edge_pixels:
        return Choice(wanted, f"the smallest power of two that holds the receptive field of {reach_pixels} pixels")
    tile = max(least, profile.edge_pixels // step * step)
    fields = f"half of the fields have an edge of {profile.edge_pixels} pixels or less"
    if tile > profile.edge_pixels:
        return Choice(tile, f"{fields}: the smallest tile at depth {depth}, filled up with pixels that don't count")
    return Choice(tile, f"{fields}: the largest multiple of {step} in them, for a receptive field of {reach_pixels}")


def choose_filters(profile: DataProfile, *, device: str, weights: Callable[[int], int]) -> Choice:
    """Choose the most filters for which the data and the device suffice; `weights(filters)` counts the network's."""
    bearable = [count for count in FILTERS if count <= MOST_FILTERS[device]]
    enough = [count for count in bearable if weights(count) * PIXELS_PER_WEIGHT <= profile.training_pixels]
    filters = max(enough, default=FILTERS[0])
    ratio = profile.training_pixels / weights(filters)
    why = f"{weights(filters):,} weights for {profile.training_pixels:,} training pixels, {ratio:.2g} each"
    if not enough:
        return Choice(filters, f"{why}: fewer than {PIXELS_PER_WEIGHT}, so the smallest; model.dropout may help")
    if filters == bearable[-1]:
        return Choice(filters, f"{why}; {filters} are the most that are proposed for {device}, for speed")
    more = FILTERS[FILTERS.index(filters) + 1]
    return Choice(filters, f"{why}; {more} filters would leave fewer than {PIXELS_PER_WEIGHT}")


def most_tiles_a_step(tiles: int, *, epochs: int, accumulate: int) -> int:
    """Largest power of two that leaves enough steps in the run, or the smallest batch where none does.

    Parameters
    ----------
    tiles : int
        Training tiles an epoch.
    epochs, accumulate : int
        Of the training.
    """
    batch: int = 2 ** (tiles.bit_length() - 1)
    while batch > SMALLEST_BATCH and steps(tiles, batch=batch, epochs=epochs, accumulate=accumulate) < ENOUGH_STEPS:
        batch //= 2
    return batch


def steps(tiles: int, *, batch: int, epochs: int, accumulate: int) -> int:
    """Steps of the optimizer in a run."""
    return epochs * math.ceil(math.ceil(tiles / batch) / accumulate)
