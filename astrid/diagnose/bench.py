"""Throw-away networks on a run's own data, each as the run's was before its first step."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator

from astrid.augmentation import augment
from astrid.config import Config
from astrid.console import announce
from astrid.data.dataset import Batch, training_loader
from astrid.data.fields import build_splits
from astrid.learner import Learner, build_learner
from astrid.plan import known_reach
from astrid.runtime import prepare_runtime
from astrid.training import accumulation_windows, prepare


class Bench:
    """Makes learners on this machine's device; the run's data are prepared once, or found in the cache."""

    def __init__(self, config: Config) -> None:
        training = dataclasses.replace(config.training, device="auto", precision="auto", compile=False)
        self.config = dataclasses.replace(config, training=training)
        self._splits = build_splits(config.data, receptive_field_pixels=known_reach(config.model), announce=announce)

    def learner(self) -> tuple[Learner, Iterator[Batch]]:
        """Return a learner with the run's first weights, and its batches in the run's order, without end."""
        config = self.config
        runtime = prepare_runtime(config.training)
        learner = build_learner(config, runtime, self._splits)
        loader = training_loader(self._splits.train, config.data, seed=config.training.seed, pin_memory=False)
        learner.model.train()
        return learner, itertools.chain.from_iterable(loader.epoch(epoch) for epoch in itertools.count(1))

    def windows(self, learner: Learner, batches: Iterable[Batch]) -> Iterator[list[Batch]]:
        """Yield the batches of each step, on the device and augmented as in training."""
        number = itertools.count()
        for window in accumulation_windows(batches, self.config.training.accumulate):
            prepared = [prepare(batch, learner.runtime) for batch in window]
            seed = self.config.training.seed
            yield [augment(batch, self.config.data.augment, seed=(seed, 0, next(number))) for batch in prepared]
