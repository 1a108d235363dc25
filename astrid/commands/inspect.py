"""Look at the predictions of a finished model object by object: what was found, missed, and taken for one.

  astrid inspect outputs/runs/<run>                                its three worst test fields
  astrid inspect outputs/runs/<run> --worst 10 --split val         the ten worst validation fields
  astrid inspect outputs/runs/<run> --field test-00003             a field by its name
  astrid inspect outputs/runs/<run> --object test-00003:7          what in its surroundings decides about an object
  astrid inspect models:/astrid-unet@champion data.sky_seed=7      on another sky, as with astrid evaluate

Every object is in objects.csv: position, flux, signal-to-noise, probability, outcome. False alarms are told apart by
what the simulation or the masks know of their place. Tables and pictures go to the folder `inspect` of the run, with a
page of all of them.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..config import ConfigError
from .evaluate import SPLITS

if TYPE_CHECKING:
    from ..inspection.look import Findings
    from ..inspection.objects import JudgedObject
    from ..inspection.saliency import Saliency

FOLDER, ELSEWHERE = "inspect", Path("outputs/inspections")
UNUSABLE = "must be a folder that can be written, but: {}; give another by --folder"
ROWS = 40
"""Objects that the terminal shows."""
COLUMNS = ("object", "x", "y", "flux", "S/N", "measured S/N", "probability", "outcome", "cause")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("model", metavar="RUN", help="folder of a run, models:/NAME@ALIAS or models:/NAME/VERSION")
    parser.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="as for astrid evaluate")
    parser.add_argument(
        "--field", action="append", default=[], metavar="NAME", help="look at this field only; repeat for more"
    )
    parser.add_argument("--worst", type=int, default=3, metavar="N", help="show so many fields (default: %(default)s)")
    parser.add_argument(
        "--object",
        action="append",
        default=[],
        metavar="FIELD:NUMBER",
        help="show what in its surroundings decides about it; repeat for more",
    )
    parser.add_argument("--split", choices=SPLITS, default="test", help="fields to look at (default: %(default)s)")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="where to write (default: RUN/inspect)")


def run(arguments: argparse.Namespace) -> int:
    """Look, print, write."""
    if "=" in arguments.model and not Path(arguments.model).exists():
        raise ConfigError(f"RUN must come before the overrides, got {arguments.model}; give a run folder or models:/")
    if arguments.worst < 0:
        raise ConfigError(f"--worst must be at least 0, got {arguments.worst}; try 3")
    for one in arguments.object:
        if re.fullmatch(r".+:\d+", one) is None:
            rule, remedy = "FIELD:NUMBER, as test-00003:7", "objects.csv has the numbers"
            raise ConfigError(f"--object must be {rule}, got {one!r}; {remedy}")
    folder = arguments.folder or default_folder(arguments.model)
    if arguments.folder is not None or Path(arguments.model).is_dir():
        _refuse_unusable(folder)
    from ..inspection.look import Wanted, look
    from ..inspection.page import leave

    wanted = Wanted(arguments.split, arguments.field, arguments.worst, arguments.object)
    findings = look(arguments.model, arguments.overrides, wanted)
    show(findings)
    try:
        for path in leave(findings, folder, ours=arguments.folder is None):
            print(path)
    except OSError as error:
        raise ConfigError(f"{folder} {UNUSABLE.format(error.strerror)}") from error
    return 0


def _refuse_unusable(folder: Path) -> None:
    """Refuse, before the work, a folder that can't be made or written, or a file in its place."""
    there = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
    if not there.is_dir():
        raise ConfigError(f"{folder} {UNUSABLE.format(f'{there} is no folder')}")
    if not os.access(there, os.W_OK | os.X_OK):
        raise ConfigError(f"{folder} {UNUSABLE.format(f'{there} is not yours to write')}")


def default_folder(model: str) -> Path:
    """Return where findings go: beside the model, or to a folder of their own for a registered one."""
    if model.startswith("models:/"):
        return ELSEWHERE / model.removeprefix("models:/").replace("/", "-").replace("@", "-")
    return Path(model) / FOLDER


def show(findings: Findings) -> None:
    """Print the objects of the fields to look at, mistakes first, the causes, and the calibration."""
    from ..compare.tables import aligned
    from ..console import print_plain, print_table
    from ..inspection.causes import count_causes
    from ..inspection.objects import count_outcomes
    from ..inspection.page import NO_SNR, calibration_table

    if not findings.by_catalogue:
        print_plain(NO_SNR)
    for view in findings.views:
        rows = table_rows(view.objects)
        print_plain(f"\nfield {view.field.name}: {view.summary}")
        print_plain(aligned([COLUMNS, *rows[:ROWS]]))
        if len(rows) > ROWS:
            print_plain(f"{len(rows) - ROWS} more in objects.csv")
    causes = [(cause, str(count)) for cause, count in count_causes(findings.objects)]
    if causes:
        print_table("false alarms of all fields", causes, columns=("cause", "count"))
    for found in findings.saliency:
        print_plain(_decisive(found))
    for bins in findings.calibration:
        heads, counted = calibration_table(bins)
        print_table(bins.what, [tuple(row) for row in counted], columns=tuple(heads))
    total = ", ".join(f"{count} {outcome}" for outcome, count in count_outcomes(findings.objects).items())
    print_plain(f"in all: {total}")


def _decisive(found: Saliency) -> str:
    """Say by how much covering a piece changes an object's logit."""
    fall, rise = max(found.falls.max(), 0), max(-found.falls.min(), 0)
    change = f"covering a piece lowers it by up to {fall:.2g} and raises it by up to {rise:.2g}"
    return f"{found.judged.id}: logit {found.logit:.2f}; {change}"


def table_rows(objects: Sequence[JudgedObject]) -> list[tuple[str, ...]]:
    """Return objects as rows of text: false alarms and misses first, then hits, by falling probability."""
    order = {"false alarm": 0, "miss": 1, "hit": 2, "not counted": 3}
    ranked = sorted(objects, key=lambda one: (order[one.outcome], -one.probability))
    return [
        (
            one.id,
            f"{one.x:.1f}",
            f"{one.y:.1f}",
            "" if one.flux is None else f"{one.flux:.4g} {one.flux_unit}",
            _number(one.snr, ".1f"),
            _number(one.measured_snr, ".1f"),
            f"{one.probability:.3f}",
            one.outcome,
            one.cause or "",
        )
        for one in ranked
    ]


def _number(value: float | None, spec: str) -> str:
    return "" if value is None else format(value, spec)
