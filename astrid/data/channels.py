"""From frames of one grid to the channels that the network sees, each in units of its background sigma."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from astrid.config import FramesData

from .background import above_sky, measure_sky
from .difference import background_sigma, channels_in_sigma, in_sigma, matched_difference
from .exposures import naming
from .reduction.chain import Record, Taken
from .reduction.proper import Epoch, fit_flux_ratio, measured_score, subtract_properly
from .reduction.star_psf import measure_psf
from .rows import FrameRow
from .stars import find_stars, measure_flux_ratio, typical_fwhm

Image = NDArray[np.float32]
Plane = NDArray[np.bool_]


def single_channel(row: FrameRow, science: Record, *, shown: Plane, config: FramesData) -> Image:
    """Return the science frame, (1, H, W); 0 where it isn't shown."""
    with naming("science", row.science):
        return in_sigma(_flattened(science, shown, config.background_box), shown)[None]


@dataclass(frozen=True)
class Subtracted:
    """A reference subtracted from a science frame.

    Attributes
    ----------
    science, reference : (H, W) float32
        Above their sky, in the unit and on the flux scale of the science frame; 0 where not shown.
    difference : (H, W) float32
        In that unit, or where it is proper in units of its noise.
    score : (H, W) float32 or None
        Corrected significance of a point source in units of its own scatter, where it is asked for.
    fwhm_pixels : float
        Of the science frame.
    reference_scale : float
        Factor that brought the reference to the flux scale of the science frame.
    zero_point : float or None
        What a source of flux 1 adds to a proper difference; None for a matched one.
    score_scatter : float
        By what the score was divided to have unit variance: 1 where the noise is white and known.
    """

    science: Image
    reference: Image
    difference: Image
    score: Image | None
    fwhm_pixels: float
    reference_scale: float
    zero_point: float | None
    score_scatter: float = 1.0


def paired_channels(
    row: FrameRow, frames: tuple[Record, Record], *, shown: Plane, config: FramesData
) -> tuple[Image, float]:
    """Return science, reference, difference and, where it is asked for, score, (C, H, W), and the science seeing.

    Errors are those of `subtract_reference`.
    """
    found = subtract_reference(row, frames, shown=shown, config=config)
    channels = channels_in_sigma(found.science, found.reference, difference=found.difference, valid=shown)
    if found.score is not None:
        channels = np.concatenate([channels, in_sigma(found.score, shown)[None]])
    return channels, found.fwhm_pixels


def subtract_reference(row: FrameRow, frames: tuple[Record, Record], *, shown: Plane, config: FramesData) -> Subtracted:
    """Subtract the registered reference from the science frame, each above its sky, and note that in its steps.

    Seeing and the ratio of the fluxes are the row's, or measured on stars. Raises DataError, naming the column.
    """
    assert row.reference is not None
    flat, sigmas = [], []
    for column, file, record in zip(("science", "reference"), (row.science, row.reference), frames, strict=True):
        with naming(column, file):
            flat.append(_flattened(record, shown, config.background_box))
            sigmas.append(background_sigma(flat[-1], shown).sigma)  # refuses a frame without noise by its name
    given = (row.fwhm_pixels, row.reference_fwhm_pixels)
    measured = zip(given, flat, sigmas, strict=True)
    widths = [fwhm or typical_fwhm(image, shown, sigma=sigma) for fwhm, image, sigma in measured]
    if config.preprocess.difference == "matched":
        found = _matched(row, flat, shown, widths)
    else:
        epochs = [
            _epoch(record, image, shown, sigma=sigma, fwhm_pixels=fwhm)
            for record, image, sigma, fwhm in zip(frames, flat, sigmas, widths, strict=True)
        ]
        scale = row.reference_scale or fit_flux_ratio(epochs[0], epochs[1], valid=shown)
        found = _proper(epochs[0], epochs[1], shown, config, scale=scale, fwhm_pixels=widths[0])
    detail = f"{config.preprocess.difference}, with the reference times {found.reference_scale:.5g}"
    if found.score is not None:
        detail += f", the score divided by its scatter of {found.score_scatter:.3f}"
    frames[0].steps.append(Taken("difference", True, detail))
    return found


def _matched(row: FrameRow, flat: list[Image], shown: Plane, widths: list[float]) -> Subtracted:
    new, old = flat
    scale = row.reference_scale or flux_ratio(new, old, shown=shown, widths=widths)
    scaled = old * np.float32(scale)
    residual = matched_difference(new, scaled, science_fwhm=widths[0], reference_fwhm=widths[1], valid=shown)
    return Subtracted(new, scaled, residual, None, widths[0], scale, None)


def flux_ratio(new: Image, old: Image, *, shown: Plane, widths: Sequence[float]) -> float:
    """Return the factor that brings the reference to the flux scale of the science frame, both above their sky."""
    stars = find_stars(old, shown, sigma=background_sigma(old, shown).sigma)
    return measure_flux_ratio(new, old, shown, stars=stars, science_fwhm=widths[0], reference_fwhm=widths[1])


def _proper(
    science: Epoch, reference: Epoch, shown: Plane, config: FramesData, *, scale: float, fwhm_pixels: float
) -> Subtracted:
    knobs, scaled = config.preprocess, reference.scaled(scale)
    rms = (knobs.registration_rms, knobs.registration_rms)
    found = subtract_properly(science, scaled, valid=shown, registration_rms=rms)
    made = Subtracted(
        science.image, scaled.image, found.difference, None, fwhm_pixels, scale, zero_point=found.zero_point
    )
    if not knobs.score:
        return made
    score, scatter = measured_score(found, valid=shown)
    return dataclasses.replace(made, score=score, score_scatter=scatter)


def _flattened(record: Record, shown: Plane, box: int) -> Image:
    """Return a frame above its sky, and note what that is."""
    sky = measure_sky(record.frame.data, shown, box=box)
    detail = f"level {np.median(sky.level):.6g}, rms {sky.rms:.4g} in cells of {box} pixels"
    record.steps.append(Taken("background", True, detail))
    return above_sky(record.frame.data, shown, sky)


def _epoch(record: Record, image: Image, shown: Plane, *, sigma: float, fwhm_pixels: float) -> Epoch:
    noise = record.frame.uncertainty
    variance = None if noise is None else np.where(shown, noise.array, np.float32(0)).astype(np.float32) ** 2
    return Epoch(image, measure_psf(image, shown, fwhm_pixels=fwhm_pixels, sigma=sigma), sigma, variance)
