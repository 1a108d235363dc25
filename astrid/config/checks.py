"""Errors that a person can act on, and the one helper that raises them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from .secrets import scrub


class ConfigError(ValueError):
    """A configuration that cannot run; found before the first step, exit code 2."""


class DataError(ValueError):
    """Input data that cannot be used; the message names the file or row, the rule and the remedy."""


class RunError(RuntimeError):
    """A run that had to stop after it started (loss not finite, out of memory); exit code 1."""


class Pruned(Exception):
    """A trial that a sweep ends early, having seen enough of it; no failure."""


class BudgetSpent(Exception):
    """A run that has used what it may, and ends with all saved; no failure."""


class Stopped(KeyboardInterrupt):
    """A run that a signal asked to stop, with all saved; no ordinary error, so that it ends a whole multirun."""


@contextmanager
def saying_of(what: str) -> Iterator[None]:
    """Say of what an error in data is, in front of it."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{what}{error}") from error


def check(holds: bool, key: str, value: object, rule: str, remedy: str) -> None:
    """Raise `ConfigError` naming the key, the value, the rule and a remedy unless `holds`."""
    if not holds:
        raise ConfigError(scrub(f"{key} must be {rule}, got {value!r}; {remedy}"))


def check_range(key: str, pair: list[float], lowest: float) -> None:
    """Refuse a `[low, high]` knob that is not two ordered numbers of at least `lowest`."""
    ordered = len(pair) == 2 and lowest <= pair[0] <= pair[1]
    check(ordered, key, list(pair), f"[low, high] with {lowest} <= low <= high", f"try {key}=[{lowest},{lowest + 1}]")
