"""What a sweep searches, held against the schema before the first trial."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from .checks import ConfigError
from .compose import CHOICES, composed
from .explain import explain

OWN = ("sweep.", "tracking.", "hydra.", "training.resume")
"""Knobs of the sweep and of its records, which mean nothing within a trial."""


def check_searched(searched: Mapping[str, Sequence[Any]], fixed: Sequence[str]) -> None:
    """Refuse a key that no trial has, and a value that its type or its group doesn't know.

    Whether a value that may be is within its range, and fits the other knobs, is for each trial to find.

    Parameters
    ----------
    searched : mapping
        Values by key: all of a choice, the ends of a range or an interval.
    fixed : sequence of str
        Overrides that every trial gets.

    Raises
    ------
    ConfigError
    """
    for key in searched:
        if key.startswith(OWN):
            raise ConfigError(f"{key} must not be searched: it means nothing within a trial; give it one value")
    groups = {key: values for key, values in searched.items() if key in (*CHOICES, "experiment")}
    bases = {tuple(chosen): _compose([*fixed, *chosen]) for chosen in _choices(groups)}
    for key in searched.keys() - groups.keys():
        for value in searched[key]:
            if not any(_takes(base, key, value) for base in bases.values()):
                chosen = next(iter(bases))
                _compose([*fixed, *chosen, f"{key}={value}"])  # says what is wrong, as for a single run


def _choices(groups: Mapping[str, Sequence[Any]]) -> Iterator[list[str]]:
    """Yield the first choice of every searched group, and then every other one of each."""
    first = {group: f"{group}={values[0]}" for group, values in groups.items()}
    yield list(first.values())
    for group, values in groups.items():
        for value in values[1:]:
            yield list((first | {group: f"{group}={value}"}).values())


def _compose(overrides: list[str]) -> DictConfig:
    try:
        return composed(overrides)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(explain(error, CHOICES)) from error


def _takes(base: DictConfig, key: str, value: Any) -> bool:
    parsed = OverridesParser.create().parse_override(f"{key}={value}").value()
    try:
        OmegaConf.update(base.copy(), key, parsed)
    except OmegaConfBaseException:
        return False
    return True
