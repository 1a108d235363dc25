"""Knobs of energy, carbon, cost and their budgets."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

from .checks import check

BUDGETS = {"budget_kwh": None, "budget_g_co2e": "a carbon intensity", "budget_usd": "energy.usd_per_kwh"}
"""Each budget with the factor that it needs."""


@dataclass
class EnergyConfig:
    """Where joules are read, and the explicit factors that turn them into carbon and cost."""

    source: Literal["auto", "off"] = "auto"
    """`auto` reads NVML and RAPL where they exist and says `unavailable` where they don't; `off` measures nothing."""
    gpus: str | list[str] = "auto"
    """GPUs that are measured: `auto` those that this process uses, `all` those of the machine, also for a process on
    the CPU, `none`, or a list of UUIDs as `nvidia-smi -L` shows them."""
    cpu_watts: float | None = None
    """Power of the CPU in watts, such as its thermal design power: an estimate, labelled so, for a machine without RAPL
    counters; without it the energy of such a CPU is unavailable."""
    sample_seconds: float = 0.1
    """Interval of the sampling thread: it integrates power, and feeds the display."""
    idle_seconds: float = 0.0
    """How long the idle machine is measured before the run begins; reported beside the total, never subtracted."""
    pue: float = 1.0
    """Power usage effectiveness: energy of the whole site per energy of the machine, at least 1."""
    grams_co2e_per_kwh: float | None = None
    """Carbon intensity of the electricity in grams of CO2 equivalent; carbon is absent without it or `country`."""
    country: str | None = None
    """Three letters of the country (ISO 3166) whose yearly mean of the table in the package is the carbon intensity."""
    live_zone: str | None = None
    """Zone of Electricity Maps, such as DE or US-CAL-CISO, whose carbon intensity is asked for when the run starts, and
    again for the whole of it when it is resumed."""
    live_token_env: str = "ELECTRICITYMAPS_TOKEN"
    """Name of the environment variable that holds your token of Electricity Maps."""
    live_url: str = "https://api.electricitymaps.com/v3/carbon-intensity/latest"
    """Where `live_zone` is asked for."""
    usd_per_kwh: float | None = None
    """Price of the electricity in US dollars; cost is absent without it."""
    budget_kwh: float | None = None
    """Energy that the run may use, the parts before a resume included: it warns at 80 %, and at 100 % it saves and
    ends."""
    budget_g_co2e: float | None = None
    """The same for grams of CO2 equivalent."""
    budget_usd: float | None = None
    """The same for the cost in US dollars."""

    def __post_init__(self) -> None:
        sampling = self.sample_seconds
        check(
            0.01 <= sampling <= 10, "energy.sample_seconds", sampling, "0.01 to 10 s", "try energy.sample_seconds=0.1"
        )
        idle = self.idle_seconds
        check(0 <= idle <= 600, "energy.idle_seconds", idle, "0 to 600 s", "try energy.idle_seconds=10")
        check(1 <= self.pue < math.inf, "energy.pue", self.pue, "at least 1 and finite", "try energy.pue=1.2")
        for name in ("grams_co2e_per_kwh", "usd_per_kwh"):
            value = getattr(self, name)
            known = value is None or 0 <= value < math.inf
            check(known, f"energy.{name}", value, "null, or at least 0 and finite", "leave it null if unknown")
        self._check_devices()
        self._check_place()
        self._check_budgets()

    def _check_devices(self) -> None:
        watts, gpus = self.cpu_watts, self.gpus
        known = watts is None or 0 < watts < math.inf
        check(known, "energy.cpu_watts", watts, "null, or above 0 and finite", "try energy.cpu_watts=65")
        names = gpus if isinstance(gpus, list) else []
        valid = gpus in ("auto", "all", "none") or (bool(names) and all(re.match("(GPU|MIG)-", name) for name in names))
        rule = "auto, all, none or a list of UUIDs that start with GPU- or MIG-"
        check(valid, "energy.gpus", gpus, rule, "see nvidia-smi -L, or try energy.gpus=auto")

    def _check_place(self) -> None:
        given = [
            name for name in ("grams_co2e_per_kwh", "country", "live_zone") if getattr(self, name) not in (None, "")
        ]
        one = "one source of carbon intensity"
        check(len(given) < 2, " and ".join(f"energy.{name}" for name in given), "both", one, "set all but one to null")
        country, zone, name = self.country, self.live_zone, self.live_token_env
        three = country is None or re.fullmatch("[A-Z]{3}", country) is not None
        check(three, "energy.country", country, "null or three capital letters (ISO 3166)", "try energy.country=DEU")
        plain = zone is None or re.fullmatch(r"[A-Z]{2}(-[A-Z0-9]+)*", zone) is not None
        check(plain, "energy.live_zone", zone, "null or a zone of Electricity Maps", "try energy.live_zone=DE")
        variable = re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) is not None
        rule = "the name of an environment variable, not the token itself"
        check(variable, "energy.live_token_env", "something else", rule, "try ELECTRICITYMAPS_TOKEN")
        check("://" in self.live_url, "energy.live_url", self.live_url, "a URL", "leave it at its default")

    def _check_budgets(self) -> None:
        has_intensity = any(name is not None for name in (self.grams_co2e_per_kwh, self.country, self.live_zone))
        factors = {None: True, "a carbon intensity": has_intensity, "energy.usd_per_kwh": self.usd_per_kwh is not None}
        for name, factor in BUDGETS.items():
            value = getattr(self, name)
            positive = value is None or 0 < value < math.inf
            check(positive, f"energy.{name}", value, "null, or above 0 and finite", "leave it null for no budget")
            usable = value is None or factors[factor]
            remedy = "try energy.country=DEU" if factor == "a carbon intensity" else "try energy.usd_per_kwh=0.3"
            check(usable, f"energy.{name}", value, f"null without {factor}", remedy)
            measured = value is None or self.source != "off"
            check(measured, f"energy.{name}", value, "null with energy=off, which measures nothing", "drop one of both")
