"""Which injections a set of real frames gets: how many of each frame, and which cosmic rays each split may use."""

from __future__ import annotations

import csv
import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from astrid.config import DataError, InjectedData

from .frames import Field
from .inject.cosmic_rays import Footprint, footprints_of, read_footprints
from .inject.frame import before_injection, prepare_injected
from .inject.surroundings import NoPsf
from .preprocess import naming_row
from .rows import FrameRow, Split
from .splits import SPLITS
from .store import FieldStore, whole

logger = logging.getLogger(__name__)

CATALOGUE = "injections.csv"
"""File of the run folder with every injected transient."""
JUDGED_AS: Split = "test"
"""Split whose cosmic rays are used where all frames are judged at once."""


@dataclass(frozen=True)
class InjectedField:
    """A call that makes one field, and that a worker process can be sent."""

    row: FrameRow
    config: InjectedData
    copy: int
    footprints: Sequence[Footprint]

    def __call__(self) -> Field:
        """Make the field."""
        return prepare_injected(self.row, self.config, self.copy, self.footprints)


def injections(rows: Sequence[FrameRow], config: InjectedData) -> dict[str, list[InjectedField]]:
    """Return the fields of every split; rows without a split are of the split `all`.

    Raises
    ------
    DataError
        For a training row with a reference where stars are to be added.
    """
    _refuse_stars_beside_references(rows, config)
    table = [] if config.footprints is None else read_footprints(Path(config.footprints))
    by_split: dict[str, list[InjectedField]] = {}
    for row in rows:
        copies = config.copies if row.split == "train" else 1
        own = footprints_of(row.split or JUDGED_AS, table, seed=config.injection_seed) if table else []
        made = [InjectedField(row, config, copy, own) for copy in range(copies)]
        by_split.setdefault(row.split or "all", []).extend(made)
    return by_split


def _refuse_stars_beside_references(rows: Sequence[FrameRow], config: InjectedData) -> None:
    """Refuse stars that only the science frame would show: in the difference they'd be transients labelled negative."""
    for row in rows:
        if config.train_stars_per_mpix > 0 and row.split == "train" and row.reference is not None:
            rule = "data.train_stars_per_mpix must be 0 where a row has a reference, which wouldn't show these stars"
            raise DataError(f"row {row.number}: {rule}, got {config.train_stars_per_mpix:g}; leave it out")


def with_psf(rows: Sequence[FrameRow], config: InjectedData) -> list[FrameRow]:
    """Return the rows of which each copy has a PSF, and name the others, where `data.without_psf=skip` asks for it.

    Raises
    ------
    DataError
        If a split loses all its rows.
    """
    if not config.needs_psf or config.without_psf == "stop":
        return list(rows)
    kept = [row for row in rows if _has_psf(row, config)]
    for split in SPLITS:
        if any(row.split == split for row in rows) and all(row.split != split for row in kept):
            raise DataError(f"split {split!r} must have a frame with a PSF, got none; give PSFs in the column psf")
    return kept


def _has_psf(row: FrameRow, config: InjectedData) -> bool:
    try:
        with naming_row(row, config):
            for copy in _copies_that_differ(row, config):
                before_injection(row, config, copy)
    except DataError as error:
        if not _is_about_psf(error):
            raise
        logger.warning("left out: %s", error)
        return False
    return True


def _copies_that_differ(row: FrameRow, config: InjectedData) -> range:
    """Return the copies that show other frames: all where they are changed at random, else one of each binning."""
    if row.split != "train":
        return range(1)
    at_random = config.train_stars_per_mpix > 0 or config.train_resampled > 0
    return range(config.copies if at_random else min(config.copies, len(config.train_binning)))


def _is_about_psf(error: BaseException | None) -> bool:
    """Tell whether an error comes from `NoPsf`, however often it was named since."""
    return error is not None and (isinstance(error, NoPsf) or _is_about_psf(error.__cause__))


def table_digest(config: InjectedData) -> str:
    """Return the SHA-256 of the table of cosmic rays, or nothing without one."""
    if config.footprints is None:
        return ""
    path = Path(config.footprints)
    if not path.is_file():
        raise DataError(f"data.footprints: there is no file {path}; check the name, relative to the working directory")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_catalogue(stores: Mapping[str, FieldStore], path: Path) -> bool:
    """Write every injected transient: split, field, place in it, electrons, signal-to-noise, kind; nothing without any.

    Cosmic rays are in the history of their field, number and corner of each.
    """
    rows = [
        (split, entry.name, *source)
        for split, store in stores.items()
        for entry in store.entries
        for source in zip(*((entry.sources or {}).get(name, []) for name in _COLUMNS), strict=True)
    ]
    if rows:
        with whole(path) as partial, partial.open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows([("split", "field", *_COLUMNS), *rows])
    return bool(rows)


_COLUMNS = ("x", "y", "flux", "snr", "kind")
