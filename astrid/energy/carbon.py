"""From joules to kilowatt-hours, grams of CO2 equivalent and dollars, by explicit factors."""

from __future__ import annotations

from .factors import Factors
from .records import Component, EnergySummary

JOULES_PER_KWH = 3.6e6


def energy_metrics(summary: EnergySummary, factors: Factors) -> dict[str, float]:
    """Give the energy, carbon and cost of a run by metric name; what is unknown is absent.

    Parameters
    ----------
    summary : EnergySummary
        What was measured.
    factors : Factors
        Carbon and cost are those of the site, kWh × PUE × factor; the kWh are the machine's own.

    Returns
    -------
    dict of str to float
        `energy/total_kwh` sums the components that were measured, named by `energy_labels` under `energy.total`;
        `energy/PHASE_joules` are the parts of that total. `energy/seconds` is the time over which they were measured,
        and absent without them.
    """
    joules, kwh = _known_joules(summary), total_kwh(summary)
    if kwh is None:
        return {}
    metrics = {f"energy/{name}_joules": value for name, value in (joules | phase_joules(summary)).items()}
    metrics |= {"energy/total_kwh": kwh, "energy/seconds": summary.seconds}
    return metrics | _beside_the_total(summary) | consequences(kwh, factors)


def total_kwh(summary: EnergySummary) -> float | None:
    """Give the energy of all components that were measured; None where none was."""
    joules = _known_joules(summary)
    return sum(joules.values()) / JOULES_PER_KWH if joules else None


def consequences(kwh: float, factors: Factors) -> dict[str, float]:
    """Give carbon and cost of an energy, by metric name, where their factors are known."""
    grams = None if factors.intensity is None else factors.intensity.grams_co2e_per_kwh
    rates = {"carbon/g_co2e": grams, "cost/usd": factors.usd_per_kwh}
    return {name: kwh * factors.pue * rate for name, rate in rates.items() if rate is not None}


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


def per_image(summary: EnergySummary, *, train_images: int, val_images: int, tile_size: int) -> dict[str, float]:
    """Give the joules of an image, and of a megapixel, in training and in inference, by metric name.

    Parameters
    ----------
    summary : EnergySummary
    train_images, val_images : int
        Tiles that were trained on and validated, each as often as it was seen: forward and backward passes, and forward
        passes with their metrics.
    tile_size : int
        Edge of a tile in pixels.
    """
    joules, metrics = phase_joules(summary), {}
    for phase, name, images in (("train", "train", train_images), ("validation", "inference", val_images)):
        if phase in joules and images > 0:
            metrics[f"energy/{name}_joules_per_image"] = joules[phase] / images
            metrics[f"energy/{name}_joules_per_mpix"] = joules[phase] / (images * tile_size**2 / 1e6)
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
