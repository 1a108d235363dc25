"""Claims about raw exposures on their way to fields: each step is taken or said to be skipped; the sky comes out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from raw_exposures import READOUT, Camera
from scipy import ndimage

from astrid.config import DataError, FramesData, PreprocessConfig
from astrid.data.exposures import read_exposure
from astrid.data.fields import SPLITS, Splits, write_histories
from astrid.data.frames import Field
from astrid.data.manifest import fingerprint_rows, read_manifest
from astrid.data.preprocess import prepare_field
from astrid.data.psf import psf_stamp
from astrid.data.reduction.sets import masters_key
from astrid.data.rows import FrameRow, ImageFile
from astrid.data.store import FieldStore, write_fields

EDGE, OVERSCAN = 320, 20
SHIFT = (5.3, -2.7)
TRANSIENT = (150, 170)
HIT = (60, 61)
BAD = (40, 200)
HEADER = {"GAIN": READOUT.gain, "RDNOISE": READOUT.read_noise, "SATURATE": 40_000, "EXPTIME": 120.0}
SECTIONS = {"BIASSEC": f"[{EDGE + 1}:{EDGE + OVERSCAN},1:{EDGE}]", "TRIMSEC": f"[1:{EDGE},1:{EDGE}]"}
RAW = {
    "saturation": "header",
    "bad_pixels": "bad.fits",
    "overscan": "header",
    "trim": "header",
    "bias": ["bias_*.fits"],
    "dark": ["dark_*.fits"],
    "flat": ["flat_*.fits"],
    "gain": "header",
    "read_noise": "header",
    "cosmic_rays": True,
    "raw_reference": True,
}


def starry_sky(*, fwhm: float, shift: tuple[float, float] = (0.0, 0.0)) -> np.ndarray:
    """Electrons of a sky with 60 stars, of which one is saturated, moved by (x, y) pixels."""
    rng = np.random.default_rng(42)
    light = np.full((EDGE, EDGE), 400.0)
    fluxes = np.append(10 ** rng.uniform(4, 5.3, 59), 5e6)
    for (x, y), flux in zip(rng.uniform(10, EDGE - 10, (60, 2)), fluxes, strict=True):
        where, share = psf_stamp(light.shape, x=x + shift[0], y=y + shift[1], radius=60, fwhm=fwhm, beta=3.5)
        light[where] += flux * share
    return light


class Observatory:
    """A folder with the raw files of two nights: a transient and a cosmic ray in the science frame."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.camera = Camera((EDGE, EDGE), seed=3)
        for number in range(5):
            self.write(f"bias_{number}", 0.0, EXPTIME=0.0)
            self.write(f"dark_{number}", 0.0, EXPTIME=300.0)
            self.write(f"flat_{number}", 20_000.0, EXPTIME=5.0)
        science = starry_sky(fwhm=3.0)
        where, share = psf_stamp(science.shape, x=TRANSIENT[1], y=TRANSIENT[0], radius=30, fwhm=3.0, beta=3.5)
        science[where] += 4000 * share
        science[HIT] += 5000
        self.write("science", science)
        self.write("reference", starry_sky(fwhm=3.8, shift=SHIFT))
        bad = np.zeros((EDGE, EDGE + OVERSCAN), np.uint8)
        bad[BAD] = 1
        fits.writeto(folder / "bad.fits", bad)

    def write(self, name: str, electrons: np.ndarray | float, **header: float) -> None:
        seconds = header.get("EXPTIME", HEADER["EXPTIME"])
        counts = self.camera.expose(electrons, seconds=seconds).data
        strip = self.camera.rng.normal(300, READOUT.read_noise / READOUT.gain, (EDGE, OVERSCAN))
        raw = np.clip(np.hstack([counts, np.rint(strip)]), 0, 65535).astype(np.uint16)
        fits.writeto(self.folder / f"{name}.fits", raw, fits.Header(HEADER | SECTIONS | header), overwrite=True)

    def config(self, **knobs: object) -> FramesData:
        preprocess = PreprocessConfig(**{**RAW, "register": "stars", "difference": "proper", "score": True, **knobs})
        cache = str(self.folder / "cache")
        return FramesData(root=str(self.folder), manifest="m.csv", cache=cache, preprocess=preprocess)

    def row(self, **columns: object) -> FrameRow:
        files = {name: ImageFile(self.folder / f"{name}.fits") for name in ("science", "reference")}
        return FrameRow(number=2, name="f", field="f", split="train", **{**files, **columns})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def observatory(tmp_path_factory: pytest.TempPathFactory) -> Observatory:
    return Observatory(tmp_path_factory.mktemp("raw"))


@pytest.fixture(scope="module")
def field(observatory: Observatory) -> Field:
    return prepare_field(observatory.row(), observatory.config())


def test_the_steps_are_told_in_their_order(field: Field) -> None:
    names = [line.partition(":")[0] for line in field.history]
    detector = ["saturation", "bad pixels", "overscan", "trim", "bias", "uncertainty", "dark", "gain", "flat"]
    each = [*detector, "cosmic rays"]
    assert names == [
        *each,
        "background",
        "difference",
        *(f"reference {name}" for name in (*each, "register", "background")),
    ]
    assert not [line for line in field.history if "skipped" in line]
    assert "dark: master subtracted for 120.0 s" in field.history
    assert any("noise of neighbours correlates by 0." in line for line in field.history)


def test_what_is_bad_is_not_valid_and_most_else_is(field: Field) -> None:
    assert field.valid.shape == (EDGE, EDGE)
    assert not field.valid[HIT] and not field.valid[BAD]
    assert field.valid[12:-12, 12:-12].mean() > 0.97
    assert np.all(field.image[:, ~field.valid] == 0)


def test_the_transient_stands_out_and_the_static_sky_does_not(field: Field) -> None:
    assert field.image.shape == (4, EDGE, EDGE)
    score = field.image[3]
    y, x = np.unravel_index(np.abs(np.where(field.valid, score, 0)).argmax(), score.shape)
    assert abs(y - TRANSIENT[0]) <= 1 and abs(x - TRANSIENT[1]) <= 1 and score[y, x] > 15
    others = ~ndimage.binary_dilation(~field.valid, structure=np.ones((3, 3)), iterations=8)
    others[TRANSIENT[0] - 15 : TRANSIENT[0] + 16, TRANSIENT[1] - 15 : TRANSIENT[1] + 16] = False
    assert np.mean(np.abs(score[others]) > 5) < 1e-3
    assert np.std(field.image[2][others]) < 1.1 and np.std(score[others]) < 1.1


def test_what_is_skipped_is_told_with_what_it_lacks(observatory: Observatory) -> None:
    config = observatory.config(
        flat=[], dark=[], bad_pixels=None, cosmic_rays=False, register="none", difference="matched", score=False
    )
    record = read_exposure("science", observatory.row().science, config, fwhm_pixels=None)
    skipped = [str(step) for step in record.steps if not step.done]
    assert skipped == [
        "bad pixels: skipped, data.preprocess.bad_pixels is not given",
        "dark: skipped, data.preprocess.dark is not given",
        "flat: skipped, data.preprocess.flat is not given",
        "cosmic rays: skipped, data.preprocess.cosmic_rays is not given",
    ]
    assert [f"AstrID {step}" for step in record.steps] == [
        line for line in "".join(record.frame.header["HISTORY"]).replace("AstrID", "\nAstrID").splitlines() if line
    ]


def test_a_calibrated_exposure_is_in_electrons_with_a_true_uncertainty(observatory: Observatory) -> None:
    frame = read_exposure("science", observatory.row().science, observatory.config(), fwhm_pixels=3.0).frame
    sky = starry_sky(fwhm=3.0)
    dark_sky = ~frame.mask & (sky < 420)
    pull = (frame.data - sky) / frame.uncertainty.array
    assert frame.unit == "electron" and frame.data.dtype == np.float32
    assert np.std(pull[dark_sky]) == pytest.approx(1, abs=0.02) and abs(np.mean(pull[dark_sky])) < 0.1


def test_frames_that_are_reduced_already_go_through_untouched(observatory: Observatory) -> None:
    plain = FramesData(root="unused", manifest="m.csv")
    record = read_exposure("science", observatory.row().science, plain, fwhm_pixels=None)
    assert record.steps == [] and record.frame.shape == (EDGE, EDGE + OVERSCAN)


def test_masters_are_made_once_and_again_where_they_are_damaged(
    observatory: Observatory, field: Field, caplog: pytest.LogCaptureFixture
) -> None:
    key = masters_key(observatory.config().preprocess, observatory.folder)
    masters = observatory.folder / f"cache/masters-{key[:16]}.arrays"
    made = masters.stat().st_mtime_ns
    again = prepare_field(observatory.row(), observatory.config())
    assert masters.stat().st_mtime_ns == made and again.image.tobytes() == field.image.tobytes()
    copy = observatory.config()
    copy.cache = str(observatory.folder / "elsewhere")
    Path(copy.cache).mkdir()
    (Path(copy.cache) / masters.name).write_bytes(masters.read_bytes()[:5000])
    healed = prepare_field(observatory.row(), copy)
    assert healed.image.tobytes() == field.image.tobytes()
    assert "is damaged (its checksum is another) and is made again" in caplog.text


def test_planes_are_trimmed_with_their_frame(observatory: Observatory) -> None:
    target = np.zeros((EDGE, EDGE + OVERSCAN), np.uint8)
    target[TRANSIENT] = 1
    fits.writeto(observatory.folder / "target.fits", target, overwrite=True)
    row = observatory.row(reference=None, target=ImageFile(observatory.folder / "target.fits"))
    assert np.argwhere(prepare_field(row, observatory.config()).target).tolist() == [list(TRANSIENT)]


def test_a_reference_of_another_size_waits_for_its_registration(observatory: Observatory) -> None:
    with fits.open(observatory.folder / "reference.fits") as hdus:
        small, header = hdus[0].data[:300].astype(np.float32), hdus[0].header
    header["TRIMSEC"] = "[1:320,1:300]"
    header["BIASSEC"] = "[321:340,1:300]"
    fits.writeto(observatory.folder / "small.fits", small, header, overwrite=True)
    manifest = observatory.folder / "m.csv"
    manifest.write_text("field,science,reference,split\nf,science.fits,small.fits,train\n")
    config = observatory.config(register="none", raw_reference=False)
    config.manifest = str(manifest)
    with pytest.raises(DataError, match="reference must have the shape of science"):
        read_manifest(config, receptive_field_pixels=44)
    row = observatory.row(reference=ImageFile(observatory.folder / "small.fits"))
    with pytest.raises(
        DataError,
        match=r"row 2 \(f\): reference small\.fits: it must .* data\.preprocess\.register",
    ):
        prepare_field(row, config)


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"flat": ["flats/*.fits"]}, r"data\.preprocess\.flat must name files below data\.root, got 'flats/\*\.fits'"),
        ({"register": "wcs"}, r"reference reference\.fits: both frames must have celestial coordinates"),
        ({"overscan": "[1:9,1:900]"}, r"overscan \[1:9,1:900\] must lie in the exposure of 340x320 pixels"),
    ],
)
def test_what_does_not_fit_is_refused_by_its_row(
    observatory: Observatory, knobs: dict[str, object], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        prepare_field(observatory.row(), observatory.config(**knobs))


def test_a_header_without_what_it_should_give_is_refused_by_its_file(observatory: Observatory) -> None:
    fits.writeto(observatory.folder / "mute.fits", np.ones((9, 9), np.float32), overwrite=True)
    row = observatory.row(science=ImageFile(observatory.folder / "mute.fits"))
    config = observatory.config(bias=[], dark=[], flat=[], bad_pixels=None)
    with pytest.raises(DataError, match=r"science mute\.fits: the header must have a number SATURATE, got None"):
        prepare_field(row, config)


@pytest.mark.parametrize(
    ("keyword", "value", "rule"),
    [
        ("GAIN", 0.0, r"GAIN of the header must be above 0 and below 1e30, got 0; mend it, or change .*\.gain"),
        ("GAIN", -1.5, r"GAIN of the header must be .*, got -1\.5"),
        ("GAIN", 1e300, r"GAIN of the header must be .*, got 1e\+300"),
        ("RDNOISE", -5.0, r"RDNOISE of the header must be .*, got -5"),
        ("RDNOISE", 1e30, r"RDNOISE of the header must be .*, got 1e\+30"),
        ("SATURATE", -1.0, r"SATURATE of the header must be .*, got -1"),
        ("EXPTIME", -60.0, r"EXPTIME of the header must be above 0 and below 1e30, got -60"),
        ("EXPTIME", 0.0, r"EXPTIME of the header must be above 0 and below 1e30, got 0"),
    ],
)
def test_a_number_that_no_detector_has_is_refused_by_its_file(
    observatory: Observatory, keyword: str, value: float, rule: str
) -> None:
    header = fits.Header(HEADER | SECTIONS | {keyword: value})
    raw = fits.getdata(observatory.folder / "science.fits")
    fits.writeto(observatory.folder / "odd.fits", raw, header, overwrite=True)
    row = observatory.row(science=ImageFile(observatory.folder / "odd.fits"))
    with pytest.raises(DataError, match=rf"science odd\.fits: {rule}"):
        prepare_field(row, observatory.config())


def test_calibration_frames_and_knobs_decide_the_fingerprint(observatory: Observatory, tmp_path: Path) -> None:
    rows, config = [observatory.row()], observatory.config()
    first = fingerprint_rows(rows, config)
    assert fingerprint_rows(rows, observatory.config()) == first
    assert fingerprint_rows(rows, observatory.config(clip_sigma=4.0)) != first
    assert fingerprint_rows(rows, observatory.config(bias=["bias_[0-3].fits"])) != first


def test_a_run_tells_what_was_done_to_each_field(field: Field, tmp_path: Path) -> None:
    write_fields(tmp_path / "store", [field])
    store = FieldStore(tmp_path / "store")
    assert write_histories(Splits(store, store, store, "key", "test"), tmp_path / "told.json")
    told = json.loads((tmp_path / "told.json").read_text())
    assert told == {f"{split}/f": field.history for split in SPLITS}


def test_nothing_is_told_where_nothing_was_done(tmp_path: Path) -> None:
    plane = np.ones((8, 8), bool)
    write_fields(tmp_path / "store", [Field("f", np.zeros((1, 8, 8), np.float32), plane, plane)])
    store = FieldStore(tmp_path / "store")
    assert not write_histories(Splits(store, store, store, "key", "test"), tmp_path / "told.json")
    assert not (tmp_path / "told.json").exists()
