"""Frames and fields: what images are called and how they are held, from file to network; the only reader of FITS."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import logging
import lzma
import shutil
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO, Any

import numpy as np
from astropy import units
from astropy.io import fits
from astropy.io.fits.hdu.compressed._compression import CfitsioException
from astropy.nddata import CCDData
from astropy.wcs import WCS
from numpy.typing import NDArray

from astrid.config import DataError

from .hdus import check_complete, find_picture
from .pixels import Scaling, physical_values, whole_numbers
from .rows import Section

logger = logging.getLogger(__name__)

_UNPACKERS: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7z": lzma.open}
_NOT_UNPACKED = {b"PK\x03": "a zip archive", b"\x1f\x9d": "packed by compress"}
_SPOOL_BYTES = 2**28  # unpacked files beyond this size go through the disk
_DAMAGE = (
    *(OSError, EOFError, ValueError, TypeError, LookupError, AttributeError, NameError, ArithmeticError),
    *(AssertionError, RuntimeError, struct.error, zlib.error, lzma.LZMAError, fits.VerifyError, CfitsioException),
)
"""What astropy was seen to raise for cut and corrupted files."""


@dataclass(frozen=True)
class Sources:
    """Catalogue of true sources in a field.

    Attributes
    ----------
    x, y : (N,) float64
        Pixel coordinates, 0-based, pixel centres at integers.
    flux : (N,) float64
        Total counts in electrons.
    snr : (N,) float64
        Matched-filter signal-to-noise under the true PSF.
    kind : list of N str
        What each source is.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    flux: NDArray[np.float64]
    snr: NDArray[np.float64]
    kind: list[str]


def no_sources() -> Sources:
    """Return the catalogue of a field in which nothing is to be found."""
    nothing: NDArray[np.float64] = np.zeros(0)
    return Sources(nothing, nothing, nothing, nothing, [])


@dataclass(frozen=True)
class Field:
    """One patch of sky, ready for the network.

    Attributes
    ----------
    name : str
        Name of the field, unique within its split.
    image : (C, H, W) float32
        Channels in units of background sigma, linear; 0 where not valid.
    target : (H, W) bool
        True = positive pixel.
    valid : (H, W) bool
        True = pixel that counts, in the loss and in every score.
    sources : Sources or None
        True sources, where they are known.
    fwhm_pixels : float or None
        Full width at half maximum of the science PSF, where it is known.
    history : list of str
        Steps that were taken and skipped on the way from the files, in order.
    group : str or None
        Patch of sky, which visits of it share: only fields of different patches are independent. None: the field's own.
    """

    name: str
    image: NDArray[np.float32]
    target: NDArray[np.bool_]
    valid: NDArray[np.bool_]
    sources: Sources | None = None
    fwhm_pixels: float | None = None
    history: list[str] = field(default_factory=list)
    group: str | None = None


@dataclass(frozen=True)
class ImageInfo:
    """What the header of an image says.

    Attributes
    ----------
    hdu : int
        Number of the HDU in its file.
    shape : (height, width)
        Size in pixels.
    wcs : WCS or None
        Celestial coordinates, where the header has usable ones.
    names : tuple of str
        Names of all HDUs of the file, in their order.
    unit : astropy unit
        What BUNIT says; dimensionless where it says nothing that is known.
    """

    hdu: int
    shape: tuple[int, int]
    wcs: WCS | None
    names: tuple[str, ...] = ()
    unit: units.UnitBase = units.dimensionless_unscaled


Source = str | Path | bytes
"""Where a FITS file is: its path, or its content itself, as alert packets carry it."""


def read_image(path: Source, *, hdu: int | str | None = None, section: Section | None = None) -> CCDData:
    """Read an image from a FITS file: plain, packed by gzip, bzip2 or xz, or tile-compressed.

    Parameters
    ----------
    path : str or Path or bytes
        File, or its content; compression is recognised by its content, not by its name.
    hdu : int or str, optional
        Number or name (`SCI`, or `SCI,2` with its EXTVER) of the HDU; by default the first that holds an image.
    section : Section, optional
        Part of the image to read.

    Returns
    -------
    CCDData
        Physical values (BSCALE, BZERO applied) as float32 where that is exact and float64 elsewhere, (H, W),
        native byte order. Undefined pixels (BLANK) are NaN; `mask` is True where a value is not finite.

    Raises
    ------
    DataError
        If the file is missing, damaged or cut short, or the HDU isn't there or isn't a picture.
    """
    with _opened(path, hdu) as (image, info):
        stored = _stored_pixels(image, info.shape, section)
        values = physical_values(stored, Scaling.from_header(image.header))
        wcs = info.wcs if info.wcs is None or section is None else info.wcs.slice(section.slices)
        return CCDData(values, mask=~np.isfinite(values), unit=_unit(image.header), wcs=wcs, meta=image.header.copy())


def read_plane(
    path: str | Path, *, hdu: int | str | None = None, section: Section | None = None
) -> NDArray[np.integer[Any]]:
    """Read a plane of whole numbers (codes, bits, a mask) as integers, exactly as they are meant.

    Parameters are those of `read_image`.

    Raises
    ------
    DataError
        As `read_image`; also if a value is undefined or not a whole number.
    """
    with _opened(path, hdu) as (image, info):
        stored = _stored_pixels(image, info.shape, section)
        plane = whole_numbers(stored, Scaling.from_header(image.header))
        if plane is None:
            raise DataError("a plane must hold whole numbers, got undefined or fractional ones; store it as integers")
        return plane


def digest_image(path: str | Path, *, hdu: int | str | None = None) -> str:
    """Return the SHA-256 of an image's shape and physical values: that of each lossless copy, however it is stored.

    Values are compared as float32; pixels that are not finite count as equal. Errors are those of `read_image`.
    """
    values = np.asarray(read_image(path, hdu=hdu).data, dtype=np.float32)
    values = np.where(np.isfinite(values), values, np.float32(0)) + np.float32(0)  # -0 becomes 0
    return hashlib.sha256(repr(values.shape).encode() + values.tobytes()).hexdigest()


def inspect_image(path: Source, *, hdu: int | str | None = None) -> ImageInfo:
    """Read the header of an image and check that its file is whole. Parameters and errors as of `read_image`."""
    with _opened(path, hdu) as (_, info):
        return info


@contextmanager
def _opened(source: Source, hdu: int | str | None) -> Iterator[tuple[Any, ImageInfo]]:
    """Find an image in a file; whatever is wrong with it, also while it is read, becomes a DataError that names it."""
    name = "a stamp" if isinstance(source, bytes) else source
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with _uncompressed(source) as stream:
                index, shape = _locate(stream, hdu)
                stream.seek(0)
                # Not closed: that would close the stream as well, which has its own `with`.
                hdus = fits.open(stream, memmap=False, do_not_scale_image_data=True)
                image = hdus[index]
                names = tuple(hdu.name for hdu in hdus)
                yield image, ImageInfo(index, shape, _celestial_wcs(image.header, hdus), names, _unit(image.header))
        except DataError as error:
            raise DataError(f"{name}: {error}") from error
        except MemoryError as error:
            raise DataError(f"{name}: the image doesn't fit into memory; read a section of it") from error
        except _DAMAGE as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise DataError(
                f"{name}: cannot be read as FITS ({reason}); fetch the file again or leave it out"
            ) from error


@contextmanager
def _uncompressed(source: Source) -> Iterator[IO[bytes]]:
    """Open a file for reading in any order; a packed one is unpacked, and so checked, to its end."""
    with _raw(source) as raw:
        magic = raw.read(3)
        raw.seek(0)
        for start, form in _NOT_UNPACKED.items():
            if magic.startswith(start):
                raise DataError(f"must be FITS, plain or packed by gzip, bzip2 or xz, got {form}; unpack it")
        unpack = next((opener for start, opener in _UNPACKERS.items() if magic.startswith(start)), None)
        if unpack is None:
            yield raw
            return
        with unpack(raw) as packed, SpooledTemporaryFile(max_size=_SPOOL_BYTES) as plain:
            shutil.copyfileobj(packed, plain, 2**20)
            plain.seek(0)
            yield plain


def _raw(source: Source) -> IO[bytes]:
    if isinstance(source, bytes):
        return io.BytesIO(source)
    if not Path(source).is_file():
        raise DataError("there is no such file; check the name and the folder it starts from")
    return Path(source).open("rb")


def _locate(stream: IO[bytes], wanted: int | str | None) -> tuple[int, tuple[int, int]]:
    """Return the number and the (height, width) of the image that is wanted, once its file is known to be whole."""
    file_bytes = stream.seek(0, 2)
    stream.seek(0)
    hdus = fits.open(stream, memmap=False, disable_image_compression=True)
    index, shape = find_picture(hdus, wanted=wanted)
    check_complete(hdus[index], file_bytes=file_bytes)
    return index, shape


def _stored_pixels(image: Any, shape: tuple[int, int], section: Section | None) -> NDArray[Any]:
    """Read pixels as they are stored, without scaling."""
    if section is None:
        return np.asarray(image.data).reshape(shape)
    if not section.fits_in(shape):
        raise DataError(f"section {section} must lie in the image of {shape[1]}x{shape[0]} pixels; make it smaller")
    leading = (0,) * (len(image.shape) - 2)
    return np.asarray(image.section[(*leading, *section.slices)]).reshape(section.shape)


def _unit(header: fits.Header) -> units.UnitBase:
    """Return the unit that BUNIT names; an absent or unknown one, which stays readable in the header, is no unit."""
    name = str(header.get("BUNIT", "")).strip()
    for spelling in (name, name.lower(), name.lower().rstrip("s")):
        try:
            return units.Unit(spelling)
        except ValueError:
            continue
    return units.dimensionless_unscaled


def _celestial_wcs(header: fits.Header, hdus: fits.HDUList) -> WCS | None:
    """Return the celestial coordinates of an image, or None if the header has none that can be used."""
    try:
        wcs = WCS(header, fobj=hdus)
        if not wcs.has_celestial:
            return None
        return wcs if wcs.naxis == 2 else wcs.celestial
    except _DAMAGE as error:
        logger.info("no celestial coordinates: %s", str(error).splitlines()[0] if str(error) else error)
        return None
