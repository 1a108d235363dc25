"""A study on the terminal: its best trials, what pruning saved, and where to go from there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import optuna
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console
from rich.table import Table

SHOWN = 10
FACTS = {"epochs": "d", "seconds": ".0f", "kWh": ".3g"}
"""What else the table says of a trial, with its format."""


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

    def __str__(self) -> str:
        share = f" ({100 * self.epochs / self.of_epochs:.0f} %)" if self.of_epochs else ""
        energy = "" if self.kwh is None else f" and {self.kwh:.3g} kWh"
        return f"{self.epochs} of {self.of_epochs} epochs{share}, about {self.seconds:.0f} s{energy}"


def print_study(
    study: optuna.Study,
    best: Sequence[FrozenTrial],
    *,
    saved: Saved,
    objectives: Sequence[str],
    commands: Mapping[str, str],
    tracked: bool,
) -> None:
    """Print the best trials or the Pareto front, the states, what pruning saved, and what to type next."""
    console = Console()
    if best:
        console.print(_table(study, best, objectives))
    states = [trial.state for trial in study.get_trials(deepcopy=False)]
    counted = ", ".join(f"{states.count(state)} {state.name.lower()}" for state in TrialState if states.count(state))
    lines = [f"trials: {counted}"]
    if saved.epochs:
        lines.append(f"pruning saved {saved}")
    if commands:
        first = "the best" if len(objectives) == 1 else "the first"
        lines += [f"{first} again: {commands['best.command']}", f"at full size: {commands['best.full_size']}"]
    if tracked:
        lines.append(f"compare: astrid compare --sweep {study.study_name}")
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _table(study: optuna.Study, best: Sequence[FrozenTrial], objectives: Sequence[str]) -> Table:
    several = len(objectives) > 1
    shown = best if several else best[:SHOWN]
    names = sorted({name for trial in shown for name in trial.params})
    title = f"study {study.study_name}: " + (f"Pareto front of {len(best)}" if several else f"best of {len(best)}")
    table = Table(title=title, title_justify="left", show_edge=False, pad_edge=False)
    facts = {name: spec for name, spec in FACTS.items() if name not in objectives and _any_has(shown, name)}
    for column in ("trial", *_brief(names), *objectives, *facts):
        table.add_column(column, justify="right", overflow="fold")
    for trial in shown:
        spent = (_short(trial.user_attrs.get(name.lower()), spec) for name, spec in facts.items())
        values = (_short(value, ".4f") for value in trial.values)
        table.add_row(str(trial.number), *(_short(trial.params.get(name)) for name in names), *values, *spent)
    return table


def _any_has(trials: Sequence[FrozenTrial], name: str) -> bool:
    return any(trial.user_attrs.get(name.lower()) is not None for trial in trials)


def _brief(names: Sequence[str]) -> list[str]:
    """Leave the group out of a knob's name where the rest tells it from the others."""
    knobs = [name.rpartition(".")[2] for name in names]
    return [knob if knobs.count(knob) == 1 else name for name, knob in zip(names, knobs, strict=True)]


def _short(value: object, spec: str = ".3g") -> str:
    """Write a number with few digits; nothing where there is none."""
    if value is None:
        return ""
    return format(value, spec) if isinstance(value, float) else str(value)
