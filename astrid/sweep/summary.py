"""What a study came to: the table on the terminal, files in the sweep's folder, figures and the parent run."""

from __future__ import annotations

import json
import logging
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
from omegaconf import OmegaConf
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from ..config import Config
from ..config.command import train_command
from ..config.compose import load
from ..report.written import report_sweep
from ..tracking.parent_run import Ending, StudyReport, register_best, report_parent
from .figures import draw_study
from .jobs import Split, own_overrides
from .shown import Saved, print_study
from .trial import COST_UNIT, RUN_ID

log = logging.getLogger(__name__)

STUDY, RESULTS, TRIALS, FIGURES = "study", "optimization_results.yaml", "trials.json", "figures"


def summarise(study: optuna.Study, *, folder: Path, base: Config, split: Split, ending: Ending) -> None:
    """Print the best trials, write the study's files, and bring its MLflow run up to date.

    Parameters
    ----------
    study : Study
    folder : Path
        Of the sweep; the files go to its `study` folder.
    base, split : Config, Split
        What every trial has, and what was searched.
    ending : "FINISHED", "FAILED" or "KILLED"
        How this command ended; the study's run stays RUNNING where another process still searches.
    """
    trials, best = study.get_trials(deepcopy=False), ranked(study)
    objectives = objective_names(study, base)
    saved = saved_by_pruning(trials, epochs=base.training.epochs)
    commands = best_commands(best[0], split, seed=base.training.seed) if best else {}
    tracked = base.tracking.backend != "off"
    print_study(study, best, saved=saved, objectives=objectives, commands=commands, tracked=tracked)
    files = folder / STUDY
    files.mkdir(parents=True, exist_ok=True)
    _write(files / RESULTS, OmegaConf.to_yaml(OmegaConf.create(results(study))))
    _write(files / TRIALS, json.dumps(table_of(trials, objectives), indent=1))
    if ending == "FINISHED":
        draw_study(study, files / FIGURES, objectives=objectives)
    report_sweep(folder)
    parent = study.user_attrs.get("parent_run")
    if parent is not None and tracked:
        going_on = bool(study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)))
        if ending == "FINISHED" and not going_on:
            crown(study, best, base)
        tags = describe(study, best, saved=saved) | commands
        metrics = dict(zip((f"best/{name}" for name in objectives), best[0].values, strict=True)) if best else {}
        status = "RUNNING" if going_on else ending
        report_parent(base.tracking, parent, StudyReport(tags, metrics, files, (TRIALS,), status))


def best_commands(best: FrozenTrial, split: Split, *, seed: int) -> dict[str, str]:
    """Return what a person types to train the best trial again, with its figures this time, and at full size."""
    config = load(own_overrides(best, split, seed=seed))
    config.metrics.figures = config.metrics.report = True
    parameters = shlex.join(f"{name}={value}" for name, value in best.params.items())
    return {"best.command": train_command(config), "best.full_size": f"python train.py {parameters}"}


def crown(study: optuna.Study, best: Sequence[FrozenTrial], base: Config) -> None:
    """Register the model of the best trial, which makes it challenger; of a Pareto front nobody can say which is."""
    run_id = best[0].user_attrs.get(RUN_ID) if best else None
    if run_id is None or len(study.directions) > 1:
        return
    version = register_best(base.tracking, run_id)
    if version is not None:
        log.info("trial %d is version %s of %s", best[0].number, version, base.tracking.registered_model)


def objective_names(study: optuna.Study, base: Config) -> list[str]:
    """Return what the objectives of a study are called, as metrics are."""
    names = [base.training.monitor, str(study.user_attrs.get(COST_UNIT, "cost"))]
    return names[: len(study.directions)]


def ranked(study: optuna.Study) -> list[FrozenTrial]:
    """Return the complete trials, best first; with several objectives those of the Pareto front, by the first."""
    several = len(study.directions) > 1
    trials = study.best_trials if several else study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    sign = -1 if study.directions[0] == StudyDirection.MAXIMIZE else 1
    return sorted(trials, key=lambda trial: sign * trial.values[0])


def saved_by_pruning(trials: Sequence[FrozenTrial], *, epochs: int) -> Saved:
    """Add up the epochs that pruned trials were spared, and what they would have cost at each one's own pace."""
    pruned = [trial for trial in trials if trial.state == TrialState.PRUNED and trial.user_attrs.get("epochs")]
    pruned = [trial for trial in pruned if not trial.user_attrs.get("budget_spent")]  # no merit of the pruner
    shares: list[float] = [(epochs - trial.user_attrs["epochs"]) / trial.user_attrs["epochs"] for trial in pruned]
    measured = bool(pruned) and all(trial.user_attrs.get("kwh") is not None for trial in pruned)

    def spared(what: str) -> float:
        costs = (float(trial.user_attrs[what]) for trial in pruned)
        return sum((share * cost for share, cost in zip(shares, costs, strict=True)), 0.0)

    return Saved(
        epochs=sum(epochs - int(trial.user_attrs["epochs"]) for trial in pruned),
        of_epochs=epochs * sum(trial.state in (TrialState.COMPLETE, TrialState.PRUNED) for trial in trials),
        seconds=spared("seconds"),
        kwh=spared("kwh") if measured else None,
    )


def results(study: optuna.Study) -> dict[str, Any]:
    """Return what the stock sweeper writes too, so that its readers find it."""
    best = ranked(study)
    if len(study.directions) > 1:
        return {"name": "optuna", "solutions": [{"params": t.params, "values": t.values} for t in best]}
    found = {"best_params": best[0].params, "best_value": best[0].values[0]} if best else {}
    return {"name": "optuna", **found}


def table_of(trials: Sequence[FrozenTrial], objectives: Sequence[str]) -> dict[str, list[Any]]:
    """Return columns and rows, the form that MLflow's pages show as a table."""
    names = sorted({name for trial in trials for name in trial.params})
    facts = ("epochs", "seconds", "kwh", "retry_of", "failure", "run_dir", RUN_ID)
    rows = [
        [trial.number, trial.state.name, *(trial.params.get(name) for name in names)]
        + (list(trial.values) if trial.values is not None else [None] * len(objectives))
        + [trial.user_attrs.get(name) for name in facts]
        for trial in trials
    ]
    return {"columns": ["trial", "state", *names, *objectives, *facts], "data": rows}


def describe(study: optuna.Study, best: Sequence[FrozenTrial], *, saved: Saved) -> dict[str, str]:
    """Return the tags of the study's run."""
    states = [trial.state for trial in study.get_trials(deepcopy=False)]
    counts = {f"trials.{state.name.lower()}": str(states.count(state)) for state in TrialState}
    tags = {"saved.epochs": f"{saved.epochs} of {saved.of_epochs}", "saved.seconds": f"{saved.seconds:.0f}"}
    if saved.kwh is not None:
        tags["saved.kwh"] = f"{saved.kwh:.4g}"
    if best:
        tags |= {f"best.{name}": str(value) for name, value in best[0].params.items()}
        tags |= {"best.trial": str(best[0].number), "best.run": str(best[0].user_attrs.get(RUN_ID, "unknown"))}
    return counts | tags | {"command": shlex.join(["python", *sys.argv])}


def _write(path: Path, text: str) -> None:
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")  # another command may end at the same time
    partial.write_text(text)
    partial.replace(path)
