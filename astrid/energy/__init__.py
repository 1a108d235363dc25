"""Energy of a run: sensors (NVML, RAPL), meter (phases), ledger (what was read) and carbon (what it means)."""

from .build import build_meter
from .carbon import energy_labels, energy_metrics
from .gpu_load import GpuLoad, open_gpu_load
from .meter import Meter
from .records import Component, EnergySummary, PhaseEnergy
from .sources import Label, SourceError
from .span import Span

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
