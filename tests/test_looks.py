"""Claims about looks: they see the part of a frame that the network trains on, trimmed and then cut."""

from __future__ import annotations

import threading
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy import log as astropy_log
from astropy.io import fits

from astrid.config import DataError, FramesData, PreprocessConfig
from astrid.data import looks
from astrid.data.copies import describe_pixels
from astrid.data.damage import without_advice
from astrid.data.looks import look_at
from astrid.data.manifest import read_manifest
from astrid.data.preprocess import prepare_field
from astrid.data.rows import FrameRow, ImageFile, Section

SHAPE = (64, 72)
PIXEL = 1 / 3600  # degrees
LEFT, RIGHT = "[1:32,1:64]", "[41:72,1:64]"


def exposure(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).poisson(300, size=SHAPE).astype(np.float32)


def write(path: Path, values: np.ndarray, *, east: int | None = None, **cards: Any) -> None:
    """Write an image, its middle `east` pixels east of a place if that is given."""
    hdu = fits.PrimaryHDU(values)
    if east is not None:
        hdu.header.update(CTYPE1="RA---TAN", CTYPE2="DEC--TAN", CRVAL1=150.0 + east * PIXEL, CRVAL2=0.0)
        hdu.header.update(CRPIX1=(SHAPE[1] + 1) / 2, CRPIX2=(SHAPE[0] + 1) / 2, CDELT1=-PIXEL, CDELT2=PIXEL)
    hdu.header.update(**cards)
    hdu.writeto(path)


def configured(folder: Path, *, trim: str, **knobs: Any) -> FramesData:
    places = {"root": str(folder), "manifest": str(folder / "m.csv"), "cache": str(folder / "cache")}
    return FramesData(**places, preprocess=PreprocessConfig(trim=trim, **knobs))


def read(folder: Path, names: str, *, trim: str, section: str = "") -> list[FrameRow]:
    """Read a manifest of so many frames, each with the section: the first trains, the second validates, others test."""
    splits = ("train", "val", *["test"] * (len(names.split()) - 2))
    rows = [f'{name},{name}.fits,{split},"{section}"' for name, split in zip(names.split(), splits, strict=True)]
    (folder / "m.csv").write_text("\n".join(["field,science,split,section", *rows]))
    return read_manifest(configured(folder, trim=trim), receptive_field_pixels=10)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Exposures b and c, for the splits that a claim isn't about."""
    for seed, name in enumerate("bc", start=1):
        write(tmp_path / f"{name}.fits", exposure(seed), TRIMSEC="[1:72,1:64]")
    return tmp_path


@pytest.mark.parametrize("section", [None, "[1:20,1:64]", "[13:32,1:64]"])
@pytest.mark.parametrize("trim", ["none", LEFT, RIGHT, "header"])
def test_a_look_counts_the_positives_that_the_network_sees(tmp_path: Path, trim: str, section: str | None) -> None:
    target = np.zeros(SHAPE, dtype=np.uint8)
    target[50:53, 10:15] = target[20:23, 50:53] = 1
    write(tmp_path / "a.fits", exposure(0), TRIMSEC=RIGHT)
    write(tmp_path / "target.fits", target)
    files = {"science": ImageFile(tmp_path / "a.fits"), "target": ImageFile(tmp_path / "target.fits")}
    part = None if section is None else Section.parse(section)
    row = FrameRow(2, "a", "a", "train", **files, section=part, fwhm_pixels=3.0)
    look_at([row], configured(tmp_path, trim="[1:60,1:64]"))  # another trim's look must not be taken for this one's
    config = configured(tmp_path, trim=trim)
    assert look_at([row], config)[2].positives == prepare_field(row, config).target.sum()


@pytest.mark.parametrize("raw", [False, True])
def test_a_reference_that_is_reduced_already_is_looked_at_whole(tmp_path: Path, raw: bool) -> None:
    for seed, name in enumerate("ar"):
        write(tmp_path / f"{name}.fits", exposure(seed))
    science, reference = (ImageFile(tmp_path / f"{name}.fits") for name in "ar")
    config = configured(tmp_path, trim=RIGHT)
    config.preprocess.raw_reference = raw
    seen = look_at([FrameRow(2, "a", "a", "train", science, reference)], config)[2].reference_keys
    alone = look_at([FrameRow(3, "r", "r", "train", reference)], configured(tmp_path, trim=RIGHT if raw else "none"))
    np.testing.assert_array_equal(seen, alone[3].science_keys)
    assert seen.size


def test_a_copy_in_the_part_that_is_left_is_refused_and_one_in_what_is_cut_off_is_not(folder: Path) -> None:
    write(folder / "a.fits", exposure(0))
    write(folder / "copy.fits", np.hstack([exposure(9)[:, :40], exposure(0)[:, 40:]]))
    with pytest.raises(DataError, match=r"rows 2 \(train\) and 5 \(test\): .* share pixels"):
        read(folder, "a b c copy", trim=RIGHT, section=LEFT)
    assert len(read(folder, "a b c copy", trim=LEFT)) == 4


@pytest.mark.parametrize("section", ["", "[1:30,1:64]"])
def test_sky_in_what_is_left_is_shared_and_sky_in_what_is_cut_off_is_not(folder: Path, section: str) -> None:
    """The eastern frame is 40 pixels from the western: its right part shows what the left part of the other does."""
    frames = {"west": (0, LEFT), "east": (40, RIGHT), "cut-west": (0, RIGHT), "cut-east": (40, LEFT)}
    for seed, (name, (east, trim)) in enumerate(frames.items(), start=10):
        write(folder / f"{name}.fits", exposure(seed), east=east, TRIMSEC=trim)
    with pytest.raises(DataError, match=r"rows 2 \(train\) and 5 \(test\): .* overlap on the sky"):
        read(folder, "west b c east", trim="header", section=section)
    assert len(read(folder, "cut-west b c cut-east", trim="header", section=section)) == 4


def test_a_section_that_what_is_left_does_not_hold_is_refused_before_anything_is_prepared(folder: Path) -> None:
    write(folder / "a.fits", exposure(0))
    with pytest.raises(DataError, match=r"row \d: section \[1:40,1:64\] must lie in the trimmed frame of 32x64"):
        read(folder, "a b c", trim=RIGHT, section="[1:40,1:64]")


def test_a_reference_of_another_grid_is_looked_at_whole_whatever_the_section(folder: Path) -> None:
    """The science frame's section says nothing of the pixels of a reference that is yet to be registered."""
    sky = np.hstack([exposure(8), exposure(9)])
    write(folder / "a.fits", exposure(0))
    write(folder / "sky.fits", sky)
    files = {"science": ImageFile(folder / "a.fits"), "reference": ImageFile(folder / "sky.fits")}
    row = FrameRow(2, "a", "a", "train", **files, section=Section.parse("[1:40,1:40]"), fwhm_pixels=3.0)
    cut = describe_pixels(sky[10:60, 80:140])
    shared = {}
    for register in ("none", "stars"):  # none: the section counts in both, and the cut lies outside of it
        config = configured(folder, trim="none", register=register)
        shared[register] = np.intersect1d(look_at([row], config)[2].reference_keys, cut).size
    assert shared["none"] == 0 and shared["stars"] > 10


def test_what_one_thread_puts_back_lets_no_advice_of_another_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, level = list(warnings.filters), astropy_log.level
    first, second = threading.Event(), threading.Event()
    found = looks._look

    def interleaved(row: FrameRow, config: FramesData) -> looks.Look:
        if row.name == "a":  # begins first and ends while b still reads
            with without_advice():
                first.set()
                assert second.wait(60)
            first.clear()
        else:
            assert first.wait(60)
            with without_advice():
                second.set()
                while first.is_set():
                    time.sleep(0.001)
                warnings.warn("advice", UserWarning, stacklevel=1)
        return found(row, config)

    monkeypatch.setattr(looks, "_look", interleaved)
    for seed, name in enumerate("ab"):
        write(tmp_path / f"{name}.fits", exposure(seed))
    files = {name: ImageFile(tmp_path / f"{name}.fits") for name in "ab"}
    rows = [FrameRow(number, name, name, "train", science=file) for number, (name, file) in enumerate(files.items(), 2)]
    config = configured(tmp_path, trim="none")
    config.prepare_workers = 2
    assert set(looks.look_at(rows, config)) == {2, 3}
    assert warnings.filters == before and astropy_log.level == level


def test_a_damaged_look_is_taken_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.fits", exposure(0))
    row = FrameRow(2, "a", "a", "train", science=ImageFile(tmp_path / "a.fits"))
    config = configured(tmp_path, trim="none")
    first = look_at([row], config)[2]
    (kept,) = (tmp_path / "cache" / "looks").iterdir()
    content = kept.read_bytes()
    monkeypatch.setattr(looks, "_look", lambda row, config: first)
    for place in [0, 70, *range(content.index(b"PK\1\2"), len(content), 7)]:  # and all over the zip's directory
        damaged = bytearray(content)
        damaged[place] ^= 1
        kept.write_bytes(damaged)
        assert look_at([row], config)[2] is first


def test_of_several_rows_that_are_refused_the_first_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    later, describe = threading.Event(), looks._describe_frames

    def slow_first(row: FrameRow, config: FramesData) -> tuple[looks.Described, looks.Described]:
        if row.number == 2:
            assert later.wait(60)
            time.sleep(0.05)  # so that the other thread has said what is wrong with its row
        else:
            later.set()
        return describe(row, config)

    monkeypatch.setattr(looks, "_describe_frames", slow_first)
    rows = []
    for number in range(2, 8):
        write(tmp_path / f"{number}.fits", exposure(number))
        file = ImageFile(tmp_path / f"{number}.fits")
        rows.append(FrameRow(number, str(number), str(number), "train", science=file, reference=file))
    config = configured(tmp_path, trim="none")
    config.prepare_workers = 2
    with pytest.raises(DataError, match=r"^row 2: reference must be another exposure than science"):
        looks.look_at(rows, config)
