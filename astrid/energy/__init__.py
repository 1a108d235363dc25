"""Energy of a run: sources (NVML, RAPL, none), meter (phases), ledger (what was read) and carbon (what it means)."""

from .carbon import energy_labels, energy_metrics
from .gpu_load import GpuLoad, open_gpu_load
from .ledger import Component, EnergySummary, PhaseEnergy
from .meter import Meter, Span, build_meter
from .sources import Label, SourceError

__all__ = [
    "Component",
    "EnergySummary",
    "GpuLoad",
    "Label",
    "Meter",
    "PhaseEnergy",
    "SourceError",
    "Span",
    "build_meter",
    "energy_labels",
    "energy_metrics",
    "open_gpu_load",
]
