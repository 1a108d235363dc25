"""Say whether a run can start here as configured, and what to do where it can't.

    astrid doctor                                                  # the default run
    astrid doctor tracking=server tracking.uri=http://host:9003    # the overrides of train.py
    astrid doctor experiment=hrc_cosmic_rays training.device=cuda

Each line is ok, optional (absent, and a run does without it) or red, with what helps. MLflow is written to and cleaned
up again. The exit code is 1 where something is red, else 0.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from ..config.compose import load
from ..config.secrets import scrub
from ..terminal import asks_for_plain

if TYPE_CHECKING:
    from ..doctor import Finding

COLOURS = {"ok": "\033[32m", "optional": "\033[33m", "red": "\033[31m"}
PLAIN = "\033[0m"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="as for train.py: tracking=server")


def run(arguments: argparse.Namespace) -> int:
    """Print each finding as it is made."""
    config = load(arguments.overrides)
    from ..doctor import examine

    states = []
    for finding in examine(config):
        print(as_line(finding, coloured=sys.stdout.isatty() and not asks_for_plain()), flush=True)
        states.append(finding.state)
    reds = states.count("red")
    print("a run can start" if not reds else f"{reds} red: a run as configured can't start or would not be recorded")
    return 1 if reds else 0


def as_line(finding: Finding, *, coloured: bool) -> str:
    """Write a finding as one line: word, name, what was found and, unless it is ok, what to do."""
    word = f"{finding.state:<8}"
    shown = f"{COLOURS[finding.state]}{word}{PLAIN}" if coloured else word
    remedy = f"; {finding.remedy}" if finding.remedy and finding.state != "ok" else ""
    return scrub(" ".join(f"{shown}  {finding.name:<14}  {finding.text}{remedy}".splitlines()))
