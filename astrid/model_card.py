"""What goes with a trained model: facts that a program needs to use it, and a card for who reads about it."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from astrid.config import DataError
from astrid.config.secrets import scrub_values
from astrid.metrics.calibrators import Calibrator
from astrid.metrics.chosen import Chosen

from .aims import aim_and_outcome
from .card_sections import baselines_table, results_table, speed_table
from .units import counted

FACTS_FILE, CARD_FILE, FIELDS_FILE = "model.json", "model_card.md", "test_fields.npz"
FORMAT = "astrid-model-1"
"""What the file's `format` entry says; it changes when an older file could no longer be read."""


@dataclass(frozen=True)
class ModelFacts:
    """What somebody who loads a model must know to use it as its run did.

    Attributes
    ----------
    network : dict
        depth, filters, channels, parameters, orientations (over which it averages), halo (pixels at a window's edge
        to throw away).
    precision, channels_last, whole
        How the run computed; `whole` frames are predicted in one piece.
    chosen : Chosen
        What validation decided: calibrator, thresholds and what they were chosen for.
    min_pixels : int
        Smallest number of connected pixels that make a detection.
    preprocessing : dict
        The data configuration, with `choice`, its class: how frames become channels.
    description, fingerprint, test_fingerprint : str
        The data, their digest, and that of the test fields and of how they are judged.
    test_fields : int
    metrics : dict
        Every final metric, with `_low` and `_high` where there is an interval.
    machine : dict
        host, device, processor and threads on which latency was measured.
    best_epoch : int
        Epoch of the weights.
    unit : str
        What the channels are in.
    judged_by : dict
        The knobs of `metrics` on which the test metrics depend; empty in a model of before they were kept.
    seen : dict
        Where the fields that trained the model (`train`) and chose its epoch and thresholds (`val`) come from, as in
        `Splits.origins`; empty in a model of before that was kept.
    asked : dict
        The knobs of `metrics` that say what was computed, and what validation was to choose; empty likewise.
    """

    network: dict[str, int]
    precision: str
    channels_last: bool
    whole: bool
    chosen: Chosen
    min_pixels: int
    preprocessing: dict[str, Any]
    description: str
    fingerprint: str
    test_fingerprint: str
    test_fields: int
    metrics: dict[str, float]
    machine: dict[str, str]
    best_epoch: int
    unit: str = "background sigma"
    judged_by: dict[str, float] = field(default_factory=dict)
    seen: dict[str, list[str]] = field(default_factory=dict)
    asked: dict[str, Any] = field(default_factory=dict)

    @property
    def orientations(self) -> int:
        """Over how many flips and turns of an image the network averages; 1 for models that don't tell."""
        return self.network.get("orientations", 1)

    def save(self, path: Path) -> Path:
        """Write the facts as JSON and return where."""
        facts = {"format": FORMAT} | scrub_values(dataclasses.asdict(self))
        path.write_text(json.dumps(facts, indent=2, allow_nan=False))
        return path

    @classmethod
    def load(cls, path: Path) -> ModelFacts:
        """Read what `save` wrote.

        Raises
        ------
        DataError
            Where the file is missing, damaged or of another format.
        """
        if not path.is_file():
            raise DataError(f"{path.parent} holds no model of AstrID: {FACTS_FILE} is missing; give a finished run")
        try:
            saved = json.loads(path.read_text())
        except ValueError as error:
            raise DataError(f"{path} is damaged: {error}; load the model from the registry") from error
        found = saved.pop("format", None)
        if found != FORMAT:
            raise DataError(f"{path} must have format {FORMAT}, got {found!r}; use the version that wrote it")
        if "chosen" not in saved:  # written before calibration was stored
            saved["chosen"] = {name: saved.pop(name) for name in ("logit_threshold", "detection_threshold")}
        return cls(**saved | {"chosen": Chosen.from_saved(saved["chosen"])})


def model_card(
    facts: ModelFacts,
    *,
    run: str,
    energy: str,
    address: str,
    data: str | None = None,
    limits: str | None = None,
    where: str = "test fields",
) -> str:
    """Return the card in Markdown: what the model is, its data, how good and how sure, what it cost, its limits.

    Parameters
    ----------
    facts : ModelFacts
    run : str
        Name of the run.
    energy : str
        What the run used, as measured or as unavailable.
    address : str
        What `astrid.deployed.load` takes to load this model: the folder of its run, or its version in the registry.
    data, limits : str or None
        What it was trained and judged on, and what that doesn't tell; None for the test fields of its own run.
    where : str
        What it was judged on, in the plural.
    """
    size = facts.network
    parts = [
        f"# U-Net of depth {size['depth']} with {size['filters']} filters",
        f"Run `{run}`, weights of epoch {facts.best_epoch}. {size['parameters']} trainable parameters. Takes images of "
        f"{size['channels']} channels in units of {facts.unit}, of any size, and gives the logit of each pixel"
        f"{f', averaged over {facts.orientations} flips and turns' if facts.orientations > 1 else ''}.",
        f"## Data\n\n{data or _own_data(facts)}",
        "## Results\n\n" + results_table(facts.metrics, where=where),
        *([] if (rivals := baselines_table(facts.metrics)) is None else [f"## Without training\n\n{rivals}"]),
        "## Operating point\n\n" + _operating_point(facts, where),
        f"## Speed and energy\n\n{_speed(facts)}\n\n{energy[:1].upper()}{energy[1:]}.",
        "## Limits\n\n" + (limits or _limits(facts)),
        f"## Use\n\n```python\n{_usage(address)}\n```",
    ]
    return "\n\n".join(parts) + "\n"


def _own_data(facts: ModelFacts) -> str:
    kinds = {"train": "training field", "val": "validation field"}
    used = [counted(len(facts.seen[split]), kind) for split, kind in kinds.items() if split in facts.seen]
    amount = f"{' and '.join(used)} of " if used else ""
    return (
        f"Trained on {amount}{facts.description} (fingerprint `{facts.fingerprint[:16]}`); judged once on "
        f"{facts.test_fields} test fields (`{facts.test_fingerprint[:16]}`) that share nothing with training."
    )


def _operating_point(facts: ModelFacts, where: str) -> str:
    chosen = facts.chosen
    logit = chosen.logit_threshold
    pixel = "undefined, since validation had no positives" if logit is None else f"{logit:.4g}"
    lines = [f"Chosen on validation. Logit of the network from which a pixel is positive: {pixel}."]
    if chosen.detection_threshold is not None:
        size = f"{facts.min_pixels} connected pixel{'s' if facts.min_pixels > 1 else ''} or more"
        lines.append(f"Probability from which {size} make a detection: {chosen.detection_threshold:.4g}.")
    if said := aim_and_outcome(chosen, facts.metrics, where=where):
        lines.append(f"{said[:1].upper()}{said[1:]}.")
    return " ".join([*lines, _calibration(chosen.calibrator)])


def _calibration(calibrator: Calibrator) -> str:
    match calibrator.kind:
        case "none":
            return "Probabilities are the logistic function of the logits, not calibrated."
        case "temperature":
            how = f"by the temperature {calibrator.temperature:.4g}, by which logits are divided"
        case "isotonic":
            how = f"by an isotonic curve through {len(calibrator.knots)} points"
    return f"Probabilities are calibrated on validation {how}; `_uncalibrated` in the results is without."


def _speed(facts: ModelFacts) -> str:
    named = [facts.machine[key] for key in ("device", "processor") if key in facts.machine]
    where = f"{', '.join(named)}, {counted(int(facts.machine['threads']), 'thread')}, {facts.precision}"
    quantiles = {name: f"latency/{name.lower()}_ms" for name in ("P50", "P95", "P99")}
    known = [f"{name} {facts.metrics[key]:.1f} ms" for name, key in quantiles.items() if key in facts.metrics]
    edge = facts.preprocessing.get("tile_size")
    tile = "one tile" if edge is None else f"one tile of {edge}x{edge} pixels"
    return f"Latency for {tile} on {where}: {', '.join(known)}.\n\n{speed_table(facts.metrics)}"


def _limits(facts: ModelFacts) -> str:
    kind = facts.preprocessing["choice"]
    places = {
        "SimulatedData": "a simulated sky; how it does on real frames was not measured",
        "AlertsData": "stamps around candidates of alert packets, not on whole frames",
    }
    seen = places.get(kind, "these frames")
    return (
        f"It was judged on {seen}. Frames prepared in another way than `preprocessing` in `{FACTS_FILE}` says, another "
        "instrument, seeing or depth may give other results. Probabilities are those of the training data's prior."
    )


def _usage(address: str) -> str:
    return (
        "from astrid.deployed import load\n\n"
        f'model = load("{address}")\n'
        "probability = model.probabilities(image)  # (C, H, W) float32 in background sigma -> (H, W)"
    )
