"""From a row of a manifest to a field that the network can read."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.nddata import CCDData
from numpy.typing import NDArray
from scipy import ndimage

from astrid.config import DataError, FramesData
from astrid.config.checks import saying_of

from .channels import paired_channels, single_channel
from .exposures import read_exposure, read_reference
from .frames import Field, no_sources, read_image, read_plane
from .reduction.chain import Record, Taken
from .rows import FrameRow, ImageFile

logger = logging.getLogger(__name__)

_TELLTALE_SHARE = 0.5
_SPREAD = (16, 50, 84)
_WILD = 1e9
"""Distance from the median, in spreads of the middle pixels, beyond which a value is a defect."""


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


@dataclass
class Loaded:
    """The frames of a row on one grid, before they become channels.

    Attributes
    ----------
    science : Record
    reference : Record or None
    labels : Labels
    good : (H, W) bool
        True = pixel of the science frame that neither its steps nor its planes call bad.
    shown : (H, W) bool
        True = pixel that the network may see.
    """

    science: Record
    reference: Record | None
    labels: Labels
    good: NDArray[np.bool_]
    shown: NDArray[np.bool_]


def prepare_field(row: FrameRow, config: FramesData) -> Field:
    """Read a row's files and bring them into the network's channels: science, or science, reference and difference.

    Raw exposures go through the steps of `config.preprocess` first, which the field's history tells. Each frame has
    its background subtracted, in cells of `config.background_box`, and is divided by one background sigma, so that the
    shape of its sources stays as it is. Pixels that are NaN, ignored, masked or without weight are 0 in the image and
    their values decide nothing; those and the unlabelled ones are not valid. A section is cut out of the frame
    prepared as a whole: one exposure has one noise, whichever of its parts is looked at.

    Raises
    ------
    DataError
        Naming the row.
    """
    with naming_row(row, config):
        return make_field(row, load_frames(row, config), config)


def naming_row(row: FrameRow, config: FramesData) -> AbstractContextManager[None]:
    """Say of which row of which manifest an error is."""
    return saying_of(f"{Path(config.manifest).name}, row {row.number} ({row.field}): ")


def load_frames(row: FrameRow, config: FramesData) -> Loaded:
    """Read the files of a row, take raw exposures through their steps and bring all onto one grid."""
    science = read_exposure("science", row.science, config, fwhm_pixels=row.fwhm_pixels)
    labels = _cut(read_labels(row, shape=science.raw_shape), science.cut)
    good = good_pixels(row, shape=science.raw_shape)[science.cut] & _believable(science.frame)
    shown = good & ~labels.ignored
    if row.reference is None:
        return Loaded(science, None, labels, good, shown)
    reference = read_reference(row, science, config)
    return Loaded(science, reference, labels, good, shown & _believable(reference.frame))


def _believable(frame: CCDData) -> NDArray[np.bool_]:
    """Return where a frame is good and no value is beyond what any detector and exposure can give.

    One such pixel is finite in single precision, and still drowns a convolution or the norm of a layer.
    """
    good = np.asarray(~frame.mask)
    if not good.any():
        return good
    low, level, high = np.percentile(frame.data[good], _SPREAD)
    wild = good & (np.abs(frame.data - level) > _WILD * (high - low)) if high > low else np.zeros_like(good)
    if wild.any():
        rule = f"farther than {_WILD:g} times the spread from the median, count as bad"
        logger.warning("%d pixels, the largest %g, %s", wild.sum(), np.abs(frame.data[wild]).max(), rule)
    return np.asarray(good & ~wild)


def make_field(row: FrameRow, loaded: Loaded, config: FramesData) -> Field:
    """Bring the frames of a row into the network's channels, and cut out the section that is used."""
    science, reference, labels, shown = loaded.science, loaded.reference, loaded.labels, loaded.shown
    if reference is None:
        image, fwhm = single_channel(row, science, shown=shown, config=config), row.fwhm_pixels
    else:
        image, fwhm = paired_channels(row, (science, reference), shown=shown, config=config)
        science.steps += steps_of_reference(reference)
    part = part_of(row, (shown.shape[0], shown.shape[1]))
    _warn_of_telltale_blanks(row, labels)
    valid = shown & ~labels.unlabelled
    history = [str(step) for step in science.steps]
    blank = row.target is not None and not labels.target[part].any()
    return Field(
        name=row.name,
        image=image[:, *part],
        target=(labels.target & valid)[part],
        valid=valid[part],
        sources=no_sources() if blank else None,
        fwhm_pixels=fwhm,
        history=history,
        group=row.field,
    )


def steps_of_reference(reference: Record) -> list[Taken]:
    """Return the steps of a reference by names that tell them from those of its science frame."""
    return [dataclasses.replace(step, name=f"reference {step.name}") for step in reference.steps]


def part_of(row: FrameRow, shape: tuple[int, int]) -> tuple[slice, slice]:
    """Return the rows and columns of the section that a row uses."""
    if row.section is None:
        return slice(None), slice(None)
    if not row.section.fits_in(shape):
        raise DataError(
            f"section {row.section} must lie in the trimmed frame of {shape[1]}x{shape[0]} pixels; make it smaller"
        )
    return row.section.slices


def _cut(labels: Labels, part: tuple[slice, slice]) -> Labels:
    return Labels(labels.target[part], labels.ignored[part], labels.unlabelled[part])


def read_labels(row: FrameRow, *, shape: tuple[int, int]) -> Labels:
    """Read the target plane of a row by its bits or codes; without a target plane nothing is positive."""
    if row.target is None:
        return Labels(*(np.zeros(shape, dtype=bool) for _ in range(3)))
    plane = read_plane(row.target.path, hdu=row.target.hdu)
    _refuse_unheld(plane, row, roles=("target", "ignore", "unlabelled"))
    ignored = _marked(plane, bits=row.ignore_bits, codes=row.ignore_codes)
    unlabelled = _marked(plane, bits=row.unlabelled_bits, codes=row.unlabelled_codes)
    if row.target_bits is None and row.target_codes is None:
        target = _above_zero(plane, explained=ignored | unlabelled)
    else:
        target = _marked(plane, bits=row.target_bits, codes=row.target_codes)
    return Labels(target & ~ignored & ~unlabelled, ignored, unlabelled)


def _refuse_unheld(plane: NDArray[np.integer], row: FrameRow, *, roles: Sequence[str]) -> None:
    """Refuse bits and codes that a plane of this type can't hold: they mean another plane, or something else."""
    width, ends = 8 * plane.dtype.itemsize, np.iinfo(plane.dtype)
    for role in roles:
        bits, codes = getattr(row, f"{role}_bits") or 0, getattr(row, f"{role}_codes") or ()
        if bits >> width:
            rule = f"must be values of bits that its plane of {width} bits has, at most {1 << width - 1}"
            remedy = "bit n has the value 2**n; mend it, or name another plane"
            raise DataError(f"{role}_bits {rule}, got {1 << bits.bit_length() - 1}; {remedy}")
        for code in codes:
            if not ends.min <= code <= ends.max:
                rule = f"must be values that its plane of {width} bits holds, {ends.min} to {ends.max}"
                raise DataError(f"{role}_codes {rule}, got {code}; mend it, or name another plane")


def _above_zero(plane: NDArray[np.integer], *, explained: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return where a plane without bits or codes of the target is positive; what is below 0 needs an explanation."""
    lowest = int(plane[~explained].min(initial=0))
    if lowest < 0:
        remedy = f"mend the plane, or say what it means, as ignore_codes={lowest} and target_codes=1"
        raise DataError(f"target must be 0 for nothing and above 0 for what is to be found, got {lowest}; {remedy}")
    return np.asarray(plane > 0)


def _read(image: ImageFile) -> CCDData:
    return read_image(image.path, hdu=image.hdu)


def good_pixels(row: FrameRow, *, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Return where the mask isn't bad, the valid plane isn't 0 and the weight is above 0."""
    good: NDArray[np.bool_] = np.ones(shape, dtype=bool)
    if row.mask is not None:
        plane = read_plane(row.mask.path, hdu=row.mask.hdu)
        _refuse_unheld(plane, row, roles=("mask",))
        good &= ~_meant(plane, bits=row.mask_bits, codes=row.mask_codes)
    if row.valid is not None:
        good &= read_plane(row.valid.path, hdu=row.valid.hdu) != 0
    if row.weight is not None:
        weight = _read(row.weight)
        good &= np.asarray(~weight.mask & (weight.data > 0))
    return good


def _meant(plane: NDArray[np.integer], *, bits: int | None, codes: tuple[int, ...] | None) -> NDArray[np.bool_]:
    """Return where a plane has any of the bits, or is one of the codes, or isn't 0 where neither is given."""
    return np.asarray(plane != 0) if bits is None and codes is None else _marked(plane, bits=bits, codes=codes)


def _marked(plane: NDArray[np.integer], *, bits: int | None, codes: tuple[int, ...] | None) -> NDArray[np.bool_]:
    """Return where a plane has any of the bits, or is one of the codes."""
    marked: NDArray[np.bool_] = np.isin(plane, codes or ())
    if bits is not None:
        marked = np.asarray((plane.astype(np.uint64) & np.uint64(bits)) != 0)
    return marked


def _warn_of_telltale_blanks(row: FrameRow, labels: Labels) -> None:
    """Warn when positives are framed by blanked pixels, which show the network what it should find."""
    frame = ndimage.binary_dilation(labels.target, structure=np.ones((3, 3), dtype=bool)) & ~labels.target
    if frame.any() and labels.ignored[frame].mean() > _TELLTALE_SHARE:
        logger.warning(
            "row %d: the pixels around positives are ignored and thus blanked, which gives the positives away; "
            "use unlabelled_bits or unlabelled_codes for them",
            row.number,
        )
