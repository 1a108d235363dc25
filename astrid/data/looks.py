"""What the files of a row hold, looked at once: digests of their pixels, and whether anything is to be found."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np

from astrid.config import DataError, FramesData

from . import copies, frames, hdus, pixels, preprocess
from .copies import Keys, describe_pixels
from .frames import read_image
from .pixels import digest_values
from .preprocess import read_labels
from .rows import FrameRow, ImageFile
from .store import make_folder, writing

logger = logging.getLogger(__name__)

FOLDER = "looks"
NO_KEYS: Keys = np.empty(0, dtype=np.uint64)
_LABELS = ("target_bits", "ignore_bits", "unlabelled_bits", "target_codes", "ignore_codes", "unlabelled_codes")


_DECIDING = (copies, frames, hdus, pixels, preprocess)
"""Modules whose code decides a look, beside this one."""


@dataclass(frozen=True)
class Look:
    """What tells the pictures of a row from others.

    Attributes
    ----------
    science, reference : str, str or None
        Digests of the pixels of the whole frames, the same for every lossless copy.
    science_keys, reference_keys : (N,) uint64
        What describes the pixels of the part that the row uses, as `describe_pixels` gives it.
    positives : int
        Pixels that are to be found in that part.
    """

    science: str
    reference: str | None
    science_keys: Keys
    reference_keys: Keys
    positives: int


@dataclass(frozen=True)
class Described:
    """Digest of a whole frame, None of none, what describes the part of it that is used, and its (height, width)."""

    digest: str | None
    keys: Keys
    shape: tuple[int, int]


def look_at(rows: Sequence[FrameRow], config: FramesData) -> dict[int, Look]:
    """Look at the pixels of all rows, by row number; what was looked at before is in the cache.

    Raises
    ------
    DataError
        For a file that can't be read, or a frame that is its own reference, naming the row.
    """
    cache = Path(config.cache) / FOLDER
    known = {row.number: look for row in rows if (look := _read(_place(row, cache))) is not None}
    missing = [row for row in rows if row.number not in known]
    if missing:
        logger.info("looking at the pixels of %d of %d rows for the first time", len(missing), len(rows))
    workers = joblib.Parallel(n_jobs=config.prepare_workers or -1, prefer="threads", return_as="generator")
    made: Iterable[Look] = workers(joblib.delayed(_look)(row) for row in missing)
    for row, look in zip(missing, made, strict=True):
        _write(_place(row, cache), look)
        known[row.number] = look
    return known


def _look(row: FrameRow) -> Look:
    try:
        science = _describe(row.science, row)
        reference = Described(None, NO_KEYS, science.shape) if row.reference is None else _describe(row.reference, row)
        if reference.digest == science.digest:
            raise DataError("reference must be another exposure than science, got the same pixels; name another")
        target = read_labels(row, shape=science.shape).target
    except DataError as error:
        raise DataError(f"row {row.number}: {error}") from error
    part = target if row.section is None else target[row.section.slices]
    assert science.digest is not None
    return Look(science.digest, reference.digest, science.keys, reference.keys, int(part.sum()))


def _describe(image: ImageFile, row: FrameRow) -> Described:
    values = read_image(image.path, hdu=image.hdu).data
    fits = row.section is not None and row.section.fits_in(values.shape)
    part = values[row.section.slices] if row.section is not None and fits else values
    return Described(digest_values(values), describe_pixels(part), (values.shape[0], values.shape[1]))


def _place(row: FrameRow, cache: Path) -> Path:
    """Return where the look of a row is kept: under what decides it, the files' contents and this code."""
    images = {
        name: [row.images[name].digest(), row.images[name].hdu]
        for name in ("science", "reference", "target")
        if name in row.images
    }
    labels = [getattr(row, name) for name in _LABELS]
    code = [Path(str(module)).read_text() for module in (__file__, *(one.__file__ for one in _DECIDING))]
    text = json.dumps([images, labels, str(row.section or ""), code], sort_keys=True)
    return cache / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.npz"


def _read(path: Path) -> Look | None:
    """Return what was kept, None where there is nothing or it is damaged: then it is looked at again."""
    try:
        with np.load(path, allow_pickle=False) as kept:
            values: dict[str, Any] = {field.name: kept[field.name] for field in dataclasses.fields(Look)}
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
        logger.warning("%s is damaged: its frames are looked at again", path)
        return None
    texts = {name: str(values[name]) for name in ("science", "reference")}
    values |= texts | {"reference": texts["reference"] or None, "positives": int(values["positives"])}
    return Look(**values)


def _write(path: Path, look: Look) -> None:
    """Keep a look; processes that do so at once write the same, each under a name of its own until it is whole."""
    make_folder(path.parent)
    partial = path.with_name(f"{path.stem}-{os.getpid()}.partial.npz")
    values = {field.name: getattr(look, field.name) for field in dataclasses.fields(Look)}
    arrays = {name: np.asarray("" if value is None else value) for name, value in values.items()}
    with writing(path.parent):
        np.savez(partial, **arrays)  # type: ignore[arg-type]
        partial.replace(path)
