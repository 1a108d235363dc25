"""The configuration under which a finished model is judged: the model's own, with data that the user names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from . import Config, ConfigError, DataConfig, FramesData, InjectedData, SimulatedData
from .command import flattened, written
from .compose import CHOICES, composed, load
from .explain import explain

OPEN = ("data", "metrics", "energy", "tracking", "experiment", "training.device", "training.threads")
"""Groups and knobs that an evaluation takes; everything else belongs to training."""

SERVED = ("cache", "batch_size", "tile_size", "prepare_workers", "quality")
FOLDS = ("folds", "fold")
"""Knobs of `data` that describe the run's own cross-validation; other data have none."""

WHERE = (
    *("root", "manifest", "packets", "labels", "split_unit", "val_fraction", "test_fraction", "split_seed"),
    *SERVED,
    *sorted({knob.name for knob in fields(SimulatedData)} - {knob.name for knob in fields(DataConfig)}),
    *sorted({knob.name for knob in fields(InjectedData)} - {knob.name for knob in fields(FramesData)}),
)
"""Knobs of `data` that say which frames or which sky it is, and not how they become channels."""

CLOSED = ("energy.budget_", "tracking.alerts")
"""Beginnings of what ends or watches training, and has nothing to do here."""

CHOSEN = ("min_pixels", "detection_thresholds", "calibration", "operating_point", "operating_target")
"""Knobs of `metrics` that validation has used up: what came of them goes with the model."""

COMPUTED = ("pixel_families", "per_field")
"""Knobs of `metrics` that say what is computed: the model's, where no other choice of `metrics` is named."""


@dataclass(frozen=True)
class OwnSettings:
    """What a model says of the run that it comes from.

    Attributes
    ----------
    data : mapping
        Its data configuration, with `choice`, the name of the class.
    metrics : mapping
        Knobs of `metrics` that its run had, and what validation chose by them: no more than the model tells.
    depth, filters : int
    test_time_augmentation : bool
    """

    data: Mapping[str, Any]
    metrics: Mapping[str, Any]
    depth: int
    filters: int
    test_time_augmentation: bool = False


def settings_to_load(overrides: Sequence[str]) -> Config:
    """Return a configuration that says from where a model is to be fetched, and onto which device.

    Raises
    ------
    ConfigError
        For an override that has no part in an evaluation, or can't be.
    """
    given = _parse(overrides)
    return load([text for key, text in given.items() if key != "data" and not key.startswith("data.")])


def evaluation_config(own: OwnSettings, overrides: Sequence[str]) -> Config:
    """Return the model's own configuration with the data, tracking and the like that the user names.

    Raises
    ------
    ConfigError
        For an override that would prepare the data in another way than the model's, or that can't be.
    """
    given = _parse(overrides)
    _refuse_other_judgement(own, given)
    choice, data = _data(own, given)
    kept = [text for key, text in given.items() if key != "data" and not key.startswith("data.")]
    judged = [f"metrics.{key}={written(value)}" for key, value in _metrics(own, given).items()]
    described = [f"data.{key}={written(value)}" for key, value in data.items() if value != "???"]
    names = ("depth", "filters", "test_time_augmentation")
    network = [f"model.{name}={written(getattr(own, name))}" for name in names]
    return load([*kept, *judged, *network, f"data={choice}", *described])


def _parse(overrides: Sequence[str]) -> dict[str, str]:
    """Return the overrides by their keys, and refuse those that an evaluation has no use for."""
    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
    except HydraException as error:
        raise ConfigError(explain(error, CHOICES)) from error
    for override in parsed:
        key = override.key_or_group
        taken = any(key == name or key.startswith(f"{name}.") for name in OPEN) and not key.startswith(CLOSED)
        if not taken or override.is_delete():
            known = ", ".join(OPEN)
            raise ConfigError(f"{key} must be left out: a model is judged as it was trained; known here are {known}")
    return {override.key_or_group: str(override.input_line) for override in parsed}


def _refuse_other_judgement(own: OwnSettings, given: Mapping[str, str]) -> None:
    for name in CHOSEN:
        key = f"metrics.{name}"
        if key not in given:
            continue
        value, known = _composed([given[key]]).metrics[name], name in own.metrics
        if known and value == own.metrics[name]:
            continue
        rule = f"left out or {written(own.metrics[name])}, the model's own" if known else "left out"
        raise ConfigError(f"{key} must be {rule}, got {written(value)}: thresholds and calibration go with the model")


def _metrics(own: OwnSettings, given: Mapping[str, str]) -> dict[str, Any]:
    """Return the model's own knobs of `metrics`, but for those that the user names or brings with a recipe."""
    kept = {key: value for key, value in own.metrics.items() if f"metrics.{key}" not in given}
    groups = [given[group] for group in ("metrics", "experiment") if group in given]
    if "metrics" in given:
        return {key: value for key, value in kept.items() if key not in COMPUTED}
    brought, defaults = _composed(groups).metrics, _composed([]).metrics
    return {key: value for key, value in kept.items() if key not in COMPUTED or brought[key] == defaults[key]}


def _data(own: OwnSettings, given: Mapping[str, str]) -> tuple[str, dict[str, Any]]:
    """Return the choice of data and all of its knobs: the model's where the user says nothing."""
    own_choice = _choice_of(str(own.data["choice"]))
    node = _composed([*([] if {"data", "experiment"} & set(given) else [f"data={own_choice}"]), *given.values()])
    schema = OmegaConf.get_type(node.data)
    assert schema is not None
    choice = _choice_of(schema.__name__)
    wanted, defaults = _flat(node), _flat(_composed([f"data={choice}"]))
    base = flattened({key: value for key, value in own.data.items() if key != "choice"})
    if choice != own_choice:
        base = _shared(base)
    changed = {key: value for key, value in wanted.items() if f"data.{key}" in given or value != defaults.get(key)}
    for key, value in changed.items():
        if key.partition(".")[0] not in WHERE and key in base and value != base[key]:
            rule, remedy = f"the model's own, {written(base[key])}", "leave it out, or train a model with it"
            raise ConfigError(f"data.{key} must be {rule}, got {written(value)}; {remedy}")
    if any(key in base and value != base[key] for key, value in changed.items() if key.partition(".")[0] not in SERVED):
        base = {key: value for key, value in base.items() if key not in FOLDS}
    return choice, defaults | base | changed


def _shared(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the knobs that every data set has."""
    names = [knob.name for knob in fields(DataConfig)]
    return {key: value for key, value in values.items() if key.partition(".")[0] in names}


def _composed(overrides: Sequence[str]) -> DictConfig:
    try:
        return composed(overrides)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(explain(error, CHOICES)) from error


def _flat(node: DictConfig) -> dict[str, Any]:
    values = OmegaConf.to_container(node.data, resolve=True)
    assert isinstance(values, dict)
    return flattened({str(key): value for key, value in values.items()})


def _choice_of(schema: str) -> str:
    for name, known in CHOICES["data"].items():
        if known.__name__ == schema:
            return name
    raise ConfigError(f"the model was trained on {schema}, which this version doesn't know; use the one that wrote it")
