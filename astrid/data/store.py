"""Prepared fields on disk: one flat, memory-mapped file of pixels per split, and an index beside it.

Reading a tile copies only its own pixels, whatever the size of the data set, and loader processes share the pages.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from .frames import Field, Sources

IMAGES, PLANES, INDEX = "images.f32", "planes.u8", "index.json"


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
        every = [FieldEntry(**entry) for entry in json.loads((folder / INDEX).read_text())]
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
    """Write fields one after the other into a folder that a `FieldStore` can read."""
    folder.mkdir(parents=True)
    entries, offset = [], 0
    with (folder / IMAGES).open("wb") as images, (folder / PLANES).open("wb") as planes:
        for field in fields:
            entries.append(_entry(field, offset))
            images.write(np.ascontiguousarray(field.image, dtype=np.float32).data)
            planes.write(np.stack([field.target, field.valid]).astype(np.uint8).data)
            offset += field.target.size
    (folder / INDEX).write_text(json.dumps([asdict(entry) for entry in entries]))


def cached_store(cache: Path, key: str, fields: Iterable[Field]) -> FieldStore:
    """Return the store under `cache/key`, made from `fields` where it isn't there yet or isn't whole.

    Processes that want the same store at once wait for the first; a store appears whole or not at all.
    """
    folder = cache / key
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f"{folder.name}.lock")):
        if not _is_whole(folder):
            partial = folder.with_name(f"{folder.name}.partial")
            for stale in (folder, partial):
                shutil.rmtree(stale, ignore_errors=True)
            write_fields(partial, fields)
            partial.replace(folder)
    return FieldStore(folder)


def _is_whole(folder: Path) -> bool:
    if not all((folder / name).is_file() for name in (IMAGES, PLANES, INDEX)):
        return False
    try:
        entries = json.loads((folder / INDEX).read_text())
    except json.JSONDecodeError:
        return False
    pixels = sum(entry["height"] * entry["width"] for entry in entries)
    values = sum(entry["channels"] * entry["height"] * entry["width"] for entry in entries)
    sizes = [(folder / name).stat().st_size for name in (IMAGES, PLANES)]
    return bool(sizes == [4 * values, 2 * pixels])


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
