"""Claims about `astrid reduce`: the files it writes say what is true, come back as they were, and are its own."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.wcs import WCS, DistortionLookupTable
from starfields import sky_cards
from test_exposures import BAD, EDGE, HIT, RAW, Observatory

from astrid.cli import main
from astrid.config import FramesData
from astrid.config.command import written
from astrid.data import reduced as reduced_files
from astrid.data.exposures import read_exposure
from astrid.data.frames import read_image
from astrid.data.manifest import read_rows
from astrid.data.preprocess import load_frames, prepare_field
from astrid.data.recipes import fingerprint
from astrid.data.reduced import Job, Outcome, plan
from astrid.data.reduction.header import move_pixels
from astrid.data.rows import FrameRow, ImageFile

MARGIN = (7, 4)
"""Columns and rows that are trimmed off before the frame."""


@pytest.fixture(scope="module")
def observatory(tmp_path_factory: pytest.TempPathFactory) -> Observatory:
    place = Observatory(tmp_path_factory.mktemp("raw"))
    with fits.open(place.folder / "science.fits", memmap=False) as hdus:
        header = hdus[0].header
        header.update(sky_cards())
        header.update({"DATE-OBS": "2021-01-18T11:26:32", "FILTER": "g", "PEDESTAL": -3.0, "MAGZERO": 25.0})
        hdus.writeto(place.folder / "science.fits", overwrite=True)
    return place


def command(
    place: Observatory,
    out: Path,
    *given: str,
    paths: tuple[str, ...] = ("science.fits",),
    quiet: bool = True,
    **knobs: Any,
) -> int:
    knobs = RAW | {"raw_reference": False} | knobs
    overrides = [f"data.preprocess.{name}={written(value)}" for name, value in knobs.items()]
    root = [f"data.root={place.folder}", f"data.cache={place.folder}/cache"]
    files = [str(place.folder / path) for path in paths]
    loudness = ["-q"] if quiet else []
    return main([*loudness, "reduce", *files, "--out", str(out), "--jobs", "1", *root, *overrides, *given])


@pytest.fixture(scope="module")
def reduced(observatory: Observatory, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out")
    assert (
        command(observatory, out, trim=f"[{MARGIN[0] + 1}:{EDGE},{MARGIN[1] + 1}:{EDGE}]", flat=[], bias=[], dark=[])
        == 0
    )
    return out / "science.fits"


def test_the_header_says_what_is_true_after_the_steps(observatory: Observatory, reduced: Path) -> None:
    raw, header = fits.getheader(observatory.folder / "science.fits"), fits.getheader(reduced, "SCI")
    assert (header["BUNIT"], header["GAIN"], header["RDNOISE"]) == ("electron", 1.0, 6.0)
    assert (header["EXPTIME"], header["FILTER"], header["DATE-OBS"]) == (120.0, "g", "2021-01-18T11:26:32")
    untrue = {"BIASSEC", "TRIMSEC", "SATURATE", "PEDESTAL", "MAGZERO", "BZERO"}
    assert untrue - {"BZERO"} <= set(raw) and not untrue & set(header)
    told = "".join(header["HISTORY"])
    assert told.count("AstrID gain: 1.5 electrons per ADU") == 1
    assert "AstrID flat: skipped, data.preprocess.flat is not given" in told


def test_physical_pixels_move_with_a_trim() -> None:
    header = fits.Header({"LTV1": 0.0, "LTV2": -3.0, "CRPIX1A": 40.0, "LTM1_1": 1.0})
    move_pixels(header, x=16, y=8)
    assert dict(header) == {"LTV1": -16.0, "LTV2": -11.0, "CRPIX1A": 24.0, "LTM1_1": 1.0}


@pytest.mark.filterwarnings("ignore::astropy.wcs.FITSFixedWarning")
def test_a_place_on_the_sky_stays_where_it_was_when_the_frame_is_trimmed(
    observatory: Observatory, reduced: Path
) -> None:
    before = WCS(fits.getheader(observatory.folder / "science.fits"))
    for name in ("SCI", "ERR", "DQ"):
        after = WCS(fits.getheader(reduced, name))
        place = after.pixel_to_world_values(100.0, 50.0)
        assert before.world_to_pixel_values(*place) == pytest.approx((100 + MARGIN[0], 50 + MARGIN[1]), abs=1e-6)


@pytest.mark.filterwarnings("ignore::astropy.wcs.FITSFixedWarning")
def test_other_programs_read_image_uncertainty_and_mask(reduced: Path) -> None:
    frame = CCDData.read(reduced, hdu=1, hdu_uncertainty="ERR", hdu_mask="DQ")
    assert frame.unit == "electron" and frame.wcs is not None
    assert frame.mask[HIT[0] - MARGIN[1], HIT[1] - MARGIN[0]] and frame.mask[BAD[0] - MARGIN[1], BAD[1] - MARGIN[0]]
    assert 0 < frame.mask.mean() < 0.05
    assert 20 < np.median(frame.uncertainty.array) < 40 and frame.uncertainty.uncertainty_type == "std"
    with fits.open(reduced, checksum=True) as hdus:
        hdus.verify("exception")
        assert [hdu.name for hdu in hdus] == ["PRIMARY", "SCI", "ERR", "DQ"]


def test_notes_of_the_library_that_took_the_steps_are_not_in_the_header(
    observatory: Observatory, tmp_path: Path
) -> None:
    assert command(observatory, tmp_path, overscan="header", cosmic_rays=False) == 0
    header = fits.getheader(tmp_path / "science.fits", "SCI")
    assert not [card for card in header.cards if "CCDData" in str(card.value) or "ccdproc" in card.comment]
    assert not {"SUBOSCAN", "SUBBIAS", "SUBDARK", "GAINCOR", "FLATCOR"} & set(header)


def test_each_file_tells_which_picture_of_which_file_it_is_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = np.random.default_rng(0).normal(100, 5, (40, 40)).astype(np.float32)
    hdus = [fits.ImageHDU(image + number, fits.Header({"EXPTIME": 1.0})) for number in range(2)]
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(tmp_path / "mosaic.fits")
    names = [f"{tmp_path}/mosaic.fits[{number}]" for number in (1, 2)]
    assert main(["reduce", *names, "--out", str(tmp_path / "out"), "--jobs", "1", *LINEAR]) == 0
    said = capsys.readouterr().out
    written_files = sorted((tmp_path / "out").rglob("*.fits"))
    for name, path in zip(names, written_files, strict=True):
        assert f"{name} -> {path}" in said
        assert fits.getheader(path, "SCI")["RAWFILE"] == Path(name).name


def test_data_frames_reads_back_what_was_written(observatory: Observatory, tmp_path: Path) -> None:
    assert command(observatory, tmp_path) == 0
    frame = read_exposure("science", observatory.row().science, observatory.config(), fwhm_pixels=None).frame
    path = tmp_path / "science.fits"
    image = read_image(path, hdu="SCI")
    assert image.data.tobytes() == frame.data.tobytes() and image.unit == "electron"
    assert read_image(path, hdu="ERR").data.tobytes() == frame.uncertainty.array.tobytes()
    planes = {"science": ImageFile(path, "SCI"), "mask": ImageFile(path, "DQ"), "weight": ImageFile(path, "ERR")}
    row = FrameRow(2, "f", "f", "train", **planes)
    again = load_frames(row, FramesData(root=str(tmp_path), manifest="m.csv"))
    assert np.array_equal(again.shown, ~frame.mask)


def test_a_reference_becomes_a_difference_and_a_score(observatory: Observatory, tmp_path: Path) -> None:
    manifest = tmp_path / "m.csv"
    manifest.write_text("field,science,reference\nf,science.fits,reference.fits\n")
    knobs = {"raw_reference": True, "register": "stars", "difference": "proper", "score": True}
    assert command(observatory, tmp_path, f"data.manifest={manifest}", paths=(), **knobs) == 0
    field = prepare_field(observatory.row(), observatory.config())
    with fits.open(tmp_path / "science.fits") as hdus:
        planes = {hdu.name: hdu.data for hdu in hdus[1:]}
        about = hdus["DIFF"].header
    assert list(planes) == ["SCI", "ERR", "DQ", "REF", "DIFF", "SCORE"]
    assert np.array_equal(np.isfinite(planes["DIFF"]), field.valid)
    for channel, name in ((2, "DIFF"), (3, "SCORE")):
        slope, _ = np.polyfit(planes[name][field.valid], field.image[channel][field.valid], 1)
        assert np.corrcoef(planes[name][field.valid], field.image[channel][field.valid])[0, 1] > 0.999999 and slope > 0
    assert about["DIFFZP"] > 0 and about["REFSCALE"] == pytest.approx(1, abs=0.1)


def test_what_is_there_is_left_and_nothing_of_others_is_touched(
    observatory: Observatory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = {"flat": [], "bias": [], "dark": [], "cosmic_rays": False}
    assert command(observatory, tmp_path, **bare) == 0
    path = tmp_path / "science.fits"
    first = path.read_bytes()
    assert command(observatory, tmp_path, **bare) == 0
    assert "0 written, 1 there already" in capsys.readouterr().out and path.read_bytes() == first
    assert command(observatory, tmp_path, **bare | {"gain": 2.0}) == 2
    assert "add --overwrite" in capsys.readouterr().err and path.read_bytes() == first
    assert command(observatory, tmp_path, "--overwrite", **bare | {"gain": 2.0}) == 0
    assert path.read_bytes() != first and list(tmp_path.iterdir()) == [path]
    path.write_bytes((observatory.folder / "bias_0.fits").read_bytes())
    assert command(observatory, tmp_path, "--overwrite", **bare) == 2
    assert "astrid reduce didn't write it" in capsys.readouterr().err
    assert path.read_bytes() == (observatory.folder / "bias_0.fits").read_bytes()


def test_a_frame_that_cannot_be_reduced_is_named_and_the_others_are_written(
    observatory: Observatory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fits.writeto(observatory.folder / "mute.fits", np.ones((9, 9), np.float32), overwrite=True)
    bare = {"flat": [], "bias": [], "dark": [], "cosmic_rays": False}
    assert command(observatory, tmp_path, paths=("mute.fits", "science.fits"), **bare) == 2
    said = capsys.readouterr()
    assert "mute.fits: science mute.fits: the header must have a number SATURATE" in said.err
    assert "1 written, 0 there already, 1 refused" in said.out and not (tmp_path / "mute.fits").exists()


def test_a_frame_is_a_short_line_and_steps_that_frames_share_are_told_once(
    observatory: Observatory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths, bare = ("science.fits", "reference.fits"), {"flat": [], "bias": [], "dark": [], "cosmic_rays": False}
    for quiet in (True, False):
        out = tmp_path / str(quiet)
        assert command(observatory, out, paths=paths, quiet=quiet, **bare) == 0
        *lines, last = capsys.readouterr().out.splitlines()
        assert last.startswith("2 written, 0 there already")
        frames = [] if quiet else [f"{observatory.folder / name} -> {out / name}" for name in paths]
        assert [line for line in lines if "->" in line] == frames
        assert len([line for line in lines if "skipped" in line]) == (0 if quiet else 1)


def test_ctrl_c_says_how_many_frames_are_written_and_what_goes_on(
    observatory: Observatory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(job: Job, *arguments: Any, **knobs: Any) -> Outcome:
        if job.path.name == "reference.fits":
            raise KeyboardInterrupt
        return reduce_job(job, *arguments, **knobs)

    reduce_job = reduced_files.reduce_job
    monkeypatch.setattr(reduced_files, "reduce_job", stopped)
    paths, bare = ("science.fits", "reference.fits"), {"flat": [], "bias": [], "dark": [], "cosmic_rays": False}
    assert command(observatory, tmp_path, paths=paths, **bare) == 1
    told = f"error: interrupted; 1 of 2 frames are in {tmp_path}; the same command goes on with the rest"
    assert told in capsys.readouterr().err.splitlines()


def test_what_all_exposures_share_is_hashed_once(observatory: Observatory, monkeypatch: pytest.MonkeyPatch) -> None:
    given = observatory.config()
    rows = [
        FrameRow(2, "a", "a", None, ImageFile(observatory.folder / name)) for name in ("science.fits", "reference.fits")
    ]
    rows += [dataclasses.replace(rows[0], mask=rows[1].science), dataclasses.replace(rows[0], mask_bits=3)]
    asked: list[int] = []
    monkeypatch.setattr(reduced_files, "fingerprint", lambda *a, **k: asked.append(1) or fingerprint(*a, **k))
    out = {"root": observatory.folder, "out": observatory.folder / "out"}
    jobs = [*plan(rows, given, difference=True, **out), *plan(rows, given, difference=False, **out)]
    assert len(asked) == 2 and len({job.key for job in jobs}) == len(jobs) == 8


def test_a_file_from_elsewhere_stays_inside_the_folder(
    observatory: Observatory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside, bare = tmp_path / "a" / "b", {"flat": [], "bias": [], "dark": [], "cosmic_rays": False}
    inside.mkdir(parents=True)
    monkeypatch.chdir(inside)
    (tmp_path / "x.fits").write_bytes((observatory.folder / "science.fits").read_bytes())
    assert command(observatory, inside / "out", paths=("../" * 99 + str(tmp_path / "x.fits")[1:],), **bare) == 0
    assert [path.name for path in (inside / "out").rglob("*.fits")] == ["x.fits"]
    assert sorted(tmp_path.rglob("*.fits")) == [inside / "out" / "x.fits", tmp_path / "x.fits"]


def test_asking_for_nothing_is_refused(observatory: Observatory, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reduce", str(observatory.folder / "science.fits")]) == 2
    assert "a step must be asked for" in capsys.readouterr().err
    assert main(["reduce", "data.preprocess.gain=2"]) == 2
    assert "exposures must be PATHs or rows of data.manifest, got neither" in capsys.readouterr().err


def test_the_truth_is_trimmed_with_the_image_and_read_back_with_its_codes(
    observatory: Observatory, tmp_path: Path
) -> None:
    shape = fits.getdata(observatory.folder / "science.fits").shape
    truth = np.random.default_rng(4).choice([0, 4, 8, 16], size=shape, p=[0.7, 0.1, 0.1, 0.1]).astype(np.uint8)
    fits.writeto(tmp_path / "codes.fits", truth)
    manifest = tmp_path / "m.csv"
    cells = f"f,science.fits,{tmp_path}/codes.fits,4,8,16"
    manifest.write_text(f"field,science,target,target_codes,unlabelled_codes,ignore_codes\n{cells}\n")
    out = tmp_path / "out"
    steps = {"trim": f"[{MARGIN[0] + 1}:{EDGE},{MARGIN[1] + 1}:{EDGE}]", "flat": [], "bias": [], "dark": []}
    assert command(observatory, out, f"data.manifest={manifest}", paths=(), **steps) == 0

    path = tmp_path / "reduced.csv"
    assert main(["-q", "manifest", str(out), "--output", str(path)]) == 0
    config = FramesData(root=str(out), manifest=str(path))
    (row,), _, _ = read_rows(config)
    assert row.target == ImageFile(out / "science.fits", "TRUTH")
    labels, kept = load_frames(row, config).labels, truth[MARGIN[1] : EDGE, MARGIN[0] : EDGE]
    for found, code in ((labels.target, 4), (labels.unlabelled, 8), (labels.ignored, 16)):
        np.testing.assert_array_equal(found, kept == code)


def distorted_exposure(path: Path, *, table: tuple[int, int] = (17, 21)) -> Path:
    """Write an exposure whose coordinates are shifted by tables of their own, by two pixels or so."""
    rng = np.random.default_rng(8)
    wcs = WCS(fits.Header(sky_cards()))
    shifts = [
        DistortionLookupTable(rng.normal(0, 2, table).astype(np.float32), crpix, crval, (12.5, 11.0))
        for crpix, crval in (((1, 1), (1, 1)), ((3, 2), (26, 13.5)), ((1, 1), (-4, 2)))
    ]
    wcs.cpdis1, wcs.cpdis2, wcs.det2im2 = shifts
    own, *tables = wcs.to_fits(relax=True)
    image = fits.ImageHDU(rng.normal(100, 5, (160, 200)).astype(np.float32), own.header, name="SCI")
    image.header.update({"GAIN": 1.5, "EXPTIME": 60.0})
    fits.HDUList([fits.PrimaryHDU(), image, *tables]).writeto(path)
    return path


def sky_places(path: Path, name: str, *, x0: int = 0, y0: int = 0) -> np.ndarray:
    """Return where pixels of a plane lie, in degrees, given the pixel of the raw exposure at which it begins."""
    x, y = np.meshgrid(np.arange(20.0, 190.0, 7.3), np.arange(15.0, 150.0, 5.1))
    with fits.open(path) as hdus:
        wcs = WCS(hdus[name].header, hdus)
        assert wcs.cpdis1 is not None and wcs.cpdis2 is not None and wcs.det2im2 is not None
        return wcs.all_pix2world(np.column_stack([x.ravel() - x0, y.ravel() - y0]), 0)


LINEAR = ("data.preprocess.gain=1.5", "data.preprocess.cosmic_rays=false")


@pytest.mark.filterwarnings("ignore::astropy.wcs.FITSFixedWarning")
@pytest.mark.parametrize("trim", ["none", "[8:195,5:158]"])
def test_tables_of_distortion_go_with_the_image_and_move_with_its_trim(tmp_path: Path, trim: str) -> None:
    raw, out = distorted_exposure(tmp_path / "a.fits"), tmp_path / "out"
    assert (
        main(
            [
                "-q",
                "reduce",
                str(raw),
                "--out",
                str(out),
                "--jobs",
                "1",
                *LINEAR,
                f"data.preprocess.trim={written(trim)}",
            ]
        )
        == 0
    )
    x0, y0 = (0, 0) if trim == "none" else (7, 4)
    for name in ("SCI", "DQ"):
        found = sky_places(out / "a.fits", name, x0=x0, y0=y0)
        np.testing.assert_allclose(found, sky_places(raw, "SCI"), rtol=0, atol=1e-8)
    assert read_image(out / "a.fits", hdu="SCI").wcs.cpdis1 is not None
    assert CCDData.read(out / "a.fits", hdu=1, hdu_mask="DQ").unit == "electron"
    with fits.open(out / "a.fits", checksum=True) as hdus:
        hdus.verify("exception")
        assert [(hdu.name, hdu.ver) for hdu in hdus[-3:]] == [("D2IMARR", 2), ("WCSDVARR", 1), ("WCSDVARR", 2)]


@pytest.mark.filterwarnings("ignore::astropy.wcs.FITSFixedWarning")
@pytest.mark.parametrize("command_line", [["quality", "--jobs", "1"], ["manifest"], ["reduce", *LINEAR, "--jobs", "1"]])
def test_tables_and_stamps_beside_an_image_are_no_exposures(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    command_line: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    caplog.set_level(logging.INFO, "astrid.data.frames")  # which a command changes, and this puts back
    path = distorted_exposure(tmp_path / "a.fits")
    if command_line[0] == "reduce":
        fits.append(path, np.ones((9, 9), np.float32))
    main([command_line[0], ".", *command_line[1:]])
    said = "".join(capsys.readouterr())
    assert "WCSDVARR" not in said and "D2IMARR" not in said
    assert command_line[0] != "reduce" or "1 written, 0 there already, 0 refused" in said
