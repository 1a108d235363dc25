"""Which point to try next: never one that was tried before."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, Trial, TrialState

from ..config import ConfigError

Space = Mapping[str, BaseDistribution]
Point = tuple[tuple[str, Any], ...]

TRIES = 20
"""Times that a sampler is asked again when it repeats a point; after that a fresh one is drawn at random."""


def point_of(params: Mapping[str, Any]) -> Point:
    """Return parameters as something that can be looked up."""
    return tuple(sorted(params.items()))


def values_of(distribution: BaseDistribution) -> list[Any] | None:
    """Return every value of a distribution in order, None where they can't be counted."""
    match distribution:
        case CategoricalDistribution(choices=choices):
            return list(dict.fromkeys(choices))  # a choice that is written twice is one
        case IntDistribution(low=low, high=high, step=step):
            return list(range(low, high + 1, step))
        case FloatDistribution(low=low, high=high, step=float(step)):
            return [low + number * step for number in range(round((high - low) / step) + 1)]
    return None


def bounds_of(distribution: BaseDistribution) -> list[Any]:
    """Return every choice, or the two ends of a range or an interval."""
    match distribution:
        case IntDistribution(low=low, high=high) | FloatDistribution(low=low, high=high):
            return [low, high]
    return values_of(distribution) or []


def cells(space: Space) -> int | None:
    """Count the points of a search space; None where one of its parameters is continuous."""
    counts = [values_of(distribution) for distribution in space.values()]
    return None if None in counts else math.prod(len(values or []) for values in counts)


def untried(space: Space, trials: Iterable[FrozenTrial], *, generator: np.random.Generator) -> dict[str, Any] | None:
    """Draw a point of a countable space that no trial has had; None where all have been tried."""
    taken = {point_of(trial.params) for trial in trials}
    values = [values_of(distribution) or [] for distribution in space.values()]
    fresh = [cell for cell in itertools.product(*values) if point_of(dict(zip(space, cell, strict=True))) not in taken]
    if not fresh:
        return None
    return dict(zip(space, fresh[int(generator.integers(len(fresh)))], strict=True))


def check_countable(space: Space) -> None:
    """Refuse a grid over a parameter that has no list of values.

    Raises
    ------
    ConfigError
    """
    for name, distribution in space.items():
        if values_of(distribution) is None:
            rule = "a choice(...) or a range(...) in a grid, which tries every value"
            raise ConfigError(f"{name} must be {rule}, got {distribution}; try choice(...), or another sampler")


def rehearse(study: optuna.Study, space: Space, *, sampler: optuna.samplers.BaseSampler) -> dict[str, Any] | None:
    """Ask a sampler on a copy of the study in memory, again and again until it names a point that is new.

    Parameters
    ----------
    study : Study
        Left as it is.
    space : mapping of distribution by parameter
    sampler : BaseSampler
        One that keeps nothing in the study's storage, as TPE, random and GP do.

    Returns
    -------
    dict or None
        None where every point of a countable space has been tried.
    """
    trials = study.get_trials(deepcopy=False)
    count = cells(space)
    if count is not None and untried(space, trials, generator=np.random.default_rng(0)) is None:
        return None
    taken = {point_of(trial.params) for trial in trials}
    copy = optuna.create_study(
        study_name=study.study_name, sampler=sampler, pruner=study.pruner, directions=study.directions
    )
    copy.add_trials(trials)
    for _ in range(TRIES):
        params = copy.ask(dict(space)).params
        if point_of(params) not in taken:
            return params
    return untried(space, trials, generator=np.random.default_rng(len(trials)))


def ask(study: optuna.Study, space: Space) -> Trial:
    """Start a trial, at a point that waits to be tried again where there is one."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Heartbeat of storage")  # the trials send theirs themselves
        return study.ask(dict(space))


def ask_at(study: optuna.Study, space: Space, params: Mapping[str, Any]) -> Trial:
    """Start a trial at a given point; hold the study's lock, so that nobody else takes it."""
    study.enqueue_trial(dict(params))
    return ask(study, space)


def is_waiting(trials: Sequence[FrozenTrial]) -> bool:
    """Tell whether a point waits to be tried again."""
    return any(trial.state == TrialState.WAITING for trial in trials)


def same_point(trial: Trial, trials: Sequence[FrozenTrial]) -> bool:
    """Tell whether an earlier trial was at the same point."""
    mine = point_of(trial.params)
    return any(other.number != trial.number and point_of(other.params) == mine for other in trials)
