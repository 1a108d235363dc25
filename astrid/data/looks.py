"""What the files of a row hold, looked at once: digests of their pixels, and whether anything is to be found."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np

from astrid.config import DataError, FramesData

from . import copies, frames, hdus, keywords, pixels, preprocess, rows
from .copies import Keys, describe_pixels
from .damage import without_advice
from .frames import read_image
from .kept_arrays import keep_arrays, read_kept_arrays
from .pixels import digest_values
from .preprocess import part_of, read_labels
from .reduction import told
from .reduction.told import header_section
from .rows import FrameRow, ImageFile, Section

logger = logging.getLogger(__name__)

FOLDER = "looks"
NO_KEYS: Keys = np.empty(0, dtype=np.uint64)
_LABELS = ("target_bits", "ignore_bits", "unlabelled_bits", "target_codes", "ignore_codes", "unlabelled_codes")
_PARTS = ("part", "reference_part")


_DECIDING = (copies, frames, hdus, keywords, pixels, preprocess, rows, told)
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
    part : Section
        That part of the science frame: the row's section of what the trim leaves, in pixels of the frame as it is read.
    reference_part : Section
        That of the reference, in pixels of its own; of none, that of the science frame.
    positives : int
        Pixels that are to be found in that part.
    """

    science: str
    reference: str | None
    science_keys: Keys
    reference_keys: Keys
    part: Section
    reference_part: Section
    positives: int


@dataclass(frozen=True)
class Described:
    """Digest of a whole frame, None of none, its (height, width), the part that is used, and what describes that."""

    digest: str | None
    shape: tuple[int, int]
    part: Section
    keys: Keys


def look_at(rows: Sequence[FrameRow], config: FramesData) -> dict[int, Look]:
    """Look at the pixels of all rows, by row number; what was looked at before is in the cache.

    Raises
    ------
    DataError
        For a file that can't be read, or a frame that is its own reference, naming the row.
    """
    known = {row.number: look for row in rows if (look := _read(_place(row, config))) is not None}
    missing = [row for row in rows if row.number not in known]
    if missing:
        logger.info("looking at the pixels of %d of %d rows for the first time", len(missing), len(rows))
    workers = joblib.Parallel(n_jobs=config.prepare_workers or -1, prefer="threads", return_as="generator")
    refused: list[DataError] = []
    with without_advice():
        made: Iterable[Look | DataError] = workers(joblib.delayed(_tried)(row, config, refused) for row in missing)
        for row, found in zip(missing, made, strict=True):
            if isinstance(found, DataError):
                refused.append(found)
            elif not refused:
                _write(_place(row, config), found)
                known[row.number] = found
    if refused:
        raise refused[0]
    return known


def _tried(row: FrameRow, config: FramesData, refused: Sequence[DataError]) -> Look | DataError:
    """Return a look or its error, so that the first row is told of, not the first thread; none behind an error."""
    if refused:
        return refused[0]
    try:
        return _look(row, config)
    except DataError as error:
        return error


def _look(row: FrameRow, config: FramesData) -> Look:
    try:
        science, reference = _describe_frames(row, config)
        if reference.digest == science.digest:
            raise DataError("reference must be another exposure than science, got the same pixels; name another")
        target = read_labels(row, shape=science.shape).target[science.part.slices]
    except DataError as error:
        raise DataError(f"row {row.number}: {error}") from error
    assert science.digest is not None
    return Look(
        science=science.digest,
        reference=reference.digest,
        science_keys=science.keys,
        reference_keys=reference.keys,
        part=science.part,
        reference_part=reference.part,
        positives=int(target.sum()),
    )


def _describe_frames(row: FrameRow, config: FramesData) -> tuple[Described, Described]:
    """Look at the science frame and the reference.

    The reference is trimmed only where it is raw like the science frame. Where it is yet to be registered, the section
    says nothing of its pixels: all of them are looked at.
    """
    knobs = config.preprocess
    science = _describe(row.science, row, trim=knobs.trim, section=row.section)
    if row.reference is None:
        return science, dataclasses.replace(science, digest=None, keys=NO_KEYS)
    trim = knobs.trim if knobs.raw_reference else "none"
    section = row.section if knobs.register == "none" else None
    return science, _describe(row.reference, row, trim=trim, section=section)


def _describe(image: ImageFile, row: FrameRow, *, trim: str, section: Section | None) -> Described:
    """Look at the part that is used: the section of what is left by the trim, all of that where none is of its grid."""
    frame = read_image(image.path, hdu=image.hdu)
    height, width = frame.data.shape
    left = header_section(frame.meta, trim, keywords.TRIM, knob="trim") or Section(1, width, 1, height)
    if image == row.science:
        part_of(row, left.shape)  # refuses a section that isn't in it
    part = section.within(left) if section is not None and section.fits_in(left.shape) else left
    return Described(digest_values(frame.data), (height, width), part, describe_pixels(frame.data[part.slices]))


def _place(row: FrameRow, config: FramesData) -> Path:
    """Return where the look of a row is kept: under what decides it, the files' contents, knobs and this code."""
    images = {
        name: [row.images[name].digest(), row.images[name].hdu]
        for name in ("science", "reference", "target")
        if name in row.images
    }
    labels = [getattr(row, name) for name in _LABELS]
    code = [Path(str(module)).read_text() for module in (__file__, *(one.__file__ for one in _DECIDING))]
    knobs = [config.preprocess.trim, config.preprocess.raw_reference, config.preprocess.register]
    text = json.dumps([images, labels, str(row.section or ""), knobs, code], sort_keys=True)
    return Path(config.cache) / FOLDER / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.arrays"


def _read(path: Path) -> Look | None:
    """Return what was kept, None where there is nothing or it is damaged: then it is looked at again."""
    kept = read_kept_arrays(path, expected=[field.name for field in dataclasses.fields(Look)])
    if kept is None:
        return None
    values: dict[str, Any] = dict(kept)
    texts = {name: str(values[name]) for name in ("science", "reference")}
    values |= texts | {"reference": texts["reference"] or None, "positives": int(values["positives"])}
    return Look(**values | {name: Section.parse(str(values[name])) for name in _PARTS})


def _write(path: Path, look: Look) -> None:
    """Keep a look; processes that do so at once write the same, each under a name of its own until it is whole."""
    values = {field.name: getattr(look, field.name) for field in dataclasses.fields(Look)} | {
        name: str(getattr(look, name)) for name in _PARTS
    }
    arrays = {name: np.asarray("" if value is None else value) for name, value in values.items()}
    keep_arrays(path, arrays, partial=path.with_name(f"{path.stem}-{os.getpid()}.partial"))
