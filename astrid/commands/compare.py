"""Rank runs by a metric, with its uncertainty and cost, and say what differs between them.

  astrid compare --sweep depth_filters                  the runs of a sweep
  astrid compare --experiment astrid --limit 10         an MLflow experiment, the best ten
  astrid compare outputs/runs/A outputs/runs/B          run folders, which needs no MLflow
  astrid compare unet-d3-f16-simulated-e3d33b8e 0af1... names or ids of MLflow runs
  astrid compare --experiment astrid --html page.html   figures as well: one file, no network

Runs that saw different data are ranked apart: their numbers can't be compared. Energy that nobody measured is
"unavailable", never 0. An interval [low, high] is that of METRIC_low and METRIC_high, where a run logged them; two runs
whose intervals overlap can't be told apart by them; pairing their test fields, as the gate does, may tell more.
"""

from __future__ import annotations

import argparse
import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from ..compare import compare
from ..compare.page import render_page
from ..compare.tables import FORMATS, render
from ..config import EPOCH_METRICS, ConfigError
from ..config.compose import load
from ..tracking.stored_runs import RunStore, StoredRun, read_folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    add_choice(parser)
    parser.add_argument("--metric", default="test/auprc", help="what to rank by (default: %(default)s)")
    parser.add_argument("--format", choices=FORMATS, default="table", help="(default: %(default)s)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write there instead of to the terminal")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page with figures, of all runs")
    parser.add_argument("--limit", type=_positive, metavar="N", help="show the best N only; a page shows all")


def run(arguments: argparse.Namespace) -> int:
    """Compare, print or write."""
    check_choice(arguments)
    for path in (arguments.output, arguments.html):
        check_file(path)
    with uncollected():
        comparison = compare(read(arguments), arguments.metric)
    text = render(comparison, arguments.format, limit=arguments.limit)
    if arguments.output is None:
        print(text, end="")
    else:
        write(arguments.output, text)
    if arguments.html is not None:
        write(arguments.html, render_page(comparison, title=title(arguments)))
    return 0


def add_choice(parser: argparse.ArgumentParser) -> None:
    """Declare the ways to name runs, which `check_choice` and `find` take up."""
    parser.add_argument("run", nargs="*", metavar="RUN", help="run folder, or id or name of an MLflow run")
    parser.add_argument("--sweep", metavar="NAME", help="all runs of a sweep, by name or folder of outputs/sweeps")
    parser.add_argument("--experiment", metavar="NAME", help="all runs of an MLflow experiment")
    parser.add_argument("--uri", help="MLflow database or server (default: tracking.uri of conf/)")


def check_choice(arguments: argparse.Namespace) -> None:
    """Refuse none or several of the three ways to name runs.

    Raises
    ------
    ConfigError
        Saying what to give.
    """
    ways = {
        f"--sweep {arguments.sweep}": arguments.sweep is not None,
        f"--experiment {arguments.experiment}": arguments.experiment is not None,
        f"RUN {' '.join(arguments.run)}": bool(arguments.run),
    }
    given = [way for way, is_given in ways.items() if is_given]
    if len(given) != 1:
        rule = "one of --sweep NAME, --experiment NAME or RUN..."
        got = " and ".join(given) or "none"
        raise ConfigError(f"what to compare must be {rule}, got {got}; try --experiment astrid")


def check_folder(path: Path | None) -> None:
    """Refuse, before the work, a file that can't be written for want of its folder.

    Raises
    ------
    ConfigError
        Naming the folder.
    """
    if path is not None and not path.parent.is_dir():
        raise ConfigError(f"the folder of a file to write must exist, got {path}; make {path.parent} first")


def check_file(path: Path | None) -> None:
    """Refuse, before the work, a file that can't be written: one without its folder, or a folder.

    Raises
    ------
    ConfigError
        Naming the folder.
    """
    check_folder(path)
    if path is not None and path.is_dir():
        raise ConfigError(f"{path} must be a file that can be written, but is a folder; name a file in it")


def write(path: Path, text: str) -> None:
    """Write a file.

    Raises
    ------
    ConfigError
        Where it can't be written.
    """
    try:
        path.write_text(text)
    except OSError as error:
        raise ConfigError(f"{path} must be a file that can be written, but: {error.strerror}; name another") from error


@contextmanager
def uncollected() -> Iterator[None]:
    """Keep Python's collector of cycles from walking the objects of MLflow again and again: half of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def read(arguments: argparse.Namespace) -> list[StoredRun]:
    """Read the runs, with the histories of what a page draws, or of a metric that is logged each epoch."""
    store = cache(lambda: open_store(arguments.uri))
    runs = find(arguments, store)
    wanted = set(EPOCH_METRICS) if arguments.html else {arguments.metric} & set(EPOCH_METRICS)
    if any(name in run.metrics and name not in run.histories for run in runs for name in wanted):
        return store().with_histories(runs, sorted(wanted))
    return runs


def find(arguments: argparse.Namespace, open_store: Callable[[], RunStore]) -> list[StoredRun]:
    """Read the runs that the command line names, each once; the store is opened only if one is there."""
    if arguments.sweep is not None:
        return open_store().of_sweep(arguments.sweep)
    if arguments.experiment is not None:
        return open_store().of_experiment(arguments.experiment)
    runs: dict[str, StoredRun] = {}
    for name in arguments.run:
        is_folder = Path(name).is_dir() or "/" in name
        for found in [read_folder(Path(name))] if is_folder else open_store().of_name(name):
            runs.setdefault(found.tags.get("astrid.run_uid", found.run_id), found)
    return list(runs.values())


def title(arguments: argparse.Namespace) -> str:
    """Return a title for the page."""
    if arguments.sweep is not None:
        return f"Sweep {arguments.sweep}"
    return f"Experiment {arguments.experiment}" if arguments.experiment is not None else "Comparison of runs"


def open_store(uri: str | None) -> RunStore:
    """Open the MLflow that the command line names, or that of the configuration."""
    return RunStore(uri if uri is not None else load().tracking.uri)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number
