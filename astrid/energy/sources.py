"""What gives joules: a hardware counter, sampled power, or watts that the user knows.

Every sensor ends as a `Source` that gives joules since its first reading. One that cannot be read raises `SourceError`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

logger = logging.getLogger(__name__)

Label = Literal["measured", "integrated", "estimated", "unavailable"]
"""How a number was obtained: an energy counter, sampled power, a figure of the user's, or not at all."""

LABELS: tuple[Label, ...] = ("measured", "integrated", "estimated", "unavailable")
"""From the most to the least trustworthy: a sum is worth as much as its worst part."""


STANDSTILL_SECONDS = 3.0
"""After so long without a move a counter counts nothing: every device that is on uses energy."""
HIGHEST_WATTS = 5000.0
"""More than any package or GPU uses; a step beyond it is no wrap."""
SHORTEST_STEP_SECONDS = 1.0
"""Span over which a step may lie at least: a counter is written in jerks."""


class SourceError(RuntimeError):
    """A sensor that cannot be read; the message is the reason that the run reports."""


@dataclass(frozen=True)
class Sampled:
    """Energy from power that was sampled now and then.

    Attributes
    ----------
    joules : float
        By the trapezoidal rule.
    variance : float
        Of the joules, in joules squared, as far as the samples tell: half the squared difference of each two in
        succession, times their distance squared. For independent samples that is the variance of their sum (von Neumann
        et al. 1941, doi 10.1214/aoms/1177731746).
    """

    joules: float = 0.0
    variance: float = 0.0

    def __add__(self, other: Sampled) -> Sampled:
        return Sampled(self.joules + other.joules, self.variance + other.variance)

    def __sub__(self, other: Sampled) -> Sampled:
        """Give what was added since."""
        return Sampled(self.joules - other.joules, self.variance - other.variance)


class Source(Protocol):
    """Energy of one device from a moment of its own.

    Attributes
    ----------
    name : str
        What the user knows it by.
    label : Label
        How its joules come about.
    flags : list of str
        What somebody who trusts the number should know; it may grow.
    ticks : bool
        Whether it moves in steps of up to a tenth of a second, so that a reading can be that old.
    check : Sampled or None
        The same energy from sampled power, where a counter can be compared with it.
    """

    name: str
    label: Label
    flags: list[str]
    ticks: bool

    @property
    def check(self) -> Sampled | None: ...

    def read(self, now: float) -> float:
        """Give the joules since the first reading; `now` is this reading's time in seconds. Raises `SourceError`."""
        ...


class Integral:
    """Joules from sampled power, by the trapezoidal rule over the times of the readings."""

    label: Label = "integrated"
    ticks = False
    check: Sampled | None = None

    def __init__(self, name: str, read_watts: Callable[[], float]) -> None:
        self.name = name
        self.flags: list[str] = []
        self._read_watts = read_watts
        self._last: tuple[float, float] | None = None
        self.sum = Sampled()

    def read(self, now: float) -> float:
        """Take a sample of the power and give the joules since the first one."""
        watts = self._read_watts()
        if self._last is not None:
            seconds, before = now - self._last[0], self._last[1]
            self.sum += Sampled((before + watts) / 2 * seconds, ((watts - before) * seconds) ** 2 / 2)
        self._last = (now, watts)
        return self.sum.joules


class Counter:
    """Joules from a hardware counter, which may wrap around or start again.

    Parameters
    ----------
    name : str
        What the user knows the counter by.
    read_joules : callable
        Gives the counter's value in joules.
    wrap_joules : float, optional
        Value at which the counter wraps around to zero. Without it, or where a wrap would mean more power than any
        device has, a counter that goes back was reset, as by a reload of its driver: a new segment begins at its new
        value, and the gap takes the sampled `power`; without that, what was used between the two readings is
        not counted.
    ticks : bool
        Whether the counter moves in steps that are long against a reading.
    power : Integral, optional
        The power of the same device, to compare the counter with. It is dropped once it fails.
    """

    label: Label = "measured"

    def __init__(
        self,
        name: str,
        read_joules: Callable[[], float],
        *,
        wrap_joules: float | None = None,
        ticks: bool = False,
        power: Integral | None = None,
    ) -> None:
        self.name = name
        self.flags: list[str] = []
        self.ticks = ticks
        self._read_joules = read_joules
        self._wrap_joules = wrap_joules
        self._power = power
        self._last: tuple[float, float] | None = None
        self._moved = 0.0
        self._joules = 0.0
        self._check: Sampled | None = None

    @property
    def check(self) -> Sampled | None:
        """Sampled power, integrated since the first reading."""
        return self._check

    def read(self, now: float) -> float:
        """Give the joules since the first reading."""
        value = self._read_joules()
        sampled = self._read_power(now)
        if self._last is None or value != self._last[1]:
            self._moved = now
        elif now - self._moved >= STANDSTILL_SECONDS:
            raise SourceError(f"{self.name} stands still at {value:g} J for {now - self._moved:.0f} s")
        if self._last is not None:
            since, before = self._last
            self._joules += self._step(before, value, seconds=now - since, sampled=sampled)
        self._last = (now, value)
        return self._joules

    def _read_power(self, now: float) -> float | None:
        """Integrate the power up to now, and give the joules of this step; None where they are unknown."""
        if self._power is None:
            return None
        try:
            self._power.read(now)
        except SourceError as error:
            logger.info("%s is no longer compared with the sampled power: %s", self.name, error)
            self._power = self._check = None
            return None
        before, self._check = self._check, self._power.sum
        return None if before is None else self._check.joules - before.joules

    def _step(self, before: float, after: float, *, seconds: float, sampled: float | None) -> float:
        if after >= before:
            return after - before
        if self._wrap_joules is not None:
            wrapped = after - before + self._wrap_joules
            if 0 <= wrapped <= HIGHEST_WATTS * max(seconds, SHORTEST_STEP_SECONDS):
                return wrapped
        bridge = "the gap is left out" if sampled is None else "sampled power fills the gap"
        logger.warning("%s went back from %.3f J to %.3f J: %s", self.name, before, after, bridge)
        self.flags.append(f"{self.name} started again: {bridge}")
        return sampled or 0.0


class Given:
    """Joules of a power that the user knows, such as a thermal design power: an estimate."""

    label: Label = "estimated"
    ticks = False
    check: Sampled | None = None

    def __init__(self, name: str, watts: float) -> None:
        self.name = name
        self.flags: list[str] = []
        self._watts = watts
        self._begin: float | None = None

    def read(self, now: float) -> float:
        """Give the joules since the first reading."""
        if self._begin is None:
            self._begin = now
        return self._watts * (now - self._begin)
