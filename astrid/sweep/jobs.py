"""A trial as a job of the launcher: its command line, and how it ended."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import optuna
from hydra.core.utils import JobReturn
from hydra_plugins.hydra_optuna_sweeper._impl import create_params_from_overrides
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, Trial, TrialState

from ..config import ConfigError
from ..config.secrets import scrub
from ..seeds import derived_seed
from .trial import TrialEnd

log = logging.getLogger(__name__)

SEED = "training.seed"
PLACE = "place"
"""Attribute of a trial: how many other points were tried before."""


@dataclass(frozen=True)
class Split:
    """A command line and a recipe, taken apart.

    Attributes
    ----------
    searched : dict of distribution by key
    fixed : list of str
        Overrides that every trial gets.
    """

    searched: dict[str, BaseDistribution]
    fixed: list[str]


def split_overrides(recipe: Sequence[str], arguments: Sequence[str]) -> Split:
    """Tell what is searched from what is fixed; of one key the last override holds, and the recipe comes first.

    Raises
    ------
    ConfigError
        Where nothing is left to search, or a range is empty.
    """
    last = {override.lstrip("+").partition("=")[0]: override for override in (*recipe, *arguments)}
    try:
        searched, fixed, deleted = create_params_from_overrides(list(last.values()))
    except (ValueError, NotImplementedError) as error:
        raise ConfigError(f"what a sweep searches must be a choice, range or interval: {error}") from error
    if not searched:
        raise ConfigError("a sweep must search something: every parameter of the recipe is fixed on the command line")
    return Split(searched, [*(f"{name}={value}" for name, value in fixed.items()), *deleted])


def place_of(trial: Trial | FrozenTrial) -> int:
    """Return how many points were tried before that of a trial; its number, where none had to be tried again."""
    return int(trial.user_attrs.get(PLACE, trial.number))


def own_overrides(trial: Trial | FrozenTrial, split: Split, *, seed: int) -> list[str]:
    """Return what makes a trial what it is: its parameters, what is fixed, and a seed of its own.

    Parameters
    ----------
    trial : Trial or FrozenTrial
    split : Split
    seed : int
        `training.seed` of the sweep, from which those of its trials are derived, unless it is searched itself. It goes
        by the trial's place, which a trial that is tried again keeps.
    """
    own = [f"{name}={value}" for name, value in trial.params.items()]
    fixed = [override for override in split.fixed if not override.startswith(f"{SEED}=")]
    seeded = [] if SEED in trial.params else [f"{SEED}={derived_seed(seed, place_of(trial))}"]
    return [*own, *fixed, *seeded]


def link_overrides(trial: Trial, *, study_name: str, parent: str | None) -> list[str]:
    """Return what tells a job which trial it is, and the MLflow run of its study."""
    return [f"sweep.study={study_name}", f"sweep.trial={trial.number}", f"sweep.parent_run={parent or 'null'}"]


def end_of(job: JobReturn) -> TrialEnd:
    """Return how a job ended, one that never came to its trial included."""
    try:
        end = job.return_value
    except Exception as error:  # noqa: BLE001 - a job of its own configuration: its failure, not the sweep's
        return TrialEnd("failed", reason=scrub(f"{type(error).__name__}: {error}"))
    assert isinstance(end, TrialEnd)
    return end


def tell(study: optuna.Study, trial: Trial | FrozenTrial, end: TrialEnd) -> None:
    """Record how a trial ended, unless somebody else has given it up meanwhile."""
    if study.trials[trial.number].state.is_finished():
        log.warning("trial %d was given up before it ended as %s", trial.number, end.state)
        return
    if end.state == "failed":
        optuna.trial.Trial(study, trial._trial_id).set_user_attr("failure", scrub(end.reason))
        log.warning("trial %d failed: %s", trial.number, end.reason)
    state = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}[end.state]
    values = end.values if end.state == "complete" else None
    study.tell(trial.number, values, state=state, skip_if_finished=True)
