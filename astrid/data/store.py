"""Prepared fields on disk: one flat, memory-mapped file of pixels per split, and an index beside it.

Reading a tile copies only its own pixels, whatever the size of the data set, and loader processes share the pages.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from astrid.config import RunError

from .frames import Field, Sources

logger = logging.getLogger(__name__)

IMAGES, PLANES, INDEX = "images.f32", "planes.u8", "index.json"
ENTRIES, DIGESTS = "entries", "sha256"


@dataclass(frozen=True)
class FieldEntry:
    """Where a field lies in the flat files: shape (C, H, W) and the number of pixels of one plane before it."""

    name: str
    channels: int
    height: int
    width: int
    offset: int
    positives: int
    valid_pixels: int
    fwhm_pixels: float | None
    sources: dict[str, list[Any]] | None
    history: list[str]
    group: str


class FieldStore:
    """Fields of one split, read-only and memory-mapped.

    Parameters
    ----------
    folder : Path
        Folder that `write_fields` filled.
    numbers : sequence of int or None
        Which of its fields, and in which order; None is all of them.
    """

    def __init__(self, folder: Path, numbers: Sequence[int] | None = None) -> None:
        self.folder = folder
        every = [FieldEntry(**entry) for entry in json.loads((folder / INDEX).read_text())[ENTRIES]]
        self._numbers = range(len(every)) if numbers is None else numbers
        self.entries = [every[number] for number in self._numbers]
        self._images = np.memmap(folder / IMAGES, dtype=np.float32, mode="r")
        self._planes = np.memmap(folder / PLANES, dtype=np.uint8, mode="r")

    def __len__(self) -> int:
        return len(self.entries)

    def __getstate__(self) -> tuple[Path, Sequence[int]]:
        return self.folder, self._numbers  # a loader process maps the files itself

    def __setstate__(self, state: tuple[Path, Sequence[int]]) -> None:
        self.__init__(*state)  # type: ignore[misc]

    def part(self, numbers: Sequence[int]) -> FieldStore:
        """Return a view of some of the fields."""
        return FieldStore(self.folder, [self._numbers[number] for number in numbers])

    def image(self, number: int) -> NDArray[np.float32]:
        """Return the (C, H, W) float32 view of a field's channels, in background sigma."""
        entry = self.entries[number]
        start = entry.offset * entry.channels
        shape = (entry.channels, entry.height, entry.width)
        return self._images[start : start + int(np.prod(shape))].reshape(shape)

    def planes(self, number: int) -> NDArray[np.uint8]:
        """Return the (2, H, W) uint8 view of a field's target and valid planes."""
        entry = self.entries[number]
        shape = (2, entry.height, entry.width)
        return self._planes[2 * entry.offset : 2 * entry.offset + int(np.prod(shape))].reshape(shape)

    def field(self, number: int) -> Field:
        """Return a whole field."""
        entry = self.entries[number]
        target, valid = self.planes(number).astype(bool)
        sources = None if entry.sources is None else _sources_from_lists(entry.sources)
        image, fwhm = self.image(number), entry.fwhm_pixels
        return Field(entry.name, image, target, valid, sources, fwhm, entry.history, group=entry.group)

    @property
    def channels(self) -> int:
        """Number of channels of every field."""
        return self.entries[0].channels

    @property
    def prior(self) -> float:
        """Share of positive pixels among the valid ones."""
        return sum(entry.positives for entry in self.entries) / max(
            1, sum(entry.valid_pixels for entry in self.entries)
        )


def write_fields(folder: Path, fields: Iterable[Field]) -> None:
    """Write fields one after the other into a folder that a `FieldStore` can read.

    Raises
    ------
    RunError
        If the disk can't take them.
    """
    with writing(folder):
        folder.mkdir(parents=True)
    entries, offset = [], 0
    with (folder / IMAGES).open("wb") as images, (folder / PLANES).open("wb") as planes:
        for field in fields:
            entries.append(_entry(field, offset))
            with writing(folder):
                images.write(np.ascontiguousarray(field.image, dtype=np.float32).data)
                planes.write(np.stack([field.target, field.valid]).astype(np.uint8).data)
                images.flush()
                planes.flush()
            offset += field.target.size
    listed = [asdict(entry) for entry in entries]
    digests = {name: _digest(folder / name) for name in (IMAGES, PLANES)} | {ENTRIES: _digest_entries(listed)}
    with writing(folder):
        (folder / INDEX).write_text(json.dumps({ENTRIES: listed, DIGESTS: digests}))


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Say in one message that a disk is full, or can't be written, or that something else has the folder's name."""
    try:
        yield
    except Timeout:  # an OSError too: the lock is held, and that is no fault of the disk
        raise
    except OSError as error:
        there = next(parent for parent in (folder, *folder.resolve().parents) if parent.exists())
        free = shutil.disk_usage(there).free / 2**20
        raise RunError(
            f"data.cache: {folder} can't be written ({error.strerror}, {free:.0f} MiB are free); make room, or name a "
            "folder on another disk"
        ) from error


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Give the name, of this process alone, that a file has until it is written; it appears whole or not at all."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """Make a folder of the cache, and those above it.

    Raises
    ------
    RunError
        If it can't be made.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)


def cached_store(cache: Path, key: str, fields: Iterable[Field]) -> FieldStore:
    """Return the store under `cache/key`, made from `fields` where it isn't there yet or isn't whole.

    Processes that want the same store at once wait for the first; a store appears whole or not at all. What is there is
    compared with its checksums, and made again where it differs.

    Raises
    ------
    RunError
        If the disk can't take it.
    """
    folder = cache / key
    make_folder(folder.parent)
    with held(folder.with_name(f"{folder.name}.lock"), what="prepares the same fields"):
        damage = find_damage(folder)
        if damage is not None:
            if folder.exists():
                logger.warning("%s is damaged (%s) and is made again", folder, damage)
            partial = folder.with_name(f"{folder.name}.partial")
            for stale in (folder, partial):
                shutil.rmtree(stale, ignore_errors=True)
            try:
                write_fields(partial, fields)
                partial.replace(folder)
            finally:
                shutil.rmtree(partial, ignore_errors=True)  # half a store would only fill the disk
    return FieldStore(folder)


@contextmanager
def held(path: Path, *, what: str) -> Iterator[None]:
    """Hold a lock, waiting for a process that holds it and does `what`; the system frees it when its holder dies."""
    lock = FileLock(path)
    with writing(path.parent):
        try:
            lock.acquire(timeout=0)
        except Timeout:
            logger.info("waiting for another process, which %s in %s", what, path.parent)
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


def find_damage(folder: Path) -> str | None:
    """Say what is wrong with a store; None where it is what was written."""
    try:
        index = json.loads((folder / INDEX).read_text())
        digests: dict[str, str] = index[DIGESTS]
        if _digest_entries(index[ENTRIES]) != digests[ENTRIES]:
            return f"{INDEX} is not what was written"
        changed = [name for name in (IMAGES, PLANES) if _digest(folder / name) != digests[name]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        return str(error)
    return f"{changed[0]} is not what was written" if changed else None


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _digest_entries(entries: list[dict[str, Any]]) -> str:
    return hashlib.sha256(json.dumps(entries, sort_keys=True).encode()).hexdigest()


def _entry(field: Field, offset: int) -> FieldEntry:
    channels, height, width = field.image.shape
    sources = None if field.sources is None else _sources_to_lists(field.sources)
    positives = int((field.target & field.valid).sum())
    valid_pixels = int(field.valid.sum())
    return FieldEntry(
        *(field.name, channels, height, width, offset, positives, valid_pixels, field.fwhm_pixels, sources),
        history=field.history,
        group=field.group or field.name,
    )


def _sources_to_lists(sources: Sources) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {name: getattr(sources, name).tolist() for name in ("x", "y", "flux", "snr")}
    return columns | {"kind": sources.kind}


def _sources_from_lists(columns: dict[str, list[Any]]) -> Sources:
    arrays = {name: np.asarray(columns[name], dtype=np.float64) for name in ("x", "y", "flux", "snr")}
    return Sources(**arrays, kind=columns["kind"])
