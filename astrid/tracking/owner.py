"""Which process writes to a run, and whether it still lives."""

from __future__ import annotations

import os
import socket
import time

import psutil

from .records import Attached


def now_ms() -> int:
    """Return the time in milliseconds since 1970, as MLflow counts it."""
    return time.time_ns() // 1_000_000


def this_process() -> Attached:
    """Name this process so that another can later tell whether it still lives."""
    pid = os.getpid()
    return Attached(socket.gethostname(), pid, process_started=psutil.Process(pid).create_time(), time_ms=now_ms())


def is_alive(owner: Attached) -> bool | None:
    """Say whether the process lives; None if it ran on another host, from where nobody can tell.

    The start time tells the process from a later one that got the same number. A zombie is dead: killed, and not yet
    waited for by its parent.
    """
    if owner.host != socket.gethostname():
        return None
    try:
        process = psutil.Process(owner.pid)
        same = abs(process.create_time() - owner.process_started) < 2.0
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
