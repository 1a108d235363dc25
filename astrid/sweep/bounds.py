"""When a study has had enough: of finished trials, of failures, of seconds, of energy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from optuna.trial import FrozenTrial, TrialState

from ..config import SweepConfig

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
INTERRUPTED = "interrupted"
"""Attribute of a failed trial that somebody stopped, which says nothing of the study."""


@dataclass(frozen=True)
class Bound:
    """A bound that was reached: what a person reads, and whether it was the one on failures."""

    text: str
    failed: bool = False


def finished(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Return the trials that count: complete or pruned."""
    return [trial for trial in trials if trial.state in FINISHED]


def out_of_bounds(trials: Sequence[FrozenTrial], config: SweepConfig) -> Bound | None:
    """Say which bound of the study is reached, None where none is."""
    failed = sum(trial.state == TrialState.FAIL and not trial.user_attrs.get(INTERRUPTED) for trial in trials)
    if failed >= config.max_failures:
        return Bound(f"{failed} trials failed, and sweep.max_failures is {config.max_failures}", failed=True)
    bounds = {("max_seconds", "seconds"): config.max_seconds, ("energy_budget_kwh", "kwh"): config.energy_budget_kwh}
    for (name, unit), bound in bounds.items():
        spent = sum(float(trial.user_attrs.get(unit) or 0) for trial in trials)
        if bound is not None and spent >= bound:
            return Bound(f"{spent:.4g} {unit} are spent, and sweep.{name} is {bound:g}")
    return None
