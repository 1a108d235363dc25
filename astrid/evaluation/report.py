"""What an evaluation leaves behind: metrics, figures, card, tables, and what it prints at the end."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from astrid.baselines import Comparison, MaskRival
from astrid.config import Config
from astrid.console import print_plain
from astrid.energy import EnergySummary, Factors, energy_labels, energy_metrics
from astrid.energy.ledger import LEDGER
from astrid.evaluate import Evaluation
from astrid.figures import draw_evaluation
from astrid.handover import hand_over_cutouts, judged_tables
from astrid.metrics.bootstrap import resample_fields, save_fields
from astrid.model_card import CARD_FILE, FIELDS_FILE, ModelFacts, model_card
from astrid.results import FIGURES, METRICS_FILE, energy_line, print_test, save_figure, tested_metrics
from astrid.run_facts import DIFF_FILE, ENVIRONMENT_FILE
from astrid.runtime import hardware_facts
from astrid.tracking import Tracker
from astrid.units import counted

from .subject import Subject


@dataclass(frozen=True)
class Judged:
    """Everything that a finished evaluation has to report."""

    subject: Subject
    evaluation: Evaluation
    rivals: Comparison | MaskRival | None
    latency: dict[str, float]
    energy: EnergySummary
    factors: Factors


def report(judged: Judged, *, config: Config, run_dir: Path, tracker: Tracker, seconds: float) -> dict[str, float]:
    """Write metrics, figures and card, hand everything to the tracker, print the table, and return the metrics."""
    gate, fields = config.tracking.gate, judged.evaluation.fields
    resampled = resample_fields(fields, resamples=gate.resamples, seed=gate.seed)
    facts = judged.subject.model.facts
    metrics = tracker.metrics(final_metrics(judged), step=facts.best_epoch)
    tracker.tags({"test.fingerprint": fields.fingerprint} | energy_labels(judged.energy) | judged.factors.tags())
    if config.metrics.figures:
        rivals = judged.rivals if isinstance(judged.rivals, Comparison) else None
        for name, figure in draw_evaluation(judged.evaluation, config.metrics, comparison=rivals).items():
            tracker.artifact(save_figure(figure, run_dir / FIGURES / f"{name}.png"), folder=FIGURES)
    (run_dir / CARD_FILE).write_text(card(judged, metrics, run=tracker.journal.started.name))
    save_fields(run_dir / FIELDS_FILE, fields, resampled)
    (run_dir / METRICS_FILE).write_text(json.dumps(metrics, indent=2))
    for name in ("config.yaml", ENVIRONMENT_FILE, DIFF_FILE, METRICS_FILE, CARD_FILE, FIELDS_FILE, LEDGER):
        tracker.artifact(run_dir / name)
    tracker.tables(judged_tables(metrics, fields, objects=judged.evaluation.objects))
    hand_over_cutouts(judged.evaluation, run_dir=run_dir, tracker=tracker)
    print_judged(judged, metrics, seconds=seconds)
    return metrics


def final_metrics(judged: Judged) -> dict[str, float]:
    """Return every metric by the name under which it is logged; the undefined are absent."""
    tested = tested_metrics(judged.evaluation, judged.rivals)
    return tested | judged.latency | energy_metrics(judged.energy, judged.factors)


def card(judged: Judged, metrics: Mapping[str, float], *, run: str) -> str:
    """Return the model's card with what the judged fields showed in place of its own test fields."""
    subject, fields = judged.subject, judged.evaluation.fields
    runtime = subject.model.predictor.runtime
    hardware = hardware_facts(runtime)
    facts = dataclasses.replace(
        subject.model.facts,
        metrics=dict(metrics),
        test_fields=len(fields.names),
        test_fingerprint=fields.fingerprint,
        machine={name: hardware[name] for name in ("host", "device", "processor")} | {"threads": str(runtime.threads)},
    )
    return model_card(
        facts,
        run=run,
        energy=energy_line(judged.energy, metrics),
        address=subject.model.source.address,
        data=_data(subject, facts),
        limits=_limits(subject),
        where=subject.what,
    )


def _data(subject: Subject, facts: ModelFacts) -> str:
    fields = subject.fields
    return (
        f"Model `{subject.model.source.address}`, trained on {facts.description} (fingerprint "
        f"`{facts.fingerprint[:16]}`). Judged here on {counted(facts.test_fields, 'field')} of {fields.description}, "
        f"split `{subject.split}` (fingerprint `{fields.fingerprint[:16]}`). {_what_it_has_seen(subject)}"
    )


def _what_it_has_seen(subject: Subject) -> str:
    if subject.seen == "unknown":
        return "Whether the model has seen any of them is not known."
    if subject.seen == "none":
        return "The model has seen none of them."
    return f"**The model has seen some of them, so this is no test: {subject.seen}.**"


def _limits(subject: Subject) -> str:
    target = subject.other_target
    other = "" if target is None else f"The truth marks `{target}`, which the model did not learn. "
    return (
        f"{other}Calibration and thresholds were chosen on the validation fields of the model's own run; on data with "
        "another share of positives, another instrument, seeing or depth, probabilities may be off, and the operating "
        "point may not keep its target. What was judged here says nothing of data unlike it."
    )


def print_judged(judged: Judged, metrics: Mapping[str, float], *, seconds: float) -> None:
    """Print what the fields showed, whether the model has seen them, and what it cost."""
    subject = judged.subject
    fields = subject.fields
    title = f"{counted(len(fields.store), 'field')} of {fields.description}, split {subject.split}"
    print_test(title, judged.evaluation, metrics, rivals=judged.rivals, where=subject.what)
    print_plain(f"model {subject.model.source.address}; fields that it has seen: {subject.seen}")
    speed = f"latency {metrics['latency/p50_ms']:.1f} ms (P95 {metrics['latency/p95_ms']:.1f} ms) a tile"
    print_plain(f"{speed}; {energy_line(judged.energy, metrics)}; {seconds:.0f} s in all")
