"""Claims about the exposures of a manifest: assessed once, kept in the cache, stopped at, left out, or kept."""

from __future__ import annotations

import csv
import dataclasses
import json
import logging
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from raw_exposures import Camera
from starfields import Starfield

from astrid.config import DataError, FramesData, QualityConfig, RunError
from astrid.config.compose import load
from astrid.data import screening
from astrid.data.manifest import read_manifest
from astrid.data.recipes import frames_recipe, injected_recipe
from astrid.data.reduction.sets import masters_key
from astrid.data.rows import FrameRow, ImageFile
from astrid.data.screening import screen

SPLITS = ("train", "train", "val", "test")


def show(items: Iterable, what: str, count: int) -> Iterable:
    return items


def manifest(folder: Path, *, blurred: tuple[int, ...] = (1,), sections: bool = False) -> Path:
    """Four exposures, one of them out of focus; all pixels of each are negative but for one."""
    rows = []
    for number, split in enumerate(SPLITS):
        fwhm = 7.0 if number in blurred else 3.0
        field = Starfield(shape=(192, 192), stars=12, fwhm=fwhm, brightest=1e5, seed=number)
        field.write(folder / f"{number}.fits")
        truth = field.image() * 0
        truth[60, 60] = 1
        field.write(folder / f"{number}_truth.fits", truth)
        parts = ["[1:96,1:192]", "[97:192,1:192]"] if sections else [""]
        rows += [[f"f{number}", f"{number}.fits", f"{number}_truth.fits", part, split] for part in parts]
    with (folder / "m.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([["field", "science", "target", "section", "split"], *rows])
    return folder / "m.csv"


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest whose second exposure is out of focus, with one cache for all tests."""
    return manifest(tmp_path_factory.mktemp("night")).parent


def config(folder: Path, policy: str, *more: str) -> FramesData:
    overrides = [f"data.root={folder}", f"data.manifest={folder}/m.csv", f"data.cache={folder}/cache", *more]
    limits = ["data.quality.limits.fwhm_pixels=[4,6]", f"data.quality.policy={policy}"]
    return load(["data=frames", *overrides, *limits]).data


def screened(given: FramesData) -> tuple[list, list]:
    return screen(read_manifest(given, receptive_field_pixels=1), given, show=show)


def test_keep_keeps_and_names(night: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        rows, found = screened(config(night, "keep"))
    assert len(rows) == 4 and [one.verdict.passed for one in found] == [True, False, True, True]
    assert "1 of 4 exposures are below data.quality.min_score and kept" in caplog.text
    assert "1.fits: score 0.00; fwhm_pixels" in caplog.text


def test_skip_leaves_out_counts_and_names(night: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        rows, found = screened(config(night, "skip"))
    assert [row.science.path.name for row in rows] == ["0.fits", "2.fits", "3.fits"]
    assert [one.is_skipped for one in found] == [False, True, False, False]
    assert "1 of 4 exposures" in caplog.text and "left out" in caplog.text


def test_stop_names_row_exposure_measure_threshold_and_remedy(night: Path) -> None:
    with pytest.raises(DataError, match=r"row 3, 1\.fits: .*min_score = 0\.2, got 0: fwhm_pixels 7.* from 6\); leave"):
        screened(config(night, "stop"))


def test_a_split_that_loses_all_its_exposures_stops_the_run(tmp_path: Path) -> None:
    manifest(tmp_path, blurred=(2,))
    with pytest.raises(DataError, match=r"the val split must have exposures .* got none"):
        screened(config(tmp_path, "skip"))


def test_an_exposure_of_several_sections_is_assessed_once_and_left_out_whole(tmp_path: Path) -> None:
    manifest(tmp_path, sections=True)
    rows, found = screened(config(tmp_path, "skip", "data.split_unit=exposure"))
    assert len(found) == 4 and len(rows) == 6


def test_what_was_assessed_is_not_looked_at_again(night: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, first = screened(config(night, "keep"))
    monkeypatch.setattr(screening, "assess_row", None)  # any call would fail
    _, again = screened(config(night, "skip", "data.quality.min_score=0.1"))
    assert [one.found.values for one in again] == [one.found.values for one in first]


def test_damaged_assessments_are_made_anew(night: Path, tmp_path: Path) -> None:
    _, first = screened(config(night, "keep"))
    copy = shutil.copytree(night / "cache", tmp_path / "cache")
    damages = (b"", b"{", b'{"name": 3}', b"[]")
    for path, damage in zip(sorted((copy / "quality").glob("*.json")), damages, strict=True):
        path.write_bytes(damage)
    _, again = screened(config(night, "keep", f"data.cache={copy}"))
    assert [one.found.values for one in again] == [one.found.values for one in first]


@pytest.mark.parametrize("change", [{"noise": -1.0}, {"noise": "much"}, {"noise": None}])
def test_an_assessment_that_is_not_what_was_written_is_not_trusted(
    night: Path, tmp_path: Path, change: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    _, first = screened(config(night, "keep"))
    copy = shutil.copytree(night / "cache", tmp_path / "cache")
    for path in (copy / "quality").glob("*.json"):
        told = json.loads(path.read_text())
        told["assessment"]["values"] |= change
        path.write_text(json.dumps(told))
    _, again = screened(config(night, "keep", f"data.cache={copy}"))
    assert [one.found.values for one in again] == [one.found.values for one in first]
    assert "is damaged (its checksum is another): its exposure is assessed again" in caplog.text


def test_a_cache_that_cannot_be_written_is_one_message(night: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    given = config(night, "keep", f"data.cache={tmp_path}/file/cache")
    rows = read_manifest(config(night, "keep"), receptive_field_pixels=1)
    with pytest.raises(RunError, match=r"data\.cache: .* can't be written \(Not a directory, .*name a folder"):
        screen(rows, given, show=show)


def test_other_pixels_or_another_gain_are_assessed_anew(night: Path) -> None:
    _, before = screened(config(night, "keep"))
    _, after = screened(config(night, "keep", "data.quality.gain=8"))
    ratios = [one[0].found.values["noise_ratio"] for one in (before, after)]
    assert ratios[1] > 1.5 * ratios[0]


def key_of(row: FrameRow, given: FramesData) -> str:
    return screening._key(row, given, screening._shared_key(given))


def test_code_and_masters_are_hashed_once_however_many_rows(night: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    screened(config(night, "keep"))
    asked: list[int] = []
    monkeypatch.setattr(screening, "masters_key", lambda *given: asked.append(1) or masters_key(*given))
    screened(config(night, "keep"))
    assert len(asked) == 1


@pytest.mark.parametrize("knob", ["policy=stop", "min_score=0.1", "limits.noise_ratio=[1,9]"])
def test_what_only_judges_measures_nothing_again(night: Path, knob: str) -> None:
    given, changed = config(night, "keep"), config(night, "keep", f"data.quality.{knob}")
    row = read_manifest(given, receptive_field_pixels=1)[0]
    assert key_of(row, given) == key_of(row, changed)


PARTS = {
    "mask": {"mask": "3_truth.fits"},
    "valid": {"valid": "0_truth.fits"},
    "weight": {"weight": "0_truth.fits"},
    "mask_bits": {"mask": "0_truth.fits", "mask_bits": 2},
    "mask_codes": {"mask": "0_truth.fits", "mask_codes": (3,)},
    "gain": {},
    "preprocess": {},
    "masters": {},
}
KNOBS = {
    "gain": "data.quality.gain=8",
    "preprocess": "data.preprocess.gain=2",
    "masters": "data.preprocess.bias=[3.fits]",
}


@pytest.mark.parametrize("part", PARTS)
def test_whatever_decides_an_assessment_is_part_of_its_key(night: Path, part: str) -> None:
    given, changed = config(night, "keep"), config(night, "keep", *([KNOBS[part]] if part in KNOBS else []))
    row = read_manifest(given, receptive_field_pixels=1)[0]
    planes = {
        name: ImageFile(night / value) if isinstance(value, str) else value for name, value in PARTS[part].items()
    }
    without = {name: value for name, value in planes.items() if name != part}
    one, other = dataclasses.replace(row, **without), dataclasses.replace(row, **planes)
    assert key_of(one, given) != key_of(other, changed)
    assert (screening.Pixels.of(one) == screening.Pixels.of(other)) == (part in KNOBS)


def test_a_plane_counts_by_what_it_is_for(night: Path) -> None:
    given = config(night, "keep")
    row, plane = read_manifest(given, receptive_field_pixels=1)[0], ImageFile(night / "0_truth.fits")
    keys = {key_of(dataclasses.replace(row, **{name: plane}), given) for name in ("mask", "valid", "weight")}
    assert len(keys) == 3


def test_one_image_with_two_masks_is_assessed_twice(night: Path) -> None:
    given = config(night, "keep")
    row = read_manifest(given, receptive_field_pixels=1)[0]
    masks = [dataclasses.replace(row, mask=ImageFile(night / f"{n}_truth.fits"), mask_codes=(n,)) for n in (0, 1)]
    _, found = screen(masks, given, show=show)
    assert [one.found.values["bad_fraction"] > 0.9 for one in found] == [True, False]


def test_without_the_bad_exposures_the_fields_have_another_key(night: Path) -> None:
    kept, skipped, lenient = (
        frames_recipe(given, read_manifest(given, receptive_field_pixels=1), announce=show)
        for given in (
            config(night, "keep"),
            config(night, "skip"),
            config(night, "skip", "data.quality.min_score=0"),
        )
    )
    assert (len(kept.makers["train"]), len(skipped.makers["train"])) == (2, 1)
    assert kept.key == lenient.key != skipped.key
    assert sum(one.is_skipped for one in skipped.quality) == 1 and len(skipped.quality) == 4


def test_after_the_steps_of_the_detector_counts_are_electrons_from_zero(tmp_path: Path) -> None:
    manifest(tmp_path, blurred=())
    knobs = ["data.preprocess.gain=2", "data.preprocess.read_noise=6", "data.preprocess.pedestal=0"]
    _, found = screened(config(tmp_path, "keep", *knobs))
    for one in found:
        assert one.found.facts.unit == "electron"
        assert one.found.values["noise_ratio"] == pytest.approx(1, abs=0.05)


RAW = {
    "bias": ["bias=[bias_*.fits]"],
    "overscan": ["overscan='[129:148,1:128]'", "trim='[1:128,1:128]'"],
    "pedestal": ["pedestal=300"],
    "dark that holds the bias": ["dark=[long_*.fits]"],
    "bias and dark": ["bias=[bias_*.fits]", "dark=[dark_*.fits]"],
    "pedestal and dark": ["pedestal=300", "dark=[dark_*.fits]"],
}


@pytest.mark.parametrize("steps", RAW)
def test_the_noise_after_the_steps_is_that_of_all_that_was_counted(
    tmp_path: Path, steps: str, caplog: pytest.LogCaptureFixture
) -> None:
    camera = Camera((128, 148))
    seconds, rate = 600.0, 1.0 if "and dark" in steps else 0.005
    camera.bias[:], camera.dark[:], camera.flat[:] = 300.0, rate, 1.0
    sky = np.full((128, 148), 100.0)
    sky[:, 128 if steps == "overscan" else 148 :] = 0

    def write(name: str, light: np.ndarray | float, duration: float) -> None:
        counts = camera.expose(light, seconds=duration).data.astype(np.float32)
        no_light = {"BIASSEC": "[129:148,1:128]"} if steps == "overscan" else {"PEDESTAL": -1000}
        cards = {"GAIN": 1.5, "RDNOISE": 6.0, "EXPTIME": duration} | no_light
        fits.PrimaryHDU(counts, fits.Header(cards)).writeto(tmp_path / name)

    for number in range(20):
        write(f"bias_{number}.fits", 0.0, 0.0)
        write(f"dark_{number}.fits", 0.0, 3 * seconds)
        write(f"long_{number}.fits", 0.0, seconds)
    write("science.fits", sky, seconds)
    knobs = [f"data.preprocess.{knob}" for knob in ("gain=1.5", *RAW[steps])]
    knobs += [] if "holds" in steps else ["data.preprocess.read_noise=6"]
    row = FrameRow(2, "a", "a", None, ImageFile(tmp_path / "science.fits"), fwhm_pixels=3.0)
    found = screening.assess_row(row, config(tmp_path, "keep", *knobs))
    assert found.facts.pedestal == 0 and "BIASSEC" not in caplog.text
    assert found.values["noise_ratio"] == pytest.approx(1, abs=0.06)


def test_numbers_that_are_given_hold_after_the_steps_and_those_of_the_header_do_not(tmp_path: Path) -> None:
    manifest(tmp_path, blurred=())
    for path in tmp_path.glob("?.fits"):
        fits.setval(path, "MAGZERO", value=20.0)
    steps = ["data.preprocess.gain=2"]
    told = ["data.quality.zero_point=26", "data.quality.saturation=9e5", "data.quality.pedestal=3"]
    _, header = screened(config(tmp_path, "keep", *steps))
    _, given = screened(config(tmp_path, "keep", *steps, *told))
    facts = [found[0].found.facts for found in (header, given)]
    assert (facts[0].zero_point, facts[0].saturation) == (None, None)
    assert (facts[1].zero_point, facts[1].saturation, facts[1].pedestal) == (26.0, 9e5, 3.0)


@pytest.mark.parametrize("knob", ["pedestal=1000", "dark=[dark.fits]", "flat=[flat.fits]"])
def test_the_level_of_saturation_is_not_that_of_the_header_once_counts_were_changed(tmp_path: Path, knob: str) -> None:
    """Compared with the raw level, pixels that ended at it were said to be far from saturated."""
    field = Starfield(shape=(192, 192), stars=12, brightest=1e5)
    image = np.minimum(field.image() + 1000, 6000).round()
    truth = float(np.mean(image >= 6000))
    for name, values in {"a": image, "dark": 0 * image + 500, "flat": 0 * image + 500}.items():
        fits.writeto(tmp_path / f"{name}.fits", values, fits.Header({"SATURATE": 6000.0, "EXPTIME": 60.0}))
    row = FrameRow(2, "a", "a", None, ImageFile(tmp_path / "a.fits"), fwhm_pixels=3.0)
    steps = [f"data.preprocess.{one}" for one in (knob, *(["pedestal=0"] if "flat" in knob else []))]
    found = screening.assess_row(row, config(tmp_path, "keep", *steps))
    assert found.facts.saturation is None and truth > 0
    assert found.values["saturated_fraction"] == pytest.approx(truth)


def test_a_frame_that_comes_in_electrons_keeps_the_zero_point_of_its_header(tmp_path: Path) -> None:
    manifest(tmp_path, blurred=())
    for path in tmp_path.glob("?.fits"):
        fits.setval(path, "MAGZERO", value=20.0)
        fits.setval(path, "BUNIT", value="electron")
    _, found = screened(config(tmp_path, "keep"))
    assert found[0].found.facts.zero_point == 20.0 and found[0].found.facts.saturation == 1e6


@pytest.mark.parametrize("kind", ["frames", "injected"])
def test_an_error_about_a_bad_exposure_that_was_kept_says_how_to_leave_it_out(tmp_path: Path, kind: str) -> None:
    manifest(tmp_path, blurred=())
    values, header = fits.getdata(tmp_path / "1.fits", header=True)
    fits.writeto(tmp_path / "1.fits", values * np.nan, header, overwrite=True)
    given = config(tmp_path, "keep", f"data={kind}", "data.prepare_workers=1")
    rows = read_manifest(given, receptive_field_pixels=1)
    make = injected_recipe if kind == "injected" else frames_recipe
    with pytest.raises(
        DataError, match=r"row 3 .* no good pixel at all .*; or leave it out.* data\.quality\.policy=skip"
    ):
        make(given, rows, announce=show).prepare("train", config=given, announce=show)
    fits.writeto(tmp_path / "1.fits", values, header, overwrite=True)
    fits.writeto(tmp_path / "1_truth.fits", np.full(values.shape, -1, np.int16), overwrite=True)
    with pytest.raises(DataError) as caught:
        make(given, rows, announce=show).prepare("train", config=given, announce=show)
    assert "policy=skip" not in str(caught.value), "a good exposure isn't to be left out"


def test_the_default_keeps_everything() -> None:
    assert QualityConfig().policy == "keep"


@pytest.mark.slow
def test_table_figure_and_counts_come_with_the_run(night: Path, tmp_path: Path) -> None:
    from astrid.experiment import run_experiment
    from astrid.tracking.stored_runs import read_folder

    knobs = ["data=frames", f"data.root={night}", f"data.manifest={night}/m.csv", f"data.cache={night}/cache"]
    small = ["model=unet_small", "data.tile_size=64", "training.epochs=1", "training.device=cpu", "tracking=off"]
    policy = ["data.quality.limits.fwhm_pixels=[4,6]", "data.quality.policy=skip"]
    run_experiment(load([*knobs, *small, *policy, "training.threads=1", "metrics.bins=4096"]), run_dir=tmp_path / "run")
    table = json.loads((tmp_path / "run/tables/quality.json").read_text())
    passed = [row[table["columns"].index("passed")] for row in table["data"]]
    assert passed == ["yes", "no", "yes", "yes"]
    assert (tmp_path / "run/tables/quality.parquet").is_file() and (tmp_path / "run/figures/quality.png").is_file()
    tags = read_folder(tmp_path / "run").tags
    assert (tags["data.exposures"], tags["data.exposures_skipped"], tags["data.exposures_bad"]) == ("4", "1", "1.fits")
