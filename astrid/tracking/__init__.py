"""What a run reports: a journal in its folder first, MLflow whenever it answers."""

from __future__ import annotations

from .journal import Journal, Status, StillRunning
from .places import ui_command
from .preflight import check_artifacts
from .progress import known_run_id
from .shipper import RunDeletedError, ShippingError
from .tables import Table
from .tracker import Tracker, open_tracker, sync

__all__ = [
    "Journal",
    "RunDeletedError",
    "ShippingError",
    "Status",
    "StillRunning",
    "Table",
    "Tracker",
    "check_artifacts",
    "known_run_id",
    "open_tracker",
    "sync",
    "ui_command",
]
