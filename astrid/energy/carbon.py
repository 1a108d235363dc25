"""From joules to kilowatt-hours, grams of CO2 equivalent and dollars, by explicit factors."""

from __future__ import annotations

from astrid.config import EnergyConfig

from .records import Component, EnergySummary

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
        `energy/total_kwh` sums the components that were measured, named by `energy_labels` under `energy.total`;
        `energy/PHASE_joules` are the parts of that total. `energy/seconds` is the time over which they were measured,
        and absent without them.
    """
    joules = _known_joules(summary)
    if not joules:
        return {}
    kwh = sum(joules.values()) / JOULES_PER_KWH
    metrics = {f"energy/{name}_joules": value for name, value in joules.items()}
    metrics |= {"energy/total_kwh": kwh, "energy/seconds": summary.seconds}
    metrics |= {f"energy/{name}_joules": value for name, value in phase_joules(summary).items()}
    metrics |= _beside_the_total(summary)
    if config.grams_co2e_per_kwh is not None:
        metrics["carbon/g_co2e"] = kwh * config.pue * config.grams_co2e_per_kwh
    if config.usd_per_kwh is not None:
        metrics["cost/usd"] = kwh * config.pue * config.usd_per_kwh
    return metrics


def phase_joules(summary: EnergySummary) -> dict[str, float]:
    """Give the joules of each phase, over the components that the total holds, so that they sum to it."""
    names = list(_known_joules(summary))
    parts = {phase: [getattr(whole, name).joules for name in names] for phase, whole in summary.phases.items()}
    return {phase: sum(joules) for phase, joules in parts.items() if joules}


def _beside_the_total(summary: EnergySummary) -> dict[str, float]:
    """Give the idle machine's power and its energy over the time of the run, and the sampled power for comparison."""
    metrics: dict[str, float] = {}
    idle = summary.idle
    if idle is not None and idle.joules is not None and idle.seconds > 0:
        watts = idle.joules / idle.seconds
        metrics |= {"energy/idle_watts": watts, "energy/idle_joules": watts * summary.seconds}
    if summary.gpu.check_joules is not None:
        metrics["energy/gpu_sampled_joules"] = summary.gpu.check_joules
    return metrics


def energy_labels(summary: EnergySummary) -> dict[str, str]:
    """Say of each component how its energy was obtained, from what or why not, and which of them the total holds."""
    known = "+".join(_known_joules(summary)) or "unavailable"
    notes = {"energy.notes": "; ".join(summary.notes)} if summary.notes else {}
    return {**_describe("gpu", summary.gpu), **_describe("cpu", summary.cpu), "energy.total": known} | notes


def _known_joules(summary: EnergySummary) -> dict[str, float]:
    components = {"gpu": summary.gpu, "cpu": summary.cpu}
    return {name: component.joules for name, component in components.items() if component.joules is not None}


def _describe(name: str, component: Component) -> dict[str, str]:
    labels = {f"energy.{name}": component.label, f"energy.{name}.source": component.source}
    if component.reason is not None:
        labels[f"energy.{name}.reason"] = component.reason
    if component.error_joules is not None:
        labels[f"energy.{name}.error"] = f"+- {component.error_joules:.3g} J, a tick of the counter"
    return labels
