"""Figures of a study, drawn by Optuna with matplotlib."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import optuna
import optuna.visualization.matplotlib as draw
from optuna.exceptions import ExperimentalWarning
from optuna.trial import TrialState

log = logging.getLogger(__name__)

ENOUGH_FOR_IMPORTANCE = 4
"""Complete trials below which an importance would be a guess."""


def draw_study(study: optuna.Study, folder: Path) -> list[Path]:
    """Draw every figure that the study has the trials for, as PNG, and return where they are."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if not complete:
        return []
    plots = _pareto() if len(study.directions) > 1 else _single(complete)
    folder.mkdir(parents=True, exist_ok=True)
    return [_save(name, plot, study, folder) for name, plot in plots.items()]


Plot = Callable[[optuna.Study], Any]


def _pareto() -> dict[str, Plot]:
    return {"pareto": draw.plot_pareto_front, "timeline": draw.plot_timeline}


def _single(complete: list[optuna.trial.FrozenTrial]) -> dict[str, Plot]:
    plots: dict[str, Plot] = {
        "history": draw.plot_optimization_history,
        "slice": draw.plot_slice,
        "parallel_coordinates": draw.plot_parallel_coordinate,
        "timeline": draw.plot_timeline,
        "intermediate_values": draw.plot_intermediate_values,
    }
    varied = [name for name in complete[0].params if len({str(trial.params.get(name)) for trial in complete}) > 1]
    if {"model.depth", "model.filters"} <= set(varied):
        plots["contour"] = lambda study: draw.plot_contour(study, params=["model.depth", "model.filters"])
    if len(complete) >= ENOUGH_FOR_IMPORTANCE and len(varied) > 1:
        plots["importances"] = draw.plot_param_importances
    return plots


def _save(name: str, plot: Plot, study: optuna.Study, folder: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # Optuna says so of its whole matplotlib module
        axes = plot(study)
    figure = np.ravel(axes)[0].figure
    path = folder / f"{name}.png"
    figure.savefig(path, dpi=100, bbox_inches="tight")
    plt.close(figure)
    return path
