"""Make a manifest of a folder of frames from their headers, for `python train.py data=frames`.

  astrid manifest DIR                                        outputs/manifest.csv, and the command that trains on it
  astrid manifest DIR --output night1.csv --reference best   the sharpest exposure of each field and filter is reference
  astrid manifest DIR --target-codes "3|4" --ignore-codes "1|2"    find what data-quality planes mark with 3 and 4
  astrid manifest DIR --listing all.csv                      also what every picture is: science, bias, mask, ...

Field: frames that overlap on the sky by their WCS; without one, that point to within --tolerance of each other. Night:
from local noon to noon. Reference: the same field, filter and detector. Masks, weights and truths are known by their
names (m31_mask.fits, m31.weight.fits, m31_truth.fits, DECam's ood and oow) or extensions (DQ, WHT). Sub-folders are
searched too. A file that can't be used is named and left out. docs/manifests.md has the rules.
"""

from __future__ import annotations

import argparse
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from ..config import ConfigError
from ..terminal import only_warnings

if TYPE_CHECKING:
    from ..data.listing.table import Rules, Table

PLANE_OPTIONS = ("target_bits", "target_codes", "ignore_bits", "ignore_codes", "unlabelled_bits", "unlabelled_codes")
REFERENCES = ("night", "best", "earliest", "none")
_FEWEST_FIELDS = 3  # one each to train, validate and test


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="folder of the frames")
    parser.add_argument(
        "--output", type=Path, default=Path("outputs/manifest.csv"), metavar="FILE", help="(default: %(default)s)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace FILE, which may have been edited")
    parser.add_argument("--listing", type=Path, metavar="FILE", help="write what every picture is, too")
    parser.add_argument(
        "--reference",
        choices=REFERENCES,
        default="night",
        help="of the same field and filter: the best of another night, the best, the earliest, none (%(default)s)",
    )
    parser.add_argument(
        "--tolerance",
        type=_tolerance,
        default=5.0,
        metavar="ARCMIN",
        help="how far a telescope may miss the place its header names, without a WCS (default: %(default)s)",
    )
    parser.add_argument(
        "--longitude",
        type=_longitude,
        metavar="DEG",
        help="of the observatory, east positive, for nights; without: that of each header",
    )
    for column in PLANE_OPTIONS:
        parser.add_argument(
            f"--{column.replace('_', '-')}",
            metavar="A|B",
            help=f"column {column} for the data-quality planes, which become the target",
        )


def run(arguments: argparse.Namespace) -> int:
    """Look into every file, write the manifest and say how to train on it."""
    from ..console import print_plain, show_progress
    from ..data.listing.pictures import find_files, list_folder, without_science
    from ..data.listing.table import make_table, summarise, write_listing, write_table

    if arguments.output.exists() and not arguments.overwrite:
        raise ConfigError(f"--output must be a new file, got {arguments.output}; name another, or add --overwrite")
    rules = read_rules(arguments)
    files = find_files(arguments.folder)
    shown = show_progress(files, "files", len(files), doing=f"reading {arguments.folder}:")
    with only_warnings("astropy", "astrid.data.frames"):  # which tell of every header without coordinates
        pictures = list(list_folder(shown, arguments.folder))
        table = make_table(pictures, rules)
    if arguments.listing is not None:
        write_listing(pictures, arguments.listing)
    if not table.rows:
        remedy = "look with --listing FILE at what each was taken for"
        raise without_science(pictures, files, folder=arguments.folder, remedy=remedy)
    write_table(table, arguments.output)
    for line in [*summarise(table), f"manifest: {arguments.output}", *advice(table, arguments)]:
        print_plain(line)
    return 0


def read_rules(arguments: argparse.Namespace) -> Rules:
    """Turn the command line into rules.

    Raises
    ------
    ConfigError
        For what is to be ignored where nothing is to be found.
    """
    from ..data.listing.table import Rules

    given = {column: getattr(arguments, column) for column in PLANE_OPTIONS if getattr(arguments, column)}
    if given and not {"target_bits", "target_codes"} & set(given):
        option = f"--{next(iter(given)).replace('_', '-')}"
        raise ConfigError(f"{option} must come with --target-bits or --target-codes, got neither; add one")
    return Rules(arguments.reference, arguments.tolerance, arguments.longitude, given or None)


def advice(table: Table, arguments: argparse.Namespace) -> list[str]:
    """Return the command that trains on the manifest, and what stands in its way."""
    from ..config.command import written
    from ..data.listing.raw import name_set

    knobs: dict[str, object] = {"data.root": str(arguments.folder), "data.manifest": str(arguments.output)}
    if table.registers != "none":
        knobs["data.preprocess.register"] = table.registers
    usable = {kind: own for kind, own in table.calibration.items() if own and kind not in table.detector.unusable}
    named = {kind: name_set(own, arguments.folder) for kind, own in usable.items()}
    knobs |= {f"data.preprocess.{kind}": names for kind, names in named.items() if names}
    knobs |= {f"data.preprocess.{name}": value for name, value in table.detector.knobs.items()}
    overrides = [f"{name}={value if _is_plain(value) else written(value)}" for name, value in knobs.items()]
    has_truth = any(row["target"] for row in table.rows)
    lines = [shlex.join(["python", "train.py", f"data={'frames' if has_truth else 'injected'}", *overrides])]
    if long := [kind for kind, names in named.items() if not names]:
        lines.append(f"calibration frames: name a pattern each for data.preprocess.{', data.preprocess.'.join(long)}")
    if table.detector.unusable:
        lines.append(
            f"{' and '.join(table.detector.unusable)} frames are left out, as neither bias frames nor an overscan tell "
            "the counts of no light: add data.preprocess.pedestal=N, 0 where they are subtracted already, and name them"
        )
    if not has_truth:
        lines.append("no frame has a truth to learn from: transients are injected, or add a column target")
    fields = len({row["field"] for row in table.rows})
    if fields < _FEWEST_FIELDS:
        remedy = "add fields, or say data.split_unit=exposure, knowing that splits then share the sky"
        if {row["reference"] for row in table.rows} & {row["science"] for row in table.rows}:
            remedy += "; --reference best first, or a split would be shown the exposures of another as references"
        lines.append(f"{fields} of the {_FEWEST_FIELDS} fields needed to train, validate and test: {remedy}")
    return lines


def _is_plain(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[\w./+-]+", value) is not None


def _tolerance(text: str) -> float:
    return _between(text, 0, 600, "minutes of arc")


def _longitude(text: str) -> float:
    return _between(text, -180, 360, "degrees")


def _between(text: str, low: float, high: float, unit: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not low <= number <= high:
        raise argparse.ArgumentTypeError(f"must be {unit} from {low:g} to {high:g}, got {text!r}")
    return number
