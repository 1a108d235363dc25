"""From a registered pair of frames to the channels that the network sees."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from astrid.config import DataError, SimulatedData
from astrid.data.difference import background_sigma, channels_in_sigma, in_sigma, matched_difference
from astrid.data.simulate import SimulatedField, simulate_field

QUIET_SKY = {"transients": 0, "cosmic_rays": 0, "hot_pixels": 0, "trail_probability": 0, "variable_fraction": 0}


def channels(field: SimulatedField, science: np.ndarray, reference: np.ndarray, valid: np.ndarray) -> np.ndarray:
    widths = {"science_fwhm": field.science_fwhm, "reference_fwhm": field.reference_fwhm}
    difference = matched_difference(science, reference, valid=valid, **widths)
    return channels_in_sigma(science, reference, difference=difference, valid=valid)


@pytest.mark.parametrize("contaminated", [0.0, 0.02, 0.05])
def test_background_ignores_sources(contaminated: float) -> None:
    rng = np.random.default_rng(0)
    image = rng.normal(400.0, 20.0, (256, 256)).astype(np.float32)
    bright = rng.random(image.shape) < contaminated
    image[bright] += rng.exponential(2000.0, bright.sum()).astype(np.float32)
    level, sigma = background_sigma(image, np.ones(image.shape, dtype=bool))
    assert level == pytest.approx(400.0, abs=0.1 * 20.0)
    assert sigma == pytest.approx(20.0, rel=0.05)


@pytest.mark.parametrize("step", [0.01, 0.1, 0.3])
@pytest.mark.parametrize("offset", [0.0, 0.37])
def test_background_of_a_digitised_frame_is_not_tied_to_its_steps(step: float, offset: float) -> None:
    noise = np.random.default_rng(1).normal(offset, 1.0, (256, 256))
    image = (step * np.rint(noise / step)).astype(np.float32)
    level, sigma = background_sigma(image, np.ones(image.shape, dtype=bool))
    assert level == pytest.approx(offset, abs=0.02)
    assert sigma == pytest.approx(math.sqrt(1 + step**2 / 12), rel=0.02)


@pytest.mark.parametrize(
    ("image", "valid", "message"),
    [
        (np.zeros((4, 4)), False, "got none"),
        (np.full((4, 4), np.nan), True, "finite"),
        (np.full((4, 4), -np.inf), True, "finite"),
        (np.full((4, 4), 7.0), True, "background noise, got 7"),
    ],
)
def test_background_without_measurable_noise_is_refused(image: np.ndarray, valid: bool, message: str) -> None:
    with pytest.raises(DataError, match=message):
        background_sigma(image.astype(np.float32), np.full(image.shape, valid))


@pytest.mark.parametrize("width", [0.0, -1.0, np.nan])
def test_a_width_that_is_not_positive_is_refused(width: float) -> None:
    image = np.random.default_rng(2).normal(size=(32, 32)).astype(np.float32)
    with pytest.raises(DataError, match="reference_fwhm must be positive"):
        matched_difference(image, image, science_fwhm=2.0, reference_fwhm=width)


@settings(max_examples=10, deadline=None)
@given(
    filling=st.sampled_from([np.nan, np.inf, -np.inf, 0.0, 3e38, -3e38, 1e-40]),
    bad_fraction=st.sampled_from([0.001, 0.1, 0.6]),
    seed=st.integers(0, 1000),
)
def test_values_under_the_mask_change_no_bit(filling: float, bad_fraction: float, seed: int) -> None:
    field = simulate_field(SimulatedData(field_size=128), split="train", index=seed % 3)
    valid = np.random.default_rng(seed).random(field.valid.shape) >= bad_fraction
    expected = channels(field, field.science, field.reference, valid)
    science = np.where(valid, field.science, np.float32(filling))
    reference = np.where(valid, field.reference, np.float32(filling))
    assert channels(field, science, reference, valid).tobytes() == expected.tobytes()
    assert not expected[:, ~valid].any()


def test_without_a_mask_every_pixel_is_valid() -> None:
    field = simulate_field(SimulatedData(field_size=128), split="train", index=0)
    widths = {"science_fwhm": field.science_fwhm, "reference_fwhm": field.reference_fwhm}
    everywhere = np.ones(field.valid.shape, dtype=bool)
    np.testing.assert_array_equal(
        matched_difference(field.science, field.reference, **widths),
        matched_difference(field.science, field.reference, valid=everywhere, **widths),
    )


def test_channels_of_noise_have_level_zero_and_sigma_one() -> None:
    config = SimulatedData(stars=0, galaxies=0, **QUIET_SKY)
    for index in range(3):
        field = simulate_field(config, split="train", index=index)
        image = channels(field, field.science, field.reference, field.valid)
        assert image.dtype == np.float32
        np.testing.assert_allclose(image.mean(axis=(1, 2)), 0.0, atol=0.03)
        np.testing.assert_allclose(image.std(axis=(1, 2)), 1.0, atol=0.02)


def test_in_sigma_is_free_of_unit_and_offset() -> None:
    rng = np.random.default_rng(3)
    image, valid = rng.normal(size=(64, 64)).astype(np.float32), rng.random((64, 64)) > 0.1
    np.testing.assert_allclose(in_sigma(50 * image + 900, valid), in_sigma(image, valid), atol=1e-3)


@pytest.mark.parametrize("seeing", [([2.4, 2.5], [3.0, 3.2]), ([3.8, 4.0], [2.2, 2.4])], ids=["sharper", "wider"])
def test_static_sky_in_register_subtracts_to_noise(seeing: tuple[list[float], list[float]]) -> None:
    """Stars up to 25 sigma, whose photon noise stays below the sky's: what remains is noise on them as elsewhere."""
    config = SimulatedData(
        science_seeing=seeing[0],
        reference_seeing=seeing[1],
        moffat_beta=[3.5, 3.5],
        registration_rms=0.0,
        stars=30,
        star_flux=[300.0, 3.0e3],
        galaxy_flux=[300.0, 3.0e3],
        **QUIET_SKY,
    )
    for index in range(3):
        field = simulate_field(config, split="val", index=index)
        widths = {"science_fwhm": field.science_fwhm, "reference_fwhm": field.reference_fwhm}
        difference = matched_difference(field.science, field.reference, **widths)
        nights = field.nights
        sigma = math.sqrt(nights.science.sky_variance + nights.reference.sky_variance)
        on_stars = field.reference > nights.reference.sky + 8 * math.sqrt(nights.reference.sky_variance)
        assert on_stars.sum() > 100
        assert abs(np.mean(difference)) < 0.04 * sigma
        assert np.abs(difference).max() < 5 * sigma
        assert abs(np.mean(difference[on_stars])) < 0.25 * sigma
        assert difference[on_stars].std() < 1.25 * difference[~on_stars].std()


def test_a_new_source_is_positive_and_keeps_its_flux() -> None:
    quiet = SimulatedData(stars=0, galaxies=0, **QUIET_SKY)
    field = simulate_field(quiet, split="train", index=0)
    science = field.science.copy()
    science[100:103, 50:53] += 1000.0
    widths = {"science_fwhm": field.science_fwhm, "reference_fwhm": field.reference_fwhm}
    before = matched_difference(field.science, field.reference, **widths)
    after = matched_difference(science, field.reference, **widths)
    assert (after - before).sum(dtype=float) == pytest.approx(9000.0, rel=0.02)
    assert after[101, 51] > 300.0
