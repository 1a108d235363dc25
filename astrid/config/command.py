"""A configuration as the command line that composes it."""

from __future__ import annotations

import dataclasses
import re
import shlex
from pathlib import Path
from typing import Any

from . import Config
from .compose import CHOICES, composed_values, load

LINKS = ("sweep.", "training.resume")
"""What a run is part of, which is no property of what it computes."""


def as_overrides(config: Config) -> list[str]:
    """Return the overrides of the defaults that compose a configuration again, but for what sweep it was part of.

    Choices of groups come first, then the knobs that differ from what those choices bring.
    """
    defaults = load()
    others = [group for group in CHOICES if type(getattr(config, group)) is not type(getattr(defaults, group))]
    choices = [f"{group}={_choice(group, type(getattr(config, group)))}" for group in others]
    start, wanted = (flattened(values) for values in (composed_values(choices), dataclasses.asdict(config)))
    changed = {key: value for key, value in wanted.items() if start.get(key) != value and not key.startswith(LINKS)}
    return [*choices, *(f"{key}={written(value)}" for key, value in changed.items())]


def train_command(config: Config) -> str:
    """Return what a person types to run a configuration again."""
    return shlex.join(["python", "train.py", *as_overrides(config)])


def resume_command(run_dir: Path) -> str:
    """Return what a person types, in any folder, to go on with a run."""
    return shlex.join(["python", "train.py", f"training.resume={written(str(run_dir.absolute()))}"])


def _choice(group: str, schema: type) -> str:
    return next(name for name, known in CHOICES[group].items() if known is schema)


def flattened(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested values to `group.knob` names, as `leaves` does, but keep what they are."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= flattened(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def written(value: Any) -> str:
    """Write a value in Hydra's grammar; text that it could take for something else is quoted."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{','.join(written(item) for item in value)}]"
    if isinstance(value, str):
        return value if _is_plain(value) else "'" + value.replace("'", "\\'") + "'"
    return str(value)


def _is_plain(text: str) -> bool:
    is_word = re.fullmatch(r"[A-Za-z_/][\w/.*-]*", text) is not None
    return is_word and text.lower() not in ("true", "false", "null", "nan", "inf")
