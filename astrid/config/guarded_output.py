"""Keep secrets out of what a process prints: its log lines, its output, and the traceback of what ends it."""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, TextIO, cast

from .secrets import scrub


class ScrubbedRecords:
    """A factory of log records whose text is scrubbed before any handler sees it.

    A filter would have to be on every handler, those that Hydra and MLflow make included; each record comes by here.
    """

    def __init__(self, make: Callable[..., logging.LogRecord]) -> None:
        self.make = make

    def __call__(self, *arguments: Any, **named: Any) -> logging.LogRecord:
        """Make a record with nothing left to be filled in."""
        record = self.make(*arguments, **named)
        try:
            message = record.getMessage()
        except Exception:  # noqa: BLE001 - a bad call of any library: logging would print that, and never raise
            message = f"{record.msg!r} with arguments that don't fit it"
        record.msg, record.args = scrub(message), ()
        if record.exc_info and record.exc_info[0] is not None:
            record.exc_text = scrub("".join(traceback.format_exception(*record.exc_info)).rstrip())
        return record


class ScrubbedStream:
    """A stream that scrubs what is written to it, for what others print: Hydra repeats the command line in errors."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Write the text without secrets."""
        self.stream.write(scrub(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write the lines without secrets."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def guard_output() -> None:
    """Keep secrets out of all that this process logs and prints, and of the traceback of whatever ends it."""
    make = logging.getLogRecordFactory()
    if not isinstance(make, ScrubbedRecords):
        logging.setLogRecordFactory(ScrubbedRecords(make))
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if not isinstance(stream, ScrubbedStream):
            setattr(sys, name, cast(TextIO, ScrubbedStream(stream)))
    sys.excepthook = _print_scrubbed
    threading.excepthook = lambda crash: _print_scrubbed(crash.exc_type, crash.exc_value, crash.exc_traceback)


def _print_scrubbed(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    print(scrub("".join(traceback.format_exception(kind, error, trace))), end="", file=sys.stderr)
