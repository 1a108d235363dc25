"""A run's own data and network, taken up again to be looked at; nothing of the run changes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from astrid.checkpoint import BEST, CHECKPOINTS, LAST, load_checkpoint
from astrid.config import Config, DataError
from astrid.console import announce
from astrid.data.fields import Splits, build_splits
from astrid.data.frames import Field
from astrid.data.store import FieldStore
from astrid.plan import known_reach
from astrid.predictor import Predictor, build_predictor
from astrid.runtime import Runtime, choose_device, choose_precision
from astrid.unet import UNet, build_unet

MOST_FIELDS = 64
"""Fields of a split that are looked at, evenly spread over it."""
Spans = dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]


@dataclass(frozen=True)
class Seen:
    """A field as the network sees it; `logits` is (H, W) float32."""

    field: Field
    split: str
    logits: NDArray[np.float32]


@dataclass(frozen=True)
class Probe:
    """The run's fields, and its network with the best weights it has; None before the first checkpoint."""

    config: Config
    splits: Splits
    predictor: Predictor | None

    @cached_property
    def answers(self) -> list[Seen]:
        """Validation and training fields with what the network makes of them; empty without a network."""
        return [*self._look("val"), *self._look("train")] if self.predictor is not None else []

    @cached_property
    def seen(self) -> list[Seen]:
        """Those of the answers that are numbers; `units.not_finite` tells of the others."""
        return [one for one in self.answers if np.isfinite(one.logits).all()]

    def _look(self, split: str) -> Iterator[Seen]:
        assert self.predictor is not None
        for field in fields_of(getattr(self.splits, split)):
            yield Seen(field, split, self.predictor.logits(field.image).cpu().numpy())

    @cached_property
    def spans(self) -> Spans:
        """Return lowest and highest output of every channel behind an activation, by layer, over validation fields."""
        if self.predictor is None:
            return {}
        with activations(self.predictor.model) as spans:
            for field in fields_of(self.splits.val, most=MOST_FIELDS // 4):
                self.predictor.logits(field.image)
        return spans


def open_probe(config: Config, run_dir: Path, *, fingerprint: str | None) -> Probe:
    """Prepare the run's fields, or find them in the cache, and load its network.

    Raises
    ------
    DataError
        Where the fields can't be had any more, or are others: other files, or prepared by other code.
    """
    splits = build_splits(config.data, receptive_field_pixels=known_reach(config.model), announce=announce)
    if fingerprint is not None and fingerprint != splits.fingerprint:
        rule = f"the fields of {run_dir} must be those that it was trained on, but its files have changed"
        raise DataError(f"{rule}, or how this version of AstrID prepares them; give the files, or the version, of then")
    path = next((path for name in (BEST, LAST) if (path := run_dir / CHECKPOINTS / name).is_file()), None)
    predictor = None if path is None else load_network(config, splits, path)
    return Probe(config, splits, predictor)


def load_network(config: Config, splits: Splits, path: Path) -> Predictor:
    """Return the network of a checkpoint, on this machine's device."""
    device = choose_device("auto")
    runtime = Runtime(device, choose_precision("auto", device), torch.get_num_threads(), channels_last=False)
    network: UNet = build_unet(config.model, channels=splits.train.channels, stretch=config.data.stretch, prior=0.5)
    network.load_state_dict(load_checkpoint(path)["model"])
    return build_predictor(network.to(device), runtime, config.model)


def fields_of(store: FieldStore, *, most: int = MOST_FIELDS) -> Iterator[Field]:
    """Go through a store, or through so many fields evenly spread over it."""
    numbers = np.unique(np.linspace(0, len(store) - 1, min(most, len(store))).astype(int))
    return (store.field(int(number)) for number in numbers)


@contextmanager
def activations(network: nn.Module) -> Iterator[Spans]:
    """Note the lowest and highest output of each channel behind every activation of the blocks.

    A block's activation is called twice: its layers are named `BLOCK.first` and `BLOCK.second`.
    """
    spans: Spans = {}
    calls: dict[str, int] = {}

    def note(name: str, output: Tensor) -> None:
        layer = f"{name}.{('first', 'second')[calls.get(name, 0) % 2]}"
        calls[name] = calls.get(name, 0) + 1
        low, high = (extreme(output, dim=(0, 2, 3)).float().cpu().numpy() for extreme in (torch.amin, torch.amax))
        if layer in spans:
            low, high = np.minimum(low, spans[layer][0]), np.maximum(high, spans[layer][1])
        spans[layer] = (low, high)

    handles = [
        module.register_forward_hook(lambda module, inputs, output, name=name: note(name.rpartition(".")[0], output))
        for name, module in network.named_modules()
        if name.endswith(".activation")
    ]
    try:
        yield spans
    finally:
        for handle in handles:
            handle.remove()
