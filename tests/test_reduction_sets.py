"""Claims about masters of a configuration: what decides them decides their name, and sets need no more than is used."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from astrid.config import DataError, FramesData, PreprocessConfig, RunError
from astrid.data import frames, hdus, keywords, packing, pixels, rows
from astrid.data.exposures import read_exposure
from astrid.data.reduction import chain, combine, detector, sets, told
from astrid.data.reduction.sets import SETS, cached_masters, deciding_code, make_masters, masters_key
from astrid.data.rows import ImageFile

SHAPE = (12, 16)
HEADER = {"EXPTIME": 10.0, "GAIN": 2.0, "RDNOISE": 5.0, "SATURATE": 60_000, "BIASSEC": "[13:16,1:12]"}
SERVING = {"memory_mib"}


def write(folder: Path, name: str, *, level: float, missing: str | None = None, **header: object) -> np.ndarray:
    """Write an exposure of some level, 1000 in its overscan, with a noise of 5; return its counts."""
    seed = sum(name.encode())
    counts = np.random.default_rng(seed).normal(level, 5, SHAPE).astype(np.float32)
    counts[:, 12:] += 1000 - level
    cards = {key: value for key, value in (HEADER | header).items() if key != missing}
    fits.writeto(folder / f"{name}.fits", counts, fits.Header(cards), overwrite=True)
    return counts


def write_sets(folder: Path) -> PreprocessConfig:
    """Write three exposures of each set, and return knobs that use them and their headers."""
    for number in range(3):
        for kind, level in (("bias", 1000), ("dark", 1100), ("flat", 20_000)):
            write(folder, f"{kind}_{number}", level=level)
    patterns = {kind: [f"{kind}_*.fits"] for kind in SETS}
    return PreprocessConfig(
        **patterns, saturation="header", gain="header", read_noise="header", overscan="header", trim="[1:12,1:12]"
    )


@dataclass
class Watched:
    """Knobs that remember which of them were asked for."""

    knobs: PreprocessConfig
    asked: set[str] = field(default_factory=set)

    def __getattr__(self, name: str) -> object:
        derived = getattr(type(self.knobs), name, None)
        if isinstance(derived, property):
            return derived.fget(self)  # type: ignore[misc]
        self.asked.add(name)
        return getattr(self.knobs, name)


def test_every_knob_that_masters_are_made_by_is_in_their_key(tmp_path: Path) -> None:
    making, naming = (Watched(write_sets(tmp_path)) for _ in range(2))
    make_masters(making, root=tmp_path)  # type: ignore[arg-type]
    masters_key(naming, tmp_path)  # type: ignore[arg-type]
    assert {"saturation", "overscan", "trim", "gain", "clip_sigma"} <= making.asked
    assert making.asked - naming.asked == SERVING


def test_another_level_of_saturation_makes_masters_anew(tmp_path: Path) -> None:
    for number in range(3):
        flat = write(tmp_path, f"flat_{number}", level=20_000)
        flat[4, 5] = 65_535
        fits.writeto(tmp_path / f"flat_{number}.fits", flat, fits.Header(HEADER), overwrite=True)
    knobs = {"flat": ["flat_*.fits"], "bias": ["bias.fits"]}
    write(tmp_path, "bias", level=0)
    first = cached_masters(PreprocessConfig(**knobs), root=tmp_path, cache=tmp_path)
    second = cached_masters(PreprocessConfig(**knobs, saturation=60_000), root=tmp_path, cache=tmp_path)
    assert first.flat is not None and first.flat.data[4, 5] > 3 and not first.flat.mask[4, 5]
    assert second.flat is not None and second.flat.mask[4, 5]


def test_the_code_that_reads_and_combines_frames_is_in_the_key() -> None:
    modules = (chain, combine, detector, frames, hdus, keywords, packing, pixels, rows, sets, told)
    assert {Path(str(module.__file__)) for module in modules} <= set(deciding_code())


@pytest.mark.parametrize("kind", SETS)
def test_a_gain_that_cannot_be_is_refused_by_its_file(tmp_path: Path, kind: str) -> None:
    knobs = write_sets(tmp_path)
    write(tmp_path, f"{kind}_0", level=1000, GAIN=0)
    with pytest.raises(DataError, match=rf"{kind}_0\.fits: GAIN of the header must be above 0 and below 1e30, got 0"):
        make_masters(knobs, root=tmp_path)


def test_darks_that_hold_the_bias_are_bound_to_their_duration(tmp_path: Path) -> None:
    write_sets(tmp_path)
    knobs = PreprocessConfig(dark=["dark_*.fits"], flat=["flat_*.fits"], trim="[1:12,1:12]")
    masters = cached_masters(knobs, root=tmp_path, cache=tmp_path)
    assert masters.only_seconds == 10 and cached_masters(knobs, root=tmp_path, cache=tmp_path).only_seconds == 10
    stated = cached_masters(PreprocessConfig(dark=["dark_*.fits"], pedestal=1000), root=tmp_path, cache=tmp_path)
    assert stated.only_seconds is None and stated.dark is not None
    assert np.median(stated.dark.data[:, :12]) == pytest.approx(10, abs=0.5)
    write(tmp_path, "flat_2", level=20_000, EXPTIME=2.0)
    with pytest.raises(DataError, match=r"flat_2\.fits: darks that hold the bias .* got 10 s for 2 s; give"):
        make_masters(knobs, root=tmp_path)
    write(tmp_path, "dark_2", level=1100, EXPTIME=30.0)
    with pytest.raises(DataError, match=r"dark_2\.fits: darks that hold the bias .* got 10 s for 30 s; give"):
        make_masters(knobs, root=tmp_path)


def test_durations_are_needed_only_where_a_dark_is_scaled(tmp_path: Path) -> None:
    knobs = write_sets(tmp_path)
    write(tmp_path, "bias_1", level=1000, missing="EXPTIME")
    write(tmp_path, "flat_1", level=20_000, missing="EXPTIME")
    assert make_masters(replace(knobs, dark=[]), root=tmp_path).flat is not None
    with pytest.raises(DataError, match=r"flat_1\.fits: the header must have a number EXPTIME"):
        make_masters(knobs, root=tmp_path)


def test_a_pixel_is_bad_where_any_map_marks_it(tmp_path: Path) -> None:
    for name, place in (("bad_hot", (1, 2)), ("bad_dead", (3, 4))):
        plane = np.zeros(SHAPE, np.uint8)
        plane[place] = 1
        fits.writeto(tmp_path / f"{name}.fits", plane)
    bad = make_masters(PreprocessConfig(bad_pixels="bad_*.fits"), root=tmp_path).bad_pixels
    assert np.argwhere(bad).tolist() == [[1, 2], [3, 4]]
    fits.writeto(tmp_path / "bad_small.fits", np.zeros((3, 3), np.uint8))
    with pytest.raises(DataError, match=r"bad_small\.fits: maps of bad pixels must have one shape, got \(3, 3\)"):
        make_masters(PreprocessConfig(bad_pixels="bad_*.fits"), root=tmp_path)


def masters_file(folder: Path) -> Path:
    (path,) = folder.glob("masters-*.arrays")
    return path


def test_damaged_masters_are_made_again_with_every_set(tmp_path: Path) -> None:
    """Each time in a folder of its own, as a process remembers what it read."""
    knobs = write_sets(tmp_path)
    first = cached_masters(knobs, root=tmp_path, cache=tmp_path / "0")
    content = masters_file(tmp_path / "0").read_bytes()
    names = content.rindex(b"bias.data.npy")  # in the zip's directory
    for number, place in enumerate([0, 70, len(content) // 2, names, names + 3, len(content) - 9], start=1):
        cache = tmp_path / str(number)
        cache.mkdir()
        damaged = bytearray(content)
        damaged[place] ^= 1
        (cache / masters_file(tmp_path / "0").name).write_bytes(damaged)
        again = cached_masters(knobs, root=tmp_path, cache=cache)
        for kind in SETS:
            np.testing.assert_array_equal(getattr(again, kind).data, getattr(first, kind).data)
        assert masters_file(cache).read_bytes() != bytes(damaged)


def test_masters_without_a_set_that_is_asked_for_are_made_again(tmp_path: Path) -> None:
    knobs = write_sets(tmp_path)
    cached_masters(knobs, root=tmp_path, cache=tmp_path / "0")
    name = masters_file(tmp_path / "0").name
    sets._write(tmp_path / "1" / name, make_masters(replace(knobs, bias=[]), root=tmp_path))
    assert cached_masters(knobs, root=tmp_path, cache=tmp_path / "1").bias is not None


def test_a_full_disk_is_told_in_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    knobs = write_sets(tmp_path)
    full = functools.partial(open, "/dev/full", "r+b")
    monkeypatch.setattr(combine.tempfile, "TemporaryFile", lambda dir: full())
    with pytest.raises(RunError, match=r"data\.cache: .*/cache can't be written \(No space left on device, .* MiB are"):
        cached_masters(knobs, root=tmp_path, cache=tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*partial*"))


def write_mosaic(folder: Path, name: str, pictures: list[tuple[str | None, float]]) -> ImageFile:
    """Write a file with an extension for each (EXTNAME, level), and return its second."""
    hdus = [fits.ImageHDU(np.full(SHAPE, level, np.float32), name=extension) for extension, level in pictures]
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(folder / f"{name}.fits", overwrite=True)
    return ImageFile(folder / f"{name}.fits", 2)


def calibrated(config: PreprocessConfig, folder: Path, file: ImageFile) -> tuple[float, list[str]]:
    """Return the level of a calibrated exposure and its history."""
    data = FramesData(root=str(folder), manifest="m.csv", cache=str(folder / "cache"), preprocess=config)
    record = read_exposure("science", file, data, fwhm_pixels=None)
    return float(np.median(record.frame.data[~record.frame.mask])), [str(step) for step in record.steps]


@pytest.mark.parametrize(
    ("science", "bias", "used"),
    [
        (["CCD1", "CCD2"], [("CCD1", 100), ("CCD2", 200)], "HDU 2 (CCD2)"),
        (["CCD1", "CCD2"], [("CCD2", 200), ("CCD1", 100), ("CCD3", 300)], "HDU 1 (CCD2)"),
        ([None, None], [(None, 100), (None, 200)], "HDU 2"),
        (["COMPRESSED_IMAGE"] * 2, [("COMPRESSED_IMAGE", 100), ("COMPRESSED_IMAGE", 200)], "HDU 2"),
        (["SCI", "SCI"], [("SCI", 100), ("SCI", 200)], "HDU 2 (SCI)"),
        (["CCD1", "CCD2"], [(None, 200)], ""),
    ],
)
def test_a_detector_of_a_mosaic_is_calibrated_with_its_own_frames(
    tmp_path: Path, science: list[str | None], bias: list[tuple[str | None, float]], used: str
) -> None:
    exposure = write_mosaic(tmp_path, "science", [(name, 1200) for name in science])
    write_mosaic(tmp_path, "bias", bias)
    level, steps = calibrated(PreprocessConfig(bias=["bias*.fits"]), tmp_path, exposure)
    assert level == 1000
    assert f"bias: master{' of ' if used else ''}{used} subtracted" in steps


def test_every_set_and_the_map_are_of_the_detector_and_so_is_their_key(tmp_path: Path) -> None:
    science = write_mosaic(tmp_path, "science", [("A", 1000), ("B", 1000)])
    write_mosaic(tmp_path, "flat", [("B", 3000), ("A", 4000)])
    planes = [fits.ImageHDU(np.full(SHAPE, bad, np.uint8), name=name) for name, bad in (("B", 0), ("A", 1))]
    planes[0].data[3, 4] = 1
    fits.HDUList([fits.PrimaryHDU(), *planes]).writeto(tmp_path / "bad.fits")
    knobs = PreprocessConfig(flat=["flat.fits"], bad_pixels="bad.fits", pedestal=0)
    _, steps = calibrated(knobs, tmp_path, science)
    assert {"bad pixels: 1 masked of HDU 1 (B)", "flat: divided by master of HDU 1 (B)"} <= set(steps)
    first = ImageFile(science.path)  # its first picture
    keys = {masters_key(knobs, tmp_path, like=like) for like in (first, science)}
    assert len(keys) == 2 and masters_key(knobs, tmp_path, like=ImageFile(science.path, "B")) in keys


def test_a_mosaic_without_the_detector_is_refused(tmp_path: Path) -> None:
    science = write_mosaic(tmp_path, "science", [("A", 1200), ("B", 1200)])
    write_mosaic(tmp_path, "bias", [("A", 100), ("C", 200)])
    message = (
        r"science science\.fits: .*/bias\.fits: data\.preprocess\.bias must have a picture of the detector of "
        r"science\.fits, which is HDU 2 \(B\), got HDU 1 \(A\), HDU 2 \(C\); name one, as in bias\.fits\[A\]"
    )
    with pytest.raises(DataError, match=message):
        calibrated(PreprocessConfig(bias=["bias.fits"]), tmp_path, science)
    level, steps = calibrated(PreprocessConfig(bias=["bias.fits[C]"]), tmp_path, science)
    assert level == 1000 and "bias: master of HDU 2 (C) subtracted" in steps


@pytest.mark.parametrize(
    ("level", "noise", "rule"),
    [
        (1000.0, 0.0, "a flat must hold light above bias and dark, more than 3 times"),
        (1000.0, 5.0, "a flat must hold light above bias and dark, more than 3 times"),
        (1010.0, 5.0, "a flat must hold light above bias and dark, more than 3 times"),
        (65_000.0, 0.0, "most pixels must be below the level of saturation of 60000 ADU"),
    ],
)
def test_a_flat_without_light_or_with_too_much_is_refused_by_its_file(
    tmp_path: Path, level: float, noise: float, rule: str
) -> None:
    knobs = write_sets(tmp_path)
    counts = np.random.default_rng(3).normal(level, noise, SHAPE).astype(np.float32)
    counts[:, 12:] = 1000
    fits.writeto(tmp_path / "flat_1.fits", counts, fits.Header(HEADER), overwrite=True)
    with pytest.raises(DataError, match=rf"flat_1\.fits: {rule}"):
        make_masters(replace(knobs, dark=[]), root=tmp_path)
