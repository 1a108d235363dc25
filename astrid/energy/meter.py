"""Energy and duration of the phases of a run, read at their boundaries, beside the loop."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from astrid.config import EnergyConfig

from .ledger import Component, EnergySummary, Ledger, PhaseEnergy, add_phases, summarise
from .sources import LABELS, POWERCAP, Source, SourceError, open_gpus, open_rapl

logger = logging.getLogger(__name__)

POWER_WINDOW_SECONDS = 2.0
"""Span over which power is averaged for display: long against a counter's tick of up to 0.1 s."""

SAVE_SECONDS = 5.0
"""How often an open span is written to the ledger: what a killed run can lose."""


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
    def watts(self) -> float | None:
        """Mean power over the last two seconds or so; None before they have passed."""
        if not self.available or not self._recent:
            return None
        (start, joules_before), (end, joules) = self._recent[0], self._recent[-1]
        return (joules - joules_before) / (end - start) if end - start >= POWER_WINDOW_SECONDS else None

    def read(self, now: float) -> float | None:
        """Read all sources: joules since the first reading, or None once there is no energy to know."""
        if not self.available:
            return None
        try:
            joules = sum(source.read(now) for source in self._sources)
        except SourceError as error:
            self._reason = str(error)
            logger.warning("%s energy is unavailable from now on: %s", self._component, error)
            return None
        self._remember(now, joules)
        return joules

    def _remember(self, now: float, joules: float) -> None:
        self._recent.append((now, joules))
        while len(self._recent) > 2 and now - self._recent[1][0] >= POWER_WINDOW_SECONDS:
            self._recent.popleft()

    def between(self, start_joules: float | None, end_joules: float | None) -> Component:
        """Give the energy between two readings."""
        if start_joules is None or end_joules is None:
            return Component(None, "unavailable", self._name, self._reason)
        return Component(end_joules - start_joules, self._label, self._name)


@dataclass(frozen=True)
class Boundary:
    """What was read at one moment: the clock in seconds, joules since the meter began."""

    seconds: float
    gpu_joules: float | None
    cpu_joules: float | None


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


class Meter:
    """Measures the phases of a run; use it as a context manager.

    Parameters
    ----------
    gpu, cpu : Channel
        The two components.
    synchronise : callable
        Waits until the device has done its work. Called at boundaries of phases only.
    ledger : Ledger
        Where finished phases go.
    sample_seconds : float
        Interval of the sampling thread; it exists only where something is measured.
    clock : callable
        Monotonic time in seconds.
    """

    def __init__(
        self,
        *,
        gpu: Channel,
        cpu: Channel,
        synchronise: Callable[[], None],
        ledger: Ledger,
        sample_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._gpu = gpu
        self._cpu = cpu
        self._synchronise = synchronise
        self._ledger = ledger
        self._sample_seconds = sample_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._open: Span | None = None
        self._spans = 0
        self._saved_seconds = 0.0
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        if self._gpu.available or self._cpu.available:
            self._thread = threading.Thread(target=self._keep_sampling, name="astrid-energy", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        if self._open is not None:
            self.stop(self._open)

    @contextmanager
    def phase(self, name: str, *, epoch: int | None = None) -> Iterator[Span]:
        """Measure the block as one phase; its span has a `reading` afterwards."""
        span = self.start(name, epoch=epoch)
        try:
            yield span
        finally:
            self.stop(span)

    def start(self, phase: str, *, epoch: int | None = None) -> Span:
        """Begin a phase. Phases follow each other: one inside another would count its joules twice."""
        if self._open is not None:
            raise RuntimeError(f"the phase {self._open.phase!r} must stop before {phase!r} starts")
        self._synchronise()
        with self._lock:
            begin = self._read()
            self._spans += 1
            self._open = Span(phase, epoch, self._spans, begin)
            self._saved_seconds = begin.seconds
            return self._open

    def stop(self, span: Span) -> None:
        """End a phase and write it to the ledger."""
        if span is not self._open:
            raise RuntimeError(f"the phase {span.phase!r} is not the one being measured")
        self._synchronise()  # before the counters are read, or queued work is billed to the next phase
        with self._lock:
            span._reading = self._reading_of(span, self._read())
            self._open = None
            self._ledger.finish(span.number, span.reading)

    def sample(self) -> None:
        """Read every source once; the thread does this all the time."""
        with self._lock:
            now = self._read()
            if self._open is not None and now.seconds - self._saved_seconds >= SAVE_SECONDS:
                self._saved_seconds = now.seconds
                self._save(self._open, now)

    @property
    def watts(self) -> float | None:
        """Power of the components that are measured, averaged over the last two seconds; None where none is."""
        with self._lock:
            watts = [channel.watts for channel in (self._gpu, self._cpu)]
        known = [value for value in watts if value is not None]
        return sum(known) if known else None

    def summary(self) -> EnergySummary:
        """Sum all finished phases, those of the run before it was resumed included."""
        return summarise(self._ledger.readings)

    def spent(self, phase: str, *, epoch: int) -> PhaseEnergy:
        """Sum what a phase of one epoch took, in this process and in those that a resumed run had before."""
        readings = [part for part in self._ledger.readings if (part.phase, part.epoch) == (phase, epoch)]
        return add_phases(phase, readings)

    def _read(self) -> Boundary:
        now = self._clock()
        return Boundary(now, self._gpu.read(now), self._cpu.read(now))

    def _reading_of(self, span: Span, end: Boundary) -> PhaseEnergy:
        gpu = self._gpu.between(span.begin.gpu_joules, end.gpu_joules)
        cpu = self._cpu.between(span.begin.cpu_joules, end.cpu_joules)
        return PhaseEnergy(span.phase, span.epoch, end.seconds - span.begin.seconds, gpu, cpu)

    def _save(self, span: Span, now: Boundary) -> None:
        try:
            self._ledger.save_open(span.number, self._reading_of(span, now))
        except OSError as error:  # here in the thread it would end the sampling; the phase's end writes again
            logger.warning("the energy ledger could not be written: %s", error)

    def _keep_sampling(self) -> None:
        while not self._ended.wait(self._sample_seconds):
            self.sample()


def build_meter(
    config: EnergyConfig,
    *,
    gpu_uuids: Sequence[str],
    synchronise: Callable[[], None],
    ledger: Path | None,
    powercap: Path = POWERCAP,
) -> Meter:
    """Make the meter of a run.

    Parameters
    ----------
    config : EnergyConfig
        With `source="off"` nothing is imported or measured and no thread starts; phases still have their seconds.
    gpu_uuids : sequence of str
        UUIDs of the GPUs that this process uses; empty on the CPU.
    synchronise : callable
        Waits for the device.
    ledger : Path or None
        File of JSON lines, continued where it exists.
    powercap : Path
        Where the RAPL counters of the CPU are.
    """
    if config.source == "off":
        gpu, cpu = Channel("GPU", reason="energy.source=off"), Channel("CPU", reason="energy.source=off")
    else:
        gpu = Channel.open("GPU", lambda: open_gpus(gpu_uuids))
        cpu = Channel.open("CPU", lambda: open_rapl(powercap))
    seconds = config.sample_seconds
    return Meter(gpu=gpu, cpu=cpu, synchronise=synchronise, ledger=Ledger(ledger), sample_seconds=seconds)
