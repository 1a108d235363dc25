"""Assessments kept in the cache, one file each, so that a second run needn't look at the exposures again."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np

from ..store import make_folder, whole, writing
from .assess import Assessment
from .header import Facts

logger = logging.getLogger(__name__)

PARTS, DIGEST = "assessment", "sha256"


def read_kept(path: Path) -> Assessment | None:
    """Return an assessment that is kept, or None where there is none or it isn't what was written."""
    try:
        kept = json.loads(path.read_text())
        if _digest(kept[PARTS]) != kept[DIGEST]:
            raise ValueError("its checksum is another")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        logger.warning("%s is damaged (%s): its exposure is assessed again", path, error)
        return None
    parts = kept[PARTS]
    made = {
        "facts": Facts(**parts["facts"]),
        "shape": tuple(parts["shape"]),
        "places": np.array(parts["places"], dtype=np.float64).reshape(-1, 2),
    }
    return Assessment(**parts | made)


def keep(found: Assessment, path: Path) -> None:
    """Write an assessment with its checksum, whole or not at all.

    Raises
    ------
    RunError
        If the disk can't take it.
    """
    make_folder(path.parent)
    parts = vars(found) | {"facts": dataclasses.asdict(found.facts), "places": found.places.tolist()}
    with writing(path.parent), whole(path) as partial:
        partial.write_text(json.dumps({PARTS: parts, DIGEST: _digest(parts)}))


def _digest(parts: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
