"""What must be known of a real frame before anything is put into it: gain, noise, PSF."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from astrid.config import DataError, InjectedData

from .. import keywords
from ..background import subtract_background
from ..channels import flux_ratio
from ..difference import background_sigma
from ..exposures import naming
from ..frame_units import check_duration, electrons_per_unit, is_electrons, is_rate
from ..frames import read_image
from ..preprocess import Loaded
from ..psf_image import PsfImage, as_psf
from ..reduction.chain import Record
from ..reduction.header import unit_of
from ..reduction.told import header_number
from ..rows import FrameRow
from ..stars import typical_fwhm
from .frame_psf import measure_epsf

_SEEN_SIGMA = 3.0
"""Of the mean of 3 by 3 pixels, from which light is taken for light and not for noise of the sky."""
_BRIGHT_SIGMA = 5.0
"""Of a pixel, from which its light is known better than its neighbours'."""


class NoPsf(DataError):
    """A frame whose PSF isn't known and can't be measured."""


@dataclass(frozen=True)
class Surroundings:
    """A frame as injection sees it.

    Attributes
    ----------
    flat : (H, W) float32
        Counts above the sky, 0 where not valid.
    shown : (H, W) bool
        True = pixel that the network sees, and on which light falls.
    valid : (H, W) bool
        True = pixel that counts.
    sigma : float
        Noise of the sky in counts.
    gain : float
        Electrons per count; of a rate those that the exposure time collects of a unit.
    noise : (H, W) float64
        Standard deviation of each pixel in electrons: that of the sky, and the photons above it.
    precision : (H, W) float64, 1 / electrons²
        Inverse variance of science, or of science minus reference, each under its own PSF; 0 where not shown.
    fwhm_pixels : float or None
        Of the point sources, where they are needed.
    reference_scale : float
        Counts of the science frame per count of the reference; 1 without one.
    reference_gain : float
        Electrons per count of the reference; the science frame's without one.
    psfs : tuple of PsfImage
        Of science and, where something fades, of the reference; empty where the optics spread nothing.
    flux_range : (low, high) or None
        Electrons of the transients, where their magnitudes are given.
    """

    flat: NDArray[np.float32]
    shown: NDArray[np.bool_]
    valid: NDArray[np.bool_]
    sigma: float
    gain: float
    noise: NDArray[np.float64]
    precision: NDArray[np.float64]
    fwhm_pixels: float | None
    reference_scale: float
    reference_gain: float
    psfs: tuple[PsfImage, ...]
    flux_range: tuple[float, float] | None

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        height, width = self.valid.shape
        return height, width

    @property
    def psf(self) -> PsfImage:
        """PSF of the science frame."""
        return self.psfs[0]

    @property
    def reference_psf(self) -> PsfImage:
        """PSF of the reference; that of the science frame where nothing fades."""
        return self.psfs[-1]

    @property
    def fwhm(self) -> float:
        """Width of the point sources."""
        assert self.fwhm_pixels is not None
        return self.fwhm_pixels


def look_around(row: FrameRow, loaded: Loaded, config: InjectedData) -> Surroundings:
    """Measure a frame, before anything is put into it.

    Raises
    ------
    DataError
        Naming the column, where the gain isn't known or a frame can't be measured; `NoPsf` where its PSF can't. For
        sources that fade out of a reference that the row hasn't got.
    """
    if config.fading_fraction > 0 and loaded.reference is None:
        remedy = "name one in the column reference, or say data.fading_fraction=0"
        raise DataError(f"what fades must have a reference to be in, got none; {remedy}")
    valid = loaded.shown & ~loaded.labels.unlabelled & ~loaded.labels.target
    with naming("science", row.science):
        gain = electrons_per_count(row, loaded.science, config)
        flat, sigma = _above_sky(loaded.science, loaded.shown, config)
        fwhm, psf = row.fwhm_pixels, None
        if config.needs_psf:
            fwhm, psf = science_psf(row, flat, valid=loaded.shown, config=config)
    noise = np.sqrt((sigma * gain) ** 2 + _light(flat, loaded.shown, sigma) * gain)
    psfs: tuple[PsfImage, ...] = () if psf is None else (psf,)
    variance, scale, other_gain = noise**2, 1.0, gain
    if loaded.reference is not None and psf is not None:
        assert row.reference is not None and fwhm is not None
        with naming("reference", row.reference):
            beneath, other_sigma = _above_sky(loaded.reference, loaded.shown, config)
            other_fwhm = row.reference_fwhm_pixels or typical_fwhm(beneath, loaded.shown, sigma=other_sigma)
            scale = row.reference_scale or flux_ratio(flat, beneath, shown=loaded.shown, widths=(fwhm, other_fwhm))
            other_gain = _reference_gain(loaded.reference, otherwise=scale * gain)
            photons = _light(beneath, loaded.shown, other_sigma) / other_gain
            variance = variance + (scale * gain) ** 2 * (other_sigma**2 + photons)
            if config.fading_fraction > 0:
                psfs += (_own_psf(beneath, loaded.shown, other_fwhm, config),)
    return Surroundings(
        flat=flat,
        shown=loaded.shown,
        valid=valid,
        sigma=sigma,
        gain=gain,
        noise=noise,
        precision=np.where(loaded.shown, 1.0 / variance, 0.0),
        fwhm_pixels=fwhm,
        reference_scale=scale,
        reference_gain=other_gain,
        psfs=psfs,
        flux_range=_flux_range(loaded.science, gain, config),
    )


def electrons_per_count(row: FrameRow, science: Record, config: InjectedData) -> float:
    """Return the electrons per unit of a frame: 1 in electrons, else those of the row, of the knob or of the header."""
    unit = _unit(science)
    if is_electrons(unit) and not is_rate(unit):
        return 1.0
    if row.gain is not None:
        return row.gain
    if config.injection_gain != "header":
        return float(config.injection_gain)
    remedy = "give electrons per unit of the image in the manifest's column gain"
    return _told_gain(science, knob="data.injection_gain", remedy=remedy)


def _reference_gain(reference: Record, *, otherwise: float) -> float:
    """Return the reference's own electrons per unit: what its unit says, or else its header.

    Where the header has no gain the reference is taken to have been exposed like the science frame: `otherwise`.
    """
    meta = reference.frame.meta
    if not is_electrons(_unit(reference)) and not any(name in meta for name in keywords.GAIN):
        return otherwise
    return _told_gain(reference, knob="the header of the reference", remedy="mend the header")


def _unit(record: Record) -> str:
    return unit_of(record).strip().lower()


def _told_gain(record: Record, *, knob: str, remedy: str) -> float:
    """Return the electrons per unit of a frame as its header tells them."""
    meta, unit = record.frame.meta, _unit(record)
    seconds = keywords.number_of(meta, keywords.EXPOSURE)
    check_duration(unit, seconds, remedy=remedy)
    per_count = functools.partial(header_number, meta, "header", keywords.GAIN, knob=knob)
    gain = electrons_per_unit(unit, seconds=seconds, per_count=per_count)
    if gain is None or not gain > 0:
        raise DataError(f"the gain must be above 0, got {gain}; {remedy}")
    return gain


def _light(flat: NDArray[np.float32], shown: NDArray[np.bool_], sigma: float) -> NDArray[np.float64]:
    """Return the light above the sky whose photons add noise, (H, W) counts, at least 0.

    The positive half of the sky's noise is no light, and would bias the variance where the sky is low. So faint light
    is that of the mean of 3 by 3 pixels, where this stands out of its own noise; bright pixels have their own.
    """
    weight = ndimage.uniform_filter(shown.astype(np.float64), 3)
    smooth = ndimage.uniform_filter(np.where(shown, flat, 0).astype(np.float64), 3)
    smooth = np.divide(smooth, weight, out=np.zeros_like(smooth), where=shown)
    seen = smooth > _SEEN_SIGMA * background_sigma(smooth.astype(np.float32), shown).sigma
    return np.where(flat > _BRIGHT_SIGMA * sigma, flat, np.where(seen, smooth, 0.0)).astype(np.float64)


def science_psf(
    row: FrameRow, flat: NDArray[np.float32], *, valid: NDArray[np.bool_], config: InjectedData
) -> tuple[float, PsfImage]:
    """Return the width of the point sources and the PSF: those of the row, or of the frame's own stars."""
    try:
        fwhm = row.fwhm_pixels or typical_fwhm(flat, valid)
    except DataError as error:
        raise NoPsf(str(error)) from error
    if row.psf is None:
        return fwhm, _own_psf(flat, valid, fwhm, config)
    with naming("psf", row.psf):
        pixels = read_image(row.psf.path, hdu=row.psf.hdu).data
        return fwhm, as_psf(pixels, oversampling=config.psf_oversampling)


def _own_psf(flat: NDArray[np.float32], valid: NDArray[np.bool_], fwhm: float, config: InjectedData) -> PsfImage:
    try:
        return measure_epsf(flat, valid, fwhm_pixels=fwhm, least_stars=config.least_stars)
    except DataError as error:
        raise NoPsf(str(error)) from error


def _above_sky(record: Record, valid: NDArray[np.bool_], config: InjectedData) -> tuple[NDArray[np.float32], float]:
    flat = subtract_background(record.frame.data, valid, box=config.background_box)
    return flat, background_sigma(flat, valid).sigma


def _flux_range(science: Record, gain: float, config: InjectedData) -> tuple[float, float] | None:
    """Return the electrons of the faintest and the brightest magnitude."""
    if config.transient_magnitude is None:
        return None
    zero_point = header_number(science.frame.meta, config.zero_point, keywords.COUNT_ZERO_POINT, knob="data.zero_point")
    assert zero_point is not None
    bright, faint = (gain * 10.0 ** (0.4 * (zero_point - magnitude)) for magnitude in config.transient_magnitude)
    return faint, bright
