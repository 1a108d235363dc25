"""Prepared fields come back as they went in, and a damaged cache is made anew."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from astrid.data.frames import Field, Sources
from astrid.data.store import IMAGES, INDEX, PLANES, FieldStore, cached_store, write_fields


def make_field(number: int, *, height: int = 20, width: int = 31) -> Field:
    generator = np.random.default_rng(number)
    sources = Sources(*generator.uniform(0, 20, size=(4, 3)), kind=["a", "b", "c"])
    image = generator.normal(size=(3, height, width)).astype(np.float32)
    target, valid = generator.uniform(size=(2, height, width)) < 0.5
    return Field(f"field-{number}", image, target, valid, sources, 2.5)


def assert_same(one: Field, two: Field) -> None:
    assert (one.name, one.fwhm_pixels) == (two.name, two.fwhm_pixels)
    for name in ("image", "target", "valid"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    assert (one.sources is None) == (two.sources is None)
    if one.sources is not None and two.sources is not None:
        np.testing.assert_array_equal(one.sources.snr, two.sources.snr)
        assert one.sources.kind == two.sources.kind


def test_fields_of_different_sizes_come_back_to_the_bit(tmp_path: Path) -> None:
    fields = [make_field(0), make_field(1, height=7), Field("bare", *make_fields_without_truth())]
    write_fields(tmp_path / "store", fields)
    store = FieldStore(tmp_path / "store")
    for number, field in enumerate(fields):
        assert_same(store.field(number), field)


def make_fields_without_truth() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return np.ones((3, 9, 5), np.float32), np.zeros((9, 5), bool), np.ones((9, 5), bool)


def test_a_store_survives_the_trip_to_a_loader_process(tmp_path: Path) -> None:
    write_fields(tmp_path / "store", [make_field(3)])
    store = pickle.loads(pickle.dumps(FieldStore(tmp_path / "store")))
    assert_same(store.field(0), make_field(3))


def test_prior_counts_valid_pixels_only(tmp_path: Path) -> None:
    field = make_field(4)
    write_fields(tmp_path / "store", [field])
    expected = (field.target & field.valid).sum() / field.valid.sum()
    assert FieldStore(tmp_path / "store").prior == pytest.approx(expected)


def test_a_cached_store_is_made_once(tmp_path: Path) -> None:
    made = []

    def fields() -> Iterator[Field]:
        made.append(1)
        yield make_field(5)

    for _ in range(2):
        assert_same(cached_store(tmp_path, "key/train", fields()).field(0), make_field(5))
    assert len(made) == 1


@pytest.mark.parametrize("name", [IMAGES, PLANES, INDEX])
@pytest.mark.parametrize("damage", ["missing", "short"])
def test_a_damaged_store_is_made_anew(tmp_path: Path, name: str, damage: str) -> None:
    cached_store(tmp_path, "key", [make_field(6)])
    path = tmp_path / "key" / name
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-3])
    assert_same(cached_store(tmp_path, "key", [make_field(6)]).field(0), make_field(6))


def test_a_store_whose_making_fails_does_not_appear(tmp_path: Path) -> None:
    def failing() -> Iterator[Field]:
        yield make_field(7)
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        cached_store(tmp_path, "key", failing())
    assert not (tmp_path / "key").exists()
