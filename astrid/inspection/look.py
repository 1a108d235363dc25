"""Look at the predictions of a model, object by object."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from astrid.baselines.detectors import DIFFERENCE, matched_filter
from astrid.config import Config, DataError
from astrid.config.evaluation import settings_to_load
from astrid.console import show_progress
from astrid.data.frames import Field
from astrid.data.judged import JudgedSplit
from astrid.data.store import FieldStore
from astrid.deployed import load
from astrid.evaluation.subject import Subject, configure, prepare_subject

from .by_snr import Floats, SnrBins, SnrTally
from .causes import suspects_of, with_causes
from .cutouts import Cutout, cut_out
from .objects import JudgedObject, Probability, Rules, count_outcomes, judge_objects
from .saliency import Saliency, find_saliency

NAMED = 8
"""Names that a message lists."""
WITHOUT_CATALOGUE_RADIUS = 2.0
"""Pixels around an object of a mask in which its highest logit is looked for."""


@dataclass(frozen=True)
class FieldView:
    """A field to look at; what is detected in it has at least the calibrated probability `threshold`."""

    field: Field
    probability: Probability
    objects: list[JudgedObject]
    threshold: float

    @property
    def summary(self) -> str:
        """How many objects came to each outcome, and at which threshold."""
        counts = ", ".join(f"{count} {outcome}" for outcome, count in count_outcomes(self.objects).items() if count)
        highest = f"the highest is {float(self.probability[self.field.valid].max(initial=0)):.3g}"
        return f"{counts or 'no objects'}, detected from a probability of {self.threshold:.3g}; {highest}"


@dataclass
class Findings:
    """What was seen.

    Attributes
    ----------
    subject : Subject
        Which model, on which fields.
    by_catalogue : bool
        Whether the objects are those of a catalogue, or else connected pixels of the truth.
    objects : list of JudgedObject
        Of all fields that were looked at.
    false_alarms : list of Cutout
    calibration : list of SnrBins
    views : list of FieldView
        The fields to show.
    saliency : list of Saliency
        Of the objects that were asked for.
    """

    subject: Subject
    by_catalogue: bool
    objects: list[JudgedObject] = field(default_factory=list)
    false_alarms: list[Cutout] = field(default_factory=list)
    calibration: list[SnrBins] = field(default_factory=list)
    views: list[FieldView] = field(default_factory=list)
    saliency: list[Saliency] = field(default_factory=list)


@dataclass(frozen=True)
class Wanted:
    """What to look at.

    Attributes
    ----------
    split : 'test', 'val', 'train' or 'all'
    fields : sequence of str
        Names of fields; without any the whole split is looked at, and the worst fields are shown.
    worst : int
        How many of them: those with the most misses and false alarms.
    objects : sequence of str
        Objects whose surroundings are covered piece by piece; their fields are looked at and shown, too.
    """

    split: JudgedSplit = "test"
    fields: Sequence[str] = ()
    worst: int = 3
    objects: Sequence[str] = ()


def look(source: str, overrides: Sequence[str], wanted: Wanted) -> Findings:
    """Predict fields of a model's own data, or of other data, and say what became of each object.

    Parameters
    ----------
    source : str
        Folder of a run, or registered model.
    overrides : sequence of str
        As for `astrid evaluate`.
    wanted : Wanted

    Raises
    ------
    ConfigError, DataError
        For what can't be looked at.
    """
    asked = settings_to_load(overrides)
    if asked.training.threads is not None:
        torch.set_num_threads(asked.training.threads)
    model = load(source, uri=asked.tracking.uri, device=asked.training.device)
    config = configure(model.facts, overrides)
    subject = prepare_subject(model, config, split=wanted.split)
    store = subject.fields.store
    numbers = choose_fields(store, wanted.fields) if wanted.fields else list(range(len(store)))
    around = dict.fromkeys(choose_fields(store, [field_of(one) for one in wanted.objects], option="--object"))
    watcher = Watcher(subject, config)
    counts = {number: watcher.see(number) for number in around}
    watcher.refuse_unknown(wanted.objects)
    others = [number for number in numbers if number not in around]
    shown = show_progress(others, "fields", len(others), doing="looking at")
    counts |= {number: watcher.see(number) for number in shown}
    findings = watcher.findings()
    worst = sorted(counts, key=lambda number: (-counts[number], number))[: wanted.worst]
    chosen = numbers if wanted.fields else worst
    findings.views = [watcher.view(number) for number in dict.fromkeys([*around, *chosen])]
    findings.saliency = [watcher.cover(one) for one in dict.fromkeys(wanted.objects)]
    return findings


def field_of(object_id: str) -> str:
    """Return the name of the field that an object's id begins with."""
    return object_id.rpartition(":")[0]


def choose_fields(store: FieldStore, names: Sequence[str], *, option: str = "--field") -> list[int]:
    """Return the numbers of the named fields.

    Raises
    ------
    DataError
        For a name that no field has.
    """
    known = {entry.name: number for number, entry in enumerate(store.entries)}
    unknown = [name for name in names if name not in known]
    if unknown:
        some = ", ".join([*list(known)[:NAMED], *(["..."] if len(known) > NAMED else [])])
        rule = f"{option} must name one of the fields of the split ({some}), got {unknown[0]!r}"
        raise DataError(f"{rule}; astrid inspect RUN --worst 0 lists them in objects.csv, --split chooses others")
    return [known[name] for name in names]


class Watcher:
    """Goes over fields and keeps what is seen; only one field is in memory."""

    def __init__(self, subject: Subject, config: Config) -> None:
        self.subject, self.config = subject, config
        self.rules = Rules.of(subject.model.facts.chosen, config.metrics)
        self._objects: dict[int, list[JudgedObject]] = {}
        self._alarms: list[Cutout] = []
        self._tally = SnrTally()
        self._by_catalogue = False

    def see(self, number: int) -> int:
        """Judge the objects of a field, and return its misses and false alarms."""
        source, probability = self._predicted(number)
        objects = judge_objects(source, probability, self.rules)
        self._tally.add_pixels(source, probability)
        radius = None
        if self.rules.by_catalogue(source):
            self._by_catalogue = True
            radius = self.rules.radius_pixels(source)
            score = _score(source)
            if score is not None:
                objects = [measured(one, score) for one in objects]
                self._tally.add_detections(source, probability, self.rules, score=score)
        if any(one.outcome == "false alarm" for one in objects):
            suspects = suspects_of(self.config.data, self.subject.fields.origins[number])
            objects = with_causes(objects, source, suspects, radius=radius)
        self._objects[number] = objects
        alarms = [one for one in objects if one.outcome == "false alarm"]
        self._alarms += [cut_out(one, source, probability) for one in alarms]
        return len(alarms) + sum(one.outcome == "miss" for one in objects)

    def _predicted(self, number: int) -> tuple[Field, Probability]:
        source, model = self.subject.fields.store.field(number), self.subject.model
        return source, model.probabilities(source.image)

    def findings(self) -> Findings:
        """Return what all fields showed."""
        everything = [one for number in sorted(self._objects) for one in self._objects[number]]
        alarms = sorted(self._alarms, key=lambda cutout: -cutout.judged.probability)
        return Findings(self.subject, self._by_catalogue, everything, alarms, self._tally.bins())

    def view(self, number: int) -> FieldView:
        """Return a field to look at."""
        source, probability = self._predicted(number)
        return FieldView(source, probability, self._objects[number], self.rules.threshold(source))

    def refuse_unknown(self, wanted: Sequence[str]) -> None:
        """Refuse what is no object of the fields that were seen.

        Raises
        ------
        DataError
            Naming it and some that there are.
        """
        known = self._by_id()
        for one in wanted:
            if one not in known:
                beside = [other for other in known if field_of(other) == field_of(one)]
                some = ", ".join([*beside[:NAMED], *(["..."] if len(beside) > NAMED else [])]) or "it has none"
                rule, remedy = f"an object of field {field_of(one)} ({some})", "without --object, objects.csv lists all"
                raise DataError(f"--object must be {rule}, got {one!r}; {remedy}")

    def _by_id(self) -> dict[str, JudgedObject]:
        return {one.id: one for objects in self._objects.values() for one in objects}

    def cover(self, object_id: str) -> Saliency:
        """Cover the surroundings of an object that was seen piece by piece."""
        judged = self._by_id()[object_id]
        store, facts = self.subject.fields.store, self.subject.model.facts
        number = next(number for number, entry in enumerate(store.entries) if entry.name == judged.field)
        source = store.field(number)
        known = self.rules.by_catalogue(source)
        return find_saliency(
            self.subject.model.predictor,
            source,
            judged,
            step=2 ** facts.network["depth"],
            radius=self.rules.radius_pixels(source) if known else WITHOUT_CATALOGUE_RADIUS,
            show=lambda pieces, count: show_progress(pieces, "pieces", count, doing="covering"),
        )


def _score(source: Field) -> Floats | None:
    """Return what a matched filter sees in the difference, (H, W); None where there is no difference."""
    if len(source.image) <= DIFFERENCE or source.fwhm_pixels is None:
        return None
    return matched_filter(np.array(source.image[DIFFERENCE]), source.valid, fwhm_pixels=source.fwhm_pixels)


def measured(one: JudgedObject, score: Floats) -> JudgedObject:
    """Return an object with the matched filter's signal-to-noise on its pixel, nothing outside of the field."""
    row, column = one.place
    inside = 0 <= row < score.shape[0] and 0 <= column < score.shape[1]
    return dataclasses.replace(one, measured_snr=float(score[row, column])) if inside else one
