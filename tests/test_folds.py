"""In a cross-validation every field is tested once, by a network that saw nothing of it."""

from __future__ import annotations

import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st
from test_fields import quiet, small_sky
from test_manifest import write_frame

from astrid.config import ConfigError, DataError, FramesData
from astrid.config.compose import load
from astrid.data.fields import build_folds, build_splits
from astrid.data.folds import fold_splits
from astrid.data.manifest import read_manifest
from astrid.data.splits import SPLITS
from astrid.data.store import FieldStore

pytestmark = pytest.mark.usefixtures("in_this_process")


@given(
    fields=st.integers(2, 40),
    folds=st.integers(2, 8),
    val_count=st.integers(1, 5),
    seed=st.integers(0, 5),
    data=st.data(),
)
def test_each_field_is_tested_once_and_is_in_one_split_of_each_fold(
    fields: int, folds: int, val_count: int, seed: int, data: st.DataObject
) -> None:
    names = [f"field {number}" for number in range(fields)]
    if fields < folds or fields - -(-fields // folds) <= val_count:
        with pytest.raises(DataError, match=r"data\.folds"):
            fold_splits(names, positive=(), folds=folds, fold=0, val_count=val_count, seed=seed)
        return
    ways = [
        fold_splits(names, positive=(), folds=folds, fold=fold, val_count=val_count, seed=seed) for fold in range(folds)
    ]
    tested = [name for way in ways for name, split in way.items() if split == "test"]
    assert sorted(tested) == sorted(names)
    sizes = [Counter(way.values()) for way in ways]
    assert {size["val"] for size in sizes} == {val_count}
    assert max(size["test"] for size in sizes) - min(size["test"] for size in sizes) <= 1
    assert all(set(way) == set(names) for way in ways)
    shuffled = data.draw(st.permutations(names))
    assert fold_splits(shuffled, positive=(), folds=folds, fold=0, val_count=val_count, seed=seed) == ways[0]


def test_each_fold_draws_its_own_fields_to_validate_on() -> None:
    names = [f"field {number:02d}" for number in range(40)]
    places = []
    for fold in range(2):
        way = fold_splits(names, positive=(), folds=2, fold=fold, val_count=5, seed=0)
        shuffled = [names[index] for index in np.random.default_rng([0, 2]).permutation(40)]
        others = [name for name in shuffled if way[name] != "test"]
        places.append([number for number, name in enumerate(others) if way[name] == "val"])
    assert places[0] != places[1]


def test_another_seed_deals_the_fields_otherwise() -> None:
    names = [f"field {number}" for number in range(20)]
    one, two = (fold_splits(names, positive=(), folds=5, fold=0, val_count=2, seed=seed) for seed in (0, 1))
    assert one != two


@given(
    fields=st.integers(6, 40),
    positive=st.integers(0, 40),
    folds=st.integers(2, 6),
    val_count=st.integers(1, 2),
    seed=st.integers(0, 5),
)
def test_fields_with_positives_are_spread_over_folds_and_splits(
    fields: int, positive: int, folds: int, val_count: int, seed: int
) -> None:
    names = [f"field {number}" for number in range(fields)]
    known = set(names[:positive])
    own = []
    for fold in range(folds):
        way = fold_splits(names, positive=known, folds=folds, fold=fold, val_count=val_count, seed=seed)
        own.append(Counter(split for name, split in way.items() if name in known))
        left = len(known) - own[-1]["test"]
        assert bool(own[-1]["train"]) == (left >= 1) and bool(own[-1]["val"]) == (left >= 2)
        assert Counter(way.values())["val"] == val_count
    assert sum(count["test"] for count in own) == len(known)
    assert max(count["test"] for count in own) - min(count["test"] for count in own) <= 1


def names_of(store: FieldStore) -> list[str]:
    return [store.field(number).name for number in range(len(store))]


@pytest.mark.slow
def test_all_folds_are_views_of_fields_that_are_made_once(tmp_path: Path) -> None:
    parts = build_folds(small_sky(tmp_path, folds=3), receptive_field_pixels=44, announce=quiet)
    whole = build_splits(small_sky(tmp_path), receptive_field_pixels=44, announce=quiet)
    pixels = {
        name: getattr(whole, split).image(number)
        for split in SPLITS
        for number, name in enumerate(names_of(getattr(whole, split)))
    }
    assert sorted(name for part in parts for name in names_of(part.test)) == sorted(pixels)
    for part in parts:
        here = [name for split in SPLITS for name in names_of(getattr(part, split))]
        assert sorted(here) == sorted(pixels)
        assert len(part.val) == 2
        for number, name in enumerate(names_of(part.test)):
            np.testing.assert_array_equal(part.test.image(number), pixels[name])
    assert len({part.fingerprint for part in parts}) == 3
    assert {part.test.folder for part in parts} == {part.train.folder for part in parts}


def test_one_fold_by_its_number_is_that_of_all_of_them(tmp_path: Path) -> None:
    parts = build_folds(small_sky(tmp_path, folds=3), receptive_field_pixels=44, announce=quiet)
    alone = build_splits(small_sky(tmp_path, folds=3, fold=1), receptive_field_pixels=44, announce=quiet)
    assert alone.fingerprint == parts[1].fingerprint
    assert names_of(alone.train) == names_of(parts[1].train)
    assert alone.description.endswith("fold 1 of 3")


def test_a_view_of_fields_reaches_a_loader_process_whole(tmp_path: Path) -> None:
    part = build_splits(small_sky(tmp_path, folds=3, fold=1), receptive_field_pixels=44, announce=quiet).train
    sent = pickle.loads(pickle.dumps(part))
    assert names_of(sent) == names_of(part)
    np.testing.assert_array_equal(sent.image(2), part.image(2))
    assert names_of(part.part([2, 0])) == [names_of(part)[2], names_of(part)[0]]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.folds=0"], r"data\.folds must be at least 1, got 0"),
        (["data.fold=0"], r"data\.fold must be null, or from 0 to data\.folds - 1 = 0 of several folds, got 0"),
        (["data.folds=3", "data.fold=3"], r"data\.fold must be .* from 0 to data\.folds - 1 = 2"),
    ],
)
def test_impossible_folds_are_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(overrides)


def test_too_few_fields_and_a_fold_without_its_number_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.folds must be at most the 7 fields there are, got 8"):
        build_folds(small_sky(tmp_path / "cache", folds=8), receptive_field_pixels=44, announce=quiet)
    assert not (tmp_path / "cache").exists()
    with pytest.raises(DataError, match=r"must leave fields to train on: of 7 fields 4 test and 3 validate"):
        build_folds(
            small_sky(tmp_path, folds=2, val_fields=3, test_fields=1), receptive_field_pixels=44, announce=quiet
        )
    with pytest.raises(ConfigError, match=r"data\.fold must be from 0 to 2 here"):
        build_splits(small_sky(tmp_path, folds=3), receptive_field_pixels=44, announce=quiet)


def frames(folder: Path, rows: str, **knobs: object) -> FramesData:
    (folder / "frames.csv").write_text(rows)
    return FramesData(root=str(folder), manifest=str(folder / "frames.csv"), cache=str(folder / "cache"), **knobs)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("positive", "told"),
    [
        ("ABC", []),
        ("AB", ["2 of 6 fields have positives, too few for data.folds=3: 1 folds test none, 2 validate on none"]),
    ],
)
def test_too_few_fields_with_positives_for_the_folds_are_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, positive: str, told: list[str]
) -> None:
    for name in "ABCDEF":
        write_frame(tmp_path / f"{name}.fits", seed=ord(name), shape=(64, 64))
        truth = np.full((64, 64), name in positive, np.uint8)
        fits.PrimaryHDU(truth).writeto(tmp_path / f"{name}-truth.fits")
    rows = "field,science,target\n" + "".join(f"{name},{name}.fits,{name}-truth.fits\n" for name in "ABCDEF")
    config = frames(tmp_path, rows, folds=3, background_box=64)
    parts = build_folds(config, receptive_field_pixels=10, announce=quiet)
    assert [line for line in caplog.messages if "positives" in line] == told
    assert [part.test.prior > 0 for part in parts].count(True) == len(positive)


def test_frames_of_one_field_are_tested_together(tmp_path: Path) -> None:
    for seed, name in enumerate("abcdefgh"):
        write_frame(tmp_path / f"{name}.fits", seed=seed, shape=(64, 64))
    fits.PrimaryHDU(np.zeros((64, 64), np.uint8)).writeto(tmp_path / "zeros.fits")
    rows = "field,science,target\n" + "".join(
        f"{field},{name}.fits,zeros.fits\n" for field, name in zip("AABBCCDE", "abcdefgh", strict=True)
    )
    config = frames(tmp_path, rows, folds=5, background_box=64)
    parts = build_folds(config, receptive_field_pixels=10, announce=quiet)
    tested = [{name[0] for name in names_of(part.test)} for part in parts]
    assert sorted(map(sorted, tested)) == [["A"], ["B"], ["C"], ["D"], ["E"]]
    assert sum(len(part.test) for part in parts) == 8
    for part in parts:
        fields = [{name[0] for name in names_of(getattr(part, split))} for split in SPLITS]
        assert not fields[0] & fields[1] and not fields[1] & fields[2] and not fields[0] & fields[2]


def test_fields_that_share_a_patch_of_sky_are_refused_whatever_fold_they_would_be_in(tmp_path: Path) -> None:
    for seed, (name, ra) in enumerate({"a": 10.0, "b": 10.0 + 5 / 3600, "c": 20.0, "d": 30.0}.items()):
        write_frame(tmp_path / f"{name}.fits", seed=seed, ra=ra)
    rows = "field,science\nA,a.fits\nB,b.fits\nC,c.fits\nD,d.fits\n"
    for seed in range(4):
        with pytest.raises(DataError, match=r"rows 2 \(A\) and 3 \(B\): frames in different splits must not overlap"):
            read_manifest(frames(tmp_path, rows, folds=3, split_seed=seed), receptive_field_pixels=10)
    together = read_manifest(frames(tmp_path, rows.replace("B,b", "A,b"), folds=3), receptive_field_pixels=10)
    assert [row.field for row in together] == ["A", "A", "C", "D"]


def test_folds_of_a_manifest_that_names_its_splits_are_refused(tmp_path: Path) -> None:
    for seed, name in enumerate("abc"):
        write_frame(tmp_path / f"{name}.fits", seed=seed)
    rows = "field,science,split\nA,a.fits,train\nB,b.fits,val\nC,c.fits,test\n"
    with pytest.raises(DataError, match=r"frames\.csv, row 2: data\.folds must be 1 with a split column, got 3"):
        read_manifest(frames(tmp_path, rows, folds=3), receptive_field_pixels=10)
