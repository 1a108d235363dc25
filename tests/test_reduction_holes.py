"""Claims about what is put in the place of bad pixels, and about its error."""

from __future__ import annotations

import numpy as np
import pytest

from astrid.data.psf import moffat, psf_stamp
from astrid.data.reduction.holes import fill_holes

EDGE, SIGMA = 128, 10.0
GRID = np.arange(-40, 41.0)
PSF = moffat(GRID[:, None] ** 2 + GRID**2, fwhm=3.0, beta=3.5)


def sky(*stars: tuple[float, float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Return stars (x, y, flux) without noise, and with it."""
    light = np.zeros((EDGE, EDGE))
    for x, y, flux in stars:
        where, share = psf_stamp(light.shape, x=x, y=y, radius=40, fwhm=3.0, beta=3.5)
        light[where] += flux * share
    noise = np.random.default_rng(0).standard_normal(light.shape) * np.sqrt(light + SIGMA**2)
    return light, np.float32(light + noise)


def valid_without(*boxes: tuple[slice, slice]) -> np.ndarray:
    valid = np.ones((EDGE, EDGE), bool)
    for box in boxes:
        valid[box] = False
    return valid


def test_the_wings_of_a_star_tell_its_core() -> None:
    light, image = sky((60.3, 64.6, 1e6))
    core = np.s_[60:69, 56:66]
    filling = fill_holes(image, valid_without(core), psf=PSF, sigma=SIGMA)
    brightest = light[core].max()
    assert np.abs(filling.light[core] - light[core]).max() < 0.05 * brightest
    assert (np.abs(filling.light - light)[core] < 3 * filling.error[core] + SIGMA).all()
    assert filling.error[core].max() < 0.2 * brightest


def test_two_cores_in_one_hole_are_as_uncertain_as_the_star_that_fits_best() -> None:
    light, image = sky((60.0, 58.0, 1e6), (60.0, 70.0, 1e6))
    hole = np.s_[54:75, 55:66]
    filling = fill_holes(image, valid_without(hole), psf=PSF, sigma=SIGMA)
    neighbours = fill_holes(image, valid_without(hole), psf=PSF, sigma=1e6)  # so noisy that no star is sought
    np.testing.assert_array_equal(filling.light, neighbours.light)
    assert filling.error[hole].max() > 0.3 * light[hole].max()
    assert neighbours.error[hole].max() < 0.01 * light[hole].max()


@pytest.mark.parametrize("hole", [np.s_[64:65, 63:64], np.s_[4:124, 59:62]])
def test_beside_a_core_that_is_seen_and_in_bleeds_as_long_as_the_frame_no_star_is_sought(
    hole: tuple[slice, slice],
) -> None:
    _, image = sky((60.0, 64.0, 1e6))
    filling = fill_holes(image, valid_without(hole), psf=PSF, sigma=SIGMA)
    neighbours = fill_holes(image, valid_without(hole), psf=PSF, sigma=1e6)
    np.testing.assert_array_equal(filling.light, neighbours.light)
    np.testing.assert_array_equal(filling.error, neighbours.error)


def test_bad_pixels_of_the_sky_are_bridged_by_their_neighbours() -> None:
    image = np.full((EDGE, EDGE), 5.0, np.float32)
    valid = valid_without(np.s_[20:21, 30:31], np.s_[:, 90:91])
    ruined = np.where(valid, image, np.nan)
    filling = fill_holes(ruined, valid, psf=PSF, sigma=SIGMA)
    np.testing.assert_allclose(filling.light, np.where(valid, 0, 5), rtol=1e-5)
    np.testing.assert_allclose(filling.error, np.where(valid, 0, 5), rtol=1e-5)


@pytest.mark.parametrize("rows", [slice(0, 6), slice(122, 128)])
def test_a_star_cut_by_the_edge_is_filled_too(rows: slice) -> None:
    y = float(rows.start if rows.start == 0 else rows.stop - 1)
    light, image = sky((60.0, y, 1e6))
    core = (rows, slice(55, 66))
    filling = fill_holes(image, valid_without(core), psf=PSF, sigma=SIGMA)
    assert np.abs(filling.light[core] - light[core]).max() < 0.1 * light[core].max()
