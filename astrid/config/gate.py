"""Knobs of the gate before the alias `champion` of the registered model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .checks import check

LOWEST = {"ece_margin": 0, "latency_ratio": 1, "fewest_fields": 2, "resamples": 100, "seed": 0}


@dataclass
class GateConfig:
    """When a new version becomes the champion, and how sure that has to be."""

    metric: Literal["test/auprc", "test/completeness", "test/purity"] = "test/auprc"
    """What must be better, beyond the 95 % interval of its difference over the same test fields; higher is better."""
    ece_margin: float = 0.0005
    """Largest allowed increase of test/ece over the champion's, absolute."""
    latency_ratio: float = 1.5
    """Largest allowed latency/p50_ms as a multiple of the champion's; compared only on the same machine."""
    fewest_fields: int = 8
    """With fewer test fields than this the gate decides nothing: an interval over so few covers too little."""
    resamples: int = 1000
    """Resamples of the test fields, for the gate and for the intervals of the test metrics."""
    seed: int = 0
    """Seed of the resamples; versions are only comparable under the same one."""

    def __post_init__(self) -> None:
        for name, lowest in LOWEST.items():
            value, default = getattr(self, name), getattr(type(self), name)
            check(value >= lowest, f"tracking.gate.{name}", value, f"at least {lowest}", f"its default is {default}")
