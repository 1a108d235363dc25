"""Splits are prepared once, found again, and refused where nothing could be learned from them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest

from astrid.config import AugmentConfig, DataError, SimulatedData
from astrid.data.difference import channels_in_sigma, matched_difference
from astrid.data.fields import Splits, build_splits, check_splits
from astrid.data.frames import Field
from astrid.data.recipes import SERVING_KEYS, fingerprint, simulated_field
from astrid.data.simulate import simulate_field
from astrid.data.store import FieldStore, write_fields


def quiet(fields: Iterable[Field], what: str, count: int) -> Iterable[Field]:
    return fields


def small_sky(cache: Path, **knobs: object) -> SimulatedData:
    sizes = {"train_fields": 3, "val_fields": 2, "test_fields": 2, "field_size": 64, "tile_size": 32}
    return SimulatedData(cache=str(cache), **(sizes | knobs))  # type: ignore[arg-type]


@pytest.mark.slow
def test_prepared_fields_equal_those_made_one_by_one_in_any_order(tmp_path: Path) -> None:
    config = small_sky(tmp_path)
    splits = build_splits(config, receptive_field_pixels=44, announce=quiet)
    assert [len(splits.train), len(splits.val), len(splits.test)] == [3, 2, 2]
    for index in (2, 0, 1):
        alone = simulated_field(config, "train", index)
        np.testing.assert_array_equal(splits.train.image(index), alone.image)
        np.testing.assert_array_equal(splits.train.field(index).target, alone.target)


@pytest.mark.slow
def test_fields_are_the_same_from_one_process_and_from_two(tmp_path: Path) -> None:
    made = [
        build_splits(small_sky(tmp_path / str(count), prepare_workers=count), receptive_field_pixels=44, announce=quiet)
        for count in (1, 2)
    ]
    for index in range(3):
        np.testing.assert_array_equal(made[0].train.image(index), made[1].train.image(index))


SERVED_WITH = {
    "cache": "elsewhere",
    "batch_size": 2,
    "tile_size": 16,
    "workers": 1,
    "prepare_workers": 1,
    "stretch": "linear",
    "augment": AugmentConfig(flips=False),
    "folds": 2,
    "fold": None,
}
CHANGED = {"target": "trail", "cosmic_ray_worms": 0.3, "trail_probability": 0.9, "full_well": 5e4}


def test_serving_knobs_keep_the_fingerprint_and_all_others_change_it() -> None:
    base = SimulatedData()
    for field in dataclasses.fields(SimulatedData):
        other = SERVED_WITH | CHANGED
        value = other[field.name] if field.name in other else changed(getattr(base, field.name))
        knobs = dataclasses.asdict(base) | {
            field.name: value,
            "augment": value if field.name == "augment" else base.augment,
        }
        same = fingerprint(SimulatedData(**knobs)) == fingerprint(base)
        assert same == (field.name in SERVING_KEYS), field.name


def changed(value: Any) -> Any:
    """Return another value that is allowed too."""
    if isinstance(value, list):
        return [value[0], value[1] * 0.99]
    return value * 0.9 if isinstance(value, float) else value + 1


def test_the_difference_is_matched_from_the_science_frames_seeing_to_the_references(tmp_path: Path) -> None:
    config = small_sky(tmp_path, science_seeing=[3.8, 4.0], reference_seeing=[2.2, 2.4], stars=20.0)
    sky = simulate_field(config, split="test", index=0)
    seeing = {"science_fwhm": sky.science_fwhm, "reference_fwhm": sky.reference_fwhm}
    assert sky.science_fwhm > sky.reference_fwhm + 1
    difference = matched_difference(sky.science, sky.reference, **seeing, valid=sky.valid)
    expected = channels_in_sigma(sky.science, sky.reference, difference=difference, valid=sky.valid)
    np.testing.assert_array_equal(simulated_field(config, "test", 0).image, expected)


def test_a_second_call_makes_nothing(tmp_path: Path) -> None:
    config = small_sky(tmp_path)
    with joblib.parallel_config(backend="sequential"):
        build_splits(config, receptive_field_pixels=44, announce=quiet)

    made: list[str] = []

    def watch(fields: Iterable[Field], what: str, count: int) -> Iterable[Field]:
        for field in fields:
            made.append(f"{what}: {field.name}")
            yield field

    build_splits(config, receptive_field_pixels=44, announce=watch)
    assert made == []
    with joblib.parallel_config(backend="sequential"):
        build_splits(small_sky(tmp_path, sky_seed=2), receptive_field_pixels=44, announce=watch)
    assert len(made) == 7


@pytest.mark.parametrize("target", ["transient", "cosmic_ray", "trail"])
def test_any_artefact_can_be_the_target_and_only_transients_have_a_catalogue(tmp_path: Path, target: str) -> None:
    config = small_sky(tmp_path, target=target, trail_probability=1.0, cosmic_rays=20.0, transients=8.0)
    field = simulated_field(config, "test", 0)
    assert field.target.any()
    assert (field.sources is not None) == (target == "transient")


def store_of(folder: Path, *, positive: slice, valid: bool) -> FieldStore:
    target = np.zeros((8, 8), bool)
    target[positive] = True
    write_fields(folder, [Field("a", np.zeros((1, 8, 8), np.float32), target, np.full((8, 8), valid))])
    return FieldStore(folder)


def test_splits_without_anything_to_learn_are_refused(tmp_path: Path) -> None:
    good = store_of(tmp_path / "good", positive=slice(3), valid=True)
    masked = store_of(tmp_path / "masked", positive=slice(3), valid=False)
    empty = store_of(tmp_path / "empty", positive=slice(0), valid=True)

    full = store_of(tmp_path / "full", positive=slice(None), valid=True)

    def splits(train: FieldStore, val: FieldStore) -> Splits:
        return Splits(train, val, good, "key", "test")

    check_splits(splits(good, good), monitor="val/auprc")
    with pytest.raises(DataError, match="train split must have valid pixels"):
        check_splits(splits(masked, good), monitor="val/auprc")
    with pytest.raises(DataError, match="train split must have positive pixels"):
        check_splits(splits(empty, good), monitor="val/auprc")
    with pytest.raises(DataError, match="train split must have negative pixels"):
        check_splits(splits(full, good), monitor="val/auprc")
    with pytest.raises(DataError, match=r"val/auprc needs positive pixels .* try training\.monitor=val/loss"):
        check_splits(splits(good, empty), monitor="val/auprc")
    check_splits(splits(good, empty), monitor="val/loss")
