"""Energy of a run: sensors (NVML, RAPL), meter (phases), ledger (what was read) and carbon (what it means)."""

from .analysis import EnergyAnalyzer, RunEnergy
from .build import build_meter
from .carbon import JOULES_PER_KWH, consequences, energy_labels, energy_metrics, per_image, total_kwh
from .factors import Factors, find_factors
from .gpu_load import GpuLoad, open_gpu_load
from .meter import Meter
from .records import Component, EnergySummary, PhaseEnergy
from .sources import Label, SourceError
from .span import Span

__all__ = [
    "JOULES_PER_KWH",
    "Component",
    "EnergyAnalyzer",
    "EnergySummary",
    "Factors",
    "GpuLoad",
    "Label",
    "Meter",
    "PhaseEnergy",
    "RunEnergy",
    "SourceError",
    "Span",
    "build_meter",
    "consequences",
    "energy_labels",
    "energy_metrics",
    "find_factors",
    "open_gpu_load",
    "per_image",
    "total_kwh",
]
