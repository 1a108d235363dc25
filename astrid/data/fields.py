"""Prepare the fields of every split, from the simulated sky, real frames or alert packets, or find them in the cache.

Nothing here needs torch, so that the processes which prepare fields start fast and stay small.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import joblib
from joblib.externals.loky import get_reusable_executor

from astrid.config import AlertsData, ConfigError, DataConfig, DataError, FramesData, SimulatedData, check

from . import alert_rows, alerts, difference, manifest, preprocess, simulate
from .folds import fold_splits
from .frames import Field
from .rows import FrameRow, Split
from .splits import SPLITS
from .store import FieldStore, cached_store

T = TypeVar("T")

SERVING_KEYS = (
    *("batch_size", "tile_size", "workers", "stretch", "augment", "cache", "crops", "crops_per_epoch"),
    *("folds", "fold"),
)
"""Knobs that change how fields are served but not the fields."""

PLACE_KEYS = ("root", "manifest", "packets", "labels", "val_fraction", "test_fraction", "split_seed")
"""Knobs whose effect is in the rows of manifest or packets and the files' contents, which are hashed themselves."""

MAKERS = ("numpy", "scipy", "astropy", "photutils", "ccdproc", "astroscrappy", "astroalign")
"""Packages whose versions may change a pixel."""


UNIT = "background sigma"
"""What every channel is in, whatever unit the frames were in."""
HISTORIES = "preprocessing.json"
"""File of the run folder that tells what was done to the frames of each field."""


@dataclass(frozen=True)
class Splits:
    """Prepared fields of each split, with the fingerprint of what they were made from.

    `origins` says by split where each field comes from: of the simulated sky its seed and number, of real frames the
    digest of the frame and the section.
    """

    train: FieldStore
    val: FieldStore
    test: FieldStore
    fingerprint: str
    description: str
    origins: dict[str, list[str]] = dataclasses.field(default_factory=dict)


Announce = Callable[[Iterable[Field], str, int], Iterable[Field]]
"""Shows progress: (fields as they are made, what they are, how many) -> the same fields."""


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
    recipe = _recipe(config, receptive_field_pixels)
    stores = {split: recipe.prepare(split, cache=config.cache, announce=announce) for split in SPLITS}
    return Splits(**stores, fingerprint=recipe.key, description=recipe.description, origins=recipe.origins)


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
    recipe = _recipe(config, receptive_field_pixels).pooled()
    _place(config, recipe, fold=0)  # which tests the most fields: too few are refused before any is made
    store = recipe.prepare("all", cache=config.cache, announce=announce)
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
    )


def _place(config: DataConfig, recipe: Recipe, *, fold: int) -> dict[str, Split]:
    groups = recipe.groups["all"]
    match config:
        case SimulatedData(val_fields=count, sky_seed=seed):
            pass
        case FramesData(val_fraction=fraction, split_seed=seed):
            count = max(1, round(fraction * len(set(groups))))
    return fold_splits(groups, folds=config.folds, fold=fold, val_count=count, seed=seed)


def _recipe(config: DataConfig, receptive_field_pixels: int) -> Recipe:
    match config:
        case SimulatedData():
            return simulated_recipe(config)
        case FramesData():
            rows = manifest.read_manifest(config, receptive_field_pixels=receptive_field_pixels)
            return frames_recipe(config, rows)
        case AlertsData():
            return alerts_recipe(config)
    raise ConfigError(f"data must be a known choice, got {type(config).__name__}; try data=simulated")


@dataclass(frozen=True)
class Recipe:
    """How the fields of each split are made.

    Attributes
    ----------
    makers : dict
        By split, a call for each field.
    origins : dict
        By split, where each field comes from.
    groups : dict
        By split, the patch of sky that each field belongs to, which folds don't divide; empty where fields are read as
        a stream and can't be pooled.
    key : str
        Digest of everything that decides the fields.
    description : str
    channels, unit : int, str
        How many there are, and in what.
    """

    makers: Mapping[str, Collection[Callable[[], Field]]]
    origins: dict[str, list[str]]
    groups: dict[str, list[str]]
    key: str
    description: str
    channels: int
    unit: str = UNIT

    def pooled(self) -> Recipe:
        """Return the recipe with the fields of every split in one that is called `all`.

        Raises
        ------
        DataError
            For fields that can't be pooled.
        """
        if not self.groups:
            rule = f"{self.description} can't be pooled, neither for folds nor to be judged all at once"
            raise DataError(f"{rule}; leave data.folds alone, or judge one split")
        makers, origins, groups = _joined(self.makers), _joined(self.origins), _joined(self.groups)
        return dataclasses.replace(self, makers=makers, origins=origins, groups=groups, key=f"all-{self.key}")

    def prepare(self, split: str, *, cache: str, announce: Announce) -> FieldStore:
        """Make the fields of a split, or find them in the cache."""
        work = self.makers[split]
        fields = announce(_parallel(work), "fields" if split == "all" else f"{split} fields", len(work))
        return cached_store(_open_cache(cache), f"{self.key[:16]}/{split}", fields)


def _joined(by_split: Mapping[str, Collection[T]]) -> dict[str, list[T]]:
    return {"all": [one for own in by_split.values() for one in own]}


def _open_cache(name: str) -> Path:
    try:
        Path(name).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"data.cache must be a folder that can be written, got {name!r}: {error.strerror}") from error
    return Path(name)


def _parallel(makers: Iterable[Callable[[], Field]]) -> Iterator[Field]:
    """Make fields on all cores, in order, holding only a few at a time."""
    try:
        yield from joblib.Parallel(n_jobs=-1, return_as="generator")(joblib.delayed(maker)() for maker in makers)
    finally:
        get_reusable_executor().shutdown()  # idle workers would keep their memory, and outlive a killed run


def simulated_recipe(config: SimulatedData) -> Recipe:
    """Return how the fields of a simulated sky are made."""
    counts = {"train": config.train_fields, "val": config.val_fields, "test": config.test_fields}
    numbers = {split: range(count) for split, count in counts.items()}
    origins = {split: [f"sky {config.sky_seed} {split} {index}" for index in numbers[split]] for split in counts}
    return Recipe(
        makers={
            split: [FieldMaker(simulated_field, config, split, index) for index in numbers[split]] for split in counts
        },
        origins=origins,
        groups=origins,
        key=fingerprint(config),
        description=f"simulated sky, seed {config.sky_seed}, target {config.target}",
        channels=3,
    )


def frames_recipe(config: FramesData, rows: Sequence[FrameRow]) -> Recipe:
    """Return how the fields of real frames are made; rows without a split are of the split `all`."""
    by_split: dict[str, list[FrameRow]] = {}
    for row in rows:
        by_split.setdefault(row.split or "all", []).append(row)
    return Recipe(
        makers={
            split: [FieldMaker(preprocess.prepare_field, row, config) for row in own] for split, own in by_split.items()
        },
        origins={split: [row.origin for row in own] for split, own in by_split.items()},
        groups={split: [row.field for row in own] for split, own in by_split.items()},
        key=fingerprint(config, contents=manifest.fingerprint_rows(rows, config)),
        description=f"frames of {Path(config.manifest).name}, split by {config.split_unit}",
        channels=1 if rows[0].reference is None else 3 + config.preprocess.score,
    )


def alerts_recipe(config: AlertsData) -> Recipe:
    """Return how the fields of alert packets are made, which are read as a stream and therefore not pooled."""
    rows = alert_rows.list_alerts(config)
    makers: dict[str, alerts.AlertFields] = {split: alerts.AlertFields(rows, config, split=split) for split in SPLITS}
    return Recipe(
        makers=makers,
        origins={split: own.origins for split, own in makers.items()},
        groups={},
        key=fingerprint(config, contents=alert_rows.fingerprint_alerts(rows)),
        description=f"alert packets of {Path(config.packets).name}, unlabelled {config.unlabelled}",
        channels=3,
    )


class FieldMaker:
    """A call that makes one field, and that a worker process can be sent."""

    def __init__(self, function: Callable[..., Field], *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __call__(self) -> Field:
        return self.function(*self.arguments)


def simulated_field(config: SimulatedData, split: str, index: int) -> Field:
    """Simulate one field and bring it into the network's channels: science, reference, difference.

    The channels are in units of their background sigma; the target is the mask that `config.target` names.
    """
    sky = simulate.simulate_field(config, split=split, index=index)
    residual = difference.matched_difference(
        sky.science,
        sky.reference,
        science_fwhm=sky.science_fwhm,
        reference_fwhm=sky.reference_fwhm,
        valid=sky.valid,
    )
    image = difference.channels_in_sigma(sky.science, sky.reference, residual, sky.valid)
    sources = sky.sources if config.target == "transient" else None
    return Field(f"{split}-{index:05d}", image, sky.masks[config.target], sky.valid, sources, sky.science_fwhm)


def fingerprint(config: DataConfig, *, contents: str = "") -> str:
    """Hash what decides the pixels: knobs, the code of this package and what it calls, contents of input files."""
    knobs = {
        name: value for name, value in dataclasses.asdict(config).items() if name not in (*SERVING_KEYS, *PLACE_KEYS)
    }
    package = Path(__file__).parent
    code = [path.read_text() for path in sorted(package.rglob("*.py")) if path.parent != package / "archives"]
    versions = [importlib.metadata.version(package) for package in MAKERS]
    text = json.dumps([type(config).__name__, knobs, code, versions, contents], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


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
