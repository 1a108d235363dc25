"""Claims about manifests that are made from headers: dialects, fields, nights, references, companions, the command."""

from __future__ import annotations

import csv
import logging
import math
import re
import shlex
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

from astrid.cli import main
from astrid.config import FramesData
from astrid.config.compose import load
from astrid.data.footprints import centre
from astrid.data.listing import pairs
from astrid.data.listing.headers import parse_date, read_facts
from astrid.data.listing.nights import night_of
from astrid.data.listing.pictures import Listed, find_files, list_folder
from astrid.data.listing.roles import read_name
from astrid.data.listing.table import Rules, Table, make_table
from astrid.data.manifest import read_manifest, read_rows
from astrid.data.preprocess import prepare_field
from astrid.data.quality import list_files
from astrid.data.rows import ImageFile

NOON = 57828.0 + 0.5  # 2017-03-16T12:00:00

DIALECTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "DECam": (
        {"OBSTYPE": "object", "DATE-OBS": "2017-03-16T12:00:00.000", "EXPTIME": 107.0,
         "FILTER": "z DECam SDSS c0004 9260.0 1520.0", "RA": "12:29:17.64", "DEC": "25:28:45.5", "OBS-LONG": 70.81489},
        {"kind": "science", "mjd": NOON, "seconds": 107.0, "filter": "z", "radec": (187.3235, 25.47931),
         "longitude": 70.81489},
    ),
    "ESO": (
        {"ESO DPR CATG": "CALIB", "ESO DPR TYPE": "FLAT,SKY", "MJD-OBS": NOON, "EXPTIME": 10.0,
         "ESO INS FILT1 NAME": "R_SPECIAL", "RA": 187.3235, "DEC": 25.47931, "ESO TEL GEOLON": -70.4045},
        {"kind": "flat", "mjd": NOON, "seconds": 10.0, "filter": "R_SPECIAL", "radec": (187.3235, 25.47931),
         "longitude": -70.4045},
    ),
    "the form before 1999": (
        {"DATE-OBS": "16/03/17", "UT": "12:00:00", "ITIME": "1200.0", "FILTER1": "", "FILTER2": "Rc"},
        {"kind": None, "mjd": NOON - 36525, "seconds": 1200.0, "filter": "Rc"},
    ),
    "Keck": (
        {"IMAGETYP": "object", "DATE-OBS": "2017-03-16", "UTC": "12:00:00.00", "ITIME": 30.0, "FILTNAM": "Kp",
         "RA": "12:29:17.64", "DEC": "+25:28:45.5"},
        {"kind": "science", "mjd": NOON, "seconds": 30.0, "filter": "Kp", "radec": (187.3235, 25.47931)},
    ),
    "HST": (
        {"IMAGETYP": "EXT", "DATE-OBS": "2017-03-16", "TIME-OBS": "12:00:00", "EXPTIME": 60.0, "FILTER1": "F606W",
         "FILTER2": "CLEAR2S", "RA_TARG": 187.3235, "DEC_TARG": 25.47931},
        {"kind": "science", "mjd": NOON, "seconds": 60.0, "filter": "F606W", "radec": (187.3235, 25.47931)},
    ),
    "MaxIm DL": (
        {"IMAGETYP": "Light Frame", "DATE-OBS": "2017-03-16T12:00:00", "EXPOSURE": 60.0, "FILTER": "Clear",
         "OBJCTRA": "12 29 17.64", "OBJCTDEC": "+25 28 45.5", "SITELONG": "-64 32 56"},
        {"kind": "science", "mjd": NOON, "seconds": 60.0, "filter": "Clear", "radec": (187.3235, 25.47931),
         "longitude": -64.54889},
    ),
    "a bias called a dark": (
        {"IMAGETYP": "Dark Frame", "JD": NOON + 2_400_000.5, "EXPTIME": 1e-32},
        {"kind": "bias", "mjd": NOON, "seconds": 1e-32, "filter": ""},
    ),
    "IRAF": (
        {"IMAGETYP": "zero", "DATE-OBS": "2017-03-16", "UT": "12:00:00", "EXPTIME": 0, "FILTERS": "none"},
        {"kind": "bias", "mjd": NOON, "seconds": 0.0, "filter": ""},
    ),
    "JWST": (
        {"DATE-OBS": "2017-03-16", "TIME-OBS": "12:00:00.0", "EXPTIME": 311.0, "FILTER": "F200W",
         "OBSGEO-X": 1e6, "OBSGEO-Y": 1e6, "OBSGEO-Z": 0.0},
        {"kind": None, "mjd": NOON, "seconds": 311.0, "filter": "F200W", "longitude": 45.0},
    ),
    "dates of 2002 by programs of 1999": (
        {"DATE-OBS": "16/03/117", "TIME-OBS": "12:00:00", "EXPTIME": 60, "FILTER": "R"},
        {"kind": None, "mjd": NOON, "seconds": 60.0, "filter": "R"},
    ),
    "a date alone, and an MJD made of it": (
        {"DATE-OBS": "2017-03-16", "MJD-OBS": 57828.0},
        {"kind": None, "mjd": None, "seconds": None, "filter": ""},
    ),
    "nothing": ({}, {"kind": None, "mjd": None, "seconds": None, "filter": "", "longitude": None, "radec": None}),
    "nonsense": (
        {"OBSTYPE": 7, "DATE-OBS": "yesterday", "MJD-OBS": float("nan"), "EXPTIME": "long", "RA": "here", "DEC": True,
         "SITELONG": "far away", "TIME-OBS": -3, "EQUINOX": "J"},
        {"kind": None, "mjd": None, "seconds": None, "longitude": None, "radec": None},
    ),
}  # fmt: skip


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_header_is_understood_in_its_dialect(dialect: str) -> None:
    header, expected = DIALECTS[dialect]
    facts = read_facts(header)
    for name in ("kind", "filter"):
        assert getattr(facts, name) == expected.get(name, getattr(facts, name))
    for name in ("mjd", "seconds", "longitude"):
        if name in expected:
            wanted = expected[name]
            assert getattr(facts, name) == (None if wanted is None else pytest.approx(wanted, rel=1e-12, abs=1e-5))
    if expected.get("radec"):
        ra, dec = np.radians(expected["radec"])
        wanted = [np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)]
        np.testing.assert_allclose(facts.pointing, wanted, atol=1e-6)
    elif "radec" in expected:
        assert facts.pointing is None


def test_positions_of_1950_are_brought_to_2000() -> None:
    """M 31 in both equinoxes, as SIMBAD has them."""
    old = read_facts({"RA": "00:40:00.1", "DEC": "+40:59:43", "EQUINOX": 1950.0}).pointing
    new = read_facts({"RA": "00:42:44.33", "DEC": "+41:16:07.5"}).pointing
    assert old is not None and new is not None
    assert np.degrees(np.linalg.norm(old - new)) * 3600 < 3


@settings(max_examples=50, deadline=None)
@given(value=st.one_of(st.text(max_size=30), st.floats(), st.integers(), st.booleans(), st.none()))
def test_whatever_a_keyword_holds_what_is_read_is_a_number_or_unknown(value: object) -> None:
    for header in (DIALECTS["DECam"][0], DIALECTS["ESO"][0]):
        for keyword in header:
            facts = read_facts(header | {keyword: value})
            numbers = (facts.mjd, facts.seconds, facts.longitude, facts.width)
            assert all(number is None or math.isfinite(number) for number in numbers), (keyword, facts)
            assert facts.pointing is None or np.linalg.norm(facts.pointing) == pytest.approx(1), (keyword, facts)


@given(day=st.integers(50000, 62000), longitude=st.floats(-180, 180), hour=st.floats(0.01, 23.99))
def test_a_night_lasts_from_local_noon_to_local_noon(day: int, longitude: float, hour: float) -> None:
    noon = day + 0.5 - longitude / 360
    evening = night_of(noon + 0.001 / 24, longitude)
    assert night_of(noon + hour / 24, longitude) == evening
    assert night_of(noon - 0.001 / 24, longitude) < evening < night_of(noon + 1 + 0.001 / 24, longitude)


def test_the_night_is_named_by_its_evening() -> None:
    """The exposure of 2017-03-16 06:18 UTC on Cerro Tololo was taken at 01:35 in the night of the 15th."""
    assert night_of(57828.2628559, -70.81489) == "2017-03-15"
    assert parse_date("26/10/92") == (48921.0, "") and parse_date("26/07/102") == (52481.0, "")
    assert parse_date("2017-02-30") is None


@pytest.mark.parametrize(
    ("name", "role", "rest"),
    [
        ("c4d_150411_035242_ood_z_ls9.N3.fits.gz", "mask", "c4d_150411_035242_z_ls9_n3"),
        ("c4d_150411_035242_oow_z_ls9.N3.fits.gz", "weight", "c4d_150411_035242_z_ls9_n3"),
        ("c4d_150411_035242_ooi_z_ls9.N3.fits.gz", "science", "c4d_150411_035242_z_ls9_n3"),
        ("m31.weight.fits", "weight", "m31"),
        ("m31_mask.fit", "mask", "m31"),
        ("m31-truth.fits.fz", "target", "m31"),
        ("mask_0001.fits", "mask", "0001"),
        ("image_0001.fits", "science", "0001"),
        ("FinalMatchKernel.fits", "unused", "final_match"),
        ("darkcloud_maskelyne.fits", "science", "darkcloud_maskelyne"),
        ("mask.fits", "science", "mask"),
    ],
)
def test_a_name_tells_the_role(name: str, role: str, rest: str) -> None:
    part = read_name(name)
    assert (part.role, part.rest) == (role, rest)


class Night:
    """A folder that exposures are written into."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.count = folder, 0

    def expose(self, name: str, *, ra: float | None = None, plane: int | None = None, **header: Any) -> None:
        """Write noise, or a plane of one number, with pixels of 1 arcsec centred on (ra, 20) degrees if given."""
        self.count += 1
        values = np.random.default_rng(self.count).normal(100, 5, (48, 40)).astype(np.float32)
        hdu = fits.PrimaryHDU(values if plane is None else np.full((48, 40), plane, np.uint8))
        if ra is not None:
            hdu.header.update(CTYPE1="RA---TAN", CTYPE2="DEC--TAN", CRVAL1=ra, CRVAL2=20.0, CDELT1=-1 / 3600)
            hdu.header.update(CDELT2=1 / 3600, CRPIX1=20.5, CRPIX2=24.5)
        for keyword, value in header.items():
            hdu.header[keyword.replace("_", "-")] = value
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        hdu.writeto(path)

    def table(self, **rules: Any) -> Table:
        return make_table(list(self.pictures()), Rules(**rules))

    def pictures(self) -> list[Listed]:
        return list(list_folder(find_files(self.folder), self.folder))


@pytest.fixture
def night(tmp_path: Path) -> Night:
    return Night(tmp_path / "data")


def column(table: Table, name: str) -> dict[str, str]:
    return {row["science"]: row.get(name, "") for row in table.rows}


def grouped(table: Table) -> set[frozenset[str]]:
    fields = column(table, "field")
    return {frozenset(file for file, own in fields.items() if own == field) for field in fields.values()}


def test_frames_that_overlap_in_a_chain_are_one_field_and_neighbours_are_not(night: Night) -> None:
    """Frames are 40 arcsec wide."""
    for name, steps in {"a": 0, "b": 30, "c": 60, "d": 200}.items():
        night.expose(f"{name}.fits", ra=150 + steps / 3600 / np.cos(np.radians(20)))
    assert grouped(night.table()) == {frozenset({"a.fits", "b.fits", "c.fits"}), frozenset({"d.fits"})}


def test_frames_without_a_wcs_join_those_they_point_at(night: Night) -> None:
    night.expose("wcs.fits", ra=150.0)
    night.expose("near.fits", RA="10:00:12.0", DEC="20:00:00")  # 3 arcmin off
    night.expose("far.fits", RA="10:02:00.0", DEC="20:00:00")  # 30 arcmin off
    assert grouped(night.table()) == {frozenset({"wcs.fits", "near.fits"}), frozenset({"far.fits"})}
    assert len(grouped(night.table(tolerance_arcmin=1.0))) == 3
    assert len(grouped(night.table(tolerance_arcmin=60.0))) == 1


def test_frames_that_say_nothing_go_by_object_or_folder_and_are_named(
    night: Night, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("x/1.fits", "x/2.fits", "y/3.fits"):
        night.expose(name)
    night.expose("x/m13.fits", OBJECT="M 13")
    night.expose("y/m13.fits", OBJECT="m 13")
    groups = {frozenset(Path(name).stem + name[0] for name in group) for group in grouped(night.table())}
    assert groups == {frozenset({"1x", "2x"}), frozenset({"3y"}), frozenset({"m13x", "m13y"})}
    assert "5 of 5 headers lack a position" in caplog.text and "lack a date with its time" in caplog.text


@pytest.mark.parametrize(
    ("cards", "reason"),
    [
        ({"CRVAL1": "text"}, "CRVAL1 must be a number, got 'text'"),
        ({"CDELT1": 0.0}, "matrix is singular"),
        ({"CDELT1": 40.0, "CDELT2": 40.0}, "a pixel is too wide for a telescope"),
        ({"CTYPE2": "DEC--XXX"}, "Unrecognized projection code"),
    ],
)
def test_coordinates_that_cannot_be_used_are_named(
    night: Night, caplog: pytest.LogCaptureFixture, cards: dict[str, Any], reason: str
) -> None:
    night.expose("good.fits", ra=150.0)
    night.expose("bad.fits", ra=150.0, **cards)
    [bad] = [one for one in night.pictures() if one.file == "bad.fits"]
    night.table()
    assert bad.corners is None
    assert "1 of 2 frames (bad.fits): its celestial coordinates (RA---TAN" in caplog.text and reason in caplog.text


def two_nights(night: Night) -> None:
    """Three exposures of one field: two of one night, the second sharper, and one of the next; and one of a filter."""
    start = {"DATE_OBS": "2020-05-01T22:00:00", "FILTER": "r", "FWHM": 4.0, "SITELONG": 10.0}
    night.expose("a.fits", ra=150.0, **start)
    night.expose("b.fits", ra=150.0, **start | {"DATE_OBS": "2020-05-02T02:00:00", "FWHM": 2.0})
    night.expose("c.fits", ra=150.0, **start | {"DATE_OBS": "2020-05-02T22:00:00", "FWHM": 3.0})
    night.expose("g.fits", ra=150.0, **start | {"FILTER": "g"})


@pytest.mark.parametrize(
    ("rule", "references"),
    [
        ("night", {"a.fits": "c.fits", "b.fits": "c.fits", "c.fits": "b.fits"}),
        ("best", {"a.fits": "b.fits", "c.fits": "b.fits"}),
        ("earliest", {"b.fits": "a.fits", "c.fits": "a.fits"}),
        ("none", {"a.fits": "", "b.fits": "", "c.fits": "", "g.fits": ""}),
    ],
)
def test_references_follow_the_rule(night: Night, rule: str, references: dict[str, str]) -> None:
    two_nights(night)
    assert column(night.table(reference=rule), "reference") == references


def test_exposures_of_one_night_are_not_looked_at_pair_by_pair(night: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(12):
        night.expose(f"{number}.fits", ra=150.0, DATE_OBS=f"2020-05-01T22:{number:02d}:00", FILTER="r", SITELONG=10.0)
    pictures, looks = night.pictures(), []
    monkeypatch.setattr(pairs, "centre", lambda corners: looks.append(1) or centre(corners))
    names = {picture.file: "one" for picture in pictures}
    assert pairs.choose_references(pictures, rule="night", fields=names, nights=names) == {}
    assert len(looks) <= len(pictures)


def test_a_reference_shows_the_middle_of_its_picture(night: Night) -> None:
    """Frames are 40 arcsec wide: the sharper one of the other night lies 30 arcsec aside."""
    two_nights(night)
    aside = 150.0 + 30 / 3600 / np.cos(np.radians(20))
    night.expose("d.fits", ra=aside, DATE_OBS="2020-05-02T23:00:00", FILTER="r", FWHM=1.0, SITELONG=10.0)
    assert column(night.table(), "reference") == {"a.fits": "c.fits", "b.fits": "c.fits", "c.fits": "b.fits"}


def test_links_to_folders_are_followed_once_and_hidden_files_left_alone(night: Night) -> None:
    night.expose("a.fits", ra=150.0)
    night.expose("../elsewhere/b.fits", ra=150.0)
    night.expose(".trash/c.fits", ra=150.0)
    (night.folder / "linked").symlink_to(night.folder.parent / "elsewhere")
    (night.folder / "again").symlink_to(night.folder.parent / "elsewhere")
    (night.folder / "round").symlink_to(night.folder)
    files = [path.relative_to(night.folder) for path in find_files(night.folder)]
    assert files == [Path("a.fits"), Path("again/b.fits")]
    named = [ImageFile(path) for path in find_files(night.folder)]
    assert named == list_files([str(night.folder)]), "astrid manifest and astrid quality see the same files"
    assert column(night.table(), "science").keys() == {"a.fits", "again/b.fits"}


def test_nights_and_what_is_left_out_are_told(night: Night, caplog: pytest.LogCaptureFixture) -> None:
    two_nights(night)
    nights = column(night.table(), "night")
    assert nights == {"a.fits": "2020-05-01", "b.fits": "2020-05-01", "c.fits": "2020-05-02"}
    assert "left out 1 of 4 frames without a reference (g.fits); --reference none keeps them" in caplog.text


def test_a_longitude_counted_west_is_found_out_by_daylight(night: Night, caplog: pytest.LogCaptureFixture) -> None:
    night.expose("a.fits", ra=150.0, DATE_OBS="2017-03-16T06:18:30", SITELONG=70.8)
    assert column(night.table(), "night") == {"a.fits": "2017-03-15"}
    assert "it is taken as west of Greenwich" in caplog.text
    assert column(night.table(longitude=170.0), "night") == {"a.fits": "2017-03-16"}


def test_masks_weights_and_truths_go_with_their_frames(night: Night, caplog: pytest.LogCaptureFixture) -> None:
    night.expose("a.fits", ra=150.0)
    night.expose("a_mask.fits", plane=0)
    night.expose("a.weight.fits", plane=1)
    night.expose("a_truth.fits", plane=0)
    night.expose("b_mask.fits", plane=0)
    (row,) = night.table(reference="none").rows
    assert (row["mask"], row["weight"], row["target"]) == ("a_mask.fits", "a.weight.fits", "a_truth.fits")
    assert "b_mask.fits is a mask of no science frame" in caplog.text


def test_planes_in_one_file_are_named_by_their_extensions(night: Night) -> None:
    night.folder.mkdir(parents=True)
    image = np.random.default_rng(0).normal(size=(20, 20)).astype(np.float32)
    detectors = [("SCI", 1), ("DQ", 1), ("SCI", 2), ("DQ", 2)]
    hdus = [
        fits.ImageHDU(image + number if name == "SCI" else np.zeros((20, 20), np.uint8), name=name, ver=version)
        for number, (name, version) in enumerate(detectors)
    ]
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(night.folder / "acs.fits")
    assert column(night.table(reference="none"), "mask") == {
        "acs.fits": "acs.fits[DQ,1]",
        "acs.fits[SCI,2]": "acs.fits[DQ,2]",
    }


def test_detections_in_rubins_mask_do_not_count_as_bad(night: Night) -> None:
    night.expose("a.fits", ra=150.0)
    night.expose("a_mask.fits", plane=0)
    with fits.open(night.folder / "a_mask.fits", mode="update") as hdus:
        for name, bit in {"MP_BAD": 0, "MP_SAT": 3, "MP_DETECTED": 5}.items():
            hdus[0].header[f"HIERARCH {name}"] = bit
    assert column(night.table(reference="none"), "mask_bits") == {"a.fits": str(2**0 + 2**3)}


def test_calibration_frames_are_no_rows_and_light_frames_named_flat_are_said(
    night: Night, caplog: pytest.LogCaptureFixture
) -> None:
    night.expose("light.fits", IMAGETYP="Light Frame", FILTER="r")
    night.expose("bias/1.fits", IMAGETYP="Bias Frame")
    night.expose("flat_r.fits", IMAGETYP="Light Frame", FILTER="r")
    night.expose("flat_g.fits", IMAGETYP="flat", FILTER="g")
    night.expose("darkcloud.fits", IMAGETYP="Light Frame", FILTER="r")
    table = night.table(reference="none")
    assert set(column(table, "field")) == {"light.fits", "darkcloud.fits"}
    assert table.sets == {"bias": ["bias/1.fits"], "dark": [], "flat": ["flat_r.fits"]}
    assert "flat_r.fits: taken as flat, as its name says; its header says science" in caplog.text


def test_frames_too_small_to_measure_are_left_out_by_name(night: Night, caplog: pytest.LogCaptureFixture) -> None:
    night.expose("a.fits", ra=150.0)
    fits.PrimaryHDU(np.ones((15, 40), np.float32)).writeto(night.folder / "small.fits")
    assert set(column(night.table(reference="none"), "field")) == {"a.fits"}
    assert "left out 1 of 2 frames of fewer than 16 pixels along an axis (small.fits)" in caplog.text


def test_the_command_names_the_training_that_fits_the_manifest(
    night: Night, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    night.expose("a.fits", ra=150.0)
    with caplog.at_level(logging.INFO):
        assert main(["manifest", str(night.folder), "--output", str(tmp_path / "m.csv")]) == 0
    told = capsys.readouterr().out
    assert "1 frame of 1 field, 0 with a reference" in told and "python train.py data=injected data.root=" in told
    assert f"reading {night.folder}: 1 file" in caplog.text + told
    night.expose("a_truth.fits", plane=1)
    assert main(["manifest", str(night.folder), "--output", str(tmp_path / "n.csv")]) == 0
    assert "python train.py data=frames data.root=" in capsys.readouterr().out


def raw_night(night: Night, *, frames: int = 1, **header: Any) -> None:
    """Write two exposures of one field on two nights, as they were read out, and sets of calibration frames."""
    drawn = np.random.default_rng(0)
    night.folder.mkdir()
    cards = {"GAIN": 2.0, "RDNOISE": 5.0, "SATURATE": 6e4, "BIASSEC": "[1:8,1:40]", "TRIMSEC": "[9:48,1:40]"}
    kinds = {"bias": 0.0, "dark": 2.0, "flat": 9000.0}
    light = {f"{kind}/{number}.fits": (kind, level) for kind, level in kinds.items() for number in range(frames)}
    light |= {f"sci/{number}.fits": ("object", 200.0) for number in range(2)}
    for number, (name, (kind, level)) in enumerate(light.items()):
        counts = 1000 + drawn.normal(0, 2.5, (40, 48))
        counts[:, 8:] += drawn.poisson(level, (40, 40))
        about = cards | {"IMAGETYP": kind, "EXPTIME": 0.0 if kind == "bias" else 10.0, "FILTER": "r"}
        about |= {"DATE-OBS": f"2024-01-{number % 28 + 1:02d}T05:00:00"} | header
        if kind == "object":
            about |= {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 150.0, "CRVAL2": 20.0, "CRPIX1": 24.5}
            about |= {"CRPIX2": 20.5, "CDELT1": -1 / 3600, "CDELT2": 1 / 3600}
        (night.folder / name).parent.mkdir(exist_ok=True)
        cards_told = fits.Header({key: value for key, value in about.items() if value is not None})
        fits.writeto(night.folder / name, counts.astype(np.float32), cards_told)


def printed(night: Night, output: Path, capsys: pytest.CaptureFixture[str]) -> tuple[list[str], str]:
    """Return the overrides of the command that is printed for a folder, and all that is."""
    assert main(["-q", "manifest", str(night.folder), "--output", str(output), "--overwrite"]) == 0
    told = capsys.readouterr().out
    line = next(line for line in told.splitlines() if line.startswith("python train.py"))
    return shlex.split(line)[3:], told


def test_the_command_for_raw_frames_calibrates_the_reference_like_the_science_frame(
    night: Night, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw_night(night)
    overrides, _ = printed(night, tmp_path / "m.csv", capsys)
    knobs = [f"data.preprocess.{name}=header" for name in ("saturation", "overscan", "trim", "gain", "read_noise")]
    assert {*knobs, "data.preprocess.raw_reference=true"} <= set(overrides)
    out, cache = tmp_path / "out", f"data.cache={tmp_path}/cache"
    assert main(["-q", "reduce", "--no-difference", "--jobs", "1", "--out", str(out), *overrides, cache]) == 0
    with fits.open(out / "sci" / "0.fits") as hdus:
        assert hdus["SCI"].shape == (40, 40) and hdus["SCI"].header["BUNIT"] == "electron"
        assert np.nanmedian(hdus["SCI"].data) == pytest.approx(400, rel=0.03)  # 200 counts of 2 electrons
        assert np.nanmedian(hdus["REF"].data) == pytest.approx(400, rel=0.03)


@pytest.mark.parametrize(
    ("header", "lacking"),
    [
        ({"GAIN": None}, ["gain"]),
        ({"BUNIT": "electron"}, ["gain", "read_noise", "raw_reference"]),
        ({"SATURATE": -1.0}, ["saturation"]),
        ({"BIASSEC": "[1:8,1:30]"}, ["overscan"]),
        ({"TRIMSEC": "[5:48,1:40]"}, ["overscan", "trim"]),
        ({"TRIMSEC": "[9:49,1:40]"}, ["trim"]),
    ],
)
def test_the_command_takes_from_headers_only_what_all_have_and_the_steps_can_use(
    night: Night, header: dict[str, Any], lacking: list[str]
) -> None:
    raw_night(night, **header)
    names = ("saturation", "overscan", "trim", "gain", "read_noise")
    every: dict[str, object] = dict.fromkeys(names, "header") | {"raw_reference": True}
    assert night.table().detector.knobs == {name: value for name, value in every.items() if name not in lacking}
    assert night.table(reference="none").detector.knobs.keys() <= every.keys() - {"raw_reference"}


def test_the_command_without_the_counts_of_no_light_leaves_the_flat_out_and_says_so(
    night: Night, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw_night(night, BIASSEC=None)
    (night.folder / "bias/0.fits").unlink()
    overrides, told = printed(night, tmp_path / "m.csv", capsys)
    darks_as_long = load(["data=injected", *overrides]).data.preprocess
    assert (darks_as_long.dark, darks_as_long.flat) == (["dark/0.fits"], ["flat/0.fits"]) and "pedestal" not in told
    (night.folder / "dark/0.fits").unlink()
    overrides, told = printed(night, tmp_path / "m.csv", capsys)
    load(["data=injected", *overrides])
    assert "flat" not in " ".join(overrides) and "read_noise" not in " ".join(overrides)
    assert "data.preprocess.pedestal=N" in told


def test_the_command_names_a_set_by_the_pattern_that_only_its_files_match(
    night: Night, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw_night(night, frames=9)
    for number in range(9):
        (night.folder / f"flat/{number}.fits").rename(night.folder / f"sci/f{number} r.fits")
    overrides, told = printed(night, tmp_path / "m.csv", capsys)
    assert {"data.preprocess.bias=[bias/*.fits]", "data.preprocess.dark=[dark/*.fits]"} <= set(overrides)
    assert "data.preprocess.flat=[sci/f*.fits]" in overrides and "name a pattern" not in told
    assert load(["data=injected", *overrides]).data.preprocess.bias == ["bias/*.fits"]
    (night.folder / "sci/f.fits").write_bytes(b"")  # which `f*.fits` would match, too
    (night.folder / "bias/8.fits").rename(night.folder / "8_bias.fits")
    overrides, told = printed(night, tmp_path / "m.csv", capsys)
    assert "data.preprocess.flat=['sci/* r.fits']" in overrides
    assert "name a pattern each for data.preprocess.bias" in told and "data.preprocess.bias=" not in " ".join(overrides)


@pytest.mark.parametrize("command", [["manifest"], ["reduce", "data.preprocess.gain=2"]])
def test_a_cube_is_told_how_to_be_used_and_counted_as_a_file_that_cannot_be(
    night: Night,
    tmp_path: Path,
    command: list[str],
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    night.folder.mkdir()
    fits.writeto(night.folder / "ramp.fits", np.ones((5, 40, 40), np.float32))
    output = ["--output" if command[0] == "manifest" else "--out", str(tmp_path / "x")]
    assert main([command[0], str(night.folder), *command[1:], *output]) == 2
    [said] = [line for line in caplog.messages if "ramp.fits" in line]
    rule = "a file must hold a picture with two axes, got 0 PRIMARY: an image of 40x40x5 pixels"
    assert said.endswith(f"{rule}; save one plane as an image of its own")
    told = f"error: DIR must hold science exposures, got 1 file that can't be used in {night.folder}"
    assert f"{told}; do what the warnings say" in capsys.readouterr().err.splitlines()


def test_coordinates_of_an_unknown_frame_are_as_none(night: Night) -> None:
    night.expose("a.fits", ra=150.0, RADESYS="BAD")
    night.expose("b.fits", ra=150.0)
    placed = {one.file: one.corners is not None for one in night.pictures()}
    assert placed == {"a.fits": False, "b.fits": True}


HEADERS = st.dictionaries(
    st.sampled_from(("RADESYS", "CTYPE1", "CTYPE2", "CRVAL1", "CRVAL2", "CDELT1", "EQUINOX", "CUNIT1", "LONPOLE")),
    st.one_of(st.sampled_from(("BAD", "RA---TAN", "GLON-CAR", "deg", "")), st.floats(-1e9, 1e9), st.integers(-9, 9)),
)


@settings(max_examples=60, deadline=None)
@given(cards=HEADERS)
def test_whatever_a_header_says_of_places_its_picture_is_listed(cards: dict[str, object]) -> None:
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of astropy, about these headers
        night = Night(Path(folder))
        night.expose("a.fits", ra=150.0, **cards)
        (picture,) = night.pictures()
        assert [row["science"] for row in make_table([picture], Rules()).rows] == ["a.fits"]
        assert picture.corners is None or np.linalg.norm(picture.corners, axis=1) == pytest.approx(1)


REAL = {
    "decam_dq_cutouts": (16, 2, 16),
    "decam_sfft_stack": (12, 1, 0),
    "m13_raw_frames": (3, 1, 0),
    "pair_eso085": (2, 1, 0),
    "huntsman_raw_calib": (1, 1, 0),
}
"""Rows, fields and references of the manifest of each folder of real frames."""


@pytest.mark.parametrize("name", REAL)
def test_the_manifest_of_real_frames_can_be_read_back(
    sample_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    output = tmp_path / "m.csv"
    assert main(["manifest", str(sample_data / name), "--output", str(output)]) == 0
    with output.open() as stream:
        rows = list(csv.DictReader(stream))
    references = sum(bool(row.get("reference")) for row in rows)
    assert (len(rows), len({row["field"] for row in rows}), references) == REAL[name]
    if "--reference best first" in capsys.readouterr().out:  # or exposures of one split are references of another
        command = ["manifest", str(sample_data / name), "--output", str(output), "--reference", "best", "--overwrite"]
        assert main(command) == 0
    config = settings_of(sample_data / name, output, cache=tmp_path)
    if len(rows) >= 3:
        config.split_unit = "exposure"
        written = len(list(csv.DictReader(output.read_text().splitlines())))
        assert len(read_manifest(config, receptive_field_pixels=44)) == written >= 3


def settings_of(root: Path, manifest: Path, *, cache: Path) -> FramesData:
    config = FramesData(root=str(root), manifest=str(manifest), cache=str(cache))
    config.preprocess.register = "wcs"
    return config


def test_data_quality_planes_of_decam_become_targets_and_fields_to_train_on(
    sample_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root, output = sample_data / "decam_dq_cutouts", tmp_path / "m.csv"
    command = ["manifest", str(root), "--output", str(output), "--target-codes", "3|4", "--ignore-codes", "1|2"]
    assert main([*command, "--reference", "none"]) == 0
    rows = read_manifest(settings_of(root, output, cache=tmp_path), receptive_field_pixels=44)
    assert len(rows) == 19 and {row.split for row in rows} == {"train", "val", "test"}
    assert {row.split for row in rows if row.positives} == {"train"} and "1 fields have positives" in caplog.text
    field = prepare_field(next(row for row in rows if row.positives), settings_of(root, output, cache=tmp_path))
    assert field.target.sum() > 0 and field.valid.mean() > 0.5


def test_a_mask_blanks_what_its_codes_or_bits_say(night: Night, tmp_path: Path) -> None:
    night.expose("a.fits", ra=150.0)
    plane = np.zeros((48, 40), np.uint8)
    plane[3, 4], plane[5, 6] = 1, 8
    fits.writeto(night.folder / "dq.fits", plane)
    for cells, blanked in (("", [(3, 4), (5, 6)]), (",mask_codes", [(5, 6)]), (",mask_bits", [(3, 4)])):
        value = {"": "", ",mask_codes": ",8", ",mask_bits": ",1"}[cells]
        (tmp_path / "m.csv").write_text(f"field,science,mask,split{cells}\nA,a.fits,dq.fits,train{value}\n")
        config = settings_of(night.folder, tmp_path / "m.csv", cache=tmp_path)
        (row,), _, _ = read_rows(config)
        invalid = np.argwhere(~prepare_field(row, config).valid)
        assert [tuple(place) for place in invalid.tolist()] == blanked


def test_a_damaged_file_is_one_message_and_the_others_are_listed(
    night: Night, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    two_nights(night)
    (night.folder / "cut.fits").write_bytes((night.folder / "a.fits").read_bytes()[:4000])
    (night.folder / "noise.fits").write_bytes(np.random.default_rng(0).bytes(9000))
    with caplog.at_level(logging.WARNING):
        assert main(["manifest", str(night.folder), "--output", str(tmp_path / "m.csv")]) == 0
    for name in ("cut.fits", "noise.fits"):
        assert len([line for line in caplog.messages if name in line]) == 1
    assert len((tmp_path / "m.csv").read_text().splitlines()) == 4


def test_bad_input_is_one_message_and_code_2(night: Night, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    night.expose("dark.fits", IMAGETYP="Dark Frame", EXPTIME=10.0)
    output = tmp_path / "m.csv"
    (tmp_path / "empty").mkdir()
    output.write_text("edited by hand\n")
    cases = {
        (str(tmp_path / "nowhere"), "new.csv"): "DIR must be a folder, got",
        (str(tmp_path / "empty"), "new.csv"): "DIR must have FITS files",
        (str(night.folder), "m.csv"): "--output must be a new file, got .*; name another, or add --overwrite",
        (str(night.folder), "new.csv"): "DIR must hold science exposures, got 1 dark in .*; look with --listing FILE",
    }
    for (folder, name), message in cases.items():
        assert main(["manifest", folder, "--output", str(tmp_path / name)]) == 2
        errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1 and re.search(message, errors[0]), errors
    assert main(["manifest", str(night.folder), "--output", str(tmp_path / "x.csv"), "--ignore-codes", "1"]) == 2
    assert "--ignore-codes must come with --target-bits or --target-codes" in capsys.readouterr().err
    assert output.read_text() == "edited by hand\n"


def test_the_listing_tells_what_every_picture_was_taken_for(night: Night, tmp_path: Path) -> None:
    two_nights(night)
    night.expose("a_mask.fits", plane=0)
    night.expose("bias_1.fits", IMAGETYP="bias")
    listing = tmp_path / "all.csv"
    assert main(["manifest", str(night.folder), "--output", str(tmp_path / "m.csv"), "--listing", str(listing)]) == 0
    with listing.open() as stream:
        told = {row["file"]: (row["role"], row["kind"]) for row in csv.DictReader(stream)}
    assert told["a_mask.fits"][0] == "mask" and told["bias_1.fits"] == ("science", "bias") and len(told) == 6
