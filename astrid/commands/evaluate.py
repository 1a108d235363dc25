"""Judge a finished model on other data, or again on its own, and record that as a run.

  astrid evaluate outputs/runs/<run>                                 its own test fields again
  astrid evaluate models:/astrid-unet@champion data.sky_seed=7       another simulated sky
  astrid evaluate models:/astrid-unet/3 data=frames data.root=DIR data.manifest=FILE.csv
  astrid evaluate outputs/runs/<run> --split all data=frames data.root=DIR data.manifest=FILE.csv

The model brings its own preparation of the data, calibration and operating point: overrides say where the data are and
can't change those. The table, the figures and the card are those of a training run; they go to a folder of their own
and to MLflow, linked to the model both ways. Fields that the model was trained on are found and said.
"""

from __future__ import annotations

import argparse
import secrets
import shlex
import signal
import time
from pathlib import Path

from ..config import ConfigError, RunError

SPLITS = ("test", "val", "train", "all")
EVALUATIONS = Path("outputs/evaluations")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("model", metavar="MODEL", help="folder of a run, models:/NAME@ALIAS or models:/NAME/VERSION")
    parser.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="as for train.py: data=frames, tracking=off")
    parser.add_argument("--split", choices=SPLITS, default="test", help="fields to judge (default: %(default)s)")
    parser.add_argument(
        "--folder",
        type=Path,
        metavar="DIR",
        help="folder of the evaluation (default: new, in outputs/evaluations)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Judge, report, and print."""
    if "=" in arguments.model:
        raise ConfigError(f"MODEL must come before the overrides, got {arguments.model}; give a run folder or models:/")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends what was started, as Ctrl-C does
    from ..evaluation import run_evaluation

    folder = arguments.folder or EVALUATIONS / f"{time.strftime('%Y-%m-%d_%H-%M-%S')}-{secrets.token_hex(4)}"
    try:
        run_evaluation(arguments.model, arguments.overrides, run_dir=folder, split=arguments.split)
    except KeyboardInterrupt:
        raise RunError(f"interrupted; start it again with: {_again(arguments)}") from None
    return 0


def _again(arguments: argparse.Namespace) -> str:
    """Return the command without its folder, which is taken now."""
    return shlex.join(["astrid", "evaluate", arguments.model, "--split", arguments.split, *arguments.overrides])
