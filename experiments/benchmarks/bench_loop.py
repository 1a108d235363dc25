"""Time a step of `fit` against the bare forward, backward, step on the same model and the same batches.

Both train for one epoch on the default tiles and the default network. The bare loop does what any script would:
network in the same precision, loss, backward, clipping, optimizer; it reads its batches from a list. `fit` also
loads, augments, counts, reports and measures. Loading and augmentation are the loader's business (`bench_loader.py`),
so here `fit` gets the same list of batches, without augmentation.

    python experiments/benchmarks/bench_loop.py
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from loops import default_learner, default_splits
from rivals import compare, record

from astrid.config import AugmentConfig, Config, EnergyConfig, TrainingConfig
from astrid.data.dataset import Batch, TileLoader, training_loader
from astrid.energy import build_meter
from astrid.learner import Progress
from astrid.runtime import StopSignals
from astrid.training import Loaders, fit, prepare

STEPS = 25


class ListLoader(TileLoader):
    """Batches that are already in memory."""

    def __init__(self, batches: list[Batch]) -> None:
        self._batches = batches

    def __len__(self) -> int:
        return len(self._batches)

    def epoch(self, epoch: int, *, start: int = 0) -> Iterator[Batch]:
        """Iterate over them."""
        return iter(self._batches[start:])


def bare(config: Config, batches: list[Batch]) -> float:
    """Forward, backward, step, and nothing else; return the seconds from the end of the first step to the last."""
    learner = default_learner(config)
    learner.model.train()
    ends = []
    for batch in batches:
        with learner.runtime.autocast():
            logits = learner.network(batch["image"])
        loss = learner.loss(logits.float(), batch["target"], batch["valid"])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learner.model.parameters(), 1.0)
        learner.optimizer.step()
        learner.optimizer.zero_grad(set_to_none=True)
        learner.schedule.step()
        ends.append(time.perf_counter())
    return ends[-1] - ends[0]


def ours(config: Config, batches: list[Batch], folder: Path) -> float:
    """Run `fit` for an epoch; return the seconds from the end of its first step to the last, as it reports them."""
    learner = default_learner(config)
    plain = AugmentConfig(flips=False)
    loaders = Loaders(ListLoader(batches), ListLoader(batches[:1]), augment=plain, fingerprint="list")
    ends: list[float] = []
    with build_meter(EnergyConfig(), gpu_uuids=[], synchronise=lambda: None, ledger=None) as meter:
        options = {"config": config.training, "metrics": config.metrics, "meter": meter, "folder": folder}
        show = lambda report: ends.append(time.perf_counter())  # noqa: E731
        list(fit(learner, loaders, **options, stop=StopSignals(), show=show, progress=Progress()))
    return ends[-1] - ends[0]


def main() -> None:
    """Compare the steps of one epoch."""
    config = dataclasses.replace(Config(), training=TrainingConfig(epochs=1))
    learner = default_learner(config)
    loader = training_loader(default_splits(config).train, config.data, seed=0, pin_memory=False)
    batches = [prepare(batch, learner.runtime) for batch, _ in zip(loader.epoch(1), range(STEPS), strict=False)]
    with tempfile.TemporaryDirectory() as folder:
        times = compare(lambda: ours(config, batches, Path(folder)), lambda: bare(config, batches))
    record("bench_loop", f"{STEPS - 1} steps of fit against the bare loop: {times}")


if __name__ == "__main__":
    main()
