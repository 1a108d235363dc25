"""The pictures in a folder: each with what its header says, where it lies on the sky, and what it is for."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from astrid.config import DataError
from astrid.units import counted

from .. import keywords
from ..folders import walk_files
from ..footprints import centre, footprint
from ..frame_file import TRUTH_KEYWORDS
from ..frames import Picture, list_pictures
from ..kinds import Kind, settled_kind
from ..quality.astrometry import remarks_on
from ..rows import ImageFile, Section
from .headers import Facts, read_facts
from .roles import Role, read_extension, read_name

logger = logging.getLogger(__name__)

ENDINGS = (".fits", ".fit", ".fts")
_PACKED = (".gz", ".bz2", ".xz", ".fz")


@dataclass(frozen=True, eq=False)
class Listed:
    """A picture of a folder.

    Attributes
    ----------
    file : str
        As a manifest names it: relative to the folder, with the extension in brackets where it isn't the first image.
    key : tuple of str
        What the pictures that belong together share: folder, name, number of the extension of its role.
    role : str
    kind : str
        Of the exposure: science, bias, dark, flat or other.
    shape : (height, width)
    facts : Facts
    corners : (4, 3) float64 or None
        Unit vectors of the corners on the sky, where there are celestial coordinates.
    bad_bits : int or None
        Of a mask whose header names its bits, those that mean bad.
    remarks : tuple of str
        What is wrong with its celestial coordinates.
    codes : mapping of str to str
        Of a truth whose header names its codes, as that of `astrid reduce`: by column of the manifest.
    readout : mapping of str to value
        What its header says of how the detector was read out, by keyword.
    """

    file: str
    key: tuple[str, str, str]
    role: Role
    kind: Kind
    shape: tuple[int, int]
    facts: Facts
    corners: NDArray[np.float64] | None
    bad_bits: int | None = None
    remarks: tuple[str, ...] = ()
    codes: Mapping[str, str] = field(default_factory=dict)
    readout: Mapping[str, Any] = field(default_factory=dict)

    @property
    def place(self) -> NDArray[np.float64] | None:
        """Unit vector of its middle, or else of where the telescope pointed."""
        return self.facts.pointing if self.corners is None else centre(self.corners)


def find_files(folder: Path) -> list[Path]:
    """Return the FITS files in a folder and below it, links followed, in the order of their names.

    Raises
    ------
    DataError
        If it is no folder, or has none.
    """
    if not folder.is_dir():
        raise DataError(f"DIR must be a folder, got {folder}; check the name")
    files = sorted(path for path in walk_files(folder) if _is_fits(path.name))
    if not files:
        endings = ", ".join(ENDINGS)
        raise DataError(f"DIR must have FITS files ({endings}, packed or not), got none in {folder}; name another")
    return files


def _is_fits(name: str) -> bool:
    small = name.lower()
    bare = small.removesuffix(next((ending for ending in _PACKED if small.endswith(ending)), ""))
    return bare.endswith(ENDINGS) and not name.startswith(".")


def list_folder(files: Iterable[Path], folder: Path) -> Iterator[Listed]:
    """Yield the pictures of the files; a file that can't be used is named, once, and left out."""
    for path in files:
        try:
            pictures = list_pictures(path)
        except DataError as error:
            logger.warning("left out: %s", error)
            continue
        yield from _listed(pictures, path.relative_to(folder), folder=folder)


def without_science(pictures: Sequence[Listed], files: Sequence[Path], *, folder: Path, remedy: str) -> DataError:
    """Return the error of a folder without science exposures: what its files hold, and how many can't be used."""
    kinds = Counter(one.kind if one.role == "science" else one.role for one in pictures)
    found = [f"{count} {kind}" for kind, count in kinds.items()]
    unusable = len(files) - len({ImageFile.parse(one.file, folder).path for one in pictures})
    if unusable:
        found.append(f"{counted(unusable, 'file')} that can't be used")
        remedy = "do what the warnings say" if not pictures else f"do what the warnings say, or {remedy}"
    got = ", ".join(found) or "no FITS file outside --out"
    return DataError(f"DIR must hold science exposures, got {got} in {folder}; {remedy}")


def _listed(pictures: Sequence[Picture], path: Path, *, folder: Path) -> Iterator[Listed]:
    named, parent = read_name(path.name), str(folder.resolve().name / path.parent)
    extensions = Counter(picture.name for picture in pictures)
    for number, picture in enumerate(pictures):
        role = read_extension(picture.name) if picture.name else None
        facts = read_facts(picture.header)
        yield Listed(
            file=_cell(path, picture, is_first=number == 0, is_unique=extensions[picture.name] == 1),
            key=(parent, named.rest, _part_key(picture, role, alone=len(pictures) == 1)),
            role=role if role is not None and len(pictures) > 1 else named.role,
            kind=settled_kind(facts.kind, path=folder / path, on_sky=picture.wcs is not None),
            shape=picture.shape,
            facts=facts,
            corners=_corners(picture),
            remarks=remarks_on(picture.header, picture.wcs),
            bad_bits=_bad_bits(picture.header),
            codes=_codes(picture.header),
            readout={keyword: value for keyword, value in picture.meta.items() if keyword in keywords.READOUT},
        )


def _part_key(picture: Picture, role: Role | None, *, alone: bool) -> str:
    """Return which part of an exposure a picture is: the detector, or the EXTVER that its planes share."""
    if alone:
        return ""
    return picture.name if role is None else str(picture.version)


def _cell(path: Path, picture: Picture, *, is_first: bool, is_unique: bool) -> str:
    name = picture.name if is_unique else f"{picture.name},{picture.version}"
    return str(path) if is_first else f"{path}[{name if picture.name else picture.hdu}]"


def _bad_bits(header: Mapping[str, Any]) -> int | None:
    """Return the bits of a mask of Rubin's kind, whose planes are numbered by MP_ keywords, without detections."""
    planes = {name: bit for name, bit in header.items() if name.startswith("MP_") and isinstance(bit, int)}
    bad = [bit for name, bit in planes.items() if "DETECTED" not in name and 0 <= bit < 63]
    return sum(1 << bit for bit in set(bad)) if planes else None


def _codes(header: Mapping[str, Any]) -> dict[str, str]:
    return {column: str(header[keyword]) for column, keyword in TRUTH_KEYWORDS.items() if keyword in header}


def _corners(picture: Picture) -> NDArray[np.float64] | None:
    if picture.wcs is None:
        return None
    height, width = picture.shape
    return footprint(picture.wcs, Section(1, width, 1, height))
