"""What a finished run hands on beside its metrics: the model with all that belongs to it, tables, checkpoints."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from astrid.checkpoint import CHECKPOINTS
from astrid.config import Config, settled
from astrid.data.recipes import UNIT
from astrid.deployed import AsRun
from astrid.energy.ledger import LEDGER
from astrid.evaluate import Evaluation, asked_for, judged_by
from astrid.inspection.cutouts import CUTOUTS_FILE, ObjectLog, write_cutouts
from astrid.inspection.objects import objects_table
from astrid.metrics.bootstrap import Resampled, save_fields
from astrid.metrics.per_field import FieldCounts
from astrid.model_card import CARD_FILE, FACTS_FILE, FIELDS_FILE, ModelFacts, model_card
from astrid.predictor import Predictor
from astrid.runtime import hardware_facts
from astrid.tracking import Table, Tracker
from astrid.tracking.tables import Cell
from astrid.unet import parameter_count
from astrid.units import unit_of, units_of


def model_facts(
    predictor: Predictor,
    evaluation: Evaluation,
    metrics: Mapping[str, float],
    *,
    config: Config,
    channels: int,
    description: str,
    fingerprint: str,
    best_epoch: int,
    origins: Mapping[str, list[str]],
) -> ModelFacts:
    """Collect what somebody who loads the model must know."""
    runtime = predictor.runtime
    depth, filters = settled("model.depth", config.model.depth), settled("model.filters", config.model.filters)
    size = {"depth": depth, "filters": filters, "channels": channels, "parameters": parameter_count(predictor.model)}
    size["orientations"] = 8 if config.model.test_time_augmentation else 1
    hardware = hardware_facts(runtime)
    return ModelFacts(
        network=size | {"halo": predictor.halo},
        precision=runtime.precision,
        channels_last=runtime.channels_last,
        whole=predictor.whole,
        chosen=evaluation.chosen,
        min_pixels=config.metrics.min_pixels,
        preprocessing={"choice": type(config.data).__name__} | dataclasses.asdict(config.data),
        description=description,
        fingerprint=fingerprint,
        test_fingerprint=evaluation.fields.fingerprint,
        test_fields=len(evaluation.fields.names),
        metrics=dict(metrics),
        machine={name: hardware[name] for name in ("host", "device", "processor")} | {"threads": str(runtime.threads)},
        best_epoch=best_epoch,
        unit=UNIT,
        judged_by=judged_by(config.metrics),
        seen={split: own for split, own in origins.items() if split != "test"},
        asked=asked_for(config.metrics),
    )


def hand_over_model(
    facts: ModelFacts,
    predictor: Predictor,
    example: Tensor,
    *,
    fields: FieldCounts,
    resampled: Resampled | None,
    energy: str,
    run_dir: Path,
    tracker: Tracker,
) -> None:
    """Write facts, card and per-field results into the run folder, and report them, checkpoints and the model."""
    extras = [facts.save(run_dir / FACTS_FILE), run_dir / CARD_FILE, run_dir / FIELDS_FILE]
    (run_dir / CARD_FILE).write_text(
        model_card(facts, run=tracker.journal.started.name, energy=energy, address=str(run_dir))
    )
    save_fields(run_dir / FIELDS_FILE, fields, resampled)
    for path in (*extras, run_dir / LEDGER):
        tracker.artifact(path)
    for path in sorted((run_dir / CHECKPOINTS).glob("*.pt")):
        tracker.artifact(path, folder=CHECKPOINTS)
    tracker.tags({"test.fingerprint": facts.test_fingerprint})
    tracker.model(AsRun(predictor.model, facts.precision), example, step=facts.best_epoch, extras=extras)


def run_tables(
    history: Sequence[Mapping[str, float]],
    metrics: Mapping[str, float],
    fields: FieldCounts,
    *,
    objects: ObjectLog | None = None,
) -> dict[str, Table]:
    """Return the tables of a run: its epochs, its final metrics with intervals, its test fields and their objects."""
    return {"epochs": _epochs(history)} | judged_tables(metrics, fields, objects=objects)


def judged_tables(metrics: Mapping[str, float], fields: FieldCounts, *, objects: ObjectLog | None) -> dict[str, Table]:
    """Return the tables of what was judged: the metrics with intervals, the test fields, their objects."""
    tables = {"metrics": _metrics(metrics), "test_fields": _fields(fields)}
    return tables if objects is None else tables | {"objects": objects_table(objects.objects)}


def hand_over_cutouts(evaluation: Evaluation, *, run_dir: Path, tracker: Tracker) -> None:
    """Write and report the pieces of sky around some objects, where they were kept."""
    if evaluation.objects is not None:
        tracker.artifact(write_cutouts(evaluation.objects.cutouts(), run_dir / CUTOUTS_FILE))


def _epochs(history: Sequence[Mapping[str, float]]) -> Table:
    columns = list(dict.fromkeys(name for values in history for name in values))
    rows: list[list[Cell]] = [[_finite(values.get(name)) for name in columns] for values in history]
    return Table(columns, rows, units_of(columns))


def _metrics(metrics: Mapping[str, float]) -> Table:
    ends = {f"{name}_{end}" for name in metrics for end in ("low", "high")}
    rows: list[list[Cell]] = [
        [name, *(_finite(metrics.get(key)) for key in (name, f"{name}_low", f"{name}_high")), unit_of(name)]
        for name in metrics
        if name not in ends
    ]
    return Table(["metric", "value", "low", "high", "unit"], rows)


def _fields(fields: FieldCounts) -> Table:
    objects = ["hits", "misses", "false_alarms"] if fields.objects is not None else []
    rows: list[list[Cell]] = []
    for number, name in enumerate(fields.names):
        pixels = [int(fields.positives[number].sum()), int(fields.negatives[number].sum())]
        found = [int(count) for count in fields.objects.counts[number]] if fields.objects is not None else []
        rows.append(
            [
                name,
                (fields.groups or fields.names)[number],
                *pixels,
                *found,
                *(values[number] for values in fields.scores.values()),
            ]
        )
    return Table(["field", "patch_of_sky", "positive_pixels", "negative_pixels", *objects, *fields.scores], rows)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
