"""Claims about masters: true means and errors, deaf to outliers, within their memory, equal to published ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.nddata import CCDData
from memory import memory_peak
from photutils.background import Background2D
from raw_exposures import READOUT, Camera, pull_width

from astrid.config import DataError
from astrid.data.frames import read_image
from astrid.data.reduction.combine import Combination, combine_frames, master_bias, master_dark, master_flat
from astrid.data.reduction.detector import (
    Readout,
    as_exposure,
    divide_flat,
    remove_bias,
    remove_dark,
    with_added_sigma,
)

RULE = Combination()


def test_masters_find_bias_dark_and_flat_and_state_their_errors() -> None:
    camera = Camera()
    masters = camera.masters()
    assert pull_width(masters["bias"], camera.bias) == pytest.approx(1, abs=0.02)
    dark = with_added_sigma(masters["dark"], masters["bias"].uncertainty.array / 300)  # which is the same in exposures
    assert pull_width(dark, camera.dark / READOUT.gain) == pytest.approx(1, abs=0.02)
    assert pull_width(masters["flat"], camera.flat) == pytest.approx(1, abs=0.02)
    assert masters["flat"].data.mean() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("count", [3, 5, 20])
def test_a_struck_pixel_is_left_out_and_the_others_stay(count: int) -> None:
    rng = np.random.default_rng(0)
    frames = rng.normal(100, 5, (count, 64, 64)).astype(np.float32)
    clean = frames.mean(axis=0)
    frames[0, 10, 20] = 5000
    sigma = np.full((64, 64), 5, np.float32)
    stated = [add_sigma(as_exposure(frame), sigma) for frame in frames]
    master = combine_frames(stated, RULE)
    assert master.data[10, 20] == pytest.approx(frames[1:, 10, 20].mean(), rel=1e-5)
    assert master.uncertainty.array[10, 20] == pytest.approx(5 / np.sqrt(count - 1))
    others = np.ones((64, 64), bool)
    others[10, 20] = False
    np.testing.assert_allclose(master.data[others], clean[others], rtol=1e-5)


@pytest.mark.parametrize(
    ("count", "noise", "is_whole"), [(10, 0.6, True), (10, 0.2, True), (3, 3.0, False), (3, 3.0, True), (2, 3.0, False)]
)
def test_without_a_stated_noise_only_what_was_struck_is_left_out(count: int, noise: float, is_whole: bool) -> None:
    """By the scatter of one pixel alone half of the pixels of ten biases lost values, a fifth of those of three."""
    rng = np.random.default_rng(1)
    level = 1000 + rng.uniform(0, 1, (100, 100)) + 50 * np.arange(100.0)
    frames = level + rng.normal(0, noise, (count, 100, 100))
    frames = np.rint(frames) if is_whole else frames
    clean = frames.mean(axis=0)
    frames[0, 30, 40] += 500
    master = master_bias([as_exposure(frame) for frame in frames], readout=None, rule=RULE)
    assert np.mean(np.abs(master.data - clean) > 1e-3) < 1e-3
    if count > 2:
        assert master.data[30, 40] == pytest.approx(frames[1:, 30, 40].mean(), abs=1e-3)


@pytest.mark.parametrize("overscan", [0.0, 0.5, 1 / 3])
def test_a_struck_pixel_of_three_darks_without_stated_noise_is_left_out(overscan: float) -> None:
    """At 600 s a step of the converter is 1/600 ADU per second, which is the least noise that is taken for one."""
    raw = np.rint(np.random.default_rng(2).normal(1000, 0.2, (3, 64, 64))) - overscan
    raw[1, 10, 20] += 40
    bias = as_exposure(np.full((64, 64), 999.7))
    darks = [(as_exposure(frame), 600.0) for frame in raw]
    current = master_dark(darks, bias=bias, readout=None, rule=RULE).current
    expected = (raw.mean(axis=0) - 999.7) / 600
    expected[10, 20] = (raw[[0, 2], 10, 20].mean() - 999.7) / 600
    np.testing.assert_allclose(current.data, expected, atol=1e-5)


def test_frames_that_are_no_whole_numbers_have_no_step_to_mind() -> None:
    """Values far below 1 are clipped by their own scatter: a step of 1 would hide what struck them."""
    frames = np.random.default_rng(3).normal(0.01, 0.001, (5, 64, 64))
    frames[0, 10, 20] = 0.5
    master = combine_frames([as_exposure(frame) for frame in frames], RULE)
    assert master.data[10, 20] == pytest.approx(0.01, abs=0.002)


def add_sigma(frame: CCDData, sigma: np.ndarray) -> CCDData:
    return CCDData(frame.data, mask=frame.mask, unit=frame.unit, uncertainty=sigma, copy=True)


def test_masked_values_do_not_count_and_a_pixel_without_any_is_masked() -> None:
    first, second = as_exposure(np.array([[1.0, np.nan]])), as_exposure(np.array([[np.nan, np.nan]]))
    master = combine_frames([first, second], RULE)
    assert master.mask.tolist() == [[False, True]] and master.data.tolist() == [[1, 0]]


def test_bands_change_nothing_and_keep_to_their_memory() -> None:
    noise = np.linspace(1, 9, 400)[:, None]  # not the same in all bands
    frames = [as_exposure(100 + noise * np.random.default_rng(seed).normal(size=(400, 500))) for seed in range(8)]
    whole = combine_frames(frames, Combination(memory_mib=1000))
    banded: list[CCDData] = []
    peak = memory_peak(lambda: banded.append(combine_frames(iter(frames), Combination(memory_mib=8))))
    np.testing.assert_array_equal(banded[0].data, whole.data)
    assert peak < (8 + 5 * 400 * 500 * 4 / 2**20) * 2**20


def test_frames_of_different_shapes_and_empty_sets_are_refused() -> None:
    with pytest.raises(DataError, match="one shape and unit"):
        combine_frames([as_exposure(np.ones((3, 3))), as_exposure(np.ones((3, 4)))], RULE)
    with pytest.raises(DataError, match="at least one frame"):
        combine_frames([], RULE)


def test_dark_and_flat_refuse_what_cannot_be_scaled() -> None:
    frame = as_exposure(np.zeros((3, 3)))
    with pytest.raises(DataError, match="longer than 0 s"):
        master_dark([(frame, 0.0)], bias=None, readout=None, rule=RULE)
    with pytest.raises(DataError, match="light above bias and dark"):
        master_flat([(frame, 1.0)], bias=None, dark=None, readout=None, rule=RULE)


def test_a_dark_below_the_counts_of_no_light_is_refused() -> None:
    dark = as_exposure(np.random.default_rng(0).normal(26, 3, (64, 64)))
    bias = as_exposure(np.full((64, 64), 1000.0))
    with pytest.raises(DataError, match=r"a dark must not lie .* got a median of -97\d.* subtracted already"):
        master_dark([(dark, 30.0)], bias=bias, readout=None, rule=RULE)


class Huntsman:
    """Raw frames of a camera, and the masters that its observatory published for it."""

    readout = Readout(gain=1.144744515419006, read_noise=1.7)

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "huntsman_raw_calib"
        if not self.folder.is_dir():
            pytest.skip(f"{self.folder} is needed")
        settings = {"readout": self.readout, "rule": RULE}
        self.bias = master_bias([self.raw("bias")], **settings)
        self.dark = master_dark([(self.raw("dark"), 300.0)], bias=self.bias, **settings).current
        self.flat = master_flat([(self.raw("flat"), 300.0)], bias=self.bias, dark=self.dark, **settings)

    def raw(self, kind: str) -> CCDData:
        return as_exposure(read_image(self.folder / f"{kind}_0.fits.gz").data)

    def published(self, name: str) -> np.ndarray:
        return np.asarray(read_image(next(self.folder.glob(f"{name}_14_*")), hdu=1).data[:800, :800])


@pytest.fixture(scope="module")
def huntsman(sample_data: Path) -> Huntsman:
    return Huntsman(sample_data)


def test_the_published_master_dark_is_reproduced(huntsman: Huntsman) -> None:
    assert np.mean(np.abs(huntsman.dark.data - huntsman.published("dark")) < 1e-3) >= 0.999


def test_the_published_master_flat_is_reproduced(huntsman: Huntsman) -> None:
    assert np.median(np.abs(huntsman.flat.data / huntsman.published("flat") - 1)) < 0.005


def test_the_flat_flattens_the_background_of_a_real_exposure(huntsman: Huntsman) -> None:
    before = remove_dark(remove_bias(huntsman.raw("science"), huntsman.bias), huntsman.dark, seconds=300)
    after = divide_flat(before, huntsman.flat)
    assert unevenness(after) < 0.92 * unevenness(before)


def unevenness(frame: CCDData) -> float:
    """Return the span of the middle 80 % of the background's levels, in units of their median."""
    levels = Background2D(frame.data, 64, mask=frame.mask).background_mesh
    low, middle, high = np.percentile(levels, [10, 50, 90])
    return float((high - low) / middle)


def lit(light: np.ndarray) -> CCDData:
    """Combine flats of so many electrons."""
    rng = np.random.default_rng(5)
    flats = [(as_exposure(rng.poisson(light) + rng.normal(0, 5, light.shape)), 1.0) for _ in range(2)]
    return master_flat(flats, bias=None, dark=None, readout=Readout(1.0, 5.0), rule=RULE)


def test_flats_of_little_steep_and_coloured_light_and_with_dark_corners_are_taken() -> None:
    y, x = np.mgrid[:200, :200] / 200
    even = np.full((200, 200), 60.0)
    coloured = even * 100
    coloured[::2, ::2], coloured[1::2, 1::2] = 300, 100
    for light in (even, 20_000 * x, coloured, np.where(np.hypot(x - 0.5, y - 0.5) < 0.5, 5000.0, 0.0)):
        found, bright = lit(light), light > 1000
        shares = found.data[bright] / light[bright] if bright.any() else found.data / light
        assert shares.std() < 0.15 * shares.mean(), "the master is the light's own shape"


@pytest.mark.parametrize(("level", "unlit"), [(0.0, 0.0), (8.0, 0.0), (5000.0, 0.6), (5000.0, 0.95)])
def test_flats_of_too_little_light_are_refused(level: float, unlit: float) -> None:
    light = np.full((200, 200), level)
    light[: int(200 * unlit)] = 0
    with pytest.raises(
        DataError, match=r"a flat must hold light above bias and dark, more than 3 times .* leave it out"
    ):
        lit(light)
