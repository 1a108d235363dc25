"""A phase between two readings."""

from __future__ import annotations

from dataclasses import dataclass, field

from .channel import Level
from .records import PhaseEnergy


@dataclass(frozen=True)
class Boundary:
    """What was read at one moment: the clock in seconds, and joules since the meter began."""

    seconds: float
    gpu: Level | None
    cpu: Level | None


@dataclass
class Span:
    """A phase that is being, or was, measured."""

    phase: str
    epoch: int | None
    number: int
    begin: Boundary
    _reading: PhaseEnergy | None = field(default=None, init=False)

    @property
    def reading(self) -> PhaseEnergy:
        """Energy and duration; there once the span has stopped."""
        if self._reading is None:
            raise RuntimeError(f"the phase {self.phase!r} has no reading before it has stopped")
        return self._reading
