"""Choose the open knobs of a run: sizes by rule, and what of them fits into memory by trial."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from astrid.config import Config, ConfigError, DataError, FramesData, ModelConfig, TrainingConfig, settled
from astrid.data.dataset import training_loader
from astrid.data.fields import Splits
from astrid.data.manifest import read_manifest
from astrid.runtime import Runtime
from astrid.unet import receptive_field_pixels

from . import rules
from .memory import DeviceMemory, device_memory, release
from .profile import DataProfile, profile_data
from .rules import Choice
from .trials import Trial, TrialSteps, largest_fitting, weight_count

log = logging.getLogger(__name__)

TILE, DEPTH, FILTERS, BATCH = "data.tile_size", "model.depth", "model.filters", "data.batch_size"
MIB = 2**20


@dataclass(frozen=True)
class Plan:
    """Sizes for a run, with their reasons and what they were measured to need.

    Attributes
    ----------
    config : Config
        The run's configuration with every open knob settled.
    choices : dict
        What was chosen, by name of the knob.
    profile : DataProfile
    device : DeviceMemory
    trials : list of Trial
        The batch sizes that fitted, smallest first; empty where nothing had to be tried.
    tiles : int
        Training tiles an epoch.
    """

    config: Config
    choices: dict[str, Choice]
    profile: DataProfile
    device: DeviceMemory
    trials: list[Trial]
    tiles: int

    @property
    def epoch_seconds(self) -> float | None:
        """Predicted seconds of the training half of an epoch; None where no step was timed."""
        return self.tiles / self.trials[-1].images_per_second if self.trials else None


def known_reach(config: ModelConfig) -> int:
    """Receptive field in pixels that the network has at least: with an open depth that of depth 1."""
    return receptive_field_pixels(dataclasses.replace(config, depth=1) if config.depth == "auto" else config)


def settle(config: Config, runtime: Runtime, splits: Splits) -> Config:
    """Return the configuration with a number for every `auto` that depends on data and device, and log the reasons.

    Raises
    ------
    ConfigError
        Where nothing fits into memory.
    """
    choose = open_knobs(config)
    if not choose:
        return config
    plan = propose(config, runtime=runtime, splits=splits, measure=choose != [DEPTH])
    for key, choice in plan.choices.items():
        log.info("%s=%d: %s", key, choice.value, choice.reason)
    return plan.config


def open_knobs(config: Config) -> list[str]:
    """Return the names of the knobs that are `auto` until data and device are known."""
    return [key for key in (DEPTH, FILTERS, BATCH) if value_of(config, key) == "auto"]


def propose(config: Config, *, runtime: Runtime, splits: Splits, tile_too: bool = False, measure: bool = True) -> Plan:
    """Choose what is `auto`.

    Parameters
    ----------
    config : Config
        With `auto` for what is open.
    runtime : Runtime
    splits : Splits
        The prepared fields.
    tile_too : bool
        Choose the tile, too, whatever the configuration says.
    measure : bool
        Try batch sizes; the batch size can't be chosen without.

    Raises
    ------
    ConfigError
        Where not even the smallest of what is open fits into memory.
    """
    choose = [*([TILE] if tile_too else []), *open_knobs(config)]
    profile = profile_data(splits)
    device = device_memory(runtime, sharers=config.sweep.workers)
    choices = choose_sizes(config, profile, device=device, choose=choose)
    trials: list[Trial] = []
    if measure:
        choices, trials = fit_memory(config, choices, runtime=runtime, splits=splits, device=device, choose=choose)
    config = with_choices(config, choices)
    return Plan(config, choices, profile, device, trials, tiles=count_tiles(config, splits))


def choose_sizes(
    config: Config, profile: DataProfile, *, device: DeviceMemory, choose: Collection[str]
) -> dict[str, Choice]:
    """Choose depth, tile and filters by rule, as far as they are open."""
    choices: dict[str, Choice] = {}
    model = config.model
    if DEPTH in choose:
        choices[DEPTH] = choose_depth(config, profile, tile=None if TILE in choose else config.data.tile_size)
        model = dataclasses.replace(model, depth=choices[DEPTH].value)
    if TILE in choose:
        depth, reach = settled(DEPTH, model.depth), receptive_field_pixels(model)
        choices[TILE] = rules.choose_tile(profile, depth=depth, reach_pixels=reach)
    if FILTERS in choose:

        def weights(filters: int) -> int:
            return weight_count(dataclasses.replace(model, filters=filters), channels=profile.channels)

        choices[FILTERS] = rules.choose_filters(profile, device=device.kind, weights=weights)
    return choices


def choose_depth(config: Config, profile: DataProfile, *, tile: int | None) -> Choice:
    """Choose the depth within what tile, fields, training pixels and gaps between sections of frames allow."""

    def reach(depth: int) -> int:
        return receptive_field_pixels(dataclasses.replace(config.model, depth=depth))

    filters = rules.FILTERS[0] if config.model.filters == "auto" else config.model.filters

    def is_learnable(depth: int) -> bool:
        model = dataclasses.replace(config.model, depth=depth, filters=filters)
        return weight_count(model, channels=profile.channels) <= profile.training_pixels

    edge = profile.edge_pixels if tile is None else tile
    bounds = {
        f"fields of {edge} pixels are too small" if tile is None else f"{TILE}={tile} is too small": (
            rules.deepest_for(edge, tile=tile)
        ),
        f"{profile.training_pixels:,} training pixels are too few": rules.deepest_where(is_learnable),
    }
    if isinstance(config.data, FramesData) and config.data.split_unit == "section":
        data = config.data
        gap = rules.deepest_where(lambda depth: keeps_apart(data, reach(depth)))
        bounds["the gap between sections in different splits is too small"] = gap
    return rules.choose_depth(profile, reach=reach, bounds=bounds)


def keeps_apart(config: FramesData, reach_pixels: int) -> bool:
    """Tell whether sections of one frame in different splits lie apart by a receptive field of this size.

    The manifest was read before, for a smaller one: nothing but the gap can be wrong with it now.
    """
    try:
        read_manifest(config, receptive_field_pixels=reach_pixels)
    except DataError as error:
        log.debug("%s", error)
        return False
    return True


def fit_memory(
    config: Config,
    choices: dict[str, Choice],
    *,
    runtime: Runtime,
    splits: Splits,
    device: DeviceMemory,
    choose: Collection[str],
) -> tuple[dict[str, Choice], list[Trial]]:
    """Find the largest batch that fits; where it's too small, halve what else is open and try again."""
    while True:
        sized = with_choices(config, choices)
        tiles = count_tiles(sized, splits)
        limit, least = batches_to_try(sized, tiles, choose=choose)
        attempt = TrialSteps(sized, runtime=runtime, splits=splits, device=device)
        trials = largest_fitting(attempt, limit=limit, budget_bytes=device.budget_bytes, careful=device.kind == "cpu")
        release(runtime)
        if trials and trials[-1].batch >= least:
            break
        smaller = halved(choices, sized, why=f"a batch of {least} takes more than {device.budget}")
        if smaller is None:
            break
        choices = smaller
    if not trials or (BATCH not in choose and trials[-1].batch < least):
        raise does_not_fit(sized, batch=1 if BATCH in choose else least, device=device)
    if BATCH in choose:
        choices = choices | {BATCH: batch_choice(trials[-1], sized.training, tiles=tiles, limit=limit, device=device)}
    return choices, trials


def batches_to_try(config: Config, tiles: int, *, choose: Collection[str]) -> tuple[int, int]:
    """Return the last batch size to try, and the one that makes halving something else worth while."""
    if BATCH not in choose:
        given = settled(BATCH, config.data.batch_size)
        return given, given
    training = config.training
    limit = rules.most_tiles_a_step(tiles, epochs=training.epochs, accumulate=training.accumulate)
    return limit, min(limit, rules.SMALLEST_BATCH)


def halved(choices: dict[str, Choice], config: Config, *, why: str) -> dict[str, Choice] | None:
    """Return the choices with half the filters, or else with half the tile; None where neither is open or possible."""
    step = 2 ** settled(DEPTH, config.model.depth)
    filters, tile = settled(FILTERS, config.model.filters), config.data.tile_size
    smaller = {FILTERS: filters // 2, TILE: tile // 2 // step * step}
    least = {FILTERS: rules.FILTERS[0], TILE: max(2 * step, rules.SMALLEST_TILE)}
    for key in (FILTERS, TILE):
        if key in choices and smaller[key] >= least[key]:
            reason = f"halved, because {why}; before that: {choices[key].reason}"
            return choices | {key: Choice(smaller[key], reason)}
    return None


def batch_choice(largest: Trial, config: TrainingConfig, *, tiles: int, limit: int, device: DeviceMemory) -> Choice:
    """Say why the largest batch that was tried is the one to take."""
    taken = rules.steps(tiles, batch=largest.batch, epochs=config.epochs, accumulate=config.accumulate)
    needs = f"a step takes {largest.peak_bytes / MIB:.0f} MiB of {device.budget}"
    why = f"{needs}, and {config.epochs} epochs have {taken} steps"
    if largest.batch < limit:
        return Choice(largest.batch, f"{why}; twice as much does not fit")
    if 2 * largest.batch > tiles:
        return Choice(largest.batch, f"{why}; an epoch has only {tiles} tiles")
    if taken < rules.ENOUGH_STEPS:
        return Choice(largest.batch, f"{why}; below {rules.ENOUGH_STEPS}, more training.epochs would help")
    return Choice(largest.batch, f"{why}; twice as much would leave fewer than {rules.ENOUGH_STEPS}")


def does_not_fit(config: Config, *, batch: int, device: DeviceMemory) -> ConfigError:
    """Return the error for sizes of which nothing that is open can be made smaller."""
    size = f"{DEPTH}={config.model.depth}, {FILTERS}={config.model.filters} and {TILE}={config.data.tile_size}"
    remedy = "try smaller ones, or model.gradient_checkpointing=true"
    return ConfigError(f"{BATCH} must fit into {device.budget}, but {batch} with {size} does not; {remedy}")


def count_tiles(config: Config, splits: Splits) -> int:
    """Training tiles an epoch."""
    data = dataclasses.replace(config.data, batch_size=1, workers=0)
    return len(training_loader(splits.train, data, seed=0, pin_memory=False))


def value_of(config: Config, key: str) -> Any:
    """Value of a knob by its name."""
    group, knob = key.split(".")
    return getattr(getattr(config, group), knob)


def with_choices(config: Config, choices: Mapping[str, Choice]) -> Config:
    """Return the configuration with the chosen values, checked as a whole and not one by one."""
    changes: dict[str, dict[str, int]] = {}
    for key, choice in choices.items():
        group, knob = key.split(".")
        changes.setdefault(group, {})[knob] = choice.value
    sections = {group: dataclasses.replace(getattr(config, group), **values) for group, values in changes.items()}
    return dataclasses.replace(config, **sections)
