"""Where the random numbers of a change come from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Draws:
    """Random numbers of one change of one batch.

    Parameters
    ----------
    seed : sequence of int
    device : torch.device

    Attributes
    ----------
    host : numpy.random.Generator
        Decides what happens to which sample, the same on every device.
    """

    def __init__(self, seed: Sequence[int], *, device: torch.device) -> None:
        self.host, self.device, self._seed = np.random.default_rng(seed), device, seed
        self._pixels: torch.Generator | None = None

    @property
    def pixels(self) -> torch.Generator:
        """Generator on the device, for numbers by the pixel; what it gives depends on the kind of device."""
        if self._pixels is None:
            state = np.random.SeedSequence(list(self._seed), spawn_key=(1,)).generate_state(1, np.uint64)[0]
            self._pixels = torch.Generator(self.device).manual_seed(int(state >> 1))
        return self._pixels

    def to_device(self, values: Tensor) -> Tensor:
        """Bring numbers that were drawn on the host to the device without waiting for it."""
        if self.device.type == "cuda":
            values = values.pin_memory()
        return values.to(self.device, non_blocking=True)

    def per_sample(self, values: NDArray[np.floating]) -> Tensor:
        """Return one number a sample as (B, 1, 1, 1) float32 on the device."""
        return self.to_device(torch.from_numpy(values.astype(np.float32))).view(-1, 1, 1, 1)

    def normal_like(self, planes: Tensor) -> Tensor:
        """Return white noise of unit variance in the shape of `planes`."""
        return torch.randn(planes.shape, generator=self.pixels, device=self.device, dtype=planes.dtype)

    def uniform_like(self, planes: Tensor) -> Tensor:
        """Return numbers from 0 to 1 in the shape of `planes`, as float32."""
        return torch.rand(planes.shape, generator=self.pixels, device=self.device)
