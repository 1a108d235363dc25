"""Assessments kept in the cache, one file each, so that a second run needn't look at the exposures again."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import numpy as np

from .assess import Assessment
from .header import Facts


def read_kept(path: Path) -> Assessment | None:
    """Return an assessment that is kept, or None where there is none or it is damaged."""
    try:
        kept = json.loads(path.read_text())
        return Assessment(
            kept["name"],
            Facts(**kept["facts"]),
            (kept["shape"][0], kept["shape"][1]),
            values=kept["values"],
            absent=kept["absent"],
            places=np.array(kept["places"], dtype=np.float64).reshape(-1, 2),
            pixel_arcsec=kept["pixel_arcsec"],
        )
    except (OSError, ValueError, KeyError, TypeError):  # made anew
        return None


def keep(found: Assessment, path: Path) -> None:
    """Write an assessment, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    parts = vars(found) | {"facts": dataclasses.asdict(found.facts), "places": found.places.tolist()}
    partial.write_text(json.dumps(parts))
    partial.replace(path)
