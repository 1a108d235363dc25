"""Energy readings as records, their sums, and the file in the run folder that keeps them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from astrid.config import DataError

from .sources import LABELS, Label


@dataclass(frozen=True)
class Component:
    """Energy of one component (GPU or CPU) over some time."""

    joules: float | None
    """None, and never 0, where nothing was measured."""
    label: Label
    source: str
    """The sensor's name, "none" without one."""
    reason: str | None = None
    """Why there are no joules."""

    def __post_init__(self) -> None:
        if (self.joules is None) != (self.label == "unavailable"):
            raise ValueError(f"joules must be None exactly where the label is 'unavailable', got {self}")


@dataclass(frozen=True)
class PhaseEnergy:
    """Energy of one phase, such as an epoch's training, or of several together."""

    phase: str
    epoch: int | None
    seconds: float
    gpu: Component
    cpu: Component


@dataclass(frozen=True)
class EnergySummary:
    """Energy of a run so far, the parts before a resume included."""

    phases: dict[str, PhaseEnergy]
    """By name of the phase, over all epochs."""
    total: PhaseEnergy

    @property
    def gpu(self) -> Component:
        """Energy of the GPUs in all phases."""
        return self.total.gpu

    @property
    def cpu(self) -> Component:
        """Energy of the CPUs in all phases."""
        return self.total.cpu

    @property
    def seconds(self) -> float:
        """Duration of all phases."""
        return self.total.seconds


def summarise(readings: Sequence[PhaseEnergy]) -> EnergySummary:
    """Sum readings by phase and altogether."""
    names = dict.fromkeys(reading.phase for reading in readings)
    phases = {name: add_phases(name, [reading for reading in readings if reading.phase == name]) for name in names}
    return EnergySummary(phases, add_phases("total", readings))


def add_phases(name: str, readings: Sequence[PhaseEnergy]) -> PhaseEnergy:
    """Sum readings under one name."""
    gpu = add_components([reading.gpu for reading in readings])
    cpu = add_components([reading.cpu for reading in readings])
    return PhaseEnergy(name, None, sum(reading.seconds for reading in readings), gpu, cpu)


def add_components(parts: Sequence[Component]) -> Component:
    """Sum the energy of a component over several phases.

    A part without energy makes the sum unavailable: a number that leaves out some of the phases would pass for a total.
    The label is that of the least trustworthy part.
    """
    if not parts:
        return Component(None, "unavailable", "none", "no phase has finished")
    source = ", ".join(dict.fromkeys(part.source for part in parts))
    joules = [part.joules for part in parts if part.joules is not None]
    if len(joules) < len(parts):
        return Component(None, "unavailable", source, _why_missing(parts))
    return Component(sum(joules), max((part.label for part in parts), key=LABELS.index), source)


def _why_missing(parts: Sequence[Component]) -> str:
    missing = [part for part in parts if part.joules is None]
    reason = "; ".join(dict.fromkeys(part.reason or "unknown" for part in missing))
    return reason if len(missing) == len(parts) else f"missing in {len(missing)} of {len(parts)} phases: {reason}"


class Ledger:
    """Readings of a run, kept as JSON lines in an append-only file that outlives a killed process.

    Each line carries the session (a process that opened the file) and the span within it. A span that is still open
    is written now and then with `finished` false; its later lines replace the earlier ones, so that a killed run has
    lost a few seconds at most and nothing counts twice.

    Parameters
    ----------
    path : Path or None
        File to continue or to begin; None keeps the readings in memory only.

    Raises
    ------
    DataError
        A line other than a torn last one cannot be read.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        spans = _read_spans(path) if path is not None and path.exists() else {}
        self._session = 1 + max((session for session, _ in spans), default=0)
        self._readings = list(spans.values())

    @property
    def readings(self) -> tuple[PhaseEnergy, ...]:
        """All finished phases, and those in which an earlier process was killed."""
        return tuple(self._readings)

    def finish(self, span: int, reading: PhaseEnergy) -> None:
        """Keep the reading of a finished span."""
        self._readings.append(reading)
        self._append(span, reading, finished=True)

    def save_open(self, span: int, reading: PhaseEnergy) -> None:
        """Put the reading of a span that goes on into the file, in case the process is killed."""
        self._append(span, reading, finished=False)

    def _append(self, span: int, reading: PhaseEnergy, *, finished: bool) -> None:
        if self._path is None:
            return
        record = {"session": self._session, "span": span, "finished": finished, **asdict(reading)}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")


def _read_spans(path: Path) -> dict[tuple[int, int], PhaseEnergy]:
    """Read the last line of each (session, span), after cutting off a line torn by a killed process."""
    text = path.read_bytes()
    complete = text.rfind(b"\n") + 1
    if complete < len(text):
        with path.open("r+b") as file:
            file.truncate(complete)
    lines = text[:complete].decode("utf-8", errors="replace").splitlines()
    return dict(_parse_line(path, number, line) for number, line in enumerate(lines, start=1))


def _parse_line(path: Path, number: int, line: str) -> tuple[tuple[int, int], PhaseEnergy]:
    try:
        record: dict[str, Any] = json.loads(line)
        del record["finished"]
        key = (int(record.pop("session")), int(record.pop("span")))
        gpu, cpu = Component(**record.pop("gpu")), Component(**record.pop("cpu"))
        return key, PhaseEnergy(**record, gpu=gpu, cpu=cpu)
    except (ValueError, KeyError, TypeError) as error:
        rule = "must be a span of this version's energy ledger"
        remedy = "move the file away to go on without the energy of earlier parts"
        raise DataError(f"{path}, line {number}: {rule}, got {line[:80]!r}; {remedy}") from error
