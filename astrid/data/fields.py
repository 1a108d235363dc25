"""Prepare the fields of every split, from the simulated sky, real frames or alert packets, or find them in the cache.

Nothing here needs torch, so that the processes which prepare fields start fast and stay small.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from astrid.config import DataConfig, DataError, FramesData, SimulatedData, check

from .folds import fold_splits, warn_of_few_positives
from .recipes import Announce, Recipe, read_recipe
from .rows import Split
from .screening import Screened
from .splits import SPLITS
from .store import FieldStore

HISTORIES = "preprocessing.json"
"""File of the run folder that tells what was done to the frames of each field."""


@dataclass(frozen=True)
class Splits:
    """Prepared fields of each split, with the fingerprint of what they were made from.

    `origins` says by split where each field comes from: of the simulated sky its seed and number, of real frames the
    digest of the frame and the section. `quality` is that of the exposures of real frames.
    """

    train: FieldStore
    val: FieldStore
    test: FieldStore
    fingerprint: str
    description: str
    origins: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    quality: list[Screened] = dataclasses.field(default_factory=list)

    @property
    def stores(self) -> dict[str, FieldStore]:
        """The fields by split."""
        return {split: getattr(self, split) for split in SPLITS}


def build_splits(config: DataConfig, *, receptive_field_pixels: int, announce: Announce) -> Splits:
    """Prepare all fields of a data configuration, or find them in the cache.

    Raises
    ------
    DataError
        For input that cannot be used, naming the file or the row of the manifest.
    ConfigError
        For a cross-validation of which no fold is named; `build_folds` gives all of them.
    """
    if config.folds > 1:
        fold = settled_fold(config)
        return build_folds(config, receptive_field_pixels=receptive_field_pixels, announce=announce)[fold]
    recipe = read_recipe(config, receptive_field_pixels=receptive_field_pixels, announce=announce)
    stores = {split: recipe.prepare(split, config=config, announce=announce) for split in SPLITS}
    return Splits(
        **stores,
        fingerprint=recipe.key,
        description=recipe.description,
        origins=recipe.origins,
        quality=recipe.quality,
    )


def settled_fold(config: DataConfig) -> int:
    """Return the fold of a cross-validation, and refuse all of them where one is needed."""
    rule = f"from 0 to {config.folds - 1} here, where one of data.folds={config.folds} is needed"
    check(config.fold is not None, "data.fold", config.fold, rule, "try data.fold=0")
    return config.fold or 0


def build_folds(config: DataConfig, *, receptive_field_pixels: int, announce: Announce) -> list[Splits]:
    """Prepare all fields once, and return the splits of every fold, each a view of them.

    Raises
    ------
    DataError
        For input that cannot be used, and for too few fields.
    """
    recipe = read_recipe(config, receptive_field_pixels=receptive_field_pixels, announce=announce).pooled()
    placed = [_place(config, recipe, fold=fold) for fold in range(config.folds)]  # refused before any field is made
    warn_of_few_positives(placed, recipe.positive)
    store = recipe.prepare("all", config=config, announce=announce)
    return [fold_of(config, recipe, store, fold=fold) for fold in range(config.folds)]


def fold_of(config: DataConfig, recipe: Recipe, store: FieldStore, *, fold: int) -> Splits:
    """Return the splits of one fold, as views of the store of a pooled recipe."""
    placed, origins = _place(config, recipe, fold=fold), recipe.origins["all"]
    numbers = {split: [n for n, group in enumerate(recipe.groups["all"]) if placed[group] == split] for split in SPLITS}
    return Splits(
        **{split: store.part(numbers[split]) for split in SPLITS},
        fingerprint=hashlib.sha256(json.dumps([recipe.key, numbers]).encode()).hexdigest(),
        description=f"{recipe.description}, fold {fold} of {config.folds}",
        origins={split: [origins[number] for number in numbers[split]] for split in SPLITS},
        quality=recipe.quality,
    )


def _place(config: DataConfig, recipe: Recipe, *, fold: int) -> dict[str, Split]:
    groups = recipe.groups["all"]
    match config:
        case SimulatedData(val_fields=count, sky_seed=seed):
            pass
        case FramesData(val_fraction=fraction, split_seed=seed):
            count = max(1, round(fraction * len(set(groups))))
    return fold_splits(groups, positive=recipe.positive, folds=config.folds, fold=fold, val_count=count, seed=seed)


def write_histories(splits: Splits, path: Path) -> bool:
    """Write as JSON, by split and name, what was done to the frames of each field; nothing where nothing was."""
    told = {
        f"{split}/{entry.name}": entry.history
        for split in SPLITS
        for entry in getattr(splits, split).entries
        if entry.history
    }
    if told:
        path.write_text(json.dumps(told, indent=1))
    return bool(told)


def check_splits(splits: Splits, *, monitor: str) -> None:
    """Refuse splits that cannot be learned from or watched.

    Raises
    ------
    DataError
        Where training has no valid pixel, or validation has nothing that the monitor could measure.
    """
    for name in SPLITS:
        store: FieldStore = getattr(splits, name)
        if sum(entry.valid_pixels for entry in store.entries) == 0:
            raise DataError(f"the {name} split must have valid pixels, but all of its {len(store)} fields are masked")
    if splits.train.prior == 0:
        raise DataError(
            "the train split must have positive pixels, but none of its fields has any; check data.target, or the "
            "manifest's columns target, target_bits (values of bits, as 4096) and target_codes"
        )
    if splits.train.prior == 1:
        raise DataError("the train split must have negative pixels too, but every valid pixel of it is positive")
    if monitor in ("val/auprc", "val/auroc") and splits.val.prior == 0:
        raise DataError(
            f"{monitor} needs positive pixels in the val split, which has none; try training.monitor=val/loss"
        )
