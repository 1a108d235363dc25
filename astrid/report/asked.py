"""What was asked of a run, its whole configuration, and how to get it again."""

from __future__ import annotations

import shlex

from astrid.config.compose import CHOICES
from astrid.config.resume import CONFIG_FILE
from astrid.run_facts import DIFF_FILE

from .markup import Html, code, folded, pairs, paragraph, section, table
from .material import Material

LONGEST_DIFF = 60_000
"""Characters of uncommitted changes that a page shows."""
ASKED = {
    "task": "task",
    "data": "data",
    "model.depth": "depth of the U-Net",
    "model.filters": "filters of its first level",
    "model.parameters": "trainable parameters",
    "choice.loss": "loss",
    "choice.optimizer": "optimizer",
    "optimizer.lr": "learning rate",
    "training.epochs": "epochs",
    "data.batch_size": "images of a batch",
    "data.tile_size": "edge of a tile in pixels",
    "training.monitor": "best epoch by",
    "training.seed": "seed",
    "evaluation.model": "model that is judged",
    "evaluation.split": "split that is judged",
    "evaluation.seen": "fields that it had seen",
}
"""Parameters and tags that say in a few lines what a run is."""


IDENTITY = {"git.commit": "commit", "git.branch": "branch", "data.fingerprint": "fingerprint of the data"}
"""Tags that say which code and which data it was."""


def what_was_asked(material: Material) -> Html:
    """Return what the run was to do, and what differs from the defaults."""
    run = material.run
    known = run.params | run.tags
    facts = [(title, _choice(name, known[name])) for name, title in ASKED.items() if name in known]
    return section("What was asked", pairs(facts), _changes(material))


def _choice(name: str, value: str) -> str:
    """Return a choice of configuration by the name that a user types, `loss=bce`, and any other value as it is."""
    schemas = CHOICES.get(name.removeprefix("choice."), {}) if name.startswith("choice.") else {}
    return next((choice for choice, schema in schemas.items() if schema.__name__ == value), value)


def _changes(material: Material) -> Html | None:
    if material.overrides is None:
        return None
    if not material.overrides:
        return paragraph("Nothing differs from the defaults.")
    rows = [[key, value] for key, _, value in (override.partition("=") for override in material.overrides)]
    return table(["knob", "value"], rows, caption="What differs from the defaults")


def configuration(material: Material) -> Html:
    """Return every knob."""
    params = material.run.params
    rows = [[key, value] for key, value in sorted(params.items())]
    whole = table(["knob", "value"], rows, caption="Every knob with the value that it had at the end")
    return section("Configuration", folded(f"all {len(rows)} knobs", whole))


def reproduce(material: Material) -> Html:
    """Return the commands that give the run again, and what they depend on."""
    tags, environment = material.run.tags, material.environment
    facts = [(title, tags[name]) for name, title in IDENTITY.items() if name in tags]
    facts += [(name, environment["hardware"][name]) for name in environment.get("hardware", {}) if name != "host"]
    versions = [[name, version] for name, version in environment.get("versions", {}).items()]
    return section(
        "How to reproduce",
        code(*commands(material)),
        pairs(facts),
        table(["package", "version"], versions, caption="Versions") if versions else None,
        _diff(material),
    )


def commands(material: Material) -> list[str]:
    """Return what a person types."""
    tags = material.run.tags
    lines = []
    if tags.get("git.remote", "none") != "none":
        lines.append(f"git clone {shlex.quote(tags['git.remote'])} astrid && cd astrid")
    if tags.get("git.commit", "unknown") != "unknown":
        lines.append(f"git checkout {shlex.quote(tags['git.commit'])}")
    if material.diff:
        lines.append(f"git apply {DIFF_FILE}   # from the run's folder")
    lines.append("make setup && . .venv/bin/activate")
    if material.is_evaluation:
        return [*lines, f"astrid evaluate {shlex.quote(tags.get('evaluation.model', 'MODEL'))}"]
    return [*lines, material.command or f"python train.py   # with the knobs of {CONFIG_FILE}"]


def _diff(material: Material) -> Html | None:
    diff = material.diff
    if not diff:
        return None
    rest = "" if len(diff) <= LONGEST_DIFF else f"\n... the rest is in {DIFF_FILE} of the run's folder"
    return folded("changes that were in no commit", code(diff[:LONGEST_DIFF] + rest))
