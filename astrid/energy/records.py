"""Readings of energy as records, and their sums."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from .sources import LABELS, Label

IDLE = "idle"
"""Phase of the machine before the run begins: reported beside the total, and no part of it."""


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
    error_joules: float | None = None
    """Half width of the interval that a counter's ticks leave; None where it is unknown, or nothing ticks."""
    check_joules: float | None = None
    """The same energy from sampled power, where a counter could be compared with it."""

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

    @property
    def joules(self) -> float | None:
        """All components that were measured together; None where none was."""
        known = [part.joules for part in (self.gpu, self.cpu) if part.joules is not None]
        return sum(known) if known else None


@dataclass(frozen=True)
class Sample:
    """State of the machine at one moment of a run; what is unknown is None."""

    session: int
    time: float
    """Seconds since 1970, since a resumed run has several clocks."""
    phase: str
    epoch: int | None = None
    gpu_watts: float | None = None
    """Mean of the last two seconds or so, as `cpu_watts`."""
    cpu_watts: float | None = None
    busy_percent: float | None = None
    memory_bytes: int | None = None
    celsius: float | None = None
    clock_mhz: float | None = None
    throttles: tuple[str, ...] | None = None
    other_processes: int | None = None


@dataclass(frozen=True)
class EnergySummary:
    """Energy of a run so far, the parts before a resume included."""

    phases: dict[str, PhaseEnergy]
    """By name of the phase, over all epochs. They follow each other without a gap: their sum is the total."""
    total: PhaseEnergy
    idle: PhaseEnergy | None = None
    """What the idle machine used before the run began, where that was measured."""
    notes: tuple[str, ...] = ()
    """What somebody who trusts the numbers should know."""

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


@dataclass(frozen=True)
class Known:
    """What is known of the energy of a run, where a component was measured for a part of it only.

    Attributes
    ----------
    joules : float or None
        Of every component over the time in which it was measured; None where nothing was.
    missing : tuple of str
        Components that were measured in one phase and not in another, "GPU" or "CPU".
    """

    joules: float | None
    missing: tuple[str, ...]


def add_known(readings: Sequence[PhaseEnergy]) -> Known:
    """Sum the joules that are known; unlike `add_phases` a part without energy leaves the others in the sum."""
    joules, missing = [], []
    run = [reading for reading in readings if reading.phase != IDLE]
    for name in ("gpu", "cpu"):
        parts = [getattr(reading, name).joules for reading in run]
        known = [part for part in parts if part is not None]
        joules += known
        if known and len(known) < len(parts):
            missing.append(name.upper())
    return Known(sum(joules) if joules else None, tuple(missing))


def summarise(readings: Sequence[PhaseEnergy], *, sessions: int = 1, notes: Sequence[str] = ()) -> EnergySummary:
    """Sum readings by phase and altogether; `sessions` is the number of processes that they come from."""
    idle = [reading for reading in readings if reading.phase == IDLE]
    own = [reading for reading in readings if reading.phase != IDLE]
    names = dict.fromkeys(reading.phase for reading in own)
    phases = {name: add_phases(name, [reading for reading in own if reading.phase == name]) for name in names}
    total = add_phases("total", own)
    gpu, cpu = (
        _at_its_ends(whole, [getattr(reading, name) for reading in own], sessions)
        for name, whole in (("gpu", total.gpu), ("cpu", total.cpu))
    )
    total = dataclasses.replace(total, gpu=gpu, cpu=cpu)
    return EnergySummary(phases, total, add_phases(IDLE, idle) if idle else None, tuple(dict.fromkeys(notes)))


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
    return Component(
        sum(joules),
        max((part.label for part in parts), key=LABELS.index),
        source,
        error_joules=_sum_of_all([part.error_joules for part in parts]),
        check_joules=_sum_of_all([part.check_joules for part in parts]),
    )


def _at_its_ends(whole: Component, parts: Sequence[Component], sessions: int) -> Component:
    """Let only the ends of each process count for the error: within, what one phase lacks the next one has."""
    errors = [part.error_joules for part in parts if part.error_joules is not None]
    if whole.error_joules is None or not errors:
        return whole
    return dataclasses.replace(whole, error_joules=min(whole.error_joules, sessions * max(errors)))


def _sum_of_all(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def _why_missing(parts: Sequence[Component]) -> str:
    missing = [part for part in parts if part.joules is None]
    reason = "; ".join(dict.fromkeys(part.reason or "unknown" for part in missing))
    return reason if len(missing) == len(parts) else f"missing in {len(missing)} of {len(parts)} phases: {reason}"
