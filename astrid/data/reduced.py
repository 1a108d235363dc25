"""Reduced exposures as FITS files that other programs read: image, uncertainty, mask, reference, difference, score."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from astrid.config import ConfigError, DataError, FramesData

from .channels import Subtracted, subtract_reference
from .frame_file import KEY, MARK, TRUTH_KEYWORDS, Plane, write_planes, written_key
from .frames import inspect_file, inspect_image
from .hdus import Header
from .lookup_tables import ImageHDU, with_tables
from .manifest import describe_row, fingerprint_rows
from .preprocess import Labels, Loaded, load_frames, steps_of_reference
from .recipes import fingerprint
from .reduction.chain import Taken, write_history
from .reduction.header import true_header, unit_of
from .rows import FrameRow, ImageFile

NOT_VALID = np.float32(np.nan)
POSITIVE, UNLABELLED, IGNORED = 1, 2, 3
"""Codes of a plane of truth."""
_LOGGED = ("SUBTRACT_OVERSCAN", "SUBTRACT_BIAS", "SUBTRACT_DARK", "GAIN_CORRECT", "FLAT_CORRECT")
"""Functions of ccdproc, under whose names a header has the keyword in which it notes their arguments."""
_USE = {"number": 0, "name": "", "field": "", "split": None, "section": None, "night": None, "gain": None}
_ASIDE: dict[str, Any] = {**_USE, "psf": None, "picture": None, "positives": 0}
"""What of a row doesn't change its file: what it is called and used for, and what was found out about it."""


@dataclass(frozen=True)
class Job:
    """An exposure to reduce, and the file it goes to."""

    row: FrameRow
    path: Path
    key: str

    @property
    def name(self) -> str:
        """What messages call it."""
        return str(self.row.science)

    def is_written(self) -> bool:
        """Tell whether its file is there as this job writes it."""
        return self.path.exists() and written_key(self.path) == self.key


@dataclass(frozen=True)
class Outcome:
    """What became of a job: written with its steps, there already, or refused, and why."""

    job: Job
    state: Literal["written", "there", "refused"]
    steps: tuple[Taken, ...] = ()
    reason: str = ""


def plan(rows: Iterable[FrameRow], config: FramesData, *, root: Path, out: Path, difference: bool) -> list[Job]:
    """Return a job for each exposure and truth of it, however many of its sections are listed, with a file of its own.

    Parameters
    ----------
    rows : iterable of FrameRow
    config : FramesData
    root : Path
        Folder below which files keep their sub-folders.
    out : Path
        Folder of the reduced files.
    difference : bool
        Whether references are subtracted.
    """
    shared = fingerprint(config, contents=f"{fingerprint_rows([], config)}{difference}")  # code and masters: read once
    bare = dict.fromkeys(dataclasses.replace(row, **_ASIDE) for row in rows)
    jobs: dict[Path, Job] = {}
    for row in bare:
        path, number = out / _name(row.science, root), 1
        while path in jobs:
            number += 1
            path = out / _name(row.science, root, f"_{number}")
        key = hashlib.sha256(json.dumps([shared, describe_row(row)], sort_keys=True).encode()).hexdigest()
        jobs[path] = Job(row, path, key[:32])
    return list(jobs.values())


def _name(image: ImageFile, root: Path, suffix: str = "") -> Path:
    """Return the name of a reduced file: that of the exposure, with its HDU, below the same sub-folders."""
    path, top = image.path.resolve(), root.resolve()  # or a `..` would lead out of the folder of the results
    place = path.relative_to(top) if path.is_relative_to(top) else Path(path.name)
    stem = place.name
    for ending in (".gz", ".bz2", ".xz", ".fz"):
        stem = stem.removesuffix(ending)
    stem = Path(stem).stem if Path(stem).suffix.lower() in (".fits", ".fit", ".fts") else stem
    part = "" if image.hdu is None else f"_{str(image.hdu).replace(',', '_')}"
    return place.with_name(f"{stem}{part}{suffix}.fits")


def refuse_taken(jobs: Sequence[Job], *, overwrite: bool) -> None:
    """Refuse to touch files of anybody else's, and without `overwrite` files that were reduced otherwise.

    Raises
    ------
    ConfigError
        Naming the first of them.
    """
    for job in jobs:
        if not job.path.exists():
            continue
        key = written_key(job.path)
        if key is None:
            rule = f"write its own files only, but {job.path} is there and astrid reduce didn't write it"
            raise ConfigError(f"astrid reduce must {rule}; name another --out")
        if key != job.key and not overwrite:
            rule = f"{job.path} was written from other files, with other knobs or by another version"
            raise ConfigError(f"{rule}; add --overwrite, or name another --out")


def reduce_job(job: Job, config: FramesData, *, difference: bool) -> Outcome:
    """Reduce an exposure and write it, unless that is done already; what can't be reduced is said, not raised."""
    if job.is_written():
        return Outcome(job, "there")
    try:
        primary = inspect_file(job.row.science.path).primary
        if MARK in primary and config.preprocess.treats_exposures:
            raise DataError("it must be a raw exposure, but astrid reduce wrote it; name the raw one")
        planes, tables, steps = reduced_planes(job.row, config, difference=difference)
        own = primary if KEY not in primary and _is_extension(job.row.science) else None
        write_planes(job.path, planes, primary=own, key=job.key, version=version("astrid"), tables=tables)
    except DataError as error:
        return Outcome(job, "refused", reason=str(error).removeprefix(f"{job.row.science.path}: "))
    return Outcome(job, "written", steps=tuple(steps))


def _is_extension(image: ImageFile) -> bool:
    """Tell whether the picture isn't in the primary HDU, whose header is then another than its own."""
    return inspect_image(image.path, hdu=image.hdu).hdu != 0


def reduced_planes(
    row: FrameRow, config: FramesData, *, difference: bool
) -> tuple[list[Plane], list[ImageHDU], list[Taken]]:
    """Take an exposure through all of its steps, as training does.

    Returns
    -------
    planes : list of Plane
    tables : list of ImageHDU
        Of the distortions that their coordinates name.
    steps : list of Taken

    Raises
    ------
    DataError
        If it can't be reduced.
    """
    loaded = load_frames(row, config)
    science, reference = loaded.science, loaded.reference
    made = None
    if reference is not None and difference:
        made = subtract_reference(row, (science, reference), shown=loaded.shown, config=config)
    steps = [*science.steps, *([] if reference is None else steps_of_reference(reference))]
    science.steps = steps
    write_history(science)
    header = _without_logs(true_header(science, science.frame.header, config.preprocess))
    header["RAWFILE"] = (_ascii(_file_name(row.science)), "file of the raw exposure, with its HDU")
    header, tables = with_tables(header, science.frame.wcs)
    unit = {"BUNIT": (unit_of(science), "unit of the image")}
    planes = [Plane("SCI", np.asarray(science.frame.data, np.float32), header)]
    if science.frame.uncertainty is not None:
        sigma = np.asarray(science.frame.uncertainty.array, np.float32)
        planes.append(Plane("ERR", sigma, cards=unit | {"UTYPE": ("StdDevUncertainty", "1 sigma")}))
    planes.append(Plane("DQ", (~loaded.good).astype(np.uint8), cards={"BUNIT": ("", "0 good, 1 bad")}))
    if row.target is not None:
        planes.append(_truth_plane(loaded.labels))
    if reference is not None:
        planes += _reference_planes(row, loaded, made)
    return planes, tables, steps


def _without_logs(header: Header) -> Header:
    """Return a header without the cards in which ccdproc notes its calls, as `SUBBIAS`; HISTORY tells the steps."""
    told = header.copy()
    for function in _LOGGED:
        if function in told:
            told.remove(str(told[function]), ignore_missing=True)
            told.remove(function)
    return told


def _file_name(image: ImageFile) -> str:
    return image.path.name if image.hdu is None else f"{image.path.name}[{image.hdu}]"


def _truth_plane(labels: Labels) -> Plane:
    """Return the truth of the exposure, trimmed as it is, with the codes that a manifest names."""
    codes = np.select([labels.ignored, labels.unlabelled, labels.target], [IGNORED, UNLABELLED, POSITIVE], 0)
    columns = {"target_codes": POSITIVE, "unlabelled_codes": UNLABELLED, "ignore_codes": IGNORED}
    meaning = {TRUTH_KEYWORDS[column]: (code, f"for the column {column}") for column, code in columns.items()}
    return Plane("TRUTH", codes.astype(np.uint8), cards={"BUNIT": ("", "truth"), **meaning})


def _reference_planes(row: FrameRow, loaded: Loaded, made: Subtracted | None) -> list[Plane]:
    """Return the registered reference, in its own unit and above no sky, and what came of subtracting it."""
    reference = loaded.reference
    assert reference is not None and row.reference is not None
    cards = {
        "BUNIT": (unit_of(reference), "unit of the reference"),
        "REFFILE": (_ascii(row.reference.path.name), "reference"),
    }
    planes = [Plane("REF", _blanked(reference.frame.data, ~reference.frame.mask), cards=cards)]
    if made is None:
        return planes
    about: dict[str, tuple[str | int | float, str]] = {
        "BUNIT": (unit_of(loaded.science) if made.zero_point is None else "", "unit of the difference"),
        "REFSCALE": (float(made.reference_scale), "the reference was multiplied by this"),
    }
    if made.zero_point is not None:
        about["DIFFZP"] = (float(made.zero_point), "flux 1 in SCI adds so much to DIFF")
    planes.append(Plane("DIFF", _blanked(made.difference, loaded.shown), cards=about))
    if made.score is not None:
        sigma = {"BUNIT": ("", "significance of a point source, sigma")}
        planes.append(Plane("SCORE", _blanked(made.score, loaded.shown), cards=sigma))
    return planes


def _blanked(values: NDArray[np.floating], good: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return values with NaN where they mean nothing."""
    return np.where(good, np.asarray(values, np.float32), NOT_VALID)


def _ascii(text: str) -> str:
    return text.encode("ascii", "replace").decode()
