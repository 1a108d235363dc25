"""Score a prediction, ours or another tool's, with the code and the table of our networks.

  astrid score scores.fits truth.fits                        probabilities from 0 to 1, and a mask of 0 and 1
  astrid score scores.npy truth.npy --logits                 scores are logits
  astrid score scores.fits[PROB] truth.fits --valid ok.fits  only pixels that are 1 in ok.fits count

Files are FITS, with the extension in brackets, or .npy. Decisions are counted at --threshold, which should come from
other data than these. What is undefined, as AUROC without negatives, is left out with its reason.
"""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("scores", metavar="SCORES", help="probability, or logit, of each pixel")
    parser.add_argument("truth", metavar="TRUTH", help="1 where a pixel is positive, 0 elsewhere")
    parser.add_argument("--valid", metavar="VALID", help="1 where a pixel counts, 0 where it doesn't")
    parser.add_argument("--logits", action="store_true", help="SCORES are logits, not probabilities")
    parser.add_argument(
        "--threshold",
        type=_probability,
        default=0.5,
        metavar="P",
        help="probability from which a pixel is called positive (default: %(default)s)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Read, score and print."""
    from ..array_scores import score
    from ..console import print_table
    from ..score_files import read_numbers

    planes = {"SCORES": arguments.scores, "TRUTH": arguments.truth, "VALID": arguments.valid}
    arrays = [None if file is None else read_numbers(file, argument=name) for name, file in planes.items()]
    scores, truth, valid = arrays
    assert scores is not None and truth is not None  # argparse asks for them
    metrics = score(scores, truth, valid, logits=arguments.logits, threshold=arguments.threshold)
    rows = [(name, f"{value:.4g}") for name, value in metrics.items()]
    print_table(arguments.scores, rows, columns=("metric", "value"))
    return 0


def _probability(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"P must be a probability from 0 to 1, got {text!r}")
    return value
