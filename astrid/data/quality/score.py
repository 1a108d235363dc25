"""From measures to a score with its reasons, and what becomes of an exposure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from astrid.config import DataError, QualityConfig

from .assess import Assessment
from .header import NO_EXPOSURES

OF_SKY = frozenset({"background_gradient", "flatness", "noise_ratio"})
"""Measures that are graded on a sky only: in a flat they are those of the response, which it is taken for."""


@dataclass(frozen=True)
class Verdict:
    """How good an exposure is.

    Attributes
    ----------
    score : float or None
        From 0 to 1, the product of its grades; None for what is no exposure.
    passed : bool
        Whether that is enough; what is no exposure passes.
    grades : dict
        By measure, from 0, useless, to 1, good.
    flaws : list of str
        What is below 1, the worst first.
    """

    score: float | None
    passed: bool
    grades: dict[str, float] = field(default_factory=dict)
    flaws: list[str] = field(default_factory=list)


def judge(found: Assessment, config: QualityConfig) -> Verdict:
    """Grade each measure that is there and has limits, and multiply: two faults are worse than one.

    An exposure without noise, or without a good pixel, has nothing to be graded by, and scores 0; a bias may lack it.
    Of a flat neither gradient, structure nor noise of the light are graded: they are the response that it is to show.
    """
    if found.facts.kind in NO_EXPOSURES:
        return Verdict(None, passed=True)
    graded = [name for name in found.values if not (found.facts.kind == "flat" and name in OF_SKY)]
    limits = {name: pair for name in graded if (pair := getattr(config.limits, name, None)) is not None}
    grades = {name: grade(found.values[name], pair) for name, pair in limits.items()}
    score = 0.0 if _is_blank(found) else math.prod(grades.values())
    flaws = [_flaw(name, found.values[name], limits[name]) for name in sorted(grades, key=grades.__getitem__)]
    below = sum(value < 1 for value in grades.values())
    return Verdict(score, score >= config.min_score, grades, flaws[:below])


def grade(value: float, limits: Sequence[float]) -> float:
    """Return 1 up to the first limit, 0 from the second on, and what lies between on a straight line.

    Examples
    --------
    >>> grade(7.5, [5, 10]), grade(1, [2, 0])
    (0.5, 0.5)
    """
    good, useless = limits
    return float(abs(min(max((useless - value) / (useless - good), 0.0), 1.0)))


def _flaw(name: str, value: float, limits: Sequence[float]) -> str:
    good, useless = limits
    return f"{name} {value:.3g} (good to {good:g}, useless from {useless:g})"


def explain(found: Assessment, verdict: Verdict) -> str:
    """Say in a line what an exposure's score is made of."""
    flaws = [found.absent.get("noise", "")] if _is_blank(found) else verdict.flaws
    return "; ".join([*flaws, *found.remarks])


def _is_blank(found: Assessment) -> bool:
    return "noise" not in found.values and not (found.facts.kind == "bias" and "background" in found.values)


def refuse(found: Assessment, verdict: Verdict, config: QualityConfig) -> DataError:
    """Return the error with which an exposure stops a run."""
    rule = f"have a quality of at least data.quality.min_score = {config.min_score:g}, got {verdict.score:.2g}"
    remedy = "leave it out, change data.quality.limits, or add data.quality.policy=skip or keep"
    return DataError(f"{found.name}: an exposure must {rule}: {explain(found, verdict)}; {remedy}")
