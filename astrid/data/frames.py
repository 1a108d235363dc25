"""Frames and fields: what images are called and how they are held, from file to network; the only reader of FITS."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from astropy import units
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.wcs import WCS
from astropy.wcs.utils import proj_plane_pixel_scales
from numpy.typing import NDArray

from astrid.config import DataError

from .coordinates import unusable_number
from .damage import DAMAGE, guarded
from .hdus import FileContent, PictureHDU, keywords, locate_picture, locate_pictures, readable, sort_images
from .keywords import INHERITED
from .packing import Source, uncompressed
from .pixels import Scaling, physical_values, whole_numbers
from .rows import Section

logger = logging.getLogger(__name__)

_FITS = b"SIMPLE  ="
LARGEST_VALUE = 1e30
"""Beyond it a value is bad: single precision, in which all is computed, has no room for its square or its sums."""
_WIDEST_PIXEL_DEGREES = 0.5
"""A header without the scale of its pixels means one degree, which no exposure has."""


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
        native byte order. Undefined pixels (BLANK) are NaN; `mask` is True where a value is not finite or beyond 1e30.
        The header has exposure, gain and the like from the primary one where it doesn't say them itself.

    Raises
    ------
    DataError
        If the file is missing, damaged or cut short, or the HDU isn't there or isn't a picture.
    """
    with _opened(path, hdu) as (image, info, primary):
        stored = _stored_pixels(image, info.shape, section)
        values = physical_values(stored, Scaling.from_header(image.header))
        wcs = info.wcs if info.wcs is None or section is None else info.wcs.slice(section.slices)
        return CCDData(
            values,
            mask=~(np.abs(values) < LARGEST_VALUE),
            unit=unit_named(image.header),
            wcs=wcs,
            meta=_with_inherited(readable(image.header), readable(primary)),
        )


def _with_inherited(own: fits.Header, primary: fits.Header) -> fits.Header:
    """Add what the primary header says of the exposure and the own one doesn't, unless that forbids it (INHERIT)."""
    if own.get("INHERIT") is not False:
        for names in INHERITED:
            if not any(name in own for name in names):
                own.update({name: (primary[name], primary.comments[name]) for name in names if name in primary})
    return own


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
    with _opened(path, hdu) as (image, info, _):
        stored = _stored_pixels(image, info.shape, section)
        plane = whole_numbers(stored, Scaling.from_header(image.header))
        if plane is None:
            raise DataError("a plane must hold whole numbers, got undefined or fractional ones; store it as integers")
        return plane


def inspect_image(path: Source, *, hdu: int | str | None = None) -> ImageInfo:
    """Read the header of an image and check that its file is whole. Parameters and errors as of `read_image`."""
    with _opened(path, hdu) as (_, info, _):
        return info


@dataclass(frozen=True)
class Picture(PictureHDU):
    """One picture of a file with what its headers say; its name is empty where it has none or is in the primary HDU.

    Attributes
    ----------
    wcs : WCS or None
        Celestial coordinates, where the header has usable ones.
    header : mapping of str to value
        Its own header, over the file's primary one.
    meta : mapping of str to value
        The header that `read_image` gives: its own, with exposure, gain and the like from the primary one.
    """

    wcs: WCS | None
    header: Mapping[str, Any]
    meta: Mapping[str, Any]


def list_pictures(path: Source) -> list[Picture]:
    """Read the headers of all pictures of a file, whose own keywords come before those of the primary header.

    Raises
    ------
    DataError
        If the file is missing, damaged or cut short, or has no picture.
    """
    with guarded(path), uncompressed(path) as stream:
        found = locate_pictures(stream)
        stream.seek(0)
        hdus = fits.open(stream, memmap=False, do_not_scale_image_data=True)
        primary = readable(hdus[0].header)
        own = [readable(hdus[place.hdu].header) for place in found]
        return [
            Picture(
                hdu=place.hdu,
                name=place.name if place.hdu else "",
                version=place.version,
                shape=place.shape,
                wcs=_celestial_wcs(hdus[place.hdu].header, hdus, path),
                header=keywords(primary) | keywords(header),
                meta=keywords(_with_inherited(header, primary)),
            )
            for place, header in zip(found, own, strict=True)
        ]


def inspect_file(path: Source) -> FileContent:
    """Say what a FITS file holds. Errors are those of `read_image`, save that a file without a picture is none."""
    with guarded(path), uncompressed(path) as stream:
        hdus = fits.open(stream, memmap=False, disable_image_compression=True)
        return sort_images(hdus)


def is_fits(path: Path) -> bool:
    """Tell whether a file begins as FITS does, once it is unpacked."""
    try:
        with guarded(path), uncompressed(path) as stream:
            return stream.read(len(_FITS)) == _FITS
    except DataError:
        return False


def read_table(path: str | Path, *, columns: Sequence[str]) -> dict[str, list[Any]]:
    """Read columns of the first table of a FITS file that has them; a cell is a number or an array.

    Raises
    ------
    DataError
        If the file is missing or damaged, or has no such table.
    """
    with guarded(path), uncompressed(path) as stream:
        for hdu in fits.open(stream, memmap=False):
            names = getattr(hdu, "columns", None)
            if names is not None and set(columns) <= set(names.names):
                return {name: list(hdu.data[name]) for name in columns}
        raise DataError(f"there must be a table with the columns {', '.join(columns)}, got none; name another file")


@contextmanager
def _opened(source: Source, hdu: int | str | None) -> Iterator[tuple[Any, ImageInfo, fits.Header]]:
    """Find an image in a file, and its primary header; errors of reading it are told as `guarded` does."""
    with guarded(source), uncompressed(source) as stream:
        index, shape = locate_picture(stream, hdu)
        stream.seek(0)
        # Not closed: that would close the stream as well, which has its own `with`.
        hdus = fits.open(stream, memmap=False, do_not_scale_image_data=True)
        image = hdus[index]
        wcs, names = _celestial_wcs(image.header, hdus, source), tuple(hdu.name for hdu in hdus)
        yield image, ImageInfo(index, shape, wcs, names, unit_named(image.header)), hdus[0].header


def _stored_pixels(image: Any, shape: tuple[int, int], section: Section | None) -> NDArray[Any]:
    """Read pixels as they are stored, without scaling."""
    if section is None:
        return np.asarray(image.data).reshape(shape)
    if not section.fits_in(shape):
        raise DataError(f"section {section} must lie in the image of {shape[1]}x{shape[0]} pixels; make it smaller")
    leading = (0,) * (len(image.shape) - 2)
    return np.asarray(image.section[(*leading, *section.slices)]).reshape(section.shape)


def unit_named(header: Mapping[str, Any]) -> units.UnitBase:
    """Return the unit that BUNIT names; an absent or unknown one, which stays readable in the header, is no unit."""
    name = str(header.get("BUNIT", "")).strip()
    for spelling in (name, name.lower(), name.lower().rstrip("s")):
        try:
            return units.Unit(spelling)
        except ValueError:
            continue
    return units.dimensionless_unscaled


def _celestial_wcs(header: fits.Header, hdus: fits.HDUList, source: Source) -> WCS | None:
    """Return the celestial coordinates of an image, or None if the header has none that can be used."""
    name = "a stamp" if isinstance(source, bytes) else source
    try:
        wcs = WCS(header, fobj=hdus)
        if not wcs.has_celestial:
            return None
        if reason := unusable_number(header):
            logger.info("%s has no celestial coordinates that can be used: %s", name, reason)
            return None
        wcs = wcs if wcs.naxis == 2 else wcs.celestial
        degrees = float(proj_plane_pixel_scales(wcs).max())
    except DAMAGE as error:
        said = str(error).strip().splitlines()
        logger.info("%s has no celestial coordinates that can be used: %s", name, said[-1] if said else error)
        return None
    if degrees < _WIDEST_PIXEL_DEGREES:
        return wcs
    logger.info(
        "%s has no celestial coordinates that can be used: a pixel must be below %g degrees wide, got %g; "
        "add CDELT1 and CDELT2, or the CD matrix",
        *(name, _WIDEST_PIXEL_DEGREES, degrees),
    )
    return None
