"""Claims about cosmic rays: real footprints are found, and the cores of stars are left alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.nddata import CCDData
from cosmic_footprints import FULL_WELL, Scene, make_scene, read_footprints
from scipy import ndimage

from astrid.config import DataError
from astrid.data.reduction.cosmics import flag_cosmic_rays


@pytest.fixture(scope="module")
def footprints(sample_data: Path) -> list[np.ndarray]:
    return read_footprints(sample_data)


def share_removed(scene: Scene, mask: np.ndarray) -> float:
    """Return the share of footprints above 10 sigma of which every pixel above 10 sigma is masked."""
    bright = scene.hits > 10 * scene.noise
    numbers = np.unique(scene.labels[bright])
    return float(np.mean(ndimage.minimum(np.where(bright, mask, True), scene.labels, numbers)))


def share_touched(scene: Scene, mask: np.ndarray) -> float:
    """Return the share of unsaturated stars above 5 sigma, clear of hits, with a masked pixel in their 3x3 core."""
    near_hits = ndimage.binary_dilation(scene.hits > 0, structure=np.ones((3, 3)), iterations=2)
    core = ndimage.maximum_filter(mask & ~scene.exposure.mask, 3)
    brightest = ndimage.maximum_filter(scene.sky_and_stars, 3)
    x, y = np.rint(scene.stars).astype(int).T
    bright = scene.sky_and_stars[y, x] - scene.sky > 5 * scene.noise[y, x]
    judged = bright & ~near_hits[y, x] & (brightest[y, x] < FULL_WELL)
    assert judged.sum() > 200
    return float(core[y, x][judged].mean())


@pytest.mark.slow
@pytest.mark.parametrize("fwhm", [2.2, 3.0, 4.0])
@pytest.mark.parametrize(
    ("sky", "read_noise", "gain"), [(50.0, 3.0, 1.0), (50.0, 10.0, 2.5), (3000.0, 6.0, 1.0), (400.0, 6.0, 4.0)]
)
def test_other_skies_and_detectors_fare_alike(
    footprints: list[np.ndarray], fwhm: float, sky: float, read_noise: float, gain: float
) -> None:
    detector = {"sky": sky, "read_noise": read_noise, "gain": gain}
    scenes = [make_scene(footprints, fwhm=fwhm, seed=10 + seed, **detector) for seed in range(2)]
    masks = [flag_cosmic_rays(scene.exposure, fwhm_pixels=fwhm).mask for scene in scenes]
    assert np.mean([share_removed(*pair) for pair in zip(scenes, masks, strict=True)]) >= 0.95
    assert np.mean([share_touched(*pair) for pair in zip(scenes, masks, strict=True)]) < 0.01


@pytest.mark.parametrize(
    ("fwhm", "beta"),
    [
        (2.2, 3.5),
        pytest.param(2.5, 2.5, marks=pytest.mark.slow),
        pytest.param(3.0, 4.5, marks=pytest.mark.slow),
        (4.0, 3.5),
    ],
)
def test_footprints_go_and_star_cores_stay(footprints: list[np.ndarray], fwhm: float, beta: float) -> None:
    scenes = [make_scene(footprints, fwhm=fwhm, beta=beta, seed=seed) for seed in range(2)]
    masks = [flag_cosmic_rays(scene.exposure, fwhm_pixels=fwhm).mask for scene in scenes]
    assert np.mean([share_removed(*pair) for pair in zip(scenes, masks, strict=True)]) >= 0.95
    assert np.mean([share_touched(*pair) for pair in zip(scenes, masks, strict=True)]) < 0.01


def test_values_stay_and_masked_pixels_stay_masked(footprints: list[np.ndarray]) -> None:
    scene = make_scene(footprints, fwhm=3.0, edge=512)
    scene.exposure.mask[:, 7] = True
    flagged = flag_cosmic_rays(scene.exposure, fwhm_pixels=3.0)
    np.testing.assert_array_equal(flagged.data, scene.exposure.data)
    assert flagged.mask[:, 7].all() and flagged.mask.sum() > scene.exposure.mask.sum()


def test_a_rim_is_masked_around_hits_unless_they_are_counted(footprints: list[np.ndarray]) -> None:
    scene = make_scene(footprints, fwhm=3.0, edge=256)
    rimmed, bare = (flag_cosmic_rays(scene.exposure, fwhm_pixels=3.0, rim=rim).mask for rim in (True, False))
    hits = bare & ~scene.exposure.mask
    assert hits.any()
    np.testing.assert_array_equal(rimmed, scene.exposure.mask | ndimage.binary_dilation(hits, np.ones((3, 3))))


def test_noise_and_stars_alone_have_no_hits() -> None:
    assert not flag_cosmic_rays(make_scene([], fwhm=3.0, edge=128).exposure, fwhm_pixels=3.0).mask.any()


def test_hits_so_faint_that_noise_could_explain_them_are_not_taken_for_stars() -> None:
    exposure = make_scene([], fwhm=3.0, edge=256, seed=3).exposure
    x, y = np.random.default_rng(0).integers(10, 246, (2, 150))
    exposure.data[y, x] += 8 * exposure.uncertainty.array[y, x]
    assert flag_cosmic_rays(exposure, fwhm_pixels=3.0, rim=False).mask[y, x].mean() > 0.95


def test_without_noise_or_with_sharper_stars_than_pixels_it_is_refused() -> None:
    scene = make_scene([], fwhm=3.0, edge=128)
    with pytest.raises(DataError, match=r"fwhm must be at least 1\.5 pixels"):
        flag_cosmic_rays(scene.exposure, fwhm_pixels=1.2)
    with pytest.raises(DataError, match=r"data\.preprocess\.gain"):
        flag_cosmic_rays(CCDData(scene.exposure.data, unit="electron"), fwhm_pixels=3.0)


def test_a_masked_pixel_that_is_bright_makes_no_hit_beside_it() -> None:
    exposure = make_scene([], fwhm=3.0, edge=128).exposure
    exposure.data[60, 70], exposure.mask[60, 70] = 1e5, True
    assert flag_cosmic_rays(exposure, fwhm_pixels=3.0).mask.sum() == 1


@pytest.mark.parametrize("hole", [np.nan, np.inf, -np.inf])
def test_a_masked_hole_is_no_hit_and_makes_none_beside_it(hole: float) -> None:
    exposure = make_scene([], fwhm=3.0, edge=128).exposure
    exposure.data[60:64, 70:75] = exposure.uncertainty.array[60:64, 70:75] = hole
    exposure.mask[60:64, 70:75] = True
    assert flag_cosmic_rays(exposure, fwhm_pixels=3.0).mask.sum() == 20
