"""Time the loader against what the default model consumes: tiles per second from the cache, in this process.

python experiments/benchmarks/bench_loader.py
"""

from __future__ import annotations

import time

import torch
from loops import default_learner, default_splits
from rivals import ROUNDS, record, spread

from astrid.augmentation import augment
from astrid.config import AugmentConfig, Config
from astrid.data.dataset import training_loader
from astrid.training import prepare, step

TILES = 256


def loader_rate(config: Config) -> float:
    """Return tiles per second that arrive on the device, augmented."""
    learner = default_learner(config)
    loader = training_loader(default_splits(config).train, config.data, seed=0, pin_memory=False)
    start, tiles = time.perf_counter(), 0
    for number, batch in enumerate(loader.epoch(1)):
        tiles += augment(prepare(batch, learner.runtime), AugmentConfig(), seed=(0, number))["image"].shape[0]
    return tiles / (time.perf_counter() - start)


def model_rate(config: Config) -> float:
    """Return tiles per second that the default model trains on."""
    learner = default_learner(config)
    image = torch.randn(config.data.batch_size, 3, 128, 128)
    batch = prepare({"image": image, "target": image[:, :1] > 2, "valid": image[:, :1] < 9}, learner.runtime)
    learner.model.train()
    for _ in range(3):
        step(learner, [batch], clip_norm=1.0)
    steps = TILES // config.data.batch_size
    start = time.perf_counter()
    for _ in range(steps):
        step(learner, [batch], clip_norm=1.0)
    return TILES / (time.perf_counter() - start)


def main() -> None:
    """Interleave both rates."""
    config = Config()
    loader_rate(config)
    rates = [(loader_rate(config), model_rate(config), model_rate(config), loader_rate(config)) for _ in range(ROUNDS)]
    record(
        "bench_loader",
        f"loader {spread([rate for a, _, _, b in rates for rate in (a, b)])} tiles per second",
        f"default model {spread([rate for _, a, b, _ in rates for rate in (a, b)])} tiles per second",
        f"loader / model {spread([(a + d) / (b + c) for a, b, c, d in rates])}",
        f"control loader / loader {spread([d / a for a, _, _, d in rates])}",
    )


if __name__ == "__main__":
    main()
