"""From joules to kilowatt-hours, grams of CO2 equivalent and dollars, by explicit factors."""

from __future__ import annotations

from astrid.config import EnergyConfig

from .ledger import Component, EnergySummary

JOULES_PER_KWH = 3.6e6


def energy_metrics(summary: EnergySummary, config: EnergyConfig) -> dict[str, float]:
    """Give the energy, carbon and cost of a run by metric name; what is unknown is absent.

    Parameters
    ----------
    summary : EnergySummary
        What was measured.
    config : EnergyConfig
        The factors. Carbon and cost are those of the site, kWh × PUE × factor; the kWh are the machine's own.

    Returns
    -------
    dict of str to float
        `energy/total_kwh` sums the components that were measured, named by `energy_labels` under `energy.total`.
        `energy/seconds` is the time over which they were, and absent without them.
    """
    joules = _known_joules(summary)
    if not joules:
        return {}
    kwh = sum(joules.values()) / JOULES_PER_KWH
    metrics = {f"energy/{name}_joules": value for name, value in joules.items()}
    metrics |= {"energy/total_kwh": kwh, "energy/seconds": summary.seconds}
    if config.grams_co2e_per_kwh is not None:
        metrics["carbon/g_co2e"] = kwh * config.pue * config.grams_co2e_per_kwh
    if config.usd_per_kwh is not None:
        metrics["cost/usd"] = kwh * config.pue * config.usd_per_kwh
    return metrics


def energy_labels(summary: EnergySummary) -> dict[str, str]:
    """Say of each component how its energy was obtained, from what or why not, and which of them the total holds."""
    known = "+".join(_known_joules(summary)) or "unavailable"
    return {**_describe("gpu", summary.gpu), **_describe("cpu", summary.cpu), "energy.total": known}


def _known_joules(summary: EnergySummary) -> dict[str, float]:
    components = {"gpu": summary.gpu, "cpu": summary.cpu}
    return {name: component.joules for name, component in components.items() if component.joules is not None}


def _describe(name: str, component: Component) -> dict[str, str]:
    labels = {f"energy.{name}": component.label, f"energy.{name}.source": component.source}
    return labels | ({f"energy.{name}.reason": component.reason} if component.reason is not None else {})
