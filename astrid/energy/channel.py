"""One component of the machine, GPU or CPU, over all its sensors."""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .records import Component
from .sources import LABELS, Sampled, Source, SourceError

logger = logging.getLogger(__name__)

POWER_WINDOW_SECONDS = 2.0
"""Span over which power is averaged for display: long against a counter's tick of up to 0.1 s."""
LONGEST_TICK_SECONDS = 0.5
"""How long a tick of a counter is waited for."""
POLL_SECONDS = 0.002
CHECK_PERCENT = 10.0
"""Difference of counter and sampled power from which on it is told."""
CHECK_DEVIATIONS = 3.0
"""The same in standard deviations of the sampled power: samples of a load that jumps scatter."""


@dataclass(frozen=True)
class Level:
    """Joules since the channel's first reading, and what sampled power makes of them, where both are known."""

    joules: float
    check: Sampled | None = None


class Channel:
    """One component of the machine: its sources, summed, or the reason why there are none.

    A source that fails makes the whole component unavailable from then on: the sum over the others is not its energy.
    """

    def __init__(self, component: str, sources: Sequence[Source] = (), *, reason: str | None = None) -> None:
        self._component = component
        self._sources = sources
        self._reason = None if sources else reason or "no source"
        self._name = ", ".join(source.name for source in sources) or "none"
        self._label = max((source.label for source in sources), key=LABELS.index, default=LABELS[-1])
        self._recent: deque[tuple[float, float]] = deque()
        self._disagreement: str | None = None
        self.tick_seconds: float | None = None

    @classmethod
    def open(cls, component: str, find_sources: Callable[[], list[Source]]) -> Channel:
        """Open the sources of a component, or say why it has none."""
        try:
            return cls(component, find_sources())
        except SourceError as error:
            logger.info("%s energy is unavailable: %s", component, error)
            return cls(component, reason=str(error))

    @property
    def available(self) -> bool:
        """Whether the component is measured."""
        return self._reason is None

    @property
    def integrates(self) -> bool:
        """Whether energy is the sum of samples, and not the difference of a counter."""
        return any(source.label == "integrated" for source in self._sources)

    @property
    def notes(self) -> list[str]:
        """What somebody who trusts the numbers should know."""
        own = [] if self._disagreement is None else [self._disagreement]
        return own + [flag for source in self._sources for flag in source.flags]

    @property
    def watts(self) -> float | None:
        """Mean power over the last two seconds or so; None before they have passed."""
        if not self.available or not self._recent:
            return None
        (start, joules_before), (end, joules) = self._recent[0], self._recent[-1]
        return (joules - joules_before) / (end - start) if end - start >= POWER_WINDOW_SECONDS else None

    def read(self, now: float) -> Level | None:
        """Read all sources: joules since the first reading, or None once there is no energy to know."""
        if not self.available:
            return None
        try:
            joules = sum(source.read(now) for source in self._sources)
        except SourceError as error:
            self._fail(error)
            return None
        known = [source.check for source in self._sources if source.check is not None]
        self._remember(now, joules)
        return Level(joules, sum(known, Sampled()) if len(known) == len(self._sources) else None)

    def _remember(self, now: float, joules: float) -> None:
        self._recent.append((now, joules))
        while len(self._recent) > 2 and now - self._recent[1][0] >= POWER_WINDOW_SECONDS:
            self._recent.popleft()

    def between(self, start: Level | None, end: Level | None, *, seconds: float) -> Component:
        """Give the energy between two readings, which lie so many seconds apart."""
        if start is None or end is None:
            return Component(None, "unavailable", self._name, self._reason)
        joules, sampled = end.joules - start.joules, _sampled_between(start, end)
        error = self._error_joules(joules, seconds=seconds)
        check = None if sampled is None else sampled.joules
        return Component(joules, self._label, self._name, error_joules=error, check_joules=check)

    def _error_joules(self, joules: float, *, seconds: float) -> float | None:
        """Give the energy of a tick, at the mean power of this time or, if it is short, of the last two seconds."""
        if self.tick_seconds is None:
            return None
        (begin, before), (now, after) = self._recent[0], self._recent[-1]
        if seconds < POWER_WINDOW_SECONDS and now > begin:
            joules, seconds = after - before, now - begin
        return joules / seconds * self.tick_seconds if seconds > 0 else None

    def compare(self, start: Level | None, end: Level | None) -> None:
        """Warn, once, where a counter and the sampled power of the same time disagree."""
        sampled = _sampled_between(start, end)
        if self._disagreement is not None or start is None or end is None or sampled is None:
            return
        joules = end.joules - start.joules
        apart, larger = abs(joules - sampled.joules), max(joules, sampled.joules)
        if apart > larger * CHECK_PERCENT / 100 and apart > CHECK_DEVIATIONS * math.sqrt(sampled.variance):
            self._disagreement = (
                f"{self._name} and sampled power differ by {100 * apart / larger:.0f} %: "
                f"{joules:.0f} J and {sampled.joules:.0f} J"
            )
            logger.warning("%s; which of them is right, only a power meter can tell", self._disagreement)

    def align(self, *, ticks: int = 1) -> None:
        """Wait until every counter that ticks has just done so, so many times; given up after half a second for each.

        With two ticks their distance is measured, which is how old a reading can be.
        """
        seen: dict[int, list[float]] = {number: [] for number, source in enumerate(self._sources) if source.ticks}
        values: dict[int, float] = {}
        deadline = time.monotonic() + LONGEST_TICK_SECONDS * ticks
        while self.available and any(len(times) < ticks for times in seen.values()):
            now = time.monotonic()
            if now > deadline:
                logger.info("a counter of the %s did not move for a while: its tick is unknown", self._component)
                return
            for number, times in seen.items():
                value = self._read_one(self._sources[number], now)
                if value is not None and values.setdefault(number, value) != value:
                    values[number] = value
                    times.append(now)
            time.sleep(POLL_SECONDS)
        if ticks > 1 and seen and self.available:
            self.tick_seconds = max(times[-1] - times[-2] for times in seen.values())

    def _read_one(self, source: Source, now: float) -> float | None:
        try:
            return source.read(now)
        except SourceError as error:
            self._fail(error)
            return None

    def _fail(self, error: SourceError) -> None:
        self._reason = str(error)
        logger.warning("%s energy is unavailable from now on: %s", self._component, error)


def _sampled_between(start: Level | None, end: Level | None) -> Sampled | None:
    if start is None or end is None or start.check is None or end.check is None:
        return None
    return end.check - start.check
