"""What went wrong in a run, or is about to: findings with their evidence, a figure and the knob to turn."""

from __future__ import annotations

from .examine import Diagnosis, diagnose
from .finding import Finding
from .report import as_text, write_diagnosis

__all__ = ["Diagnosis", "Finding", "as_text", "diagnose", "write_diagnosis"]
