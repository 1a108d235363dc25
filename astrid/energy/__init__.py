"""Energy of a run: sources (NVML, RAPL, none), meter (phases), ledger (what was read) and carbon (what it means)."""

from .carbon import energy_labels, energy_metrics
from .ledger import Component, EnergySummary, PhaseEnergy
from .meter import Meter, Span, build_meter
from .sources import Label

__all__ = [
    "Component",
    "EnergySummary",
    "Label",
    "Meter",
    "PhaseEnergy",
    "Span",
    "build_meter",
    "energy_labels",
    "energy_metrics",
]
