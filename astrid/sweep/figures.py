"""Figures of a study, drawn by Optuna with matplotlib."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import optuna
import optuna.visualization.matplotlib as draw
from optuna.exceptions import ExperimentalWarning
from optuna.trial import TrialState

from astrid.terminal import only_warnings

ENOUGH_FOR_IMPORTANCE = 4
"""Complete trials below which an importance would be a guess."""


def draw_study(study: optuna.Study, folder: Path, *, objectives: Sequence[str]) -> list[Path]:
    """Draw every figure that the study has the trials for, as PNG, and return where they are.

    Parameters
    ----------
    study : Study
    folder : Path
    objectives : sequence of str
        What the axes of the objectives are called.
    """
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if not complete:
        return []
    plots = _pareto(objectives) if len(study.directions) > 1 else _single(complete, objectives[0])
    folder.mkdir(parents=True, exist_ok=True)
    with only_warnings("matplotlib.category"):  # which tells of choices that look like numbers, as depths do
        return [_save(name, plot, study, folder) for name, plot in plots.items()]


Plot = Callable[[optuna.Study], Any]


def _pareto(objectives: Sequence[str]) -> dict[str, Plot]:
    return {
        "pareto": partial(draw.plot_pareto_front, target_names=list(objectives)),
        "timeline": draw.plot_timeline,
    }


def _single(complete: list[optuna.trial.FrozenTrial], objective: str) -> dict[str, Plot]:
    plots: dict[str, Plot] = {
        "history": partial(draw.plot_optimization_history, target_name=objective),
        "slice": partial(draw.plot_slice, target_name=objective),
        "parallel_coordinates": partial(draw.plot_parallel_coordinate, target_name=objective),
        "timeline": draw.plot_timeline,
        "intermediate_values": draw.plot_intermediate_values,
    }
    varied = [name for name in complete[0].params if len({str(trial.params.get(name)) for trial in complete}) > 1]
    if {"model.depth", "model.filters"} <= set(varied):
        params = ["model.depth", "model.filters"]
        plots["contour"] = partial(draw.plot_contour, params=params, target_name=objective)
    if len(complete) >= ENOUGH_FOR_IMPORTANCE and len(varied) > 1:
        plots["importances"] = partial(draw.plot_param_importances, target_name=objective)
    return plots


def _save(name: str, plot: Plot, study: optuna.Study, folder: Path) -> Path:
    with plt.rc_context(), warnings.catch_warnings():  # Optuna changes the style of whatever is drawn later
        warnings.simplefilter("ignore", ExperimentalWarning)  # Optuna says so of its whole matplotlib module
        warnings.filterwarnings("ignore", message="Attempting to set identical low and high")  # of a single trial
        axes = plot(study)
    figure = np.ravel(axes)[0].figure
    path = folder / f"{name}.png"
    figure.savefig(path, dpi=100, bbox_inches="tight")
    plt.close(figure)
    return path
