"""Small runs, healthy or with a fault planted from outside: in the prepared pixels, the network or the loader."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import label
from torch import nn

from astrid import learner
from astrid.config import Config
from astrid.config.compose import load
from astrid.data.dataset import TileDataset
from astrid.data.fields import build_splits
from astrid.data.frames import Field
from astrid.data.store import FieldStore, write_fields
from astrid.experiment import run_experiment
from astrid.plan import known_reach
from astrid.unet import Block, UNet

SMALL = (
    "model=unet_small",
    "data.train_fields=32",
    "data.val_fields=8",
    "data.test_fields=2",
    "data.field_size=128",
    "data.tile_size=64",
    "data.transients=8",
    "data.transient_snr=[10,100]",
    "data.batch_size=4",
    "optimizer.lr=0.01",
    "training.epochs=6",
    "training.device=cpu",
    "training.threads=1",
    "metrics=fast",
    "metrics.bins=4096",
    "metrics.baselines=false",
    "tracking=off",
    "energy=off",
)
"""Overrides under which a run takes seconds and still learns to find what is bright."""

Plane = NDArray[np.bool_]
Change = Callable[[FieldStore, FieldStore], None]
"""Changes the prepared fields of training and validation on disk."""


def configured(folder: Path, *overrides: str) -> Config:
    """Return the configuration of a small run with a cache of its own."""
    return load([*SMALL, f"data.cache={folder}/cache", *overrides])


def train(folder: Path, *overrides: str, change: Change | None = None) -> Path:
    """Train a small run, after its prepared fields were changed, and return its folder."""
    config = configured(folder, *overrides)
    if change is not None:
        splits = build_splits(config.data, receptive_field_pixels=known_reach(config.model), announce=silent)
        change(splits.train, splits.val)
    run_experiment(config, run_dir=folder / "run")
    return folder / "run"


def silent(items: Iterator[object], what: str, count: int) -> Iterator[object]:
    """Show nothing."""
    return items


def rewrite(store: FieldStore, change: Callable[[int, Plane], Plane]) -> None:
    """Replace the target of each field by what `change` makes of its number and target."""
    fields = [store.field(number) for number in range(len(store))]
    replace_fields(store, [replace(one, target=change(number, one.target)) for number, one in enumerate(fields)])


def replace_fields(store: FieldStore, fields: list[Field]) -> None:
    """Write other fields in place of a store's, checksums included: a store that looks damaged is made again."""
    shutil.rmtree(store.folder)
    write_fields(store.folder, fields)


def shift_labels(pixels: int, axis: int = 1) -> Change:
    """Shift every label mask along an axis."""

    def change(train: FieldStore, val: FieldStore) -> None:
        for store in (train, val):
            rewrite(store, lambda number, target: np.roll(target, pixels, axis=axis))

    return change


def flip_objects(share: float, seed: int) -> Change:
    """Take the label from a share of the objects, and give as many to places where nothing is."""

    def flipped(number: int, target: Plane) -> Plane:
        generator = np.random.default_rng([seed, number])
        groups, count = label(target)
        chosen = 1 + np.flatnonzero(generator.random(count) < share)
        result = target & ~np.isin(groups, chosen)
        for group in chosen:
            rows, columns = np.nonzero(groups == group)
            shift = generator.integers(0, target.shape)
            result[(rows + shift[0]) % target.shape[0], (columns + shift[1]) % target.shape[1]] = True
        return result

    def change(train: FieldStore, val: FieldStore) -> None:
        for store in (train, val):
            rewrite(store, flipped)

    return change


def flip_pixels(share: float, seed: int) -> Change:
    """Turn the label of each pixel over with a probability."""

    def flipped(number: int, target: Plane) -> Plane:
        return target ^ (np.random.default_rng([seed, number]).random(target.shape) < share)

    def change(train: FieldStore, val: FieldStore) -> None:
        for store in (train, val):
            rewrite(store, flipped)

    return change


def flip_fields(share: float) -> Change:
    """Turn all labels over in every so-manyth field."""

    def change(train: FieldStore, val: FieldStore) -> None:
        every = round(1 / share)
        for store in (train, val):
            rewrite(store, lambda number, target: ~target if number % every == 0 else target)

    return change


def leak_fields(count: int) -> Change:
    """Overwrite the last training fields with validation fields."""

    def change(train: FieldStore, val: FieldStore) -> None:
        fields = [train.field(number) for number in range(len(train))]
        taken = [val.field(number) for number in range(len(val) - count, len(val))]
        leaked = [
            replace(own, image=other.image, target=other.target, valid=other.valid, sources=other.sources)
            for own, other in zip(fields[-count:], taken, strict=True)
        ]
        replace_fields(train, fields[:-count] + leaked)

    return change


@contextmanager
def built_with(change: Callable[[UNet], None]) -> Iterator[None]:
    """Let every network that a run builds pass through `change`."""
    original = learner.build_unet

    def build(*arguments: object, **choices: object) -> UNet:
        network = original(*arguments, **choices)  # type: ignore[arg-type]
        change(network)
        return network

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(learner, "build_unet", build)
        yield


def freeze_encoder(network: UNet) -> None:
    """Keep the contracting path as it was drawn."""
    network.encoders.requires_grad_(False)


def kill_layer(network: UNet) -> None:
    """Shift a layer so far below zero that its rectifiers never open."""
    block = network.encoders[1]
    assert isinstance(block, Block) and isinstance(block.first_norm, nn.BatchNorm2d)
    with torch.no_grad():
        block.first_norm.bias.fill_(-50.0)


@contextmanager
def slow_tiles(seconds: float) -> Iterator[None]:
    """Let each batch be late."""
    original = TileDataset.__getitem__

    def late(dataset: TileDataset, where: tuple[int, int, int]) -> object:
        time.sleep(seconds)
        return original(dataset, where)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TileDataset, "__getitem__", late)
        yield


def train_real(folder: Path, *overrides: str) -> Path:
    """Train on real frames as a recipe says, without what isn't needed here."""
    shown = [text for text in SMALL if text.startswith(("metrics", "tracking", "energy", "training.threads"))]
    run_experiment(load([*overrides, *shown, f"data.cache={folder}/cache"]), run_dir=folder / "run")
    return folder / "run"
