"""Claims about what stars tell of a frame."""

from __future__ import annotations

import numpy as np
import pytest

from astrid.config import DataError
from astrid.data.difference import matched_difference
from astrid.data.psf import psf_stamp
from astrid.data.stars import measure_flux_ratio, typical_fwhm

STARS = np.array([[20.0 + 30 * number, 20.0] for number in range(7)])
WIDTHS = {"science_fwhm": 3.0, "reference_fwhm": 5.0}


def starry(*, fwhm: float, flux: float) -> np.ndarray:
    """Return Gaussians at STARS, (40, 220) float32."""
    y, x = np.mgrid[:40, :220]
    variance = (fwhm / 2.3548) ** 2
    squared = [(x - at[0]) ** 2 + (y - at[1]) ** 2 for at in STARS]
    light = sum(np.exp(-one / (2 * variance)) for one in squared)
    return np.asarray(flux / (2 * np.pi * variance) * light, dtype=np.float32)


def ratio(valid: np.ndarray) -> float:
    science, reference = starry(fwhm=3.0, flux=2e4), starry(fwhm=5.0, flux=1e4)
    return measure_flux_ratio(science, reference, valid, stars=STARS, **WIDTHS)


def test_stars_with_a_bad_pixel_tell_nothing_of_the_ratio_of_fluxes() -> None:
    """A core that is bad takes more from the sharper frame: most stars are spoilt here, and the ratio isn't."""
    valid = np.ones((40, 220), dtype=bool)
    assert ratio(valid) == pytest.approx(2.0, rel=0.01)
    valid[20, [20, 50, 80, 110]] = False
    assert ratio(valid) == pytest.approx(2.0, rel=0.01)
    valid[20, 140] = False
    with pytest.raises(DataError, match=r"at least 3 stars must be clean .* got 2; give .* reference_scale"):
        ratio(valid)


def sky(fwhm: float, *, beta: float = 3.5, seed: int = 0) -> np.ndarray:
    """Return a frame of Moffats with noise, always the same stars, (400, 400) float32."""
    places = np.random.default_rng(5)
    light = np.random.default_rng(seed).normal(0, 5, (400, 400))
    for row in range(30, 400, 60):
        for column in range(30, 400, 60):
            x, y = column + places.uniform(-5, 5), row + places.uniform(-5, 5)
            where, share = psf_stamp(light.shape, x=x, y=y, radius=28, fwhm=fwhm, beta=beta)
            light[where] += 10 ** places.uniform(4.5, 5.5) * share
    return light.astype(np.float32)


EVERYWHERE = np.ones((400, 400), dtype=bool)


@pytest.mark.parametrize("fwhm", [1.6, 2.5, 4.0, 6.0])
@pytest.mark.parametrize("beta", [2.5, 3.5, 4.5, 50.0])
def test_the_seeing_is_that_of_any_moffat(fwhm: float, beta: float) -> None:
    assert typical_fwhm(sky(fwhm, beta=beta), EVERYWHERE) == pytest.approx(fwhm, rel=0.02)


@pytest.mark.parametrize(("science_fwhm", "reference_fwhm"), [(4.0, 3.0), (4.0, 2.2), (3.0, 6.0)])
def test_stars_that_stay_leave_little_in_a_difference_matched_by_measured_widths(
    science_fwhm: float, reference_fwhm: float
) -> None:
    science, reference = sky(science_fwhm, seed=1), sky(reference_fwhm, seed=2)
    widths = {
        "science_fwhm": typical_fwhm(science, EVERYWHERE),
        "reference_fwhm": typical_fwhm(reference, EVERYWHERE),
    }
    found = matched_difference(science, reference, **widths, valid=EVERYWHERE)
    brightest = np.unravel_index(science.argmax(), science.shape)
    around = tuple(slice(place - 8, place + 9) for place in brightest)
    assert np.abs(found[around]).max() < 0.02 * science.max()
