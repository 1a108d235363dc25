"""Start the next trials of a study: as many as it needs, where its sampler wants them, none where it has enough."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import optuna
from hydra.utils import instantiate
from omegaconf import OmegaConf
from optuna.trial import FrozenTrial, Trial, TrialState

from ..config import Config
from ..seeds import derived_seed
from .bounds import INTERRUPTED, finished, out_of_bounds
from .jobs import PLACE, Split
from .living import RETRY_OF, note_owner
from .proposals import ask, ask_at, cells, is_waiting, rehearse, same_point, untried

log = logging.getLogger(__name__)

MADE_BY_OPTUNA = ("hydra_plugins.hydra_optuna_sweeper.*", "optuna.samplers.*", "optuna.pruners.*")
GRID = "optuna.samplers.GridSampler"
SEEDED_ANEW = ("optuna.samplers.TPESampler", "optuna.samplers.RandomSampler", "optuna.samplers.GPSampler")
"""Samplers whose only state is their generator: seeded by trial, a study that was cut short goes on the same way."""


@dataclass(frozen=True)
class Asker:
    """What decides where the next trial is.

    Attributes
    ----------
    options : mapping
        Those of the sweeper.
    split : Split
        What is searched, and what is fixed.
    base : Config
        What every trial has.
    """

    options: Mapping[str, Any]
    split: Split
    base: Config

    @property
    def is_grid(self) -> bool:
        """Whether every combination is tried."""
        return str(self.options["sampler"]["_target_"]) == GRID

    def sampler(self, *, asked: int) -> optuna.samplers.BaseSampler:
        """Make the sampler for a study in which so many trials were asked for."""
        if self.is_grid:
            return optuna.samplers.RandomSampler(seed=0)  # never asked: the cells are counted here
        options = dict(self.options["sampler"])
        seed = self.base.training.seed if options["seed"] is None else options["seed"]
        anew = options["_target_"] in SEEDED_ANEW
        options["seed"] = derived_seed(seed, asked if anew else self.base.sweep.worker or 0, purpose="sampler")
        sampler = instantiate(OmegaConf.create(options), _execution_whitelist_=MADE_BY_OPTUNA)
        return cast(optuna.samplers.BaseSampler, sampler)

    def ask(self, study: optuna.Study) -> list[Trial]:
        """Start as many trials as the study still needs and this process runs at once; hold the study's lock."""
        trials: list[Trial] = []
        total = int(self.options["n_trials"])
        while len(trials) < int(self.options["n_jobs"]):
            known = study.get_trials(deepcopy=False)
            done, running = len(finished(known)), sum(trial.state == TrialState.RUNNING for trial in known)
            if done + running >= total:
                break
            if (why := out_of_bounds(known, self.base.sweep)) is not None:
                log.warning("no further trial is started: %s", why.text)
                break
            trial = self._next(study, known)
            if trial is None:
                log.warning("no further trial is started: all %s points have been tried", cells(self.split.searched))
                break
            note_owner(trial)
            if PLACE not in trial.user_attrs:
                trial.set_user_attr(PLACE, points(known))
            log.info("trial %d begins; %d of %d are finished", trial.number, done, total)
            trials.append(trial)
        return trials

    def _next(self, study: optuna.Study, known: Sequence[FrozenTrial]) -> Trial | None:
        """Start a trial at a point that waits to be tried again, or at a new one; None where there is none."""
        space = self.split.searched
        if is_waiting(known):
            return ask(study, space)
        asked = points(known)
        generator = np.random.default_rng(asked)
        if self.is_grid:
            point = untried(space, known, generator=generator)
        elif self.options["sampler"]["_target_"] in SEEDED_ANEW:
            point = rehearse(study, space, sampler=self.sampler(asked=asked))
        elif cells(space) is not None and untried(space, known, generator=generator) is None:
            return None
        else:
            trial = ask(study, space)  # a sampler that keeps its state in the study
            if not same_point(trial, known):
                return trial
            trial.set_user_attr(INTERRUPTED, True)
            study.tell(trial.number, state=TrialState.FAIL)
            point = untried(space, known, generator=generator)
        return None if point is None else ask_at(study, space, point)


def points(trials: Sequence[FrozenTrial]) -> int:
    """Count the points that trials were at: one that is tried again is at the same."""
    return sum(RETRY_OF not in trial.user_attrs for trial in trials)
