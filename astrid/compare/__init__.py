"""Runs beside each other: which is best, how surely, at what cost, and what differs between them."""

from __future__ import annotations

from .ranking import Comparison, compare

__all__ = ["Comparison", "compare"]
