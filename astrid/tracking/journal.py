"""The journal of a run: what happened, line by line, in the run folder before it is anywhere else.

It is append-only and knows nothing of MLflow, so that a tracking server which is slow, down or absent costs a run
nothing: whatever the server lacks is replayed from here.
"""

from __future__ import annotations

import logging
import math
import os
import posixpath
import re
import threading
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Literal

from filelock import FileLock

from ..config import DataError, RunError
from ..config.secrets import scrub_values
from .owner import is_alive, now_ms, this_process
from .records import (
    Artifact,
    Attached,
    Dataset,
    Ended,
    Metrics,
    Model,
    ModelUsed,
    ParamChanged,
    Params,
    Record,
    RunStarted,
    Tags,
    encode,
    read_records,
    scrubbed,
)

log = logging.getLogger(__name__)

FILE_NAME = "journal.jsonl"
CLAIM = "journal.lock"
LONGEST_KEY = 250  # characters that MLflow allows in a name
LONGEST_DIGEST = 36
CUT_SHORT = b" cut short\n"  # ends a torn line so that it stays no record, even one that lacked only its newline
Status = Literal["FINISHED", "FAILED", "KILLED"]


class StillRunning(DataError):
    """The process that writes to the run lives."""


class Journal:
    """Append-only record of one run; use `create` for a new run and `open` for one that exists.

    Several threads of the process may write to it.
    """

    def __init__(self, run_dir: Path, started: RunStarted) -> None:
        self.run_dir = run_dir
        self.started = started
        self.owner: Attached | None = None
        self.status: str = "RUNNING"
        self.params: dict[str, str] = {}
        self._points: dict[tuple[str, int], float] = {}
        self._models: set[str] = set()
        self._torn = False
        self._lock = threading.RLock()

    @classmethod
    def create(cls, run_dir: Path, *, name: str, experiment: str) -> Journal:
        """Start the journal of a new run and claim its folder, which no other run can then do.

        Raises
        ------
        DataError
            If the folder already holds a run.
        """
        run_dir.mkdir(parents=True, exist_ok=True)
        try:
            (run_dir / FILE_NAME).touch(exist_ok=False)
        except FileExistsError:
            remedy = f"choose another run_dir, or continue that run with training.resume={run_dir}"
            raise DataError(f"{run_dir} already holds a run; {remedy}") from None
        started = RunStarted(uuid.uuid4().hex, name, experiment, now_ms())
        journal = cls(run_dir, started)
        journal._append(started)
        journal._append(this_process())
        return journal

    @classmethod
    def open(cls, run_dir: Path) -> Journal:
        """Read the journal of a run that exists, up to its last whole line.

        Raises
        ------
        DataError
            If the folder holds no run, or one that was killed before its first line was written.
        """
        path = run_dir / FILE_NAME
        if not path.is_file():
            raise DataError(f"{run_dir} holds no run: {FILE_NAME} is missing; give the folder of a run")
        first = next((record for record, _ in read_records(path)), None)
        if not isinstance(first, RunStarted):
            raise DataError(f"{path} doesn't say which run it belongs to; start a new run")
        journal = cls(run_dir, first)
        journal._read()
        return journal

    @property
    def path(self) -> Path:
        """Where the journal is."""
        return self.run_dir / FILE_NAME

    def attach(self) -> None:
        """Continue a run in this process: it is RUNNING again.

        Raises
        ------
        StillRunning
            If the process that writes to the run lives.
        """
        with self._turn():
            self._end_if_killed()
            self._append(this_process())

    def end_if_killed(self) -> None:
        """End a run as KILLED whose process is gone without saying how it ended.

        Raises
        ------
        StillRunning
            If the process lives.
        """
        if self.owner is not None:
            with self._turn():
                self._end_if_killed()

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Let one process at a time look whose the run is, and change that; what others wrote meanwhile is known then.

        The lock is not held while the run goes on: loader processes would inherit it, and outlive a killed run.
        """
        with FileLock(self.run_dir / CLAIM):
            self._read()
            yield

    def _read(self) -> None:
        for record, _ in read_records(self.path):
            self._note(record)
        self._torn = not self.path.read_bytes().endswith(b"\n")

    def _end_if_killed(self) -> None:
        if self.owner is None:
            return
        where = f"process {self.owner.pid} on {self.owner.host}"
        match is_alive(self.owner):
            case True:
                raise StillRunning(f"{self.run_dir} is still being written by {where}; wait for it or stop it")
            case False:
                last_sign = int(self.path.stat().st_mtime * 1000)
                self._append(Ended("KILLED", f"{where} ended without a word", last_sign))
            case None:
                log.warning("%s was left unfinished by %s; from here nobody can tell if it lives", self.run_dir, where)

    def write_params(self, values: Mapping[str, str]) -> None:
        """Record parameters; one that is known with another value is recorded as changed."""
        for key in values:
            check_name("parameter", key)
        values = scrub_values(values)  # before they are compared with what was recorded
        fresh = {key: value for key, value in values.items() if key not in self.params}
        changed = {key: value for key, value in values.items() if self.params.get(key, value) != value}
        if fresh:
            self._append(Params(fresh))
        for key, value in changed.items():
            self._append(ParamChanged(key, old=self.params[key], new=value))

    def write_tags(self, values: Mapping[str, str]) -> None:
        """Record tags; a later value replaces an earlier one."""
        for key in values:
            check_name("tag", key)
        if values:
            self._append(Tags(dict(values)))

    def write_metrics(self, values: Mapping[str, float], *, step: int) -> None:
        """Record the metrics of one step and see them safely onto the disk.

        A point whose name and step are known is left out, so that an epoch which a resumed run repeats isn't doubled.
        A value that is not finite is left out too, with a warning: MLflow would turn infinity into 1.8e308.
        """
        with self._lock:  # or two threads could both find a point fresh
            fresh = {name: float(value) for name, value in values.items() if self._is_fresh(name, float(value), step)}
            if fresh:
                self._append(Metrics(fresh, step, now_ms()), durable=True)

    def recorded(self, names: Iterable[str], *, step: int) -> dict[str, float]:
        """Return what is recorded of a step under these names; the first value of each, since it is what MLflow has."""
        with self._lock:
            return {name: self._points[name, step] for name in names if (name, step) in self._points}

    def last_step(self, prefix: str) -> int:
        """Return the last step of the metrics whose name starts so; 0 where there are none."""
        with self._lock:
            return max((step for name, step in self._points if name.startswith(prefix)), default=0)

    def write_artifact(self, path: Path, *, folder: str = "") -> None:
        """Record a file of the run folder, which goes to an artifact folder of the same or another name."""
        self._append(Artifact(self._relative(path), folder))

    def write_dataset(self, name: str, *, digest: str, source: str, context: str) -> None:
        """Record what data the run read; a digest is cut to the 36 characters that MLflow keeps."""
        self._append(Dataset(name, digest[:LONGEST_DIGEST], source, context))

    def write_model(self, path: Path, *, step: int) -> None:
        """Record a saved model, a folder of the run folder."""
        self._append(Model(uuid.uuid4().hex, self._relative(path), step), durable=True)

    def write_model_used(self, model_id: str) -> None:
        """Record which model of MLflow the run judges."""
        self._append(ModelUsed(model_id))

    def holds_model(self, path: Path) -> bool:
        """Say whether a saved model is recorded already."""
        return self._relative(path) in self._models

    def write_end(self, status: Status, *, reason: str | None = None) -> None:
        """Record how the run ended."""
        self._append(Ended(status, reason, now_ms()), durable=True)

    def _is_fresh(self, name: str, value: float, step: int) -> bool:
        check_name("metric", name)
        if (name, step) in self._points:
            return False
        if not math.isfinite(value):
            log.warning("%s is %s at step %d and is not recorded: it is no number", name, value, step)
        return math.isfinite(value)

    def _relative(self, path: Path) -> str:
        inside = path if path.is_absolute() else self.run_dir / path
        return inside.resolve().relative_to(self.run_dir.resolve()).as_posix()

    def _append(self, record: Record, *, durable: bool = False) -> None:
        with self._lock:
            self._write(record, durable=durable)

    def _write(self, record: Record, *, durable: bool) -> None:
        record = scrubbed(record)
        line = encode(record)
        data = CUT_SHORT + line if self._torn else line
        self._torn = True  # until the whole line is written, whatever interrupts it
        try:
            with FileIO(self.path, "a") as file:
                while data:
                    data = data[file.write(data) :]
                if durable:
                    os.fsync(file.fileno())
        except OSError as error:
            remedy = f"make room, then continue with training.resume={self.run_dir}"
            raise RunError(f"cannot write {self.path}: {error.strerror}; {remedy}") from error
        self._torn = False
        self._note(record)

    def _note(self, record: Record) -> None:
        match record:
            case RunStarted():
                self.started = record
            case Attached():
                self.owner, self.status = record, "RUNNING"
            case Params(values):
                self.params |= values
            case ParamChanged(key, _, new):
                self.params[key] = new
            case Metrics(values, step):
                self._points |= {(name, step): value for name, value in values.items()}
            case Model(path=path):
                self._models.add(path)
            case Ended(status):
                self.owner, self.status = None, status


def check_name(what: str, name: str) -> None:
    """Refuse a name of a metric, parameter or tag that MLflow would refuse later.

    Raises
    ------
    ValueError
        If the name has a character other than letters, digits and ``_ - . : / space``, is no plain relative path, or
        is too long.
    """
    plain = re.fullmatch(r"[\w\-.:/ ]+", name) and posixpath.normpath(name) == name
    if not plain or name.startswith(("/", "..")) or name == "." or len(name) > LONGEST_KEY:
        rule = f"at most {LONGEST_KEY} letters, digits and _ - . : / space, as in val/loss"
        raise ValueError(f"a {what} name must be {rule}, got {name!r}; rename it")
