"""From a row of a manifest to a field that the network can read."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.nddata import CCDData
from numpy.typing import NDArray
from photutils.background import Background2D, SExtractorBackground
from scipy import ndimage

from astrid.config import DataError, FramesData

from .difference import background_sigma, channels_in_sigma, in_sigma, matched_difference
from .frames import Field, read_image, read_plane
from .rows import FrameRow, ImageFile
from .stars import find_stars, measure_flux_ratio, measure_fwhm

logger = logging.getLogger(__name__)

_MOST_BAD_PERCENT = 90.0  # of a background cell; with more its level is interpolated from its neighbours
_TELLTALE_SHARE = 0.5


@dataclass(frozen=True)
class Labels:
    """What the target plane of a frame says.

    Attributes
    ----------
    target : (H, W) bool
        True = positive.
    ignored : (H, W) bool
        True = neither counted nor shown to the network.
    unlabelled : (H, W) bool
        True = shown to the network but not counted.
    """

    target: NDArray[np.bool_]
    ignored: NDArray[np.bool_]
    unlabelled: NDArray[np.bool_]


def prepare_field(row: FrameRow, config: FramesData) -> Field:
    """Read a row's files and bring them into the network's channels: science, or science, reference and difference.

    Each frame has its background subtracted, in cells of `config.background_box`, and is divided by one background
    sigma, so that the shape of its sources stays as it is. Pixels that are NaN, ignored or without weight are 0 in
    the image and their values decide nothing; those and the unlabelled ones are not valid. A section is cut out of
    the frame prepared as a whole: one exposure has one noise, whichever of its parts is looked at.

    Raises
    ------
    DataError
        Naming the row.
    """
    try:
        science = _read(row.science)
        labels = read_labels(row, shape=science.shape)
        shown = ~science.mask & ~labels.ignored & _good_pixels(row, shape=science.shape)
        if row.reference is None:
            with _named("science", row.science):
                image, fwhm = _single_channel(science, shown, config.background_box), row.fwhm_pixels
        else:
            reference = _read(row.reference)
            shown &= ~reference.mask
            image, fwhm = _paired_channels(row, (science, reference), shown, config.background_box)
    except DataError as error:
        raise DataError(f"{Path(config.manifest).name}, row {row.number} ({row.field}): {error}") from error
    _warn_of_telltale_blanks(row, labels)
    valid = shown & ~labels.unlabelled
    part = (slice(None), slice(None)) if row.section is None else row.section.slices
    return Field(row.name, image[:, *part], (labels.target & valid)[part], valid[part], fwhm_pixels=fwhm)


def read_labels(row: FrameRow, *, shape: tuple[int, int]) -> Labels:
    """Read the target plane of a row by its bits or codes; without a target plane nothing is positive."""
    if row.target is None:
        return Labels(*(np.zeros(shape, dtype=bool) for _ in range(3)))
    plane = read_plane(row.target.path, hdu=row.target.hdu)
    ignored = _marked(plane, bits=row.ignore_bits, codes=row.ignore_codes)
    unlabelled = _marked(plane, bits=row.unlabelled_bits, codes=row.unlabelled_codes)
    if row.target_bits is None and row.target_codes is None:
        target = plane != 0
    else:
        target = _marked(plane, bits=row.target_bits, codes=row.target_codes)
    return Labels(target & ~ignored & ~unlabelled, ignored, unlabelled)


def subtract_background(image: NDArray[np.floating], valid: NDArray[np.bool_], *, box: int) -> NDArray[np.float32]:
    """Subtract a background that follows the frame over scales larger than the box; 0 where not valid.

    Its level in a cell is the mode as SExtractor estimates it, after clipping at three sigma, and cells are joined
    by a spline. Cells are as large as the box and fit the frame; a frame smaller than that is one cell.

    Parameters
    ----------
    image : (H, W) float
        Any unit.
    valid : (H, W) bool
        True = good pixel; the others' values are never read.
    box : int
        Edge of a cell in pixels.

    References
    ----------
    Bertin and Arnouts 1996, A&AS 117, 393, doi:10.1051/aas:1996164
    """
    cell = tuple(math.ceil(size / max(1, round(size / box))) for size in image.shape)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            background = Background2D(
                image,
                cell,
                mask=~valid,
                bkg_estimator=SExtractorBackground(),
                exclude_percentile=_MOST_BAD_PERCENT,
            ).background
    except ValueError as error:
        share = f"{100 * float(valid.mean()):.1f} % of {valid.size}"
        raise DataError(
            f"a tenth of the pixels of a background cell must be good in all of science, reference, target, valid and "
            f"weight together, got {share}; check for NaN, masks and weights of 0"
        ) from error
    return np.where(valid, image - background, 0.0).astype(np.float32)


@contextmanager
def _named(column: str, file: ImageFile) -> Iterator[None]:
    """Say of which column and file an error is."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{column} {file.path.name}: {error}") from error


def _read(image: ImageFile) -> CCDData:
    return read_image(image.path, hdu=image.hdu)


def _good_pixels(row: FrameRow, *, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Return where the valid plane isn't 0 and the weight is above 0."""
    good: NDArray[np.bool_] = np.ones(shape, dtype=bool)
    if row.valid is not None:
        good &= read_plane(row.valid.path, hdu=row.valid.hdu) != 0
    if row.weight is not None:
        weight = _read(row.weight)
        good &= np.asarray(~weight.mask & (weight.data > 0))
    return good


def _marked(plane: NDArray[np.integer], *, bits: int | None, codes: tuple[int, ...] | None) -> NDArray[np.bool_]:
    """Return where a plane has any of the bits, or is one of the codes."""
    marked: NDArray[np.bool_] = np.isin(plane, codes or ())
    if bits is not None:
        marked = np.asarray((plane.astype(np.uint64) & np.uint64(bits)) != 0)
    return marked


def _single_channel(science: CCDData, shown: NDArray[np.bool_], box: int) -> NDArray[np.float32]:
    return in_sigma(subtract_background(science.data, shown, box=box), shown)[None]


def _paired_channels(
    row: FrameRow, frames: tuple[CCDData, CCDData], shown: NDArray[np.bool_], box: int
) -> tuple[NDArray[np.float32], float]:
    """Return science, reference and difference as channels, and the science frame's seeing in pixels."""
    assert row.reference is not None
    flat = []
    for column, file, frame in zip(("science", "reference"), (row.science, row.reference), frames, strict=True):
        with _named(column, file):
            flat.append(subtract_background(frame.data, shown, box=box))
            in_sigma(flat[-1], shown)  # refuses a frame without noise while its name is known
    new, old = flat
    scaled, new_fwhm, old_fwhm = _match(row, new, old, shown)
    residual = matched_difference(new, scaled, science_fwhm=new_fwhm, reference_fwhm=old_fwhm, valid=shown)
    return channels_in_sigma(new, scaled, residual, shown), new_fwhm


def _match(
    row: FrameRow, new: NDArray[np.float32], old: NDArray[np.float32], shown: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], float, float]:
    """Return the reference on the science frame's flux scale, and the seeing of both in pixels."""
    given = (row.fwhm_pixels, row.reference_fwhm_pixels)
    new_fwhm, old_fwhm = (fwhm or _measured_fwhm(frame, shown) for fwhm, frame in zip(given, (new, old), strict=True))
    scale = row.reference_scale
    if scale is None:
        stars = find_stars(old, shown, sigma=background_sigma(old, shown).sigma)
        scale = measure_flux_ratio(new, old, shown, stars=stars, science_fwhm=new_fwhm, reference_fwhm=old_fwhm)
    return old * np.float32(scale), new_fwhm, old_fwhm


def _measured_fwhm(frame: NDArray[np.float32], shown: NDArray[np.bool_]) -> float:
    stars = find_stars(frame, shown, sigma=background_sigma(frame, shown).sigma)
    return measure_fwhm(frame, shown, stars=stars)


def _warn_of_telltale_blanks(row: FrameRow, labels: Labels) -> None:
    """Warn when positives are framed by blanked pixels, which show the network what it should find."""
    frame = ndimage.binary_dilation(labels.target, structure=np.ones((3, 3), dtype=bool)) & ~labels.target
    if frame.any() and labels.ignored[frame].mean() > _TELLTALE_SHARE:
        logger.warning(
            "row %d: the pixels around positives are ignored and thus blanked, which gives the positives away; "
            "use unlabelled_bits or unlabelled_codes for them",
            row.number,
        )
