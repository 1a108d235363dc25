"""Calibrate raw exposures and write them as FITS files: image, 1-sigma uncertainty, mask, and what a reference gives.

  astrid reduce DIR 'data.preprocess.bias=[bias/*.fits]' 'data.preprocess.flat=[flat/*.fits]'
  astrid reduce DIR data.preprocess.overscan=header data.preprocess.gain=header data.preprocess.read_noise=3.6
  astrid reduce raw1.fits 'mosaic.fits[2]' data.root=DIR 'data.preprocess.bias=[bias/*.fits]' --out reduced
  astrid reduce data.root=DIR data.manifest=FILE.csv data.preprocess.register=wcs data.preprocess.difference=proper

For example, `astrid reduce night1 'data.preprocess.bias=[bias/*.fits]' data.preprocess.gain=1.5
data.preprocess.read_noise=6` writes outputs/reduced/science.fits for night1/science.fits, with SCI in electrons, ERR,
DQ (0 good, 1 bad), and in HISTORY which steps were taken and which were skipped for want of what.

Of a folder its science exposures are reduced; a manifest (`astrid manifest DIR` makes one) also names references, which
become REF, registered, DIFF, and SCORE with data.preprocess.score=true. Masks and weights of the manifest go into DQ,
its target, trimmed like the image, into TRUTH.
The steps are those that data=frames takes before training: docs/raw_exposures.md. Files that are there already are left
as they are, so that the same command goes on where it was stopped. Exit code 2 if a frame was refused, each with one
message; the others are reduced all the same.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..config import ConfigError, FramesData, RunError
from ..config.secrets import scrub
from ..terminal import is_quiet, only_warnings
from ..units import counted
from .quality import is_override, processes, read_config

if TYPE_CHECKING:
    from ..data.reduced import Job, Outcome
    from ..data.rows import FrameRow

OURS = ("data.preprocess.", "data.root=", "data.manifest=", "data.background_box=", "data.cache=")
OUT = Path("outputs/reduced")
_CHOICES = ("data=frames", "data=injected")
"""What a command line copied from `astrid manifest` or for train.py says, and is meant here anyway."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("paths", nargs="*", metavar="PATH", help="folder, FITS file or file.fits[HDU]; or a manifest")
    parser.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="data.preprocess.gain=header and the like")
    parser.add_argument("--out", type=Path, default=OUT, metavar="DIR", help="folder to fill (default: %(default)s)")
    parser.add_argument("--overwrite", action="store_true", help="replace files that it wrote with other knobs")
    parser.add_argument("--no-difference", action="store_true", help="write references registered, not subtracted")
    parser.add_argument(
        "--jobs", type=processes, default=-1, metavar="N", help="processes (default: one for each core)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Reduce every exposure, and say what became of each."""
    from ..data.reduced import plan, refuse_taken

    given = [text for text in (*arguments.paths, *arguments.overrides) if text not in _CHOICES]
    paths = [text for text in given if not is_override(text)]
    root, rows, config = find_rows(paths, [text for text in given if is_override(text)], out=arguments.out)
    if not config.preprocess.treats_exposures and all(row.reference is None for row in rows):
        rule = "a step must be asked for, got none and no reference"
        raise ConfigError(f"{rule}; try data.preprocess.gain=header, or 'data.preprocess.dark=[dark/*.fits]'")
    difference = not arguments.no_difference
    jobs = plan(rows, config, root=root, out=arguments.out, difference=difference)
    refuse_taken(jobs, overwrite=arguments.overwrite)
    outcomes = reduce_all(jobs, config, out=arguments.out, difference=difference, workers=arguments.jobs)
    show(outcomes, out=arguments.out)
    return 2 if any(one.state == "refused" for one in outcomes) else 0


def find_rows(paths: Sequence[str], overrides: Sequence[str], *, out: Path) -> tuple[Path, list[FrameRow], FramesData]:
    """Return where exposures are, a row for each, and the knobs.

    Raises
    ------
    ConfigError, DataError
        For neither or both of paths and a manifest, and for what isn't there.
    """
    named = any(text.startswith("data.manifest=") for text in overrides)
    if named == bool(paths):
        got = "both" if named else "neither"
        raise ConfigError(f"exposures must be PATHs or rows of data.manifest, got {got}; try astrid reduce DIR")
    folder = paths[0] if len(paths) == 1 and Path(paths[0]).is_dir() else "."
    config = read_config([f"data.root={_quoted(folder)}", *overrides], ours=OURS, example="data.preprocess.gain=header")
    if named:
        from ..data.manifest import named as naming
        from ..data.manifest import read_rows

        with naming(config):
            return Path(config.root), read_rows(config)[0], config
    return Path(folder), [row for path in paths for row in _rows_of(path, out=out)], config


def _quoted(text: str) -> str:
    from ..config.command import written

    return written(text)


def _rows_of(path: str, *, out: Path) -> list[FrameRow]:
    """Return a row for a file that is named, or for each science exposure of a folder, without what was reduced."""
    from ..data.listing.pictures import find_files, list_folder, without_science
    from ..data.listing.table import large_enough
    from ..data.quality import list_files
    from ..data.rows import FrameRow, ImageFile

    if not Path(path).is_dir():
        return [FrameRow(0, "", "", None, science=file) for file in list_files([path])]
    inside = out.resolve()
    files = [file for file in find_files(Path(path)) if not file.resolve().is_relative_to(inside)]
    with only_warnings("astrid.data.frames"):  # which tells of headers without coordinates
        pictures = list(list_folder(files, Path(path)))
    chosen = large_enough([one for one in pictures if one.role == "science" and one.kind == "science"])
    if not chosen:
        raise without_science(pictures, files, folder=Path(path), remedy="name the files one by one")
    return [FrameRow(0, "", "", None, science=ImageFile.parse(one.file, Path(path))) for one in chosen]


def reduce_all(jobs: Sequence[Job], config: FramesData, *, out: Path, difference: bool, workers: int) -> list[Outcome]:
    """Do the jobs, with a bar.

    Raises
    ------
    RunError
        If a person stops it, saying how many frames are written by then.
    """
    from functools import partial

    from ..console import show_progress
    from ..data.recipes import in_parallel
    from ..data.reduced import reduce_job

    work = [partial(reduce_job, job, config, difference=difference) for job in jobs]
    try:
        return list(show_progress(in_parallel(work, workers=workers), "frames", len(work), doing="reducing"))
    except KeyboardInterrupt:
        there = sum(job.is_written() for job in jobs)
        told = f"{there} of {counted(len(jobs), 'frame')} are in {out}"
        raise RunError(f"interrupted; {told}; the same command goes on with the rest") from None


def show(outcomes: Sequence[Outcome], *, out: Path) -> None:
    """Print a line a frame, below the steps that it shares with others, and how many there were of which kind."""
    from ..console import print_plain

    by_steps: dict[str, list[str]] = {}
    for one in outcomes:
        if one.state == "refused":
            print(scrub(f"refused: {one.job.name}: {one.reason}"), file=sys.stderr)
        else:
            by_steps.setdefault(_told(one), []).append(f"{one.job.name} -> {one.job.path}")
    for steps, frames in () if is_quiet() else by_steps.items():
        for line in (steps, *frames):
            print_plain(line)
    counts = Counter(one.state for one in outcomes)
    told = f"{counts['written']} written, {counts['there']} there already, {counts['refused']} refused"
    print_plain(f"{told}: {out}")


def _told(outcome: Outcome) -> str:
    """Return which steps were taken and which skipped, or that there was nothing to do."""
    if outcome.state == "there":
        return "there already:"
    done, skipped = ([step.name for step in outcome.steps if step.done == taken] for taken in (True, False))
    return f"{', '.join(done)}; skipped: {', '.join(skipped) or 'nothing'}:"
