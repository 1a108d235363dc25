"""The monitor: a thread that records beside the loop what machine and process use, sample after sample."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from astrid.config import RunError, TrackingConfig
from astrid.energy import GpuLoad, SourceError, open_gpu_load
from astrid.machine_load import UNREADABLE, LoadReader
from astrid.tracking import Tracker

log = logging.getLogger(__name__)

LONGEST_WAIT_SECONDS = 5.0
"""How long the end of a run waits for a reading that hangs, as one of a lost GPU or of a disk that is away."""
Values = dict[str, float]


class Monitor:
    """Take samples for as long as the context lasts; nothing that goes wrong in here stops a run.

    Parameters
    ----------
    read : callable
        Returns a sample, by metric name.
    report : callable
        Called with each sample and its number; it runs in the monitor's thread.
    seconds : float or None
        Interval between two samples; None takes none.
    first_step : int
        Number of the first sample.
    """

    def __init__(
        self,
        *,
        read: Callable[[], Values],
        report: Callable[[Values, int], None],
        seconds: float | None,
        first_step: int = 1,
    ) -> None:
        self._read, self._report, self._seconds = read, report, seconds
        self._step = first_step
        self._troubled = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep_sampling, name="astrid-monitor", daemon=True)

    def __enter__(self) -> Self:
        if self._seconds is not None:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._seconds is not None:
            self._thread.join(LONGEST_WAIT_SECONDS)

    def sample(self) -> None:
        """Take one sample; the thread does this all the time."""
        try:
            values = self._read()
            if not self._ended.is_set():
                self._report(values, self._step)
                self._step += 1
        except (*UNREADABLE, RunError) as error:  # a journal that can't be written stops the loop at its next record
            if not self._troubled:
                log.warning("use of the machine could not be recorded, and perhaps can't later: %s", error)
            self._troubled = True

    def _keep_sampling(self) -> None:
        while not self._ended.wait(self._seconds):
            self.sample()


def open_monitor(
    config: TrackingConfig,
    tracker: Tracker,
    *,
    gpu_uuids: Sequence[str],
    listen: Callable[[Values], None],
    read_watts: Callable[[], float | None] = lambda: None,
) -> Monitor:
    """Make the monitor of a run, which records into its journal and goes on after the last sample of a resumed one.

    Parameters
    ----------
    config : TrackingConfig
        How often samples are taken.
    tracker : Tracker
        Where they go.
    gpu_uuids : sequence of str
        GPUs that this process uses, to be asked through NVML; empty on the CPU, and where energy.source is off.
    listen : callable
        Also gets each sample, as the rules that warn do.
    read_watts : callable
        Gives the power of everything that the energy meter measures; None where it is unknown.
    """
    load = LoadReader(tracker.journal.run_dir, read_gpu=_find_gpus(gpu_uuids))

    def read() -> Values:
        found = {"system/watts": read_watts(), "errors/retried_uploads": tracker.retried_uploads}
        return load.read() | {name: round(float(value), 3) for name, value in found.items() if value is not None}

    def report(values: Values, step: int) -> None:
        tracker.metrics({name: value for name, value in values.items() if name.startswith("system/")}, step=step)
        listen(values)

    first = 1 + tracker.journal.last_step("system/")
    return Monitor(read=read, report=report, seconds=config.system_seconds, first_step=first)


def report_errors(tracker: Tracker, *, step: int) -> None:
    """Report how often sending to MLflow failed and was tried again; nothing where nothing is sent."""
    retries = tracker.retried_uploads
    if retries is not None:
        tracker.metrics({"errors/retried_uploads": float(retries)}, step=step)


def _find_gpus(uuids: Sequence[str]) -> Callable[[], GpuLoad] | None:
    if not uuids:
        return None
    try:
        return open_gpu_load(uuids)
    except SourceError as error:
        log.warning("the load of the GPU is not recorded: %s", error)
        return None
