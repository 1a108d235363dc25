"""Energy and duration of the phases of a run, read at their boundaries, beside the loop."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from .channel import Channel
from .gpu_load import GpuLoad
from .ledger import Ledger
from .records import IDLE, EnergySummary, Known, PhaseEnergy, Sample, add_known, add_phases, summarise
from .sources import SourceError
from .span import Boundary, Span

logger = logging.getLogger(__name__)

OTHER = "other"
"""Phase of what lies between the named ones: checkpoints, reports."""
SAVE_SECONDS = 5.0
"""How often an open span is written to the ledger: what a killed run can lose."""
SAMPLE_SECONDS = 1.0
"""How often the state of the machine is written to the ledger."""
LONGEST_WAIT_SECONDS = 5.0
"""How long the end waits for a sensor that hangs, as one of a lost GPU."""
CHECK_SECONDS = 10.0
"""Length from which on counter and sampled power are compared: that of a GPU is an average over a second."""


class Meter:
    """Measures the phases of a run; use it as a context manager.

    Within the context the time between two phases is the phase `other`, so that all phases sum to the total. Beginning
    and end of the whole lie at ticks of the counters.

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
    idle_seconds : float
        How long the idle machine is measured before anything else.
    read_load : callable, optional
        Gives the state of the GPUs, for the samples in the ledger.
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
        idle_seconds: float = 0.0,
        read_load: Callable[[], GpuLoad] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._gpu, self._cpu = gpu, cpu
        self._synchronise = synchronise
        self._ledger = ledger
        self._sample_seconds, self._idle_seconds = sample_seconds, idle_seconds
        self._read_load = read_load
        self._clock = clock
        self._lock = threading.Lock()
        self._open: Span | None = None
        self._gap: Span | None = None
        self._spans = 0
        self._began: Boundary | None = None
        self._saved_seconds = self._sampled_seconds = 0.0
        self._troubled = False
        self._watts: float | None = None
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        if self.measures:
            self._align(ticks=2)
            self._thread = threading.Thread(target=self._keep_sampling, name="astrid-energy", daemon=True)
            self._thread.start()
            self._measure_idle()
        with self._lock:
            self._began = self._read()
            self._gap = self._begin_span(OTHER, None, self._began)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join(LONGEST_WAIT_SECONDS)
        if self._open is not None:
            self.stop(self._open)
        with self._lock:
            self._end_gap(self._read())
            self._began = None

    @property
    def measures(self) -> bool:
        """Whether the energy of any component is known."""
        return self._gpu.available or self._cpu.available

    @property
    def measures_gpu(self) -> bool:
        """Whether the energy of the GPU is known."""
        return self._gpu.available

    def keep_in(self, ledger: Path) -> None:
        """Write to this file from now on, first what was measured before; go on after what is there already."""
        with self._lock:
            self._ledger.keep_in(ledger)

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
            now = self._read()
            self._end_gap(now)
            self._open = self._begin_span(phase, epoch, now)
            return self._open

    def stop(self, span: Span) -> None:
        """End a phase and write it to the ledger."""
        if span is not self._open:
            raise RuntimeError(f"the phase {span.phase!r} is not the one being measured")
        self._synchronise()  # before the counters are read, or queued work is billed to the next phase
        with self._lock:
            now = self._read()
            self._open = None
            self._finish(span, now)
            if self._began is not None:
                self._gap = self._begin_span(OTHER, None, now)

    def sample(self) -> None:
        """Read every source once; the thread does this all the time."""
        with self._lock:
            now = self._read()
            span = self._open or self._gap
            if span is not None and now.seconds - self._saved_seconds >= SAVE_SECONDS:
                self._saved_seconds = now.seconds
                self._save(span, now)
        if now.seconds - self._sampled_seconds >= SAMPLE_SECONDS:
            self._sampled_seconds = now.seconds
            self._record_state()

    @property
    def watts(self) -> float | None:
        """Power of the components that are measured, averaged over the last two seconds; None where none is.

        It is that of the last reading: the loop asks at every step, and waits for no sensor.
        """
        return self._watts

    def settle(self) -> EnergySummary:
        """Wait for a tick of the counters, so that the sum up to now is exact, and sum up."""
        self._synchronise()
        self._align(ticks=1)
        return self.summary()

    def summary(self) -> EnergySummary:
        """Sum all phases up to now, those of the run before it was resumed included."""
        with self._lock:
            now = self._read()
            self._compare(self._began, now)
            readings = [*self._ledger.readings, *self._going_on(now)]
            with self._writing():
                self._note()
            return summarise(readings, sessions=self._ledger.sessions, notes=self._ledger.notes)

    def known(self) -> Known:
        """Sum what was measured of each component up to now, also where a part of the run was not."""
        with self._lock:
            return add_known([*self._ledger.readings, *self._going_on(self._read())])

    def _going_on(self, now: Boundary) -> list[PhaseEnergy]:
        return [self._reading_of(span, now) for span in (self._gap, self._open) if span is not None]

    def spent(self, phase: str, *, epoch: int) -> PhaseEnergy:
        """Sum what a phase of one epoch took, in this process and in those that a resumed run had before."""
        readings = [part for part in self._ledger.readings if (part.phase, part.epoch) == (phase, epoch)]
        return add_phases(phase, readings)

    def _read(self) -> Boundary:
        now = self._clock()
        boundary = Boundary(now, self._gpu.read(now), self._cpu.read(now))
        known = [value for value in (self._gpu.watts, self._cpu.watts) if value is not None]
        self._watts = sum(known) if known else None
        return boundary

    def _reading_of(self, span: Span, end: Boundary) -> PhaseEnergy:
        seconds = end.seconds - span.begin.seconds
        gpu = self._gpu.between(span.begin.gpu, end.gpu, seconds=seconds)
        cpu = self._cpu.between(span.begin.cpu, end.cpu, seconds=seconds)
        return PhaseEnergy(span.phase, span.epoch, seconds, gpu, cpu)

    def _begin_span(self, phase: str, epoch: int | None, now: Boundary) -> Span:
        self._spans += 1
        self._saved_seconds = now.seconds
        return Span(phase, epoch, self._spans, now)

    def _finish(self, span: Span, now: Boundary) -> None:
        span._reading = self._reading_of(span, now)
        self._compare(span.begin, now)
        with self._writing():
            self._ledger.finish(span.number, span.reading)
            self._note()

    def _end_gap(self, now: Boundary) -> None:
        if self._gap is not None:
            self._finish(self._gap, now)
            self._gap = None

    def _align(self, *, ticks: int) -> None:
        with self._lock:
            self._gpu.align(ticks=ticks)
            self._cpu.align(ticks=ticks)

    def _compare(self, begin: Boundary | None, end: Boundary) -> None:
        if begin is None or end.seconds - begin.seconds < CHECK_SECONDS:
            return
        self._gpu.compare(begin.gpu, end.gpu)
        self._cpu.compare(begin.cpu, end.cpu)

    def _note(self) -> None:
        for note in (*self._gpu.notes, *self._cpu.notes):
            self._ledger.note(note)

    def _measure_idle(self) -> None:
        if self._idle_seconds > 0:
            logger.info("measuring the idle machine for %g s", self._idle_seconds)
            with self.phase(IDLE):
                time.sleep(self._idle_seconds)

    def _save(self, span: Span, now: Boundary) -> None:
        with self._writing():
            self._ledger.save_open(span.number, self._reading_of(span, now))

    def _record_state(self) -> None:
        """Write the state of the machine; GPUs are asked without the lock, so that no boundary waits for them."""
        load = self._ask_load()
        with self._lock, self._writing():
            span = self._open or self._gap
            phase, epoch = (OTHER, None) if span is None else (span.phase, span.epoch)
            state = {} if load is None else load.state()
            sample = Sample(0, round(time.time(), 3), phase, epoch, self._gpu.watts, self._cpu.watts, **state)
            self._ledger.sample(sample)
            if load is not None and load.other_processes:
                self._ledger.note("other processes computed on the GPU: what they used is measured too")

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Tell once of a ledger that can't be written; that ends no run, and what it lacks goes with the next line."""
        try:
            yield
        except OSError as error:
            if not self._troubled:
                logger.warning("the energy ledger could not be written: %s", error)
            self._troubled = True

    def _ask_load(self) -> GpuLoad | None:
        if self._read_load is None:
            return None
        try:
            return self._read_load()
        except SourceError as error:
            logger.warning("the state of the GPU is not recorded from now on: %s", error)
            self._read_load = None
            return None

    def _keep_sampling(self) -> None:
        """Sample evenly where the samples are the energy; else unevenly, to keep no step with a load that repeats."""
        shortest = 1.0 if self._gpu.integrates or self._cpu.integrates else 0.5
        draw = random.Random()  # its own: the global one belongs to the run's seed
        while not self._ended.wait(self._sample_seconds * draw.uniform(shortest, 2 - shortest)):
            self.sample()
