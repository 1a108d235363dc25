"""A simulated camera: what falls onto it, what it writes, and the exposures that calibrate it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from astropy.nddata import CCDData

from astrid.data.reduction.combine import Combination, master_bias, master_dark, master_flat
from astrid.data.reduction.detector import Readout, as_exposure

READOUT = Readout(gain=1.5, read_noise=6.0)


@dataclass
class Camera:
    """A detector of `shape` with a bias pattern, a dark current and a response of its own; noise is drawn afresh."""

    shape: tuple[int, int] = (256, 256)
    seed: int = 0
    bias: np.ndarray = field(init=False)
    dark: np.ndarray = field(init=False)
    flat: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        y, x = np.mgrid[: self.shape[0], : self.shape[1]] / max(self.shape)
        self.bias = 300 + 20 * x + self.rng.normal(0, 3, self.shape)  # ADU
        self.dark = self.rng.gamma(2.0, 0.05, self.shape)  # electrons per second
        flat = (1 - 0.3 * ((x - 0.5) ** 2 + (y - 0.5) ** 2)) * self.rng.normal(1, 0.02, self.shape)
        self.flat = flat / flat.mean()

    def expose(self, electrons: np.ndarray | float, *, seconds: float) -> CCDData:
        """Digitise an exposure to a light of so many electrons per pixel of mean response."""
        mean = np.broadcast_to(electrons, self.shape) * self.flat + self.dark * seconds
        counts = self.rng.poisson(mean) + self.rng.normal(0, READOUT.read_noise, self.shape)
        return as_exposure(np.rint(self.bias + counts / READOUT.gain))

    def masters(self, *, biases: int = 40, darks: int = 20, flats: int = 20) -> dict[str, CCDData]:
        """Combine sets of calibration exposures as an observer takes them."""
        rule = Combination()
        bias = master_bias([self.expose(0, seconds=0) for _ in range(biases)], readout=READOUT, rule=rule)
        dark_frames = [(self.expose(0, seconds=300), 300.0) for _ in range(darks)]
        dark = master_dark(dark_frames, bias=bias, readout=READOUT, rule=rule).current
        flat_frames = [(self.expose(20_000 + 500 * number, seconds=5), 5.0) for number in range(flats)]
        flat = master_flat(flat_frames, bias=bias, dark=dark, readout=READOUT, rule=rule)
        return {"bias": bias, "dark": dark, "flat": flat}


def pull_width(frame: CCDData, truth: np.ndarray) -> float:
    """Return the rms of (frame - truth) in units of the stated uncertainty, over good pixels."""
    good = ~frame.mask
    return float(np.std(((frame.data - truth) / frame.uncertainty.array)[good]))
