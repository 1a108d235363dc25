"""One component of the machine, GPU or CPU, over all its sensors."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .records import Component
from .sources import LABELS, Source, SourceError

logger = logging.getLogger(__name__)

POWER_WINDOW_SECONDS = 2.0
"""Span over which power is averaged for display: long against a counter's tick of up to 0.1 s."""
LONGEST_TICK_SECONDS = 0.5
"""How long a tick of a counter is waited for."""
POLL_SECONDS = 0.002
CHECK_PERCENT = 10.0
"""Difference of counter and sampled power from which on it is told."""


@dataclass(frozen=True)
class Level:
    """Joules since the channel's first reading, and what sampled power makes of them, where both are known."""

    joules: float
    check_joules: float | None = None


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
        checks = [source.check_joules for source in self._sources]
        known = [check for check in checks if check is not None]
        self._remember(now, joules)
        return Level(joules, sum(known) if known and len(known) == len(checks) else None)

    def _remember(self, now: float, joules: float) -> None:
        self._recent.append((now, joules))
        while len(self._recent) > 2 and now - self._recent[1][0] >= POWER_WINDOW_SECONDS:
            self._recent.popleft()

    def between(self, start: Level | None, end: Level | None, *, seconds: float) -> Component:
        """Give the energy between two readings, which lie so many seconds apart."""
        if start is None or end is None:
            return Component(None, "unavailable", self._name, self._reason)
        joules, check = end.joules - start.joules, None
        if start.check_joules is not None and end.check_joules is not None:
            check = end.check_joules - start.check_joules
        error = self._error_joules(joules, seconds=seconds)
        return Component(joules, self._label, self._name, error_joules=error, check_joules=check)

    def _error_joules(self, joules: float, *, seconds: float) -> float | None:
        """Give the energy of a tick, at the mean power of this time or, if it is short, of the last two seconds."""
        if self.tick_seconds is None:
            return None
        (begin, before), (now, after) = self._recent[0], self._recent[-1]
        if seconds < POWER_WINDOW_SECONDS and now > begin:
            joules, seconds = after - before, now - begin
        return joules / seconds * self.tick_seconds if seconds > 0 else None

    def compare(self, component: Component) -> None:
        """Warn, once, where a counter and the sampled power of the same time disagree."""
        joules, sampled = component.joules, component.check_joules
        if self._disagreement is not None or joules is None or sampled is None or max(joules, sampled) <= 0:
            return
        percent = 100 * abs(joules - sampled) / max(joules, sampled)
        if percent > CHECK_PERCENT:
            self._disagreement = (
                f"{self._name} and sampled power differ by {percent:.0f} %: {joules:.0f} J and {sampled:.0f} J"
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
