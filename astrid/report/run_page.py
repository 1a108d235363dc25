"""The report of one run, whatever became of it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from astrid.checkpoint import CHECKPOINTS, LAST
from astrid.config import LOWER_IS_BETTER
from astrid.config.command import resume_command
from astrid.tracking.owner import now_ms

from .asked import configuration, reproduce, what_was_asked
from .cost import energy, speed
from .data import data_and_quality
from .gallery import gallery
from .markup import Html, element, paragraph
from .material import Ending, Material, gather
from .page import cards, notes, render, stack
from .results import cell, figures_of_results, results
from .training import epochs, training

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
}
LOST = (
    "Lost: its process is gone and wrote no end, as when it is killed or the machine goes down. What it had reported "
    "is below. "
)


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
    ending = material.ending
    state = element("span", STATES[ending.status], class_=f"status {ending.status.lower()}")
    reason = None if ending.reason is None else paragraph(f"Why: {ending.reason}", kind="warn")
    lost = (
        paragraph(LOST + _how_to_go_on(material.folder), kind="warn")
        if ending.status == "GONE" and not material.is_evaluation
        else None
    )
    alerts = [
        f"alert {alert}" for alert in material.alerts if ending.reason is None or not _repeats(alert, ending.reason)
    ]
    facts = headlines(material)
    known = cards(facts) if facts else None
    return stack(element("p", state, when(material)), reason, lost, notes(alerts + material.notes), known)


def _how_to_go_on(folder: Path) -> str:
    if (folder / CHECKPOINTS / LAST).is_file():
        return f"Go on from its last checkpoint with: {resume_command(folder)}"
    return f"There is no checkpoint: {resume_command(folder)} starts it from the beginning."


def _repeats(alert: str, reason: str) -> bool:
    """Tell whether an alert says what the reason of the ending says, each after a head of its own."""
    return alert.endswith(reason.partition(": ")[2] or reason)


def headlines(material: Material) -> list[tuple[str, str, str]]:
    """Return the numbers that matter most: of the test fields, or how far training came where they were not judged."""
    metrics = material.run.metrics
    judged = [(title, *told(metrics, name, what)) for name, (title, what) in HEADLINES.items() if name in metrics]
    return judged or _reached(material)


def _reached(material: Material) -> list[tuple[str, str, str]]:
    run, history = material.run, epochs(material.run)
    if not history:
        return []
    facts = [("epochs finished", str(len(history)), f"of {run.params.get('training.epochs', 'unknown')}")]
    monitor = run.params.get("training.monitor", "val/auprc")
    points = [(values[monitor], round(values["epoch"])) for values in history if monitor in values]
    if points:
        value, epoch = (min if monitor in LOWER_IS_BETTER else max)(points, key=lambda point: point[0])
        facts.append((f"best {monitor}", f"{value:.3g}", f"in epoch {epoch}; {points[-1][0]:.3g} in the last"))
    return facts


def told(metrics: Mapping[str, float], name: str, what: str) -> tuple[str, str]:
    """Return a number and, below it, its interval and what it means."""
    value, bracket, interval = cell(metrics, name).partition(" [")
    return value, f"[{interval} {what}" if bracket else what


def when(material: Material) -> str:
    """Say when a run began and how long it took."""
    run = material.run
    began = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(run.started_ms / 1000))
    seconds = ((run.ended_ms or now_ms()) - run.started_ms) / 1000
    prepared = "" if material.is_group else ", its data prepared before"
    took = timedelta(seconds=round(seconds))
    if material.ending.status in ("RUNNING", "GONE"):
        return f"begun {began}{prepared}; this page was made {took} later"
    return f"begun {began}{prepared}; took {took}"
