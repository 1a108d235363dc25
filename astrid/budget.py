"""What a run may use: a warning at 80 % of a budget, and a clean end when it is spent."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from astrid.alerts import Alert
from astrid.config import BudgetSpent, ConfigError, EnergyConfig, Stopped
from astrid.energy import JOULES_PER_KWH, Factors, Meter, build_meter, consequences
from astrid.runtime import Runtime, StopSignals
from astrid.training import StepReport

log = logging.getLogger(__name__)

WARN_AT = 0.8
LOOK_SECONDS = 1.0
UNITS = {"kwh": "kWh", "g_co2e": "g CO2e", "usd": "USD"}


class Budget:
    """The limits of a run on energy, carbon and cost, the parts before a resume included.

    Parameters
    ----------
    config : EnergyConfig
    factors : Factors
        What turns energy into carbon and cost.
    meter : Meter
        What was used so far.
    stop : StopSignals
        Where the loop looks whether it should save and end.
    tell : callable
        Called once for each limit of which 80 % are used.
    clock : callable
        Monotonic time in seconds.
    """

    def __init__(
        self,
        config: EnergyConfig,
        factors: Factors,
        *,
        meter: Meter,
        stop: StopSignals,
        tell: Callable[[Alert], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits = limits_of(config)
        self._factors, self._meter, self._stop, self._tell, self._clock = factors, meter, stop, tell, clock
        self._told: set[str] = set()
        self._most = 0.0
        self._looked = -LOOK_SECONDS
        self.spent: str | None = None

    def look(self) -> None:
        """Compare what was used with the limits, at most once a second; once one is spent ask the loop to stop."""
        now = self._clock()
        if not self._limits or self.spent is not None or now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        used = self._used()
        for name, limit in self._limits.items():
            if name not in used:
                self._say_unknown(name)
            elif used[name] >= limit:
                self.spent = f"energy.budget_{name}={limit:g} is spent: {used[name]:.4g} {UNITS[name]} are used"
                self._stop.received = self._stop.received or "its budget"
                return
            elif used[name] >= WARN_AT * limit:
                self._warn(name, used[name], limit)

    def watching(self, show: Callable[[StepReport], None]) -> Callable[[StepReport], None]:
        """Return what shows a step, and then looks."""

        def show_and_look(report: StepReport) -> None:
            show(report)
            self.look()

        return show_and_look

    def _used(self) -> dict[str, float]:
        """Give what was used, by unit: of a component that is lost what it had used by then, which never falls."""
        known = self._meter.known()
        if known.joules is None:
            return {}
        if known.missing:
            self._say_partial(" and ".join(known.missing))
        kwh = self._most = max(self._most, known.joules / JOULES_PER_KWH)
        costs = consequences(kwh, self._factors)
        used = {"kwh": kwh, "g_co2e": costs.get("carbon/g_co2e"), "usd": costs.get("cost/usd")}
        return {name: value for name, value in used.items() if value is not None}

    def _warn(self, name: str, used: float, limit: float) -> None:
        if name in self._told:
            return
        self._told.add(name)
        message = f"{used:.4g} of {limit:g} {UNITS[name]} are used; at 100 % the run saves and ends"
        self._tell(Alert(f"budget_{name}", message, used, limit))

    def _say_unknown(self, name: str) -> None:
        if name not in self._told:
            log.warning("energy.budget_%s can't be kept any more: what the run uses is not measured", name)
        self._told.add(name)

    def _say_partial(self, lost: str) -> None:
        if lost not in self._told:
            log.warning("the budgets of energy can't be kept whole: the %s is not measured all the time", lost)
        self._told.add(lost)

    @contextmanager
    def ending(self) -> Iterator[None]:
        """Let a block that stopped since the budget is spent end as `BudgetSpent`."""
        try:
            yield
        except Stopped as stopped:
            if self.spent is None:
                raise
            raise BudgetSpent(f"{self.spent}; {stopped} with a larger budget") from stopped


def limits_of(config: EnergyConfig) -> dict[str, float]:
    """Return the limits that are set, by unit."""
    limits = {"kwh": config.budget_kwh, "g_co2e": config.budget_g_co2e, "usd": config.budget_usd}
    return {name: limit for name, limit in limits.items() if limit is not None}


def in_phase(meter: Meter, phase: str, call: Callable[[dict[str, float]], None]) -> Callable[[dict[str, float]], None]:
    """Return a call that is metered as a phase of its own."""

    def metered(values: dict[str, float]) -> None:
        with meter.phase(phase):
            call(values)

    return metered


def check_measured(config: EnergyConfig, meter: Meter, *, uses_gpu: bool) -> None:
    """Refuse a budget that nobody could keep: one of a run whose GPU, or of which nothing, is measured.

    Raises
    ------
    ConfigError
        Naming the budget.
    """
    for name, limit in limits_of(config).items():
        if not meter.measures:
            remedy = "leave it null, or estimate by energy.cpu_watts"
            raise ConfigError(f"energy.budget_{name} must be null where no energy is measured, got {limit:g}; {remedy}")
        if uses_gpu and not meter.measures_gpu and config.gpus != "none":
            rule, remedy = "null where the GPU is used and not measured", "leave it null, or say energy.gpus=none"
            raise ConfigError(f"energy.budget_{name} must be {rule}, got {limit:g}; {remedy} to count the rest only")


def open_meter(config: EnergyConfig, runtime: Runtime) -> Meter:
    """Open the energy meter on the devices of this run; its ledger waits until the run has its folder."""
    meter = build_meter(config, gpu_uuids=runtime.gpu_uuids, synchronise=runtime.synchronise, ledger=None)
    check_measured(config, meter, uses_gpu=bool(runtime.gpu_uuids))
    return meter
