"""Carry a journal to MLflow: in the background while a run goes on, or all at once."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..config import RunError, TrackingConfig
from .journal import FILE_NAME
from .places import without_password
from .records import Metrics, ParamChanged, Params, Record, RunStarted, Tags, read_records

if TYPE_CHECKING:
    from .mlflow_sink import MlflowSink

log = logging.getLogger(__name__)

BATCHED = (Params, ParamChanged, Tags, Metrics)
LONGEST_GROUP = 100
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 30.0
PATIENCE_SECONDS = 5.0
"""How long the end of a run waits for a server that doesn't answer."""
SAY_AFTER_SECONDS = 1.0
"""How long a wait may be before it is explained."""
MLFLOW_DEFAULTS = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
"""Settings of MLflow that hold unless the environment says otherwise; its own would block for minutes."""


class ShippingError(RunError):
    """MLflow could not be reached or refused something; the journal still holds it."""


class RunDeletedError(ShippingError):
    """Somebody has deleted the run in MLflow: nothing can be sent, and nothing is amiss."""


class Shipper:
    """A thread that sends what the journal holds, and waits out a server that doesn't answer.

    Call `wake` whenever the journal has grown, and `close` at the end.
    """

    def __init__(self, sink: MlflowSink, run_dir: Path) -> None:
        self._sink = sink
        self._run_dir = run_dir
        self.failed_attempts = 0
        self._failure: Exception | None = None
        self._failing_since = 0.0  # seconds of the monotonic clock; holds while there is a failure
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._abandoned = threading.Event()
        self._thread = threading.Thread(target=self._ship_until_closed, name="astrid-shipper", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Say that the journal has grown; returns at once."""
        self._wake.set()

    def connect(self) -> str | None:
        """Find or create the run at once and return its id, None where MLflow doesn't answer; call it before `wake`."""
        try:
            self._sink.connect()
        except ShippingError as failure:
            log.warning("%s; the run goes on and keeps everything in %s", failure, self._run_dir / FILE_NAME)
            return None
        return self._sink.progress.run_id

    def close(self, *, wait_seconds: float) -> bool:
        """Send what is left, for at most `wait_seconds`; say whether MLflow has everything.

        The wait ends sooner where MLflow has not answered for a few seconds.
        """
        self._closing.set()
        self._wake.set()
        self._wait(wait_seconds)
        self._abandoned.set()
        left = self._left()
        if left:
            reason = self._failure or f"MLflow needs more than {wait_seconds:g} s"
            log.warning(
                "%s; %d records wait in %s, to be sent with: astrid sync %s",
                reason,
                left,
                FILE_NAME,
                self._run_dir,
            )
        return left == 0

    def _wait(self, wait_seconds: float) -> None:
        """Wait until the thread is done or the time is up, and say so when it takes a while."""
        begin = time.monotonic()
        deadline = begin + wait_seconds
        self._thread.join(min(wait_seconds, SAY_AFTER_SECONDS))
        if self._thread.is_alive() and time.monotonic() < deadline:
            where = without_password(self._sink.uri)
            log.info("waiting up to %g s for MLflow at %s to take %d records", wait_seconds, where, self._left())
        while self._thread.is_alive() and (now := time.monotonic()) < deadline:
            if self._failure is not None and now - max(begin, self._failing_since) > PATIENCE_SECONDS:
                return
            self._thread.join(min(0.1, deadline - now))

    def _left(self) -> int:
        return sum(1 for _ in read_records(self._run_dir / FILE_NAME, offset=self._sink.progress.offset))

    def _ship_until_closed(self) -> None:
        pause_seconds = FIRST_PAUSE_SECONDS
        while not self._abandoned.is_set():
            self._wake.wait()
            self._wake.clear()
            closing = self._closing.is_set()  # asked before sending, so that nothing written before is missed
            if self._try_to_ship():
                pause_seconds = FIRST_PAUSE_SECONDS
                if closing:
                    return
            else:
                self._pause(pause_seconds)
                pause_seconds = min(2 * pause_seconds, LONGEST_PAUSE_SECONDS)
                self._wake.set()

    def _try_to_ship(self) -> bool:
        try:
            ship_pending(self._sink, self._run_dir, stop=self._abandoned, answered=self._note_answer)
        except (ShippingError, OSError) as failure:  # OSError: the note of what was sent can't be written
            if self._failure is None:
                self._failing_since = time.monotonic()
                log.warning("%s; the run goes on and keeps everything in %s", failure, self._run_dir / FILE_NAME)
            self._failure = failure
            self.failed_attempts += 1
            return False
        self._note_answer()
        return True

    def _note_answer(self) -> None:
        if self._failure is not None:
            log.info("MLflow answers again")
        self._failure = None

    def _pause(self, seconds: float) -> None:
        if self._closing.is_set():
            self._abandoned.wait(FIRST_PAUSE_SECONDS)
        else:
            self._closing.wait(seconds)


def prepare_mlflow(config: TrackingConfig) -> None:
    """Set what MLflow reads from the environment: limits that make it give up in seconds, and how to read buckets."""
    from .s3 import share_settings

    for name, value in MLFLOW_DEFAULTS.items():
        os.environ.setdefault(name, value)
    share_settings(config)


def connect_sink(run_dir: Path, started: RunStarted, config: TrackingConfig) -> MlflowSink:
    """Import MLflow and prepare to send one run there."""
    prepare_mlflow(config)
    from .mlflow_sink import MlflowSink

    return MlflowSink(run_dir, started, config)


def ship_pending(
    sink: MlflowSink,
    run_dir: Path,
    *,
    stop: threading.Event | None = None,
    answered: Callable[[], object] = lambda: None,
) -> int:
    """Send all that MLflow lacks, or what can be sent before `stop` is set, and return the number of records.

    Calls `answered` whenever MLflow has taken some of them.

    Raises
    ------
    ShippingError
        If MLflow could not be reached or refused; what was sent is noted, so that the next call goes on from there.
    """
    sink.connect()
    sent = 0
    for records, end in group(read_records(run_dir / FILE_NAME, offset=sink.progress.offset)):
        sink.send(records)
        sink.progress.advance(end)
        answered()
        sent += len(records)
        if stop is not None and stop.is_set():
            break
    return sent


def group(records: Iterable[tuple[Record, int]]) -> Iterator[tuple[list[Record], int]]:
    """Gather neighbouring records that MLflow takes in one batch; every other record stands alone.

    Yields each group with the journal offset behind it.
    """
    gathered: list[Record] = []
    end = 0
    for record, offset in records:
        fits = isinstance(record, BATCHED) and len(gathered) < LONGEST_GROUP
        if gathered and not (fits and isinstance(gathered[-1], BATCHED)):
            yield gathered, end
            gathered = []
        gathered.append(record)
        end = offset
    if gathered:
        yield gathered, end
