"""Which runs a group consists of, and the configuration of each."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from astrid.config import Config
from astrid.config.resume import taken_up
from astrid.seeds import derived_seed
from astrid.tracking.journal import FILE_NAME


@dataclass(frozen=True)
class Member:
    """One run of a group.

    Attributes
    ----------
    repeat, fold : int or None
        Its number, from 0, among the repeats and folds; None where there is one alone.
    config : Config
        Its own, an ordinary run's.
    run_dir : Path
    """

    repeat: int | None
    fold: int | None
    config: Config
    run_dir: Path

    @property
    def name(self) -> str:
        """Which one it is, for people."""
        numbers = {"repeat": self.repeat, "fold": self.fold}
        return ", ".join(f"{what} {number}" for what, number in numbers.items() if number is not None)


def members_of(config: Config, run_dir: Path) -> list[Member]:
    """Return the runs of a group, all folds of one repeat after the other.

    Their seeds are `derived_seed(training.seed, repeat, purpose="repeat")`, the same for all folds of a repeat; without
    repeats, `training.seed` itself.
    """
    repeats = range(config.training.repeats) if config.training.repeats > 1 else [None]
    folds = range(config.data.folds) if config.data.folds > 1 and config.data.fold is None else [None]
    return [_member(config, run_dir, repeat=repeat, fold=fold) for repeat in repeats for fold in folds]


def _member(config: Config, run_dir: Path, *, repeat: int | None, fold: int | None) -> Member:
    numbers = [f"r{repeat}"] * (repeat is not None) + [f"f{fold}"] * (fold is not None)
    folder = run_dir / "-".join(numbers)
    if (folder / FILE_NAME).is_file():
        return Member(repeat, fold, taken_up(config, folder), folder)
    training, data = config.training, config.data
    seed = training.seed if repeat is None else derived_seed(training.seed, repeat, purpose="repeat")
    own = dataclasses.replace(
        config,
        training=dataclasses.replace(training, seed=seed, repeats=1, resume=None),
        data=data if fold is None else dataclasses.replace(data, fold=fold),
    )
    return Member(repeat, fold, own, folder)
