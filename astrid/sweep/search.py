"""The search itself: ask for trials until the study has its total, launch them, settle how they ended."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import optuna
from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from hydra.utils import instantiate
from omegaconf import DictConfig
from optuna.exceptions import StorageInternalError
from optuna.storages._heartbeat import get_heartbeat_thread
from optuna.trial import Trial
from sqlalchemy.exc import SQLAlchemyError

from ..config import Config, RunError, check
from ..config.compose import PROJECT_ROOT, load
from ..config.leaves import leaves
from ..config.lost_jobs import lost_job_errors
from ..config.search_space import check_searched
from ..config.secrets import scrub
from ..tracking.parent_run import Ending, open_parent
from .asking import MADE_BY_OPTUNA, Asker
from .bounds import finished, out_of_bounds
from .jobs import end_of, link_overrides, own_overrides, split_overrides, tell
from .launched import ends_after_loss, noted_ends
from .living import end_tracked_runs, reap, release
from .proposals import bounds_of, check_countable
from .study import Direction, StudyLock, default_storage, open_storage, open_study, refuse_used_folder
from .summary import summarise
from .trial import TrialEnd
from .workers import run_workers

log = logging.getLogger(__name__)


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
    asker : Asker
        What decides where the next trial is.
    """

    options: Mapping[str, Any]
    launcher: Launcher
    folder: Path
    asker: Asker = field(init=False)

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

    @property
    def base(self) -> Config:
        """What every trial has."""
        return self.asker.base

    def run(self, arguments: Sequence[str]) -> None:
        """Run the study to its total, in processes of its own unless a launcher does that, and show what came out."""
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        recipe = [f"{name}={value}" for name, value in (self.options["params"] or {}).items()]
        split = split_overrides(recipe, arguments)
        self.asker = Asker(self.options, split, load(split.fixed))
        with named_failures(str(self.options["storage"])):
            study, lock = self._open()
            if self.base.sweep.worker is not None:
                self._search(study, lock)
            else:
                self._lead(study, lock)

    def _lead(self, study: optuna.Study, lock: StudyLock) -> None:
        """See the study to its end, whatever end that is, and show it.

        Worker processes search, also a single one: a trial that the system kills takes its worker with it, and not the
        sweep. A launcher has processes of its own.
        """
        ending: Ending = "FAILED"
        config, here = self.base.sweep, self._launches_here()
        try:
            if here:
                run_workers(config.workers, folder=self.folder, restarts=config.max_failures)
            else:
                self._search(study, lock)
            check_outcome(study, self.base)
            ending = "FINISHED"
        except KeyboardInterrupt:
            ending = "KILLED"
            raise RunError(f"study {study.study_name!r} was stopped; run the same command again to go on") from None
        finally:
            summarise(study, folder=self.folder, base=self.base, split=self.asker.split, ending=ending)

    def _launches_here(self) -> bool:
        if isinstance(self.launcher, BasicLauncher):
            return True
        workers = self.base.sweep.workers
        rule = "1 with a launcher that spreads the trials itself"
        check(workers == 1, "sweep.workers", workers, rule, "try hydra.sweeper.n_jobs to say how many run at once")
        return False

    def _open(self) -> tuple[optuna.Study, StudyLock]:
        name, space = str(self.options["study_name"]), self.asker.split.searched
        if self.asker.is_grid:
            check_countable(space)
        wanted = directions(self.options["direction"])
        check_objectives(wanted, self.base)
        check_searched({key: bounds_of(distribution) for key, distribution in space.items()}, self.asker.split.fixed)
        url = self.options["storage"] or default_storage(name, PROJECT_ROOT)
        lock = StudyLock(url, study_name=name, folder=PROJECT_ROOT / "outputs" / "studies")
        with lock.hold():
            study = open_study(
                open_storage(url, heartbeat_seconds=self.base.sweep.heartbeat_seconds),
                name=name,
                directions=wanted,
                sampler=self.asker.sampler(asked=0),
                pruner=instantiate(self.options["pruner"], _execution_whitelist_=MADE_BY_OPTUNA),
                space=space,
                settings=leaves(asdict(self.base)),
            )
            refuse_used_folder(study, self.folder)
        return study, lock

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
                dead = reap(study, self.base.sweep)
                trials = self.asker.ask(study)
            end_tracked_runs(dead, self.base.tracking)
            if not trials:
                return
            jobs = [self._job(trial, study_name=study.study_name, parent=parent) for trial in trials]
            try:
                with beating(study, trials):
                    ends = self._launch(study, jobs, trials=trials)
            except BaseException:  # Ctrl-C too: the trials are given back before it goes on
                settle(study, trials, ends=noted_ends(study, trials), config=self.base, lost=False)
                raise
            settle(study, trials, ends=ends, config=self.base, lost=True)

    def _job(self, trial: Trial, *, study_name: str, parent: str | None) -> list[str]:
        own = own_overrides(trial, self.asker.split, seed=self.base.training.seed)
        return [*own, *link_overrides(trial, study_name=study_name, parent=parent)]

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
    end_tracked_runs(release(study, trials, config=config.sweep, lost=lost), config.tracking)


@contextmanager
def beating(study: optuna.Study, trials: Sequence[Trial]) -> Iterator[None]:
    """Let a database hear that trials live whose jobs may still wait in a queue; nothing on a journal file."""
    with ExitStack() as stack:
        for trial in trials:
            beat = get_heartbeat_thread(trial._trial_id, study._storage)
            stack.enter_context(cast(AbstractContextManager[None, None], beat))
        yield


def check_outcome(study: optuna.Study, base: Config) -> None:
    """Refuse to call a study finished that has nothing, or was ended by its failures.

    Raises
    ------
    RunError
    """
    trials = study.get_trials(deepcopy=False)
    if not finished(trials):
        raise RunError(f"no trial of study {study.study_name!r} came to its end; each says why above")
    if (why := out_of_bounds(trials, base.sweep)) is not None and why.failed:
        raise RunError(f"study {study.study_name!r} was stopped: {why.text}; {len(finished(trials))} are finished")


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


def check_objectives(wanted: Sequence[Direction], base: Config) -> None:
    """Refuse to look for the worst value of what is monitored, and directions without an objective.

    Raises
    ------
    ConfigError
    """
    key, training = "hydra.sweeper.direction", base.training
    first = "maximize" if training.monitor_mode == "max" else "minimize"
    rule = f"{first} first, since training.monitor is {training.monitor}"
    check(wanted[0] == first, key, wanted[0], rule, f"try {key}={first}")
    second = base.sweep.second_objective
    directions = [first] if second is None else [first, "minimize"]
    rule = f"{directions} with sweep.second_objective={second}"
    remedy = "try sweep.second_objective=null" if len(wanted) == 1 else "try sweep.second_objective=energy"
    check(list(wanted) == directions, key, list(wanted), rule, remedy)


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
    except (StorageInternalError, SQLAlchemyError) as error:
        first_line = str(error.__cause__ or error).strip().partition("\n")[0]
        raise RunError(
            scrub(f"the study's storage {storage} must answer: {first_line}; run the same command again to go on")
        ) from error
