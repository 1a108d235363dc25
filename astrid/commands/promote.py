"""Make a version of the registered model the champion by hand, whatever the gate decided.

    astrid promote 3
    astrid promote 3 --model astrid-unet --uri http://localhost:9003

The version that was champion before is remembered: `astrid rollback` returns to it.
"""

from __future__ import annotations

import argparse

from ..config import TrackingConfig


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("version", metavar="VERSION", help="number of the version, as in MLflow's pages")
    add_registry_arguments(parser)


def add_registry_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare which registered model is meant."""
    defaults = TrackingConfig()
    parser.add_argument("--model", metavar="NAME", default=defaults.registered_model, help="default: %(default)s")
    parser.add_argument("--uri", default=defaults.uri, help="MLflow tracking URI; default: %(default)s")


def run(arguments: argparse.Namespace) -> int:
    """Move the alias and say what moved."""
    from ..tracking.versions import promote

    moved = promote(arguments.version, name=arguments.model, uri=arguments.uri)
    before = "there was none" if moved.before is None else f"it was version {moved.before}"
    print(f"{arguments.model}: champion is version {moved.after} ({before})")
    return 0
