"""What a run reports: a journal in its folder first, MLflow whenever it answers."""

from __future__ import annotations

from .journal import Journal, Status, StillRunning
from .places import ui_command
from .shipper import ShippingError
from .tracker import Tracker, open_tracker, sync

__all__ = ["Journal", "ShippingError", "Status", "StillRunning", "Tracker", "open_tracker", "sync", "ui_command"]
