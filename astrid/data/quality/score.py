"""From measures to a score with its reasons, and what becomes of an exposure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from astrid.config import DataError, LimitsConfig, QualityConfig

from .assess import Assessment
from .header import PLANES


@dataclass(frozen=True)
class Grade:
    """What a measure counts: from 0, useless, to 1, good."""

    measure: str
    value: float
    limits: tuple[float, float]
    grade: float

    def __str__(self) -> str:
        good, useless = self.limits
        return f"{self.measure} {self.value:.3g} (good to {good:g}, useless from {useless:g})"


@dataclass(frozen=True)
class Verdict:
    """How good an exposure is.

    Attributes
    ----------
    score : float or None
        From 0 to 1, the product of its grades; None for a plane that is no exposure.
    flaws : list of Grade
        What is below 1, the worst first.
    passed : bool
    """

    score: float | None
    flaws: list[Grade]
    passed: bool


def judge(found: Assessment, config: QualityConfig) -> Verdict:
    """Grade each measure that is there and has limits, and multiply: two faults are worse than one.

    An exposure without noise, or without a good pixel, has nothing to be graded by, and scores 0.
    """
    if found.facts.kind in PLANES:
        return Verdict(None, [], passed=True)
    grades = [grade for name, value in found.values.items() if (grade := _grade(name, value, config.limits))]
    score = math.prod(grade.grade for grade in grades) if "noise" in found.values else _without_noise(found)
    flaws = sorted((grade for grade in grades if grade.grade < 1), key=lambda grade: grade.grade)
    return Verdict(score, flaws, passed=score >= config.min_score)


def _without_noise(found: Assessment) -> float:
    return 1.0 if found.facts.kind == "bias" and "background" in found.values else 0.0


def _grade(name: str, value: float, limits: LimitsConfig) -> Grade | None:
    pair: Sequence[float] | None = getattr(limits, name, None)
    if pair is None:
        return None
    good, useless = pair
    return Grade(name, value, (good, useless), abs(min(max((useless - value) / (useless - good), 0.0), 1.0)))


def reasons(found: Assessment, verdict: Verdict) -> str:
    """Say in a line what an exposure's score is made of."""
    if verdict.score is None:
        return found.absent["noise"]
    if "noise" not in found.values:
        return found.absent["noise"]
    return "; ".join(map(str, verdict.flaws)) or "nothing to complain of"


def refuse(found: Assessment, verdict: Verdict, config: QualityConfig) -> DataError:
    """Return the error with which an exposure stops a run."""
    rule = f"have a quality of at least data.quality.min_score = {config.min_score:g}, got {verdict.score:.2g}"
    remedy = "leave it out, change what data.quality.limits calls good, or add data.quality.policy=skip or keep"
    return DataError(f"{found.name}: an exposure must {rule}: {reasons(found, verdict)}; {remedy}")
