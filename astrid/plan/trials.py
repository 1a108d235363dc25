"""What fits into memory, found out by training steps of a throw-away network; nothing of them stays behind."""

from __future__ import annotations

import dataclasses
import logging
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from astrid.augmentation import augment
from astrid.config import Config, ModelConfig, settled
from astrid.data.dataset import training_loader
from astrid.data.fields import Splits
from astrid.learner import Learner, build_learner
from astrid.runtime import Runtime, out_of_memory, random_states, restore_random_states
from astrid.training import prepare, step
from astrid.unet import UNet, parameter_count

from .memory import DeviceMemory, peak_memory

log = logging.getLogger(__name__)

STEPS = 3
"""Steps of a trial; the first, which also makes the optimizer's state, isn't timed."""
BYTES_A_WEIGHT = 16
"""Weight, gradient and the two moments of Adam, in float32."""
WITH_GRADIENTS = 2
"""A step holds 1.6 to 2.2 times what its forward pass keeps, as measured on a processor: gradients come beside it."""


@dataclass(frozen=True)
class Trial:
    """A few steps at one batch size.

    Attributes
    ----------
    batch : int
    peak_bytes : int
        The most that they held.
    seconds : float
        Of a step.
    images : int
        Tiles in a step, accumulation included.
    """

    batch: int
    peak_bytes: int
    seconds: float
    images: int

    @property
    def images_per_second(self) -> float:
        """Training speed."""
        return self.images / self.seconds


def largest_fitting(attempt: Callable[[int], Trial], *, limit: int, budget_bytes: int, careful: bool) -> list[Trial]:
    """Double the batch up to `limit` while it fits, and return the trials that did, smallest first.

    Parameters
    ----------
    attempt : callable
        Tries a batch size; may run out of memory.
    limit : int
        Last batch size to try.
    budget_bytes : int
        What a step may take.
    careful : bool
        Don't try what, in proportion to the last trial, exceeds the budget: a machine that runs out of memory raises
        nothing, it kills. As some of the memory doesn't grow with the batch, the proportion is an upper bound.
    """
    fitted: list[Trial] = []
    for batch in batch_sizes(limit):
        if careful and fitted and fitted[-1].peak_bytes * batch > budget_bytes * fitted[-1].batch:
            break
        try:
            trial = attempt(batch)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            break
        if trial.peak_bytes > budget_bytes:
            break
        fitted.append(trial)
    return fitted


def batch_sizes(limit: int) -> list[int]:
    """Powers of two up to the limit, and the limit itself."""
    powers = [2**power for power in range(limit.bit_length())]
    return powers if powers[-1] == limit else [*powers, limit]


class TrialSteps:
    """Tries batch sizes of one configuration: the run's own network, loss, optimizer and tiles, thrown away after.

    Parameters
    ----------
    config : Config
        With numbers for depth and filters.
    runtime : Runtime
    splits : Splits
    device : DeviceMemory
    """

    def __init__(self, config: Config, *, runtime: Runtime, splits: Splits, device: DeviceMemory) -> None:
        training = dataclasses.replace(config.training, compile=False)  # it would compile anew for every size
        self.config = dataclasses.replace(config, training=training)
        self.runtime, self.splits, self.device = runtime, splits, device

    def __call__(self, batch: int) -> Trial:
        """Take a few steps with a batch of this size."""
        log.info("trying %d tiles a step with model.filters=%s", batch, self.config.model.filters)
        with untouched():
            needed = self._needed_bytes(batch) if self.device.kind == "cpu" else 0
            with peak_memory(self.runtime) as peak:
                seconds, images = _timed_steps(self._with_batch(batch), self.runtime, self.splits)
        return Trial(batch, max(needed, peak.bytes - self.device.held_bytes), seconds, images)

    def _with_batch(self, batch: int) -> Config:
        """Return the configuration with so many tiles a step, read in this process."""
        data = dataclasses.replace(self.config.data, batch_size=batch, workers=0)
        return dataclasses.replace(self.config, data=data)

    def _needed_bytes(self, batch: int) -> int:
        """Return about what a step needs, by arithmetic; raise what a machine that has too little would not raise.

        A resident set alone doesn't tell: it also holds what earlier work left to be used again.
        """
        needed = BYTES_A_WEIGHT * weight_count(self.config.model, channels=self.splits.train.channels)
        if needed <= self.device.free_bytes:
            needed += int(WITH_GRADIENTS * batch * self.config.data.tile_size**2 * self._bytes_a_pixel)
        if needed > self.device.free_bytes:
            raise MemoryError(f"a step needs about {needed} bytes")
        return needed

    @cached_property
    def _bytes_a_pixel(self) -> float:
        """Bytes that the forward pass keeps for each pixel: the slope between two small tiles."""
        learner = build_learner(self._with_batch(1), self.runtime, self.splits)
        learner.model.train()
        edge = 2 * 2 ** settled("model.depth", self.config.model.depth)
        shapes = [(1, self.splits.train.channels, size, size) for size in (edge, 2 * edge)]
        small, large = (saved_bytes(learner, torch.zeros(shape)) for shape in shapes)
        return (large - small) / float(3 * edge**2)


def weight_count(config: ModelConfig, *, channels: int) -> int:
    """Number of trainable parameters of a network, without making them."""
    with torch.device("meta"):
        return parameter_count(UNet(config, channels=channels, stretch="linear"))


def saved_bytes(learner: Learner, image: Tensor) -> int:
    """Bytes that the forward pass keeps for the backward pass."""
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()  # the tensor itself would keep its own graph alive

    image = image.to(learner.runtime.device, memory_format=learner.runtime.memory_format)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor), learner.runtime.autocast():
        logits = learner.model(image)
    del logits  # only now may memory be used again, and an address mean something else
    return sum(kept.values())


def _timed_steps(config: Config, runtime: Runtime, splits: Splits) -> tuple[float, int]:
    """Return the seconds and the images of a step."""
    learner = build_learner(config, runtime, splits)
    learner.model.train()
    raw = next(training_loader(splits.train, config.data, seed=0, pin_memory=False).epoch(1))
    times = []
    for _ in range(STEPS):
        began = time.perf_counter()
        window = [prepare(raw, runtime) for _ in range(config.training.accumulate)]
        turned = [augment(batch, config.data.augment, seed=(0,)) for batch in window]
        step(learner, turned, clip_norm=config.training.clip_norm)
        runtime.synchronise()
        times.append(time.perf_counter() - began)
    return statistics.median(times[1:]), len(window) * raw["image"].shape[0]


@contextmanager
def untouched() -> Iterator[None]:
    """Leave the random generators as they were, also after an error."""
    states = random_states()
    try:
        yield
    finally:
        restore_random_states(states)
