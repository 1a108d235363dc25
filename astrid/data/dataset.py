"""From prepared fields to batches of tiles on the device."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from astrid.config import DataConfig, FramesData, settled

from .store import FieldStore
from .tiles import cut_tile, tile_origins

TILE_ORDER = 1
"""First number of the seed, so that it never shares a stream with augmentation, whose numbers are higher."""

Batch = dict[str, Tensor]
Tile = tuple[int, int, int]
"""Number of the field, and the corner (y0, x0) of the tile in it."""


class TileDataset(Dataset[Batch]):
    """Tiles of a store, by field and corner; what sticks out of the field is 0 and not valid."""

    def __init__(self, store: FieldStore, *, tile: int) -> None:
        self.store, self.tile = store, tile

    def __getitem__(self, where: Tile) -> Batch:
        number, y0, x0 = where
        image = torch.from_numpy(cut_tile(self.store.image(number), y0, x0, tile=self.tile))
        planes = torch.from_numpy(cut_tile(self.store.planes(number), y0, x0, tile=self.tile))
        return {"image": image, "target": planes[:1], "valid": planes[1:]}


class TileBatches(Sampler[list[Tile]]):
    """Which tiles make up each batch of an epoch: a pure function of seed and epoch, so that it can be resumed.

    Parameters
    ----------
    store : FieldStore
    tile, batch_size : int
    seed : int or None
        None keeps the order of the grid, for validation.
    random_crops : int or None
        Number of tiles cut at random places an epoch, instead of the grid.
    area_power : float
        Random crops come from a field in proportion to its area to this power.
    """

    def __init__(
        self,
        store: FieldStore,
        *,
        tile: int,
        batch_size: int,
        seed: int | None = None,
        random_crops: int | None = None,
        area_power: float = 1.0,
    ) -> None:
        self.sizes = [(entry.height, entry.width) for entry in store.entries]
        self.tile, self.batch_size, self.seed, self.random_crops = tile, batch_size, seed, random_crops
        self.area_power = area_power
        on_grid = sum(len(tile_origins(height, width, tile=tile)) for height, width in self.sizes)
        self.tiles = on_grid if random_crops is None else random_crops
        self.epoch, self.start = 0, 0

    def begin(self, epoch: int, *, start: int = 0) -> None:
        """Set the epoch, and how many of its batches to leave out because they were done before."""
        self.epoch, self.start = epoch, start

    def __len__(self) -> int:
        return -(-self.tiles // self.batch_size)

    def __iter__(self) -> Iterator[list[Tile]]:
        tiles = self._tiles()
        for first in range(self.start * self.batch_size, len(tiles), self.batch_size):
            yield tiles[first : first + self.batch_size]

    def _tiles(self) -> list[Tile]:
        generator = np.random.default_rng([TILE_ORDER, 0 if self.seed is None else self.seed, self.epoch])
        if self.random_crops is not None:
            return self._random_tiles(generator, self.random_crops)
        grid = [
            (number, y0, x0)
            for number, (height, width) in enumerate(self.sizes)
            for y0, x0 in tile_origins(height, width, tile=self.tile)
        ]
        return grid if self.seed is None else [grid[index] for index in generator.permutation(len(grid))]

    def _random_tiles(self, generator: np.random.Generator, count: int) -> list[Tile]:
        """Choose fields by a power of their area, and corners anywhere, up to a quarter of a tile beyond the edges."""
        shares = np.array([height * width for height, width in self.sizes], dtype=np.float64) ** self.area_power
        numbers = generator.choice(len(shares), size=count, p=shares / shares.sum())
        return [(int(number), *self._corner(generator, *self.sizes[number])) for number in numbers]

    def _corner(self, generator: np.random.Generator, height: int, width: int) -> tuple[int, int]:
        margin = self.tile // 4
        low = [min(-margin, size - self.tile - margin) for size in (height, width)]
        high = [max(margin, size - self.tile + margin) for size in (height, width)]
        y0, x0 = generator.integers(low, high, endpoint=True)
        return int(y0), int(x0)


class TileLoader:
    """Batches of tiles, epoch after epoch, from this process or from worker processes."""

    def __init__(self, dataset: TileDataset, batches: TileBatches, *, workers: int, pin_memory: bool) -> None:
        self.batches = batches
        self._loader: DataLoader[Batch] = DataLoader(
            dataset,
            batch_sampler=batches,
            num_workers=workers,
            pin_memory=pin_memory,
            persistent_workers=workers > 0,
            generator=torch.Generator(),  # or each epoch would draw the workers' seed from the global one
            worker_init_fn=_leave_signals_to_the_loop,
        )

    def __len__(self) -> int:
        return len(self.batches)

    def epoch(self, epoch: int, *, start: int = 0) -> Iterator[Batch]:
        """Iterate over the batches of an epoch, from batch number `start` on."""
        self.batches.begin(epoch, start=start)
        return iter(self._loader)


def _leave_signals_to_the_loop(worker: int) -> None:
    """Let a loader process ignore Ctrl-C, which a terminal sends to all, and end on SIGTERM as its parent asks."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def training_loader(store: FieldStore, config: DataConfig, *, seed: int, pin_memory: bool) -> TileLoader:
    """Return the shuffled training tiles, on a grid or at random places as configured."""
    size = settled("data.batch_size", config.batch_size)
    batches = TileBatches(store, tile=config.tile_size, batch_size=size, seed=seed, **_crops(config))
    dataset = TileDataset(store, tile=config.tile_size)
    return TileLoader(dataset, batches, workers=config.workers, pin_memory=pin_memory)


def _crops(config: DataConfig) -> dict[str, Any]:
    """Return how many crops there are at random places, and of which frames; nothing for the grid."""
    if not isinstance(config, FramesData) or config.crops == "grid":
        return {}
    return {"random_crops": config.crops_per_epoch, "area_power": config.crop_area_power}


def validation_loader(store: FieldStore, config: DataConfig, *, pin_memory: bool) -> TileLoader:
    """Return the validation tiles in the order of the grid."""
    batches = TileBatches(store, tile=config.tile_size, batch_size=settled("data.batch_size", config.batch_size))
    dataset = TileDataset(store, tile=config.tile_size)
    return TileLoader(dataset, batches, workers=config.workers, pin_memory=pin_memory)
