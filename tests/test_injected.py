"""Real frames with injected things: what changes, what counts, and which split sees which cosmic ray."""

from __future__ import annotations

import dataclasses
import json
import logging
import pickle
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData, StdDevUncertainty
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from astrid.config import ConfigError, DataError, InjectedData, QualityConfig
from astrid.config.compose import load
from astrid.data.fields import build_splits
from astrid.data.frames import Field, read_table
from astrid.data.inject.binning import binned, blocks
from astrid.data.inject.cosmic_rays import COLUMNS, Footprint, draw_hits, footprints_of, read_footprints
from astrid.data.inject.electrons import expected_light, with_electrons
from astrid.data.inject.frame import add_to_frames, generators, inject, prepare_injected
from astrid.data.inject.frame_psf import measure_epsf
from astrid.data.inject.resampling import resampled
from astrid.data.inject.stars import Spikes, _draw_shape
from astrid.data.inject.surroundings import electrons_per_count, look_around
from astrid.data.inject.transients import select
from astrid.data.injected import injections, with_psf, write_catalogue
from astrid.data.manifest import read_manifest
from astrid.data.preprocess import load_frames
from astrid.data.psf import psf_stamp
from astrid.data.quality.header import read_facts
from astrid.data.recipes import injected_recipe
from astrid.data.rows import FrameRow, ImageFile, Section
from astrid.data.store import FieldStore, write_fields
from astrid.experiment import run_experiment

SHAPE = (128, 144)
GAIN = 2.0


def unseen(items: Iterable, what: str, count: int) -> Iterable:
    return items


def sky_frame(seed: int, *, stars: int = 14, fwhm: float = 3.0, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """An exposure of stars in counts: 400 electrons of sky, and photon noise. The stars are always the same."""
    places, rng = np.random.default_rng(7), np.random.default_rng(seed)
    light = np.full(shape, 400.0)
    for _ in range(stars):
        x, y = places.uniform(12, shape[1] - 12), places.uniform(12, shape[0] - 12)
        where, share = psf_stamp(shape, x=x, y=y, radius=30, fwhm=fwhm, beta=3.5)
        light[where] += places.uniform(2e4, 1e5) * share
    return (rng.poisson(light) / GAIN).astype(np.float32)


@pytest.fixture
def footprints(tmp_path: Path) -> Path:
    """A table of twenty tracks, of 3 to 22 pixels and 500 electrons a pixel."""
    path = tmp_path / "footprints.fits"
    spans = [np.full(number + 3, 500) for number in range(20)]
    columns = [
        fits.Column("fp_id", "I", array=np.arange(20)),
        fits.Column("x0", "I", array=np.arange(20) + 5),
        fits.Column("y0", "I", array=np.arange(20) + 9),
        fits.Column("pixel_values", "PJ()", array=np.array(spans, dtype=object)),
    ]
    fits.BinTableHDU.from_columns(columns).writeto(path)
    return path


class Bench:
    """A folder in which planes become files and rows become injected fields."""

    def __init__(self, folder: Path, **knobs: object) -> None:
        self.folder = folder
        given = {"root": str(folder), "manifest": str(folder / "m.csv"), "cache": str(folder / "cache")}
        self.config = InjectedData(**(given | {"injection_gain": GAIN} | knobs))  # type: ignore[arg-type]

    def row(self, planes: dict[str, np.ndarray], **columns: object) -> FrameRow:
        for name, plane in planes.items():
            fits.PrimaryHDU(plane).writeto(self.folder / f"{name}.fits", overwrite=True)
        images = {name: ImageFile(self.folder / f"{name}.fits") for name in planes}
        known = {"number": 2, "name": "f", "field": "f", "split": "train", "picture": "00ff"}
        return FrameRow(**(known | images | columns))  # type: ignore[arg-type]

    def field(self, row: FrameRow, *, copy: int = 0, tracks: list[Footprint] | None = None) -> Field:
        return prepare_injected(row, self.config, copy, tracks or [])


COSMIC = {"target": "cosmic_ray", "cosmic_rays_per_mpix": 2000, "transients_per_mpix": 0}


# Cosmic rays


def test_spans_are_joined_row_by_row(tmp_path: Path) -> None:
    path = tmp_path / "one.fits"
    columns = [
        fits.Column("fp_id", "I", array=[3, 3]),
        fits.Column("x0", "I", array=[21, 20]),
        fits.Column("y0", "I", array=[10, 11]),
        fits.Column("pixel_values", "PJ()", array=np.array([np.array([5, 6]), np.array([7])], dtype=object)),
    ]
    fits.BinTableHDU.from_columns(columns).writeto(path)
    (one,) = read_footprints(path)
    assert one.number == 3
    assert one.charge.tolist() == [[0, 5, 6], [7, 0, 0]]


def test_a_file_without_the_table_is_refused(tmp_path: Path) -> None:
    fits.PrimaryHDU(np.zeros((4, 4))).writeto(tmp_path / "image.fits")
    with pytest.raises(DataError, match="a table with the columns fp_id, y0, x0, pixel_values"):
        read_footprints(tmp_path / "image.fits")
    (tmp_path / "text.fits").write_text("no FITS")
    with pytest.raises(DataError, match=r"text\.fits: cannot be read as FITS"):
        read_footprints(tmp_path / "text.fits")


def test_the_real_footprints_are_all_read(sample_data: Path) -> None:
    path = sample_data / "itl_cosmic_rays/cosmic_rays_itl_2017_even.fits.gz"
    found = read_footprints(path)
    assert len(found) == 882
    assert sum(int((one.charge > 0).sum()) for one in found) == 14362
    spans = read_table(path, columns=("pixel_values",))["pixel_values"]
    assert sum(one.charge.sum() for one in found) == sum(np.maximum(values, 0).sum() for values in spans)


def test_each_real_track_is_one_piece_and_none_of_its_spans_lies_on_another(sample_data: Path) -> None:
    """Spans with rows and columns exchanged fall apart: 174 of 882 were not connected."""
    path = sample_data / "itl_cosmic_rays/cosmic_rays_itl_2017_even.fits.gz"
    for one in read_footprints(path):
        assert ndimage.label(one.charge > 0, structure=np.ones((3, 3)))[1] == 1, one.number
    table = read_table(path, columns=COLUMNS)
    pixels = [
        (int(number), int(row), int(first) + step)
        for number, row, first, values in zip(*(table[name] for name in COLUMNS), strict=True)
        for step in range(len(values))
    ]
    assert len(pixels) == len(set(pixels))


@given(number=st.integers(5, 200), seed=st.integers(0, 9))
@settings(max_examples=30, deadline=None)
def test_no_footprint_is_in_two_splits_and_none_is_left_out(number: int, seed: int) -> None:
    table = [Footprint(n, np.ones((1, 1))) for n in range(number)]
    parts = [{one.number for one in footprints_of(split, table, seed=seed)} for split in ("train", "val", "test")]
    assert sum(len(part) for part in parts) == number == len(set.union(*parts))


def test_too_few_footprints_for_three_splits_are_refused() -> None:
    with pytest.raises(DataError, match="at least 5 footprints"):
        footprints_of("val", [Footprint(0, np.ones((1, 1)))], seed=0)


@given(seed=st.integers(0, 1000), number=st.integers(0, 8))
@settings(max_examples=30, deadline=None)
def test_a_frame_shows_its_part_of_the_tracks_that_fall_on_it(seed: int, number: int) -> None:
    track = Footprint(1, np.arange(1.0, 13.0).reshape(3, 4))
    hits = draw_hits((200, 200), np.random.default_rng(seed), footprints=[track], number=number)
    assert len(hits.placed) == number
    assert hits.charge.sum() <= number * track.charge.sum()
    corners = [tuple(map(int, placed.partition("@")[2].strip("()").split(","))) for placed in hits.placed]
    if all(0 <= x <= 196 and 0 <= y <= 196 for x, y in corners):
        assert hits.charge.sum() == number * track.charge.sum()


def test_tracks_fall_on_every_pixel_alike_and_stick_out_on_every_side() -> None:
    track = Footprint(1, np.ones((3, 3)))
    hits = draw_hits((8, 9), np.random.default_rng(0), footprints=[track], number=9900)  # 10 x 11 places, 90 each
    assert hits.charge == pytest.approx(np.full((8, 9), 9 * 90), rel=0.2)


def test_a_track_comes_in_all_eight_orientations() -> None:
    track = Footprint(1, np.array([[1.0, 2, 3], [0, 0, 4]]))
    seen = set()
    for seed in range(200):
        charge = draw_hits((9, 9), np.random.default_rng(seed), footprints=[track], number=1).charge
        if charge.sum() == track.charge.sum():
            rows, columns = np.nonzero(charge)
            seen.add(charge[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1].tobytes())
    assert len(seen) == 8


# What changes in a frame, and what counts


def test_the_target_is_what_stands_three_sigma_above_the_noise_and_the_rest_is_not_counted(
    tmp_path: Path, footprints: Path
) -> None:
    bench = Bench(tmp_path, footprints=str(footprints), **COSMIC)
    row = bench.row({"science": sky_frame(0)})
    loaded = load_frames(row, bench.config)
    before = np.array(loaded.science.frame.data)
    around = look_around(row, loaded, bench.config)
    tracks = read_footprints(footprints)
    injection = inject(around, bench.config, generators(row, bench.config, 0), tracks)
    add_to_frames(loaded, injection, around)
    hit = injection.science > 0
    assert hit.sum() > 100
    assert before[~hit].tobytes() == loaded.science.frame.data[~hit].tobytes()
    np.testing.assert_allclose((loaded.science.frame.data - before)[hit] * GAIN, injection.science[hit], rtol=1e-3)
    np.testing.assert_array_equal(loaded.labels.target, hit & (injection.science > 3 * around.noise))
    np.testing.assert_array_equal(loaded.labels.unlabelled, hit & (injection.science <= 3 * around.noise))
    dark = np.median(around.noise)
    assert dark == pytest.approx(20, rel=0.1)  # electrons, of a sky of 400


def test_a_track_on_a_star_must_stand_out_of_its_photons(tmp_path: Path, footprints: Path) -> None:
    bench = Bench(tmp_path, footprints=str(footprints), **COSMIC)
    row = bench.row({"science": sky_frame(0)})
    around = look_around(row, load_frames(row, bench.config), bench.config)
    star = np.unravel_index(around.flat.argmax(), SHAPE)
    assert around.noise[star] == pytest.approx(np.sqrt(400 + around.flat[star] * GAIN), rel=0.05)


@pytest.mark.parametrize("sky", [4.0, 400.0])
def test_the_noise_of_an_empty_sky_is_that_of_its_background_alone(tmp_path: Path, sky: float) -> None:
    """The positive half of the noise taken for light: 19 % too much variance at 4 electrons."""
    frame = np.random.default_rng(0).poisson(sky, (256, 256)).astype(np.float32)
    bench = Bench(tmp_path, **COSMIC | {"footprints": "t.fits", "injection_gain": 1.0})
    row = bench.row({"science": frame})
    around = look_around(row, load_frames(row, bench.config), bench.config)
    assert np.mean(around.noise**2) == pytest.approx(around.sigma**2, rel=0.01)
    assert np.mean(around.precision) == pytest.approx(around.sigma**-2, rel=0.01)


def test_the_photons_of_a_deep_reference_count_by_its_own_gain(tmp_path: Path) -> None:
    """A mean of 25 exposures on a scale of its own: its variance is that of its counts, R / gain, times scale²."""
    bench = Bench(tmp_path, transients_per_mpix=100, fading_fraction=0.5, transients_on_galaxies=0.0)
    deep = np.mean([sky_frame(seed) for seed in range(1, 26)], axis=0).astype(np.float32) / 4
    row = bench.row({"science": sky_frame(0), "reference": deep})
    loaded = load_frames(row, bench.config)
    assert loaded.reference is not None
    without = look_around(row, loaded, bench.config)
    loaded.reference.frame.meta["GAIN"] = 25 * 4 * GAIN  # electrons per count of the mean, divided by 4
    around = look_around(row, loaded, bench.config)
    star = np.unravel_index(around.flat.argmax(), SHAPE)
    electrons = around.flat[star] * GAIN
    assert around.reference_scale == pytest.approx(4.0, rel=0.02)
    assert without.reference_gain == pytest.approx(4 * GAIN, rel=0.02)  # as if exposed like the science frame
    assert 1 / without.precision[star] == pytest.approx(2 * electrons, rel=0.1)
    assert 1 / around.precision[star] == pytest.approx((1 + 1 / 25) * electrons, rel=0.1)


def test_what_fades_from_a_deep_reference_has_the_noise_of_its_own_photons(tmp_path: Path) -> None:
    knobs = {"transients_per_mpix": 5000, "transient_snr": [200.0, 300.0], "fading_fraction": 1.0}
    bench = Bench(tmp_path, transients_on_galaxies=0.0, **knobs)
    row = bench.row({"science": sky_frame(0), "reference": sky_frame(1) / 4})
    loaded = load_frames(row, bench.config)
    assert loaded.reference is not None
    loaded.reference.frame.meta["GAIN"] = 100 * GAIN
    before = np.array(loaded.reference.frame.data)
    around = look_around(row, loaded, bench.config)
    injection = inject(around, bench.config, generators(row, bench.config, 0), [])
    add_to_frames(loaded, injection, around)
    added = (loaded.reference.frame.data - before) * around.reference_scale * GAIN
    light = expected_light(select(injection.sources, injection.sources.flux < 0), SHAPE, psf=around.reference_psf)
    bright = light > 100
    assert added.sum() == pytest.approx(light.sum(), rel=0.01)
    depth = 100 / around.reference_scale  # electrons of the reference per electron of the science frame
    assert np.std((added - light)[bright] / np.sqrt(light[bright] / depth)) == pytest.approx(1.0, abs=0.1)


def test_what_fades_must_have_a_reference(tmp_path: Path) -> None:
    bench = Bench(tmp_path, transients_per_mpix=1000, fading_fraction=0.5)
    with pytest.raises(DataError, match=r"m\.csv, row 2 \(f\): what fades must have a reference to be in, got none"):
        bench.field(bench.row({"science": sky_frame(0)}))


def test_light_falls_on_pixels_that_are_seen_and_not_counted(tmp_path: Path) -> None:
    bench = Bench(tmp_path, transients_per_mpix=4000, transient_snr=[80.0, 90.0], transients_on_galaxies=0.0)
    marks = np.zeros(SHAPE, np.int16)
    marks[:, ::2], marks[::40, 1::2] = 3, 1
    row = bench.row({"science": sky_frame(0), "target": marks}, unlabelled_codes=(3,), ignore_codes=(1,))
    loaded = load_frames(row, bench.config)
    around = look_around(row, loaded, bench.config)
    injection = inject(around, bench.config, generators(row, bench.config, 0), [])
    places = np.rint(injection.sources.y).astype(int), np.rint(injection.sources.x).astype(int)
    assert (marks[places] == 0).all()  # sources lie on pixels that count
    assert not injection.science[marks == 1].any()
    light = expected_light(injection.sources, SHAPE, psf=around.psf)
    assert injection.science[marks == 3].sum() == pytest.approx(light[marks == 3].sum(), rel=0.02)


def test_what_the_frame_itself_marks_is_real_and_not_counted(tmp_path: Path, footprints: Path) -> None:
    bench = Bench(tmp_path, footprints=str(footprints), **COSMIC)
    target = np.zeros(SHAPE, np.int16)
    target[20:40, 20:40], target[60:80, 60:80], target[90:100, 90:100] = 5, 3, 1
    columns = {"target_codes": (5,), "unlabelled_codes": (3,), "ignore_codes": (1,)}
    made = bench.field(
        bench.row({"science": sky_frame(0), "target": target}, **columns), tracks=read_footprints(footprints)
    )
    assert not made.valid[target > 0].any()
    assert not made.target[target > 0].any()
    assert made.image[0][target == 5].any() and not made.image[0][target == 1].any()
    assert made.target.any()


def test_nothing_is_put_where_the_frame_is_bad(tmp_path: Path, footprints: Path) -> None:
    bench = Bench(tmp_path, footprints=str(footprints), **COSMIC)
    frame = sky_frame(0)
    frame[:, :40] = np.nan
    row = bench.row({"science": frame})
    loaded = load_frames(row, bench.config)
    around = look_around(row, loaded, bench.config)
    injection = inject(around, bench.config, generators(row, bench.config, 0), read_footprints(footprints))
    assert not injection.science[:, :40].any()
    assert injection.science[:, 40:].any()


# Seeds, copies, processes


def test_injections_depend_on_seed_pixels_and_copy_alone(tmp_path: Path, footprints: Path) -> None:
    bench = Bench(tmp_path, footprints=str(footprints), **COSMIC)
    tracks = read_footprints(footprints)
    row = bench.row({"science": sky_frame(0)})
    moved = dataclasses.replace(row, number=9, name="g", field="g")
    fields = [
        bench.field(row, tracks=tracks),
        bench.field(moved, tracks=tracks),
        bench.field(row, copy=1, tracks=tracks),
    ]
    fields.append(bench.field(dataclasses.replace(row, picture="ff00"), tracks=tracks))
    other = Bench(tmp_path, footprints=str(footprints), injection_seed=1, **COSMIC)
    fields.append(other.field(row, tracks=tracks))
    targets = [field.target.tobytes() for field in fields]
    assert targets[0] == targets[1]
    assert len(set(targets)) == 4
    assert [field.name for field in fields[:3]] == ["f", "g", "f~1"]


def test_taking_the_cosmic_rays_away_leaves_the_transients(tmp_path: Path, footprints: Path) -> None:
    knobs = {"transients_per_mpix": 300, "footprints": str(footprints)}
    tracks, row = read_footprints(footprints), Bench(tmp_path).row({"science": sky_frame(0)})
    with_tracks = Bench(tmp_path, cosmic_rays_per_mpix=1000, **knobs).field(row, tracks=tracks)
    without = Bench(tmp_path, **knobs).field(row, tracks=tracks)
    assert with_tracks.sources is not None and without.sources is not None
    np.testing.assert_array_equal(with_tracks.sources.x, without.sources.x)
    assert len(without.sources.x) > 0


def write_manifest(folder: Path, *, frames: int = 3) -> None:
    lines = ["field,science,split"]
    for number, split in zip(range(frames), ("train", "val", "test"), strict=True):
        fits.PrimaryHDU(sky_frame(number)).writeto(folder / f"{split}.fits", overwrite=True)
        lines.append(f"{split},{split}.fits,{split}")
    (folder / "m.csv").write_text("\n".join(lines))


def prepared(bench: Bench) -> dict[str, list[Field]]:
    """Make the fields of all splits in this process."""
    recipe = injected_recipe(bench.config, read_manifest(bench.config, receptive_field_pixels=32), announce=unseen)
    return {split: [make() for make in makers] for split, makers in recipe.makers.items()}


@pytest.mark.slow
def test_only_training_frames_are_copied_and_processes_make_the_same_fields(tmp_path: Path, footprints: Path) -> None:
    write_manifest(tmp_path)
    bench = Bench(tmp_path, copies=3, footprints=str(footprints), split_unit="exposure", **COSMIC)
    splits = build_splits(bench.config, receptive_field_pixels=32, announce=unseen)
    assert [len(splits.stores[split]) for split in ("train", "val", "test")] == [3, 1, 1]
    assert [entry.name for entry in splits.train.entries] == ["train", "train~1", "train~2"]
    rows = read_manifest(bench.config, receptive_field_pixels=32)
    calls = injections(rows, bench.config)
    again = pickle.loads(pickle.dumps(calls["train"][1]))()
    np.testing.assert_array_equal(again.image, splits.train.image(1))
    used = {split: {one.number for call in own for one in call.footprints} for split, own in calls.items()}
    assert not used["train"] & used["val"] and not used["train"] & used["test"] and not used["val"] & used["test"]
    assert "injection: " in splits.test.entries[0].history[-2]


def test_frames_without_a_split_are_judged_with_the_cosmic_rays_that_test(tmp_path: Path, footprints: Path) -> None:
    bench = Bench(tmp_path, footprints=str(footprints), **COSMIC)
    (call,) = injections([bench.row({"science": sky_frame(0)}, split=None)], bench.config)["all"]
    trains = footprints_of("train", read_footprints(footprints), seed=bench.config.injection_seed)
    assert call.footprints and not {one.number for one in call.footprints} & {one.number for one in trains}


def test_other_footprints_are_other_data(tmp_path: Path, footprints: Path) -> None:
    write_manifest(tmp_path)
    bench = Bench(tmp_path, footprints=str(footprints), split_unit="exposure", **COSMIC)
    rows = read_manifest(bench.config, receptive_field_pixels=32)
    moved = tmp_path / "moved.fits"
    moved.write_bytes(footprints.read_bytes())
    keys = [
        injected_recipe(dataclasses.replace(bench.config, footprints=str(path)), rows, announce=unseen).key
        for path in (footprints, moved)
    ]
    assert keys[0] == keys[1]
    with fits.open(moved) as table:
        table[1].data["pixel_values"][0][0] += 1
        table.writeto(moved, overwrite=True)
    changed = dataclasses.replace(bench.config, footprints=str(moved))
    assert injected_recipe(changed, rows, announce=unseen).key != keys[0]


# PSF and transients


@pytest.mark.parametrize("fwhm", [2.4, 3.5])
def test_the_effective_psf_of_a_frame_is_that_of_its_stars(fwhm: float) -> None:
    image = (sky_frame(3, stars=25, fwhm=fwhm, shape=(256, 256)) * GAIN - 400).astype(np.float32)
    psf = measure_epsf(image, np.ones(image.shape, bool), fwhm_pixels=fwhm, least_stars=5)
    where, share = psf.stamp(image.shape, x=100.3, y=90.6)
    true_where, truth = psf_stamp(image.shape, x=100.3, y=90.6, radius=40, fwhm=fwhm, beta=3.5)
    expected = np.zeros(image.shape)
    expected[true_where] = truth
    assert np.abs(share - expected[where] / expected[where].sum()).max() < 0.05 * truth.max()


def test_a_frame_without_stars_is_refused_by_name_or_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_manifest(tmp_path)
    fits.PrimaryHDU(sky_frame(1, stars=0)).writeto(tmp_path / "empty.fits")
    with (tmp_path / "m.csv").open("a") as stream:
        stream.write("\nempty,empty.fits,train")
    bench = Bench(tmp_path, copies=1, split_unit="exposure")
    with pytest.raises(DataError, match=r"m\.csv, row 5 \(empty\): science empty\.fits: at least 3 stars"):
        prepared(bench)
    skipping = Bench(tmp_path, copies=1, split_unit="exposure", without_psf="skip")
    with caplog.at_level(logging.WARNING):
        splits = prepared(skipping)
    assert [field.name for field in splits["train"]] == ["train"]
    assert "left out: m.csv, row 5 (empty)" in caplog.text


def test_a_frame_whose_binned_copies_have_no_psf_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    knobs = {"copies": 2, "split_unit": "exposure", "without_psf": "skip"}
    fine, coarse = Bench(tmp_path, **knobs).config, Bench(tmp_path, train_binning=[1, 4], **knobs).config
    rows = [Bench(tmp_path).row({"science": sky_frame(0)})]
    assert with_psf(rows, fine) == rows
    with caplog.at_level(logging.WARNING), pytest.raises(DataError, match="split 'train' must have a frame with a PSF"):
        with_psf(rows, coarse)
    assert "left out: m.csv, row 2 (f)" in caplog.text


def test_a_split_that_loses_all_its_frames_is_refused(tmp_path: Path) -> None:
    write_manifest(tmp_path)
    fits.PrimaryHDU(sky_frame(1, stars=0)).writeto(tmp_path / "val.fits", overwrite=True)
    with pytest.raises(DataError, match="split 'val' must have a frame with a PSF"):
        prepared(Bench(tmp_path, split_unit="exposure", without_psf="skip"))


def test_a_psf_that_comes_with_the_data_is_used(tmp_path: Path) -> None:
    bench = Bench(tmp_path, transients_per_mpix=3000, transient_snr=[100.0, 200.0], transients_on_galaxies=0.0)
    offset = np.arange(-10, 11)
    stars = bench.row({"science": sky_frame(0, stars=0)}, fwhm_pixels=6.0)
    fits.PrimaryHDU(np.exp(-(offset[:, None] ** 2 + offset**2) / 13.0)).writeto(tmp_path / "psf.fits")
    row = dataclasses.replace(stars, psf=ImageFile(tmp_path / "psf.fits"))
    around = look_around(row, load_frames(row, bench.config), bench.config)
    assert around.psf.pixels.shape == (21, 21)
    assert bench.field(row).sources is not None
    fits.PrimaryHDU(np.zeros((21, 21))).writeto(tmp_path / "psf.fits", overwrite=True)
    with pytest.raises(DataError, match=r"science science\.fits: psf psf\.fits: a PSF must be"):
        bench.field(row)


def test_transients_stand_out_as_they_are_said_to(tmp_path: Path) -> None:
    """The matched filter over the science channel, whose noise is 1, gives each bright source its signal-to-noise."""
    knobs = {"transients_per_mpix": 400, "transient_snr": [50.0, 80.0], "transients_on_galaxies": 0.0}
    bench = Bench(tmp_path, **knobs)
    row = bench.row({"science": sky_frame(0, shape=(256, 256))})
    empty = sky_frame(0, shape=(256, 256))
    psf = look_around(row, load_frames(row, bench.config), bench.config).psf
    ratios = []
    for copy in range(6):
        made = bench.field(row, copy=copy)
        assert made.sources is not None
        for x, y, flux, snr in zip(*(getattr(made.sources, name) for name in ("x", "y", "flux", "snr")), strict=True):
            where, share = psf.stamp(made.target.shape, x=x, y=y)
            assert made.target[round(y), round(x)] and made.valid[round(y), round(x)]
            if min(share.shape) >= min(psf.pixels.shape) - 1 and np.ptp(empty[where]) < 120:  # empty sky
                ratios.append((made.image[0][where] * share).sum() / np.sqrt((share**2).sum()) / snr)
                assert flux > 0
    assert len(ratios) > 20
    assert np.mean(ratios) == pytest.approx(1.0, abs=0.05)


def test_magnitudes_give_the_flux_through_the_zero_point(tmp_path: Path) -> None:
    knobs = {"transients_per_mpix": 1000, "transient_magnitude": [19.0, 19.0], "zero_point": 27.5}
    made = Bench(tmp_path, **knobs).field(Bench(tmp_path).row({"science": sky_frame(0)}))
    assert made.sources is not None and len(made.sources.flux) > 3
    np.testing.assert_allclose(made.sources.flux, GAIN * 10 ** (0.4 * 8.5))
    assert np.ptp(made.sources.snr) > 0


def test_what_fades_is_negative_in_the_difference(tmp_path: Path) -> None:
    knobs = {"transients_per_mpix": 1000, "transient_snr": [40.0, 60.0], "fading_fraction": 0.5}
    bench = Bench(tmp_path, transients_on_galaxies=0.0, **knobs)
    row = bench.row({"science": sky_frame(0), "reference": sky_frame(1, fwhm=2.6)})
    made = bench.field(row)
    assert made.sources is not None
    signs = {-1.0: 0, 1.0: 0}
    for x, y, flux in zip(made.sources.x, made.sources.y, made.sources.flux, strict=True):
        sign = np.sign(flux)
        assert sign * made.image[2][round(y), round(x)] > 3
        signs[float(sign)] += 1
    assert min(signs.values()) > 2


def test_sources_of_a_section_are_at_their_places_in_it(tmp_path: Path) -> None:
    bench = Bench(tmp_path, transients_per_mpix=2000, transient_snr=[50.0, 60.0], transients_on_galaxies=0.0)
    row = bench.row({"science": sky_frame(0)})
    whole, part = (
        bench.field(row),
        bench.field(dataclasses.replace(row, picture="00ff", section=Section(21, 80, 31, 120))),
    )
    assert whole.sources is not None and part.sources is not None
    assert part.target.shape == (90, 60)
    for x, y in zip(part.sources.x, part.sources.y, strict=True):
        assert part.target[round(y), round(x)] or not part.valid[round(y), round(x)]
    assert len(part.sources.x) > 0


def test_the_catalogue_lists_every_transient(tmp_path: Path) -> None:
    write_manifest(tmp_path)
    splits = prepared(Bench(tmp_path, copies=1, split_unit="exposure", transients_per_mpix=800))
    for split, fields in splits.items():
        write_fields(tmp_path / split, fields)
    assert write_catalogue({split: FieldStore(tmp_path / split) for split in splits}, tmp_path / "c.csv")
    lines = (tmp_path / "c.csv").read_text().splitlines()
    assert lines[0] == "split,field,x,y,flux,snr,kind"
    counts = [len(field.sources.x) for fields in splits.values() for field in fields if field.sources]
    assert len(lines) == 1 + sum(counts) and sum(counts) > 5


# Gain and binning


def test_the_gain_is_that_of_the_row_the_knob_or_the_header(tmp_path: Path) -> None:
    bench = Bench(tmp_path, injection_gain="header")
    row = bench.row({"science": sky_frame(0)})
    science = load_frames(row, bench.config).science
    with pytest.raises(DataError, match=r"the header must have a number EGAIN or GAIN, .* data\.injection_gain"):
        electrons_per_count(row, science, bench.config)
    science.frame.meta["GAIN"] = 1.7
    assert electrons_per_count(row, science, bench.config) == 1.7
    assert electrons_per_count(row, science, Bench(tmp_path, injection_gain=3.0).config) == 3.0
    assert electrons_per_count(dataclasses.replace(row, gain=0.5), science, bench.config) == 0.5


@pytest.mark.parametrize(
    ("unit", "gain"),
    [("ELECTRONS/S", 500.0), ("electron s-1", 500.0), ("count/s", 750.0), ("e-", 1.0), ("electron", 1.0), ("adu", 1.5)],
)
def test_the_gain_is_that_of_the_unit_in_both_frames_and_that_of_quality(
    tmp_path: Path, unit: str, gain: float
) -> None:
    """Of a rate the header's GAIN alone was taken: cosmic rays were too bright by the exposure time."""
    cards = {"BUNIT": unit, "GAIN": 1.5, "EXPTIME": 500.0}
    bench = Bench(tmp_path, injection_gain="header", transients_per_mpix=100)
    row = bench.row({"science": sky_frame(0), "reference": sky_frame(1)}, fwhm_pixels=3.0, reference_scale=1.0)
    for name in ("science", "reference"):
        for keyword, value in cards.items():
            fits.setval(tmp_path / f"{name}.fits", keyword, value=value)
    around = look_around(row, load_frames(row, bench.config), bench.config)
    told = read_facts(cards, sky_frame(0), QualityConfig(), path=Path("a.fits"))
    assert (around.gain, around.reference_gain, told.gain) == (gain, gain, gain)


@pytest.mark.parametrize("cards", [{}, {"EXPTIME": 0.0}, {"EXPTIME": "500 s"}])
def test_a_rate_of_unknown_exposure_time_is_refused_unless_its_gain_is_given(
    tmp_path: Path, cards: dict[str, object]
) -> None:
    bench = Bench(tmp_path, injection_gain="header")
    row = bench.row({"science": sky_frame(0)})
    science = load_frames(row, bench.config).science
    science.frame.meta.update({"BUNIT": "count/s", "GAIN": 1.5} | cards)
    with pytest.raises(DataError, match=r"exposure time of a rate \(BUNIT count/s\) must be known .* column gain"):
        electrons_per_count(row, science, bench.config)
    assert electrons_per_count(dataclasses.replace(row, gain=750.0), science, bench.config) == 750.0


def test_binned_pixels_are_sums_and_bad_where_one_is(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    frame = np.arange(7 * 9, dtype=np.float32).reshape(7, 9)
    frame[0, 3] = np.nan
    row = bench.row({"science": frame}, fwhm_pixels=4.0)
    coarse_row, coarse = binned(row, load_frames(row, bench.config), 2)
    assert coarse.science.frame.shape == (3, 4) == coarse.shown.shape
    assert coarse.science.frame.data[1, 2] == frame[2:4, 4:6].sum()
    assert coarse.shown.sum() == 11 and not coarse.shown[0, 1]
    assert coarse_row.fwhm_pixels == 2.0
    known = load_frames(row, bench.config)
    known.science.frame.uncertainty = StdDevUncertainty(np.full((7, 9), 3.0, np.float32))
    assert np.array_equal(binned(row, known, 2)[1].science.frame.uncertainty.array, np.full((3, 4), 6.0))
    assert blocks(np.arange(6).reshape(2, 3), 2).tolist() == [[[0, 1, 3, 4]]]
    with pytest.raises(DataError, match="can't be binned"):
        binned(dataclasses.replace(row, section=Section(1, 4, 1, 4)), load_frames(row, bench.config), 2)


def test_injected_light_adds_the_noise_of_its_photons_to_the_uncertainty() -> None:
    frame = CCDData(np.zeros((2, 2)), unit="adu", uncertainty=StdDevUncertainty(np.full((2, 2), 3.0)))
    brighter = with_electrons(frame, np.array([[0.0, 64], [0, 0]]), gain=2.0)
    assert brighter.data.tolist() == [[0, 32], [0, 0]]
    assert brighter.uncertainty.array.tolist() == [[3, 5], [3, 3]]  # sqrt(3² + 64 / 2²)


def test_only_training_copies_are_binned_in_turn(tmp_path: Path, footprints: Path) -> None:
    write_manifest(tmp_path)
    knobs = COSMIC | {"copies": 3, "train_binning": [1, 2]}
    splits = prepared(Bench(tmp_path, footprints=str(footprints), split_unit="exposure", **knobs))
    assert [len(field.target) for field in splits["train"]] == [128, 64, 128]
    assert len(splits["val"][0].target) == len(splits["test"][0].target) == 128


def test_training_copies_get_stars_that_are_nothing_to_be_found(tmp_path: Path, footprints: Path) -> None:
    frame = {"science": sky_frame(0, stars=0)}
    knobs = COSMIC | {
        "cosmic_rays_per_mpix": 1e-6,
        "train_stars_per_mpix": 3000,
        "train_star_fwhm": [2.0, 2.0],
        "train_star_flux": [5e4, 5e4],
    }
    bench = Bench(tmp_path, footprints=str(footprints), **knobs)
    row = bench.row(frame)
    made, judged = (bench.field(dataclasses.replace(row, split=split)) for split in ("train", "test"))
    bright = made.image[0] > 100
    assert 20 < bright.sum() < 2000 and not (judged.image[0] > 100).any()
    assert not made.target.any() and made.valid[bright].all()
    peak = made.image[0].max() * 20  # electrons
    assert peak == pytest.approx(5e4 * 0.22, rel=0.35)  # a Moffat of two pixels, centred on a pixel or beside it


def test_copies_differ_in_how_dense_their_stars_are(tmp_path: Path, footprints: Path) -> None:
    knobs = COSMIC | {"train_stars_per_mpix": 1000, "train_star_flux": [1e5, 1e5], "cosmic_rays_per_mpix": 1e-6}
    frame = {"science": sky_frame(0, stars=0)}

    def light(crowding: float) -> np.ndarray:
        bench = Bench(tmp_path, footprints=str(footprints), train_star_crowding=crowding, **knobs)
        return np.array([bench.field(bench.row(frame), copy=copy).image[0].clip(10).sum() for copy in range(5)])

    assert light(10.0).std() > 2 * light(1.0).std()


def test_stars_of_training_copies_are_as_long_as_their_ellipticity_lets_them(tmp_path: Path) -> None:
    knobs = {"train_stars_per_mpix": 100, "train_star_fwhm": [4.0, 4.0], "train_star_ellipticity": 0.9}
    bench = Bench(tmp_path, **knobs, train_star_beta=[2.5, 4.5], train_star_flux=[1e5, 1e5])
    shapes = [_draw_shape(bench.config, np.random.default_rng(seed)) for seed in range(40)]
    assert all(0.1 <= shape["axis_ratio"] <= 1 and 2.5 <= shape["beta"] <= 4.5 for shape in shapes)
    assert min(shape["axis_ratio"] for shape in shapes) < 0.3
    assert np.ptp([shape["angle"] for shape in shapes]) > 2


def test_an_elliptical_source_keeps_its_light_and_is_longer_along_its_angle() -> None:
    place = {"x": 32.0, "y": 32.0, "radius": 31.0, "fwhm": 4.0, "beta": 3.5}
    (_, along), (_, up), (_, disc) = (
        psf_stamp((65, 65), **place, axis_ratio=ratio, angle=angle)
        for ratio, angle in ((0.5, 0.0), (0.5, np.pi / 2), (1.0, 1.0))
    )
    assert along.sum() == pytest.approx(disc.sum(), rel=0.01)
    np.testing.assert_allclose(along, up.T, atol=1e-12)
    bright = along > along.max() / 2
    assert bright.any(axis=0).sum() / bright.any(axis=1).sum() == pytest.approx(2, rel=0.3)


@pytest.mark.parametrize("lines", [2, 3])
def test_spikes_hold_their_share_of_the_light_in_evenly_turned_arms(lines: int) -> None:
    offsets = np.arange(-1000.0, 1001.0)
    light = Spikes(1.0, lines=lines, angle=0.3).light(offsets[None, :], offsets[:, None], 2.0)
    assert light.sum() == pytest.approx(1, rel=0.01)
    ring = np.linspace(0, 2 * np.pi, 3601)[:-1]
    row, column = (np.rint(1000 + 60 * turn(ring)).astype(int) for turn in (np.sin, np.cos))
    arms, count = ndimage.label(light[row, column] > 0.3 * light[row, column].max())
    assert count == 2 * lines
    middles = np.array([ring[arms == number + 1].mean() for number in range(count)])
    np.testing.assert_allclose(middles, 0.3 + np.pi / lines * np.arange(count), atol=0.02)


def test_bright_stars_of_training_copies_have_spikes(tmp_path: Path, footprints: Path) -> None:
    knobs = COSMIC | {"cosmic_rays_per_mpix": 1e-6, "train_stars_per_mpix": 200, "train_star_flux": [1e7, 1e7]}
    knobs |= {"train_star_fwhm": [2.0, 2.0], "footprints": str(footprints)}
    frame = {"science": sky_frame(0, stars=0)}

    def lit(spikes: float) -> float:
        bench = Bench(tmp_path, train_star_spikes=spikes, **knobs)
        return float(np.mean([(bench.field(bench.row(frame), copy=copy).image[0] > 5).mean() for copy in range(4)]))

    assert lit(0.2) > 1.5 * lit(0.0) > 0


def test_resampling_correlates_noise_and_carries_its_variance(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(100.0, 2.0, (200, 200))
    bench, rng = Bench(tmp_path), np.random.default_rng(3)
    row = bench.row({"science": noise})
    loaded = load_frames(row, bench.config)
    loaded.science.frame.uncertainty = StdDevUncertainty(np.full(noise.shape, 2.0, np.float32))
    loaded.shown[50, 50] = False
    moved_row, moved = resampled(dataclasses.replace(row, fwhm_pixels=3.0), loaded, rng)
    data = moved.science.frame.data
    assert data.shape == (199, 199) == moved.shown.shape and data.mean() == pytest.approx(100, abs=0.1)
    assert data.std() == pytest.approx(moved.science.frame.uncertainty.array[0, 0], rel=0.03)
    assert np.corrcoef(data[:, 1:].ravel(), data[:, :-1].ravel())[0, 1] > 0.1
    assert np.argwhere(~moved.shown).tolist() == [[49, 49], [49, 50], [50, 49], [50, 50]]
    assert moved_row.fwhm_pixels is not None and 3.0 < moved_row.fwhm_pixels < 3.3
    with pytest.raises(DataError, match="can't be resampled"):
        resampled(dataclasses.replace(row, section=Section(1, 4, 1, 4)), loaded, rng)


def test_a_resampled_star_is_as_wide_as_its_row_says(tmp_path: Path) -> None:
    """By the second moments of a Gaussian, the mean of both axes."""
    y, x = np.mgrid[:64, :64]
    row = Bench(tmp_path).row({"science": np.exp(-((x - 31) ** 2 + (y - 33) ** 2) / (2 * 1.5**2))}, fwhm_pixels=1.5)
    moved_row, moved = resampled(row, load_frames(row, Bench(tmp_path).config), np.random.default_rng(3))
    light = np.asarray(moved.science.frame.data)
    profiles = [light.sum(axis) / light.sum() for axis in (0, 1)]
    variances = [np.average((np.arange(63) - profile @ np.arange(63)) ** 2, weights=profile) for profile in profiles]
    assert moved_row.fwhm_pixels is not None
    widened = (moved_row.fwhm_pixels**2 - 1.5**2) / (8 * np.log(2))
    assert widened == pytest.approx(np.mean(variances) - 1.5**2, rel=1e-3)


def test_only_a_share_of_the_training_copies_is_resampled(tmp_path: Path, footprints: Path) -> None:
    write_manifest(tmp_path)
    knobs = COSMIC | {"copies": 8, "train_resampled": 0.5}
    splits = prepared(Bench(tmp_path, footprints=str(footprints), split_unit="exposure", **knobs))
    assert {len(field.target) for field in splits["train"]} == {127, 128}
    assert len(splits["val"][0].target) == len(splits["test"][0].target) == 128


def test_training_stars_are_refused_where_a_reference_would_lack_them(tmp_path: Path) -> None:
    """In the difference each of them would be as bright as a transient, and labelled negative."""
    bench = Bench(tmp_path, train_stars_per_mpix=3000)
    row = bench.row({"science": sky_frame(0), "reference": sky_frame(1)})
    with pytest.raises(DataError, match=r"row 2: data\.train_stars_per_mpix must be 0 where a row has a reference"):
        injections([row], bench.config)
    for harmless in ({"reference": None}, {"split": "test"}):
        assert injections([dataclasses.replace(row, **harmless)], bench.config)


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"copies": 0}, "data.copies must be at least 1"),
        ({"transients_per_mpix": 0.0}, "data.transients_per_mpix must be above 0 with data.target=transient"),
        ({"cosmic_rays_per_mpix": 5.0}, "data.footprints must name a table"),
        ({"transient_magnitude": [20.0, 25.0]}, "data.zero_point must be a number or header"),
        ({"fading_fraction": 1.5}, "data.fading_fraction must be at most 1"),
        ({"train_binning": []}, "data.train_binning must be at least one whole number"),
        ({"train_star_beta": [1.0, 4.0]}, r"data.train_star_beta must be \[low, high\]"),
        ({"train_star_ellipticity": 1.0}, "data.train_star_ellipticity must be at least 0 and below 1"),
        ({"train_star_spikes": -0.1}, "data.train_star_spikes must be at least 0 and below 1"),
        ({"train_star_crowding": 0.5}, "data.train_star_crowding must be at least 1"),
        ({"train_resampled": 1.5}, "data.train_resampled must be at most 1"),
        ({"folds": 3}, "data.folds must be 1 with data=injected"),
        ({"injection_gain": 0.0}, "data.injection_gain must be above 0, or header"),
        ({"transient_snr": [5.0, 1.0]}, r"data.transient_snr must be \[low, high\]"),
    ],
)
def test_knobs_that_cannot_be_are_refused(tmp_path: Path, knobs: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Bench(tmp_path, **knobs)


def test_a_run_finds_injected_transients_and_leaves_their_catalogue(tmp_path: Path) -> None:
    write_manifest(tmp_path)
    data = f"data=injected data.root={tmp_path} data.manifest={tmp_path}/m.csv data.cache={tmp_path}/cache "
    data += f"data.split_unit=exposure data.injection_gain={GAIN} data.transients_per_mpix=800 "
    data += "data.transient_snr=[40,200] data.copies=3 data.tile_size=64 data.batch_size=4 model=unet_small "
    rest = "tracking=off energy=off metrics=fast training.device=cpu training.threads=1 training.epochs=2"
    run_experiment(load([*data.split(), *rest.split(), "optimizer.lr=0.01"]), run_dir=tmp_path / "run")
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert "test/auprc" in metrics
    assert "test/completeness" in metrics  # the objects are matched with the catalogue
    lines = (tmp_path / "run" / "injections.csv").read_text().splitlines()
    assert {line.partition(",")[0] for line in lines[1:]} == {"train", "val", "test"}
    told = json.loads((tmp_path / "run" / "preprocessing.json").read_text())
    assert any("injection: " in step for step in told["test/test"])
