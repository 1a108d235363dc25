"""Fields on which a finished model is judged: which they are, what they are made of, and which of them it has seen."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from astrid.config import AlertsData, ConfigError, DataConfig, DataError, FramesData, InjectedData, SimulatedData

from .fields import Splits, fold_of, settled_fold
from .manifest import assigned, named, read_rows, refuse_without_truth
from .recipes import Announce, Recipe, alerts_recipe, frames_recipe, injected_recipe, simulated_recipe
from .rows import FrameRow, Section, with_unique_names
from .screening import Screened
from .store import FieldStore

ALL = "all"
JudgedSplit = Literal["train", "val", "test", "all"]


@dataclass(frozen=True)
class JudgedFields:
    """Fields to judge a model on.

    Attributes
    ----------
    store : FieldStore
    origins : list of str
        Where each field comes from, as in `Splits.origins`.
    fingerprint : str
        Digest of what they are made from; that of a training run for the test fields of the same data.
    description : str
    quality : list of Screened
        Of the exposures of real frames, as in `Recipe`.
    """

    store: FieldStore
    origins: list[str]
    fingerprint: str
    description: str
    quality: list[Screened] = dataclasses.field(default_factory=list)


def prepare_judged(
    config: DataConfig, split: JudgedSplit, *, channels: int, unit: str, announce: Announce
) -> JudgedFields:
    """Prepare the fields of one split, or of all, or find them in the cache.

    Parameters
    ----------
    channels, unit : int, str
        How many the model takes, and in what.

    Raises
    ------
    DataError
        For data of other channels, in another unit, without truth, or without fields in the split.
    """
    recipe = _recipe(config, split, announce)
    if recipe.channels != channels:
        remedies = {1: "leave the column reference out", 3: "name a reference in every row"}
        remedy = remedies.get(channels, "choose other data or another model")
        raise DataError(f"the data must have the {channels} channels of the model, got {recipe.channels}; {remedy}")
    if recipe.unit != unit:
        rule, remedy = f"in the unit of the model, {unit}", "judge it with the version of AstrID that trained it"
        raise DataError(f"the data must be {rule}, got {recipe.unit}; {remedy}")
    judged = _prepare(config, recipe, split, announce=announce)
    if sum(entry.valid_pixels for entry in judged.store.entries) == 0:
        raise DataError(f"the {split} fields must have valid pixels, but all of the {len(judged.store)} are masked")
    return judged


def _recipe(config: DataConfig, split: JudgedSplit, announce: Announce) -> Recipe:
    match config:
        case SimulatedData():
            return simulated_recipe(config)
        case InjectedData():
            return injected_recipe(config, read_rows_to_judge(config, split=split), announce=announce)
        case FramesData():
            return frames_recipe(config, read_rows_to_judge(config, split=split), announce=announce)
        case AlertsData():
            return alerts_recipe(config)
    raise ConfigError(f"data must be a known choice, got {type(config).__name__}; try data=simulated")


def _prepare(config: DataConfig, recipe: Recipe, split: JudgedSplit, *, announce: Announce) -> JudgedFields:
    """Prepare what is judged; the fields and the fingerprint of a test split are those of a run that trains on them."""
    if config.folds > 1 or split == ALL:
        recipe = recipe.pooled()
        store = recipe.prepare(ALL, config=config, announce=announce)
        if split == ALL:
            return JudgedFields(store, recipe.origins[ALL], recipe.key, recipe.description, recipe.quality)
        own = _of_splits(fold_of(config, recipe, store, fold=settled_fold(config)), split)
    else:
        store = recipe.prepare(split, config=config, announce=announce)
        own = JudgedFields(store, recipe.origins[split], recipe.key, recipe.description, recipe.quality)
    return own if split == "test" else dataclasses.replace(own, fingerprint=f"{split}-{own.fingerprint}")


def _of_splits(splits: Splits, split: JudgedSplit) -> JudgedFields:
    return JudgedFields(
        getattr(splits, split), splits.origins[split], splits.fingerprint, splits.description, splits.quality
    )


def read_rows_to_judge(config: FramesData, *, split: JudgedSplit) -> list[FrameRow]:
    """Read a manifest on which nothing is trained: only the split that is judged must have rows.

    Rows keep the split that the manifest names, or get the one that training with this configuration would draw; with
    `all` they lose it. What splits share is not looked at.

    Raises
    ------
    DataError
        As `read_manifest`, and where the rows have no truth to judge by.
    """
    with named(config):
        rows, _, _ = read_rows(config)
        if not isinstance(config, InjectedData):
            refuse_without_truth(rows)
        if split == ALL:
            rows = [dataclasses.replace(row, split=None) for row in rows]
        elif config.folds > 1:
            pass  # the folds say what is tested
        elif any(row.split is None for row in rows):
            rows = _draw(rows, config)
        elif all(row.split != split for row in rows):
            raise DataError(f"split {split!r} must have a row, got none among {len(rows)}; judge another with --split")
    return with_unique_names(rows)


def _draw(rows: Sequence[FrameRow], config: FramesData) -> list[FrameRow]:
    try:
        return assigned(rows, config)
    except DataError as error:
        raise DataError(f"{error}; or judge every row with --split all") from error


@dataclass(frozen=True)
class Overlap:
    """How many of the judged fields the model was trained on, and how many chose its epoch and thresholds.

    None where the model doesn't say what it has seen.
    """

    train: int | None
    val: int | None


def find_overlap(origins: Sequence[str], *, seen: Mapping[str, Collection[str]]) -> Overlap:
    """Count judged fields that a model has seen: the same simulated field, or a section of a frame that overlaps one.

    Parameters
    ----------
    origins : sequence of str
        Of the judged fields.
    seen : mapping of str to collection of str
        Origins of the fields that trained the model (`train`) and of those that chose (`val`).
    """
    if not seen:
        return Overlap(None, None)
    train, val = (_by_picture(seen[split]) for split in ("train", "val"))
    trained_on = [origin for origin in origins if _meets(origin, train)]
    return Overlap(len(trained_on), sum(_meets(origin, val) for origin in set(origins) - set(trained_on)))


def _by_picture(origins: Collection[str]) -> dict[str, list[Section | None]]:
    found: dict[str, list[Section | None]] = {}
    for origin in origins:
        picture, section = _parts(origin)
        found.setdefault(picture, []).append(section)
    return found


def _meets(origin: str, known: Mapping[str, Sequence[Section | None]]) -> bool:
    picture, section = _parts(origin)
    return any(section is None or other is None or section.gap_to(other) < 0 for other in known.get(picture, ()))


def _parts(origin: str) -> tuple[str, Section | None]:
    picture, bracket, rest = origin.partition("[")
    return picture, Section.parse(bracket + rest) if bracket else None
