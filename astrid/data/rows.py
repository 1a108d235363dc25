"""What a row of a manifest says: which image of which file, which part of it, and what its planes mean."""

from __future__ import annotations

import functools
import hashlib
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from astrid.config import DataError

Split = Literal["train", "val", "test"]

_SECTION = re.compile(r"\[\s*(\d+)\s*:\s*(\d+)\s*,\s*(\d+)\s*:\s*(\d+)\s*\]")
_HDU = re.compile(r"(?P<path>.+)\[(?P<hdu>[^\[\]]+)\]")


@dataclass(frozen=True)
class Section:
    """Rectangle of a frame in the FITS convention: pixels count from 1 and both ends belong to it."""

    x1: int
    x2: int
    y1: int
    y2: int

    @classmethod
    def parse(cls, text: str) -> Section:
        """Read `[x1:x2,y1:y2]`."""
        match = _SECTION.fullmatch(text.strip())
        if match:
            x1, x2, y1, y2 = (int(number) for number in match.groups())
            if 1 <= x1 <= x2 and 1 <= y1 <= y2:
                return cls(x1, x2, y1, y2)
        raise DataError(
            f"section must be [x1:x2,y1:y2] with 1 <= x1 <= x2 and 1 <= y1 <= y2, got {text!r}; try [1:512,1:512]"
        )

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns of a NumPy array."""
        return slice(self.y1 - 1, self.y2), slice(self.x1 - 1, self.x2)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.y2 - self.y1 + 1, self.x2 - self.x1 + 1

    def fits_in(self, shape: tuple[int, int]) -> bool:
        """Tell whether a frame of `shape` (height, width) contains the section."""
        return self.y2 <= shape[0] and self.x2 <= shape[1]

    def within(self, outer: Section) -> Section:
        """Return the section, whose pixels count from the corner of an outer one, in the pixels of that one's frame."""
        dx, dy = outer.x1 - 1, outer.y1 - 1
        return Section(self.x1 + dx, self.x2 + dx, self.y1 + dy, self.y2 + dy)

    def gap_to(self, other: Section) -> int:
        """Count the pixels between two sections, along the axis that separates them best; below 0 they overlap."""
        along_x = max(self.x1, other.x1) - min(self.x2, other.x2) - 1
        along_y = max(self.y1, other.y1) - min(self.y2, other.y2) - 1
        return max(along_x, along_y)

    def __str__(self) -> str:
        return f"[{self.x1}:{self.x2},{self.y1}:{self.y2}]"


@dataclass(frozen=True)
class ImageFile:
    """An image in a FITS file: `frame.fits`, `frame.fits[SCI]`, `frame.fits[SCI,2]` or `frame.fits[1]`."""

    path: Path
    hdu: int | str | None = None

    @classmethod
    def parse(cls, text: str, root: Path) -> ImageFile:
        """Read a file name, relative to `root` unless absolute, with the HDU in brackets if it has one."""
        match = _HDU.fullmatch(text.strip())
        if match is None:
            return cls(root / text.strip())
        hdu = match["hdu"].strip()
        return cls(root / match["path"].strip(), int(hdu) if hdu.isdecimal() else hdu)

    def __str__(self) -> str:
        return str(self.path) if self.hdu is None else f"{self.path}[{self.hdu}]"

    def digest(self) -> str:
        """Return the SHA-256 of the file's content, remembered while size and time of the file stay."""
        stat = self.path.stat()
        return _file_digest(self.path, stat.st_size, stat.st_mtime_ns)


@functools.cache
def _file_digest(path: Path, _size: int, _mtime_ns: int) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@dataclass(frozen=True)
class FrameRow:
    """One frame of a manifest.

    Attributes
    ----------
    number : int
        Line in the manifest, where the header is line 1.
    name : str
        Name of the frame, unique in the manifest.
    field : str
        Patch of sky; what splits are made of.
    split : {"train", "val", "test"} or None
        What the frame is for; None only before splits are assigned.
    science, reference, target, mask, valid, weight : ImageFile
        Images of one shape. A pixel is good where `mask` isn't bad, `valid` isn't 0 and `weight` is above 0.
    target_bits, target_codes : int, tuple of int
        Which bits, as the sum of their values (bit n has 2**n), or which values, of the target plane make a pixel
        positive; without either, any above 0.
    ignore_bits, ignore_codes : int, tuple of int
        Which make it invalid: not counted and blanked, so that the network can't see it.
    unlabelled_bits, unlabelled_codes : int, tuple of int
        Which make it invalid but leave it in sight: what is marked because of the truth would otherwise show it.
    mask_bits, mask_codes : int, tuple of int
        Which bits, or which values, of the mask mean bad; without either, any but 0.
    section : Section
        Part of the frame that is used; None is all of it.
    fwhm_pixels, reference_fwhm_pixels : float
        Full width at half maximum of the point sources; None is measured where it is needed.
    reference_scale : float
        Factor that brings the reference to the flux scale of the science frame; None is measured.
    night : str or None
        Night of the exposure, by any name; None where it isn't known.
    gain : float
        Electrons per unit of the image, for injection; None is looked for in the header.
    psf : ImageFile
        Point-spread function that comes with the frame, for injection; None is measured.
    picture : str or None
        Digest of the science frame's pixels; None until the file was read.
    positives : int
        Pixels that are to be found, as far as the target plane says; 0 until it was read.
    """

    number: int
    name: str
    field: str
    split: Split | None
    science: ImageFile
    reference: ImageFile | None = None
    target: ImageFile | None = None
    mask: ImageFile | None = None
    valid: ImageFile | None = None
    weight: ImageFile | None = None
    target_bits: int | None = None
    ignore_bits: int | None = None
    unlabelled_bits: int | None = None
    mask_bits: int | None = None
    target_codes: tuple[int, ...] | None = None
    ignore_codes: tuple[int, ...] | None = None
    unlabelled_codes: tuple[int, ...] | None = None
    mask_codes: tuple[int, ...] | None = None
    section: Section | None = None
    fwhm_pixels: float | None = None
    reference_fwhm_pixels: float | None = None
    reference_scale: float | None = None
    night: str | None = None
    gain: float | None = None
    psf: ImageFile | None = None
    picture: str | None = None
    positives: int = 0

    @property
    def origin(self) -> str:
        """What the row's pixels are taken from, wherever that is kept: the digest of the frame, and the section."""
        return f"{self.picture}{self.section or ''}"

    @property
    def images(self) -> dict[str, ImageFile]:
        """The image files of the row by column."""
        columns = ("science", "reference", "target", "mask", "valid", "weight")
        return {column: getattr(self, column) for column in columns if getattr(self, column) is not None}


def with_other_widths(row: FrameRow, change: Callable[[float], float]) -> FrameRow:
    """Return a row whose known widths of point sources are changed; those that aren't known stay so."""
    fwhm, reference = (
        None if width is None else change(width) for width in (row.fwhm_pixels, row.reference_fwhm_pixels)
    )
    return replace(row, fwhm_pixels=fwhm, reference_fwhm_pixels=reference)


def with_unique_names(rows: Sequence[FrameRow]) -> list[FrameRow]:
    """Name each row by its field, and by its line as well where the field has several."""
    frames = Counter(row.field for row in rows)
    return [row if frames[row.field] == 1 else replace(row, name=f"{row.field}#{row.number}") for row in rows]
