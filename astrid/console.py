"""What a person sees while a run goes on: live bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from astrid.training import EpochRecord, StepReport
from astrid.units import counted

log = logging.getLogger(__name__)
T = TypeVar("T")

console = Console()


def announce(items: Iterable[T], what: str, count: int) -> Iterator[T]:
    """Pass on what is prepared with a bar on a terminal, or with one line where there is none."""
    yield from show_progress(items, what, count, doing="preparing")


def show_progress(items: Iterable[T], what: str, count: int, *, doing: str) -> Iterator[T]:
    """Pass items on with a bar on a terminal, or with one line where there is none."""
    if not console.is_terminal:
        log.info("%s %s", doing, counted(count, what.removesuffix("s")))
        yield from items
        return
    with Progress(*_columns(), console=console, transient=True) as bar:
        yield from bar.track(items, total=count, description=f"{doing} {what}")


def _columns() -> tuple[TextColumn, BarColumn, MofNCompleteColumn, TimeElapsedColumn, TimeRemainingColumn]:
    return (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )


class TrainingView:
    """Bar of the current epoch, and one line for each finished one."""

    def __init__(self, epochs: int, *, monitor: str, bar: Progress | None, label: str = "") -> None:
        self.epochs, self.monitor, self._label, self._bar = epochs, monitor, label, bar
        self._last: float | None = None
        self._task = bar.add_task("epoch 1", total=None) if bar is not None else None

    def step(self, report: StepReport) -> None:
        """Move the bar; off a terminal do nothing."""
        if self._bar is None or self._task is None:
            return
        parts = [f"{self._label}epoch {report.epoch}/{self.epochs}", f"{report.images_per_second:.0f} img/s"]
        if report.loss is not None:
            parts.insert(1, f"loss {report.loss:.4f}")
        if self._last is not None:
            parts.append(f"{self.monitor} {self._last:.4f}")
        if report.watts is not None:
            parts.append(f"{report.watts:.0f} W")
        done = (report.epoch - 1) * report.batches + report.batch
        self._bar.update(self._task, completed=done, total=self.epochs * report.batches, description="  ".join(parts))

    def epoch(self, record: EpochRecord) -> None:
        """Print what an epoch came to; a star marks the best so far."""
        values = record.values
        self._last = values[self.monitor]
        shown = {name: values[name] for name in ("train/loss", "val/loss", self.monitor) if name in values}
        numbers = "  ".join(f"{name} {value:.4f}" for name, value in shown.items())
        rate = f"{values['train/images_per_second']:.0f} img/s"
        seconds = f"{values['train/seconds'] + values['val/seconds']:.1f} s"
        star = " *" if record.best else ""
        console.print(
            f"{self._label}epoch {record.epoch:>3}/{self.epochs}  {numbers}  {rate}  {seconds}{star}",
            highlight=False,
            soft_wrap=True,
        )


@contextmanager
def training_view(epochs: int, *, monitor: str, label: str = "") -> Iterator[TrainingView]:
    """Show training for as long as the context lasts; `label` begins every line."""
    if not console.is_terminal:
        yield TrainingView(epochs, monitor=monitor, label=label, bar=None)
        return
    with Progress(*_columns(), console=console, transient=True) as bar:
        yield TrainingView(epochs, monitor=monitor, label=label, bar=bar)


def print_table(title: str, rows: Iterable[tuple[str, ...]], *, columns: tuple[str, ...]) -> None:
    """Print a table; the first column is text, the others are numbers. Its title is a line of its own, never folded."""
    table = Table(show_edge=False, pad_edge=False)
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    console.print(title, style="italic", markup=False, highlight=False, soft_wrap=True)
    console.print(table)


def print_plain(text: str) -> None:
    """Print a line as it is, never wrapped, so that paths and commands can be copied."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)
