"""Prepare the fields of every split, from the simulated sky, real frames or alert packets, or find them in the cache.

Nothing here needs torch, so that the processes which prepare fields start fast and stay small.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
from joblib.externals.loky import get_reusable_executor

from astrid.config import AlertsData, ConfigError, DataConfig, DataError, FramesData, SimulatedData

from . import alert_rows, alerts, difference, manifest, preprocess, simulate
from .frames import Field
from .splits import SPLITS
from .store import FieldStore, cached_store

SERVING_KEYS = ("batch_size", "tile_size", "workers", "stretch", "augment", "cache", "crops", "crops_per_epoch")
"""Knobs that change how fields are served but not the fields."""

PLACE_KEYS = ("root", "manifest", "packets", "labels", "val_fraction", "test_fraction", "split_seed")
"""Knobs whose effect is in the rows of manifest or packets and the files' contents, which are hashed themselves."""

MAKERS = ("numpy", "scipy", "astropy", "photutils")
"""Packages whose versions may change a pixel."""


@dataclass(frozen=True)
class Splits:
    """Prepared fields of each split, with the fingerprint of what they were made from."""

    train: FieldStore
    val: FieldStore
    test: FieldStore
    fingerprint: str
    description: str


Announce = Callable[[Iterable[Field], str, int], Iterable[Field]]
"""Shows progress: (fields as they are made, what they are, how many) -> the same fields."""


def build_splits(config: DataConfig, *, receptive_field_pixels: int, announce: Announce) -> Splits:
    """Prepare all fields of a data configuration, or find them in the cache.

    Raises
    ------
    DataError
        For input that cannot be used, naming the file or the row of the manifest.
    """
    match config:
        case SimulatedData():
            makers, key = _simulated(config)
            description = f"simulated sky, seed {config.sky_seed}, target {config.target}"
        case FramesData():
            makers, key = _real(config, receptive_field_pixels)
            description = f"frames of {Path(config.manifest).name}, split by {config.split_unit}"
        case AlertsData():
            makers, key = _alerts(config)
            description = f"alert packets of {Path(config.packets).name}, unlabelled {config.unlabelled}"
        case _:
            raise ConfigError(f"data must be a known choice, got {type(config).__name__}; try data=simulated")
    cache = _open_cache(config.cache)
    stores = {
        split: cached_store(cache, f"{key[:16]}/{split}", announce(_parallel(work), f"{split} fields", len(work)))
        for split, work in makers.items()
    }
    return Splits(**stores, fingerprint=key, description=description)


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


Makers = dict[str, Collection[Callable[[], Field]]]


def _simulated(config: SimulatedData) -> tuple[Makers, str]:
    counts = {"train": config.train_fields, "val": config.val_fields, "test": config.test_fields}
    makers: Makers = {
        split: [FieldMaker(simulated_field, config, split, index) for index in range(count)]
        for split, count in counts.items()
    }
    return makers, fingerprint(config)


def _real(config: FramesData, receptive_field_pixels: int) -> tuple[Makers, str]:
    rows = manifest.read_manifest(config, receptive_field_pixels=receptive_field_pixels)
    makers: Makers = {
        split: [FieldMaker(preprocess.prepare_field, row, config) for row in rows if row.split == split]
        for split in SPLITS
    }
    contents = manifest.fingerprint_rows(rows, config)
    return makers, fingerprint(config, contents=contents)


def _alerts(config: AlertsData) -> tuple[Makers, str]:
    rows = alert_rows.list_alerts(config)
    makers: Makers = {split: alerts.AlertFields(rows, config, split=split) for split in SPLITS}
    return makers, fingerprint(config, contents=alert_rows.fingerprint_alerts(rows))


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
