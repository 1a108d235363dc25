"""Injection: exact light, exact noise, exact truth, and not a bit changed elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from memory import memory_peak

from astrid.config import DataError
from astrid.data.draws import Places
from astrid.data.frames import Sources
from astrid.data.inject.electrons import add_electrons, draw_photons, expected_light
from astrid.data.inject.hosts import HostPlaces, Hosts, find_hosts
from astrid.data.inject.trails import trail_light
from astrid.data.inject.transients import Kinds, draw_sources, snr_of_unit_flux
from astrid.data.psf import moffat
from astrid.data.psf_image import PsfImage, as_psf
from astrid.data.truth import disc_mask

SHAPE = (64, 80)
PLACES = st.floats(-20.0, 100.0)


def moffat_psf(fwhm: float = 3.0, *, oversampling: int = 1, radius: int = 12) -> PsfImage:
    offset = np.arange(-radius * oversampling, radius * oversampling + 1) / oversampling
    return as_psf(moffat(offset[:, None] ** 2 + offset[None, :] ** 2, fwhm=fwhm, beta=3.5), oversampling=oversampling)


def catalogue(*rows: tuple[float, float, float]) -> Sources:
    x, y, flux = np.array(rows, dtype=float).reshape(-1, 3).T
    return Sources(x, y, flux, np.zeros(x.size), ["transient"] * x.size)


# The PSF between the pixels


@given(x=st.floats(25, 35), y=st.floats(25, 35), oversampling=st.sampled_from([1, 2, 3]))
@settings(max_examples=50, deadline=None)
def test_all_light_is_placed_with_its_centroid_at_the_source(x: float, y: float, oversampling: int) -> None:
    light = expected_light(catalogue((x, y, 1000.0)), SHAPE, psf=moffat_psf(oversampling=oversampling))
    assert light.sum() == pytest.approx(1000.0, rel=1e-12)
    rows, columns = np.indices(SHAPE)
    assert (light * columns).sum() / 1000 == pytest.approx(x, abs=0.02)
    assert (light * rows).sum() / 1000 == pytest.approx(y, abs=0.02)


@pytest.mark.parametrize("oversampling", [1, 2, 4])
def test_a_placed_psf_is_the_function_that_it_was_sampled_from(oversampling: int) -> None:
    where, share = moffat_psf(oversampling=oversampling).stamp(SHAPE, x=30.37, y=31.81)
    rows, columns = np.indices(SHAPE)
    expected = moffat((columns - 30.37) ** 2 + (rows - 31.81) ** 2, fwhm=3.0, beta=3.5)[where]
    assert np.abs(share - expected / expected.sum()).max() < 0.02 * expected.max()


def test_a_psf_of_even_edges_has_its_source_at_half_of_them() -> None:
    rows, columns = np.indices((12, 14))
    psf = as_psf(moffat((columns - 7.0) ** 2 + (rows - 6.0) ** 2, fwhm=3.0, beta=3.5))
    assert psf.pixels.shape == (11, 13)
    assert np.unravel_index(psf.pixels.argmax(), psf.pixels.shape) == (5, 6)


@given(x=PLACES, y=PLACES)
@settings(max_examples=100, deadline=None)
def test_a_frame_shows_its_part_of_a_source_that_lies_across_the_edge(x: float, y: float) -> None:
    light = expected_light(catalogue((x, y, 1.0)), SHAPE, psf=moffat_psf())
    wide = expected_light(catalogue((x + 40, y + 40, 1.0)), (SHAPE[0] + 80, SHAPE[1] + 80), psf=moffat_psf())
    np.testing.assert_allclose(light, wide[40:-40, 40:-40], atol=1e-9)


@pytest.mark.parametrize(
    "pixels",
    [np.zeros((9, 9)), np.ones((3, 3)), np.ones(9), np.full((9, 9), np.nan), np.pad([[1.0]], ((0, 8), (0, 8)))],
)
def test_what_is_no_centred_psf_is_refused(pixels: np.ndarray) -> None:
    with pytest.raises(DataError, match="a PSF must"):
        as_psf(pixels)


# Bits, photons, counts


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint16, np.int16, ">f4", ">i2"])
def test_untouched_pixels_keep_every_bit(dtype: str) -> None:
    rng = np.random.default_rng(1)
    image = rng.normal(300, 9, SHAPE).astype(dtype)
    if image.dtype.kind == "f":
        image[5, 5], image[40, 30], image[3, 3] = np.nan, np.nan, -0.0
    valid = rng.random(SHAPE) > 0.2
    light = expected_light(catalogue((30, 40, 5e4)), SHAPE, psf=moffat_psf())
    changed = add_electrons(image, draw_photons(light, rng, valid=valid), gain=1.7)
    assert changed.dtype == image.dtype
    same = changed.view(f"V{image.dtype.itemsize}") == image.view(f"V{image.dtype.itemsize}")
    rows, columns = np.indices(SHAPE)
    reached = valid & (np.abs(columns - 30) <= 12) & (np.abs(rows - 40) <= 12)
    assert same[~reached].all()
    assert same[40, 30] == (image.dtype.kind == "f")  # a NaN stays the NaN that it was
    assert not same[reached].all()


def test_integer_counts_are_rounded_and_end_at_the_highest() -> None:
    image = np.array([[10, 65530]], dtype=np.uint16)
    assert add_electrons(image, np.array([[3.0, 99.0]]), gain=2.0).tolist() == [[12, 65535]]


@pytest.mark.parametrize("gain", [0.0, -1.0, float("nan")])
def test_a_gain_that_is_none_is_refused(gain: float) -> None:
    with pytest.raises(DataError, match="gain must be above 0"):
        add_electrons(np.zeros((2, 2)), np.ones((2, 2)), gain=gain)


def test_added_light_has_the_mean_and_the_variance_of_photons() -> None:
    light = expected_light(catalogue((32.3, 30.6, 3000.0)), SHAPE, psf=moffat_psf())
    rng = np.random.default_rng(3)
    draws = np.array([draw_photons(light, rng, valid=np.ones(SHAPE, bool)) for _ in range(2000)])
    bright = light > 5
    np.testing.assert_allclose(draws.mean(0)[bright], light[bright], rtol=0.05)
    assert np.mean(draws.var(0)[bright] / light[bright]) == pytest.approx(1.0, abs=0.01)
    assert draws.sum((1, 2)).var() == pytest.approx(3000.0, rel=0.15)


def test_a_negative_flux_is_refused_in_one_frame() -> None:
    with pytest.raises(DataError, match="at least 0, got -5"):
        expected_light(catalogue((30, 30, -5.0)), SHAPE, psf=moffat_psf())


# Signal-to-noise


def test_the_stated_signal_to_noise_is_that_of_a_matched_filter_in_many_draws() -> None:
    rng = np.random.default_rng(5)
    psf = moffat_psf(2.7)
    variance = rng.uniform(50, 400, SHAPE)
    precision = np.where(rng.random(SHAPE) > 0.1, 1 / variance, 0.0)
    x, y = 31.4, 28.8
    flux = 8.0 / snr_of_unit_flux(x, y, psf=psf, precision=precision)
    light = expected_light(catalogue((x, y, flux)), SHAPE, psf=psf)
    weight = expected_light(catalogue((x, y, 1.0)), SHAPE, psf=psf) * precision
    filtered = [((light + rng.normal(0, np.sqrt(variance))) * weight).sum() for _ in range(4000)]
    assert np.mean(filtered) / np.std(filtered) == pytest.approx(8.0, rel=0.05)


def test_no_source_lies_on_a_bad_pixel_and_snr_stays_in_its_range() -> None:
    precision = np.zeros(SHAPE)
    precision[10:20, 30:50] = 0.01
    kinds = Kinds(snr=(5.0, 50.0), fading=0.5)
    found = draw_sources(
        300, np.random.default_rng(2), kinds=kinds, precision=precision, free=precision > 0, psf=moffat_psf()
    )
    assert (precision[np.rint(found.y).astype(int), np.rint(found.x).astype(int)] > 0).all()
    assert found.snr.min() >= 5 and found.snr.max() <= 50
    fading = np.array(found.kind) == "fading"
    assert ((found.flux < 0) == fading).all()
    assert 100 < fading.sum() < 200


def test_the_same_seed_gives_the_same_sources() -> None:
    precision = np.full(SHAPE, 0.01)
    one, two, other = (
        draw_sources(
            5, np.random.default_rng(s), kinds=Kinds((5, 9)), precision=precision, free=precision > 0, psf=moffat_psf()
        )
        for s in (1, 1, 2)
    )
    np.testing.assert_array_equal(one.flux, two.flux)
    assert (one.x != other.x).all()


# Galaxies and trails


def test_transients_follow_the_light_of_galaxies_and_not_that_of_stars() -> None:
    rng = np.random.default_rng(4)
    image = rng.normal(0, 10, (128, 128))
    rows, columns = np.indices(image.shape)
    image += 300 * np.exp(-np.hypot((columns - 40) / 8, (rows - 40) / 5))
    star = expected_light(catalogue((90, 90, 3e4)), (128, 128), psf=moffat_psf())
    valid = np.ones(image.shape, bool)
    hosts = find_hosts((image + star).astype(np.float32), valid, sigma=10.0, fwhm_pixels=3.0)
    places = [HostPlaces(hosts, np.ones(image.shape)).draw(rng) for _ in range(100)]
    assert all(place is not None and np.hypot(place[0] - 40, place[1] - 40) < 25 for place in places)
    assert hosts.labels[90, 90] == 0
    in_hosts = HostPlaces(hosts, np.ones(image.shape))
    assert in_hosts.draw(rng) is not None
    assert in_hosts.draw(rng) is None  # its only galaxy hosts one already


def test_a_galaxy_that_touches_a_bad_pixel_hosts_nothing() -> None:
    rows, columns = np.indices((64, 64))
    image = (300 * np.exp(-np.hypot(columns - 30, rows - 30) / 6)).astype(np.float32)
    valid = np.ones(image.shape, bool)
    valid[30, 30] = False
    hosts = find_hosts(image, valid, sigma=5.0, fwhm_pixels=3.0)
    assert HostPlaces(hosts, valid * 1.0).draw(np.random.default_rng(0)) is None


def test_a_galaxy_of_more_pixels_than_seps_buffer_holds_is_found() -> None:
    import sep

    room = sep.get_extract_pixstack()
    rows, columns = np.indices((96, 96))
    image = (300 * np.exp(-np.hypot(columns - 48, rows - 48) / 15)).astype(np.float32)
    try:
        sep.set_extract_pixstack(300)
        assert find_hosts(image, np.ones(image.shape, bool), sigma=1.0, fwhm_pixels=3.0).labels.any()
    finally:
        sep.set_extract_pixstack(room)


def test_what_sep_refuses_is_told_with_a_remedy() -> None:
    import sep

    image = np.full((128, 128), 10.0, np.float32)
    image[::4, ::4] = 1000.0  # an object of many peaks
    limit = sep.get_sub_object_limit()
    try:
        sep.set_sub_object_limit(8)
        with pytest.raises(DataError, match=r"galaxies must be found by SEP, got: .*deblending.*; leave the frame out"):
            find_hosts(image, np.ones(image.shape, bool), sigma=1.0, fwhm_pixels=3.0)
    finally:
        sep.set_sub_object_limit(limit)


def test_a_frame_without_a_free_pixel_is_refused() -> None:
    with pytest.raises(DataError, match="there must be a pixel for a source to lie on, got none"):
        Places(np.zeros((4, 4))).draw(np.random.default_rng(0))


def test_a_source_beside_pixels_that_are_known_and_not_free_has_the_signal_of_both() -> None:
    precision, free = np.full(SHAPE, 0.01), np.zeros(SHAPE, bool)
    free[20, 20] = True
    psf = moffat_psf()
    one = draw_sources(1, np.random.default_rng(3), kinds=Kinds((9, 9)), precision=precision, free=free, psf=psf)
    x, y = float(one.x[0]), float(one.y[0])
    assert (round(x), round(y)) == (20, 20)
    _, share = psf.stamp(SHAPE, x=x, y=y)
    assert one.flux[0] * np.sqrt((share**2).sum() * 0.01) == pytest.approx(9.0)


def test_a_source_more_goes_through_its_own_window_and_not_through_the_frame() -> None:
    shape = (1000, 1000)
    labels = np.zeros(shape, np.int32)
    labels.reshape(20, 50, 20, 50)[:, :9, :, :9] = 1 + np.arange(400).reshape(20, 1, 20, 1)
    places, rng = Places(np.ones(shape)), np.random.default_rng(0)
    in_hosts = HostPlaces(Hosts(labels, (labels > 0) * 1.0), np.ones(shape))
    assert memory_peak(lambda: places.draw(rng)) < labels.size // 10
    assert memory_peak(lambda: in_hosts.draw(rng)) < labels.size // 5
    middle = np.full(30, 500.0)
    assert memory_peak(lambda: disc_mask(middle, middle, shape, radius=5.0)) < 1.1 * labels.size  # the mask itself


@given(x=PLACES, y=PLACES, radius=st.floats(0, 30))
@settings(max_examples=100, deadline=None)
def test_a_disc_holds_each_pixel_within_its_radius(x: float, y: float, radius: float) -> None:
    rows, columns = np.indices(SHAPE)
    found = disc_mask(np.array([x]), np.array([y]), SHAPE, radius=radius)
    np.testing.assert_array_equal(found, (columns - x) ** 2 + (rows - y) ** 2 <= radius**2)


@pytest.mark.parametrize("seed", range(3))
def test_hosts_are_drawn_as_one_draw_over_all_pixels_would(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, (5, 7)).repeat(6, 0).repeat(6, 1).astype(np.int32)
    light = np.where(labels > 0, rng.random(labels.shape), 0.0)
    free = rng.random(labels.shape) > 0.3
    in_hosts, mine, other = HostPlaces(Hosts(labels, light), free * 1.0), *map(np.random.default_rng, (seed, seed))
    left = np.where(free, light, 0.0).ravel()
    while left.any():
        pixel = int(other.choice(left.size, p=left / left.sum()))
        dx, dy = other.uniform(-0.5, 0.5, 2)
        assert in_hosts.draw(mine) == (pixel % labels.shape[1] + dx, pixel // labels.shape[1] + dy)
        left[labels.ravel() == labels.ravel()[pixel]] = 0.0
    assert in_hosts.draw(mine) is None


@given(angle=st.floats(0, np.pi))
@settings(max_examples=10, deadline=None)
def test_a_trail_has_its_brightness_per_pixel_of_length_in_any_direction(angle: float) -> None:
    light = trail_light((101, 101), x=50, y=50, angle=angle, brightness=200.0, psf=moffat_psf())
    rows, columns = np.indices(light.shape)
    along = (columns - 50) * np.cos(angle) + (rows - 50) * np.sin(angle)
    assert light[np.abs(along) < 25].sum() / 50 == pytest.approx(200, rel=0.05)
