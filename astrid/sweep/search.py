"""The search itself: ask for trials until the study has its total, launch them, tell how they ended."""

from __future__ import annotations

import functools
import logging
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import optuna
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from hydra.utils import instantiate
from hydra_plugins.hydra_optuna_sweeper._impl import OptunaSweeperImpl, create_params_from_overrides
from omegaconf import DictConfig, OmegaConf
from optuna.distributions import BaseDistribution
from optuna.trial import TrialState

from ..config import Config, ConfigError, RunError, SweepConfig, check
from ..config.compose import PROJECT_ROOT, load
from ..config.lost_jobs import lost_job_errors
from ..tracking.parent_run import open_parent
from .living import ends_after_loss, note_owner, noted_ends, reap, release
from .study import Direction, StudyLock, default_storage, open_storage, open_study
from .summary import summarise
from .trial import TrialEnd
from .workers import run_workers

log = logging.getLogger(__name__)

MADE_BY_OPTUNA = ("hydra_plugins.hydra_optuna_sweeper.*", "optuna.samplers.*", "optuna.pruners.*")
COUNTED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
SEEDED_ANEW = ("optuna.samplers.TPESampler", "optuna.samplers.RandomSampler")
"""Samplers whose only state is their generator: seeded by trial, a study that was cut short goes on the same way."""


@dataclass(frozen=True)
class Space:
    """What the command line and the recipe search and fix.

    Attributes
    ----------
    searched : dict of distribution by key
    fixed : list of str
        Overrides that every trial gets.
    """

    searched: dict[str, BaseDistribution]
    fixed: list[str]


@dataclass
class Search:
    """A study and what runs its trials."""

    options: Mapping[str, Any]
    launcher: Launcher
    folder: Path

    @classmethod
    def from_options(
        cls, options: Mapping[str, Any], *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> Search:
        """Take the sweeper's options and Hydra's launcher."""
        launcher = Plugins.instance().instantiate_launcher(
            config=config, hydra_context=hydra_context, task_function=task_function
        )
        return cls(options, launcher, Path(config.hydra.sweep.dir))

    def run(self, arguments: Sequence[str]) -> None:
        """Run the study to its total, alone or with further processes, and show what came out."""
        space = self._space(arguments)
        base = load(space.fixed)
        study, lock = self._open(space, base.sweep)
        if base.sweep.workers > 1:
            run_workers(base.sweep.workers)
        else:
            parent = self._parent(study, lock, base)
            self._search(study, lock, space=space, base=base, parent=parent)
        summarise(study, folder=self.folder, config=base, command=sys.argv)
        if not any(trial.state == TrialState.COMPLETE for trial in study.get_trials(deepcopy=False)):
            raise RunError(f"no trial of study {study.study_name!r} came to its end; each says why above")

    def _space(self, arguments: Sequence[str]) -> Space:
        recipe = [f"{name}={value}" for name, value in (self.options["params"] or {}).items()]
        searched, fixed, deleted = create_params_from_overrides([*recipe, *arguments])
        remaining = {name: distribution for name, distribution in searched.items() if name not in fixed}
        if not remaining:
            raise ConfigError(
                "a sweep must search something: every parameter of the recipe is fixed on the command line"
            )
        return Space(remaining, [*(f"{name}={value}" for name, value in fixed.items()), *deleted])

    def _open(self, space: Space, config: SweepConfig) -> tuple[optuna.Study, StudyLock]:
        name = self.options["study_name"]
        url = self.options["storage"] or default_storage(name, PROJECT_ROOT)
        lock = StudyLock(url, study_name=name, folder=PROJECT_ROOT / "outputs" / "studies")
        with lock.hold():
            study = open_study(
                open_storage(url, heartbeat_seconds=config.heartbeat_seconds),
                name=name,
                directions=directions(self.options["direction"]),
                sampler=self._sampler(space, asked=0),
                pruner=instantiate(self.options["pruner"], _execution_whitelist_=MADE_BY_OPTUNA),
                space=space.searched,
            )
        return study, lock

    def _sampler(self, space: Space, *, asked: int) -> optuna.samplers.BaseSampler:
        options = dict(self.options["sampler"])
        if options["_target_"] in SEEDED_ANEW and options.get("seed") is not None:
            options["seed"] = derived_seed(options["seed"], asked)
        sampler = instantiate(OmegaConf.create(options), _execution_whitelist_=MADE_BY_OPTUNA)
        if isinstance(sampler, functools.partial):  # the grid needs to know the space
            sampler = sampler({name: grid_values(values) for name, values in space.searched.items()})
        return cast(optuna.samplers.BaseSampler, sampler)

    def _parent(self, study: optuna.Study, lock: StudyLock, base: Config) -> str | None:
        with lock.hold(study._storage):
            known = study.user_attrs.get("parent_run")
            parent = open_parent(base.tracking, study=study.study_name, known=known)
            if parent is not None and parent != known:
                study.set_user_attr("parent_run", parent)
        return parent

    def _search(self, study: optuna.Study, lock: StudyLock, *, space: Space, base: Config, parent: str | None) -> None:
        total = self._total(space)
        while True:
            with lock.hold(study._storage):
                reap(study, base)
                trials = self._ask(study, space=space, config=base.sweep, total=total)
            if not trials:
                return
            jobs = [
                job_overrides(trial, space=space, seed=base.training.seed, study_name=study.study_name, parent=parent)
                for trial in trials
            ]
            try:
                ends = self._launch(study, jobs, trials=trials)
            except BaseException:  # Ctrl-C too: the trials are given back before it goes on
                ends = noted_ends(study, trials)
                settle(study, trials, ends=ends, config=base, reason="the sweep was interrupted")
                raise
            settle(study, trials, ends=ends, config=base, reason="its job was lost")

    def _total(self, space: Space) -> int:
        if "Grid" not in self.options["sampler"]["_target_"]:
            return int(self.options["n_trials"])
        cells = math.prod(len(grid_values(distribution)) for distribution in space.searched.values())
        return min(cells, int(self.options["n_trials"]))

    def _ask(self, study: optuna.Study, *, space: Space, config: SweepConfig, total: int) -> list[optuna.trial.Trial]:
        known = study.get_trials(deepcopy=False)
        room = total - sum(trial.state in COUNTED for trial in known)
        if why := out_of_bounds(known, config):
            log.warning("no further trial is started: %s", why)
            room = 0
        trials = []
        for number in range(min(room, int(self.options["n_jobs"]))):
            study.sampler = self._sampler(space, asked=len(known) + number)
            trial = study.ask(space.searched)
            note_owner(trial)
            trials.append(trial)
        return trials

    def _launch(
        self, study: optuna.Study, jobs: list[list[str]], *, trials: list[optuna.trial.Trial]
    ) -> list[TrialEnd | None]:
        """Launch one by one unless the numbers, after which job folders are called, follow one another."""
        numbers = [trial.number for trial in trials]
        if numbers != list(range(numbers[0], numbers[0] + len(numbers))) and len(numbers) > 1:
            return [self._launch(study, [job], trials=[one])[0] for job, one in zip(jobs, trials, strict=True)]
        try:
            return [end_of(job) for job in self.launcher.launch(jobs, initial_job_idx=numbers[0])]
        except lost_job_errors() as error:
            log.warning("a job was lost: %s", " ".join(str(error).split()))
            return ends_after_loss(study, trials)


def directions(option: Any) -> list[Direction]:
    """Return `minimize` or `maximize` for each objective, however the option says it."""
    several = option if isinstance(option, Sequence) and not isinstance(option, str) else [option]
    names = [str(getattr(one, "name", one)) for one in several]
    for name in names:
        known = name in ("minimize", "maximize")
        check(known, "hydra.sweeper.direction", name, "minimize or maximize", "try hydra.sweeper.direction=maximize")
    return cast(list[Direction], names)


def grid_values(distribution: BaseDistribution) -> list[Any]:
    """Return every value of a discrete distribution."""
    return list(OptunaSweeperImpl._to_grid_sampler_choices(distribution))


def derived_seed(seed: int, number: int) -> int:
    """Return the seed of the `number`-th of several things that share one seed."""
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0])


def job_overrides(
    trial: optuna.trial.Trial, *, space: Space, seed: int, study_name: str, parent: str | None
) -> list[str]:
    """Return the command line of a trial: its own parameters, what is fixed, its seed and its number."""
    own = [f"{name}={value}" for name, value in trial.params.items()]
    chosen = {override.partition("=")[0] for override in (*own, *space.fixed)}
    seeded = [] if "training.seed" in chosen else [f"training.seed={derived_seed(seed, trial.number)}"]
    link = [f"sweep.study={study_name}", f"sweep.trial={trial.number}", f"sweep.parent_run={parent or 'null'}"]
    return [*own, *space.fixed, *seeded, *link]


def out_of_bounds(trials: Sequence[optuna.trial.FrozenTrial], config: SweepConfig) -> str | None:
    """Say which bound of the study is reached, None where none is."""
    failed = sum(trial.state == TrialState.FAIL for trial in trials)
    if failed >= config.max_failures:
        return f"{failed} trials failed, sweep.max_failures={config.max_failures}"
    for name, bound in (("seconds", config.max_seconds), ("kwh", config.energy_budget_kwh)):
        spent = sum(float(trial.user_attrs.get(name) or 0) for trial in trials)
        if bound is not None and spent >= bound:
            return f"{spent:g} {name} are spent of {bound:g}"
    return None


def end_of(job: JobReturn) -> TrialEnd:
    """Return how a job ended, one that never came to its trial included."""
    try:
        end = job.return_value
    except Exception as error:  # noqa: BLE001 - a job of its own configuration: its failure, not the sweep's
        return TrialEnd("failed", reason=f"{type(error).__name__}: {error}")
    assert isinstance(end, TrialEnd)
    return end


def settle(
    study: optuna.Study,
    trials: Sequence[optuna.trial.Trial],
    *,
    ends: Sequence[TrialEnd | None],
    config: Config,
    reason: str,
) -> None:
    """Tell how trials ended, and give those back that were cut short."""
    for trial, end in zip(trials, ends, strict=True):
        if end is not None:
            tell(study, trial, end)
    release(study, trials, config=config, reason=reason)


def tell(study: optuna.Study, trial: optuna.trial.Trial, end: TrialEnd) -> None:
    """Record how a trial ended."""
    if end.state == "complete":
        try:
            study.tell(trial.number, end.values, state=TrialState.COMPLETE)
        except RuntimeError as error:
            if "Study.stop" not in str(error):  # the grid sampler says so in its last cell; the trial is recorded
                raise
        return
    state = TrialState.PRUNED if end.state == "pruned" else TrialState.FAIL
    if end.state == "failed":
        trial.set_user_attr("failure", end.reason)
        log.warning("trial %d failed: %s", trial.number, end.reason)
    study.tell(trial.number, state=state)
