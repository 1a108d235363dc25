"""The `astrid` command: `astrid <subcommand>`, each a thin door to a module of `astrid/commands/`.

Exit codes as everywhere: 0 done, 1 failed while running, 2 bad input or configuration.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from importlib import import_module

from .config import ConfigError, DataError, RunError
from .config.guarded_output import guard_output
from .config.secrets import scrub

COMMANDS = {
    "compare": "rank runs, say how sure the order is, what it cost and what differs",
    "diagnose": "say what went wrong in a run, with evidence and the knob to turn",
    "doctor": "say whether a run can start here as configured, and what helps",
    "evaluate": "judge a finished model on other data, or again on its own",
    "quality": "say how good exposures are: sky, noise, seeing, depth, defects, a score with reasons",
    "reduce": "calibrate raw exposures and write them as FITS: image, uncertainty, mask, difference",
    "plan": "propose tile, depth, filters and batch size for this data and device, with reasons",
    "fetch": "download images of places on the sky from public archives",
    "manifest": "list a folder of frames for training: fields, nights, filters, references, masks",
    "energy": "say where the energy of runs went, and what would save some",
    "report": "write the page of a run or a sweep: one HTML file that loads nothing",
    "inspect": "look at predictions object by object: found, missed, taken for one, and why",
    "promote": "make a version of the registered model the champion",
    "rollback": "return to the version that was champion before",
    "score": "score a prediction in FITS or .npy files, ours or another tool's",
    "sync": "send to MLflow what it lacks of runs that are over",
    "watch": "follow a run live in the terminal",
}
"""Each subcommand is the module of `astrid/commands/` of its name, which offers `add_arguments` and `run`."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand and return the exit code."""
    parsed = parse(arguments)
    logging.basicConfig(level=logging.WARNING if parsed.quiet else logging.INFO, format="%(levelname)s %(message)s")
    loudness = {(True, False): logging.DEBUG, (False, True): logging.WARNING}
    logging.getLogger("astrid").setLevel(loudness.get((parsed.verbose, parsed.quiet), logging.NOTSET))
    guard_output()
    try:
        return int(parsed.call(parsed))
    except (ConfigError, DataError) as error:
        return _fail(str(error), code=2)
    except RunError as error:
        return _fail(str(error), code=1)
    except KeyboardInterrupt:
        return _fail("interrupted", code=1)
    except BrokenPipeError:  # somebody reads the first lines only, as `head` does
        sys.stderr.close()
        return 0


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse a command line; overrides may stand before options and behind them, which argparse alone refuses."""
    parser = build_parser()
    parsed, rest = parser.parse_known_args(arguments)
    if rest and (not hasattr(parsed, "overrides") or any(text.startswith("-") for text in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        parsed.overrides = [*parsed.overrides, *rest]
    return parsed


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all subcommands; heavy libraries are imported by the one that runs, not here."""
    parser = argparse.ArgumentParser(
        prog="astrid", description="Follow, compare and keep what `python train.py` made.", allow_abbrev=False
    )
    _add_loudness(parser, default=False)
    subparsers = parser.add_subparsers(required=True, metavar="command")
    for name, summary in COMMANDS.items():
        module = import_module(f"astrid.commands.{name}")
        subparser = subparsers.add_parser(
            name,
            help=summary,
            description=module.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        module.add_arguments(subparser)
        _add_loudness(subparser, default=argparse.SUPPRESS)  # or what was said before the command would be undone
        subparser.set_defaults(call=module.run)
    return parser


def _add_loudness(parser: argparse.ArgumentParser, *, default: bool | str) -> None:
    """Declare -v and -q, which may stand before the subcommand and behind it."""
    loudness = parser.add_mutually_exclusive_group()
    loudness.add_argument("-v", "--verbose", action="store_true", default=default, help="say more on the way")
    text = "say nothing on the way but warnings"
    loudness.add_argument("-q", "--quiet", action="store_true", default=default, help=text)


def _fail(message: str, *, code: int) -> int:
    print(scrub(f"error: {message}"), file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
