"""From the files of a row to frames of one grid, with what was done to them."""

from __future__ import annotations

import functools
from contextlib import AbstractContextManager
from pathlib import Path

from astropy.nddata import CCDData

from astrid.config import DataError, FramesData
from astrid.config.checks import saying_of

from .background import subtract_background
from .frames import read_image
from .reduction.chain import Masters, Record, calibrate, write_history
from .reduction.cosmics import flag_cosmic_rays
from .reduction.register import register
from .reduction.roles import doubt_filter, told_filter, warn_once
from .reduction.sets import cached_masters
from .rows import FrameRow, ImageFile
from .stars import typical_fwhm


def naming(column: str, file: ImageFile) -> AbstractContextManager[None]:
    """Say of which column and file an error is."""
    return saying_of(f"{column} {file.path.name}: ")


def read_exposure(
    column: str, file: ImageFile, config: FramesData, *, fwhm_pixels: float | None, raw: bool = True
) -> Record:
    """Read a frame and take it through the steps, those of the detector only where it is raw."""
    knobs = config.preprocess
    with naming(column, file):
        image = read_image(file.path, hdu=file.hdu)
        if not raw or not knobs.treats_exposures:
            return Record(image, image.shape)
        masters = cached_masters(knobs, root=Path(config.root), cache=Path(config.cache), like=file)
        _tell_doubts(masters, file, image)
        record = calibrate(image, knobs, masters)
        remove = functools.partial(_without_cosmic_rays, config=config, fwhm_pixels=fwhm_pixels)
        record.take(
            "cosmic rays",
            remove if knobs.cosmic_rays else None,
            detail=f"L.A.Cosmic at {knobs.cosmic_ray_sigma} sigma, contrast {knobs.cosmic_ray_contrast}",
            knob="cosmic_rays",
        )
        write_history(record)
        return record


def _tell_doubts(masters: Masters, file: ImageFile, image: CCDData) -> None:
    """Warn of calibration frames that their headers, or that of an exposure, contradict, once for each set."""
    for doubt in masters.doubts:
        warn_once(doubt)
    flat, told = masters.flat_filter, None if masters.flat_filter is None else told_filter(file, image.header)
    if flat is not None and told is not None:
        warn_once(doubt_filter(flat, told), flat.file, flat.meaning, told.meaning)


def _without_cosmic_rays(frame: CCDData, *, config: FramesData, fwhm_pixels: float | None) -> CCDData:
    good = ~frame.mask
    flat = subtract_background(frame.data, good, box=config.background_box)
    knobs = config.preprocess
    return flag_cosmic_rays(
        frame,
        fwhm_pixels=fwhm_pixels or typical_fwhm(flat, good),
        clip_sigma=knobs.cosmic_ray_sigma,
        contrast=knobs.cosmic_ray_contrast,
    )


def read_reference(row: FrameRow, science: Record, config: FramesData) -> Record:
    """Read the reference and bring it onto the grid of the science frame."""
    assert row.reference is not None
    knobs = config.preprocess
    raw, fwhm = knobs.raw_reference, row.reference_fwhm_pixels
    reference = read_exposure("reference", row.reference, config, raw=raw, fwhm_pixels=fwhm)
    with naming("reference", row.reference):
        register(reference, science.frame, knobs, box=config.background_box, name=row.reference.path.name)
        if reference.frame.shape != science.frame.shape:
            raise DataError(
                f"it must have the shape of science, got {reference.frame.shape} and {science.frame.shape}; add "
                "data.preprocess.register=wcs or stars"
            )
    return reference
