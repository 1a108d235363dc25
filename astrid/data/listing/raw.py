"""How training starts from the raw frames of a folder: their sets of calibration frames, and the knobs beside these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..frames import unit_named
from .pictures import Listed

KINDS = ("bias", "dark", "flat")


def find_sets(pictures: Sequence[Listed], kept: Sequence[Listed]) -> dict[str, list[Listed]]:
    """Return the calibration frames of the shape of the science frames, and flats of their filter, by kind."""
    shapes, filters = {one.shape for one in kept}, {one.facts.filter for one in kept}
    fitting = [one for one in pictures if one.role == "science" and one.shape in shapes]
    sets = {kind: [one for one in fitting if one.kind == kind] for kind in KINDS}
    return sets | {"flat": [one for one in sets["flat"] if one.facts.filter in filters]}


def detector_knobs(
    kept: Sequence[Listed], references: Mapping[str, Listed], sets: Mapping[str, Sequence[Listed]]
) -> dict[str, object]:
    """Return the knobs of `data.preprocess` with which the sets calibrate science frames and references.

    Without calibration frames there are none, as frames then count as reduced.
    """
    if not any(sets.values()):
        return {}
    chosen = [references[one.file] for one in kept if one.file in references]
    return {"raw_reference": True} if chosen and all(_is_raw(one, kept) for one in chosen) else {}


def _is_raw(reference: Listed, kept: Sequence[Listed]) -> bool:
    """Tell whether a reference is as its detector gave it: no picture that its name calls one, and still in counts."""
    from ..reduction.chain import are_counts  # which takes a second to import

    is_exposure = reference.role == "science" and reference.shape in {one.shape for one in kept}
    return is_exposure and are_counts(reference.readout, unit_named(reference.readout))
