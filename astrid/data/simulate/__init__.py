"""The simulated sky: pairs of frames with exact truth."""

from .field import Nights, SimulatedField, simulate_field

__all__ = ["Nights", "SimulatedField", "simulate_field"]
