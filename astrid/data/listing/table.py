"""The manifest of a folder: which pictures become rows, with which companions, and the command that trains on them."""

from __future__ import annotations

import csv
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from astrid.units import counted

from ..quality.header import SMALLEST_EDGE
from ..store import whole
from .nights import find_nights
from .pairs import Rule, choose_references
from .patches import find_fields
from .pictures import Listed
from .raw import Detector, find_detector, find_sets

logger = logging.getLogger(__name__)

PLANES = ("target", "mask", "weight")
_NAMED = 3  # files that a message names


@dataclass(frozen=True)
class Rules:
    """How a manifest is made.

    Attributes
    ----------
    reference : str
        Which exposure is the reference of which, as in `choose_references`.
    tolerance_arcmin : float
        As in `find_fields`.
    longitude : float or None
        As in `find_nights`.
    target : mapping of str to str
        `target_bits`, `target_codes`, ... by column: which bits or codes of the data-quality plane are to be found.
        Where there are any, that plane is the target.
    """

    reference: Rule = "night"
    tolerance_arcmin: float = 5.0
    longitude: float | None = None
    target: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Known:
    """What belongs to each science frame, by its file: field, night, reference, and its planes by their column."""

    fields: Mapping[str, str]
    nights: Mapping[str, str]
    references: Mapping[str, Listed]
    planes: Mapping[str, Mapping[str, Listed]]


@dataclass(frozen=True)
class Table:
    """A manifest, and the calibration frames beside it.

    Attributes
    ----------
    rows : list of dict
        Cells by column.
    calibration : dict
        Exposures of the kinds bias, dark and flat that fit the rows.
    registers : {"none", "wcs", "stars"}
        How references come onto the grid of their science frames.
    detector : Detector
        How the steps of the detector are to be taken.
    """

    rows: list[dict[str, str]]
    calibration: dict[str, list[Listed]]
    registers: str
    detector: Detector

    @property
    def sets(self) -> dict[str, list[str]]:
        """Files of the calibration frames, by kind."""
        return {kind: [one.file for one in exposures] for kind, exposures in self.calibration.items()}

    @property
    def columns(self) -> list[str]:
        """Columns that have something in them, in their order."""
        every = dict.fromkeys(column for row in self.rows for column in row)
        return [column for column in every if any(row.get(column) for row in self.rows)]


def make_table(pictures: Sequence[Listed], rules: Rules) -> Table:
    """Make the manifest of the pictures of a folder; what is left out is named."""
    science = [picture for picture in pictures if picture.role == "science" and picture.kind == "science"]
    science = large_enough([*science, *_alone(pictures, science)])
    companions = _companions(pictures, science, target=rules.target)
    nights = find_nights(science, longitude=rules.longitude)
    fields = find_fields(science, tolerance_arcmin=rules.tolerance_arcmin) if science else {}
    references = _named_references(pictures, science) or choose_references(
        science, rule=rules.reference, fields=fields, nights=nights
    )
    kept = _complete(science, references=references, companions=companions)
    _say_what_is_unknown(kept, nights)
    known = Known(fields, nights, references, companions)
    rows = [_row(picture, known, target=rules.target or {}) for picture in kept]
    sets = find_sets(pictures, kept)
    return Table(rows, sets, _registration(kept, references), find_detector(kept, references, sets))


def large_enough(science: Sequence[Listed]) -> list[Listed]:
    """Leave out, by name, frames so small that there is neither sky nor star to measure."""
    small = [one.file for one in science if min(one.shape) < SMALLEST_EDGE]
    if small:
        rule = f"fewer than {SMALLEST_EDGE} pixels along an axis"
        logger.warning("left out %d of %d frames of %s (%s)", *_told(small, science), rule, _some(small))
    return [one for one in science if min(one.shape) >= SMALLEST_EDGE]


def _alone(pictures: Sequence[Listed], science: Sequence[Listed]) -> list[Listed]:
    """Return frames whose names say target or reference, of no science frame: the names mean something else."""
    keys = {picture.key for picture in science}
    named = [one for one in pictures if one.role in ("target", "reference") and one.key not in keys]
    return [one for one in named if one.kind == "science" and one.facts.mjd is not None]


def _companions(
    pictures: Sequence[Listed], science: Sequence[Listed], *, target: Mapping[str, str] | None
) -> dict[str, dict[str, Listed]]:
    """Return the planes that go with each science frame by its file and their column; name those of none."""
    chosen = set(science)
    owners: dict[tuple[str, str, str], Listed] = {picture.key: picture for picture in science}
    found: dict[str, dict[str, Listed]] = {picture.file: {} for picture in science}
    for picture in pictures:
        if picture.role not in PLANES or picture in chosen:
            continue
        owner = owners.get(picture.key)
        if owner is not None and owner.shape == picture.shape:
            found[owner.file].setdefault(picture.role, picture)
        elif picture.kind == "science":
            reason = "of no science frame" if owner is None else f"of another shape than {owner.file}"
            logger.warning("left out: %s is a %s %s", picture.file, picture.role, reason)
    if target:
        found = {file: _as_target(planes) for file, planes in found.items()}
    return found


def _as_target(planes: dict[str, Listed]) -> dict[str, Listed]:
    """Make the data-quality plane the target; the weight, which is 0 where that says bad, would hide it."""
    return {"target": planes["mask"]} if "mask" in planes else {}


def _named_references(pictures: Sequence[Listed], science: Sequence[Listed]) -> dict[str, Listed]:
    """Return the references that are so by their names, `m31_ref.fits` of `m31.fits`."""
    chosen = set(science)
    named = {one.key: one for one in pictures if one.role == "reference" and one not in chosen}
    return {picture.file: named[picture.key] for picture in science if picture.key in named}


def _complete(
    science: Sequence[Listed], *, references: Mapping[str, Listed], companions: Mapping[str, Mapping[str, Listed]]
) -> list[Listed]:
    """Return the frames that can be rows of one manifest: where any has a reference or a target, those that do."""
    kept = list(science)
    if references:
        kept = _with(kept, set(references), what="reference", remedy="--reference none keeps them")
    if any("target" in companions[picture.file] for picture in kept):
        having = {file for file, planes in companions.items() if "target" in planes}
        kept = _with(kept, having, what="target", remedy="give each a plane of its truth, or remove the others'")
    return kept


def _with(kept: list[Listed], having: set[str], *, what: str, remedy: str) -> list[Listed]:
    lacking = [picture.file for picture in kept if picture.file not in having]
    if lacking:
        counts = _told(lacking, kept)
        logger.warning("left out %d of %d frames without a %s (%s); %s", *counts, what, _some(lacking), remedy)
    return [picture for picture in kept if picture.file in having]


def _told(some: Sequence[str], every: Sequence[Listed]) -> tuple[int, int]:
    return len(some), len(every)


def _some(files: Sequence[str]) -> str:
    return ", ".join(files[:_NAMED]) + (", ..." if len(files) > _NAMED else "")


def _say_what_is_unknown(kept: Sequence[Listed], nights: Mapping[str, str]) -> None:
    """Name the frames whose headers lack a date, a longitude, a filter or a position, or have one of no use."""
    unknown = {
        "a date with its time: night and date stay empty": [one for one in kept if one.facts.mjd is None],
        "the observatory's longitude: the night stays empty; give --longitude": [
            one for one in kept if one.facts.mjd is not None and one.file not in nights
        ],
        "a filter": [one for one in kept if not one.facts.filter],
        "a position: their field is that of their object or folder": [one for one in kept if one.place is None],
    }
    for what, lacking in unknown.items():
        if lacking:
            files = [picture.file for picture in lacking]
            logger.warning("%d of %d headers lack %s (%s)", *_told(files, kept), what, _some(files))
    for remark in dict.fromkeys(remark for one in kept for remark in one.remarks):
        files = [one.file for one in kept if remark in one.remarks]
        logger.warning("%d of %d frames (%s): %s", *_told(files, kept), _some(files), remark)


def _row(picture: Listed, known: Known, *, target: Mapping[str, str]) -> dict[str, str]:
    facts, file, planes = picture.facts, picture.file, known.planes[picture.file]
    cells = {"field": known.fields[file], "science": file}
    cells["reference"] = known.references[file].file if file in known.references else ""
    cells |= {column: planes[column].file if column in planes else "" for column in PLANES} | dict(target)
    if not target and "target" in planes:
        cells |= planes["target"].codes
    mask = planes.get("mask")
    cells["mask_bits"] = "" if mask is None or mask.bad_bits is None else str(mask.bad_bits)
    cells["night"] = known.nights.get(file, "")
    cells |= {"filter": facts.filter, "exposure": "" if facts.seconds is None else f"{facts.seconds:g}"}
    return cells | {"mjd": "" if facts.mjd is None else f"{facts.mjd:.6f}"}


def _registration(kept: Sequence[Listed], references: Mapping[str, Listed]) -> str:
    """Return how references must be registered: not at all where all share their grid, by stars where no WCS says."""
    pairs = [(picture, references[picture.file]) for picture in kept if picture.file in references]
    if all(_same_grid(one, two) for one, two in pairs):
        return "none"
    return "stars" if any(one.corners is None or two.corners is None for one, two in pairs) else "wcs"


def _same_grid(one: Listed, two: Listed) -> bool:
    if one.corners is None or two.corners is None or one.shape != two.shape:
        return False
    return bool(abs(one.corners - two.corners).max() < _GRID_RADIANS)


_GRID_RADIANS = 1e-8  # 2 milliarcseconds


def write_table(table: Table, path: Path) -> None:
    """Write a manifest as CSV; it appears whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as partial, partial.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, table.columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(table.rows)


def write_listing(pictures: Sequence[Listed], path: Path) -> None:
    """Write what each picture of the folder is, rows of the manifest or not: role, kind, filter, exposure, date."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as partial, partial.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["file", "role", "kind", "object", "filter", "exposure", "mjd", "width", "height"])
        for one in pictures:
            facts = one.facts
            date = "" if facts.mjd is None else f"{facts.mjd:.6f}"
            about = (facts.object, facts.filter, "" if facts.seconds is None else f"{facts.seconds:g}", date)
            writer.writerow([one.file, one.role, one.kind, *about, one.shape[1], one.shape[0]])


def summarise(table: Table) -> list[str]:
    """Say what a manifest has: its frames, fields, nights and filters."""
    counts = {column: Counter(row.get(column, "") for row in table.rows) for column in ("field", "night", "filter")}
    paired = sum(bool(row["reference"]) for row in table.rows)
    frames, fields = counted(len(table.rows), "frame"), counted(len(counts["field"]), "field")
    lines = [f"{frames} of {fields}, {paired} with a reference"]
    for column in ("field", "night", "filter"):
        named = {name: count for name, count in counts[column].items() if name}
        shown = ", ".join(f"{name} {count}" for name, count in sorted(named.items())[:12])
        lines += [f"{column}s: {shown}{', ...' if len(named) > 12 else ''}"] if named else []
    lines += [f"{kind} frames: {len(files)}" for kind, files in table.sets.items() if files]
    return lines
