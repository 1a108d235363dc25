"""The files of a folder and below it: one rule for all commands that are given folders."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

NO_FILE = "a pipe, socket or device and no regular file"


def walk_files(folder: Path) -> Iterator[Path]:
    """Yield what lies in a folder and below it and is no folder, links to folders followed; nothing that is hidden.

    A folder that is reached in several ways, as by a link back to one above, is looked into once: by its own name
    rather than by a link beside it.
    """
    seen: set[str] = set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(parent)) in seen:  # a link back would go round for ever
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(_shown(folders), key=lambda name: (Path(parent, name).is_symlink(), name))
        yield from (Path(parent, name) for name in _shown(files))


def _shown(names: list[str]) -> list[str]:
    return [name for name in names if not name.startswith(".")]
