"""Score a prediction, ours or another tool's, with the code and the table of our networks.

  astrid score scores.fits truth.fits                        probabilities from 0 to 1, and a mask of 0 and 1
  astrid score scores.npy truth.npy --logits                 scores are logits
  astrid score scores.fits[PROB] truth.fits --valid ok.fits  only pixels that are 1 in ok.fits count
  astrid score --list fields.csv                             many fields: pooled, with 95 % intervals over the fields

Files are FITS, with the extension in brackets, or .npy. A list is a CSV with the columns scores, truth and, if need
be, valid, a row for each field. Decisions are counted at --threshold, which should come from other data than these.
What is undefined, as AUROC without negatives, is left out with its reason. docs/metrics.md defines every metric.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ..config import ConfigError, RunError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("scores", metavar="SCORES", nargs="?", help="probability, or logit, of each pixel")
    parser.add_argument("truth", metavar="TRUTH", nargs="?", help="1 where a pixel is positive, 0 elsewhere")
    parser.add_argument("--valid", metavar="VALID", help="1 where a pixel counts, 0 where it doesn't")
    parser.add_argument("--list", metavar="CSV", type=Path, help="files of many fields, in place of the above")
    parser.add_argument("--logits", action="store_true", help="SCORES are logits, not probabilities")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the metrics to this file too")
    parser.add_argument(
        "--threshold",
        type=_probability,
        default=0.5,
        metavar="P",
        help="probability from which a pixel is called positive (default: %(default)s)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Read, score, print and write."""
    from ..card_sections import with_interval
    from ..console import print_table
    from ..score_files import read_list, read_planes
    from ..scored_planes import score_fields

    _check(arguments)
    if arguments.list is not None:
        title, fields = str(arguments.list), read_list(arguments.list, logits=arguments.logits)
    else:
        title = arguments.scores
        planes = read_planes(arguments.scores, arguments.truth, arguments.valid, logits=arguments.logits)
        fields = {title: planes}
    metrics = score_fields(fields, threshold=arguments.threshold)
    if arguments.json is not None:
        _write(arguments.json, metrics)
    names = [name for name in metrics if not name.endswith(("_low", "_high"))]
    print_table(title, [(name, with_interval(metrics, name)) for name in names], columns=("metric", "value"))
    return 0


def _check(arguments: argparse.Namespace) -> None:
    """Refuse files and a list together, and neither of them."""
    one = arguments.scores is not None and arguments.truth is not None
    others = [arguments.scores, arguments.truth, arguments.valid]
    if arguments.list is None and not one:
        raise ConfigError("SCORES and TRUTH must be given, or --list; try astrid score --help")
    if arguments.list is not None and any(other is not None for other in others):
        raise ConfigError("--list must be given alone, without SCORES, TRUTH or --valid, which its rows name")


def _write(path: Path, metrics: dict[str, float]) -> None:
    import json

    try:
        path.write_text(json.dumps(metrics, indent=2) + "\n")
    except OSError as error:
        raise RunError(f"--json must be a file that can be written, got {path}: {error.strerror}") from error


def _probability(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"P must be a probability from 0 to 1, got {text!r}")
    return value
