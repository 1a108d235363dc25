"""What is judged: which model, on which fields, and what the model knows of them already."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from astrid.config import Config, SimulatedData
from astrid.config.evaluation import OwnSettings, evaluation_config
from astrid.config.resume import EVALUATION_FILE
from astrid.config.secrets import scrub_values
from astrid.console import announce
from astrid.data.judged import JudgedFields, JudgedSplit, Overlap, find_overlap, prepare_judged
from astrid.deployed import Deployed
from astrid.model_card import ModelFacts
from astrid.tracking.records import EVALUATED_TAG

log = logging.getLogger(__name__)

FORMAT = "astrid-evaluation-1"


@dataclass(frozen=True)
class Subject:
    """A model and the fields on which it is judged.

    Attributes
    ----------
    model : Deployed
    fields : JudgedFields
    split : 'train', 'val', 'test' or 'all'
        Which of the described fields these are.
    overlap : Overlap
        How many of them the model has seen.
    other_target : str or None
        What the simulated truth marks, where that isn't what the model learned.
    """

    model: Deployed
    fields: JudgedFields
    split: JudgedSplit
    overlap: Overlap
    other_target: str | None

    @property
    def what(self) -> str:
        """What the fields are, in the plural."""
        names = {"test": "test fields", "val": "validation fields", "train": "training fields", "all": "judged fields"}
        return names[self.split]

    @property
    def seen(self) -> str:
        """Say in a few words how many of the fields the model has seen."""
        total = len(self.fields.store)
        if self.overlap.train is None or self.overlap.val is None:
            return "unknown"
        counts = {"trained on": self.overlap.train, "chosen by": self.overlap.val}
        parts = [f"{what} {count} of {total}" for what, count in counts.items() if count]
        return ", ".join(parts) or "none"

    def tags(self) -> dict[str, str]:
        """Return what links the evaluation to the model, and says what it is worth."""
        source = self.model.source
        tags = {
            EVALUATED_TAG: source.address,
            "evaluation.model_run": source.run_id,
            "evaluation.model_data": self.model.facts.fingerprint,
            "evaluation.split": self.split,
            "evaluation.fields": str(len(self.fields.store)),
            "evaluation.seen": self.seen,
        }
        if source.version is not None:
            tags |= {"evaluation.model_version": source.version.number, "evaluation.model_name": source.version.name}
        return tags if self.other_target is None else tags | {"evaluation.other_target": self.other_target}

    def save(self, run_dir: Path) -> Path:
        """Write what is judged into the run's folder, and return where; the results are in the folder's other files."""
        facts = {
            "format": FORMAT,
            "model": self.model.source.address,
            "model_run": self.model.source.run_id,
            "model_data": self.model.facts.fingerprint,
            "split": self.split,
            "fields": len(self.fields.store),
            "seen": dataclasses.asdict(self.overlap),
            "description": self.fields.description,
            "fingerprint": self.fields.fingerprint,
        }
        path = run_dir / EVALUATION_FILE
        path.write_text(json.dumps(scrub_values(facts), indent=2))
        return path


def configure(facts: ModelFacts, overrides: Sequence[str]) -> Config:
    """Return the model's own configuration with what the user names: where the data are, tracking and the like.

    Raises
    ------
    ConfigError
        For an override that has no part in an evaluation.
    """
    own = OwnSettings(
        data=facts.preprocessing,
        metrics=facts.asked | facts.judged_by | {"min_pixels": facts.min_pixels} | facts.chosen.knobs(),
        depth=facts.network["depth"],
        filters=facts.network["filters"],
        test_time_augmentation=facts.orientations > 1,
    )
    return evaluation_config(own, overrides)


def prepare_subject(model: Deployed, config: Config, *, split: JudgedSplit) -> Subject:
    """Prepare the fields, and say clearly where the model has seen them.

    Raises
    ------
    DataError
        For data that the model can't be judged on.
    """
    facts = model.facts
    channels = facts.network["channels"]
    fields = prepare_judged(config.data, split, channels=channels, unit=facts.unit, announce=announce)
    overlap = find_overlap(fields.origins, seen=facts.seen)
    subject = Subject(model, fields, split, overlap, _other_target(facts, config))
    _warn(subject)
    return subject


def _other_target(facts: ModelFacts, config: Config) -> str | None:
    own = facts.preprocessing.get("target")
    if not isinstance(config.data, SimulatedData) or own is None or own == config.data.target:
        return None
    return config.data.target


def _warn(subject: Subject) -> None:
    overlap, total = subject.overlap, len(subject.fields.store)
    if overlap.train is None:
        log.warning("this model doesn't say which fields it was trained on: whether these are among them is not known")
    if overlap.train:
        log.warning("this is no test: the model was trained on %d of these %d fields", overlap.train, total)
    if overlap.val:
        what = "its best epoch and its thresholds were chosen on"
        log.warning("this is no clean test: %s %d of these %d fields", what, overlap.val, total)
    if subject.other_target is not None:
        own = subject.model.facts.preprocessing["target"]
        log.warning("the model learned to mark %s; here the truth marks %s", own, subject.other_target)
