"""Claims about new grids: light is kept, noise is stated as it is, and bad pixels stay out."""

from __future__ import annotations

import cmath
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData, StdDevUncertainty
from astropy.wcs import WCS
from astropy.wcs.utils import pixel_to_pixel
from hypothesis import given, settings
from hypothesis import strategies as st
from reproject import reproject_exact

from astrid.config import DataError
from astrid.data.psf import psf_stamp
from astrid.data.reduction.align import Alignment
from astrid.data.reduction.resample import noise_correlation, resample, wcs_map


def moved(*, factor: complex = 1, shift: complex = 0) -> Alignment:
    return Alignment(factor, shift, matches=0, rms_pixels=0.0)


def noise_frame(shape: tuple[int, int] = (512, 512), seed: int = 0) -> CCDData:
    """White noise whose sigma differs from pixel to pixel."""
    rng = np.random.default_rng(seed)
    sigma = rng.uniform(1, 3, shape).astype(np.float32)
    data = (rng.standard_normal(shape) * sigma).astype(np.float32)
    return CCDData(data, mask=np.zeros(shape, bool), unit="electron", uncertainty=StdDevUncertainty(sigma))


def star_frame(fwhm: float = 3.0) -> CCDData:
    image = np.zeros((128, 128))
    where, light = psf_stamp(image.shape, x=60.3, y=64.8, radius=60, fwhm=fwhm, beta=3.5)
    image[where] = 1000 * light
    return CCDData(image.astype(np.float32), mask=np.zeros(image.shape, bool), unit="electron")


MAPS = {
    "half a pixel": moved(shift=0.5 + 0.5j),
    "a tenth": moved(shift=0.1 - 0.1j),
    "a turn": moved(factor=cmath.exp(0.3j), shift=120 - 30j),
    "larger pixels": moved(factor=2, shift=0.25),
    "smaller pixels": moved(factor=0.7, shift=80 + 80j),
}


@pytest.mark.parametrize("name", MAPS)
def test_the_pull_of_resampled_noise_has_width_one(name: str) -> None:
    new = resample(noise_frame(), MAPS[name], shape=(512, 512))
    good = ~new.mask
    assert good.mean() > 0.2
    assert np.std(new.data[good] / new.uncertainty.array[good]) == pytest.approx(1, abs=0.02)


def test_a_variance_resampled_like_the_image_would_be_far_too_wide() -> None:
    data = np.random.default_rng(0).standard_normal((512, 512)).astype(np.float32)
    half = MAPS["half a pixel"]
    new = resample(CCDData(data, unit=""), half, shape=data.shape)
    variance = resample(CCDData(np.ones_like(data), unit=""), half, shape=data.shape)
    good = ~new.mask
    assert np.std(new.data[good] / np.sqrt(variance.data[good])) < 0.85


@pytest.mark.parametrize("lost", ["what adds", "what takes away"])
def test_the_pull_of_pixels_that_lost_a_part_of_their_kernel_has_width_one(lost: str) -> None:
    frame, part = noise_frame((700, 700)), MAPS["a tenth"]
    frame.mask[np.random.default_rng(1).random(frame.shape) < 0.03] = True
    new = resample(frame, part, shape=frame.shape)
    weight = resample(CCDData(np.where(frame.mask, 0, 1.0), unit=""), part, shape=frame.shape).data  # of what is left
    chosen = ~new.mask & ((weight < 0.985) if lost == "what adds" else (weight > 1.015))
    assert chosen.sum() > 5000
    assert np.std(new.data[chosen] / new.uncertainty.array[chosen]) == pytest.approx(1, abs=0.015)


@settings(max_examples=20, deadline=None)
@given(x=st.floats(-3, 3), y=st.floats(-3, 3), angle=st.floats(-0.5, 0.5), scale=st.floats(0.5, 2.5))
def test_the_flux_of_a_star_stays(x: float, y: float, angle: float, scale: float) -> None:
    factor = scale * cmath.exp(1j * angle)
    middle = 60 + 60j
    mapping = moved(factor=factor, shift=middle - factor * middle + complex(x, y))
    new = resample(star_frame(fwhm=4.0), mapping, shape=(121, 121))
    good = ~new.mask
    expected = star_frame(fwhm=4.0).data.sum()
    if scale > 1.2:  # the whole frame is in view
        assert new.data[good].sum() == pytest.approx(expected, rel=0.01)
    else:
        assert new.data.max() == pytest.approx(scale**2 * star_frame(fwhm=4.0).data.max(), rel=0.1)


def test_the_light_of_a_star_on_a_mirrored_grid_stays_positive() -> None:
    new = resample(star_frame(), lambda x, y: (127 - x, y), shape=(128, 128))
    np.testing.assert_allclose(new.data[8:-8, 8:-8], star_frame().data[:, ::-1][8:-8, 8:-8], atol=1e-3)


def test_brightness_stays_where_flux_is_not_asked_for() -> None:
    flat = CCDData(np.full((64, 64), 5.0, np.float32), mask=np.zeros((64, 64), bool), unit="")
    new = resample(flat, moved(factor=2), shape=(32, 32), conserve_flux=False)
    np.testing.assert_allclose(new.data[~new.mask], 5, rtol=1e-5)
    np.testing.assert_allclose(resample(flat, moved(factor=2), shape=(32, 32)).data[8:24, 8:24], 20, rtol=1e-4)


def test_a_shift_by_whole_pixels_changes_no_value() -> None:
    frame = noise_frame((40, 50))
    new = resample(frame, moved(shift=3 - 2j), shape=frame.shape)
    good = ~new.mask
    assert good.sum() > 35 * 45
    y, x = np.nonzero(good)
    np.testing.assert_allclose(new.data[good], frame.data[y - 2, x + 3], rtol=1e-5)
    np.testing.assert_allclose(new.uncertainty.array[good], frame.uncertainty.array[y - 2, x + 3], rtol=1e-4)


@pytest.mark.parametrize("junk", [np.nan, np.inf, 1e30])
def test_bad_pixels_stay_out_and_mask_what_rests_on_them(junk: float) -> None:
    frame = noise_frame((64, 64))
    frame.data[:] = 7
    frame.data[30, 31] = junk
    frame.uncertainty.array[30, 31] = junk
    frame.mask[30, 31] = True
    new = resample(frame, moved(shift=0.4 + 0.4j), shape=frame.shape)
    assert new.mask[29:31, 30:32].all() and new.mask[10:54, 10:54].sum() < 25
    np.testing.assert_allclose(new.data[~new.mask], 7, rtol=1e-4)
    assert not new.data[new.mask].any() and np.isfinite(new.uncertainty.array).all()


@pytest.mark.parametrize(("phase", "masked"), [(0, 1), (0.1, 3), (0.25 + 0.25j, 5), (0.5 + 0.5j, 4)])
def test_a_bad_pixel_masks_what_rests_on_it_by_a_twentieth_of_the_kernel(phase: complex, masked: int) -> None:
    frame = noise_frame((64, 64))
    frame.mask[30, 31] = True
    new = resample(frame, moved(shift=phase), shape=frame.shape)
    assert new.mask[10:54, 10:54].sum() == masked


def test_coordinates_that_do_not_reach_the_source_are_refused() -> None:
    with pytest.raises(DataError, match=r"reach from every pixel .* got none for 100 % of them; check that"):
        wcs_map(tangent(10.0), tangent(190.0), shape=(64, 64))
    with pytest.raises(DataError, match=r"got none for [1-9]\d % of them"):
        wcs_map(tangent(10.0), tangent(95.0), shape=(64, 64))


def tangent(right_ascension: float) -> WCS:
    """Return a gnomonic projection with pixels of a degree."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval = ["RA---TAN", "DEC--TAN"], [right_ascension, 0.0]
    wcs.wcs.crpix, wcs.wcs.cdelt = [32.0, 32.0], [-1.0, 1.0]
    return wcs


def test_the_noise_correlation_is_that_of_the_kernel() -> None:
    generator = np.random.default_rng(0)
    assert noise_correlation(moved(), shape=(200, 300), generator=generator) == pytest.approx((0, 0), abs=0.05)
    half = noise_correlation(moved(shift=0.5), shape=(200, 300), generator=generator)
    line = np.sinc(np.arange(-2.5, 3)) * np.sinc(np.arange(-2.5, 3) / 3)
    expected = (line[1:] @ line[:-1]) / (line @ line)
    assert half == pytest.approx((expected, 0), abs=0.05)


def hsc_and_hst(sample_data: Path) -> tuple[np.ndarray, WCS, tuple[int, int], WCS]:
    folder = sample_data / "wcs_hsc_hst"
    if not folder.is_dir():
        pytest.skip(f"{folder} is needed")
    with fits.open(folder / "Cut_HSC.fits.gz") as hsc, fits.open(folder / "Cut_HST.fits.gz") as hst:
        return np.array(hsc[0].data, dtype=np.float32), WCS(hsc[0].header).celestial, hst[0].shape, WCS(hst[0].header)


@pytest.mark.filterwarnings("ignore::astropy.wcs.FITSFixedWarning")
def test_hsc_on_the_grid_of_hst_keeps_its_flux(sample_data: Path) -> None:
    bands, hsc, shape, hst = hsc_and_hst(sample_data)
    area = np.linalg.det(hst.pixel_scale_matrix) / np.linalg.det(hsc.pixel_scale_matrix)
    for band in bands:
        frame = CCDData(band, mask=np.zeros(band.shape, bool), unit="")
        new = resample(frame, wcs_map(hst, hsc, shape=shape), shape=shape)
        exact, footprint = reproject_exact((band, hsc), hst, shape_out=shape)
        common = ~new.mask & (footprint > 0.999)
        assert common.mean() > 0.9
        assert new.data[common].sum() == pytest.approx(area * exact[common].sum(), rel=0.01)


@pytest.mark.filterwarnings("ignore::astropy.wcs.FITSFixedWarning")
def test_splined_coordinates_are_those_of_the_wcs(sample_data: Path) -> None:
    _, hsc, shape, hst = hsc_and_hst(sample_data)
    y, x = np.mgrid[: shape[0], : shape[1]].astype(float)
    np.testing.assert_allclose(wcs_map(hst, hsc, shape=shape)(x, y), pixel_to_pixel(hst, hsc, x, y), atol=1e-6)
