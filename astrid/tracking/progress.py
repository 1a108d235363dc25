"""How much of a journal each MLflow has, in a small file beside it."""

from __future__ import annotations

import json
import logging
import uuid
from pathlib import Path
from typing import Any

from .places import resolve_uri, without_password

log = logging.getLogger(__name__)

FILE_NAME = "shipped.json"


def known_run_id(run_dir: Path) -> str | None:
    """Return the id of the run in MLflow, where it was sent to one and no other."""
    ids = {entry.get("run_id") for entry in _read(run_dir / FILE_NAME).values()}
    return ids.pop() if len(ids) == 1 else None


class Progress:
    """Run id and number of journal bytes sent, for one MLflow; losing it costs a replay and nothing else."""

    def __init__(self, run_dir: Path, uri: str) -> None:
        self._path = run_dir / FILE_NAME
        self._key = without_password(resolve_uri(uri))
        entry = _read(self._path).get(self._key, {})
        self.run_id: str | None = entry.get("run_id")
        self.offset: int = entry.get("offset", 0)

    def restart(self, run_id: str) -> None:
        """Begin again with a run that may lack everything."""
        self.run_id = run_id
        self.advance(0)

    def advance(self, offset: int) -> None:
        """Note that the journal is sent up to `offset` bytes; a reader never sees half a file."""
        self.offset = offset
        entries = _read(self._path) | {self._key: {"run_id": self.run_id, "offset": offset}}
        half = self._path.with_name(f"{FILE_NAME}.{uuid.uuid4().hex}")  # not shared with a sync beside a run that ends
        half.write_text(json.dumps(entries, indent=1))
        half.replace(self._path)


def _read(path: Path) -> dict[str, Any]:
    try:
        entries = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except ValueError:
        log.warning("%s is damaged; everything is sent to MLflow again, which doubles nothing", path)
        return {}
    return entries if isinstance(entries, dict) else {}
