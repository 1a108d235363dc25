"""How much memory a call takes."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable


def memory_peak(work: Callable[[], object]) -> int:
    """Return the bytes that a call takes at most at one time, beyond what was there."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
