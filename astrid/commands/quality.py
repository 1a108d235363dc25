"""Say how good exposures are: sky, noise, seeing, depth, defects, and a score from 0 to 1 with its reasons.

  astrid quality DIR                                             every FITS file of a folder and below it
  astrid quality night1.fits night2.fits.fz 'mosaic.fits[SCI,2]' files, of which every picture or the one that is named
  astrid quality DIR --csv quality.csv --figure quality.png      every measure, and a figure of the whole set
  astrid quality DIR data.quality.policy=stop data.quality.min_score=0.5
  astrid quality DIR data.quality.limits.fwhm_pixels=[4,8] data.quality.pedestal=0

What can't be measured is absent, and the CSV says why. Bias, dark and flat exposures are assessed without stars; masks,
noise planes and kernels are named and not scored. Exit code 2 if a file was refused, each with one message, or if an
exposure is below min_score and policy=stop; files of a folder that aren't FITS are named and don't count.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..config import ConfigError, FramesData
from ..config.compose import load
from ..config.secrets import scrub
from ..units import counted
from .compare import check_file, write

if TYPE_CHECKING:
    from ..data.quality import Assessment, Refusal
    from ..quality_report import Judged

_OVERRIDE = re.compile(r"[+~]*(data|model|training|[a-z]+)\.[\w.]+=.*", re.DOTALL)
_OURS = ("data.quality.", "data.background_box=")
_SHOWN = {
    "fwhm_pixels": "FWHM",
    "ellipticity": "ellipt.",
    "background": "sky",
    "noise": "noise",
    "noise_ratio": "/expected",
    "sources": "sources",
    "depth": "5 sigma",
}
"""Measures in the terminal's table, and what they are called there."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("paths", nargs="+", metavar="PATH", help="FITS file, file.fits[HDU], or folder")
    parser.add_argument(
        "overrides", nargs="*", metavar="OVERRIDE", help="data.quality.policy=stop and the like, if any"
    )
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write every measure there")
    parser.add_argument("--figure", type=Path, metavar="FILE", help="draw the whole set there (PNG, PDF or SVG)")
    parser.add_argument(
        "--jobs", type=processes, default=-1, metavar="N", help="processes (default: one for each core)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Assess, print, and write what was asked for."""
    for path in (arguments.csv, arguments.figure):
        check_file(path)
    given = [*arguments.paths, *arguments.overrides]
    config = read_config([text for text in given if is_override(text)])
    paths = [text for text in given if not is_override(text)]
    judged, refusals = assess_all(paths, config, jobs=arguments.jobs)
    left_out = [one for one in refusals if one.is_stranger and one.name not in paths]
    show(judged, min_score=config.quality.min_score)
    for refusal in refusals:
        label = "left out" if refusal in left_out else "refused"
        print(scrub(f"{label}: {refusal.name}: {refusal.reason}"), file=sys.stderr)
    save(judged, config, arguments)
    stopped = stop_at_bad(judged, config)
    return 2 if stopped or len(refusals) > len(left_out) else 0


def is_override(text: str) -> bool:
    """Tell whether an argument is an override, where paths may stand beside overrides."""
    return _OVERRIDE.fullmatch(text) is not None


def read_config(
    overrides: Sequence[str], *, ours: tuple[str, ...] = _OURS, example: str = "data.quality.policy=stop"
) -> FramesData:
    """Return the knobs of frames; those that don't begin as ours do would change nothing here and are refused."""
    for override in overrides:
        if not override.startswith(ours):
            known = ", ".join(name.rstrip(".=") for name in ours)
            raise ConfigError(f"OVERRIDE must be of {known}, got {override}; try {example}")
    data = load(["data=frames", "data.root=.", "data.manifest=none", *overrides]).data
    assert isinstance(data, FramesData)
    return data


def assess_all(paths: Sequence[str], config: FramesData, *, jobs: int) -> tuple[list[Judged], list[Refusal]]:
    """Assess every picture, with a bar, and judge it once the whole set is known.

    Raises
    ------
    DataError
        If there is no such file or folder.
    """
    from ..console import show_progress
    from ..data.quality import Assessment, Refusal, assess_files, judge, list_files, with_residuals
    from ..quality_report import Judged

    files = list_files(paths)
    work = assess_files(files, config.quality, box=config.background_box, jobs=min(jobs, len(files)))
    results = [result for own in show_progress(work, "files", len(files), doing="assessing") for result in own]
    found = with_residuals([result for result in results if isinstance(result, Assessment)])
    judged = [Judged(one, judge(one, config.quality)) for one in found]
    return judged, [result for result in results if isinstance(result, Refusal)]


def show(judged: Sequence[Judged], *, min_score: float) -> None:
    """Print a line an exposure, with its name last, and what is wrong with those that are less than good."""
    from ..console import print_plain
    from ..data.quality import explain
    from ..quality_report import short_names

    names = short_names([one.found.name for one in judged])
    scored = [(name, one) for name, one in zip(names, judged, strict=True) if one.verdict.score is not None]
    if scored:
        print_plain(_line(("score", *_SHOWN.values(), "kind"), "exposure"))
    for name, one in scored:
        cells = (_number(one.verdict.score, "score"), *(_number(one.found.values.get(key), key) for key in _SHOWN))
        print_plain(_line((*cells, one.found.facts.kind), name))
    for name, one in scored:
        if flaws := explain(one.found, one.verdict):
            print_plain(f"{'' if one.verdict.passed else 'BAD '}{name}: {flaws}")
    for name, one in scored:
        if one.found.facts.kind == "science" and "fwhm_pixels" in one.found.absent and "noise" in one.found.values:
            print_plain(f"{name}: the score leaves out the stars, not measured: {one.found.absent['fwhm_pixels']}")
    for column in _empty_columns([one.found for _, one in scored]):
        print_plain(column)
    bad = sum(not one.verdict.passed for one in judged)
    counts = f"{counted(len(scored), 'exposure')}, {bad} below data.quality.min_score = {min_score:g}"
    print_plain(f"{counts}; {len(judged) - len(scored)} masks, noise planes, kernels, stamps and lamps are not scored")


def _empty_columns(found: Sequence[Assessment]) -> Iterator[str]:
    """Say, for each column of the table that is empty, what most exposures lack for it."""
    for measure, title in _SHOWN.items():
        reasons = Counter(one.absent[measure] for one in found if measure in one.absent)
        if found and reasons.total() == len(found):
            reason, number = reasons.most_common(1)[0]
            yield f"{title} ({measure}) is not measured: {reason} ({number} of {len(found)} exposures)"


def _line(cells: Sequence[str], name: str) -> str:
    return f"{' '.join(f'{cell:>9}' for cell in cells)}  {name}"


def _number(value: float | None, measure: str) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if measure == "sources" else f"{value:.2f}" if measure == "score" else f"{value:.4g}"


def save(judged: Sequence[Judged], config: FramesData, arguments: argparse.Namespace) -> None:
    """Write the table and the figure that were asked for."""
    from ..quality_report import as_csv, draw_quality, quality_table

    if arguments.csv is not None:
        write(arguments.csv, as_csv(quality_table(judged)))
    figure = None if arguments.figure is None else draw_quality(judged, config.quality.limits)
    if figure is not None:
        try:
            figure.savefig(arguments.figure)
        except (OSError, ValueError) as error:  # ValueError: a format that matplotlib doesn't know
            rule = "a file that can be written, with a known ending as .png"
            raise ConfigError(f"--figure must be {rule}, got {arguments.figure}: {error}") from error


def stop_at_bad(judged: Sequence[Judged], config: FramesData) -> bool:
    """Say of each exposure that stops a run why it does, and tell whether there is one."""
    from ..data.quality import refuse

    bad = [one for one in judged if not one.verdict.passed] if config.quality.policy == "stop" else []
    for one in bad:
        print(scrub(f"error: {refuse(one.found, one.verdict, config.quality)}"), file=sys.stderr)
    return bool(bad)


def processes(text: str) -> int:
    """Read a number of processes; -1 is one for each core."""
    number = int(text)
    if number != -1 and number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, or -1 for one a core, got {text}")
    return number
