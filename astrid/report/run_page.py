"""The report of one run, whatever became of it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from astrid.tracking.owner import now_ms

from .asked import configuration, reproduce, what_was_asked
from .cost import energy, speed
from .data import data_and_quality
from .gallery import gallery
from .markup import Html, element, paragraph
from .material import Ending, Material, gather
from .page import cards, notes, render, stack
from .results import cell, figures_of_results, results
from .training import training

STATES = {
    "FINISHED": "finished",
    "FAILED": "failed",
    "KILLED": "stopped",
    "GONE": "lost",
    "RUNNING": "still going",
}
"""Statuses in a reader's words."""
HEADLINES = {
    "test/auprc": ("AUPRC of pixels", "area under precision and recall; 1 is perfect"),
    "test/completeness": ("completeness", "share of the true sources found"),
    "test/purity": ("purity", "share of the detections that are real"),
    "test/false_per_mpix": ("false detections", "per million pixels"),
    "test/snr50": ("half are found at", "signal-to-noise"),
    "val/auprc": ("AUPRC on validation", "of the last epoch"),
}


def run_page(folder: Path, *, ending: Ending | None = None) -> str:
    """Return the report of a run.

    Parameters
    ----------
    folder : Path
    ending : Ending or None
        How the run ends, where its journal can't know that yet.

    Raises
    ------
    DataError
        The folder holds no run.
    """
    material = gather(folder, ending=ending)
    sections = [
        what_was_asked(material),
        data_and_quality(material),
        training(material),
        results(material),
        figures_of_results(material),
        gallery(material),
        speed(material),
        energy(material),
        configuration(material),
        reproduce(material),
    ]
    return render(material.run.name, head(material), [section for section in sections if section is not None])


def head(material: Material) -> Html:
    """Return how the run stands, and the numbers that matter most."""
    ending, run = material.ending, material.run
    state = element("span", STATES[ending.status], class_=f"status {ending.status.lower()}")
    reason = None if ending.reason is None else paragraph(f"Why: {ending.reason}", kind="warn")
    known = [
        (title, *told(run.metrics, name, what))
        for name, (title, what) in HEADLINES.items()
        if name in run.metrics and not (name == "val/auprc" and "test/auprc" in run.metrics)
    ]
    lines = [f"alert {alert}" for alert in material.alerts] + material.notes
    return stack(element("p", state, when(material)), reason, notes(lines), cards(known) if known else None)


def told(metrics: Mapping[str, float], name: str, what: str) -> tuple[str, str]:
    """Return a number and, below it, its interval and what it means."""
    value, bracket, interval = cell(metrics, name).partition(" [")
    return value, f"[{interval} {what}" if bracket else what


def when(material: Material) -> str:
    """Say when a run began and how long it took."""
    run = material.run
    began = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(run.started_ms / 1000))
    seconds = ((run.ended_ms or now_ms()) - run.started_ms) / 1000
    took = timedelta(seconds=round(seconds))
    if material.ending.status in ("RUNNING", "GONE"):
        return f"begun {began}; this page was made {took} later"
    return f"begun {began}, {took} from beginning to end"
