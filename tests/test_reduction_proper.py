"""Claims about proper subtraction: white noise, a score that is calibrated and as deep as theory allows."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from astropy.nddata import CCDData
from scipy import ndimage

from astrid.config import DataError
from astrid.data.background import subtract_background
from astrid.data.difference import background_sigma
from astrid.data.frames import read_image
from astrid.data.psf import moffat, psf_stamp
from astrid.data.reduction.align import align
from astrid.data.reduction.proper import Epoch, ProperDifference, fit_flux_ratio, measured_score, subtract_properly
from astrid.data.reduction.resample import resample
from astrid.data.reduction.star_psf import measure_psf

EDGE = 1024
EVERYWHERE = np.ones((EDGE, EDGE), bool)
SEEING = {"science": (2.6, 3.5), "reference": (3.6, 3.0)}
SIGMA = {"science": 10.0, "reference": 6.0}


def star_psf(fwhm: float, beta: float, radius: int = 60) -> np.ndarray:
    grid = np.arange(-radius, radius + 1.0)
    return moffat(grid[:, None] ** 2 + grid**2, fwhm=fwhm, beta=beta)


def epochs(
    seed: int, *, stars: int = 0, offset_pixels: float = 0.0, brightest: float = 3e5, scale: float = 1.0
) -> tuple[Epoch, Epoch]:
    """Draw one sky in two nights, electrons; in the reference, all stars are off by `offset_pixels` along x."""
    rng = np.random.default_rng(seed)
    places, fluxes = rng.uniform(0, EDGE, (stars, 2)), 10 ** rng.uniform(3, math.log10(brightest), stars)
    pair = []
    for name, offset in (("science", 0.0), ("reference", offset_pixels)):
        fwhm, beta = SEEING[name]
        light = np.zeros((EDGE, EDGE))
        for (x, y), flux in zip(places, fluxes, strict=True):
            where, share = psf_stamp(light.shape, x=x + offset, y=y, radius=60, fwhm=fwhm, beta=beta)
            light[where] += flux * share
        variance = light + SIGMA[name] ** 2
        image = light + rng.standard_normal(light.shape) * np.sqrt(variance)
        factor = scale if name == "science" else 1.0
        pair.append(
            Epoch(
                np.float32(factor * image), star_psf(fwhm, beta), factor * SIGMA[name], np.float32(factor**2 * variance)
            )
        )
    return pair[0], pair[1]


@pytest.fixture(scope="module")
def empty_fields() -> list[ProperDifference]:
    """Four megapixels of sky."""
    return [subtract_properly(*epochs(seed), valid=EVERYWHERE) for seed in range(4)]


def test_the_difference_has_white_noise_of_unit_variance(empty_fields: list[ProperDifference]) -> None:
    noise = np.array([field.difference for field in empty_fields])
    assert noise.var() == pytest.approx(1, abs=0.02)
    for dy, dx in ((0, 1), (1, 0), (1, 1), (0, 2), (2, 0), (0, 5)):
        height, width = EDGE - dy, EDGE - dx
        assert abs(np.mean(noise[:, dy:, dx:] * noise[:, :height, :width])) < 0.005
    power = np.mean([np.abs(np.fft.rfft2(field)) ** 2 for field in noise], axis=0) / EDGE**2
    blocks = power[: EDGE // 8 * 8, : EDGE // 2].reshape(8, EDGE // 8, 8, EDGE // 16).mean(axis=(1, 3))
    np.testing.assert_allclose(blocks, 1, atol=0.04)


def test_the_score_has_unit_variance(empty_fields: list[ProperDifference]) -> None:
    for name in ("score", "corrected_score"):
        assert np.var([getattr(field, name) for field in empty_fields]) == pytest.approx(1, abs=0.02)


def test_transients_reach_the_signal_to_noise_of_theory() -> None:
    science, reference = epochs(9)
    image, places = science.image.copy(), [(x, y) for x in range(40, 1000, 65) for y in range(40, 1000, 65)]
    theory = theoretical_snr(science, reference, flux=700.0)
    for x, y in places:
        where, share = psf_stamp(image.shape, x=x, y=y, radius=30, fwhm=SEEING["science"][0], beta=SEEING["science"][1])
        image[where] += np.float32(700.0 * share)
    found = subtract_properly(science._replace(image=image), reference, valid=EVERYWHERE)
    for score in (found.score, found.corrected_score):
        at_sources = [score[y, x] for x, y in places]
        assert np.mean(at_sources) >= 0.95 * theory
        assert np.std(at_sources) == pytest.approx(1, abs=0.15)
    assert 700.0 / found.flux_sigma == pytest.approx(theory, rel=1e-3)


def theoretical_snr(science: Epoch, reference: Epoch, *, flux: float) -> float:
    """Integrate the squared signal over the noise of each frequency, in double precision on a grid of its own."""
    p_n, p_r = (np.abs(np.fft.fft2(epoch.psf / epoch.psf.sum(), (512, 512))) ** 2 for epoch in (science, reference))
    share = p_n * p_r / (science.sigma**2 * p_r + reference.sigma**2 * p_n)
    return flux * math.sqrt(share.mean())


@pytest.mark.parametrize("offset_pixels", [0.0, 0.25])
def test_static_stars_leave_the_corrected_score_calibrated(offset_pixels: float) -> None:
    found = [
        subtract_properly(
            *epochs(seed, stars=300, offset_pixels=offset_pixels),
            valid=EVERYWHERE,
            registration_rms=(offset_pixels, 0.0),
        )
        for seed in range(2)
    ]
    assert np.var([field.corrected_score for field in found]) == pytest.approx(1, abs=0.1)
    assert np.var([field.score for field in found]) > 1.5


def test_the_psf_of_the_difference_is_that_of_its_sources(empty_fields: list[ProperDifference]) -> None:
    science, reference = epochs(0)
    source = np.zeros((EDGE, EDGE), np.float32)
    source[452:573, 452:573] = 1e5 * science.psf
    found = subtract_properly(science._replace(image=source), reference._replace(image=0 * source), valid=EVERYWHERE)
    expected = 1e5 * found.zero_point * found.psf
    np.testing.assert_allclose(found.difference[452:573, 452:573], expected, atol=2e-3 * expected.max())


def test_values_under_the_mask_change_no_bit() -> None:
    science, reference = epochs(1, stars=20)
    valid = EVERYWHERE.copy()
    valid[100:140, 200:230] = False
    first = subtract_properly(science, reference, valid=valid)
    ruined = [epoch._replace(image=np.where(valid, epoch.image, np.float32(np.nan))) for epoch in (science, reference)]
    again = subtract_properly(ruined[0], ruined[1], valid=valid)
    for name in ("difference", "score", "corrected_score"):
        assert getattr(again, name).tobytes() == getattr(first, name).tobytes()
        assert not getattr(first, name)[~valid].any() and np.isfinite(getattr(first, name)).all()


@pytest.mark.parametrize("saturation", [1e4, 4e4])
def test_nothing_is_found_beside_saturated_stars_and_at_the_edges(saturation: float) -> None:
    science, reference = epochs(0, stars=60, brightest=1e7)
    valid = ~ndimage.binary_dilation(np.maximum(science.image, reference.image) > saturation)
    found = subtract_properly(science, reference, valid=valid)
    assert np.abs(found.score).max() > 500  # without the errors of what is hidden and of what lies beyond the edge
    assert np.abs(found.corrected_score).max() < 6.5


def test_a_transient_away_from_a_saturated_star_keeps_its_significance() -> None:
    science, reference = epochs(0, stars=60, brightest=1e7)
    holes = ndimage.binary_dilation(np.maximum(science.image, reference.image) > 1e4)
    away = ~ndimage.binary_dilation(holes, iterations=60)
    found = subtract_properly(science, reference, valid=~holes)
    faint = away & (np.abs(found.score) < 1)
    assert found.score[faint].std() == pytest.approx(found.corrected_score[faint].std(), rel=0.05)


def test_stars_holes_and_edges_do_not_count_for_the_scatter_of_the_score() -> None:
    science, reference = epochs(0, stars=200, brightest=1e7)
    valid = ~ndimage.binary_dilation(np.maximum(science.image, reference.image) > 1e4)
    found = subtract_properly(science, reference, valid=valid)
    score, scatter = measured_score(found, valid=valid)
    sky = valid & (np.abs(found.score) < 1.02 * np.abs(found.corrected_score))
    assert sky.mean() < 0.9  # stars, holes and edges are a tenth
    assert score[sky].std() == pytest.approx(1, abs=0.01)
    np.testing.assert_allclose(score * scatter, found.corrected_score, rtol=1e-5)


def test_an_epoch_on_another_flux_scale_gives_the_same_scores() -> None:
    science, reference = epochs(3, stars=100)
    assert reference.variance is not None
    halved = Epoch(reference.image / 2, reference.psf, reference.sigma / 2, reference.variance / 4)
    ours = subtract_properly(science, halved.scaled(2.0), valid=EVERYWHERE)
    theirs = subtract_properly(science, reference, valid=EVERYWHERE)
    for name in ("difference", "score", "corrected_score"):
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("scale", [0.4, 2.5])
def test_the_flux_ratio_is_found(scale: float) -> None:
    assert fit_flux_ratio(*epochs(2, stars=100, scale=scale), valid=EVERYWHERE) == pytest.approx(scale, rel=0.01)


def test_frames_without_stars_have_no_flux_ratio() -> None:
    with pytest.raises(DataError, match="a star must stand out by 30 sigma"):
        fit_flux_ratio(*epochs(2), valid=EVERYWHERE)


def test_impossible_epochs_are_refused_by_name() -> None:
    science, reference = epochs(0)
    with pytest.raises(DataError, match="the noise of the reference must be positive, got 0"):
        subtract_properly(science, reference._replace(sigma=0.0), valid=EVERYWHERE)
    with pytest.raises(DataError, match="the PSF of the science must be square with an odd edge"):
        subtract_properly(science._replace(psf=np.ones((4, 4))), reference, valid=EVERYWHERE)


def test_a_psf_is_measured_from_stars() -> None:
    science, _ = epochs(3, stars=150)
    psf = measure_psf(science.image, EVERYWHERE, fwhm_pixels=3.0)
    truth = star_psf(*SEEING["science"], radius=psf.shape[0] // 2)
    assert psf.sum() == pytest.approx(1)
    np.testing.assert_allclose(psf, truth / truth.sum(), atol=0.03 * truth.max())


def test_too_few_stars_make_no_psf() -> None:
    with pytest.raises(DataError, match=r"at least 3 lonely, clean stars .* got 0"):
        measure_psf(epochs(3)[0].image, EVERYWHERE, fwhm_pixels=3.0)


def test_real_stacks_agree_with_their_sfft_difference(sample_data: Path) -> None:
    """Two stacks half a pixel apart; SFFT's kernel took up the shift, ours is found from the stars."""
    folder = sample_data / "decam_sfft_stack"
    if not folder.is_dir():
        pytest.skip(f"{folder} is needed")
    names = ("Stack-DEC-OBS04", "Stack-DEC-OBS18", "FinalDifference", "FinalDifference.DeCorr")
    new, old, sfft, decorrelated = (np.float32(read_image(folder / f"{name}.fits.gz").data) for name in names)
    found, valid = difference_of_stacks(new, old)
    faint, bright = valid & (new < 100), valid & (new >= 100)
    for published in (sfft, decorrelated):
        assert np.corrcoef(found[faint], published[faint])[0, 1] > 0.9
    assert residual(found, bright, valid) < residual(sfft, bright, valid)


def difference_of_stacks(new: np.ndarray, old: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    everywhere = np.ones(new.shape, bool)
    new, old = (subtract_background(stack, everywhere, box=128) for stack in (new, old))
    mapping = align(new, old, target_valid=everywhere, source_valid=everywhere)
    moved = resample(CCDData(old, mask=~everywhere, unit=""), mapping, shape=new.shape)
    valid = ~moved.mask
    pair = [
        Epoch(stack, measure_psf(stack, valid, fwhm_pixels=5.0), background_sigma(stack, valid).sigma)
        for stack in (new, moved.data)
    ]
    ratio = fit_flux_ratio(*pair, valid=valid)
    assert ratio == pytest.approx(1.033, abs=0.03)  # the sum of SFFT's matching kernel
    return subtract_properly(pair[0], pair[1].scaled(ratio), valid=valid).difference, valid


def residual(difference: np.ndarray, bright: np.ndarray, valid: np.ndarray) -> float:
    return float(difference[bright].std()) / background_sigma(difference, valid).sigma
