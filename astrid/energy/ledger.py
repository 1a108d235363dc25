"""The file in the run folder that keeps energy readings, whatever happens to the process."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from io import FileIO
from pathlib import Path
from typing import Any

from astrid.config import DataError

from .records import Component, PhaseEnergy, Sample

LEDGER = "energy.jsonl"
"""Name of the file in the folder of a run."""


@dataclass
class LedgerContents:
    """What a ledger holds.

    Attributes
    ----------
    spans : dict
        The last reading of each (session, span), in the order in which they began; a session is a process that wrote.
    samples : list of Sample
        The state of the machine, about once a second.
    notes : list of str
        What somebody who trusts the numbers should know.
    """

    spans: dict[tuple[int, int], PhaseEnergy] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class Ledger:
    """Readings of a run, kept as JSON lines in an append-only file that outlives a killed process.

    A span that is still open is written now and then with `finished` false; its later lines replace the earlier ones,
    so that a killed run has lost a few seconds at most and nothing counts twice.

    Parameters
    ----------
    path : Path or None
        File to continue or to begin; None keeps everything in memory until `keep_in` says where it goes.

    Raises
    ------
    DataError
        A line other than a torn last one cannot be read.
    """

    def __init__(self, path: Path | None) -> None:
        self._path: Path | None = None
        self._session = 1
        self._earlier = LedgerContents()
        self._readings: list[PhaseEnergy] = []
        self._notes: list[str] = []
        self._waiting: list[dict[str, Any]] = []
        if path is not None:
            self.keep_in(path)

    def keep_in(self, path: Path) -> None:
        """Write to a file from now on, first what is in memory; go on after what earlier processes wrote there."""
        if path.exists():
            _cut_torn_line(path)
            self._earlier = read_ledger(path)
        sessions = [session for session, _ in self._earlier.spans] + [one.session for one in self._earlier.samples]
        self._session = 1 + max(sessions, default=0)
        self._path = path
        self._write([])

    @property
    def readings(self) -> tuple[PhaseEnergy, ...]:
        """All finished phases, and those in which an earlier process was killed."""
        return (*self._earlier.spans.values(), *self._readings)

    @property
    def notes(self) -> tuple[str, ...]:
        """Everything that was noted, by earlier processes too."""
        return (*self._earlier.notes, *self._notes)

    @property
    def sessions(self) -> int:
        """Number of processes that have written, this one included."""
        return 1 + len({session for session, _ in self._earlier.spans})

    def finish(self, span: int, reading: PhaseEnergy) -> None:
        """Keep the reading of a finished span."""
        self._readings.append(reading)
        self._write([{"span": span, "finished": True, **asdict(reading)}])

    def save_open(self, span: int, reading: PhaseEnergy) -> None:
        """Put the reading of a span that goes on into the file, in case the process is killed."""
        self._write([{"span": span, "finished": False, **asdict(reading)}])

    def note(self, text: str) -> None:
        """Keep what somebody who trusts the numbers should know, once."""
        if text not in self.notes:
            self._notes.append(text)
            self._write([{"note": text}])

    def sample(self, sample: Sample) -> None:
        """Keep the state of the machine at one moment."""
        known = {name: value for name, value in asdict(sample).items() if value is not None and name != "session"}
        self._write([{"sample": known}])

    def _write(self, records: list[dict[str, Any]]) -> None:
        """Append whole lines or none; what could not be written waits for the next time."""
        self._waiting += records
        if self._path is None or not self._waiting:
            return
        text = "".join(json.dumps({"session": self._session, **record}) + "\n" for record in self._waiting)
        with FileIO(self._path, "a") as file:
            size = os.fstat(file.fileno()).st_size
            data = text.encode()
            try:
                while data:
                    data = data[file.write(data) :]
            except OSError:  # as of a full disk: the next line must not be glued to half of one
                file.truncate(size)
                raise
        self._waiting = []


def read_ledger(path: Path) -> LedgerContents:
    """Read a ledger; a last line that is torn, by a killed process or since it is being written, is left out.

    Raises
    ------
    DataError
        Another line cannot be read.
    """
    text = path.read_bytes()
    lines = text[: text.rfind(b"\n") + 1].decode("utf-8", errors="replace").splitlines()
    contents = LedgerContents()
    for number, line in enumerate(lines, start=1):
        try:
            _take_in(json.loads(line), contents)
        except (ValueError, KeyError, TypeError) as error:
            rule = "must be a line of this version's energy ledger"
            remedy = "move the file away to go on without the energy of earlier parts"
            raise DataError(f"{path}, line {number}: {rule}, got {line[:80]!r}; {remedy}") from error
    return contents


def _take_in(record: dict[str, Any], contents: LedgerContents) -> None:
    session = int(record.pop("session"))
    if "note" in record:
        contents.notes.append(str(record["note"]))
    elif "sample" in record:
        values = record["sample"]
        throttles = values.get("throttles")
        fixed = {} if throttles is None else {"throttles": tuple(throttles)}
        contents.samples.append(Sample(session=session, **(values | fixed)))
    else:
        del record["finished"]
        span, gpu, cpu = int(record.pop("span")), Component(**record.pop("gpu")), Component(**record.pop("cpu"))
        contents.spans[session, span] = PhaseEnergy(**record, gpu=gpu, cpu=cpu)


def _cut_torn_line(path: Path) -> None:
    text = path.read_bytes()
    complete = text.rfind(b"\n") + 1
    if complete < len(text):
        with path.open("r+b") as file:
            file.truncate(complete)
