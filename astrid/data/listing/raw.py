"""How training starts from the raw frames of a folder: their sets of calibration frames, and the knobs beside these."""

from __future__ import annotations

import glob
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from astrid.config import DataError

from .. import keywords
from ..frames import unit_named
from ..rows import Section
from .pictures import Listed

KINDS = ("bias", "dark", "flat")
FROM_HEADERS = ("saturation", "overscan", "trim", "gain", "read_noise")
"""Knobs that headers may give, in the order of their steps."""
_MOST_NAMED = 8  # calibration frames of a kind that a command names one by one


def find_sets(pictures: Sequence[Listed], kept: Sequence[Listed]) -> dict[str, list[Listed]]:
    """Return the calibration frames of the shape of the science frames, and flats of their filter, by kind."""
    shapes, filters = {one.shape for one in kept}, {one.facts.filter for one in kept}
    fitting = [one for one in pictures if one.role == "science" and one.shape in shapes]
    sets = {kind: [one for one in fitting if one.kind == kind] for kind in KINDS}
    return sets | {"flat": [one for one in sets["flat"] if one.facts.filter in filters]}


def name_set(exposures: Sequence[Listed], folder: Path) -> list[str]:
    """Return how a command names a set: by a pattern that matches its files and no other, or one by one.

    Nothing where there is no such pattern and the files are many.
    """
    shapes, filters = {one.shape for one in exposures}, {one.facts.filter for one in exposures if one.kind == "flat"}
    files = [Path(one.file) for one in exposures]
    if len(files) > 1 and len({file.parent for file in files}) == len(shapes) == 1 and len(filters) < 2:
        wanted = {folder / file for file in files}
        for pattern in _patterns([file.name for file in files]):
            if set((folder / files[0].parent).glob(pattern)) == wanted:
                return [str(files[0].parent / pattern)]
    return [one.file for one in exposures] if len(exposures) <= _MOST_NAMED else []


def _patterns(names: Sequence[str]) -> list[str]:
    """Return patterns of these names, the widest first: `*.fits`, `bias_*.fits`, `*_r.fits`, `bias_*_r.fits`."""
    head = _shared_start(names).rstrip("0123456789")
    tail = _shared_start([name[::-1] for name in names])[::-1].lstrip("0123456789")
    ending = tail[max(tail.find("."), 0) :]
    pairs = [("", ending), (head, ending), ("", tail), (head, tail)]
    return [f"{glob.escape(before)}*{glob.escape(after)}" for before, after in dict.fromkeys(pairs)]


def _shared_start(texts: Sequence[str]) -> str:
    columns = takewhile(lambda letters: len(set(letters)) == 1, zip(*texts, strict=False))
    return "".join(letters[0] for letters in columns)


@dataclass(frozen=True)
class Detector:
    """How the steps of the detector are to be taken.

    Attributes
    ----------
    knobs : dict
        Of `data.preprocess`, beside the sets. A knob is `header` where the headers of all frames that it is for, those
        of the sets too, give what its step can use.
    unusable : list of str
        Kinds of calibration frames that need the counts of no light, which nothing tells.
    """

    knobs: dict[str, object]
    unusable: list[str]


def find_detector(
    kept: Sequence[Listed], references: Mapping[str, Listed], sets: Mapping[str, Sequence[Listed]]
) -> Detector:
    """Find how science frames and references are calibrated; without calibration frames they count as reduced."""
    chosen = [references[one.file] for one in kept if one.file in references]
    is_raw = bool(chosen) and all(_is_raw(one, kept) for one in chosen)
    exposures = [*kept, *(chosen if is_raw else ())]
    calibration = [one for own in sets.values() for one in own]
    if not calibration:
        return Detector({}, [])
    shared = set.intersection(*(_numbers(one) | _sections(one) for one in dict.fromkeys([*exposures, *calibration])))
    unusable = []
    if not sets["bias"] and "overscan" not in shared:
        shared.discard("read_noise")  # the noise of photons needs the counts of no light
        unusable = _needing_bias(exposures, sets)
    if not any(own for kind, own in sets.items() if kind not in unusable):
        return Detector({}, unusable)
    knobs: dict[str, object] = {name: "header" for name in FROM_HEADERS if name in shared}
    return Detector(knobs | ({"raw_reference": True} if is_raw else {}), unusable)


def _needing_bias(exposures: Sequence[Listed], sets: Mapping[str, Sequence[Listed]]) -> list[str]:
    """Return the kinds that can't do without bias: flats, and darks, unless these lasted as long as all the rest."""
    from ..reduction.told import SAME_DURATION

    seconds = [one.facts.seconds for one in (*exposures, *sets["dark"], *sets["flat"])]
    lengths = [one for one in seconds if one is not None]
    are_alike = len(lengths) == len(seconds) and max(lengths) <= (1 + SAME_DURATION) * min(lengths)
    return [] if sets["dark"] and are_alike else [kind for kind in ("dark", "flat") if sets[kind]]


def _is_raw(reference: Listed, kept: Sequence[Listed]) -> bool:
    """Tell whether a reference is as its detector gave it: no picture that its name calls one, and still in counts."""
    from ..reduction.told import are_counts  # which takes a second to import

    is_exposure = reference.role == "science" and reference.shape in {one.shape for one in kept}
    return is_exposure and are_counts(reference.readout, unit_named(reference.readout))


def _numbers(one: Listed) -> set[str]:
    """Return the knobs whose numbers a header gives; counts alone have a gain."""
    from ..reduction.told import NUMBERS, are_counts, knob_number

    found = set()
    for name in NUMBERS:
        with suppress(DataError):
            knob_number(one.readout, "header", name)
            found.add(name)
    return found if are_counts(one.readout, unit_named(one.readout)) else found - {"gain", "read_noise"}


def _sections(one: Listed) -> set[str]:
    """Return which of overscan and trim a header gives, neither where they share pixels."""
    from ..reduction.detector import check_inside, overscan_axis
    from ..reduction.told import check_apart, told_section

    found: dict[str, Section] = {}
    with suppress(DataError):
        strip = told_section(one.readout, keywords.OVERSCAN, knob="overscan")
        overscan_axis(strip, one.shape)
        found["overscan"] = strip
    with suppress(DataError):
        kept = told_section(one.readout, keywords.TRIM, knob="trim")
        check_inside("trim", kept, one.shape)
        found["trim"] = kept
    try:
        check_apart(found.get("overscan"), found.get("trim"))
    except DataError:
        return set()
    return set(found)
