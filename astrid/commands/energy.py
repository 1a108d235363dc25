"""Say where the energy of runs went, what an image cost, and what would save some.

  astrid energy outputs/runs/A                               totals, phases, joules of an image, advice
  astrid energy outputs/runs/A outputs/runs/B                runs beside each other, and their Pareto front
  astrid energy --sweep depth_filters --reach val/auprc=0.85 energy until that was reached, run by run
  astrid energy outputs/runs/A --csv tables --figures plots  runs.csv, phases.csv, samples.csv; PNG files

Each run is read from its folder, also while it goes on: the ledger energy.jsonl is the source, so that the total may
be a little above the one that the run logged before it wrote its report. What was not measured is `unavailable`, never
0. Advice is given only where half a minute of samples supports it.
"""

from __future__ import annotations

import argparse
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from ..config import EPOCH_METRICS, ConfigError
from .compare import add_choice, check_choice, check_folder, find, uncollected, write
from .compare import open_store as open_store_at

if TYPE_CHECKING:
    from ..energy import EnergyAnalyzer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    add_choice(parser)
    parser.add_argument("--metric", default="test/auprc", help="what energy is weighed against (default: %(default)s)")
    parser.add_argument(
        "--reach", type=_target, metavar="METRIC=VALUE", help="energy until an epoch was as good as that"
    )
    parser.add_argument("--csv", type=Path, metavar="DIR", help="write tables there")
    parser.add_argument("--figures", type=Path, metavar="DIR", help="draw figures there")


def run(arguments: argparse.Namespace) -> int:
    """Analyse, print, and write what was asked for."""
    check_choice(arguments)
    for folder in (arguments.csv, arguments.figures):
        check_folder(folder)
    with uncollected():
        analyzer = analyse(arguments)
    print_findings(analyzer, arguments)
    if arguments.csv is not None:
        write_tables(analyzer, arguments.csv)
    if arguments.figures is not None:
        draw(analyzer, arguments)
    return 0


def analyse(arguments: argparse.Namespace) -> EnergyAnalyzer:
    """Read the runs that the command line names, each from its folder."""
    from ..energy import EnergyAnalyzer
    from ..energy_runs import read_run
    from ..tracking.stored_runs import FOLDER_TAG

    runs = find(arguments, cache(lambda: open_store_at(arguments.uri)))
    folders = [run.tags.get(FOLDER_TAG) for run in runs]
    for run, folder in zip(runs, folders, strict=True):
        if folder is None or not Path(folder).is_dir():
            rule, remedy = "a run whose folder is on this machine", "look at it where it ran"
            raise ConfigError(f"RUN must be {rule}, got {run.name}; {remedy}")
    return EnergyAnalyzer([read_run(str(folder)) for folder in folders])


def print_findings(analyzer: EnergyAnalyzer, arguments: argparse.Namespace) -> None:
    """Print every run, and what several of them tell together."""
    from ..energy.tables import describe, describe_reached

    print("\n\n".join(describe(analyzer, run.name) for run in analyzer.runs))
    if arguments.reach is not None:
        metric, value = arguments.reach
        print("\n" + describe_reached(analyzer.to_reach(metric, value), metric, value))
    if not any(arguments.metric in one.metrics for one in analyzer.runs):
        print(f"\nno run here has {arguments.metric}: nothing is weighed against it")
    front = analyzer.pareto(arguments.metric, lower=_lower(arguments.metric))
    if len(analyzer.runs) > 1 and front:
        print(f"\nno other run has both less energy and a better {arguments.metric} than:")
        for one in front:
            print(f"  {one.name}: {one.metrics[arguments.metric]:.4g} for {one.total_kwh:.4g} kWh")


def write_tables(analyzer: EnergyAnalyzer, folder: Path) -> None:
    """Write the tables as CSV."""
    from ..energy.tables import tables

    folder.mkdir(exist_ok=True)
    for name, text in tables(analyzer).items():
        write(folder / name, text)
        print(folder / name)


def draw(analyzer: EnergyAnalyzer, arguments: argparse.Namespace) -> None:
    """Draw the figures that the runs support."""
    from ..energy.figures import energy_figures

    arguments.figures.mkdir(exist_ok=True)
    for name, figure in energy_figures(analyzer, arguments.metric, lower=_lower(arguments.metric)).items():
        path = arguments.figures / f"{name}.png"
        figure.savefig(path)
        print(path)


def _lower(metric: str) -> bool:
    from ..compare.ranking import lower_is_better

    return lower_is_better(metric)


def _target(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    if name not in EPOCH_METRICS:
        raise argparse.ArgumentTypeError(f"METRIC must be one of {', '.join(EPOCH_METRICS)}, got {name!r}")
    try:
        return name, float(value)
    except ValueError:
        raise argparse.ArgumentTypeError(f"VALUE must be a number, got {value!r}") from None
