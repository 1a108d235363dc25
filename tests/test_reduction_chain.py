"""Claims about the order of the steps: numbers of headers are checked, and a pedestal never counts as light."""

from __future__ import annotations

import re

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData
from raw_exposures import READOUT, Camera, pull_width

from astrid.config import DataError, PreprocessConfig
from astrid.config.compose import load
from astrid.data.frames import unit_named
from astrid.data.reduction.chain import Masters, calibrate
from astrid.data.reduction.combine import Combination, master_bias, master_dark
from astrid.data.reduction.detector import as_exposure
from astrid.data.reduction.header import unit_of

HEADER = {"GAIN": 2.0, "RDNOISE": 5.0, "SATURATE": 60_000, "EXPTIME": 10.0}
FROM_HEADER = {"gain": "header", "read_noise": "header", "saturation": "header"}


def exposure(counts: np.ndarray, **header: object) -> CCDData:
    image = as_exposure(counts)
    image.meta = fits.Header(HEADER | header)
    return image


@pytest.mark.parametrize(
    ("keyword", "value", "message"),
    [
        (
            "GAIN",
            0,
            r"GAIN of the header must be above 0 and below 1e30, got 0; mend it, or change data\.preprocess\.gain",
        ),
        ("GAIN", -2.0, r"GAIN of the header must be above 0 and below 1e30, got -2"),
        (
            "RDNOISE",
            -5.0,
            r"RDNOISE of the header must be above 0 and below 1e30, got -5; .* data\.preprocess\.read_noise",
        ),
        (
            "SATURATE",
            0,
            r"SATURATE of the header must be above 0 and below 1e30, got 0; .* data\.preprocess\.saturation",
        ),
        ("EXPTIME", -30.0, r"EXPTIME of the header must be above 0 and below 1e30, got -30; .* data\.preprocess\.dark"),
        ("EXPTIME", 0.0, r"EXPTIME of the header must be above 0 and below 1e30, got 0; .* data\.preprocess\.dark"),
    ],
)
def test_a_number_of_a_header_that_cannot_be_is_refused(keyword: str, value: float, message: str) -> None:
    dark = Masters(dark=as_exposure(np.ones((4, 4))))
    with pytest.raises(DataError, match=message):
        calibrate(
            exposure(np.ones((4, 4)), **{keyword: value}), PreprocessConfig(**FROM_HEADER, overscan="[1:1,1:4]"), dark
        )


DARK = Masters(dark=as_exposure(np.full((64, 64), 101.0)), only_seconds=10.0)
"""ADU per second: a pedestal of 1000 over 10 s, and a dark current of 1."""


@pytest.mark.parametrize("seconds", [10.0, 10.004])
def test_a_dark_that_holds_the_bias_takes_it_away_at_its_own_duration(seconds: float) -> None:
    record = calibrate(exposure(np.full((64, 64), 1010.0), EXPTIME=seconds), PreprocessConfig(dark=["d"]), DARK)
    assert np.abs(record.frame.data).max() < 1e-3
    assert "dark: master subtracted for 10.0 s, which holds the bias" in map(str, record.steps)


def test_a_dark_that_holds_the_bias_is_refused_at_another_duration() -> None:
    image = exposure(np.full((64, 64), 1010.0), EXPTIME=100.0)
    with pytest.raises(DataError, match=r"must last as long as the exposure, got 10 s for 100 s; give .* pedestal \(0"):
        calibrate(image, PreprocessConfig(dark=["d"]), DARK)


def test_a_stated_pedestal_is_no_light() -> None:
    counts = np.random.default_rng(0).normal(1000, 2.5, (256, 256))
    knobs = PreprocessConfig(pedestal=1000, gain="header", read_noise="header")
    record = calibrate(exposure(counts), knobs, Masters())
    assert abs(np.median(record.frame.data)) < 0.1
    assert pull_width(record.frame, np.zeros(counts.shape)) == pytest.approx(1, abs=0.02)
    assert "pedestal: 1000 ADU subtracted" in map(str, record.steps)


@pytest.mark.parametrize("sky", [-1.0, 300.0])
def test_counts_of_no_light_that_are_subtracted_twice_are_refused_and_those_of_a_dark_sky_are_not(sky: float) -> None:
    counts = np.random.default_rng(0).normal(sky, 5, (256, 256))
    pedestal = PreprocessConfig(pedestal=1000)
    calibrate(exposure(counts + 1000), pedestal, Masters())
    with pytest.raises(DataError, match=r"an exposure must not lie 10 times .* median of -\d+ ADU .*pedestal=0"):
        calibrate(exposure(counts), pedestal, Masters())


def test_the_noise_that_a_line_shares_is_told() -> None:
    knobs = PreprocessConfig(overscan="[57:64,1:64]", gain="header", read_noise="header")
    steps = calibrate(exposure(np.full((64, 64), 1000.0)), knobs, Masters()).steps
    (told,) = (step.detail for step in steps if step.name == "uncertainty")
    assert told.endswith("electrons; the error of the overscan's level, 2 electrons, is one for all pixels of a line")


@pytest.mark.parametrize("frames", [5, 10])
@pytest.mark.parametrize(
    ("durations", "seconds"), [([300.0], 300.0), ([300.0], 60.0), ([60.0, 600.0], 110.0), ([60.0, 600.0], 330.0)]
)
def test_the_error_of_a_bias_that_is_in_the_dark_too_counts_once(
    frames: int, durations: list[float], seconds: float
) -> None:
    """Each of these few biases and darks has a read noise well above that of the sky of 20 electrons."""
    camera = Camera((400, 400), seed=frames)
    rule = Combination()
    bias = master_bias([camera.expose(0, seconds=0) for _ in range(frames)], readout=READOUT, rule=rule)
    lengths = [durations[number % len(durations)] for number in range(frames)]
    darks = ((camera.expose(0, seconds=length), length) for length in lengths)
    dark = master_dark(darks, bias=bias, readout=READOUT, rule=rule)
    masters = Masters(bias, dark.current, bias_per_second=dark.bias_per_second)
    image = camera.expose(20 / camera.flat, seconds=seconds)
    image.meta = fits.Header({"EXPTIME": seconds})
    knobs = PreprocessConfig(bias=["b"], dark=["d"], gain=READOUT.gain, read_noise=READOUT.read_noise)
    frame = calibrate(image, knobs, masters).frame
    assert pull_width(frame, np.full(camera.shape, 20.0)) == pytest.approx(1, abs=0.02)


def test_a_strip_without_light_in_the_part_that_is_kept_is_refused() -> None:
    knobs = PreprocessConfig(overscan="[60:64,1:64]", trim="header")
    with pytest.raises(DataError, match=r"must lie outside .* got overscan \[60:64,1:64\] and trim \[1:60,1:64\]; m"):
        calibrate(exposure(np.full((64, 64), 1000.0), TRIMSEC="[1:60,1:64]"), knobs, Masters())
    calibrate(exposure(np.full((64, 64), 1000.0), TRIMSEC="[1:59,1:64]"), knobs, Masters())


@pytest.mark.parametrize(
    "unit", ["electron", "ELECTRONS", "e-", "e-/s", "adu/s", "ADU/sec", "counts/s", "electron s-1", "MJy/sr"]
)
def test_a_gain_for_what_is_no_longer_counts_is_refused(unit: str) -> None:
    image = exposure(np.full((8, 8), 100.0), BUNIT=unit)
    image = CCDData(image.data, mask=image.mask, unit=unit_named(image.meta), meta=image.meta)
    for gain in ("header", 2.0):
        with pytest.raises(DataError, match=rf"BUNIT must be counts where .*\.gain is given, got '{unit}'; leave out"):
            calibrate(image, PreprocessConfig(gain=gain), Masters())
    record = calibrate(image, PreprocessConfig(pedestal=0), Masters())
    assert unit_of(record) == unit


@pytest.mark.parametrize("unit", ["", "ADU", "adu", "counts", "COUNTS", "DN", "ct", "raw values"])
def test_counts_under_any_name_are_multiplied_by_the_gain(unit: str) -> None:
    image = exposure(np.full((8, 8), 100.0), BUNIT=unit)
    image = CCDData(image.data, mask=image.mask, unit=unit_named(image.meta), meta=image.meta)
    record = calibrate(image, PreprocessConfig(gain="header"), Masters())
    assert record.frame.data == pytest.approx(200) and unit_of(record) == "electron"


def test_an_overscan_without_good_pixels_says_what_took_them() -> None:
    knobs = PreprocessConfig(overscan="[61:64,1:64]", saturation=5000)
    counts = np.full((64, 64), 1000.0)
    bled, endless, marked = counts.copy(), counts.copy(), np.zeros((64, 64), bool)
    bled[3, 60:] = 60_000
    endless[:, 62:], endless[:, 60:62] = np.nan, 1e33
    marked[7:9, 60:] = True
    rule = r"overscan \[61:64,1:64\] must have good pixels in every line, got none in"
    with pytest.raises(DataError, match=rf"{rule} 1 of 64: most are saturated; raise data\.preprocess\.saturation, or"):
        calibrate(exposure(bled), knobs, Masters())
    with pytest.raises(DataError, match=rf"{rule} 64 of 64: most are not finite, or beyond 1e30; leave the frame out"):
        calibrate(exposure(endless), knobs, Masters())
    with pytest.raises(DataError, match=rf"{rule} 2 of 64: most are marked in data\.preprocess\.bad_pixels; mend"):
        calibrate(exposure(counts), knobs, Masters(bad_pixels=marked))


def test_a_level_of_saturation_below_most_pixels_is_refused() -> None:
    counts = np.full((64, 64), 1000.0)
    counts[:, :30] = 5
    with pytest.raises(DataError, match=r"most pixels must be below .* saturation of 10 ADU, got 53% at or above it"):
        calibrate(exposure(counts), PreprocessConfig(saturation=10), Masters())
    counts[:, :33] = 5
    assert calibrate(exposure(counts), PreprocessConfig(saturation=10), Masters()).frame.mask.mean() == 31 / 64


@pytest.mark.parametrize(("knob", "names"), [("overscan", "BIASSEC"), ("trim", "TRIMSEC or DATASEC")])
def test_the_remedy_for_a_missing_section_can_be_typed(knob: str, names: str) -> None:
    message = rf"must have {names}, and hasn't; give '(.*)' \(with both kinds of quotes\), or data.preprocess.{knob}=n"
    with pytest.raises(DataError, match=message) as caught:
        calibrate(exposure(np.ones((8, 8))), PreprocessConfig(**{knob: "header"}), Masters())
    remedy = re.search(message, str(caught.value))[1].replace("x1:x2,y1:y2", "5:8,1:8")  # type: ignore[index]
    assert getattr(load(["data=frames", "data.root=.", "data.manifest=m.csv", remedy]).data.preprocess, knob)
    broken = exposure(np.ones((8, 8)), **{names.split()[0]: "[8:5,1:8]"})
    with pytest.raises(DataError, match=rf"{names.split()[0]} of the header must be .*, got '\[8:5,1:8\]'; mend it"):
        calibrate(broken, PreprocessConfig(**{knob: "header"}), Masters())


@pytest.mark.parametrize("value", [3e38, -3e38, np.inf])
def test_values_out_of_range_are_masked_and_overflow_nowhere(value: float) -> None:
    counts = np.random.default_rng(0).normal(1000, 5, (64, 64))
    counts[3, 4] = value
    knobs = PreprocessConfig(pedestal=1000, gain="header", read_noise="header")
    frame = calibrate(exposure(counts), knobs, Masters()).frame
    assert frame.mask.sum() == 1 and frame.mask[3, 4] and np.isfinite(frame.data[~frame.mask]).all()
