"""Claims about registration by stars: shifts are found to a small part of a pixel, and other fields are refused."""

from __future__ import annotations

import cmath
import math
from pathlib import Path

import numpy as np
import pytest
from astropy.nddata import CCDData
from memory import memory_peak
from scipy import ndimage

from astrid.config import DataError
from astrid.data.background import subtract_background
from astrid.data.frames import read_image
from astrid.data.psf import psf_stamp
from astrid.data.reduction.align import _SEARCH_FWHM, Alignment, _common_shift, align, match_stars, measure_stars
from astrid.data.reduction.resample import resample


def sky(alignment: Alignment, *, shape: tuple[int, int] = (400, 400), stars: int = 40, seed: int = 0) -> np.ndarray:
    """Draw a field, whose stars depend on the seed, where the alignment puts it; noise 5, afresh for each alignment."""
    places = np.random.default_rng(seed).uniform(20, 380, (2, stars))
    fluxes = np.random.default_rng(seed).uniform(3e3, 3e4, stars)
    noise = np.random.default_rng(abs(hash((alignment.factor, alignment.shift, seed))) % 2**32)
    image = noise.normal(0, 5, shape)
    for x, y, flux in zip(*alignment(*places), fluxes, strict=True):
        where, light = psf_stamp(shape, x=x, y=y, radius=25, fwhm=3.0, beta=3.5)
        image[where] += flux * light
    return image.astype(np.float32)


def aligned(target: np.ndarray, source: np.ndarray) -> Alignment:
    return align(target, source, target_valid=np.isfinite(target), source_valid=np.isfinite(source))


UNMOVED = Alignment(1, 0, 0, 0.0)


@pytest.mark.parametrize("shift", [0.1 + 0.9j, 0.5 - 0.25j, -17.37 + 8.61j, 60.2 + 0.05j])
def test_a_shift_is_found_to_a_twentieth_of_a_pixel(shift: complex) -> None:
    found = aligned(sky(UNMOVED), sky(Alignment(1, shift, 0, 0.0)))
    here = np.array([100.0, 200, 300])
    x, y = found(here, here)
    assert np.abs(np.array([x - here - shift.real, y - here - shift.imag])).max() < 0.05


@pytest.mark.parametrize("factor", [cmath.exp(0.02j), 1.02 * cmath.exp(1j), 0.7 * cmath.exp(-0.3j)])
def test_turned_and_scaled_frames_match_to_a_tenth_of_a_pixel(factor: complex) -> None:
    middle = 200 + 200j
    truth = Alignment(factor, middle - factor * middle + 5.3 - 2.2j, 0, 0.0)
    target, source = sky(UNMOVED), sky(truth)
    found = aligned(target, source)
    assert found.matches >= 10
    frame = CCDData(source, mask=np.zeros(source.shape, bool), unit="")
    new = resample(frame, found, shape=target.shape)
    here = measure_stars(target, np.isfinite(target), fwhm_pixels=3.0)
    there = measure_stars(new.data, ~new.mask, fwhm_pixels=3.0)
    distances = np.linalg.norm(here[:, None] - there, axis=2).min(axis=1)
    x, y = np.rint(here).astype(int).T
    same = (distances < 0.5) & ~ndimage.binary_dilation(new.mask, iterations=10)[y, x]
    assert same.sum() >= 10 and math.sqrt(np.mean(distances[same] ** 2)) < 0.1


def test_a_third_of_other_stars_does_not_mislead() -> None:
    found = aligned(sky(UNMOVED) + sky(UNMOVED, stars=12, seed=5), sky(Alignment(1, 7.25 + 3j, 0, 0.0)))
    assert abs(found.shift - (7.25 + 3j)) < 0.2 and abs(found.factor - 1) < 1e-3


def test_the_error_is_that_of_the_stars_that_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("astrid.data.reduction.align._ROUNDS", 1)  # so that the last round is one that leaves some out
    rng = np.random.default_rng(2)
    here = rng.uniform(0, 400, (60, 2))
    there = here + rng.normal(0, 0.01, here.shape)
    there[:5] += 3
    found = match_stars(here, there, tolerance_pixels=20.0)
    x, y = found(*here.T)
    misses = np.hypot(x - there[:, 0], y - there[:, 1])[5:]
    assert found.matches == 55
    assert found.rms_pixels == pytest.approx(math.sqrt(np.mean(misses**2)), rel=1e-6)


def test_the_width_of_the_smallest_error_is_taken_where_none_is_sure(monkeypatch: pytest.MonkeyPatch) -> None:
    wide = [ndimage.gaussian_filter(sky(one, stars=15), 4.0) for one in (UNMOVED, Alignment(1, 7.25 + 3j, 0, 0.0))]
    noise = np.random.default_rng(1).normal(0, 3, (2, 400, 400)).astype(np.float32)
    frames = [frame + own for frame, own in zip(wide, noise, strict=True)]
    errors = []
    for width in _SEARCH_FWHM:
        with monkeypatch.context() as patch:
            patch.setattr("astrid.data.reduction.align._SEARCH_FWHM", (width,))
            errors.append(aligned(*frames).error_pixels)
    assert errors[0] > 1.5 * min(errors)
    assert aligned(*frames).error_pixels == min(errors)


def test_frames_of_different_fields_are_refused() -> None:
    with pytest.raises(DataError, match=r"must show the same stars .* got \d+ and \d+ that don't match"):
        aligned(sky(UNMOVED), sky(UNMOVED, seed=9))


def test_frames_without_stars_are_refused() -> None:
    with pytest.raises(DataError, match=r"at least 4 stars must be bright enough in both frames .* got 0 and"):
        aligned(sky(UNMOVED, stars=0), sky(UNMOVED))


def test_matching_the_most_stars_takes_little_memory_and_finds_the_shift_that_most_agree_on() -> None:
    rng = np.random.default_rng(6)
    here = rng.uniform(0, 400, (60, 2))
    there = rng.permutation(here + np.array([7.0, -3.0]) + rng.normal(0, 0.2, here.shape))
    assert memory_peak(lambda: match_stars(here, there, tolerance_pixels=1.0)) < 10e6
    shifts = np.subtract.outer(*(stars[:, 0] + 1j * stars[:, 1] for stars in (there, here))).ravel()
    near = np.abs(np.subtract.outer(shifts, shifts)) < 1.0
    expected = shifts[near[near.sum(axis=1).argmax()]].mean()
    found = _common_shift(*(stars[:, 0] + 1j * stars[:, 1] for stars in (here, there)), tolerance_pixels=1.0)
    assert found is not None and found.shift == expected


def test_a_match_of_fewer_than_half_of_the_stars_is_doubtful() -> None:
    moved = Alignment(1, 7.25 + 3j, 0, 0.0)
    target = sky(UNMOVED, stars=16) + sky(UNMOVED, stars=20, seed=5)
    found = aligned(target, sky(moved, stars=16) + sky(moved, stars=20, seed=6))
    assert abs(found.shift - moved.shift) < 0.5
    assert found.doubts == f"{found.matches} of the {found.shared} stars that both frames should show agree"
    assert found.matches < 0.5 * found.shared and 25 < found.shared <= 36


def test_stars_beyond_the_other_frame_or_on_its_bad_pixels_are_not_missed() -> None:
    there = Alignment(1, -150 + 0j, 0, 0.0)
    found = aligned(sky(UNMOVED), sky(there))
    assert 15 < found.shared < 32 and found.matches > 0.8 * found.shared and not found.doubts
    hidden = sky(there)
    hidden[:200] = np.nan
    half = align(
        sky(UNMOVED), np.nan_to_num(hidden), target_valid=np.ones((400, 400), bool), source_valid=hidden == hidden
    )
    assert half.shared < 0.8 * found.shared and not half.doubts


@pytest.fixture(scope="module")
def m13(sample_data: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    folder = sample_data / "m13_raw_frames"
    if not folder.is_dir():
        pytest.skip(f"{folder} is needed")
    images = [np.asarray(read_image(folder / f"M13_blue_000{number}.fits.gz").data) for number in (1, 2, 4)]
    return [(subtract_background(image, image > 0, box=64), image > 0) for image in images]


def test_drifting_frames_of_a_cluster_close_a_triangle(m13: list[tuple[np.ndarray, np.ndarray]]) -> None:
    """Stars of 10 sigma, 10 pixels wide: each step has an error of half a pixel, of which the sum is judged."""
    steps = []
    for (target, target_valid), (source, source_valid) in zip(m13, [*m13[1:], m13[0]], strict=True):
        steps.append(align(target, source, target_valid=target_valid, source_valid=source_valid))
    x, y = np.array([650.0]), np.array([520.0])
    for step in steps:
        x, y = step(x, y)
    error = math.sqrt(sum(step.error_pixels**2 for step in steps))
    assert math.hypot(x[0] - 650, y[0] - 520) < 2 * error < 3
    assert -20 < steps[0].shift.real < -8 and -35 < steps[1].shift.real < -15
