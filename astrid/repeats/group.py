"""Run the members of a group one after the other, go on with what is missing, and report them as one run."""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

from astrid.aims import check_operating_point
from astrid.config import Config, DataError, RunError, Stopped
from astrid.config.command import resume_command
from astrid.config.resume import save_config
from astrid.console import announce, print_plain
from astrid.data.fields import build_folds, check_splits
from astrid.plan import known_reach
from astrid.report.written import EndReport
from astrid.results import say_where
from astrid.run_facts import parameters_of
from astrid.tracking import ShippingError, Tracker, known_run_id, open_tracker, sync
from astrid.tracking.journal import FILE_NAME
from astrid.tracking.records import GROUP_TAG, MEMBER_TAG, PARENT_TAG
from astrid.tracking.stored_runs import TASK_TAG, read_folder

from .members import Member, members_of
from .report import MemberEnd, report_group

log = logging.getLogger(__name__)


class Run(Protocol):
    """What trains one member: `run_experiment`."""

    def __call__(self, config: Config, *, run_dir: Path, links: Callable[[], Mapping[str, str]]) -> float:
        """Train, evaluate and record one network, and return its objective."""


def run_group(run: Run, config: Config, *, run_dir: Path) -> float:
    """Train all members of a group and report what they come to.

    A member that fails doesn't keep the others from being trained.

    Parameters
    ----------
    run : callable
        `run_experiment`.
    config : Config
        With repeats or folds; with `training.resume` only what is missing is trained.
    run_dir : Path
        Folder of the group, with a folder for each member.

    Returns
    -------
    float
        The mean of the members' objectives.

    Raises
    ------
    ConfigError, DataError
        Before the first step, for what cannot run.
    RunError
        Where a member failed.
    """
    check_folds(config)
    members = members_of(config, run_dir)
    with ExitStack() as stack:
        parent = Parent(config, run_dir, stack)
        ends = [_train(run, member, parent, count=len(members)) for member in members]
        parent.adopt(members)
        metrics = report_group(ends, config=config, run_dir=run_dir, tracker=parent.tracker)
    say_where(config.tracking, run_dir)
    return metrics["objective"]


def check_folds(config: Config) -> None:
    """Refuse folds of which one cannot be learned from, before the first is trained.

    Raises
    ------
    DataError
    """
    if config.data.folds == 1 or config.data.fold is not None:
        return
    parts = build_folds(config.data, receptive_field_pixels=known_reach(config.model), announce=announce)
    for fold, splits in enumerate(parts):
        try:
            check_splits(splits, monitor=config.training.monitor)
            check_operating_point(splits.val, config.metrics)
        except DataError as error:
            raise DataError(f"fold {fold} of {config.data.folds}: {error}") from error


class Parent:
    """The run that stands for all members; it begins once the first of them does, having found nothing amiss.

    Parameters
    ----------
    config : Config
    run_dir : Path
    stack : ExitStack
        Ends it.
    """

    def __init__(self, config: Config, run_dir: Path, stack: ExitStack) -> None:
        self._config, self._run_dir, self._stack = config, run_dir, stack
        self._run_id: str | None = None

    @functools.cached_property
    def tracker(self) -> Tracker:
        """Where the group is reported."""
        config, training = self._config, self._config.training
        name = f"{group_name(config)}-{self._run_dir.name[-8:]}"
        tags = {TASK_TAG: getattr(config.data, "target", "frames"), GROUP_TAG: name}
        resume = training.resume is not None
        tracker = self._stack.enter_context(
            open_tracker(
                config.tracking, self._run_dir, name=name, params=parameters_of(config), tags=tags, resume=resume
            )
        )
        self._stack.enter_context(EndReport(tracker, self._run_dir, wanted=config.metrics.report))
        save_config(dataclasses.replace(config, training=dataclasses.replace(training, resume=None)), self._run_dir)
        self._run_id = tracker.connect()
        return tracker

    def links(self, member: Member) -> dict[str, str]:
        """Return the tags by which a member's run is found under this one."""
        links = {GROUP_TAG: self.tracker.journal.started.name, MEMBER_TAG: member.name}
        return links if self._run_id is None else links | {PARENT_TAG: self._run_id}

    def adopt(self, members: Sequence[Member]) -> None:
        """Put those members under this run in MLflow that began while MLflow didn't answer."""
        run_id = known_run_id(self._run_dir)
        if run_id is None or self._config.tracking.backend == "off":
            return
        for member in members:
            begun = (member.run_dir / FILE_NAME).is_file()
            if not begun or read_folder(member.run_dir).tags.get(PARENT_TAG) == run_id:
                continue
            try:
                sync(member.run_dir, self._config.tracking, tags={PARENT_TAG: run_id})
            except ShippingError as error:
                log.warning("%s; send it later with: astrid sync %s", error, member.run_dir)


def group_name(config: Config) -> str:
    """Return what a group is, as in ``repeats3-folds5``."""
    repeats, whole = config.training.repeats, config.data.fold is None
    parts = [f"repeats{repeats}"] * (repeats > 1) + [f"folds{config.data.folds}"] * (whole and config.data.folds > 1)
    return "-".join(parts)


def _train(run: Run, member: Member, parent: Parent, *, count: int) -> MemberEnd:
    print_plain(f"{member.name} ({count} runs in all), seed {member.config.training.seed}, in {member.run_dir}")
    try:
        objective = run(member.config, run_dir=member.run_dir, links=lambda: parent.links(member))
    except RunError as error:
        log.error("%s failed: %s", member.name, error)
        return MemberEnd(member, None, str(error))
    except Stopped as stopped:
        remedy = resume_command(member.run_dir.parent)
        raise Stopped(f"{member.name} was stopped; all is saved, go on with: {remedy}") from stopped
    return MemberEnd(member, objective)
