"""The report of a sweep: its trials beside each other, what the search showed, and how to get the best again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from astrid.compare import Comparison, compare
from astrid.compare.ranking import Row
from astrid.compare.tables import cells, summary, titles
from astrid.config import ConfigError, DataError
from astrid.config.command import train_command
from astrid.config.resume import load_config
from astrid.console import show_progress
from astrid.tracking.journal import FILE_NAME
from astrid.tracking.stored_runs import FOLDER_TAG, StoredRun, read_folder
from astrid.tracking.tables import Table

from .data import shown
from .markup import Html, code, element, folded, paragraph, section, table
from .material import read_table
from .page import cards, notes, render, stack
from .pictures import picture, read_pictures
from .sweep_curves import monitored_curves

STUDY, TRIALS, FIGURES = "study", "trials.json", "figures"
FALLBACKS = ("val/auprc", "val/loss", "test/auprc")
"""What runs are ranked by that don't say what chose their best epoch: the first that one of them has."""
MOST_DIFFERENCES = 20
NUMBERING = ("sweep.trial",)
"""Knobs that differ between all trials and say nothing."""
FIGURE_WORDS = {
    "history": "The objective of each trial, and the best so far",
    "slice": "The objective against each knob",
    "parallel_coordinates": "Knobs and objective of each trial as a line",
    "timeline": "When each trial ran, and how it ended",
    "intermediate_values": "The objective of each trial epoch by epoch",
    "contour": "The objective over depth and filters",
    "importances": "How much each knob matters for the objective",
    "pareto": "Trials by both objectives, and those that no other beats in both",
}


def is_sweep(folder: Path) -> bool:
    """Tell whether a folder holds runs, or a study, and is none itself."""
    return not (folder / FILE_NAME).is_file() and ((folder / STUDY).is_dir() or bool(run_folders(folder)))


def run_folders(folder: Path) -> list[Path]:
    """Return the folders of the runs right below a folder, by their number where they have one."""
    found = [path.parent for path in folder.glob(f"*/{FILE_NAME}")]
    return sorted(found, key=lambda path: (not path.name.isdecimal(), path.name.zfill(12)))


def sweep_page(folder: Path) -> str:
    """Return the report of a sweep, finished or not.

    Raises
    ------
    DataError
        The folder holds no run.
    """
    folders = run_folders(folder)
    runs: list[StoredRun] = []
    problems: list[str] = []
    for path in show_progress(folders, "runs", len(folders), doing="reading"):
        try:
            runs.append(read_folder(path))
        except DataError as error:
            problems.append(str(error))
    trials = _trials(folder, problems)
    if not runs and trials is None:
        raise DataError(f"{folder} must hold the runs of a sweep, got none; give the folder of a run or of a sweep")
    comparison = _compared(runs)
    sections = [
        _ranked(comparison, runs),
        _searched(folder, problems),
        None if trials is None else _table_of_trials(trials),
        None if comparison is None else _differences(comparison),
        None if comparison is None else _again(comparison),
    ]
    title = f"Sweep {folder.resolve().name}"
    head = stack(notes(problems), cards([*_counts(runs, trials), *_facts(comparison, runs)]))
    return render(title, head, [one for one in sections if one is not None])


def _trials(folder: Path, problems: list[str]) -> Table | None:
    path = folder / STUDY / TRIALS
    return read_table(path, problems) if path.is_file() else None


def _compared(runs: Sequence[StoredRun]) -> Comparison | None:
    monitors = dict.fromkeys(run.params.get("training.monitor", "") for run in runs)
    known = (name for name in (*monitors, *FALLBACKS) if any(name in run.metrics for run in runs))
    metric = next(known, None)
    return None if metric is None else compare(runs, metric)


def _counts(runs: Sequence[StoredRun], trials: Table | None) -> list[tuple[str, str, str]]:
    """Return how many runs and trials there are and how they ended: a pruned trial's run is finished, too."""
    facts = [("runs", str(len(runs)), _counted([run.status for run in runs]))]
    if trials is not None and "state" in trials.columns:
        at = trials.columns.index("state")
        facts.append(("trials", str(len(trials.rows)), _counted([str(row[at]) for row in trials.rows])))
    return facts


def _counted(states: Sequence[str]) -> str:
    return ", ".join(f"{count} {state.lower()}" for state, count in Counter(states).most_common())


def _facts(comparison: Comparison | None, runs: Sequence[StoredRun]) -> list[tuple[str, str, str]]:
    facts = []
    best = None if comparison is None else _best(comparison)
    if comparison is not None and best is not None:
        facts.append((f"best {comparison.metric}", best.text, best.run.name))
    known = [kwh for run in runs if (kwh := run.metrics.get("energy/total_kwh")) is not None]
    measured = f"{sum(known):.3g} kWh" if known else "unavailable"
    facts.append(("energy of the runs", measured, f"measured in {len(known)} of {len(runs)}"))
    return facts


def _ranked(comparison: Comparison | None, runs: Sequence[StoredRun]) -> Html:
    if comparison is None:
        return section("Ranked runs", paragraph("No run has finished an epoch."), _states(runs))
    parts: list[Html | None] = [paragraph(f"{note}.", kind="warn") for note in comparison.notes]
    for group in comparison.groups:
        parts.append(table(titles(comparison), [cells(row) for row in group.rows], caption=f"By {comparison.metric}"))
        parts.append(paragraph(f"{group.verdict}."))
    left_out = [[run.name, reason] for run, reason in comparison.left_out]
    parts.append(table(["run", "why it is not ranked"], left_out, caption="Not ranked") if left_out else None)
    return section("Ranked runs", _curves(runs), *parts)


def _states(runs: Sequence[StoredRun]) -> Html:
    return table(["run", "status"], [[run.name, run.status.lower()] for run in runs], caption="Runs")


def _curves(runs: Sequence[StoredRun]) -> Html | None:
    drawn = monitored_curves(runs)
    return None if drawn is None else picture(drawn.png, alt=drawn.words)


def _searched(folder: Path, problems: list[str]) -> Html | None:
    pngs = read_pictures(folder / STUDY / FIGURES, problems)
    if not pngs:
        return None
    drawn = [picture(png, alt=f"{FIGURE_WORDS.get(name, name)}.") for name, png in pngs.items()]
    return section("What the search showed", element("div", *drawn, class_="figures"))


def _table_of_trials(trials: Table) -> Html:
    hidden = ("run_dir",)
    kept = [number for number, name in enumerate(trials.columns) if name not in hidden]
    without = Table([trials.columns[at] for at in kept], [[row[at] for at in kept] for row in trials.rows])
    return section("Trials", folded(f"all {len(trials.rows)} trials", shown(without, caption="Trials of the study")))


def _differences(comparison: Comparison) -> Html | None:
    told = [(key, by_run) for key, by_run in comparison.differences.items() if key not in NUMBERING]
    rows = [[key, summary(by_run)] for key, by_run in told[:MOST_DIFFERENCES]]
    if not rows:
        return None
    return section("What differs", table(["knob", "values"], rows, caption="Knobs that differ between the runs"))


def _best(comparison: Comparison) -> Row | None:
    """Return the best run; None where there is none, or where runs on other data can't be compared with it."""
    return comparison.groups[0].rows[0] if len(comparison.groups) == 1 else None


def _again(comparison: Comparison) -> Html | None:
    best = _best(comparison)
    if best is None:
        return None
    try:
        command = train_command(load_config(Path(best.run.tags[FOLDER_TAG])))
    except (ConfigError, DataError) as error:
        return section("The best again", paragraph(f"Its configuration can't be read: {error}", kind="warn"))
    return section("The best again", paragraph(best.run.name), code(command))
