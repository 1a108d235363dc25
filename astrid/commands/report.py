"""Write the page of a run or a sweep: one HTML file that loads nothing.

  astrid report outputs/runs/<run>                   into the folder of the run, as report.html
  astrid report outputs/sweeps/<sweep>               the trials beside each other
  astrid report unet-d3-f16-simulated-e3d33b8e       by id or name in MLflow, where the folder is on this machine
  astrid report outputs/runs/<run> --output page.html

Everything on the page is from the folder, so that it can be made without MLflow, of a run that failed and of one that
still goes on, and again at any time. A finished run has it already, unless metrics.report=false.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ..config import ConfigError
from .compare import check_file, open_store


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("run", metavar="RUN", help="folder of a run or a sweep, or id or name of an MLflow run")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write there instead of into the folder")
    parser.add_argument("--uri", help="MLflow database or server (default: tracking.uri of conf/)")


def run(arguments: argparse.Namespace) -> int:
    """Write the page, and say where."""
    from ..report.written import write_report

    check_file(arguments.output)
    folder = folder_of(arguments.run, uri=arguments.uri)
    try:
        print(write_report(folder, output=arguments.output))
    except OSError as error:
        rule, remedy = "a place that can be written", "give another by --output"
        raise ConfigError(f"the report must go to {rule}, got {error.filename}: {error.strerror}; {remedy}") from error
    return 0


def folder_of(name: str, *, uri: str | None) -> Path:
    """Return the folder of a run that is named by it, or by the id or name of its MLflow run.

    Raises
    ------
    ConfigError
        Where there is none on this machine.
    """
    from ..tracking.stored_runs import FOLDER_TAG

    if Path(name).is_dir() or "/" in name:
        return Path(name)
    found = open_store(uri).of_name(name)
    folders = {run.tags.get(FOLDER_TAG, "") for run in found}
    if len(folders) > 1:
        known = ", ".join(sorted(folders))
        raise ConfigError(f"RUN must be one run, got {name}, which is {len(folders)}: {known}; give one of the folders")
    (folder,) = folders
    if not Path(folder or "?").is_dir():
        rule, remedy = "a run whose folder is on this machine", "make its report where it ran"
        raise ConfigError(f"RUN must be {rule}, got {name} of {folder or 'an unknown folder'}; {remedy}")
    return Path(folder)
