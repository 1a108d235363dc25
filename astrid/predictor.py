"""A trained network over frames of any size, window by window."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from astrid.config import ModelConfig, settled
from astrid.data.frames import Field
from astrid.data.store import FieldStore
from astrid.data.tiles import Window, windows
from astrid.runtime import Runtime
from astrid.unet import receptive_field_pixels

CORE = 512
"""Edge in pixels of the part of a frame that is predicted at once; a multiple of 2**6."""


@dataclass(frozen=True)
class Predictor:
    """A trained network and what it needs to run over frames of any size.

    Attributes
    ----------
    model : nn.Module
        (B, C, H, W) in background sigma to logits (B, 1, H, W).
    halo : int
        Pixels around each window whose prediction is thrown away: the receptive radius, rounded up to 2**depth.
    whole : bool
        Predict frames in one piece, whatever memory that takes: group and instance norm look at the whole image.
    """

    model: nn.Module
    runtime: Runtime
    halo: int
    whole: bool = False

    @torch.inference_mode()
    def logits(self, image: NDArray[np.float32]) -> Tensor:
        """Return (H, W) float32 logits of a (C, H, W) frame, on the device; windows bound the memory."""
        self.model.eval()
        _, height, width = image.shape
        logits = torch.empty((height, width), device=self.runtime.device)
        core = max(height, width) if self.whole else CORE
        for window in windows(height, width, core=core, halo=self.halo):
            logits[window.inner] = self._window(image, window)
        return logits

    @torch.inference_mode()
    def stack(self, images: NDArray[np.float32]) -> Tensor:
        """Return (B, H, W) float32 logits of (B, C, H, W) images, each in one piece and all at once, on the device."""
        self.model.eval()
        batch = torch.from_numpy(images).to(self.runtime.device, memory_format=self.runtime.memory_format)
        with self.runtime.autocast():
            predicted: Tensor = self.model(batch)
        return predicted.float()[:, 0]

    def _window(self, image: NDArray[np.float32], window: Window) -> Tensor:
        part = np.array(image[:, *window.outer])  # (C, h, w), a copy of the mapped file
        return self.stack(part[None])[0][window.core]


def build_predictor(model: nn.Module, runtime: Runtime, config: ModelConfig) -> Predictor:
    """Return what runs a U-Net of this shape over frames of any size, as if over each in one piece."""
    step = 2 ** settled("model.depth", config.depth)
    halo = -(-receptive_field_pixels(config) // 2 // step) * step
    return Predictor(model, runtime, halo, whole=config.norm in ("group", "instance"))


Predicted = Iterator[tuple[Field, Tensor]]
"""Fields with their (H, W) logits on the device."""


def predicted(predictor: Predictor, store: FieldStore) -> Predicted:
    """Predict field after field; only one is in memory."""
    for number in range(len(store)):
        field = store.field(number)
        yield field, predictor.logits(field.image)
