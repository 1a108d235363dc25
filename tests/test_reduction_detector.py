"""Claims about undoing the detector: what was put in comes out, with an uncertainty that is true after every step."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.nddata import CCDData
from raw_exposures import READOUT, Camera, pull_width

from astrid.config import DataError
from astrid.data.reduction.detector import (
    Readout,
    add_noise,
    as_exposure,
    divide_flat,
    flag_bad,
    flag_saturated,
    remove_bias,
    remove_dark,
    remove_overscan,
    to_electrons,
    trim,
)
from astrid.data.rows import Section


@pytest.mark.parametrize("sky", [100.0, pytest.param(2000.0, marks=pytest.mark.slow)])
def test_the_pull_has_width_one_after_every_step(sky: float) -> None:
    camera = Camera((512, 512))
    masters = camera.masters()
    light = np.full(camera.shape, sky)
    light[100:110, 100:110] += 5000
    noisy = add_noise(remove_bias(camera.expose(light, seconds=120), masters["bias"]), READOUT)
    dark = remove_dark(noisy, masters["dark"], seconds=120)
    electrons = to_electrons(dark, gain=READOUT.gain)
    flat = divide_flat(electrons, masters["flat"])
    seen = light * camera.flat
    widths = [
        pull_width(noisy, (seen + 120 * camera.dark) / READOUT.gain),
        pull_width(dark, seen / READOUT.gain),
        pull_width(electrons, seen),
        pull_width(flat, light),
    ]
    assert widths == pytest.approx([1] * 4, abs=0.02)


@pytest.mark.parametrize("read_noise", [2.0, 5.0])
@pytest.mark.parametrize("sky", [0.0, 2.0, 10.0, 50.0])
def test_the_pull_has_width_one_under_a_faint_sky(sky: float, read_noise: float) -> None:
    rng = np.random.default_rng(1)
    counts = rng.poisson(np.full((300, 300), sky)) + rng.normal(0, read_noise, (300, 300))
    exposure = as_exposure(counts)
    exposure.mask[:, 100] = True
    exposure.data[:, 100] = 6e4
    noisy = add_noise(exposure, Readout(1.0, read_noise))
    assert pull_width(noisy, np.full(counts.shape, sky)) == pytest.approx(1, abs=0.02)
    assert noisy.uncertainty.array[:, 99].max() < 2 * noisy.uncertainty.array[:, 90].max()


def test_the_light_that_a_pixel_is_expected_to_have_keeps_stars_and_hits() -> None:
    light = np.full((40, 40), 4.0)
    light[20, 20], light[30, 30] = 900.0, 60.0
    sigma = add_noise(as_exposure(light), Readout(1.0, 3.0)).uncertainty.array
    assert sigma[20, 20] == pytest.approx(np.sqrt(909)) and sigma[30, 30] == pytest.approx(np.sqrt(69))
    assert sigma[20, 21] == pytest.approx(np.sqrt(13)) and sigma[5, 5] == pytest.approx(np.sqrt(13))


@pytest.mark.parametrize("columns", [4, 8, 16, 32])
@pytest.mark.parametrize("above", [False, True])
def test_the_noise_of_the_overscan_is_in_the_uncertainty(columns: int, above: bool) -> None:
    """Of a frame and of its transpose, whose overscan lies above it."""
    raw = np.random.default_rng(columns).normal(0, 5, (1000, 200 + columns))
    strip, part = f"[201:{200 + columns},1:1000]", "[1:200,1:1000]"
    if above:
        raw, strip, part = raw.T, f"[1:1000,201:{200 + columns}]", "[1:1000,1:200]"
    readout = Readout(1.0, 5.0)
    level = remove_overscan(as_exposure(raw), section=Section.parse(strip), readout=readout)
    noisy = add_noise(trim(level, section=Section.parse(part)), readout)
    assert pull_width(noisy, np.zeros(noisy.shape)) == pytest.approx(1, abs=0.02)


def test_overscan_removes_what_drifts_from_row_to_row() -> None:
    sky = np.full((40, 50), 7.0)
    sky[:, 45:] = 0
    drift = np.linspace(100, 300, 40)[:, None]
    corrected = remove_overscan(as_exposure(sky + drift), section=Section.parse("[46:50,1:40]"))
    np.testing.assert_allclose(corrected.data, sky, atol=1e-4)


def test_an_overscan_above_the_image_works_column_by_column() -> None:
    sky = np.full((50, 40), 7.0)
    sky[45:] = 0
    corrected = remove_overscan(as_exposure(sky + np.linspace(9, 12, 40)), section=Section.parse("[1:40,46:50]"))
    np.testing.assert_allclose(corrected.data, sky, atol=1e-4)


def test_a_hot_pixel_of_the_overscan_moves_nothing() -> None:
    raw = np.full((40, 50), 100.0)
    raw[7, 47] = 6e4
    assert not remove_overscan(as_exposure(raw), section=Section.parse("[46:50,1:40]")).data[7, :45].any()


def test_trimming_cuts_image_mask_and_uncertainty_alike() -> None:
    exposure = add_noise(as_exposure(np.arange(20.0).reshape(4, 5)), READOUT)
    exposure.mask[1, 2] = True
    part = trim(exposure, section=Section.parse("[3:5,2:3]"))
    np.testing.assert_array_equal(part.data, exposure.data[1:3, 2:5])
    np.testing.assert_array_equal(part.uncertainty.array, exposure.uncertainty.array[1:3, 2:5])
    assert np.argwhere(part.mask).tolist() == [[0, 0]]


def test_masks_add_up_and_no_step_changes_its_input() -> None:
    raw = as_exposure(np.array([[10.0, 20.0, np.nan, 4095.0]]))
    bad = flag_bad(flag_saturated(raw, level=4095), np.array([[True, False, False, False]]))
    assert bad.mask.tolist() == [[True, False, True, True]] and raw.mask.tolist() == [[False, False, True, False]]
    dead = CCDData(np.array([[1.0, 0.05, 1.0, 1.0]]), unit="")
    divided = divide_flat(bad, dead)
    assert divided.mask.all() and np.isfinite(divided.data[0, :2]).all() and divided.data[0, 0] == 10


def test_the_dark_is_scaled_by_the_exposure() -> None:
    dark = CCDData(np.full((3, 3), 2.0), unit="adu")
    assert remove_dark(as_exposure(np.full((3, 3), 100.0)), dark, seconds=20).data == pytest.approx(60)


def test_the_gain_scales_image_and_uncertainty() -> None:
    raw = add_noise(as_exposure(np.full((3, 3), 100.0)), READOUT)
    electrons = to_electrons(raw, gain=READOUT.gain)
    assert electrons.unit == "electron" and electrons.data == pytest.approx(150)
    assert electrons.uncertainty.array == pytest.approx(np.sqrt(150 + READOUT.read_noise**2))


@pytest.mark.parametrize(
    ("section", "message"),
    [("[46:51,1:40]", r"overscan \[46:51,1:40\] must lie in .* 50x40"), ("[46:50,1:30]", "along a whole edge")],
)
def test_an_overscan_that_does_not_fit_is_refused(section: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        remove_overscan(as_exposure(np.ones((40, 50))), section=Section.parse(section))


def test_a_master_of_another_shape_is_refused_by_name() -> None:
    with pytest.raises(DataError, match=r"bias must have the shape of the exposure, 4x3 pixels, got 4x4"):
        remove_bias(as_exposure(np.ones((3, 4))), as_exposure(np.ones((4, 4))))
