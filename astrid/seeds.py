"""Seeds derived from one seed, so that no two purposes ever share any."""

from __future__ import annotations

from typing import Literal

import numpy as np

Purpose = Literal["training", "sampler", "repeat"]
PURPOSES: tuple[Purpose, ...] = ("training", "sampler", "repeat")
"""A sweep's trials, its sampler, and the runs of `training.repeats`; a purpose keeps its place for ever."""


def derived_seed(seed: int, number: int, *, purpose: Purpose = "training") -> int:
    """Return the seed of the `number`-th of several things that share one seed; no two purposes share any."""
    stream = PURPOSES.index(purpose)
    return int(np.random.SeedSequence([seed, number], spawn_key=(stream,)).generate_state(1)[0])
