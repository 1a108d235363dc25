"""The default run's parts, for the benchmarks of loop and loader."""

from __future__ import annotations

from astrid.config import Config
from astrid.console import announce
from astrid.data.fields import Splits, build_splits
from astrid.learner import Learner, build_learner
from astrid.runtime import prepare_runtime
from astrid.unet import receptive_field_pixels


def default_splits(config: Config) -> Splits:
    """Return the prepared fields, from the cache after the first call."""
    reach = receptive_field_pixels(config.model)
    return build_splits(config.data, receptive_field_pixels=reach, announce=announce)


def default_learner(config: Config) -> Learner:
    """Build the network and all that trains it."""
    return build_learner(config, prepare_runtime(config.training), default_splits(config))
