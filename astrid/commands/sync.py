"""Send to MLflow what it lacks of runs that are over; a killed run is ended as KILLED.

Doing it twice changes nothing. Without a RUN every run below outputs/ is looked at:
runs, sweeps and evaluations.

  astrid sync                                                   all that is missing
  astrid sync outputs/runs/A                                    of one run
  MLFLOW_TRACKING_PASSWORD=... astrid sync outputs/runs/A       to a server that asks for one
  astrid sync --uri postgresql://me:...@host/db outputs/runs/A  the same with the password in the URI

A run's folder holds no passwords, so they are given again: in the environment (PGPASSWORD for PostgreSQL,
MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD for a server) or with --uri.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from ..config import ConfigError, DataError
from ..config.compose import PROJECT_ROOT
from ..config.resume import load_config, reachable
from ..config.secrets import scrub
from ..tracking import RunDeletedError, ShippingError, StillRunning, sync

JOURNAL = "journal.jsonl"
OUTPUTS = Path("outputs")
"""Where runs are kept: below the working directory, else below the project."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("run", nargs="*", type=Path, metavar="RUN", help="run folder, as in outputs/runs/...")
    parser.add_argument("--uri", help="MLflow database or server, in place of the run's tracking.uri")


def run(arguments: argparse.Namespace) -> int:
    """Sync the named runs, or all; one that fails doesn't keep the others from being sent."""
    folders = arguments.run or list(all_runs(OUTPUTS if OUTPUTS.is_dir() else PROJECT_ROOT / OUTPUTS))
    codes = [_sync_one(folder, named=bool(arguments.run), uri=arguments.uri) for folder in folders]
    if not folders:
        print("no runs in outputs/")
    return max(codes, default=0)


def all_runs(outputs: Path) -> Iterator[Path]:
    """Yield the folders of all runs, those of sweeps and evaluations too."""
    for kind in ("runs", "sweeps", "evaluations"):
        for journal in sorted((outputs / kind).rglob(JOURNAL)):
            yield journal.parent


def _sync_one(folder: Path, *, named: bool, uri: str | None) -> int:
    try:
        config = load_config(folder).tracking
        if config.backend == "off":
            print(f"{folder}: not reported anywhere (tracking=off)")
            return 0
        print(f"{folder}: {sync(folder, reachable(config, folder, uri=uri))} records sent")
    except StillRunning as error:
        print(f"{folder}: {error}", file=sys.stderr)
        return 2 if named else 0  # it sends itself
    except RunDeletedError as error:
        print(f"{folder}: {error}", file=sys.stderr)
        return 1 if named else 0
    except (ConfigError, DataError) as error:  # among all runs, one that was killed before it had a configuration
        print(scrub(f"error: {error}" if named else f"{folder}: {error}"), file=sys.stderr)
        return 2 if named else 0
    except ShippingError as error:
        print(scrub(f"error: {error}"), file=sys.stderr)
        return 1
    return 0
