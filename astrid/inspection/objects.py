"""What became of each object of a field: true ones, found or missed, and detections of nothing."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from astrid.config import MetricsConfig
from astrid.data.frames import Field
from astrid.metrics.chosen import Chosen
from astrid.metrics.detections import Detections, find_detections, judge
from astrid.tracking.tables import Cell, Table

Outcome = Literal["hit", "miss", "false alarm", "not counted"]
OUTCOMES: tuple[Outcome, ...] = ("hit", "miss", "false alarm", "not counted")
ELECTRONS, SIGMA = "electrons", "background sigma"
"""Units of a flux: what the catalogue says, and what the image shows."""

Probability = NDArray[np.float32]
Flags = NDArray[np.bool_]
TOUCHING = np.ones((3, 3))  # pixels that touch by a corner belong together, as in `find_detections`


@dataclass(frozen=True)
class JudgedObject:
    """An object of the truth, or a detection of nothing.

    Attributes
    ----------
    id : str
        Field and number in it, ``test-00003:7``: those of the truth first, then false alarms by falling probability.
    field : str
    x, y : float
        Pixels, 0-based, pixel centres at integers; the centroid where there is no catalogue.
    outcome : str
        One of `OUTCOMES`; what is centred on an invalid pixel is not counted.
    probability : float
        Highest within the match radius of a catalogued source, or on the pixels of the object.
    flux : float or None
        In `flux_unit`: the catalogue's, or else the light of the image on the object's pixels or in its match radius.
    flux_unit : str
    snr : float or None
        Of a catalogued source, under the true PSF; None without a catalogue and for a false alarm.
    measured_snr : float or None
        As a matched filter sees it at the place, whatever is there; None where nobody measured it.
    pixels : int or None
        Size of the object in the mask, or of a detection; None of a catalogued source.
    kind : str
        What the catalogue calls it.
    cause : str or None
        What a false alarm is, where that is known.
    """

    id: str
    field: str
    x: float
    y: float
    outcome: Outcome
    probability: float
    flux: float | None
    flux_unit: str
    snr: float | None = None
    measured_snr: float | None = None
    pixels: int | None = None
    kind: str = ""
    cause: str | None = None

    @property
    def place(self) -> tuple[int, int]:
        """Row and column of the pixel that it lies on."""
        return math.floor(self.y + 0.5), math.floor(self.x + 0.5)


@dataclass(frozen=True)
class Rules:
    """How objects are judged; everything was chosen before.

    Attributes
    ----------
    chosen : Chosen
        Thresholds of the model.
    min_pixels : int
        Smallest detection where there is a catalogue.
    match_radius_fwhm : float
        Largest distance of a detection from its source.
    """

    chosen: Chosen
    min_pixels: int
    match_radius_fwhm: float

    @classmethod
    def of(cls, chosen: Chosen, config: MetricsConfig) -> Rules:
        """Return the rules of a run."""
        return cls(chosen, min_pixels=config.min_pixels, match_radius_fwhm=config.match_radius_fwhm)

    def by_catalogue(self, field: Field) -> bool:
        """Tell whether a field's objects are those of a catalogue, or else connected pixels of its truth."""
        known = field.sources is not None and field.fwhm_pixels is not None
        return known and self.chosen.detection_threshold is not None

    def radius_pixels(self, field: Field) -> float:
        """Return the match radius in a field with a catalogue."""
        assert field.fwhm_pixels is not None
        return self.match_radius_fwhm * field.fwhm_pixels

    def threshold(self, field: Field) -> float:
        """Return the calibrated probability from which something is detected."""
        if self.by_catalogue(field):
            assert self.chosen.detection_threshold is not None
            return self.chosen.detection_threshold
        return 0.5 if self.chosen.pixel_threshold is None else self.chosen.pixel_threshold


def judge_objects(field: Field, probability: Probability, rules: Rules) -> list[JudgedObject]:
    """Return every object of a field and every false alarm.

    With a catalogue these are its sources, matched as in `metrics.detections`. Without one they are groups of connected
    positive pixels of the truth; one is found if any of its pixels reaches the threshold, and a group of pixels above
    the threshold that holds no positive pixel is a false alarm.

    Parameters
    ----------
    field : Field
    probability : (H, W) float32
        Calibrated.
    rules : Rules
    """
    if rules.by_catalogue(field):
        return _by_catalogue(field, probability, rules)
    return _by_mask(field, probability, rules)


def _by_catalogue(field: Field, probability: Probability, rules: Rules) -> list[JudgedObject]:
    sources, radius = field.sources, rules.radius_pixels(field)
    assert sources is not None
    found = find_detections(probability, field.valid, threshold=rules.threshold(field), min_pixels=rules.min_pixels)
    verdict = judge(found, field.valid, sources_x=sources.x, sources_y=sources.y, radius_pixels=radius)
    judged = [
        JudgedObject(
            id=f"{field.name}:{number}",
            field=field.name,
            x=float(x),
            y=float(y),
            outcome=_outcome(bool(verdict.countable[number]), found=bool(verdict.found[number])),
            probability=peak_within(probability, field.valid, x=x, y=y, radius=radius),
            flux=float(sources.flux[number]),
            flux_unit=ELECTRONS,
            snr=float(sources.snr[number]),
            kind=sources.kind[number],
        )
        for number, (x, y) in enumerate(zip(sources.x, sources.y, strict=True))
    ]
    return judged + _detected_nothing(field, _part(found, verdict.false_alarm), first=len(judged), radius=radius)


def _outcome(countable: bool, *, found: bool) -> Outcome:
    if not countable:
        return "not counted"
    return "hit" if found else "miss"


def _part(found: Detections, kept: Flags) -> Detections:
    return Detections(*(getattr(found, field.name)[kept] for field in dataclasses.fields(found)))


def _detected_nothing(field: Field, false: Detections, *, first: int, radius: float) -> list[JudgedObject]:
    return [
        JudgedObject(
            id=f"{field.name}:{first + rank}",
            field=field.name,
            x=float(false.x[at]),
            y=float(false.y[at]),
            outcome="false alarm",
            probability=float(false.score[at]),
            flux=_light_within(field, x=false.x[at], y=false.y[at], radius=radius),
            flux_unit=SIGMA,
            pixels=int(false.pixels[at]),
        )
        for rank, at in enumerate(np.argsort(-false.score, kind="stable"))
    ]


def _by_mask(field: Field, probability: Probability, rules: Rules) -> list[JudgedObject]:
    above = (probability >= rules.threshold(field)) & field.valid
    truth, _ = ndimage.label(field.target & field.valid, structure=TOUCHING)
    groups, count = ndimage.label(above, structure=TOUCHING)
    touched = np.unique(groups[field.target & above])
    false = np.setdiff1d(np.arange(1, count + 1), touched)
    objects = [_of_pixels(field, probability, where, hit=bool(above[where].any())) for where in _groups(truth)]
    alarms = [_of_pixels(field, probability, where, hit=None) for where in _groups(np.isin(groups, false) * groups)]
    alarms.sort(key=lambda alarm: -alarm.probability)
    return [dataclasses.replace(one, id=f"{field.name}:{number}") for number, one in enumerate(objects + alarms)]


Where = tuple[NDArray[np.int64], NDArray[np.int64]]


def _groups(labels: NDArray[np.integer]) -> list[Where]:
    """Return rows and columns of the pixels of each group."""
    found: list[Where] = []
    for number, part in enumerate(ndimage.find_objects(labels), start=1):
        if part is not None:
            rows, columns = np.nonzero(labels[part] == number)
            found.append((rows + part[0].start, columns + part[1].start))
    return found


def _of_pixels(field: Field, probability: Probability, where: Where, *, hit: bool | None) -> JudgedObject:
    rows, columns = where
    return JudgedObject(
        id="",
        field=field.name,
        x=float(columns.mean()),
        y=float(rows.mean()),
        outcome="false alarm" if hit is None else _outcome(True, found=hit),
        probability=float(probability[where].max()),
        flux=float(light(field)[where].sum()),
        flux_unit=SIGMA,
        pixels=len(rows),
    )


def light(field: Field) -> NDArray[np.float32]:
    """Return the plane in which the network's object stands out: the difference, or the only channel there is."""
    return np.asarray(field.image[2 if len(field.image) > 2 else 0])


def disc(shape: tuple[int, int], *, x: float, y: float, radius: float) -> Where:
    """Return rows and columns of the pixels within a radius of a place, its own pixel in any case; none outside."""
    radius = max(radius, math.sqrt(0.5))
    top, left = max(0, math.ceil(y - radius)), max(0, math.ceil(x - radius))
    rows, columns = np.mgrid[top : min(shape[0], int(y + radius) + 1), left : min(shape[1], int(x + radius) + 1)]
    inside = np.hypot(rows - y, columns - x) <= radius
    return rows[inside], columns[inside]


def peak_within(probability: Probability, valid: Flags, *, x: float, y: float, radius: float) -> float:
    """Return the highest probability on the valid pixels within a radius of a place, 0 where there is none."""
    where = disc(valid.shape, x=x, y=y, radius=radius)
    return float(np.max(probability[where], where=valid[where], initial=0.0))


def _light_within(field: Field, *, x: float, y: float, radius: float) -> float:
    return float(light(field)[disc(field.valid.shape, x=x, y=y, radius=radius)].sum())


def count_outcomes(objects: Iterable[JudgedObject]) -> dict[Outcome, int]:
    """Return how many objects came to each outcome."""
    seen = [one.outcome for one in objects]
    return {outcome: seen.count(outcome) for outcome in OUTCOMES}


def objects_table(objects: Sequence[JudgedObject]) -> Table:
    """Return one row an object; a column in which nothing is known is left out."""
    names = [knob.name for knob in dataclasses.fields(JudgedObject)]
    rows: list[list[Cell]] = [[getattr(one, name) for name in names] for one in objects]
    kept = [number for number, _ in enumerate(names) if any(row[number] not in (None, "") for row in rows)]
    return Table([names[number] for number in kept], [[row[number] for number in kept] for row in rows])
