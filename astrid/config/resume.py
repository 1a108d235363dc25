"""Keep a run's configuration on disk, and take it up again when the run is resumed."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from . import Config, ConfigError, SweepConfig, TrackingConfig
from .secrets import MASK, scrub_values, without_mask

CONFIG_FILE, EVALUATION_FILE = "config.yaml", "evaluation.json"
LAST_STATE = "checkpoints/last.pt"
"""File of a run folder from which the run goes on."""
CHANGEABLE = (
    *("training.epochs", "training.device", "training.resume", "data.workers", "data.prepare_workers", "tracking"),
    *("energy.budget_kwh", "energy.budget_g_co2e", "energy.budget_usd"),
)
"""Keys (or whole groups) that may differ when a run is resumed."""
PASSWORDS = {
    "postgresql": ("PGPASSWORD", "PGPASSFILE"),
    "http": ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"),
    "https": ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"),
}
"""Environment variables from which the driver of each kind of backend takes a password that its URI lacks."""


def save_config(config: Config, run_dir: Path) -> None:
    """Write the resolved configuration, without secrets, with the choice of each group, as YAML into the run folder."""
    choices = {field.name: type(getattr(config, field.name)).__name__ for field in dataclasses.fields(config)}
    text = yaml.safe_dump({"choices": choices} | scrub_values(dataclasses.asdict(config)), sort_keys=False)
    partial = run_dir / f"{CONFIG_FILE}.partial"
    partial.write_text(text)
    partial.replace(run_dir / CONFIG_FILE)


def load_config(run_dir: Path) -> Config:
    """Read the configuration that a run was started with.

    Raises
    ------
    ConfigError
        Where the folder holds none, or one that this version doesn't understand.
    """
    path = run_dir / CONFIG_FILE
    if not path.is_file():
        raise ConfigError(f"a run folder must hold {CONFIG_FILE}, got {str(run_dir)!r}; try one of outputs/runs")
    try:
        saved = yaml.safe_load(path.read_text())
        sections = {name: _section(choice, saved[name]) for name, choice in saved["choices"].items()}
        return Config(**sections)
    except (KeyError, TypeError, UnicodeDecodeError, yaml.YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(f"{path} is not a configuration of this version of AstrID: {error}") from error


def _section(choice: str, values: dict[str, Any]) -> Any:
    from .compose import CHOICES

    schemas = {schema.__name__: schema for group in CHOICES.values() for schema in group.values()}
    schemas[SweepConfig.__name__] = SweepConfig  # the only section without choices
    return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(schemas[choice]), values))


def resumed(config: Config, overrides: Iterable[str]) -> Config:
    """Return the saved configuration of the run that `config.training.resume` names, with the user's changes.

    Raises
    ------
    ConfigError
        For a change of anything but the epochs, the device, the workers or the tracking, and for a secret that was
        left out when the configuration was saved and is given nowhere now.
    """
    from .compose import run_folder

    assert config.training.resume is not None
    path = Path(config.training.resume)
    if path.suffix == ".pt" and path.name != "last.pt":
        raise ConfigError(
            f"training.resume must be a run folder or its last.pt, got {str(path)!r}; try {path.parent.parent}"
        )
    folder = Path(run_folder("", config.training.resume))
    if (folder / EVALUATION_FILE).is_file():
        raise ConfigError(f"training.resume must be a run that trains, but {folder} is an evaluation; start it again")
    saved = load_config(folder)
    saved.training.resume = config.training.resume
    saved.sweep = SweepConfig()  # a trial that is resumed by hand is a run of its own: its study has given it up
    masked_groups = {key.partition(".")[0] for key in masked_leaves(dataclasses.asdict(saved))}
    for override in overrides:
        key = override.lstrip("+~").partition("=")[0].partition("@")[0]
        if key.startswith("hydra."):
            continue  # where Hydra looks for files and writes its own
        changeable = may_change(key)
        if not changeable and key.partition(".")[0] in masked_groups:
            _check_same(key, config, saved=saved)
        elif not changeable:
            _refuse_change(key, config, saved=saved)
        if key != "training.resume" and (changeable or "." in key):
            _carry(key, source=config, target=saved)
    saved.tracking = reachable(saved.tracking, folder)
    for key, text in masked_leaves(dataclasses.asdict(saved)).items():
        raise ConfigError(f"{key} of {folder} was saved without its secret, as {text}; give it again: {key}=...")
    return dataclasses.replace(saved)  # checks again what depends on several knobs


def taken_up(config: Config, run_dir: Path) -> Config:
    """Return the saved configuration of a run that is part of a larger one, to go on with it.

    Parameters
    ----------
    config : Config
        Of the whole, from which the run takes what may change.
    run_dir : Path
        Folder of the part.
    """
    saved = load_config(run_dir)
    for key in CHANGEABLE:
        _carry(key, source=config, target=saved)
    saved.training.resume = str(run_dir)
    return dataclasses.replace(saved)


def may_change(key: str) -> bool:
    """Tell whether a key may differ when a run is resumed."""
    return any(key == name or key.startswith(f"{name}.") for name in CHANGEABLE)


def must_stay(key: str) -> ConfigError:
    """Return the error for a key that a resumed run can't change."""
    allowed = ", ".join(CHANGEABLE)
    return ConfigError(f"{key} must stay as it was when a run is resumed; only {allowed} may change")


def _refuse_change(key: str, config: Config, *, saved: Config) -> None:
    """Refuse a key unless it says what the run was started with."""
    try:
        value, kept = (functools.reduce(getattr, key.split("."), whole) for whole in (config, saved))
    except AttributeError:  # a knob of another choice of the group
        raise must_stay(key) from None
    if type(value) is not type(kept) or value != kept:
        raise must_stay(key)


def _carry(key: str, *, source: Any, target: Any) -> None:
    *groups, knob = key.split(".")
    for group in groups:
        source, target = getattr(source, group), getattr(target, group)
    setattr(target, knob, getattr(source, knob))


def reachable(tracking: TrackingConfig, run_dir: Path, *, uri: str | None = None) -> TrackingConfig:
    """Return where a saved run is reported, with a way to the password that was left out when it was saved.

    Parameters
    ----------
    tracking : TrackingConfig
        As loaded from the folder of the run.
    run_dir : Path
        That folder.
    uri : str | None
        What the user gives as `tracking.uri` now; it goes before anything saved.

    Raises
    ------
    ConfigError
        Where a password was left out, and neither `uri` nor the environment holds one.
    """
    if uri is not None or MASK not in tracking.uri:
        return tracking if uri is None else dataclasses.replace(tracking, uri=uri)
    variables = PASSWORDS.get(tracking.scheme, ())
    if tracking.backend == "off" or any(os.environ.get(name) for name in variables):
        return dataclasses.replace(tracking, uri=without_mask(tracking.uri))
    remedy = f"set {variables[0]} in the environment, or give it" if variables else "give it"
    resume = "tracking.uri=..." if tracking.artifacts is None else "tracking.uri=... tracking.artifacts=..."
    raise ConfigError(
        f"tracking.uri of {run_dir} was saved without its password, as {tracking.uri}; "
        f"{remedy} again: {resume} to resume, --uri ... to sync"
    )


def masked_leaves(values: Mapping[str, Any]) -> dict[str, str]:
    """Return every `group.knob` whose text was scrubbed before it was saved, with what is left of it."""
    return {key: text for key, text in _texts(values) if MASK in text}


def _texts(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from ((f"{key}.{inner}", text) for inner, text in _texts(value))
        elif isinstance(value, str):
            yield key, value


def _check_same(key: str, config: Config, *, saved: Config) -> None:
    """Refuse a value that differs from the saved one in more than the secret, and another choice of the group."""
    value, kept = (functools.reduce(getattr, key.split("."), whole) for whole in (config, saved))
    whole_group = dataclasses.is_dataclass(kept)
    if type(value) is not type(kept) or not (whole_group or scrub_values(value, key) == scrub_values(kept, key)):
        shown = "the same choice" if whole_group else scrub_values(kept, key)
        raise ConfigError(f"{key} must stay {shown} when a run is resumed, but for the secret; give the same again")
