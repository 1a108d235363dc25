"""Keep a run's configuration on disk, and take it up again when the run is resumed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from . import Config, ConfigError

CONFIG_FILE = "config.yaml"
CHANGEABLE = ("training.epochs", "training.device", "training.resume", "data.workers", "tracking")
"""Keys (or whole groups) that may differ when a run is resumed."""


def save_config(config: Config, run_dir: Path) -> None:
    """Write the resolved configuration, with the choice of each group, as YAML into the run folder."""
    choices = {field.name: type(getattr(config, field.name)).__name__ for field in dataclasses.fields(config)}
    text = yaml.safe_dump({"choices": choices} | dataclasses.asdict(config), sort_keys=False)
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
    except (KeyError, TypeError, yaml.YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(f"{path} is not a configuration of this version of AstrID: {error}") from error


def _section(choice: str, values: dict[str, Any]) -> Any:
    from .compose import CHOICES

    schemas = {schema.__name__: schema for group in CHOICES.values() for schema in group.values()}
    return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(schemas[choice]), values))


def resumed(config: Config, overrides: Iterable[str]) -> Config:
    """Return the saved configuration of the run that `config.training.resume` names, with the user's changes.

    Raises
    ------
    ConfigError
        For a change of anything but the epochs, the device, the workers or the tracking.
    """
    from .compose import run_folder

    assert config.training.resume is not None
    path = Path(config.training.resume)
    if path.suffix == ".pt" and path.name != "last.pt":
        raise ConfigError(
            f"training.resume must be a run folder or its last.pt, got {str(path)!r}; try {path.parent.parent}"
        )
    saved = load_config(Path(run_folder("", config.training.resume)))
    saved.training.resume = config.training.resume
    for override in overrides:
        key = override.lstrip("+~").partition("=")[0].partition("@")[0]
        if not any(key == name or key.startswith(f"{name}.") for name in CHANGEABLE):
            allowed = ", ".join(CHANGEABLE)
            raise ConfigError(f"{key} must stay as it was when a run is resumed; only {allowed} may change")
        if key != "training.resume":
            _carry(key, source=config, target=saved)
    return dataclasses.replace(saved)  # checks again what depends on several knobs


def _carry(key: str, *, source: Config, target: Config) -> None:
    group, _, knob = key.partition(".")
    if not knob:
        setattr(target, group, getattr(source, group))
    else:
        setattr(getattr(target, group), knob, getattr(getattr(source, group), knob))
