"""Tiles reach the network whole, in an order that depends on seed and epoch alone."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch

from astrid.config import FramesData, SimulatedData
from astrid.data.dataset import TileBatches, TileDataset, training_loader, validation_loader
from astrid.data.frames import Field
from astrid.data.store import FieldStore, write_fields


def make_store(folder: Path, sizes: list[tuple[int, int]]) -> FieldStore:
    def field(number: int, height: int, width: int) -> Field:
        image = np.full((2, height, width), number + 1, np.float32)
        image[1] = np.arange(height * width).reshape(height, width)
        return Field(f"f{number}", image, image[1] % 7 == 0, np.ones((height, width), bool))

    write_fields(folder, [field(number, *size) for number, size in enumerate(sizes)])
    return FieldStore(folder)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FieldStore:
    return make_store(tmp_path_factory.mktemp("store") / "train", [(64, 64), (40, 70), (32, 32)])


def test_the_grid_shows_every_pixel_once_an_epoch(store: FieldStore) -> None:
    batches = TileBatches(store, tile=32, batch_size=3, seed=5)
    dataset = TileDataset(store, tile=32)
    seen = [tile for batch in batches for tile in batch]
    valid = sum(int(dataset[tile]["valid"].sum()) for tile in seen)
    assert valid == 64 * 64 + 40 * 70 + 32 * 32
    assert len(seen) == len(set(seen))


def test_what_sticks_out_of_a_field_is_zero_and_not_valid(store: FieldStore) -> None:
    tile = TileDataset(store, tile=32)[(1, 32, 64)]
    inside = torch.zeros(32, 32, dtype=torch.bool)
    inside[:8, :6] = True
    assert torch.equal(tile["valid"][0].bool(), inside)
    assert (tile["image"][:, ~inside] == 0).all()


def test_order_depends_on_seed_and_epoch_alone(store: FieldStore) -> None:
    def order(seed: int, epoch: int) -> list[list[tuple[int, int, int]]]:
        batches = TileBatches(store, tile=16, batch_size=4, seed=seed)
        batches.begin(epoch)
        return list(batches)

    assert order(1, 1) == order(1, 1)
    assert order(1, 1) != order(1, 2)
    assert order(1, 1) != order(2, 1)
    assert sorted(chain(*order(1, 1))) == sorted(chain(*order(1, 2)))


@pytest.mark.parametrize("random_crops", [None, 40])
def test_starting_in_mid_epoch_leaves_out_exactly_what_was_done(store: FieldStore, random_crops: int | None) -> None:
    batches = TileBatches(store, tile=16, batch_size=4, seed=1, random_crops=random_crops)
    batches.begin(3)
    whole = list(batches)
    batches.begin(3, start=5)
    assert list(batches) == whole[5:]


def test_random_crops_reach_every_pixel_and_a_little_beyond(store: FieldStore) -> None:
    batches = TileBatches(store, tile=16, batch_size=500, seed=1, random_crops=500)
    tiles = [tile for batch in batches for tile in batch]
    seen = np.zeros((64, 64), bool)
    for number, y0, x0 in tiles:
        if number == 0:
            seen[max(y0, 0) : y0 + 16, max(x0, 0) : x0 + 16] = True
    assert seen.all()
    assert min(y0 for _, y0, _ in tiles) < 0


def test_random_crops_of_a_field_smaller_than_the_tile_hold_it_whole_or_shifted(tmp_path: Path) -> None:
    small = make_store(tmp_path / "small", [(10, 10)])
    batches = TileBatches(small, tile=16, batch_size=50, seed=0, random_crops=50)
    dataset = TileDataset(small, tile=16)
    counts = [int(dataset[tile]["valid"].sum()) for batch in batches for tile in batch]
    assert max(counts) == 100
    assert min(counts) > 0


@pytest.mark.parametrize("workers", [0, 2])
def test_loaders_give_the_same_batches_with_and_without_workers(store: FieldStore, workers: int) -> None:
    config = SimulatedData(tile_size=32, field_size=64, batch_size=3, workers=workers)
    loader = training_loader(store, config, seed=7, pin_memory=False)
    reference = training_loader(
        store, SimulatedData(tile_size=32, field_size=64, batch_size=3), seed=7, pin_memory=False
    )
    for epoch, start in ((1, 0), (2, 1)):
        got, expected = list(loader.epoch(epoch, start=start)), list(reference.epoch(epoch, start=start))
        assert len(got) == len(expected) == len(loader) - start
        for one, two in zip(got, expected, strict=True):
            assert torch.equal(one["image"], two["image"])


def test_a_loader_leaves_the_global_random_state_alone(store: FieldStore) -> None:
    before = torch.get_rng_state()
    list(validation_loader(store, SimulatedData(tile_size=32, workers=2), pin_memory=False).epoch(1))
    assert torch.equal(torch.get_rng_state(), before)


def test_crops_per_epoch_sets_the_length_of_an_epoch(store: FieldStore) -> None:
    config = FramesData(root="", manifest="", tile_size=16, batch_size=10, crops="random", crops_per_epoch=35)
    loader = training_loader(store, config, seed=0, pin_memory=False)
    assert sum(batch["image"].shape[0] for batch in loader.epoch(1)) == 35


@pytest.mark.parametrize(("power", "share"), [(1.0, 0.8), (0.5, 2 / 3), (0.0, 0.5)])
def test_large_frames_give_as_many_crops_as_the_power_of_their_area_says(
    store: FieldStore, power: float, share: float
) -> None:
    knobs = {"crops": "random", "crops_per_epoch": 4000, "crop_area_power": power}
    loader = training_loader(store, FramesData(root="", manifest="", tile_size=16, **knobs), seed=0, pin_memory=False)
    loader.batches.sizes = [(64, 64), (32, 32)]
    drawn = [number for batch in loader.batches for number, _, _ in batch]
    assert np.mean(np.array(drawn) == 0) == pytest.approx(share, abs=0.03)
