"""What goes with a trained model: facts that a program needs to use it, and a card for who reads about it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from astrid.config import DataError
from astrid.config.secrets import scrub_values

FACTS_FILE, CARD_FILE = "model.json", "model_card.md"
FORMAT = "astrid-model-1"
"""What the file's `format` entry says; it changes when an older file could no longer be read."""


@dataclass(frozen=True)
class ModelFacts:
    """What somebody who loads a model must know to use it as its run did.

    Attributes
    ----------
    network : dict
        depth, filters, channels, parameters, halo (pixels at a window's edge to throw away).
    precision, channels_last, whole
        How the run computed; `whole` frames are predicted in one piece.
    logit_threshold : float or None
        Logit from which a pixel is called positive; None where validation had no positives.
    detection_threshold : float or None
        Probability from which pixels make a detection; None without a catalogue.
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
        host, device and threads on which latency was measured.
    best_epoch : int
        Epoch of the weights.
    """

    network: dict[str, int]
    precision: str
    channels_last: bool
    whole: bool
    logit_threshold: float | None
    detection_threshold: float | None
    min_pixels: int
    preprocessing: dict[str, Any]
    description: str
    fingerprint: str
    test_fingerprint: str
    test_fields: int
    metrics: dict[str, float]
    machine: dict[str, str]
    best_epoch: int

    def save(self, path: Path) -> Path:
        """Write the facts as JSON and return where."""
        path.write_text(json.dumps({"format": FORMAT} | scrub_values(dataclasses.asdict(self)), indent=2))
        return path

    @classmethod
    def load(cls, path: Path) -> ModelFacts:
        """Read what `save` wrote.

        Raises
        ------
        DataError
            Where the file is missing or of another format.
        """
        if not path.is_file():
            raise DataError(f"{path.parent} holds no model of AstrID: {FACTS_FILE} is missing; give a finished run")
        saved = json.loads(path.read_text())
        found = saved.pop("format", None)
        if found != FORMAT:
            raise DataError(f"{path} must have format {FORMAT}, got {found!r}; use the version that wrote it")
        return cls(**saved)


def model_card(facts: ModelFacts, *, run: str, energy: str) -> str:
    """Return the card in Markdown: what the model is, its data, how good and how sure, what it cost, its limits.

    Parameters
    ----------
    facts : ModelFacts
    run : str
        Name of the run.
    energy : str
        What the run used, as measured or as unavailable.
    """
    size = facts.network
    parts = [
        f"# U-Net of depth {size['depth']} with {size['filters']} filters",
        f"Run `{run}`, weights of epoch {facts.best_epoch}. {size['parameters']} trainable parameters. Takes images of "
        f"{size['channels']} channels in units of background sigma, of any size, and gives the logit of each pixel.",
        f"## Data\n\nTrained on {facts.description} (fingerprint `{facts.fingerprint[:16]}`); judged once on "
        f"{facts.test_fields} test fields (`{facts.test_fingerprint[:16]}`) that share nothing with training.",
        "## Results\n\n" + _results(facts),
        "## Operating point\n\n" + _operating_point(facts),
        f"## Speed and energy\n\n{_speed(facts)}\n\n{energy[:1].upper()}{energy[1:]}.",
        "## Limits\n\n" + _limits(facts),
        f"## Use\n\n```python\n{_usage()}\n```",
    ]
    return "\n\n".join(parts) + "\n"


def with_interval(metrics: Mapping[str, float], name: str, *, spec: str = ".4g") -> str:
    """Return a metric as text, with its 95 % interval where there is one."""
    if f"{name}_low" not in metrics:
        return format(metrics[name], spec)
    low, high = (format(metrics[f"{name}_{end}"], spec) for end in ("low", "high"))
    return f"{metrics[name]:{spec}} [{low}, {high}]"


def _results(facts: ModelFacts) -> str:
    names = [name for name in facts.metrics if name.startswith("test/") and not name.endswith(("_low", "_high"))]
    rows = [f"| {name.removeprefix('test/')} | {with_interval(facts.metrics, name)} |" for name in names]
    sure = any(name.endswith("_low") for name in facts.metrics)
    note = "In brackets: 95 % intervals over the test fields." if sure else "Too few test fields for intervals."
    return "\n".join(["| metric | test fields |", "| --- | --- |", *rows]) + f"\n\n{note}"


def _operating_point(facts: ModelFacts) -> str:
    logit = facts.logit_threshold
    pixel = "undefined, since validation had no positives" if logit is None else f"{logit:.4g}"
    lines = [f"Chosen on validation. Logit from which a pixel is positive: {pixel}."]
    if facts.detection_threshold is not None:
        size = f"{facts.min_pixels} connected pixel{'s' if facts.min_pixels > 1 else ''} or more"
        lines.append(f"Probability from which {size} make a detection: {facts.detection_threshold:.4g}.")
    return " ".join(lines)


def _speed(facts: ModelFacts) -> str:
    where = f"{facts.machine['device']}, {facts.machine['threads']} threads, {facts.precision}"
    latency = facts.metrics["latency/p50_ms"], facts.metrics["latency/p95_ms"]
    return f"Latency {latency[0]:.1f} ms (P95 {latency[1]:.1f} ms) for one tile on {where}."


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


def _usage() -> str:
    return (
        "from astrid.deployed import load\n\n"
        'model = load("models:/astrid-unet@champion")  # or a run folder\n'
        "probability = model.probabilities(image)  # (C, H, W) float32 in background sigma -> (H, W)"
    )
