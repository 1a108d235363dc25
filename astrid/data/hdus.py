"""Find the picture that is wanted in a FITS file, from its headers alone.

HDUs are astropy's, opened so that tile-compressed images show as the tables that they are in the file.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, Any

from astropy.io import fits

from astrid.config import DataError

from .lookup_tables import TABLES

Header = fits.Header
_SHOWN = 10  # HDUs listed in a message
_ONE_PLANE = "save one plane as an image of its own"


def locate_picture(stream: IO[bytes], wanted: int | str | None) -> tuple[int, tuple[int, int]]:
    """Return the number and the (height, width) of the image that is wanted, once its file is known to be whole."""
    hdus, file_bytes = _open_bare(stream)
    index, shape = find_picture(hdus, wanted=wanted)
    check_complete(hdus[index], file_bytes=file_bytes)
    return index, shape


def locate_pictures(stream: IO[bytes]) -> tuple[PictureHDU, ...]:
    """Return every picture of a file, one at least, once the file is known to hold all of each."""
    hdus, file_bytes = _open_bare(stream)
    content = sort_images(hdus)
    if not content.pictures:
        is_cube = any(len(_declared_shape(hdu)) > 2 for hdu in hdus)
        remedy = _ONE_PLANE if is_cube else "name a file that has one"
        raise DataError(f"a file must hold a picture with two axes, got {_contents(hdus)}; {remedy}")
    for one in content.pictures:
        check_complete(hdus[one.hdu], file_bytes=file_bytes)
    return content.pictures


def _open_bare(stream: IO[bytes]) -> tuple[fits.HDUList, int]:
    file_bytes = stream.seek(0, 2)
    stream.seek(0)
    return fits.open(stream, memmap=False, disable_image_compression=True), file_bytes


@dataclass(frozen=True)
class PictureHDU:
    """An HDU that holds a picture: its number, name and version (EXTNAME, EXTVER), and (height, width)."""

    hdu: int
    name: str
    version: int
    shape: tuple[int, int]


@dataclass(frozen=True)
class FileContent:
    """What a FITS file holds.

    Attributes
    ----------
    primary : Header
        Of the file, whose keywords are about all of its HDUs.
    pictures : tuple of PictureHDU
    others : tuple of (number, str)
        Images with other than two axes, and what they are.
    """

    primary: fits.Header
    pictures: tuple[PictureHDU, ...]
    others: tuple[tuple[int, str], ...]


def sort_images(hdus: Sequence[Any]) -> FileContent:
    """Tell the HDUs that hold a picture from images that are none: cubes and spectra; tables of shifts are neither."""
    pictures, others = [], []
    for index, hdu in enumerate(hdus):
        shape = () if hdu.name in TABLES else _declared_shape(hdu)
        if len(shape) == 2 and min(shape) > 0:
            pictures.append(PictureHDU(index, str(hdu.name), int(hdu.ver), (shape[0], shape[1])))
        elif shape and min(shape) > 0:
            others.append((index, _describe(hdu)))
    return FileContent(readable(hdus[0].header), tuple(pictures), tuple(others))


def readable(header: fits.Header) -> fits.Header:
    """Return a copy of a header without the cards whose values can't be read, which would raise when asked for."""
    kept = header.copy()
    broken = [number for number, card in enumerate(header.cards) if not _can_be_read(card)]
    for number in reversed(broken):
        del kept[number]
    return kept


def keywords(header: fits.Header) -> dict[str, Any]:
    """Return what a readable header says, the first of several cards of one name; odd names are names like any other.

    A header itself takes what is asked for as a pattern where it holds a wildcard.
    """
    return {card.keyword: card.value for card in reversed(list(header.cards))}


def _can_be_read(card: fits.Card) -> bool:
    try:
        return isinstance(card.value, object)
    except (fits.VerifyError, ValueError):
        return False


def find_picture(hdus: Sequence[Any], *, wanted: int | str | None) -> tuple[int, tuple[int, int]]:
    """Return the number of an HDU and its (height, width).

    Parameters
    ----------
    hdus : sequence of HDUs
        Of the file.
    wanted : int, str or None
        Number of the HDU, or its name (`SCI`, or `SCI,2` with its EXTVER); None takes the first with an image.
    """
    index = _first_image(hdus) if wanted is None else _named_hdu(hdus, wanted)
    shape = _declared_shape(hdus[index])
    if len(shape) != 2 or min(shape) == 0:
        raise DataError(
            f"HDU {index} holds {_describe(hdus[index])}, but a picture with two axes is needed; "
            f"name another among {_contents(hdus)}, or {_ONE_PLANE}"
        )
    return index, (shape[0], shape[1])


def check_complete(hdu: Any, *, file_bytes: int) -> None:
    """Refuse an HDU that ends beyond its file, or a tile-compressed one that lacks tiles."""
    end = hdu.fileinfo()["datLoc"] + hdu.size
    if end > file_bytes:
        raise DataError(f"the file is cut short, it has {file_bytes} bytes and its image needs {end}; fetch it again")
    if hdu.header.get("ZIMAGE", False) and _tiles_declared(hdu.header) != hdu.header["NAXIS2"]:
        tiles = f"{_tiles_declared(hdu.header)} tiles, its table has {hdu.header['NAXIS2']}"
        raise DataError(f"the file is damaged, the header declares {tiles}; fetch it again")


def _first_image(hdus: Sequence[Any]) -> int:
    for index, hdu in enumerate(hdus):
        shape = _declared_shape(hdu)
        if len(shape) >= 2 and min(shape) > 0:
            return index
    raise DataError(f"there is no image in it ({_contents(hdus)}); name a file that has one")


def _named_hdu(hdus: Sequence[Any], wanted: int | str) -> int:
    name, _, version = str(wanted).partition(",")
    for index, hdu in enumerate(hdus):
        named = hdu.name == name.strip().upper() and version.strip() in ("", str(hdu.ver))
        if wanted == index or (isinstance(wanted, str) and named):
            return index
    raise DataError(f"there is no HDU {wanted!r}; name one among {_contents(hdus)}")


def _declared_shape(hdu: Any) -> tuple[int, ...]:
    """Return the axes of an image in NumPy's order, without leading axes of length 1; () if it is no image."""
    compressed = bool(hdu.header.get("ZIMAGE", False))
    if not (hdu.is_image or compressed):
        return ()
    key = "ZNAXIS" if compressed else "NAXIS"
    axes = [int(hdu.header[f"{key}{number}"]) for number in range(int(hdu.header[key]), 0, -1)]
    while len(axes) > 2 and axes[0] == 1:
        del axes[0]
    return tuple(axes)


def _tiles_declared(header: Any) -> int:
    """Count the tiles of a compressed image; a tile is a row of the image unless the header says otherwise."""
    axes = range(1, int(header["ZNAXIS"]) + 1)
    edges = ((int(header[f"ZNAXIS{axis}"]), axis) for axis in axes)
    return math.prod(
        math.ceil(edge / int(header.get(f"ZTILE{axis}", edge if axis == 1 else 1))) for edge, axis in edges
    )


def _contents(hdus: Sequence[Any]) -> str:
    shown = [f"{index} {hdu.name or '(no name)'}: {_describe(hdu)}" for index, hdu in enumerate(hdus[:_SHOWN])]
    return ", ".join(shown) + (", ..." if len(hdus) > _SHOWN else "")


def _describe(hdu: Any) -> str:
    shape = _declared_shape(hdu)
    if shape and min(shape) > 0:
        return f"an image of {'x'.join(str(axis) for axis in reversed(shape))} pixels"
    return "nothing" if hdu.is_image else "a table"
