"""What a study came to: the table on the terminal, files in the sweep's folder, figures and the parent run."""

from __future__ import annotations

import json
import logging
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from omegaconf import OmegaConf
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console
from rich.table import Table

from ..config import Config
from ..tracking.parent_run import report_parent
from .figures import draw_study

log = logging.getLogger(__name__)

SHOWN = 10
RESULTS, TRIALS, FIGURES = "optimization_results.yaml", "trials.json", "figures"


@dataclass(frozen=True)
class Saved:
    """What pruning saved: the epochs that pruned trials were spared, and what they would have cost at their own pace.

    Attributes
    ----------
    epochs, of_epochs : int
        Epochs not trained, and those that all trials would have had.
    seconds : float
    kwh : float or None
        None where no energy was measured.
    """

    epochs: int
    of_epochs: int
    seconds: float
    kwh: float | None


def summarise(study: optuna.Study, *, folder: Path, config: Config, command: Sequence[str]) -> None:
    """Print the best trials, write the files of the sweep's folder, and bring the study's MLflow run up to date."""
    trials = study.get_trials(deepcopy=False)
    best = ranked(study)
    saved = saved_by_pruning(trials, epochs=config.training.epochs)
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / RESULTS, OmegaConf.to_yaml(OmegaConf.create(results(study))))
    _write(folder / TRIALS, json.dumps(table_of(trials), indent=1))
    figures = draw_study(study, folder / FIGURES)
    print_study(study, best, saved=saved)
    parent = study.user_attrs.get("parent_run")
    if parent is not None and config.tracking.backend != "off":
        tags = describe(study, best, saved=saved, command=command)
        metrics = {f"best/{number}": value for number, value in enumerate(best[0].values or [])} if best else {}
        done = not study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        report_parent(config.tracking, parent, tags=tags, metrics=metrics, files=folder, done=done)
    log.debug("%d figures of the study are in %s", len(figures), folder / FIGURES)


def ranked(study: optuna.Study) -> list[FrozenTrial]:
    """Return the complete trials, best first; with two objectives those of the Pareto front, by the first."""
    if len(study.directions) > 1:
        return sorted(study.best_trials, key=lambda trial: -trial.values[0])
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    sign = -1 if study.direction == optuna.study.StudyDirection.MAXIMIZE else 1
    return sorted(complete, key=lambda trial: sign * trial.values[0])


def saved_by_pruning(trials: Sequence[FrozenTrial], *, epochs: int) -> Saved:
    """Add up the epochs that pruned trials were spared."""
    seconds, kwh, spared, planned = 0.0, 0.0, 0, 0
    measured = True
    for trial in trials:
        done = int(trial.user_attrs.get("epochs", 0))
        planned += epochs if trial.state in (TrialState.COMPLETE, TrialState.PRUNED) else 0
        if trial.state != TrialState.PRUNED or done == 0:
            continue
        share = (epochs - done) / done
        spared += epochs - done
        seconds += share * float(trial.user_attrs.get("seconds", 0))
        measured &= trial.user_attrs.get("kwh") is not None
        kwh += share * float(trial.user_attrs.get("kwh") or 0)
    return Saved(spared, planned, seconds, kwh if measured and spared else None)


def results(study: optuna.Study) -> dict[str, Any]:
    """Return what the stock sweeper writes too, so that its readers find it."""
    if len(study.directions) > 1:
        return {"name": "optuna", "solutions": [{"params": t.params, "values": t.values} for t in study.best_trials]}
    best = ranked(study)[:1]
    found = {"best_params": best[0].params, "best_value": best[0].values[0]} if best else {}
    return {"name": "optuna", **found}


def table_of(trials: Sequence[FrozenTrial]) -> dict[str, list[Any]]:
    """Return columns and rows, the form that MLflow's pages show as a table."""
    names = sorted({name for trial in trials for name in trial.params})
    columns = ["trial", "state", *names, "values", "epochs", "seconds", "kwh", "run_dir"]
    rows = [
        [trial.number, trial.state.name, *(trial.params.get(name) for name in names), trial.values]
        + [trial.user_attrs.get(name) for name in ("epochs", "seconds", "kwh", "run_dir")]
        for trial in trials
    ]
    return {"columns": columns, "data": rows}


def describe(
    study: optuna.Study, best: Sequence[FrozenTrial], *, saved: Saved, command: Sequence[str]
) -> dict[str, str]:
    """Return the tags of the study's run."""
    states = [trial.state for trial in study.get_trials(deepcopy=False)]
    counts = {f"trials.{state.name.lower()}": str(states.count(state)) for state in TrialState}
    tags = counts | {"saved.epochs": f"{saved.epochs} of {saved.of_epochs}", "command": shlex.join(command)}
    if best:
        own = shlex.join(["python", "train.py", *(f"{name}={value}" for name, value in best[0].params.items())])
        tags |= {f"best.{name}": str(value) for name, value in best[0].params.items()}
        tags |= {"best.trial": str(best[0].number), "best.command": own}
    return tags


def print_study(study: optuna.Study, best: Sequence[FrozenTrial], *, saved: Saved) -> None:
    """Print the best trials or the Pareto front, the states, what pruning saved, and where to compare."""
    console = Console()
    names = sorted({name for trial in best for name in trial.params})
    several = len(study.directions) > 1
    title = f"study {study.study_name}: " + ("the Pareto front" if several else "its best trials")
    table = Table("trial", *names, "values", "epochs", "seconds", title=title, title_justify="left", show_edge=False)
    for trial in best[: None if several else SHOWN]:
        values = ", ".join(f"{value:.4g}" for value in trial.values)
        spent = (str(trial.user_attrs.get("epochs", "")), f"{float(trial.user_attrs.get('seconds', 0)):.0f}")
        table.add_row(str(trial.number), *(str(trial.params.get(name, "")) for name in names), values, *spent)
    console.print(table)
    states = [trial.state for trial in study.get_trials(deepcopy=False)]
    counted = ", ".join(f"{states.count(s)} {s.name.lower()}" for s in TrialState if states.count(s))
    energy = "" if saved.kwh is None else f", {saved.kwh:.3g} kWh"
    console.print(
        f"trials: {counted}\n"
        f"pruning saved {saved.epochs} of {saved.of_epochs} epochs, about {saved.seconds:.0f} s{energy}\n"
        f"compare: astrid compare --sweep {study.study_name}",
        highlight=False,
        soft_wrap=True,
    )


def _write(path: Path, text: str) -> None:
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(text)
    partial.replace(path)
