"""Knobs of energy, carbon and cost."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from .checks import check


@dataclass
class EnergyConfig:
    """Where joules are read, and the explicit factors that turn them into carbon and cost."""

    source: Literal["auto", "off"] = "auto"
    """`auto` reads NVML and RAPL where they exist and says `unavailable` where they don't; `off` measures nothing."""
    sample_seconds: float = 0.1
    """Interval of the sampling thread: it integrates power where there is no energy counter, and feeds the display."""
    pue: float = 1.0
    """Power usage effectiveness: energy of the whole site per energy of the machine, at least 1."""
    grams_co2e_per_kwh: float | None = None
    """Carbon intensity of the electricity in grams of CO2 equivalent; carbon is absent without it."""
    usd_per_kwh: float | None = None
    """Price of the electricity in US dollars; cost is absent without it."""

    def __post_init__(self) -> None:
        sampling = self.sample_seconds
        check(
            0.01 <= sampling <= 10, "energy.sample_seconds", sampling, "0.01 to 10 s", "try energy.sample_seconds=0.1"
        )
        check(1 <= self.pue < math.inf, "energy.pue", self.pue, "at least 1 and finite", "try energy.pue=1.2")
        for name in ("grams_co2e_per_kwh", "usd_per_kwh"):
            value = getattr(self, name)
            known = value is None or 0 <= value < math.inf
            check(known, f"energy.{name}", value, "null, or at least 0 and finite", "leave it null if unknown")
