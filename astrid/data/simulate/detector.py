"""A CCD and its nights: from the light of the sky to a frame in electrons."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from astrid.config import SimulatedData


@dataclass(frozen=True)
class Conditions:
    """How a frame was taken.

    Attributes
    ----------
    fwhm : float
        Seeing, full width at half maximum in pixels.
    beta : float
        Exponent of its Moffat PSF.
    sky : float
        Electrons per pixel and exposure.
    gain : float
        Electrons per ADU.
    read_noise : float
        Electrons rms per exposure.
    exposures : int
        The frame is the mean of so many.
    """

    fwhm: float
    beta: float
    sky: float
    gain: float
    read_noise: float
    exposures: int

    def variance(self, light: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the variance of a frame's pixels, electrons squared, from the expected light in electrons."""
        digitisation = (self.gain / self.exposures) ** 2 / 12.0
        return (light + self.read_noise**2) / self.exposures + digitisation

    @property
    def sky_variance(self) -> float:
        """Variance of an empty pixel in electrons squared."""
        return float(self.variance(np.array(self.sky)))


def draw_conditions(config: SimulatedData, rng: Generator, *, seeing: list[float], exposures: int) -> Conditions:
    """Draw the night of one frame."""
    return Conditions(
        fwhm=_within(rng, seeing),
        beta=_within(rng, config.moffat_beta),
        sky=_within(rng, config.sky_level),
        gain=_within(rng, config.gain),
        read_noise=_within(rng, config.read_noise),
        exposures=exposures,
    )


def _within(rng: Generator, bounds: list[float]) -> float:
    low, high = bounds
    return rng.uniform(low, high)


def bleed(charge: NDArray[np.float64], *, full_well: float) -> NDArray[np.float64]:
    """Let charge above the full well spill along columns, half up and half down, until pixels with room hold it.

    Parameters
    ----------
    charge : (H, W) float64, electrons
        Charge as collected.
    full_well : float
        Electrons that a pixel holds.

    Returns
    -------
    (H, W) float64
        At most `full_well` everywhere; what flows over the first or last row is lost.
    """
    columns = np.flatnonzero((charge > full_well).any(axis=0))
    if columns.size == 0:
        return charge
    spilling = charge[:, columns]
    half = np.maximum(spilling - full_well, 0.0) / 2.0
    held = np.minimum(spilling, full_well)
    held = _spill_down(held, half, full_well)
    held = _spill_down(held[::-1], half[::-1], full_well)[::-1]
    result = charge.copy()
    result[:, columns] = held
    return result


def _spill_down(held: NDArray[np.float64], excess: NDArray[np.float64], full_well: float) -> NDArray[np.float64]:
    """Carry excess from row to row until there is room.

    What is carried past a row is c(y) = max(0, c(y - 1) + excess(y) - room(y)), the recursion of a queue, whose closed
    form is the running sum minus its lowest value so far (Lindley 1952, doi:10.1017/S0305004100027638).
    """
    net = np.cumsum(excess - (full_well - held), axis=0)
    carried = net - np.minimum(np.minimum.accumulate(net, axis=0), 0.0)
    arriving = np.vstack([np.zeros_like(carried[:1]), carried[:-1]]) + excess
    return np.where(carried > 0.0, full_well, held + arriving)


def read_out(charge: NDArray[np.float64], conditions: Conditions, rng: Generator) -> NDArray[np.float32]:
    """Add read noise to the charge of all exposures together, digitise, and return their mean in electrons."""
    noise = rng.standard_normal(charge.shape, dtype=np.float32)
    read = charge + conditions.read_noise * np.sqrt(conditions.exposures) * noise
    adu = np.rint(read / conditions.gain)
    return np.asarray(adu * (conditions.gain / conditions.exposures), dtype=np.float32)
