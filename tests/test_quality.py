"""Claims about the measures of an exposure: what is planted is found, and what cannot be measured is absent."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starfields import Starfield

from astrid.config import ConfigError, LimitsConfig, PreprocessConfig, QualityConfig
from astrid.config.compose import load
from astrid.data import keywords
from astrid.data.listing import headers as listing
from astrid.data.quality import MEASURES, Assessment, explain, judge
from astrid.data.quality.astrometry import PARTNERS, partners, residuals, tangent_plane
from astrid.data.quality.header import Facts, read_facts
from astrid.data.quality.measures import noise_ratio, saturation_level, sky_shape
from astrid.data.quality.score import grade
from astrid.data.quality.stars import adaptive_moments
from astrid.data.reduction.told import read_out


@pytest.mark.parametrize("fwhm", [2.2, 3.0, 4.5, 8.0])
@pytest.mark.parametrize("ellipticity", [0.0, 0.3])
def test_width_and_ellipticity_of_the_stars_are_found(fwhm: float, ellipticity: float) -> None:
    found = Starfield(fwhm=fwhm, ellipticity=ellipticity, shape=(512, 512), brightest=1e5).assessed()
    assert found.values["fwhm_pixels"] == pytest.approx(fwhm, rel=0.03 if fwhm > 2.2 else 0.05)
    assert found.values["ellipticity"] == pytest.approx(ellipticity, abs=0.03)
    assert found.values["stars"] >= 10


def test_galaxies_and_cosmic_rays_do_not_pass_for_stars() -> None:
    sky = Starfield(stars=12)
    image = sky.image()
    rng = np.random.default_rng(3)
    wide = dataclasses.replace(sky, fwhm=9.0)
    y, x = np.mgrid[: sky.shape[0], : sky.shape[1]].astype(float)
    for x0, y0 in rng.uniform(30, 350, (6, 2)):
        image += (4e4 * wide.profile(x - x0, y - y0)).astype(np.float32)
    rows, columns = rng.integers(10, 370, (2, 30))
    image[rows, columns] += 2000
    found = sky.assessed(image=image)
    assert found.values["fwhm_pixels"] == pytest.approx(3.0, rel=0.05)


@pytest.mark.parametrize("sky", [20.0, 400.0, 10_000.0])
def test_the_noise_is_found_and_is_that_of_photons_and_readout(sky: float) -> None:
    field = Starfield(sky=sky, gradient=0.2 * sky)
    found = field.assessed()
    middle = dataclasses.replace(field, sky=1.1 * sky)
    assert found.values["noise"] == pytest.approx(middle.noise, rel=0.02)
    assert found.values["noise_ratio"] == pytest.approx(1, abs=0.03)
    assert found.values["background"] == pytest.approx(1.1 * sky, rel=0.01)


@pytest.mark.parametrize("unit", ["ELECTRONS/S", "electron / s", "e-/s", "electron s-1", "adu/s", "COUNTS/SEC", "cps"])
def test_the_noise_of_a_rate_is_that_of_what_its_seconds_collect(unit: str) -> None:
    field = Starfield()
    per_unit = 1000.0 / (field.gain if unit.lower().startswith("e") else 1.0)
    rate = field.image() / np.float32(per_unit)
    header = {"BUNIT": unit, "EXPTIME": 1000.0, "GAIN": field.gain, "RDNOISE": field.read_noise}
    found = field.assessed(image=rate, facts=read_facts(header, rate, QualityConfig(), path=Path("a.fits")))
    assert found.values["noise_ratio"] == pytest.approx(1, abs=0.03)


def test_a_rate_of_unknown_duration_says_that_it_is_one() -> None:
    rate = Starfield().image()
    facts = read_facts({"BUNIT": "ELECTRONS/S", "RDNOISE": 5.0}, rate, QualityConfig(), path=Path("a.fits"))
    found = Starfield().assessed(image=rate, facts=facts)
    assert "the exposure time of a rate (BUNIT electrons/s) must be known" in found.absent["noise_ratio"]
    assert "noise_ratio" not in found.values


@pytest.mark.parametrize(("unit", "gain"), [("electrons", 1.0), ("e-", 1.0), ("e", 1.0), ("adu", 2.0), ("erg", 2.0)])
def test_electrons_have_a_gain_of_1(unit: str, gain: float) -> None:
    header = {"BUNIT": unit, "GAIN": 2.0, "EXPTIME": 30.0}
    assert read_facts(header, np.ones((30, 30)), QualityConfig(), path=Path("a.fits")).gain == gain


def test_noise_that_photons_do_not_explain_shows_in_the_ratio() -> None:
    field = Starfield()
    image = field.image() + np.random.default_rng(5).normal(0, 2 * field.noise, field.shape)
    assert field.assessed(image=image).values["noise_ratio"] == pytest.approx(np.sqrt(5), rel=0.03)


@pytest.mark.parametrize("gradient", [0.0, 50.0, 400.0])
@pytest.mark.parametrize("shape", [(100, 120), (384, 384)])
def test_the_gradient_of_the_sky_is_found(gradient: float, shape: tuple[int, int]) -> None:
    field = Starfield(gradient=gradient, shape=shape, stars=10)
    found = field.assessed()
    assert found.values["background_gradient"] == pytest.approx(gradient / found.values["noise"], rel=0.1, abs=0.35)
    assert found.values["flatness"] < 0.3


def test_structure_beside_the_gradient_is_told_by_flatness() -> None:
    field = Starfield(stars=10)
    x = np.arange(field.shape[1]) / field.shape[1]
    bowl = 5 * field.noise * np.cos(2 * np.pi * x)
    found = field.assessed(image=(field.image() + bowl).astype(np.float32))
    assert found.values["flatness"] == pytest.approx(5 / np.sqrt(2), rel=0.15)


def test_flatness_counts_the_cells_that_a_plane_leaves_free() -> None:
    image = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    image += np.kron([[5, -5], [-5, 5]], np.ones((32, 32)))
    _, flatness = sky_shape(image, np.ones((64, 64), dtype=bool), noise=1.0)
    assert flatness == pytest.approx(np.sqrt(4 * 5**2 / (4 - 3)), rel=0.05)


@pytest.mark.parametrize(("fwhm", "ellipticity"), [(2.5, 0.0), (4.0, 0.3)])
def test_a_source_at_the_depth_has_five_sigma(fwhm: float, ellipticity: float) -> None:
    field = Starfield(fwhm=fwhm, ellipticity=ellipticity, brightest=1e5)
    flux = field.assessed().values["depth"]
    offsets = np.arange(-25.0, 26)
    profile = field.profile(*np.meshgrid(offsets, offsets))
    blank = dataclasses.replace(field, stars=0, shape=(51, 51))
    fluxes = []
    for seed in range(300):
        image = dataclasses.replace(blank, seed=seed).image(extra=[(25.0, 25.0, flux)]) - field.sky
        fluxes.append((image * profile).sum() / (profile**2).sum())  # the matched filter, at the place of the source
    assert np.mean(fluxes) == pytest.approx(flux, rel=0.05)
    assert np.mean(fluxes) / np.std(fluxes) == pytest.approx(5, rel=0.12)


def test_the_limiting_magnitude_is_that_of_the_depth() -> None:
    found = Starfield().assessed()
    assert found.values["limiting_magnitude"] == 25.0 - 2.5 * np.log10(found.values["depth"])


def test_saturated_and_bad_pixels_are_counted() -> None:
    field = Starfield()
    image, valid = field.image(), np.ones(field.shape, dtype=bool)
    image[100:110, 200:220] = 60_000
    image[:4, :], valid[-2:, :] = np.nan, False
    facts = dataclasses.replace(field.facts, saturation=50_000.0)
    found = field.assessed(image=image, valid=valid, facts=facts)
    assert found.values["saturated_fraction"] == 200 / image.size
    assert found.values["bad_fraction"] == pytest.approx(6 / field.shape[0])


def test_saturation_is_known_where_values_pile_up() -> None:
    image = Starfield().image()
    clipped = np.minimum(image, 1500)
    clipped[7, 9], clipped[8, 9] = 99_999, np.inf
    valid = clipped <= 1500
    assert saturation_level(clipped, valid, facts=Facts(), level=400, noise=15) == 1500
    found = Starfield().assessed(image=image, facts=dataclasses.replace(Starfield().facts, saturation=None))
    assert "data.quality.saturation" in found.absent["saturated_fraction"]


def test_cosmic_rays_are_counted_and_stars_are_not() -> None:
    field = Starfield(fwhm=3.0)
    clean = field.assessed().values["cosmic_ray_fraction"]
    image = field.image()
    rng = np.random.default_rng(7)
    for x, y in rng.integers(10, 370, (40, 2)):
        image[y, x : x + 5] += 1500
    found = field.assessed(image=image).values["cosmic_ray_fraction"]
    assert clean < 2e-4
    assert found - clean == pytest.approx(200 / image.size, rel=0.25)


def test_without_a_gain_no_light_is_taken_for_noise_that_hides_hits() -> None:
    field = Starfield(gain=400.0, stars=20)  # 1 electron per count would make the sky's noise three times as large
    image = field.image()
    for x, y in np.random.default_rng(7).integers(10, 370, (40, 2)):
        image[y, x : x + 5] += 7 * field.noise
    told, untold = (
        field.assessed(image=image, facts=dataclasses.replace(field.facts, gain=gain)).values["cosmic_ray_fraction"]
        for gain in (400.0, None)
    )
    assert told > 180 / image.size
    assert untold == pytest.approx(told, rel=0.05)


def test_sources_are_counted() -> None:
    found = Starfield(stars=25, brightest=1e5, shape=(512, 512)).assessed()
    assert 22 <= found.values["sources"] <= 28
    assert Starfield(stars=0).assessed().values["sources"] <= 2


def test_what_is_unknown_is_absent_with_what_to_give() -> None:
    found = Starfield().assessed(facts=Facts())
    assert "data.quality.gain" in found.absent["noise_ratio"]
    assert "data.quality.zero_point" in found.absent["limiting_magnitude"]
    assert found.absent["fwhm_arcsec"] == "no celestial coordinates"
    assert set(found.values).isdisjoint(found.absent) and set(found.values) | set(found.absent) == set(MEASURES)


@pytest.mark.parametrize("kind", ["bias", "dark", "flat", "mask", "noise", "kernel"])
def test_calibration_frames_and_planes_have_no_stars(kind: str) -> None:
    found = Starfield().assessed(facts=dataclasses.replace(Starfield().facts, kind=kind))
    assert "fwhm_pixels" not in found.values and "sources" not in found.values
    assert ("noise" in found.values) == (kind in ("bias", "dark", "flat"))
    assert (judge(found, QualityConfig()).score is None) == (kind in ("mask", "noise", "kernel"))


@pytest.mark.parametrize(("kind", "is_good"), [("flat", True), ("science", False)])
def test_a_flat_is_not_blamed_for_the_response_that_it_shows(kind: str, is_good: bool) -> None:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:384, :384] / 384
    response = (1 - 0.3 * ((x - 0.3) ** 2 + (y - 0.5) ** 2)) * rng.normal(1, 0.01, (384, 384))
    image = rng.poisson(60_000 * response).astype(np.float32)
    facts = Facts(kind=kind, gain=1.0, read_noise=6.0, pedestal=0.0, saturation=1e6)
    verdict = judge(Starfield().assessed(image=image, facts=facts), QualityConfig())
    assert (verdict.score == 1) == is_good
    assert (verdict.grades.keys() == {"bad_fraction", "saturated_fraction"}) == is_good


def test_a_saturated_flat_is_bad() -> None:
    image = np.full((384, 384), 65_535, dtype=np.float32)
    image[:100] = np.random.default_rng(0).normal(60_000, 250, (100, 384))
    facts = Facts(kind="flat", gain=1.0, read_noise=6.0, pedestal=0.0, saturation=65_535.0)
    assert not judge(Starfield().assessed(image=image, facts=facts), QualityConfig()).passed


def test_the_noise_of_a_subtracted_sky_is_not_held_against_it() -> None:
    field = Starfield(sky=10_000.0)
    found = field.assessed(image=field.image() - 10_000)
    assert "subtracted" in found.absent["noise_ratio"] and "noise" in found.values


def test_a_dark_sky_of_readout_noise_is_no_subtracted_one() -> None:
    assert Starfield(sky=0.5, read_noise=8.0).assessed().values["noise_ratio"] == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("value", [0.0, 7.0, np.nan])
def test_a_blank_exposure_has_no_quality(value: float) -> None:
    image = np.full((200, 200), value, dtype=np.float32)
    found = Starfield().assessed(image=image, valid=np.isfinite(image))
    verdict = judge(found, QualityConfig())
    assert verdict.score == 0 and not verdict.passed and found.absent["noise"]


@pytest.mark.parametrize(("edge", "remarks"), [(0, 0), (1, 0), (20, 1)])
def test_a_border_that_was_filled_in_is_remarked_on(edge: int, remarks: int) -> None:
    field = Starfield(sky=1000.0)
    image = field.image()
    image[:, :edge] = 0.0
    found = field.assessed(image=image)
    assert len(found.remarks) == remarks
    assert all(
        "of its good pixels are 0, far below the sky: where they are blank, mask" in one for one in found.remarks
    )


def test_a_sky_that_is_cut_off_below_is_no_border() -> None:
    image = Starfield(sky=1000.0).image()
    found = Starfield(sky=1000.0).assessed(image=np.maximum(image, np.percentile(image, 5)))
    assert found.remarks == []


def test_a_bias_without_noise_is_not_blamed_for_it() -> None:
    found = Assessment("a", Facts(kind="bias"), (9, 9), values={"background": 1.0}, absent={"noise": "got none"})
    assert explain(found, judge(found, QualityConfig())) == ""


@pytest.mark.parametrize("kind", ["bias", "dark", "science"])
def test_an_exposure_of_a_single_value_was_never_read_out(kind: str) -> None:
    blank = np.zeros((200, 200), dtype=np.float32)
    found = Starfield().assessed(image=blank, valid=np.ones_like(blank, dtype=bool), facts=Facts(kind=kind))
    verdict = judge(found, QualityConfig())
    assert verdict.score == 0 and "0 in every good pixel" in explain(found, verdict)


HEADER = {"GAINA": 3.0, "GAINB": 5.0, "RDNOISE": 6.5, "SATURATE": 4e4, "MAGZERO": 29.9, "BIASSEC": "[1:2,1:4]"}


def test_a_header_tells_gain_noise_saturation_zero_point_and_pedestal() -> None:
    values = np.full((20, 30), 500.0)
    values[:4, :2] = 300
    facts = read_facts(HEADER, values, QualityConfig(), path=Path("a.fits"))
    assert (facts.gain, facts.read_noise, facts.saturation, facts.zero_point) == (4.0, 6.5, 4e4, 29.9)
    assert facts.pedestal == 300 and facts.kind == "science"


def test_electrons_per_count_come_before_a_setting_that_is_called_gain() -> None:
    header = {"GAIN": 120, "EGAIN": 0.25}
    assert read_facts(header, np.ones((20, 30)), QualityConfig(), path=Path("a.fits")).gain == 0.25
    readout = read_out(header, PreprocessConfig(gain="header", read_noise=1.5, pedestal=0))
    assert readout is not None and readout.gain == 0.25


def test_knobs_come_before_the_header_and_null_leaves_it_unread() -> None:
    config = QualityConfig(gain=1.5, read_noise=None, pedestal=10, saturation=7.0, zero_point=None)
    facts = read_facts(HEADER, np.zeros((20, 30)), config, path=Path("a.fits"))
    assert (facts.gain, facts.read_noise, facts.pedestal, facts.saturation) == (1.5, None, 10.0, 7.0)
    assert facts.zero_point is None


@pytest.mark.parametrize(
    ("cards", "name", "plane", "kind"),
    [
        ({"IMAGETYP": "Bias Frame"}, "a.fits", "", "bias"),
        ({"IMAGETYP": "Dark Frame", "EXPTIME": 1e-32}, "a.fits", "", "bias"),
        ({"IMAGETYP": "Dark Frame", "EXPTIME": 300}, "a.fits", "", "dark"),
        ({"OBSTYPE": "dome flat"}, "a.fits", "", "flat"),
        ({"OBSTYPE": "object"}, "c4d_150411_035242_ood_z.fits", "", "mask"),
        ({"OBSTYPE": "object"}, "c4d_150411_035242_oow_z.fits", "", "noise"),
        ({}, "a.fits", "dq", "mask"),
        ({}, "a.fits", "ERR", "noise"),
        ({"IMAGETYP": 3.5}, "a.fits", "SCI", "science"),
        ({"IMAGETYP": "unbiased object"}, "a.fits", "", "science"),
        ({"ESO DPR TYPE": "FLAT,LAMP"}, "a.fits", "", "flat"),
        ({"IMAGETYPE": "dark", "EXPTIME": 9}, "a.fits", "", "dark"),
        ({"FRAMETYP": "Offset"}, "a.fits", "", "bias"),
        ({"OBSTYPE": "comp"}, "a.fits", "", "other"),
        ({"IMAGETYP": "Light Frame"}, "flat_0.fits", "", "flat"),
        ({"IMAGETYP": "Light Frame"}, "darkcloud.fits", "", "science"),
    ],
)
def test_the_kind_of_an_image_is_told(cards: dict[str, object], name: str, plane: str, kind: str) -> None:
    assert read_facts(cards, np.ones((30, 30)), QualityConfig(), path=Path(name), plane=plane).kind == kind


@pytest.mark.parametrize(
    ("cards", "kind"), [({}, "mask"), ({"EXPTIME": 3.0}, "science"), ({"EXPTIME": 0.0, "IMAGETYP": "bias"}, "bias")]
)
def test_a_plane_of_0_and_1_is_a_mask_unless_it_was_exposed(cards: dict[str, object], kind: str) -> None:
    plane = np.zeros((30, 30))
    plane[4:6, 7] = 1
    assert read_facts(cards, plane, QualityConfig(), path=Path("t0.fits")).kind == kind


@pytest.mark.parametrize(
    ("cards", "said"),
    [
        ({"GAIN": -3.0}, "GAIN = -3.0"),
        ({"GAIN": "unknown"}, "GAIN = 'unknown'"),
        ({"RDNOISE": 0}, "RDNOISE = 0"),
        ({"EXPTIME": -5.0}, "EXPTIME = -5.0"),
        ({"EXPTIME": "120.0 s"}, "EXPTIME = '120.0 s'"),
        ({"EXPTIME": "NaN"}, "EXPTIME = 'NaN'"),
        ({"SATURATE": -1}, "SATURATE = -1"),
        ({"SATURATE": 0}, "SATURATE = 0"),
        ({"BIASSEC": "[25:40,1:30]"}, "BIASSEC = '[25:40,1:30]'"),
        ({"BIASSEC": "the left"}, "a section [x1:x2,y1:y2] with values in its 30x30 pixels"),
    ],
)
def test_what_a_header_cannot_mean_is_told(
    cards: dict[str, object], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    facts = read_facts(cards, np.ones((30, 30)), QualityConfig(), path=Path("odd.fits"))
    assert (facts.gain, facts.read_noise, facts.seconds) == (None, None, None)
    assert (facts.saturation, facts.pedestal) == (None, None)
    assert said in caplog.text and "odd.fits" in caplog.text
    caplog.clear()
    fine = {"GAIN": 1.5, "EXPTIME": 0.0, "SATURATE": 6e4, "BIASSEC": "[25:30,1:30]"}
    read_facts(fine, np.ones((30, 30)), QualityConfig(), path=Path("fine.fits"))
    given = QualityConfig(gain=2.0, read_noise=3.0, saturation=6e4, pedestal=0.0)
    read_facts(cards | {"EXPTIME": 3.0}, np.ones((30, 30)), given, path=Path("given.fits"))
    assert caplog.text == ""


@pytest.mark.parametrize("keyword", keywords.KIND)
@pytest.mark.parametrize("word", ["bias", "Dark Frame", "FLAT,SKY", "unbiased", "object", "arc"])
def test_manifests_and_quality_agree_on_the_kind(keyword: str, word: str) -> None:
    header = {keyword: word, "EXPTIME": 30.0}
    own = read_facts(header, np.ones((30, 30)), QualityConfig(), path=Path("a.fits")).kind
    assert own == (listing.read_facts(header).kind or "science")


def test_what_has_places_on_the_sky_is_no_flat_whatever_its_name() -> None:
    header = {"IMAGETYP": "Light Frame"}
    facts = read_facts(header, np.ones((30, 30)), QualityConfig(), path=Path("flat_0.fits"), on_sky=True)
    assert facts.kind == "science"


def test_kernels_and_stamps_are_told_by_their_pixels() -> None:
    kernel = np.zeros((21, 21))
    kernel[10, 10] = 0.99
    assert read_facts({}, kernel, QualityConfig(), path=Path("k.fits")).kind == "kernel"
    assert read_facts({}, np.ones((5, 7)), QualityConfig(), path=Path("s.fits")).kind == "stamp"


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_a_grade_falls_from_good_to_useless(value: float, good: float, useless: float) -> None:
    if good == useless:
        return
    own = grade(value, [good, useless])
    assert 0 <= own <= 1
    assert grade(good, [good, useless]) == 1 and grade(useless, [good, useless]) == 0
    worse = value + (useless - good) / 7
    assert grade(worse, [good, useless]) <= own


def test_the_score_is_the_product_of_the_grades_and_names_what_is_wrong() -> None:
    values = {"noise": 1.0, "fwhm_pixels": 8.0, "ellipticity": 0.5, "sources": 10.0}
    config = QualityConfig(limits=LimitsConfig(fwhm_pixels=[4, 12], ellipticity=[0.2, 0.6]))
    verdict = judge(Assessment("a", Facts(), (9, 9), values=values), config)
    assert verdict.score == pytest.approx(0.5 * 0.25)
    assert [flaw.split()[0] for flaw in verdict.flaws] == ["ellipticity", "fwhm_pixels"]
    assert not verdict.passed


@pytest.mark.parametrize("knob", [field.name for field in dataclasses.fields(LimitsConfig)])
def test_every_limit_decides_the_score(knob: str) -> None:
    pair = [22.0, 20.0] if knob == "limiting_magnitude" else getattr(LimitsConfig(), knob)
    found = Assessment("a", Facts(), (9, 9), values={"noise": 1.0, knob: pair[1]})
    assert judge(found, QualityConfig(limits=LimitsConfig(**{knob: pair}))).score == 0
    assert judge(found, QualityConfig(limits=LimitsConfig(**{knob: None}))).score == 1


@pytest.mark.parametrize(
    "override",
    [
        "data.quality.min_score=1.5",
        "data.quality.policy=drop",
        "data.quality.gain=0",
        "data.quality.read_noise=-1",
        "data.quality.limits.fwhm_pixels=[8,4]",
        "data.quality.limits.sources=[0,3]",
        "data.quality.limits.ellipticity=[0.2]",
        "data.quality.limits.flatness=[1,.inf]",
        "data.quality.limits.fhwm_pixels=[1,2]",
    ],
)
def test_a_wrong_knob_is_refused(override: str) -> None:
    with pytest.raises(ConfigError, match=override.partition("=")[0].replace(".", r"\.")):
        load(["data=frames", "data.root=a", "data.manifest=b", override])


def test_the_expected_noise_is_that_of_the_equation_of_ccds() -> None:
    facts = Facts(gain=2.0, read_noise=5.0, pedestal=100.0)
    expected = np.sqrt((600 - 100) * 2 + 25) / 2
    assert noise_ratio(facts, level=600, noise=expected) == pytest.approx(1)


@settings(max_examples=30, deadline=None)
@given(st.floats(1.0, 4.0), st.floats(0.5, 1.0), st.floats(0, np.pi), st.floats(-0.5, 0.5))
def test_moments_of_a_gaussian_are_its_own(sigma: float, ratio: float, angle: float, offset: float) -> None:
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    covariance = turn @ np.diag([sigma**2, (ratio * sigma) ** 2]) @ turn.T
    y, x = np.mgrid[-25:26, -25:26] - offset
    inverse = np.linalg.inv(covariance)
    light = np.exp(-(inverse[0, 0] * x**2 + 2 * inverse[0, 1] * x * y + inverse[1, 1] * y**2) / 2)
    moments = adaptive_moments(light[None], np.full((1, 2), offset), sigma=2.0)
    if ratio * sigma > 1.0:  # sampled well enough
        found = [moments.xx[0], moments.xy[0], moments.yy[0]]
        assert found == pytest.approx([covariance[0, 0], covariance[0, 1], covariance[1, 1]], abs=0.03 * sigma**2)


@given(st.floats(0, 360), st.floats(-89, 89), st.floats(-1e-3, 1e-3), st.floats(-1e-3, 1e-3))
def test_the_tangent_plane_keeps_small_distances(ra: float, dec: float, east: float, north: float) -> None:
    near = np.array([[ra + east / np.cos(np.radians(dec + north)), dec + north]])
    plane = tangent_plane(near, np.array([ra, dec]))
    assert plane[0] == pytest.approx(np.array([east, north]) * 3600, abs=2e-3)


def test_the_exposure_whose_coordinates_are_off_is_told() -> None:
    rng = np.random.default_rng(0)
    here = np.column_stack([rng.uniform(150, 150.05, 20), rng.uniform(2, 2.05, 20)])
    places = [here + rng.normal(0, 0.05 / 3600, here.shape) for _ in range(4)]
    places[2] = places[2] + np.array([4.0, 0]) / 3600
    elsewhere = here + np.array([10.0, 0])
    found = residuals([*places, elsewhere], [1.0] * 5)
    assert found[4] is None
    assert found[2] == pytest.approx(4.0, abs=0.2)
    assert max(found[number] for number in (0, 1, 3)) < 0.2


@pytest.mark.parametrize("count", [4, 60, 400])
def test_each_exposure_is_compared_with_some_others_of_its_place_and_no_more(count: int) -> None:
    rng = np.random.default_rng(1)
    fields = [np.array([150.0, 2.0]), np.array([150.0, -40.0])]
    places = [fields[number % 2] + rng.uniform(-0.02, 0.02, (20, 2)) for number in range(count)]
    pairs = list(partners(places))
    assert pairs == list(partners(places)) and len(set(pairs)) == len(pairs)
    assert all(one < other and one % 2 == other % 2 for one, other in pairs)
    degrees = np.bincount(np.ravel(pairs), minlength=count)
    assert degrees.min() >= min(PARTNERS, count // 2 - 1) and degrees.mean() <= PARTNERS + 1


def test_a_night_of_wrong_coordinates_is_compared_with_the_others_not_with_itself() -> None:
    rng = np.random.default_rng(0)
    here = np.column_stack([rng.uniform(150, 150.05, 20), rng.uniform(2, 2.05, 20)])
    wrong = range(5)
    places = [here + np.array([(4.0 if number in wrong else 0.0) / 3600, 0]) for number in range(24)]
    found = np.array(residuals(places, [1.0] * 24), dtype=float)
    assert found[:5].min() > 3.9 and found[5:].max() < 0.1


def test_a_mosaic_is_compared_with_the_nearest_that_share_its_edges() -> None:
    """Frames that lie half an edge and more apart share no middle."""
    rng = np.random.default_rng(2)
    sky = np.column_stack([rng.uniform(149.9, 150.3, 400), rng.uniform(1.9, 2.1, 400)])
    places = [sky[np.abs(sky - [ra, 2.0]).max(axis=1) < 0.05] for ra in (150.0, 150.06, 150.12, 150.18)]
    assert {(0, 1), (1, 2), (2, 3)} <= set(partners(places))
    assert max(residuals(places, [1.0] * 4)) < 0.01
