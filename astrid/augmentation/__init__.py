"""Random changes of training batches on the device, drawn once per sample for image, target and valid together.

What happens to which sample is drawn on the host from the seed alone, so that no change waits for the device and a
resumed run repeats it; only noise is drawn where it is added.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from astrid.config import AugmentConfig
from astrid.data.dataset import Batch

from .defects import break_pixels
from .draws import Draws
from .geometry import orient, orient_at_random, shift_at_random
from .photometry import add_noise, add_sky, blur, scale_flux

__all__ = ["augment", "orient"]

Change = Callable[[Batch, Draws, AugmentConfig], Batch]

CHANGES: dict[str, Change] = {
    "flip": orient_at_random,
    "shift": shift_at_random,
    "flux": scale_flux,
    "blur": blur,
    "sky": add_sky,
    "noise": add_noise,
    "defect": break_pixels,
}
"""In the order of the light's path: place, brightness, seeing, sky, noise, detector. New ones come last, since the
place decides the seed."""

FIRST_STREAM = 2
"""First number of the seed of the first change; the order of tiles has the one before."""


def augment(batch: Batch, config: AugmentConfig, *, seed: Sequence[int]) -> Batch:
    """Change a training batch at random.

    Parameters
    ----------
    batch : dict
        image (B, C, T, T) float32 in background sigma; target and valid (B, 1, T, T) bool, valid True = counts.
    config : AugmentConfig
    seed : sequence of int
        What is drawn depends on it alone, and for each change on its own part of it: using one more leaves the others
        as they are.

    Returns
    -------
    dict of new tensors; the batch itself where nothing is to be changed.
    """
    for use in changes_in_use(config):
        draws = Draws([use.stream, *seed], device=batch["image"].device)
        changed = change_some(batch, use, draws=draws, config=config)
        batch = changed | {"image": in_order_of(batch["image"], changed["image"])}
    return batch


def in_order_of(image: Tensor, changed: Tensor) -> Tensor:
    """Return an image in the memory order that it had, or the network would turn it round in every layer."""
    last = image.is_contiguous(memory_format=torch.channels_last)
    return changed.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)


@dataclass(frozen=True)
class Use:
    """A change that may happen: its name, how often, and the number that its seed begins with."""

    name: str
    probability: float
    stream: int


def changes_in_use(config: AugmentConfig) -> Iterator[Use]:
    """Yield whatever may happen, in the order in which it does."""
    for stream, name in enumerate(CHANGES, start=FIRST_STREAM):
        probability = getattr(config, f"{name}_probability")
        if probability > 0 and (name != "flip" or config.flips):
            yield Use(name, probability, stream)


def change_some(batch: Batch, use: Use, *, draws: Draws, config: AugmentConfig) -> Batch:
    """Change each sample with a probability, and leave the others as they are, bit for bit."""
    change = CHANGES[use.name]
    if use.probability == 1:
        return change(batch, draws, config)
    chosen = np.flatnonzero(draws.host.random(batch["image"].shape[0]) < use.probability)
    if chosen.size == 0:
        return batch
    index = draws.to_device(torch.from_numpy(chosen))
    changed = change({name: planes[index] for name, planes in batch.items()}, draws, config)
    return {name: planes.index_copy(0, index, changed[name]) for name, planes in batch.items()}
