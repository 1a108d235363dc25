"""Follow a run until it ends."""

from __future__ import annotations

import time
from pathlib import Path

from rich.console import Console
from rich.live import Live

from astrid.terminal import draws_bars
from astrid.tracking.owner import now_ms

from .state import Reader
from .view import end_line, lines_of, page


def follow(run_dir: Path, *, console: Console, interval_seconds: float) -> int:
    """Show a run until it ends: a page on a terminal, elsewhere a line for each epoch and alert.

    Parameters
    ----------
    run_dir : Path
        Folder of the run.
    console : Console
        Where to show it.
    interval_seconds : float
        Time between two looks at the journal.

    Returns
    -------
    int
        0 where the run has finished, 1 where it failed, was killed, or its process is gone.

    Raises
    ------
    DataError
        Where the folder holds no run.
    """
    reader = Reader(run_dir)
    reader.refuse_what_never_begins()
    status = _follow_page if draws_bars(console) else _follow_lines
    return exit_code(status(reader, console, interval_seconds))


def show_once(run_dir: Path, *, console: Console) -> int:
    """Show how a run stands; the exit code is that of `follow`, and 0 for a run that goes on."""
    reader = Reader(run_dir)
    _, status = reader.look()
    console.print(page(reader.state, run_dir, now_ms=now_ms(), status=status, console=console))
    return 0 if status == "RUNNING" else exit_code(status)


def exit_code(status: str) -> int:
    """Return 0 for a run that has finished and 1 for any other end."""
    return 0 if status == "FINISHED" else 1


def _follow_page(reader: Reader, console: Console, interval_seconds: float) -> str:
    with Live(console=console, auto_refresh=False) as live:
        while True:
            _, status = reader.look()
            shown = page(reader.state, reader.run_dir, now_ms=now_ms(), status=status, console=console)
            live.update(shown, refresh=True)
            if status != "RUNNING":
                return status
            time.sleep(interval_seconds)


def _follow_lines(reader: Reader, console: Console, interval_seconds: float) -> str:
    while True:
        fresh, status = reader.look()
        for record in fresh:
            for line in lines_of(record, reader.state):
                _say(console, line)
        if status != "RUNNING":
            _say(console, end_line(reader.state, reader.run_dir, status=status))
            return status
        time.sleep(interval_seconds)


def _say(console: Console, line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)
