"""From frames of one grid to the channels that the network sees, each in units of its background sigma."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from astrid.config import FramesData

from .background import above_sky, measure_sky
from .difference import background_sigma, channels_in_sigma, in_sigma, matched_difference
from .exposures import naming
from .reduction.chain import Record, Taken
from .reduction.proper import Epoch, fit_flux_ratio, subtract_properly
from .reduction.star_psf import measure_psf
from .rows import FrameRow
from .stars import find_stars, measure_flux_ratio, typical_fwhm

Image = NDArray[np.float32]
Plane = NDArray[np.bool_]


def single_channel(row: FrameRow, science: Record, *, shown: Plane, config: FramesData) -> Image:
    """Return the science frame, (1, H, W); 0 where it isn't shown."""
    with naming("science", row.science):
        return in_sigma(_flattened(science, shown, config.background_box), shown)[None]


def paired_channels(
    row: FrameRow, frames: tuple[Record, Record], *, shown: Plane, config: FramesData
) -> tuple[Image, float]:
    """Return science, reference, difference and, where it is asked for, score, (C, H, W), and the science seeing.

    Seeing and the ratio of the fluxes are the row's, or measured on stars. Raises DataError, naming the column.
    """
    assert row.reference is not None
    flat = []
    for column, file, record in zip(("science", "reference"), (row.science, row.reference), frames, strict=True):
        with naming(column, file):
            flat.append(_flattened(record, shown, config.background_box))
            in_sigma(flat[-1], shown)  # refuses a frame without noise while its name is known
    given = (row.fwhm_pixels, row.reference_fwhm_pixels)
    widths = [fwhm or typical_fwhm(image, shown) for fwhm, image in zip(given, flat, strict=True)]
    if config.preprocess.difference == "matched":
        return _matched(row, flat, shown, widths), widths[0]
    epochs = [_epoch(record, image, shown, fwhm) for record, image, fwhm in zip(frames, flat, widths, strict=True)]
    scale = row.reference_scale or fit_flux_ratio(epochs[0], epochs[1], valid=shown)
    frames[0].steps.append(Taken("difference", True, f"proper, with the reference times {scale:.5g}"))
    return _proper(epochs[0], epochs[1].scaled(scale), shown, config), widths[0]


def _matched(row: FrameRow, flat: list[Image], shown: Plane, widths: list[float]) -> Image:
    new, old = flat
    scale = row.reference_scale or flux_ratio(new, old, shown=shown, widths=widths)
    scaled = old * np.float32(scale)
    residual = matched_difference(new, scaled, science_fwhm=widths[0], reference_fwhm=widths[1], valid=shown)
    return channels_in_sigma(new, scaled, difference=residual, valid=shown)


def flux_ratio(new: Image, old: Image, *, shown: Plane, widths: Sequence[float]) -> float:
    """Return the factor that brings the reference to the flux scale of the science frame, both above their sky."""
    stars = find_stars(old, shown, sigma=background_sigma(old, shown).sigma)
    return measure_flux_ratio(new, old, shown, stars=stars, science_fwhm=widths[0], reference_fwhm=widths[1])


def _proper(science: Epoch, reference: Epoch, shown: Plane, config: FramesData) -> Image:
    rms = config.preprocess.registration_rms
    found = subtract_properly(science, reference, valid=shown, registration_rms=(rms, rms))
    channels = channels_in_sigma(science.image, reference.image, difference=found.difference, valid=shown)
    if not config.preprocess.score:
        return channels
    return np.concatenate([channels, in_sigma(found.corrected_score, shown)[None]])


def _flattened(record: Record, shown: Plane, box: int) -> Image:
    """Return a frame above its sky, and note what that is."""
    sky = measure_sky(record.frame.data, shown, box=box)
    detail = f"level {np.median(sky.level):.6g}, rms {sky.rms:.4g} in cells of {box} pixels"
    record.steps.append(Taken("background", True, detail))
    return above_sky(record.frame.data, shown, sky)


def _epoch(record: Record, image: Image, shown: Plane, fwhm_pixels: float) -> Epoch:
    sigma = record.frame.uncertainty
    variance = None if sigma is None else np.where(shown, sigma.array, np.float32(0)).astype(np.float32) ** 2
    psf = measure_psf(image, shown, fwhm_pixels=fwhm_pixels)
    return Epoch(image, psf, background_sigma(image, shown).sigma, variance)
