"""A report on disk, made on demand and at the end of a run."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from astrid.config import ConfigError, DataError, RunError
from astrid.config.secrets import scrub
from astrid.tracking import Tracker
from astrid.tracking.tracker import ending_of

from .material import Ending
from .run_page import run_page
from .sweep_page import is_sweep, sweep_page

log = logging.getLogger(__name__)

REPORT_FILE = "report.html"
TROUBLE_TAG = "report.error"
TROUBLES = (ConfigError, DataError, RunError, OSError, ValueError, KeyError)
"""What a folder that is full, read-only or damaged raises."""


def write_report(folder: Path, *, output: Path | None = None, ending: Ending | None = None) -> Path:
    """Write the report of a run or of a sweep, and return where.

    Parameters
    ----------
    folder : Path
    output : Path or None
        File to write; None is `REPORT_FILE` in the folder.
    ending : Ending or None
        How the run ends, where its journal can't know that yet.

    Raises
    ------
    DataError
        The folder holds neither.
    OSError
        The file can't be written.
    """
    text = sweep_page(folder) if is_sweep(folder) else run_page(folder, ending=ending)
    path = folder / REPORT_FILE if output is None else output
    place = path.resolve()  # a link stays, and what it leads to is written
    if place.exists() and not place.is_file():
        place.write_text(text, encoding="utf-8")  # a device or a pipe, which must not be replaced by a file
        return path
    partial = place.with_name(f"{place.name}.{os.getpid()}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(place)
    return path


def report_sweep(folder: Path) -> None:
    """Write the report of a sweep; where it can't be made the log says why, and the sweep is as it is."""
    try:
        log.info("report: %s", write_report(folder))
    except TROUBLES as trouble:
        log.error("no report was written (%s: %s); try: astrid report %s", type(trouble).__name__, trouble, folder)


class EndReport:
    """Write the report when a run ends, however it does, and hand it to the tracker.

    A report that can't be made doesn't change how the run ended: the log and a tag say why, and how to make it later.
    """

    def __init__(self, tracker: Tracker, run_dir: Path, *, wanted: bool) -> None:
        self._tracker, self._run_dir, self._wanted = tracker, run_dir, wanted

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._wanted:
            return
        end = ending_of(error)
        ending = Ending(end.status, None if end.reason is None else scrub(end.reason))
        try:
            page = write_report(self._run_dir, ending=ending)
            self._tracker.artifact(page)
        except TROUBLES as trouble:
            self._say(trouble)
        else:
            if end.status == "FAILED":
                log.info("%s tells what was done; astrid diagnose %s looks for the cause", page, self._run_dir)

    def _say(self, trouble: Exception) -> None:
        why = f"{type(trouble).__name__}: {trouble}"
        log.error("no report was written (%s); the run is as it is, try: astrid report %s", why, self._run_dir)
        try:
            self._tracker.tags({TROUBLE_TAG: why})
        except RunError as deeper:  # the journal can't be written, which the run itself has said
            log.error("%s", deeper)
