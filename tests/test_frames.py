"""Claims about reading FITS: every usual form gives the same exact pixels, and damage gives one clear message."""

from __future__ import annotations

import bz2
import gzip
import os
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from astrid.config import DataError
from astrid.data.frames import inspect_image, list_pictures, read_image, read_plane
from astrid.data.hdus import keywords
from astrid.data.rows import ImageFile, Section

PICTURES = [
    *(
        "m13.fits",
        "m13_gzip.fits",
        "m13_hcomp.fits",
        "m13_plio.fits",
        "m13_rice.fits",
        "m13real.fits",
        "m13real_rice.fits",
    ),
    *(f"test{kind}.fits{packing}" for kind in "FS" for packing in ("", ".gz", ".bz2", ".fz")),
    *(f"test_multi{kind}.fits{packing}" for kind in "FS" for packing in ("", ".gz", ".bz2", ".fz")),
]
TABLES = ["lasair_orion.fits", "lasair_orion29.fits"]


def write(path: Path, *hdus: fits.hdu.base._BaseHDU) -> Path:
    fits.HDUList(list(hdus)).writeto(path)
    return path


@pytest.fixture
def ramp() -> np.ndarray:
    return np.arange(12 * 17, dtype=np.int16).reshape(12, 17) - 100


def says_one_thing(error: DataError, path: Path) -> bool:
    return path.name in str(error) and "\n" not in str(error) and ";" in str(error)


def test_every_odd_file_is_listed_here(sample_data: Path) -> None:
    assert {path.name for path in (sample_data / "odd_fits").iterdir()} == {*PICTURES, *TABLES}


@pytest.mark.parametrize("name", PICTURES)
def test_odd_pictures_are_read_as_native_floats_without_bad_pixels(sample_data: Path, name: str) -> None:
    frame = read_image(sample_data / "odd_fits" / name)
    assert frame.data.shape == ((300, 300) if name.startswith("m13") else (5, 7))
    assert frame.data.dtype == np.float32 and frame.data.dtype.isnative
    assert not frame.mask.any() and np.ptp(frame.data) > 0


@pytest.mark.parametrize("name", TABLES)
def test_odd_files_without_an_image_are_refused_with_one_message(sample_data: Path, name: str) -> None:
    with pytest.raises(DataError, match=r"no image in it .*1 .*a table") as caught:
        read_image(sample_data / "odd_fits" / name)
    assert says_one_thing(caught.value, Path(name))


@pytest.mark.parametrize("scheme", ["gzip", "hcomp", "plio", "rice"])
def test_lossless_tile_compression_gives_back_every_bit(sample_data: Path, scheme: str) -> None:
    plain = read_plane(sample_data / "odd_fits" / "m13.fits")
    packed = read_plane(sample_data / "odd_fits" / f"m13_{scheme}.fits")
    assert packed.dtype == plain.dtype and np.array_equal(packed, plain)


def test_quantised_floats_agree_to_a_fraction_of_the_noise(sample_data: Path) -> None:
    plain, packed = (read_image(sample_data / "odd_fits" / name).data for name in ("m13real.fits", "m13real_rice.fits"))
    assert 0 < np.abs(packed - plain).max() < 0.1 * plain.std()


@pytest.mark.parametrize("stem", ["testF.fits", "testS.fits", "test_multiF.fits", "test_multiS.fits"])
@pytest.mark.parametrize("packing", [".gz", ".bz2", ".fz"])
def test_compressed_copies_hold_the_same_bits(sample_data: Path, stem: str, packing: str) -> None:
    plain = read_image(sample_data / "odd_fits" / stem).data
    assert np.array_equal(read_image(sample_data / "odd_fits" / f"{stem}{packing}").data, plain)


@pytest.mark.parametrize("name", [*PICTURES, *TABLES])
def test_cut_copies_give_the_true_pixels_or_one_message(sample_data: Path, tmp_path: Path, name: str) -> None:
    original = sample_data / "odd_fits" / name
    content = original.read_bytes()
    truth = read_image(original).data if name in PICTURES else "nothing can be read"
    inside = np.random.default_rng(0).integers(0, len(content), size=8).tolist()
    for length in (0, 1, 2, 3, 100, 2879, 2880, 2881, len(content) // 2, len(content) - 9, len(content) - 1, *inside):
        cut = tmp_path / name
        cut.write_bytes(content[: min(length, len(content) - 1)])
        try:
            assert np.array_equal(read_image(cut).data, truth)
        except DataError as error:
            assert says_one_thing(error, cut)


@pytest.mark.parametrize("name", ["m13_rice.fits", "m13_gzip.fits", "m13_hcomp.fits", "m13_plio.fits", "testS.fits.gz"])
def test_corrupted_copies_are_read_or_refused_but_never_crash(sample_data: Path, tmp_path: Path, name: str) -> None:
    content = bytearray((sample_data / "odd_fits" / name).read_bytes())
    generator = np.random.default_rng(1)
    for _ in range(30):
        hurt = bytearray(content)
        for place in generator.integers(0, len(content), size=3):
            hurt[place] = generator.integers(256)
        damaged = tmp_path / name
        damaged.write_bytes(hurt)
        try:
            read_image(damaged)
        except DataError as error:
            assert says_one_thing(error, damaged)


@pytest.mark.parametrize("packing", ["gz", "bz2"])
def test_a_corrupted_byte_in_a_packed_file_is_noticed_wherever_it_is(tmp_path: Path, packing: str) -> None:
    noise = np.random.default_rng(2).normal(size=(64, 64))
    content = write(tmp_path / "plain.fits", fits.PrimaryHDU(noise)).read_bytes()
    packed = bytearray(gzip.compress(content) if packing == "gz" else bz2.compress(content))
    packed[len(packed) // 2] ^= 0x10
    hurt = tmp_path / f"hurt.fits.{packing}"
    hurt.write_bytes(packed)
    with pytest.raises(DataError, match="cannot be read as FITS"):
        inspect_image(hurt)


def test_compression_is_recognised_by_content_not_by_name(tmp_path: Path, ramp: np.ndarray) -> None:
    plain = write(tmp_path / "plain.fits", fits.PrimaryHDU(ramp))
    misnamed = tmp_path / "misnamed.fits"
    misnamed.write_bytes(gzip.compress(plain.read_bytes()))
    assert np.array_equal(read_image(misnamed).data, ramp)


@pytest.mark.parametrize("dtype", ["u1", "i1", "<i2", ">i2", "<u2", "<i4", "<u4", "<i8", "<f4", ">f4", "<f8", ">f8"])
@pytest.mark.parametrize("compressed", [False, True])
def test_every_number_format_survives_exactly(tmp_path: Path, dtype: str, compressed: bool) -> None:
    if compressed and dtype in ("<i8", "i1"):
        pytest.skip("tile compression doesn't know this format")
    kind = np.dtype(dtype)
    numbers = np.arange(40 * 50).reshape(40, 50) % 100
    stored = numbers.astype(kind)
    if kind.kind != "f":
        stored[0, :2] = np.iinfo(kind).min, np.iinfo(kind).max
    lossless = {"compression_type": "GZIP_1", "quantize_level": 0.0} if kind.kind == "f" else {}
    hdu = fits.CompImageHDU(stored, **lossless) if compressed else fits.ImageHDU(stored)
    frame = read_image(write(tmp_path / "numbers.fits", fits.PrimaryHDU(), hdu))
    assert frame.data.dtype.isnative and np.array_equal(frame.data[1:], numbers[1:])
    assert frame.data.dtype == (np.float32 if kind.itemsize <= 2 or kind.str[1:] == "f4" else np.float64)
    if kind.kind != "f":
        plane = read_plane(tmp_path / "numbers.fits")
        assert plane.dtype == kind.newbyteorder("=") and np.array_equal(plane, stored)


def test_the_highest_bit_of_a_64_bit_plane_survives(tmp_path: Path) -> None:
    plane = np.array([[1 << 63, 1], [2**64 - 1, 0]], dtype=np.uint64)
    assert np.array_equal(read_plane(write(tmp_path / "bits.fits", fits.PrimaryHDU(plane))), plane)


def test_scale_zero_and_blank_make_values_in_double_precision(tmp_path: Path) -> None:
    hdu = fits.PrimaryHDU(np.array([[1, 2], [-7, 30000]], dtype=np.int16))
    path = write(tmp_path / "scaled.fits", hdu)
    with fits.open(path, mode="update", do_not_scale_image_data=True) as hdus:
        hdus[0].header.update(BSCALE=0.001, BZERO=1e6, BLANK=-7)
    frame = read_image(path)
    assert frame.data.dtype == np.float64
    assert np.array_equal(frame.mask, [[False, False], [True, False]])
    assert np.allclose(frame.data[~frame.mask], [1e6 + 0.001, 1e6 + 0.002, 1e6 + 30], rtol=0, atol=1e-9)


def test_values_that_are_not_finite_are_masked(tmp_path: Path) -> None:
    values = np.ones((3, 4), dtype=np.float32)
    values[0, 1], values[2, 3], values[1, 0] = np.nan, np.inf, -np.inf
    assert np.array_equal(read_image(write(tmp_path / "nan.fits", fits.PrimaryHDU(values))).mask, ~np.isfinite(values))


def test_a_plane_of_floats_is_read_if_they_are_whole_and_refused_otherwise(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole.fits", fits.PrimaryHDU(np.array([[0.0, 4096.0]], dtype=np.float32)))
    assert read_plane(whole).tolist() == [[0, 4096]]
    for name, value in (("half", 0.5), ("nan", np.nan), ("inf", np.inf)):
        path = write(tmp_path / f"{name}.fits", fits.PrimaryHDU(np.array([[0.0, value]], dtype=np.float32)))
        with pytest.raises(DataError, match="whole numbers"):
            read_plane(path)


def test_a_plane_with_undefined_pixels_is_refused(tmp_path: Path) -> None:
    hdu = fits.PrimaryHDU(np.array([[0, 9]], dtype=np.int16))
    hdu.header["BLANK"] = 9
    with pytest.raises(DataError, match="undefined"):
        read_plane(write(tmp_path / "blank.fits", hdu))


@pytest.fixture
def many_hdus(tmp_path: Path) -> Path:
    science = [fits.ImageHDU(np.full((4, 5), value, dtype=np.float32), name="SCI", ver=value) for value in (1, 2)]
    quality = fits.CompImageHDU(np.full((4, 5), 3, dtype=np.int16), name="DQ")
    cube = fits.ImageHDU(np.zeros((3, 4, 5), dtype=np.float32), name="CUBE")
    table = fits.BinTableHDU.from_columns([fits.Column("a", "J", array=[1])], name="CAT")
    return write(tmp_path / "many.fits", fits.PrimaryHDU(), table, *science, quality, cube)


@pytest.mark.parametrize(
    ("spec", "value"),
    [("", 1), ("[SCI]", 1), ("[sci]", 1), ("[2]", 1), ("[SCI,2]", 2), ("[3]", 2), ("[DQ]", 3), ("[4]", 3)],
)
def test_an_hdu_is_found_by_number_by_name_or_as_the_first_image(many_hdus: Path, spec: str, value: int) -> None:
    image = ImageFile.parse(f"{many_hdus.name}{spec}", many_hdus.parent)
    assert np.all(read_image(image.path, hdu=image.hdu).data == value)


@pytest.mark.parametrize(
    ("hdu", "message"),
    [
        ("WHT", "no HDU 'WHT'; name one among 0 PRIMARY: nothing, 1 CAT: a table, 2 SCI: an image of 5x4 pixels"),
        ("SCI,3", "no HDU 'SCI,3'"),
        (9, "no HDU 9"),
        (0, "HDU 0 holds nothing"),
        ("CAT", "HDU 1 holds a table"),
        (
            "CUBE",
            "HDU 5 holds an image of 5x4x3 pixels, but a picture with two axes is needed; name another .* one plane",
        ),
    ],
)
def test_an_hdu_that_is_no_picture_is_refused_with_what_there_is(many_hdus: Path, hdu: int | str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read_image(many_hdus, hdu=hdu)
    assert says_one_thing(caught.value, many_hdus)


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ({}, {"EXPTIME": 30.0, "EGAIN": 2.0, "RDNOISE": 5.0}),
        ({"GAIN": 4.0, "RDNOISE": 7.0}, {"EXPTIME": 30.0, "GAIN": 4.0, "RDNOISE": 7.0}),
        ({"INHERIT": True}, {"EXPTIME": 30.0, "EGAIN": 2.0, "RDNOISE": 5.0}),
        ({"INHERIT": False}, {}),
    ],
)
def test_a_picture_has_exposure_and_gain_of_the_primary_header_where_it_tells_none(
    tmp_path: Path, ramp: np.ndarray, own: dict[str, float], expected: dict[str, float]
) -> None:
    primary = fits.PrimaryHDU(header=fits.Header({"EXPTIME": 30.0, "EGAIN": 2.0, "RDNOISE": 5.0, "OBJECT": "M31"}))
    path = write(tmp_path / "a.fits", primary, fits.ImageHDU(ramp, header=fits.Header(own)))
    told = read_image(path).header
    assert {name: told[name] for name in ("EXPTIME", "EGAIN", "GAIN", "RDNOISE", "OBJECT") if name in told} == expected
    [listed] = list_pictures(path)
    assert listed.meta == keywords(told)


def test_axes_of_length_one_are_dropped(tmp_path: Path, ramp: np.ndarray) -> None:
    path = write(tmp_path / "deep.fits", fits.PrimaryHDU(ramp[None, None]))
    section = Section(2, 5, 3, 9)
    assert np.array_equal(read_image(path).data, ramp)
    assert np.array_equal(read_image(path, section=section).data, ramp[section.slices])


@pytest.mark.parametrize("compressed", [False, True])
def test_a_section_counts_from_one_and_includes_its_ends(tmp_path: Path, ramp: np.ndarray, compressed: bool) -> None:
    hdu = fits.CompImageHDU(ramp) if compressed else fits.ImageHDU(ramp)
    hdu.header.update(
        CTYPE1="RA---TAN", CTYPE2="DEC--TAN", CRPIX1=5, CRPIX2=6, CRVAL1=10, CRVAL2=20, CDELT1=-1e-4, CDELT2=1e-4
    )
    path = write(tmp_path / "ramp.fits", fits.PrimaryHDU(), hdu)
    whole, part = read_image(path), read_image(path, section=Section.parse("[3:7,2:4]"))
    assert np.array_equal(part.data, ramp[1:4, 2:7]) and np.array_equal(
        read_plane(path, section=Section(3, 7, 2, 4)), ramp[1:4, 2:7]
    )
    assert part.wcs.pixel_to_world(0, 0).separation(whole.wcs.pixel_to_world(2, 1)).arcsec < 1e-6


def test_a_section_beyond_the_frame_is_refused(tmp_path: Path, ramp: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"section \[1:18,1:2\] must lie in the image of 17x12 pixels"):
        read_image(write(tmp_path / "ramp.fits", fits.PrimaryHDU(ramp)), section=Section(1, 18, 1, 2))


@pytest.mark.parametrize("text", ["1:2,3:4", "[0:5,1:2]", "[5:1,1:2]", "[1:2]", "[a:b,c:d]", "[1:2,3:4,5:6]", ""])
def test_a_section_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(DataError, match="section must be"):
        Section.parse(text)


@pytest.mark.parametrize(
    ("bunit", "unit"), [("ELECTRONS", "electron"), ("adu", "adu"), ("furlongs per pixel?", ""), (None, "")]
)
def test_units_are_understood_or_left_out(tmp_path: Path, ramp: np.ndarray, bunit: str | None, unit: str) -> None:
    hdu = fits.PrimaryHDU(ramp)
    if bunit is not None:
        hdu.header["BUNIT"] = bunit
    frame = read_image(write(tmp_path / "unit.fits", hdu))
    assert str(frame.unit) == unit and frame.header.get("BUNIT") == bunit


def test_coordinates_that_make_no_sense_leave_the_pixels_readable(tmp_path: Path, ramp: np.ndarray) -> None:
    hdu = fits.PrimaryHDU(ramp)
    hdu.header.update(CTYPE1="RA---TAN", CTYPE2="GLAT-CAR", CD1_1=0.0, CD2_2=0.0)
    frame = read_image(write(tmp_path / "odd.fits", hdu))
    assert frame.wcs is None and np.array_equal(frame.data, ramp)


@pytest.mark.parametrize("cards", [{}, {"CD1_1": 0.0, "CD2_2": 0.0}, {"CDELT1": 0.0, "CDELT2": 0.0}])
def test_coordinates_without_a_scale_are_none_and_that_is_said_of_the_file(
    tmp_path: Path, ramp: np.ndarray, cards: dict[str, float], caplog: pytest.LogCaptureFixture
) -> None:
    hdu = fits.PrimaryHDU(ramp)
    hdu.header.update(CTYPE1="RA---TAN", CTYPE2="DEC--TAN", CRVAL1=150.0, CRVAL2=2.0, **cards)
    caplog.set_level("INFO")
    assert read_image(write(tmp_path / "scaleless.fits", hdu)).wcs is None
    assert "scaleless.fits has no celestial coordinates that can be used: " in caplog.text
    assert "cextern" not in caplog.text


def test_values_beyond_single_precision_are_bad(tmp_path: Path) -> None:
    image = np.array([[1.0, 1e29, 1e31, -1e100, np.inf]])
    assert read_image(write(tmp_path / "huge.fits", fits.PrimaryHDU(image))).mask.tolist() == [[0, 0, 1, 1, 1]]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello\n",
        b"SIMPLE  =                    T" + b" " * 50,
        b"\x1f\x8b",
        b"BZh9",
        b"PK\x03\x04junk",
        b"\x1f\x9djunk",
        b"\xfd7zXZjunk",
    ],
)
def test_what_is_no_fits_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "what.fits"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_image(path)
    assert says_one_thing(caught.value, path)


def test_what_is_no_file_is_refused_without_waiting_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.fits")
    what = {"nothing.fits": "there is no such file", "": "it is a folder", "pipe.fits": "it is a pipe, .* no regular"}
    for name, reason in what.items():
        with pytest.raises(DataError, match=reason):
            read_image(tmp_path / name)


@pytest.mark.parametrize("compressed", [False, True])
def test_a_header_that_declares_a_huge_image_allocates_nothing(
    tmp_path: Path, ramp: np.ndarray, compressed: bool
) -> None:
    hdu = fits.CompImageHDU(ramp) if compressed else fits.ImageHDU(ramp)
    content = write(tmp_path / "small.fits", fits.PrimaryHDU(), hdu).read_bytes()
    card = b"%-8s= %20d" % (b"ZNAXIS2" if compressed else b"NAXIS2", 12)
    assert content.count(card) == 1
    huge = tmp_path / "huge.fits"
    huge.write_bytes(content.replace(card, card[:-20] + b"%20d" % 10**12))
    with pytest.raises(DataError, match="declares" if compressed else "cut short|cannot be read"):
        read_image(huge)


def test_inspection_tells_hdu_shape_and_coordinates(sample_data: Path) -> None:
    info = inspect_image(sample_data / "hst_hrc_ngc104" / "j8bt06nyq_flt_driz.fits.gz", hdu="DQ")
    assert (info.hdu, info.shape) == (3, (1024, 1024)) and info.wcs is not None
