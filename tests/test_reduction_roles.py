"""Claims about what headers say of calibration frames: contradictions are told once for each set, the rest isn't."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from astrid.config import FramesData, PreprocessConfig
from astrid.data.exposures import read_exposure
from astrid.data.reduction import roles, sets
from astrid.data.rows import ImageFile

LEVELS = {"bias": 1000.0, "dark": 1050.0, "flat": 20_000.0, "science": 3000.0}
TYPES = {"bias": "zero", "dark": "Dark Frame", "flat": "FLAT,LAMP", "science": "OBJECT"}


@pytest.fixture(autouse=True)
def nothing_told() -> None:
    roles._told.clear()


def write(folder: Path, name: str, *, extension: bool = False, **cards: object) -> ImageFile:
    """Write an exposure of the kind that its name begins with; what its header says may be in the primary one."""
    kind = name.partition("_")[0]
    header = fits.Header({"EXPTIME": 10.0, "IMAGETYP": TYPES[kind], "FILTER": "r"} | cards)
    counts = np.full((16, 16), LEVELS[kind], np.float32)
    own = fits.Header({"EXPTIME": header["EXPTIME"]})
    mosaic = [fits.PrimaryHDU(header=header), fits.ImageHDU(counts, own)]
    hdus = mosaic if extension else [fits.PrimaryHDU(counts, header)]
    fits.HDUList(hdus).writeto(folder / f"{name}.fits", overwrite=True)
    return ImageFile(folder / f"{name}.fits")


def write_all(folder: Path, **extension: bool) -> ImageFile:
    for name in ("bias_0", "bias_1", "dark_0", "dark_1", "flat_0", "flat_1"):
        write(folder, name, **extension)
    return write(folder, "science_0", **extension)


def warnings_of(folder: Path, *files: ImageFile, caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what is warned of while exposures are calibrated."""
    knobs = PreprocessConfig(bias=["bias_*.fits"], dark=["dark_*.fits"], flat=["flat_*.fits"])
    data = FramesData(root=str(folder), manifest="m.csv", cache=str(folder / "cache"), preprocess=knobs)
    caplog.clear()
    for file in files:
        read_exposure("science", file, data, fwhm_pixels=None)
    return [record.message for record in caplog.records if record.levelname == "WARNING"]


@pytest.mark.parametrize("extension", [False, True])
def test_frames_that_are_what_they_are_used_as_are_silent(
    tmp_path: Path, extension: bool, caplog: pytest.LogCaptureFixture
) -> None:
    science = write_all(tmp_path, extension=extension)
    assert warnings_of(tmp_path, science, caplog=caplog) == []


@pytest.mark.parametrize("extension", [False, True])
def test_a_set_with_exposures_of_another_kind_is_told_once(
    tmp_path: Path, extension: bool, caplog: pytest.LogCaptureFixture
) -> None:
    science = write_all(tmp_path, extension=extension)
    for name, kind in (("bias_0", "FLAT"), ("bias_1", "FLAT"), ("dark_1", "OBJECT"), ("flat_0", "BIAS")):
        write(tmp_path, name, IMAGETYP=kind, extension=extension)
    remedy = "check the names"
    expected = [
        f"data.preprocess.bias: bias_0.fits has IMAGETYP = 'FLAT', which says flat, and is used as bias; {remedy}",
        f"data.preprocess.dark: dark_1.fits has IMAGETYP = 'OBJECT', which says science, and is used as dark; {remedy}",
        f"data.preprocess.flat: flat_0.fits has IMAGETYP = 'BIAS', which says bias, and is used as flat; {remedy}",
    ]
    assert warnings_of(tmp_path, science, science, caplog=caplog) == expected
    roles._told.clear()  # another process, which takes the masters from the cache
    sets._read.cache_clear()
    assert warnings_of(tmp_path, science, caplog=caplog) == expected


@pytest.mark.parametrize("extension", [False, True])
def test_a_flat_of_another_filter_is_told_once(
    tmp_path: Path, extension: bool, caplog: pytest.LogCaptureFixture
) -> None:
    write_all(tmp_path, extension=extension)
    science = [write(tmp_path, f"science_{number}", FILTER="i", extension=extension) for number in range(3)]
    (told,) = warnings_of(tmp_path, *science, caplog=caplog)
    assert told == (
        "data.preprocess.flat: flat_0.fits has FILTER = 'r', and science_0.fits has FILTER = 'i'; give each filter a "
        "run of its own, with its flats"
    )
    write(tmp_path, "flat_1", FILTER="z", extension=extension)
    told = warnings_of(tmp_path, write(tmp_path, "science_0", FILTER="r", extension=extension), caplog=caplog)
    assert [line.partition(";")[0] for line in told] == [
        "data.preprocess.flat: flat_0.fits has FILTER = 'r', and flat_1.fits has FILTER = 'z'"
    ]


def test_darks_as_bias_and_headers_that_say_nothing_are_silent(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    science = write_all(tmp_path)
    write(tmp_path, "bias_0", IMAGETYP="dark", EXPTIME=0.0)
    write(tmp_path, "dark_0", IMAGETYP="")
    write(tmp_path, "flat_0", FILTER="none")
    write(tmp_path, "science_0", FILTER="")
    assert warnings_of(tmp_path, science, caplog=caplog) == []
