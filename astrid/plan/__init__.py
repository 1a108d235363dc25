"""Sizes of network and batch for the data and the device at hand: rules that explain themselves, and trial steps."""

from .proposal import Plan, known_reach, propose, settle
from .rules import Choice

__all__ = ["Choice", "Plan", "known_reach", "propose", "settle"]
