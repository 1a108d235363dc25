"""Claims about the files and the command: everything is assessed or refused with one message."""

from __future__ import annotations

import csv
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from starfields import Starfield, sky_cards

from astrid.cli import main
from astrid.config import DataError, QualityConfig
from astrid.data.listing.pictures import find_files, list_folder
from astrid.data.quality import Assessment, Refusal, assess_file, list_files, with_residuals
from astrid.data.rows import ImageFile

FIELD = Starfield(shape=(128, 128), stars=15)


def assessed(path: Path, hdu: int | str | None = None) -> list[Assessment | Refusal]:
    return assess_file(ImageFile(path, hdu), QualityConfig(), box=64)


def good_night(folder: Path) -> Path:
    (folder / "below").mkdir(parents=True)
    Starfield(seed=1, shape=(128, 128), stars=15).write(folder / "a.fits")
    Starfield(seed=2, shape=(128, 128), stars=15).write(folder / "below" / "b.fits")
    return folder


def test_every_picture_of_a_file_is_assessed_and_cubes_are_refused(tmp_path: Path) -> None:
    hdus = [fits.ImageHDU(FIELD.image(), name="SCI", ver=number) for number in (1, 2)]
    cube = fits.ImageHDU(np.zeros((3, 20, 20), dtype=np.float32))
    fits.HDUList([fits.PrimaryHDU(), *hdus, cube]).writeto(tmp_path / "m.fits")
    first, second, refused = assessed(tmp_path / "m.fits")
    assert isinstance(first, Assessment) and first.name.endswith("m.fits[1]") and second.name.endswith("[2]")
    assert isinstance(refused, Refusal) and "20x20x3" in refused.reason
    (one,) = assessed(tmp_path / "m.fits", "SCI,2")
    assert one.name.endswith("m.fits[2]")


def test_keywords_of_the_primary_header_are_about_every_extension(tmp_path: Path) -> None:
    primary = fits.PrimaryHDU()
    primary.header["OBSTYPE"], primary.header["MAGZERO"] = "object", 27.0
    fits.HDUList([primary, fits.ImageHDU(FIELD.image())]).writeto(tmp_path / "m.fits")
    (found,) = assessed(tmp_path / "m.fits")
    assert found.facts.zero_point == 27.0 and "limiting_magnitude" in found.values


def test_the_data_quality_plane_beside_a_picture_marks_its_bad_pixels(tmp_path: Path) -> None:
    flags = np.zeros(FIELD.shape, dtype=np.int16)
    flags[:32] = 4
    hdus = [fits.PrimaryHDU(), fits.ImageHDU(FIELD.image(), name="SCI"), fits.ImageHDU(flags, name="DQ")]
    fits.HDUList(hdus).writeto(tmp_path / "h.fits")
    science, plane = assessed(tmp_path / "h.fits")
    assert science.values["bad_fraction"] == 0.25 and plane.facts.kind == "mask"


def test_exposures_of_a_set_are_compared_on_the_sky(tmp_path: Path) -> None:
    field = Starfield(brightest=1e5)
    for number, shift in enumerate((0.0, 0.0, 4.0)):
        one = field.write(tmp_path / f"{number}.fits", **sky_cards(shift=shift))
        assert one.is_file()
    found = with_residuals([one for file in list_files([str(tmp_path)]) for one in assessed(file.path)])
    residuals = [one.values["wcs_residual_pixels"] for one in found]
    assert residuals[2] == pytest.approx(4.0, abs=0.3)
    assert found[0].values["fwhm_arcsec"] == pytest.approx(found[0].values["fwhm_pixels"] / 2, rel=1e-3)
    alone = with_residuals(found[:1])[0]
    assert "wcs_residual_pixels" in {**alone.values, **alone.absent}


def test_the_command_prints_writes_and_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = good_night(tmp_path / "night")
    table, figure = tmp_path / "q.csv", tmp_path / "q.png"
    assert main(["quality", str(folder), "--csv", str(table), "--figure", str(figure), "--jobs", "1"]) == 0
    said = capsys.readouterr()
    assert "2 exposures, 0 below data.quality.min_score" in said.out and said.err == ""
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert [Path(row["exposure"]).name for row in rows] == ["a.fits", "b.fits"]
    assert float(rows[0]["noise_ratio"]) == pytest.approx(1, abs=0.05)
    assert "zero point" in rows[0]["absent"] and rows[0]["limiting_magnitude"] == ""
    assert figure.read_bytes().startswith(b"\x89PNG") and figure.stat().st_size < 300_000


def test_what_is_refused_is_named_once_and_the_rest_assessed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = good_night(tmp_path / "night")
    (folder / "cut.fits").write_bytes((folder / "a.fits").read_bytes()[:9000])
    (folder / "notes.txt").write_text("cloudy")
    assert main(["quality", str(folder), "--jobs", "2"]) == 2
    said = capsys.readouterr()
    assert "2 exposures" in said.out
    assert len(re.findall("cut.fits", said.err)) == 1 and "cut short" in said.err
    assert said.err.count("left out: ") == 1 and "notes.txt" in said.err and "Traceback" not in said.err


def test_a_folder_with_other_files_is_no_failure_but_naming_one_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = good_night(tmp_path / "night")
    notes = folder / "notes.txt"
    notes.write_text("cloudy")
    assert main(["quality", str(folder), "--jobs", "1"]) == 0
    assert main(["quality", str(notes), "--jobs", "1"]) == 2
    assert "notes.txt" in capsys.readouterr().err


def test_links_are_followed_and_those_that_lead_nowhere_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = good_night(tmp_path / "night")
    (folder / "dead.fits").symlink_to("gone.fits")
    (folder / "round").symlink_to(folder)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (folder / "a.fits").rename(elsewhere / "a.fits")
    (folder / "linked").symlink_to(elsewhere)
    assert main(["quality", str(folder), "--jobs", "1"]) == 2
    said = capsys.readouterr()
    assert "2 exposures" in said.out and said.out.count("a.fits") == 1
    assert "dead.fits" in said.err and "gone.fits, which isn't there" in said.err


def test_a_pipe_is_called_no_regular_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = good_night(tmp_path / "night")
    os.mkfifo(folder / "pipe.fits")
    assert main(["quality", str(folder), "--jobs", "1"]) == 2
    assert main(["quality", str(folder / "pipe.fits"), "--jobs", "1"]) == 2
    assert capsys.readouterr().err.count("no regular file") == 2


def test_an_empty_column_says_what_it_lacks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = good_night(tmp_path / "night")
    assert main(["quality", str(folder), "--jobs", "1", "data.quality.read_noise=null"]) == 0
    assert "noise_ratio) is not measured: unknown read noise" in capsys.readouterr().out


@pytest.mark.parametrize("given", ["nowhere", "nowhere.fits[SCI]"])
def test_what_is_not_there_is_refused(given: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["quality", given]) == 2
    assert "isn't there" in capsys.readouterr().err


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is empty"):
        list_files([str(tmp_path)])


def test_a_bad_exposure_stops_only_where_that_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    FIELD.write(tmp_path / "good.fits")
    Starfield(shape=(128, 128), stars=15, fwhm=7.0, brightest=1e5).write(tmp_path / "blurred.fits")
    limits = ["data.quality.limits.fwhm_pixels=[4,6]"]
    assert main(["quality", str(tmp_path), *limits, "--jobs", "1"]) == 0
    assert "BAD blurred.fits: fwhm_pixels" in capsys.readouterr().out
    assert main(["quality", str(tmp_path), "--jobs", "1", *limits, "data.quality.policy=stop"]) == 2
    said = capsys.readouterr().err
    assert "blurred.fits: an exposure must have a quality of at least data.quality.min_score = 0.2, got 0" in said
    assert "fwhm_pixels" in said and "good to 4, useless from 6" in said and "policy=skip" in said


@pytest.mark.parametrize("override", ["model.depth=2", "data.quality.policy=maybe", "data.quality.nothing=1"])
def test_overrides_of_other_things_are_refused(tmp_path: Path, override: str) -> None:
    FIELD.write(tmp_path / "a.fits")
    assert main(["quality", str(tmp_path), override]) == 2


@pytest.mark.slow
def test_every_file_of_the_sample_data_is_assessed_or_refused_once(
    sample_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "all.csv"
    assert main(["quality", str(sample_data), "--csv", str(table)]) == 2
    said = capsys.readouterr()
    rows = list(csv.DictReader(table.read_text().splitlines()))
    refused = [line for line in said.err.splitlines() if line.startswith(("refused: ", "left out: "))]
    for file in (path for path in sample_data.rglob("*") if path.is_file()):
        own = sum(row["exposure"] == str(file) or row["exposure"].startswith(f"{file}[") for row in rows)
        named = sum(f": {file}: " in line for line in refused)
        assert (own > 0) != (named == 1), file
    assert len(refused) == len(said.err.strip().splitlines()), "something else was said"


DECAM = "decam_dq_cutouts"


@pytest.mark.parametrize(
    ("name", "fwhm", "sky"),
    [
        ("tc4_V4.8.2_CP20170315_c4d_170316_062107_ooi_z_ls9.N2.fits.gz", 3.691442, 3170.721),
        ("tc4_V4.8.2_CP20170418_c4d_170419_042827_ooi_z_ls9.S1.fits.gz", 4.853736, 3272.184),
        ("tc4_V4.8.2_CP20170521_c4d_170522_005829_ooi_r_ls9.N2.fits.gz", 5.616004, 659.5693),
    ],
)
def test_seeing_sky_and_noise_are_those_that_the_observatory_measured(
    sample_data: Path, name: str, fwhm: float, sky: float
) -> None:
    config = QualityConfig(pedestal=0)
    (found,) = assess_file(ImageFile(sample_data / DECAM / name), config, box=64)
    # SExtractor's Gaussian width of a star with wings is some 7 % above the half maximum
    assert found.values["fwhm_pixels"] == pytest.approx(fwhm, rel=0.12)
    assert found.values["background"] == pytest.approx(sky, rel=0.02)
    assert found.values["noise_ratio"] == pytest.approx(1, abs=0.08)


def test_a_raw_exposure_knows_its_pedestal_from_the_overscan(sample_data: Path) -> None:
    (found,) = assessed(sample_data / "backgrounds" / "a8280271.fits.gz")
    assert found.values["noise_ratio"] == pytest.approx(1, abs=0.1)


def test_the_table_holds_only_finite_numbers(tmp_path: Path) -> None:
    from astrid.data.quality import judge
    from astrid.quality_report import Judged, quality_table

    FIELD.write(tmp_path / "a.fits")
    (found,) = assessed(tmp_path / "a.fits")
    table = quality_table([Judged(found, judge(found, QualityConfig()))])
    assert json.loads(json.dumps(table.rows, allow_nan=False))[0][0].endswith("a.fits")


def test_a_score_without_stars_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    field = Starfield(stars=0, shape=(128, 128))
    field.write(tmp_path / "empty.fits")
    assert main(["quality", str(tmp_path)]) == 0
    assert "empty.fits: the score leaves out the stars, not measured: " in capsys.readouterr().out


@pytest.mark.parametrize("unit", ["mag", "mag / arcsec2", "ABmag"])
def test_a_frame_in_magnitudes_is_named_and_never_good(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], unit: str
) -> None:
    path = Starfield(brightest=1e5).write(tmp_path / "a.fits", BUNIT=unit)
    assert main(["-q", "quality", str(path), "--jobs", "1", "data.quality.policy=stop"]) == 2
    said = capsys.readouterr()
    assert f"the unit (BUNIT) must be linear, as counts, electron or nJy, got {unit.lower()}" in said.out
    assert "1 exposure, 1 below" in said.out and "a.fits: an exposure must have a quality" in said.err


@pytest.mark.parametrize(
    ("cards", "reason"),
    [
        ({"CTYPE2": "DEC--XXX"}, "RA---TAN, DEC--XXX"),
        ({"CTYPE2": "LINEAR"}, "RA---TAN, LINEAR"),
        ({"PC1_1": 0.0}, "RA---TAN, DEC--TAN"),
        ({"CRVAL1": "text"}, "RA---TAN, DEC--TAN"),
        ({"CD1_1": 0.0, "CD2_2": 0.0}, "RA---TAN, DEC--TAN"),
        ({"CD1_1": 0.0}, "RA---TAN, DEC--TAN"),
    ],
)
def test_coordinates_that_are_there_but_cannot_be_used_are_remarked_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], cards: dict[str, object], reason: str
) -> None:
    field = Starfield(brightest=1e5)
    good = field.write(tmp_path / "good.fits", **sky_cards())
    bad = field.write(tmp_path / "bad.fits", **sky_cards() | cards)
    bare = field.write(tmp_path / "bare.fits")
    assert main(["-q", "quality", str(good), str(bad), str(bare), "--jobs", "1", "--csv", str(tmp_path / "q.csv")]) == 0
    remarks = [line for line in capsys.readouterr().out.splitlines() if "celestial coordinates" in line]
    assert len(remarks) == 1 and f"bad.fits: its celestial coordinates ({reason}) are there but can't be" in remarks[0]
    rows = (tmp_path / "q.csv").read_text().splitlines()
    assert ["are there but can't be used" in row for row in rows] == [False, False, True, False]


def test_folders_say_the_kind_of_headerless_files_to_manifests_as_to_quality(tmp_path: Path) -> None:
    expected = {}
    for folder, name, kind in (
        *(("dark", "x1.fits", "dark"), ("flat_g", "x2.fits", "flat"), ("bias", "x3.fits", "bias")),
        *(("m31", "x4.fits", "science"), ("m31", "flat_7.fits", "flat"), ("m31", "x_flat.fits", "science")),
    ):
        (tmp_path / folder).mkdir(exist_ok=True)
        plane = np.random.default_rng(0).normal(100, 5, (40, 50)).astype(np.float32)
        fits.writeto(tmp_path / folder / name, plane)
        expected[f"{folder}/{name}"] = kind
    listed = {one.file: one.kind for one in list_folder(find_files(tmp_path), tmp_path)}
    quality = {
        str(file.path.relative_to(tmp_path)): one.facts.kind
        for file in list_files([str(tmp_path)])
        for one in assessed(file.path)
    }
    assert listed == expected and quality == expected
