"""Say what went wrong in a run, or is about to, with the evidence and the knob to turn; nothing where nothing is wrong.

  astrid diagnose outputs/runs/<run>                look at curves, gradients, loader, labels, leaks and units
  astrid diagnose outputs/runs/<run> --strict       exit with 1 where something was found, for scripts
  astrid diagnose outputs/runs/<run> --range-test   also try learning rates on the run's own data, a few minutes
  astrid diagnose outputs/runs/<run> --profile      also time a few steps: slowest operations, memory by layer, a trace

Works for a run that failed or is still going, with what there is, and says what could not be looked at. Text goes to
the terminal, JSON and figures to RUN/diagnose. What follows from another finding is not reported beside it.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a run")
    parser.add_argument("--strict", action="store_true", help="exit with 1 where something was found")
    parser.add_argument("--range-test", action="store_true", help="try learning rates, a few minutes")
    parser.add_argument("--profile", action="store_true", help="time a few steps: slowest operations, memory by layer")


def run(arguments: argparse.Namespace) -> int:
    """Look, print and write."""
    from ..diagnose import as_text, diagnose, write_diagnosis
    from ..diagnose.rates import range_tested
    from ..diagnose.steps import profiled

    diagnosis = diagnose(arguments.run)
    folder = write_diagnosis(diagnosis)
    print(as_text(diagnosis, folder))
    if arguments.range_test:
        print(range_tested(arguments.run, folder))
    if arguments.profile:
        print(profiled(arguments.run, folder))
    return 1 if arguments.strict and diagnosis.findings else 0
