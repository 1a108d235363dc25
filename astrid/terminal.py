"""Whether somebody looks at a live terminal, or lines are wanted."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def draws_bars(console: Console) -> bool:
    """Tell whether bars and live pages may be drawn: on a terminal that isn't asked for plain lines.

    Lines are for NO_COLOR (https://no-color.org) and for CI, which may have a terminal at which nobody looks; with
    `--quiet` there are neither.
    """
    return console.is_terminal and not asks_for_plain() and not is_quiet()


def asks_for_plain() -> bool:
    """Tell whether the environment asks for lines without colour."""
    return bool(os.environ.get("NO_COLOR") or os.environ.get("CI"))


def is_quiet() -> bool:
    """Tell whether only warnings are wanted, as `astrid --quiet` sets it."""
    return logging.getLogger("astrid").level >= logging.WARNING


@contextmanager
def only_warnings(*names: str) -> Iterator[None]:
    """Let these loggers warn and say nothing less; their levels are put back, as they belong to the whole process."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
