"""What launchers raise where a job's process is gone: killed, short of memory, or its node lost."""

from __future__ import annotations

import sys
from concurrent.futures import BrokenExecutor

RAISED_BY = (("submitit.core.utils", "UncompletedJobError"), ("ray.exceptions", "RayError"))
"""Module and name of each launcher's own; joblib's is a `BrokenExecutor`."""


def lost_job_errors() -> tuple[type[Exception], ...]:
    """Return the errors of the launchers in use; one that nobody has imported cannot have raised anything."""
    own = [getattr(sys.modules[module], name) for module, name in RAISED_BY if module in sys.modules]
    return (BrokenExecutor, *own)
