"""Knobs that every data set shares, and those of real frames."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from omegaconf import MISSING

from .augment import AugmentConfig
from .auto import Auto
from .checks import check
from .preprocess import PreprocessConfig
from .quality import QualityConfig


@dataclass
class DataConfig:
    """What every data set has."""

    batch_size: int | Auto = 4
    """Tiles per step. `auto`: the largest power of two that fits into memory and leaves enough steps."""
    tile_size: int = 128
    """Edge of a square training tile in pixels; a multiple of 2**model.depth."""
    prepare_workers: int = 0
    """Processes that prepare fields; 0 is one a core. Each holds a frame with its steps in memory."""
    workers: int = 0
    """Loader processes; 0 reads the memory-mapped tiles in the main process, fastest on few cores."""
    stretch: Literal["arcsinh", "linear"] = "arcsinh"
    """What the network does to its input, which is in background sigma: arcsinh or nothing."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    cache: str = "outputs/cache"
    """Folder of the prepared fields, keyed by content and configuration."""
    folds: int = 1
    """Cross-validation: a run for each of so many parts of the fields, tested on that part; 1 is none."""
    fold: int | None = None
    """Part that is tested, from 0 to data.folds - 1; null runs all of them, one after the other."""

    def __post_init__(self) -> None:
        check(self.folds >= 1, "data.folds", self.folds, "at least 1", "try data.folds=5")
        is_part = self.fold is None or 0 <= self.fold < self.folds > 1
        rule = f"null, or from 0 to data.folds - 1 = {self.folds - 1} of several folds"
        check(is_part, "data.fold", self.fold, rule, "try data.fold=null")
        fits = self.batch_size == "auto" or self.batch_size >= 1
        check(fits, "data.batch_size", self.batch_size, "at least 1", "try data.batch_size=4")
        check(self.tile_size >= 16, "data.tile_size", self.tile_size, "at least 16", "try data.tile_size=128")
        check(
            bool(self.cache.strip()), "data.cache", self.cache, "the name of a folder", "try data.cache=outputs/cache"
        )
        check(self.prepare_workers >= 0, "data.prepare_workers", self.prepare_workers, "at least 0", "try 2")
        check(self.workers >= 0, "data.workers", self.workers, "at least 0", "try data.workers=2")


def check_fractions(val: float, test: float) -> None:
    """Refuse shares of the fields that leave none to train on."""
    for name, value in (("val_fraction", val), ("test_fraction", test)):
        check(0 < value < 1, f"data.{name}", value, "in (0, 1)", f"try data.{name}=0.2")
    rule, remedy = "below 1", "leave some fields to train on"
    check(val + test < 1, "data.val_fraction + data.test_fraction", val + test, rule, remedy)


@dataclass
class FramesData(DataConfig):
    """Real FITS frames listed in a manifest."""

    root: str = MISSING
    """Folder that the manifest's file names start from."""
    manifest: str = MISSING
    """CSV with a row a frame; see the README for its columns."""
    split_unit: Literal["field", "night", "exposure", "section"] = "field"
    """What may not be shared between splits, and is drawn where the manifest has no `split` column: a patch of sky; a
    patch of sky or a night; only an exposure; only a section of a frame."""
    val_fraction: float = 0.2
    """Share of the fields that validates, where the manifest has no `split` column."""
    test_fraction: float = 0.2
    """Share of the fields that tests, where the manifest has no `split` column and data.folds is 1."""
    split_seed: int = 0
    """Seed of the assignment of fields to splits."""
    crops: Literal["grid", "random"] = "grid"
    """Training tiles on a grid, or cut at random places with random shifts."""
    crops_per_epoch: int = 256
    """Training tiles an epoch when `crops=random`."""
    crop_area_power: float = 1.0
    """Random crops come from a frame in proportion to its area to this power: 1 shows every pixel alike often, 0 every
    frame, however small, so that large or finely sampled ones don't outweigh the rest."""
    background_box: int = 64
    """Edge in pixels of the cells in which the background level is measured; as large as the frame makes one level."""
    preprocess: PreprocessConfig = field(default_factory=PreprocessConfig)
    """Steps from raw exposures to frames of one grid."""
    quality: QualityConfig = field(default_factory=QualityConfig)
    """How good each science exposure must be, and what becomes of those that aren't."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fractions(self.val_fraction, self.test_fraction)
        check(self.crops_per_epoch >= 1, "data.crops_per_epoch", self.crops_per_epoch, "at least 1", "try 256")
        power = self.crop_area_power
        check(0 <= power <= 1, "data.crop_area_power", power, "from 0 to 1", "try data.crop_area_power=0.5")
        check(self.background_box >= 8, "data.background_box", self.background_box, "at least 8", "try 64")
        changed = self.augment.photometric if self.preprocess.score else []
        rule = "0 with data.preprocess.score, which can't follow what happens to the science frame"
        for name in changed:
            check(False, f"data.augment.{name}", getattr(self.augment, name), rule, f"try data.augment.{name}=0")
