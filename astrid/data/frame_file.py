"""Write a frame and its planes as one FITS file, whole or not at all."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from astrid.config import DataError, RunError

from .frames import inspect_file
from .lookup_tables import CARD as LOOKUP_CARD
from .store import whole

MARK, KEY = "ASTRID", "ASTRKEY"
"""Cards of the primary header: the version that wrote the file, and the digest of all that decided it."""
_COORDINATES = re.compile(
    r"(CRPIX|CRVAL|CDELT|CTYPE|CUNIT|CROTA)\d[A-Z]?|(CD|PC|PV)\d_\d+[A-Z]?|[AB]P?_(ORDER|DMAX|\d_\d)"
    r"|WCSAXES[A-Z]?|WCSNAME[A-Z]?|L(ON|AT)POLE[A-Z]?|EQUINOX[A-Z]?|RADESYS[A-Z]?"
)
_OF_THE_FILE = re.compile(
    r"BSCALE|BZERO|BLANK|CHECKSUM|DATASUM|EXTNAME|EXTVER|EXTLEVEL|INHERIT|EXTEND|NEXTEND|DATAMIN|DATAMAX|Z(IMAGE|SCALE)"
)
"""Cards about how pixels were stored, which are untrue of a new file."""


TRUTH_KEYWORDS = {"target_codes": "CODE_POS", "unlabelled_codes": "CODE_UNL", "ignore_codes": "CODE_IGN"}
"""Keyword of a plane of truth that says which of its values belongs into a column of the manifest."""


@dataclass(frozen=True)
class Plane:
    """A picture of a file.

    Attributes
    ----------
    name : str
        EXTNAME.
    values : (H, W) array
    header : Header or None
        What is known of it; None has the celestial coordinates of the file's first plane.
    cards : mapping of str to (value, comment)
        Put into the header.
    """

    name: str
    values: NDArray[Any]
    header: fits.Header | None = None
    cards: Mapping[str, tuple[str | int | float, str]] = field(default_factory=dict)


def write_planes(
    path: Path,
    planes: Sequence[Plane],
    *,
    primary: fits.Header | None,
    key: str,
    version: str,
    tables: Sequence[fits.ImageHDU] = (),
) -> None:
    """Write planes, one HDU each behind an empty primary one.

    Parameters
    ----------
    path : Path
        File, which is replaced; its folder is made.
    planes : sequence of Plane
        The first has a header.
    primary : Header or None
        What the primary header tells.
    key, version : str
        Kept as `KEY` and `MARK`.
    tables : sequence of ImageHDU
        Of the distortions that the planes' coordinates name, behind the planes.

    Raises
    ------
    DataError
        If a header holds what FITS doesn't allow.
    RunError
        If the disk can't take it.
    """
    first = fits.PrimaryHDU(header=None if primary is None else _bare(primary))
    first.header[MARK] = (version, "version of AstrID whose `astrid reduce` wrote this")
    first.header[KEY] = (key, "digest of files, knobs and code")
    try:
        hdus = fits.HDUList([first, *(_hdu(plane, planes[0]) for plane in planes), *tables])
        path.parent.mkdir(parents=True, exist_ok=True)
        with warnings.catch_warnings(), whole(path) as partial:
            warnings.simplefilter("ignore")  # of cards that are mended
            hdus.writeto(partial, overwrite=True, output_verify="silentfix", checksum=True)
    except (fits.VerifyError, ValueError) as error:
        raise DataError(f"its header can't be written as FITS ({error}); mend the header") from error
    except OSError as error:
        raise RunError(f"{path} can't be written ({error.strerror}); make room, or name another --out") from error


def _hdu(plane: Plane, first: Plane) -> fits.ImageHDU:
    header = coordinates(first.header) if plane.header is None else _bare(plane.header)
    hdu = fits.ImageHDU(np.ascontiguousarray(plane.values), header=header, name=plane.name)
    for keyword, card in plane.cards.items():
        hdu.header[keyword] = card
    return hdu


def _bare(header: fits.Header) -> fits.Header:
    """Return a copy without the cards about how pixels were stored."""
    kept = header.copy(strip=True)
    for keyword in {card.keyword for card in kept.cards if _OF_THE_FILE.fullmatch(card.keyword)}:
        kept.remove(keyword, remove_all=True)
    return kept


def coordinates(header: fits.Header | None) -> fits.Header:
    """Return the cards of a header that give its pixels a place on the sky."""
    cards = [] if header is None else header.cards
    wanted = (_COORDINATES, LOOKUP_CARD)
    return fits.Header([card for card in cards if any(one.fullmatch(card.keyword) for one in wanted)])


def written_key(path: Path) -> str | None:
    """Return the digest in a file that `write_planes` wrote; None for any other file, whatever it is."""
    try:
        primary = inspect_file(path).primary
    except DataError:
        return None
    return str(primary.get(KEY, "")) if MARK in primary else None
