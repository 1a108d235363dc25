"""The search itself: ask for trials until the study has its total, launch them, tell how they ended."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import optuna
from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from optuna.exceptions import StorageInternalError
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from ..config import Config, ConfigError, RunError, check
from ..config.compose import PROJECT_ROOT, load
from ..config.leaves import leaves
from ..config.lost_jobs import lost_job_errors
from ..config.secrets import scrub
from ..tracking.parent_run import open_parent
from .bounds import finished, out_of_bounds
from .jobs import Split, derived_seed, end_of, link_overrides, own_overrides, split_overrides, tell
from .launched import ends_after_loss, noted_ends
from .living import note_owner, reap, release
from .proposals import ask, ask_at, cells, check_countable, is_waiting, rehearse, same_point, untried
from .study import Direction, StudyLock, default_storage, open_storage, open_study
from .summary import summarise
from .trial import TrialEnd
from .workers import run_workers

log = logging.getLogger(__name__)

MADE_BY_OPTUNA = ("hydra_plugins.hydra_optuna_sweeper.*", "optuna.samplers.*", "optuna.pruners.*")
GRID = "optuna.samplers.GridSampler"
SEEDED_ANEW = ("optuna.samplers.TPESampler", "optuna.samplers.RandomSampler", "optuna.samplers.GPSampler")
"""Samplers whose only state is their generator: seeded by trial, a study that was cut short goes on the same way."""


@dataclass
class Search:
    """A study and what runs its trials.

    Attributes
    ----------
    options : mapping
        Those of the sweeper.
    launcher : Launcher
    folder : Path
        Of the sweep, with a folder for each trial.
    split : Split
        What is searched, and what is fixed.
    base : Config
        What every trial has.
    """

    options: Mapping[str, Any]
    launcher: Launcher
    folder: Path
    split: Split = field(init=False)
    base: Config = field(init=False)

    @classmethod
    def from_options(
        cls, options: Mapping[str, Any], *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> Search:
        """Take the sweeper's options and Hydra's launcher."""
        check_options(options)
        launcher = Plugins.instance().instantiate_launcher(
            config=config, hydra_context=hydra_context, task_function=task_function
        )
        return cls(options, launcher, Path(config.hydra.sweep.dir))

    def run(self, arguments: Sequence[str]) -> None:
        """Run the study to its total, in processes of its own unless a launcher does that, and show what came out."""
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        recipe = [f"{name}={value}" for name, value in (self.options["params"] or {}).items()]
        self.split = split_overrides(recipe, arguments)
        self.base = load(self.split.fixed)
        is_worker = self.base.sweep.worker is not None
        with named_failures(str(self.options["storage"])):
            study, lock = self._open()
            if is_worker or not self._launches_here():
                self._search(study, lock)
            else:
                self._supervise(study)
            if not is_worker:
                self._close(study)

    def _launches_here(self) -> bool:
        if isinstance(self.launcher, BasicLauncher):
            return True
        workers = self.base.sweep.workers
        rule = "1 with a launcher that spreads the trials itself"
        check(workers == 1, "sweep.workers", workers, rule, "try hydra.sweeper.n_jobs to say how many run at once")
        return False

    def _supervise(self, study: optuna.Study) -> None:
        """Let worker processes search: a trial that the system kills takes its worker with it, and not the sweep."""
        config = self.base.sweep
        try:
            run_workers(config.workers, folder=self.folder, restarts=config.max_failures)
        except KeyboardInterrupt:
            summarise(study, folder=self.folder, base=self.base, split=self.split, status="KILLED")
            raise RunError(f"study {study.study_name!r} was stopped; run the same command again to go on") from None

    def _close(self, study: optuna.Study) -> None:
        summarise(study, folder=self.folder, base=self.base, split=self.split, status="FINISHED")
        trials = study.get_trials(deepcopy=False)
        if not finished(trials):
            raise RunError(f"no trial of study {study.study_name!r} came to its end; each says why above")
        if (why := out_of_bounds(trials, self.base.sweep)) is not None and why.failed:
            raise RunError(f"study {study.study_name!r} was stopped: {why.text}; {len(finished(trials))} are finished")

    def _open(self) -> tuple[optuna.Study, StudyLock]:
        name, space = str(self.options["study_name"]), self.split.searched
        if self._is_grid:
            check_countable(space)
        url = self.options["storage"] or default_storage(name, PROJECT_ROOT)
        lock = StudyLock(url, study_name=name, folder=PROJECT_ROOT / "outputs" / "studies")
        with lock.hold():
            study = open_study(
                open_storage(url, heartbeat_seconds=self.base.sweep.heartbeat_seconds),
                name=name,
                directions=directions(self.options["direction"]),
                sampler=self._sampler(asked=0),
                pruner=instantiate(self.options["pruner"], _execution_whitelist_=MADE_BY_OPTUNA),
                space=space,
                settings=leaves(asdict(self.base)),
            )
        return study, lock

    @property
    def _is_grid(self) -> bool:
        return str(self.options["sampler"]["_target_"]) == GRID

    def _sampler(self, *, asked: int) -> optuna.samplers.BaseSampler:
        if self._is_grid:
            return optuna.samplers.RandomSampler(seed=0)  # never asked: the cells are counted here
        options = dict(self.options["sampler"])
        seed = self.base.training.seed if options["seed"] is None else options["seed"]
        options["seed"] = derived_seed(seed, asked) if options["_target_"] in SEEDED_ANEW else seed
        sampler = instantiate(OmegaConf.create(options), _execution_whitelist_=MADE_BY_OPTUNA)
        return cast(optuna.samplers.BaseSampler, sampler)

    def _parent(self, study: optuna.Study, lock: StudyLock) -> str | None:
        with lock.hold():
            known = study.user_attrs.get("parent_run")
            parent = open_parent(self.base.tracking, study=study.study_name, known=known)
            if parent is not None and parent != known:
                study.set_user_attr("parent_run", parent)
        return parent

    def _search(self, study: optuna.Study, lock: StudyLock) -> None:
        parent = self._parent(study, lock)
        while True:
            with lock.hold():
                reap(study, self.base)
                trials = self._ask(study)
            if not trials:
                return
            jobs = [self._job(trial, study_name=study.study_name, parent=parent) for trial in trials]
            try:
                ends = self._launch(study, jobs, trials=trials)
            except BaseException:  # Ctrl-C too: the trials are given back before it goes on
                settle(study, trials, ends=noted_ends(study, trials), config=self.base, lost=False)
                raise
            settle(study, trials, ends=ends, config=self.base, lost=True)

    def _job(self, trial: Trial, *, study_name: str, parent: str | None) -> list[str]:
        own = own_overrides(trial, self.split, seed=self.base.training.seed)
        return [*own, *link_overrides(trial, study_name=study_name, parent=parent)]

    def _ask(self, study: optuna.Study) -> list[Trial]:
        """Start as many trials as the study still needs and this process runs at once; hold the study's lock."""
        trials: list[Trial] = []
        while len(trials) < int(self.options["n_jobs"]):
            known = study.get_trials(deepcopy=False)
            total = int(self.options["n_trials"])
            counted = len(finished(known)) + sum(trial.state == TrialState.RUNNING for trial in known)
            if counted >= total:
                break
            if (why := out_of_bounds(known, self.base.sweep)) is not None:
                log.warning("no further trial is started: %s", why.text)
                break
            trial = self._next(study, known)
            if trial is None:
                log.warning(
                    "no further trial is started: all %s combinations have been tried", cells(self.split.searched)
                )
                break
            if (twin := same_point(trial, known)) is not None:
                study.tell(trial.number, twin.values)  # the sampler insists on a point whose value is known
                continue
            note_owner(trial)
            log.info("trial %d begins; %d of %d are finished", trial.number, len(finished(known)), total)
            trials.append(trial)
        return trials

    def _next(self, study: optuna.Study, known: Sequence[FrozenTrial]) -> Trial | None:
        space = self.split.searched
        if is_waiting(known):
            return ask(study, space)
        if self._is_grid:
            point = untried(space, known, generator=np.random.default_rng(len(known)))
        elif self.options["sampler"]["_target_"] in SEEDED_ANEW:
            point = rehearse(study, space, sampler=self._sampler(asked=len(known)))
        else:
            return ask(study, space)  # a sampler that keeps its state in the study
        return None if point is None else ask_at(study, space, point)

    def _launch(self, study: optuna.Study, jobs: list[list[str]], *, trials: list[Trial]) -> list[TrialEnd | None]:
        """Launch one by one unless the numbers, after which job folders are called, follow one another."""
        numbers = [trial.number for trial in trials]
        if numbers != list(range(numbers[0], numbers[0] + len(numbers))) and len(numbers) > 1:
            return [self._launch(study, [job], trials=[one])[0] for job, one in zip(jobs, trials, strict=True)]
        try:
            return [end_of(job) for job in self.launcher.launch(jobs, initial_job_idx=numbers[0])]
        except lost_job_errors() as error:
            log.warning("a job was lost: %s", " ".join(str(error).split()))
            return ends_after_loss(study, trials)


def settle(
    study: optuna.Study, trials: Sequence[Trial], *, ends: Sequence[TrialEnd | None], config: Config, lost: bool
) -> None:
    """Tell how trials ended, and give those back that were cut short: lost with their process, or stopped."""
    for trial, end in zip(trials, ends, strict=True):
        if end is not None:
            tell(study, trial, end)
    release(study, trials, config=config, lost=lost)


def check_options(options: Mapping[str, Any]) -> None:
    """Refuse what cannot name or size a study.

    Raises
    ------
    ConfigError
    """
    name = str(options["study_name"])
    plain = re.fullmatch(r"[\w.-]+", name) is not None and not name.startswith(".")
    rule = "letters, digits and _ - . only, since a file is called after it"
    check(plain, "hydra.sweeper.study_name", name, rule, "try hydra.sweeper.study_name=depth_filters_2")
    for option in ("n_trials", "n_jobs"):
        value = options[option]
        check(int(value) >= 1, f"hydra.sweeper.{option}", value, "at least 1", f"try hydra.sweeper.{option}=12")


def directions(option: Any) -> list[Direction]:
    """Return `minimize` or `maximize` for each objective, however the option says it."""
    several = option if isinstance(option, Sequence) and not isinstance(option, str) else [option]
    names = [str(getattr(one, "name", one)) for one in several]
    for name in names:
        known = name in ("minimize", "maximize")
        check(known, "hydra.sweeper.direction", name, "minimize or maximize", "try hydra.sweeper.direction=maximize")
    return cast(list[Direction], names)


@contextmanager
def named_failures(storage: str) -> Iterator[None]:
    """Say in one message that the study's database is gone; what was finished is in it.

    Raises
    ------
    RunError
    """
    try:
        yield
    except ImportError as error:
        raise ConfigError(
            scrub(f"hydra.sweeper.storage {storage} must have a driver: {error}; try pip install 'astrid[postgres]'")
        ) from error
    except (StorageInternalError, SQLAlchemyError) as error:
        first_line = str(error.__cause__ or error).strip().partition("\n")[0]
        raise RunError(
            scrub(f"the study's storage {storage} must answer: {first_line}; run the same command again to go on")
        ) from error
