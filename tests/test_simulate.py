"""The simulated sky: reproducible, physical, and exact about its truth."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from astrid.config import ConfigError, SimulatedData
from astrid.data.simulate import SimulatedField, simulate_field
from astrid.data.simulate.artefacts import draw_cosmic_rays, draw_hot_pixels, draw_trail
from astrid.data.simulate.detector import Conditions, bleed, read_out
from astrid.data.simulate.scene import MARGIN, draw_galaxies, draw_stars, galaxy_spectrum, render_galaxies, render_stars
from astrid.data.simulate.transients import draw_transients

NO_ARTEFACTS = {"cosmic_rays": 0, "hot_pixels": 0, "trail_probability": 0}
NIGHT = Conditions(fwhm=3.0, beta=3.5, sky=0.0, gain=1.0, read_noise=1.0, exposures=1)
EMPTY = {"stars": 0, "galaxies": 0, "transients": 0, **NO_ARTEFACTS}


def sky(**knobs: object) -> SimulatedData:
    return SimulatedData(**({"field_size": 128} | knobs))


def fields(config: SimulatedData, number: int, *, split: str = "train") -> list[SimulatedField]:
    return [simulate_field(config, split=split, index=index) for index in range(number)]


def bits(field: SimulatedField) -> bytes:
    arrays = [field.science, field.reference, field.valid, *field.masks.values()]
    arrays += [field.sources.x, field.sources.y, field.sources.flux, field.sources.snr]
    return b"".join(array.tobytes() for array in arrays)


def expected_psf(field: SimulatedField, x: float, y: float) -> np.ndarray:
    """Moffat of unit flux, written down independently."""
    night = field.nights.science
    alpha = night.fwhm / 2 / math.sqrt(2 ** (1 / night.beta) - 1)
    rows, columns = np.indices(field.science.shape)
    profile = (1 + np.hypot(columns - x, rows - y) ** 2 / alpha**2) ** -night.beta
    return profile * (night.beta - 1) / (np.pi * alpha**2)


# Seeds


def test_a_field_is_the_same_whatever_was_simulated_before() -> None:
    forwards = [bits(field) for field in fields(sky(), 4)]
    backwards = [bits(simulate_field(sky(), split="train", index=index)) for index in reversed(range(4))]
    assert forwards == backwards[::-1]


def test_fields_differ_between_numbers_splits_and_seeds() -> None:
    all_fields = fields(sky(), 2) + fields(sky(), 2, split="val") + fields(sky(), 2, split="test")
    all_fields += fields(sky(sky_seed=2), 2)
    assert len({bits(field) for field in all_fields}) == len(all_fields)


def test_taking_one_ingredient_away_leaves_the_others() -> None:
    field = simulate_field(sky(cosmic_rays=20), split="train", index=1)
    without = simulate_field(sky(cosmic_rays=0), split="train", index=1)
    np.testing.assert_array_equal(field.reference, without.reference)
    untouched = ~field.masks["cosmic_ray"]
    assert np.abs(field.science - without.science)[untouched].max() < 15.0


# Noise


@pytest.mark.parametrize("exposures", [1, 4])
def test_frames_of_an_empty_sky_have_the_stated_level_and_variance(exposures: int) -> None:
    for field in fields(sky(reference_exposures=exposures, **EMPTY), 4):
        for image, night in ((field.science, field.nights.science), (field.reference, field.nights.reference)):
            variance = (night.sky + night.read_noise**2) / night.exposures
            variance += (night.gain / night.exposures) ** 2 / 12
            pull = (image - night.sky) / math.sqrt(variance)
            assert abs(pull.mean()) < 4 / math.sqrt(pull.size)
            assert pull.std() == pytest.approx(1.0, abs=4 / math.sqrt(2 * pull.size))


def test_noise_grows_with_the_light() -> None:
    night = dataclasses.replace(NIGHT, gain=1.5, read_noise=5.0, exposures=4)
    rng = np.random.default_rng(0)
    for light in (50.0, 5000.0):
        frame = read_out(rng.poisson(light * 4, (200, 200)).astype(float), night, rng)
        assert frame.var(dtype=float) == pytest.approx((light + 25) / 4 + (1.5 / 4) ** 2 / 12, rel=0.03)


def test_frames_are_digitised_with_their_gain() -> None:
    field = simulate_field(sky(), split="train", index=0)
    adu = field.science / field.nights.science.gain
    np.testing.assert_allclose(adu, np.rint(adu), atol=0.01)


# Transients


def test_snr_is_the_matched_filters_on_an_empty_sky() -> None:
    for field in fields(sky(**EMPTY | {"transients": 4}), 5):
        science, reference = field.nights.science, field.nights.reference
        variance = science.sky + science.read_noise**2 + science.gain**2 / 12
        variance += (reference.sky + reference.read_noise**2) / 4 + (reference.gain / 4) ** 2 / 12
        sources = field.sources
        for x, y, flux, snr in zip(sources.x, sources.y, sources.flux, sources.snr, strict=True):
            assert snr == pytest.approx(flux * math.sqrt((expected_psf(field, x, y) ** 2 / variance).sum()), rel=1e-6)


def test_snr_counts_the_photons_of_stars_and_hosts() -> None:
    """The variance is estimated from the same frames without transients, which the formula does not know."""
    config = sky(transients=8, transients_on_galaxies=1.0, galaxy_flux=[1e4, 1e5], galaxies=6, **NO_ARTEFACTS)
    ratios = []
    for index in range(8):
        field = simulate_field(config, split="train", index=index)
        still = simulate_field(dataclasses.replace(config, transients=0), split="train", index=index)
        variance = still.nights.science.variance(still.science.astype(float))
        variance += still.nights.reference.variance(still.reference.astype(float))
        for x, y, flux, snr in zip(*(getattr(field.sources, name) for name in ("x", "y", "flux", "snr")), strict=True):
            information = np.where(still.valid, expected_psf(field, x, y) ** 2 / variance, 0.0).sum()
            ratios.append(flux * math.sqrt(information) / snr)
    assert len(ratios) > 30
    assert np.median(ratios) == pytest.approx(1.0, abs=0.01)
    np.testing.assert_allclose(ratios, 1.0, atol=0.06)


def test_a_matched_filter_measures_the_catalogued_snr() -> None:
    """Same seeing in both frames, so that science minus reference has the variance of the definition."""
    seeing = {"science_seeing": [3.0, 3.0], "reference_seeing": [3.0, 3.0], "sky_level": [600.0, 600.0]}
    pulls = []
    for field in fields(sky(**EMPTY | seeing | {"transients": 3, "transient_snr": [3.0, 10.0]}), 40):
        science, reference = field.nights.science, field.nights.reference
        difference = (field.science - science.sky) - (field.reference - reference.sky)
        sigma = math.sqrt(science.sky_variance + reference.sky_variance)
        for x, y, snr in zip(field.sources.x, field.sources.y, field.sources.snr, strict=True):
            psf = expected_psf(field, x, y)
            apart = np.hypot(field.sources.x - x, field.sources.y - y)
            if np.count_nonzero(apart < 30) == 1:
                pulls.append((difference * psf).sum() / (sigma * math.sqrt((psf**2).sum())) - snr)
    assert len(pulls) > 30
    assert abs(np.mean(pulls)) < 4 / math.sqrt(len(pulls))
    assert 0.7 < np.std(pulls) < 1.4


def test_snr_is_log_uniform_in_its_range() -> None:
    snr = np.concatenate([field.sources.snr for field in fields(sky(**EMPTY | {"transients": 10}), 40)])
    scaled = np.log(snr / 3) / np.log(40 / 3)
    assert stats.kstest(scaled, "uniform").pvalue > 1e-3


@pytest.mark.parametrize("radius", [0.5, 0.75, 1.5])
def test_target_holds_the_pixels_within_the_radius_and_no_others(radius: float) -> None:
    field = simulate_field(sky(transients=6, target_radius_fwhm=radius), split="train", index=0)
    rows, columns = np.indices(field.science.shape)
    distance = np.full(field.science.shape, np.inf)
    for x, y in zip(field.sources.x, field.sources.y, strict=True):
        distance = np.minimum(distance, np.hypot(columns - x, rows - y))
    assert field.sources.x.size > 0
    np.testing.assert_array_equal(field.masks["transient"], distance <= radius * field.science_fwhm)


def test_hosted_transients_sit_on_the_light_of_galaxies() -> None:
    config = sky(**EMPTY | {"transients": 8, "galaxies": 8, "galaxy_flux": [2e4, 2e4]})
    light = {"transient": [], "transient_on_galaxy": []}
    for index in range(10):
        still = simulate_field(dataclasses.replace(config, transients=0), split="train", index=index)
        sources = simulate_field(config, split="train", index=index).sources
        for x, y, kind in zip(sources.x, sources.y, sources.kind, strict=True):
            night = still.nights.science
            excess = still.science[round(y), round(x)] - night.sky
            light[kind].append(excess / math.sqrt(night.sky_variance))
    share = len(light["transient_on_galaxy"]) / sum(map(len, light.values()))
    assert share == pytest.approx(0.3, abs=0.15)
    assert np.median(light["transient_on_galaxy"]) > 5
    assert np.median(light["transient"]) < 1.5


def test_a_galaxy_hosts_one_transient_at_most() -> None:
    config, rng = sky(transients=30, transients_on_galaxies=1.0, galaxies=2), np.random.default_rng(0)
    seen = {"precision": np.full((128, 128), 0.01), "conditions": NIGHT}
    hosts = 0
    for _ in range(20):
        galaxies = draw_galaxies(config, rng)
        hosted = draw_transients(config, rng, galaxies=galaxies, **seen).kind.count("transient_on_galaxy")
        assert hosted <= galaxies.x.size
        hosts += hosted
    assert hosts > 10


# Densities


def test_number_of_transients_is_poisson_with_the_mean_of_the_configuration() -> None:
    config, rng, draws = sky(), np.random.default_rng(0), 1000
    seen = {"precision": np.full((128, 128), 0.01), "galaxies": draw_galaxies(config, rng), "conditions": NIGHT}
    counts = [draw_transients(config, rng, **seen).x.size for _ in range(draws)]
    assert np.mean(counts) == pytest.approx(2.0, abs=4 * math.sqrt(2.0 / draws))
    assert np.var(counts) == pytest.approx(2.0, rel=0.2)


def test_densities_of_artefacts_are_those_of_the_configuration() -> None:
    """Cosmic rays of no length and no diffusion fill one pixel each, as hot pixels do."""
    config, rng, draws = sky(cosmic_ray_length=0.0, cosmic_ray_diffusion=0.0), np.random.default_rng(0), 2000
    counted = {
        3.0: np.mean([np.count_nonzero(draw_cosmic_rays(config, rng)) for _ in range(draws)]),
        1.0: np.mean([np.count_nonzero(draw_hot_pixels(config, rng)) for _ in range(draws)]),
        0.1: np.mean([draw_trail(config, rng, conditions=NIGHT).any() for _ in range(draws)]),
    }
    for expected, mean in counted.items():
        assert mean == pytest.approx(expected, abs=4 * math.sqrt(expected / draws))


@pytest.mark.parametrize("size", [128, 256])
def test_density_of_stars_and_galaxies_scales_with_area(size: int) -> None:
    config, rng = sky(field_size=size), np.random.default_rng(0)
    area = ((size + 2 * MARGIN) / 128) ** 2
    for draw, density in ((draw_stars, config.stars), (draw_galaxies, config.galaxies)):
        counts = [draw(config, rng).x.size for _ in range(100)]
        assert np.mean(counts) == pytest.approx(density * area, abs=4 * math.sqrt(density * area / 100))


def test_star_counts_follow_their_slope() -> None:
    config, rng = sky(stars=2000.0), np.random.default_rng(0)
    flux = draw_stars(config, rng).flux
    faintest, brightest, slope = *config.star_flux, config.star_slope

    def cumulative(values: np.ndarray) -> np.ndarray:
        return (1 - (values / faintest) ** -slope) / (1 - (brightest / faintest) ** -slope)

    assert stats.kstest(flux, cumulative).pvalue > 1e-3
    ratio = (flux > 300 * faintest).sum() / (flux > 3 * faintest).sum()
    assert ratio == pytest.approx(0.1, rel=0.5)


def test_galaxies_keep_their_flux_under_every_psf() -> None:
    config = sky()
    galaxies = draw_galaxies(config, np.random.default_rng(1))
    middle = dataclasses.replace(galaxies, x=np.full_like(galaxies.x, 60.3), y=np.full_like(galaxies.y, 64.8))
    spectrum = galaxy_spectrum(middle, 128)
    for fwhm, shift in ((2.2, (0.0, 0.0)), (4.0, (0.4, -0.3))):
        image = render_galaxies(spectrum, 128, conditions=dataclasses.replace(NIGHT, fwhm=fwhm), shift=shift)
        assert image.sum() == pytest.approx(middle.flux.sum(), rel=2e-3)
        rows, columns = np.indices(image.shape)
        assert (image * columns).sum() / image.sum() == pytest.approx(60.3 + shift[0], abs=0.05)
        assert (image * rows).sum() / image.sum() == pytest.approx(64.8 + shift[1], abs=0.05)


def test_a_star_keeps_its_flux_and_its_place() -> None:
    for flux in (300.0, 1e4, 3e6):
        light = np.zeros((128, 128))
        render_stars(light, x=np.array([60.3]), y=np.array([64.8]), flux=np.array([flux]), conditions=NIGHT)
        rows, columns = np.indices(light.shape)
        assert light.sum() == pytest.approx(flux, rel=0.02)
        assert (light * columns).sum() / light.sum() == pytest.approx(60.3, abs=0.01)
        assert (light * rows).sum() / light.sum() == pytest.approx(64.8, abs=0.01)


@pytest.mark.parametrize(
    "kind", [{"galaxies": 0, "stars": 20}, {"galaxies": 20, "stars": 0}], ids=["stars", "galaxies"]
)
def test_the_reference_is_shifted_as_stated(kind: dict[str, float]) -> None:
    """To first order science minus reference is the shift times the gradient of the image."""
    same = {"science_seeing": [4.0, 4.0], "reference_seeing": [4.0, 4.0], "moffat_beta": [3.5, 3.5]}
    quiet = {"variable_fraction": 0.0, "full_well": 1e9, "star_flux": [3e4, 1e5], "galaxy_flux": [3e4, 1e5]}
    for field in fields(sky(**EMPTY | same | quiet | kind), 3):
        difference = (field.science - field.reference).astype(float)
        slopes = [gradient.ravel() for gradient in np.gradient(field.science + field.reference, axis=(1, 0))]
        measured = np.linalg.lstsq(np.stack(slopes, axis=1), 2 * (difference - np.median(difference)).ravel())[0]
        np.testing.assert_allclose(measured, field.nights.shift, atol=0.03)


# Artefacts


@pytest.mark.parametrize(
    ("mask", "knob"),
    [("cosmic_ray", {"cosmic_rays": 0}), ("hot_pixel", {"hot_pixels": 0}), ("trail", {"trail_probability": 0})],
)
def test_artefact_masks_mark_the_pixels_that_changed_and_no_others(mask: str, knob: dict[str, float]) -> None:
    config = sky(transients=0, cosmic_rays=10, hot_pixels=10, trail_probability=1, trail_brightness=[2000, 5000])
    for index in range(3):
        field = simulate_field(config, split="train", index=index)
        without = simulate_field(dataclasses.replace(config, **knob), split="train", index=index)
        added = field.science - without.science
        marked = field.masks[mask]
        night = field.nights.science
        floor, slack = 0.5 * math.sqrt(night.sky_variance), night.gain
        slack += 5 * math.sqrt(floor) if mask == "trail" else 0  # its photons are noisy
        assert marked.any()
        assert added[marked & field.valid].min() > floor - slack
        assert np.abs(added[~marked & field.valid]).max() < floor + slack


def test_overlapping_artefacts_stay_in_their_own_masks() -> None:
    field = simulate_field(sky(cosmic_rays=100, transients=50, trail_probability=1), split="train", index=0)
    names = ("transient", "cosmic_ray", "trail")
    assert all((field.masks[a] & field.masks[b]).any() for a in names for b in names)
    alone = simulate_field(sky(cosmic_rays=100, transients=0, trail_probability=0), split="train", index=0)
    np.testing.assert_array_equal(alone.masks["cosmic_ray"], field.masks["cosmic_ray"])


def test_a_trail_is_as_wide_as_the_psf_and_keeps_its_light() -> None:
    """For a straight line of B electrons per pixel, sums along rows and columns R and C obey (B/R)² + (B/C)² = 1."""
    config = sky(field_size=256, trail_probability=1, trail_brightness=[1000, 1000])
    trails = [draw_trail(config, np.random.default_rng(seed), conditions=NIGHT) for seed in range(20)]
    longest = max(trails, key=np.sum)
    across, along = np.median(longest.sum(axis=1)), longest.sum(axis=0).max()
    assert (1000 / across) ** 2 + (1000 / along) ** 2 == pytest.approx(1.0, abs=0.03)
    above_half = (longest > longest.max() / 2).sum() / (longest.sum() / 1000)
    assert above_half == pytest.approx(3.27, abs=0.05)  # (1 + (r/alpha)²)**-3 is 1/2 there


def test_cosmic_rays_are_sharper_than_the_psf() -> None:
    config = sky(**EMPTY | {"cosmic_rays": 4, "cosmic_ray_length": 0.0, "science_seeing": [4.0, 4.0]})
    for field in fields(config, 5):
        assert 0 < field.masks["cosmic_ray"].sum() < 9 * 12


# Saturation


def test_charge_bleeds_up_and_down_its_column_worked_by_hand() -> None:
    charge = np.zeros((7, 3))
    charge[3, 1] = 50.0
    charge[1, 1] = 4.0
    np.testing.assert_array_equal(bleed(charge, full_well=10.0)[:, 1], [4, 10, 10, 10, 10, 10, 0])
    np.testing.assert_array_equal(bleed(charge, full_well=10.0)[:, [0, 2]], 0.0)


def test_charge_that_reaches_the_edge_of_the_detector_is_lost() -> None:
    charge = np.zeros((5, 1))
    charge[0] = 36.0
    for upwards in (slice(None), slice(None, None, -1)):
        np.testing.assert_array_equal(bleed(charge[upwards], full_well=10.0)[upwards, 0], [10, 10, 3, 0, 0])


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), peak=st.floats(0, 80))
def test_bleeding_keeps_charge_and_never_overfills(seed: int, peak: float) -> None:
    rng = np.random.default_rng(seed)
    charge = rng.uniform(0, 8, (60, 4))
    charge[rng.integers(20, 40, 2), 2] += peak
    held = bleed(charge, full_well=10.0)
    assert held.max() <= 10.0
    np.testing.assert_allclose(held.sum(axis=0), charge.sum(axis=0))
    assert (held[charge <= 10] >= charge[charge <= 10] - 1e-9).all()


def test_saturated_pixels_are_invalid_and_no_transient_is_centred_there() -> None:
    config = sky(star_flux=[1e5, 2e7], stars=10, transients=30, **NO_ARTEFACTS)
    for field in fields(config, 5):
        np.testing.assert_array_equal(field.masks["saturated"], ~field.valid)
        assert field.masks["saturated"].sum() > 50
        overfull = field.science > config.full_well + 6 * field.nights.science.read_noise + field.nights.science.gain
        assert not overfull.any()
        columns, rows = np.rint(field.sources.x).astype(int), np.rint(field.sources.y).astype(int)
        assert field.valid[rows, columns].mean() > 0.99


@pytest.mark.parametrize("sharper", ["science", "reference"])
def test_saturation_of_either_frame_makes_a_pixel_invalid(sharper: str) -> None:
    seeing = {f"{name}_seeing": [2.2, 2.2] if name == sharper else [5.0, 5.0] for name in ("science", "reference")}
    full_and_valid = []
    for field in fields(sky(star_flux=[1e5, 2e6], stars=20, transients=0, **NO_ARTEFACTS | seeing), 3):
        full = getattr(field, sharper) > 60000 - 4 * getattr(field.nights, sharper).read_noise
        full_and_valid.extend(field.valid[full])
    assert len(full_and_valid) > 60
    assert np.mean(full_and_valid) < 0.05


# Residues


def test_residue_needs_misregistration_or_change() -> None:
    steady = {"registration_rms": 0.0, "moffat_beta": [3.5, 3.5], "variable_fraction": 0.0, "star_flux": [300.0, 1e5]}
    still, shifted, varied = (
        np.mean([field.masks["residue"].mean() for field in fields(sky(**NO_ARTEFACTS | steady | change), 6)])
        for change in ({}, {"registration_rms": 0.3}, {"variable_fraction": 1.0, "variable_magnitudes": 0.5})
    )
    assert still < 1e-5
    assert shifted > 3e-4
    assert varied > 1e-3


def test_transients_are_no_residue() -> None:
    field, without = (simulate_field(sky(transients=number), split="train", index=0) for number in (20, 0))
    np.testing.assert_array_equal(field.masks["residue"], without.masks["residue"])


# Configuration


@pytest.mark.parametrize(
    ("knob", "value", "rule"),
    [
        ("moffat_beta", [1.0, 3.0], "1.5 <= low"),
        ("sky_level", [500.0, 200.0], "low <= high"),
        ("galaxy_axis_ratio", [0.5, 1.5], "at most 1"),
        ("full_well", 800.0, "twice the brightest sky"),
        ("star_slope", 0.0, "positive"),
        ("variable_fraction", 1.1, r"in \[0, 1\]"),
        ("stars", -1.0, "at least 0"),
        ("reference_exposures", 0, "at least 1"),
        ("sky_seed", -1, "at least 0"),
    ],
)
def test_an_impossible_sky_is_refused(knob: str, value: object, rule: str) -> None:
    with pytest.raises(ConfigError, match=f"data.{knob} must be .*{rule}"):
        SimulatedData(**{knob: value})
