"""Where false alarms come from, as far as the simulation or the masks of the data know it."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from astrid.config import DataConfig, SimulatedData
from astrid.data.frames import Field
from astrid.data.simulate.field import simulate_field

from .objects import Flags, JudgedObject, disc

LEAST_RADIUS = 2.0
"""Pixels around a false alarm in which its cause is looked for, at least; else the match radius."""
SIMULATED = {
    "cosmic_ray": "cosmic ray",
    "trail": "satellite trail",
    "hot_pixel": "hot pixel",
    "residue": "residue of the subtraction",
    "saturated": "saturated pixels",
    "transient": "transient",
}
"""Masks of the simulation, in words; the first of equals is the cause."""
MASKED, EDGE, BESIDE = "beside masked pixels", "edge of the frame", "beside an object"
NOISE, UNKNOWN = "no artefact: noise or a faint residue", "unknown"
"""What is left: where all artefacts are known, as on the simulated sky, and where they are not."""


@dataclass(frozen=True)
class Suspects:
    """What could be taken for an object.

    Attributes
    ----------
    masks : mapping of str to (H, W) bool
        By what it is called; empty for frames of which only the truth and the bad pixels are known.
    """

    masks: Mapping[str, Flags]


def suspects_of(config: DataConfig, origin: str) -> Suspects:
    """Return what is known of a field beyond its truth: of the simulated sky every artefact, simulated once more.

    Parameters
    ----------
    config : DataConfig
    origin : str
        Of the field, as in `Splits.origins`.
    """
    if not isinstance(config, SimulatedData):
        return Suspects({})
    _, _, split, index = origin.split(" ")  # sky SEED SPLIT INDEX
    masks = simulate_field(config, split=split, index=int(index)).masks
    return Suspects({name: masks[key] for key, name in SIMULATED.items() if key != config.target})


def with_causes(
    objects: Sequence[JudgedObject], field: Field, suspects: Suspects, *, radius: float | None
) -> list[JudgedObject]:
    """Return the objects of a field, false alarms with their cause.

    It is the suspect with the most pixels within the match radius. Where none has any, it is a masked pixel, the edge
    of the frame or an object of the truth that lies within the radius. Else it is noise where every artefact is known,
    and unknown where they are not.
    """
    reach = max(LEAST_RADIUS, radius or 0.0)
    return [
        dataclasses.replace(one, cause=_cause(one, field, suspects, reach)) if one.outcome == "false alarm" else one
        for one in objects
    ]


def _cause(one: JudgedObject, field: Field, suspects: Suspects, reach: float) -> str:
    height, width = field.valid.shape
    where = disc(field.valid.shape, x=one.x, y=one.y, radius=reach)
    touched = {name: int(mask[where].sum()) for name, mask in suspects.masks.items()}
    if any(touched.values()):
        return max(touched, key=lambda name: touched[name])
    if not field.valid[where].all():
        return MASKED
    if min(one.x, one.y, width - 1 - one.x, height - 1 - one.y) < reach:
        return EDGE
    if np.any(field.target[where]):
        return BESIDE
    return NOISE if suspects.masks else UNKNOWN


def count_causes(objects: Sequence[JudgedObject]) -> list[tuple[str, int]]:
    """Return how many false alarms have each cause, the commonest first."""
    return Counter(one.cause or UNKNOWN for one in objects if one.outcome == "false alarm").most_common()
