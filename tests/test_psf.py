"""The Moffat PSF and the step from one seeing to another."""

from __future__ import annotations

import numpy as np
import pytest

from astrid.data.psf import MATCHING_BETA, match_seeing, moffat, psf_stamp, subtract_matched

SHAPE = (64, 80)
EVERYWHERE = np.ones(SHAPE, dtype=bool)


def star(x: float, y: float, *, fwhm: float, beta: float = MATCHING_BETA) -> np.ndarray:
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    return moffat((columns - x) ** 2.0 + (rows - y) ** 2.0, fwhm=fwhm, beta=beta).astype(np.float32)


@pytest.mark.parametrize("beta", [2.5, 3.5, 4.7])
@pytest.mark.parametrize("fwhm", [2.2, 3.0, 5.5])
def test_moffat_falls_to_half_at_half_its_width_and_holds_all_light(fwhm: float, beta: float) -> None:
    peak, half = moffat(np.array([0.0, (fwhm / 2) ** 2]), fwhm=fwhm, beta=beta)
    assert half == pytest.approx(peak / 2)
    offsets = np.arange(-400, 401) + 0.3
    total = moffat(offsets[:, None] ** 2 + offsets[None, :] ** 2, fwhm=fwhm, beta=beta).sum()
    assert total == pytest.approx(1.0, abs=2e-3)


@pytest.mark.parametrize(("x", "y"), [(30.2, 20.7), (0.0, 63.4), (-3.0, 5.0), (81.0, 63.0), (500.0, -500.0)])
def test_stamp_is_the_frame_cut_out_around_the_source(x: float, y: float) -> None:
    where, light = psf_stamp(SHAPE, x=x, y=y, radius=8.0, fwhm=3.0, beta=MATCHING_BETA)
    np.testing.assert_allclose(light, star(x, y, fwhm=3.0)[where], rtol=1e-5)
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    inside = np.zeros(SHAPE, dtype=bool)
    inside[where] = True
    np.testing.assert_array_equal(inside, (np.abs(rows - y) <= 8.0) & (np.abs(columns - x) <= 8.0))


@pytest.mark.parametrize(("sharp", "wide"), [(2.4, 2.5), (2.4, 3.4), (3.0, 6.0)])
@pytest.mark.parametrize("x", [40.0, 40.3, 40.5])
def test_widened_star_is_the_star_under_the_wider_psf(x: float, sharp: float, wide: float) -> None:
    widened = match_seeing(star(x, 30.8, fwhm=sharp), valid=EVERYWHERE, sharp_fwhm=sharp, wide_fwhm=wide)
    expected = star(x, 30.8, fwhm=wide)
    np.testing.assert_allclose(widened, expected, atol=0.005 * expected.max())


@pytest.mark.parametrize("x", [40.0, 79.0, 0.4])
def test_widening_conserves_flux_also_at_the_edge(x: float) -> None:
    image = star(x, 30.0, fwhm=2.4)
    widened = match_seeing(image, valid=EVERYWHERE, sharp_fwhm=2.4, wide_fwhm=4.0)
    assert widened.sum(dtype=float) == pytest.approx(image.sum(dtype=float), rel=1e-4)
    assert widened.max() < 0.7 * image.max()


def test_a_bad_column_leaves_no_trace_on_a_smooth_frame() -> None:
    valid = EVERYWHERE.copy()
    valid[:, 20] = False
    widened = match_seeing(np.full(SHAPE, 7.0, np.float32), valid=valid, sharp_fwhm=2.4, wide_fwhm=4.0)
    np.testing.assert_allclose(widened[valid], 7.0, rtol=1e-5)
    assert not widened[~valid].any()


@pytest.mark.parametrize("fwhms", [(2.4, 3.6), (3.6, 2.4), (3.0, 3.0)])
def test_the_sharper_frame_is_the_one_that_is_convolved(fwhms: tuple[float, float]) -> None:
    science, reference = (star(40.2, 30.1, fwhm=fwhm) for fwhm in fwhms)
    difference = subtract_matched(
        3 * science, reference, valid=EVERYWHERE, science_fwhm=fwhms[0], reference_fwhm=fwhms[1]
    )
    expected = 2 * star(40.2, 30.1, fwhm=max(fwhms))
    np.testing.assert_allclose(difference, expected, atol=0.01 * expected.max())
