"""How the fields of each split are made: of a simulated sky, of real frames, with injections, or of alert packets.

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

from astrid.config import AlertsData, ConfigError, DataConfig, DataError, FramesData, InjectedData, SimulatedData

from . import alert_rows, alerts, difference, injected, manifest, preprocess, simulate
from .frames import Field
from .rows import FrameRow
from .screening import Screened, recalling, screen
from .splits import SPLITS, group_rows, positive_groups
from .store import FieldStore, cached_store

T = TypeVar("T")

SERVING_KEYS = (
    *("batch_size", "tile_size", "workers", "stretch", "augment", "cache", "crops", "crops_per_epoch"),
    "crop_area_power",
    *("prepare_workers", "folds", "fold"),
)
"""Knobs that change how fields are served but not the fields."""

PLACE_KEYS = (
    *("root", "manifest", "packets", "labels", "footprints", "val_fraction", "test_fraction", "split_seed"),
    "quality",
)
"""Knobs whose effect is in the rows of manifest or packets and the files' contents, which are hashed themselves."""

MAKERS = ("numpy", "scipy", "astropy", "photutils", "ccdproc", "astroscrappy", "astroalign", "sep")
"""Packages whose versions may change a pixel."""

UNIT = "background sigma"
"""What every channel is in, whatever unit the frames were in."""

Announce = Callable[[Iterable[Any], str, int], Iterable[Any]]
"""Shows progress: (what is prepared as it is made, what it is, how many) -> the same."""


def read_recipe(config: DataConfig, *, receptive_field_pixels: int, announce: Announce) -> Recipe:
    """Return how the fields of a data configuration are made; the manifest of real frames is read and checked."""
    match config:
        case SimulatedData():
            return simulated_recipe(config)
        case InjectedData():
            rows = manifest.read_manifest(config, receptive_field_pixels=receptive_field_pixels)
            return injected_recipe(config, rows, announce=announce)
        case FramesData():
            rows = manifest.read_manifest(config, receptive_field_pixels=receptive_field_pixels)
            with manifest.named(config):
                manifest.refuse_without_truth(rows)
            return frames_recipe(config, rows, announce=announce)
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
    positive : set of str
        Groups whose target planes hold positives, which are dealt out to folds first; none of fields that are drawn,
        since nobody knows before they are made.
    key : str
        Digest of everything that decides the fields.
    description : str
    channels, unit : int, str
        How many there are, and in what.
    quality : list of Screened
        Of the exposures of real frames, those that were left out included.
    """

    makers: Mapping[str, Collection[Callable[[], Field]]]
    origins: dict[str, list[str]]
    groups: dict[str, list[str]]
    key: str
    description: str
    channels: int
    unit: str = UNIT
    positive: set[str] = dataclasses.field(default_factory=set)
    quality: list[Screened] = dataclasses.field(default_factory=list)

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

    def prepare(self, split: str, *, config: DataConfig, announce: Announce) -> FieldStore:
        """Make the fields of a split, or find them in the cache."""
        work = self.makers[split]
        what = "fields" if split == "all" else f"{split} fields"
        fields = announce(in_parallel(work, workers=config.prepare_workers), what, len(work))
        with recalling(self.quality):
            return cached_store(_open_cache(config.cache), f"{self.key[:16]}/{split}", fields)


def _joined(by_split: Mapping[str, Collection[T]]) -> dict[str, list[T]]:
    return {"all": [one for own in by_split.values() for one in own]}


def _open_cache(name: str) -> Path:
    try:
        Path(name).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"data.cache must be a folder that can be written, got {name!r}: {error.strerror}") from error
    return Path(name)


def in_parallel(makers: Iterable[Callable[[], T]], *, workers: int) -> Iterator[T]:
    """Make fields, or the like, in so many processes, 0 is one a core, in order, holding only a few at a time."""
    try:
        pool = joblib.Parallel(n_jobs=workers or -1, return_as="generator")
        yield from pool(joblib.delayed(maker)() for maker in makers)
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


def frames_recipe(config: FramesData, rows: Sequence[FrameRow], *, announce: Announce) -> Recipe:
    """Return how the fields of real frames are made; rows without a split are of the split `all`.

    Exposures are assessed first; with data.quality.policy=skip the rows of bad ones are left out.
    """
    rows, screened = screen(rows, config, show=announce)
    return _screened_recipe(config, rows, screened)


def _screened_recipe(config: FramesData, rows: Sequence[FrameRow], screened: list[Screened]) -> Recipe:
    by_split: dict[str, list[FrameRow]] = {}
    for row in rows:
        by_split.setdefault(row.split or "all", []).append(row)
    return Recipe(
        makers={
            split: [FieldMaker(preprocess.prepare_field, row, config) for row in own] for split, own in by_split.items()
        },
        origins={split: [row.origin for row in own] for split, own in by_split.items()},
        groups={split: group_rows(own, config.split_unit) for split, own in by_split.items()},
        key=fingerprint(config, contents=manifest.fingerprint_rows(rows, config)),
        description=f"frames of {Path(config.manifest).name}, split by {config.split_unit}",
        channels=1 if rows[0].reference is None else 3 + config.preprocess.score,
        positive=positive_groups(rows, config.split_unit),
        quality=screened,
    )


def injected_recipe(config: InjectedData, rows: Sequence[FrameRow], *, announce: Announce) -> Recipe:
    """Return how the fields of real frames with injections are made, as `frames_recipe` does for those without."""
    digest = injected.table_digest(config)
    rows, screened = screen(rows, config, show=announce)
    with recalling(screened):
        rows = injected.with_psf(rows, config)
    frames, made = _screened_recipe(config, rows, screened), injected.injections(rows, config)
    return dataclasses.replace(
        frames,
        makers=made,
        origins={split: [one.row.origin for one in own] for split, own in made.items()},
        groups={split: group_rows([one.row for one in own], config.split_unit) for split, own in made.items()},
        key=fingerprint(config, contents=manifest.fingerprint_rows(rows, config) + digest),
        description=f"{frames.description}, with injected {config.target}s, seed {config.injection_seed}",
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
    image = difference.channels_in_sigma(sky.science, sky.reference, difference=residual, valid=sky.valid)
    sources = sky.sources if config.target == "transient" else None
    return Field(f"{split}-{index:05d}", image, sky.masks[config.target], sky.valid, sources, sky.science_fwhm)


def fingerprint(config: DataConfig, *, contents: str = "") -> str:
    """Hash what decides the pixels: knobs, the code of this package and what it calls, contents of input files."""
    knobs = {
        name: value for name, value in dataclasses.asdict(config).items() if name not in (*SERVING_KEYS, *PLACE_KEYS)
    }
    if "preprocess" in knobs:
        knobs["preprocess"].pop("memory_mib")  # changes only how masters are made
    package = Path(__file__).parent
    apart = (package / "archives", package / "listing")  # which only make what a run then reads
    code = [path.read_text() for path in sorted(package.rglob("*.py")) if path.parent not in apart]
    versions = [importlib.metadata.version(package) for package in MAKERS]
    text = json.dumps([type(config).__name__, knobs, code, versions, contents], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
