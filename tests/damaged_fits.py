"""Strategies that damage FITS files: cut, flipped bytes, cards that lie, repeat, or hold what no header may."""

from __future__ import annotations

import gzip
import io

import numpy as np
from astropy.io import fits
from hypothesis import strategies as st
from starfields import Starfield, sky_cards

CARD, BLOCK = 80, 2880
STRUCTURE = (
    *("SIMPLE", "XTENSION", "BITPIX", "NAXIS", "NAXIS1", "NAXIS2", "NAXIS3", "PCOUNT", "GCOUNT", "EXTEND", "GROUPS"),
    *("BSCALE", "BZERO", "BLANK", "END", "TFIELDS", "TFORM1", "TTYPE1", "THEAP", "EXTNAME", "EXTVER", "INHERIT"),
    *("ZIMAGE", "ZCMPTYPE", "ZBITPIX", "ZNAXIS", "ZNAXIS1", "ZNAXIS2", "ZTILE1", "ZTILE2", "ZQUANTIZ", "ZDITHER0"),
)
MEANING = (
    *("GAIN", "EGAIN", "RDNOISE", "SATURATE", "PEDESTAL", "BIASSEC", "MAGZERO", "EXPTIME", "BUNIT", "FILTER"),
    *("IMAGETYP", "OBSTYPE", "WCSAXES", "CTYPE1", "CTYPE2", "CRPIX1", "CRVAL1", "CRVAL2", "CDELT1", "CD1_1", "CD1_2"),
    *("CD2_2", "PC1_1", "CUNIT1", "PV1_1", "A_ORDER", "A_2_0", "LONPOLE", "EQUINOX", "RADESYS", "CPDIS1", "DP1"),
)
VALUES = (
    *(
        "0",
        "1",
        "-1",
        "2",
        "3",
        "8",
        "16",
        "-32",
        "-64",
        "999",
        "-2147483649",
        "99999999999999999999",
        "1E400",
        "-1E308",
    ),
    *("1E-320", "NaN", "'NaN'", "INF", "T", "F", "''", "'text'", "'unclosed", "(1.0, 2.0)", "1.0E", "--1", "/ only"),
    *("'RA---TAN'", "'GLAT-CAR'", "'RA---TPV'", "'DEC--SIP'", "'[1:9999,1:3]'", "'[3:4,1:200]'", "'ADU'", "1D5", ""),
)


def plain(*, dtype: str = "<f4") -> bytes:
    """A small exposure with coordinates."""
    image = Starfield(shape=(48, 56), stars=8).image()
    hdu = fits.PrimaryHDU(np.rint(image).astype(dtype) if dtype != "<f4" else image)
    for key, value in ({"GAIN": 2.0, "RDNOISE": 6.0, "PEDESTAL": 0, "SATURATE": 5e4} | sky_cards()).items():
        hdu.header[key] = value
    return written(hdu)


def written(*hdus: object) -> bytes:
    """Return HDUs as the content of a file."""
    stream = io.BytesIO()
    fits.HDUList(list(hdus)).writeto(stream)
    return stream.getvalue()


def samples() -> dict[str, bytes]:
    """Files of the usual forms, small enough to be read hundreds of times."""
    image = Starfield(shape=(48, 56), stars=8).image()
    parts = [fits.ImageHDU(image, name="SCI"), fits.ImageHDU(np.zeros(image.shape, np.int16), name="DQ")]
    table = fits.BinTableHDU.from_columns([fits.Column("a", "J", array=[1, 2])])
    packed = fits.CompImageHDU(np.rint(image).astype(np.int16), compression_type="RICE_1")
    return {
        "float": plain(),
        "unsigned": plain(dtype="u2"),
        "several": written(fits.PrimaryHDU(), *parts, table, fits.ImageHDU(np.zeros((2, 20, 20), np.float32))),
        "tiles": written(fits.PrimaryHDU(), packed),
        "gzip": gzip.compress(plain(), mtime=0),
    }


@st.composite
def cards(draw: st.DrawFn) -> bytes:
    """A card of 80 bytes, right or wrong."""
    key = draw(st.one_of(st.sampled_from(STRUCTURE), st.sampled_from(MEANING), st.text("ABC_-19 é", max_size=8)))
    number = st.one_of(st.integers(-(10**21), 10**21), st.floats(), st.booleans()).map(repr)
    value = draw(st.one_of(st.sampled_from(VALUES), number, st.text(max_size=20)))
    sign = draw(st.sampled_from(["= ", "= ", "= ", "  ", "=", ""]))
    text = f"{key:<8}{sign}{value:>20}".encode("latin-1", "replace")
    return text[:CARD].ljust(CARD)


@st.composite
def damaged(draw: st.DrawFn, contents: list[bytes]) -> bytes:
    """One of the files with one to three damages."""
    content = bytearray(draw(st.sampled_from(contents)))
    for _ in range(draw(st.integers(1, 3))):
        way = draw(st.sampled_from(["cut", "card", "card", "card", "card", "insert", "bytes", "blank", "drop", "grow"]))
        _damage(draw, content, way)
    return bytes(content)


def _damage(draw: st.DrawFn, content: bytearray, way: str) -> None:
    if way == "cut":
        del content[draw(st.integers(0, len(content))) :]
    if len(content) < CARD:
        return
    at = draw(st.integers(0, min(len(content) // CARD - 1, 110))) * CARD  # of a card, while headers last
    if way == "card":
        content[at : at + CARD] = draw(cards())
    elif way == "insert":
        content[at:at] = draw(cards())
    elif way == "bytes":
        place = draw(st.integers(0, len(content) - 1))
        noise = draw(st.binary(min_size=1, max_size=40))
        content[place : place + len(noise)] = noise
    elif way == "blank":
        content[at : at + CARD] = b" " * CARD
    elif way == "drop":
        del content[at : at + draw(st.integers(1, 40)) * CARD]
    elif way == "grow":
        content += draw(st.binary(max_size=100))
