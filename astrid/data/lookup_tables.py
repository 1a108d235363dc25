"""Distortions of celestial coordinates that a header only names: tables of shifts in HDUs of their own."""

from __future__ import annotations

import re
from typing import TypeAlias

from astropy.io import fits
from astropy.wcs import WCS

ImageHDU: TypeAlias = fits.ImageHDU
TABLES = ("WCSDVARR", "D2IMARR")
"""EXTNAME of a table, which is stored as an image and shows no sky."""
CARD = re.compile(r"(CPDIS|CPERR|D2IMDIS|D2IMERR)\d|(DP|D2IM)\d(\..+)?|AXISCORR|D2IMEXT|D2IMERR")
"""Cards of an image that name its tables; `DP1.EXTVER` is one of several in the card DP1."""


def with_tables(header: fits.Header, wcs: WCS | None) -> tuple[fits.Header, list[ImageHDU]]:
    """Return a header whose cards name the tables of its coordinates, and these as HDUs of the same file.

    Cards and tables are written anew from the coordinates, which know of every trim: the pixel of the image that a
    table begins at (its CRVAL) moves with it. EXTVER is the axis that a table shifts.

    Parameters
    ----------
    header : Header
    wcs : WCS or None
        Coordinates of the same image.

    References
    ----------
    Calabretta et al. 2004, "Representations of distortions in FITS world coordinate systems" (draft of paper IV).
    """
    if wcs is None or not _tables(wcs):
        return header, []
    own, *tables = wcs.to_fits(relax=True)
    kept = [card for card in header.cards if not CARD.fullmatch(card.keyword)]
    return fits.Header([*kept, *(card for card in own.header.cards if CARD.fullmatch(card.keyword))]), tables


def _tables(wcs: WCS) -> list[object]:
    return [one for one in (wcs.cpdis1, wcs.cpdis2, wcs.det2im1, wcs.det2im2) if one is not None]
