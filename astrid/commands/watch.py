"""Follow a run live in the terminal, from its journal alone.

It shows how far the run is, its curves, what the machine does, alerts and energy, and leaves when the run ends: with
exit code 0 where it finished, 1 where it failed, was killed, or its process is gone. Where the output is no terminal
it prints a line for each epoch and each alert. Watching changes nothing, so any number may watch a run.

  astrid watch                            the run in outputs/runs that has written last
  astrid watch outputs/runs/<run>         another one
  astrid watch --once                     how it stands now
  astrid watch > progress.txt             a line for each epoch
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ..config import ConfigError
from ..config.compose import PROJECT_ROOT

RUNS = Path("outputs/runs")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("run", nargs="?", type=Path, metavar="RUN", help="run folder, as in outputs/runs/...")
    parser.add_argument("--once", action="store_true", help="show how the run stands, and leave")
    parser.add_argument("--interval", type=float, default=1.0, metavar="SECONDS", help="time between two looks (1)")


def run(arguments: argparse.Namespace) -> int:
    """Follow the named run, or the newest."""
    from rich.console import Console

    from ..watch import follow, show_once
    from ..watch.state import newest_run

    if not 0 < arguments.interval <= 3600:
        raise ConfigError(f"--interval must be above 0 and at most 3600 s, got {arguments.interval:g}; try 1")
    folder = arguments.run or newest_run(RUNS if RUNS.is_dir() else PROJECT_ROOT / RUNS)
    console = Console()
    if arguments.once:
        return show_once(folder, console=console)
    return follow(folder, console=console, interval_seconds=arguments.interval)
