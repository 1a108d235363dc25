"""What a journal tells of a run, gathered record by record; neither MLflow nor torch is needed."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

from astrid.config import DataError
from astrid.tracking.journal import FILE_NAME
from astrid.tracking.owner import is_alive
from astrid.tracking.records import (
    Attached,
    Ended,
    Metrics,
    ParamChanged,
    Params,
    Record,
    RunStarted,
    Tags,
    read_records,
)

ALERT = "alert."
RECENT_EPOCHS = 3
"""Epochs whose mean duration is what the next ones are expected to take."""

LONGEST_BEGIN_SECONDS = 10.0
"""Time between the creation of a journal and its first record, on the slowest disk."""


@dataclass
class RunState:
    """What is known of a run so far."""

    started: RunStarted | None = None
    owner: Attached | None = None
    status: str = "RUNNING"
    reason: str | None = None
    ended_ms: int | None = None
    params: dict[str, str] = field(default_factory=dict)
    epochs: dict[int, Metrics] = field(default_factory=dict)
    system: Metrics | None = None
    others: dict[str, float] = field(default_factory=dict)
    """Metrics of the run as a whole, such as those of the test fields."""
    alerts: list[str] = field(default_factory=list)

    def take(self, record: Record) -> None:
        """Take in the next record."""
        match record:
            case RunStarted():
                self.started = record
            case Attached():
                self.owner, self.status, self.reason, self.ended_ms = record, "RUNNING", None, None
            case Params(values):
                self.params |= values
            case ParamChanged(key, _, new):
                self.params[key] = new
            case Metrics():
                self._take_metrics(record)
            case Tags(values):
                self.alerts += [f"{key.removeprefix(ALERT)}: {text}" for key, text in values.items() if is_alert(key)]
            case Ended(status, reason, time_ms):
                self.status, self.reason, self.ended_ms = status, reason, time_ms

    def _take_metrics(self, record: Metrics) -> None:
        if "train/loss" in record.values:
            self.epochs[record.step] = record
        elif any(name.startswith("system/") for name in record.values):
            self.system = record
        else:
            self.others |= record.values

    @property
    def epochs_in_all(self) -> int | None:
        """How many epochs the run is to have, unless it stops earlier."""
        text = self.params.get("training.epochs", "")
        return int(text) if text.isdecimal() else None

    @property
    def monitor(self) -> str | None:
        """Metric by which the run picks its best epoch."""
        return self.params.get("training.monitor")

    def values(self, name: str) -> list[float]:
        """Return the values of an epoch metric, in the order of the epochs; those without it are left out."""
        return [record.values[name] for _, record in sorted(self.epochs.items()) if name in record.values]

    def seconds_so_far(self, now_ms: int) -> float:
        """Return the time from the start to the end, or until now where there is none."""
        begin = now_ms if self.started is None else self.started.time_ms
        return max(0.0, ((self.ended_ms or now_ms) - begin) / 1000)

    @property
    def last_sign_ms(self) -> int:
        """Time of the last record that has one."""
        records = (self.started, self.owner, self.system, *self.epochs.values())
        return max((record.time_ms for record in records if record is not None), default=0)

    def seconds_left(self, now_ms: int) -> float | None:
        """Estimate how long training will still take; None before the first epoch is done, or without a plan."""
        if not self.epochs or self.epochs_in_all is None:
            return None
        last = max(self.epochs)
        recent = [epoch_seconds(record) for _, record in sorted(self.epochs.items())[-RECENT_EPOCHS:]]
        planned = (self.epochs_in_all - last) * sum(recent) / len(recent)
        return max(0.0, planned - max(0.0, (now_ms - self.epochs[last].time_ms) / 1000))

    @property
    def joules(self) -> dict[str, float]:
        """Return the energy of training so far by component, where it is measured."""
        parts = {part: self.values(f"train/{part}_joules") for part in ("gpu", "cpu")}
        return {part: sum(values) for part, values in parts.items() if values}


def is_alert(key: str) -> bool:
    """Say whether a tag is an alert."""
    return key.startswith(ALERT)


def epoch_seconds(record: Metrics) -> float:
    """Return the duration of an epoch."""
    return record.values.get("train/seconds", 0.0) + record.values.get("val/seconds", 0.0)


class Reader:
    """Reads a journal as it grows.

    Raises
    ------
    DataError
        Where the folder holds no journal.
    """

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.state = RunState()
        self._path = run_dir / FILE_NAME
        self._offset = 0
        if not self._path.is_file():
            why = f"{FILE_NAME} is missing, as it is while a run prepares its data"
            raise DataError(f"{run_dir} must be the folder of a run that has begun, but {why}; try again, or another")

    def refuse_what_never_begins(self) -> None:
        """Refuse a journal without a whole record that nobody has written to for a while: it would be watched for ever.

        Raises
        ------
        DataError
        """
        is_old = time.time() - self._path.stat().st_mtime > LONGEST_BEGIN_SECONDS
        if is_old and next(read_records(self._path), None) is None:
            raise DataError(f"{self._path} must say which run it belongs to, but holds no whole record; try another")

    def read(self) -> list[Record]:
        """Return the records that are new, and take them in."""
        fresh: list[Record] = []
        for record, end in read_records(self._path, offset=self._offset):
            self.state.take(record)
            fresh.append(record)
            self._offset = end
        return fresh

    def look(self) -> tuple[list[Record], str]:
        """Return the new records and the status: the run's own, or GONE where its process left no word of an end."""
        fresh = self.read()
        if self._process_is_gone():  # it may have written its end between the reading and the look at its process
            fresh += self.read()
        return fresh, "GONE" if self._process_is_gone() else self.state.status

    def _process_is_gone(self) -> bool:
        state = self.state
        return state.status == "RUNNING" and state.owner is not None and is_alive(state.owner) is False


def newest_run(folder: Path) -> Path:
    """Return the run below a folder that has written to its journal last.

    Raises
    ------
    DataError
        Where there is none.
    """
    journals = list(folder.rglob(FILE_NAME))
    if not journals:
        raise DataError(f"{folder} must hold a run, got none; name one, or start one with: python train.py")
    return max(journals, key=lambda path: path.stat().st_mtime).parent
