"""What identifies a run: name, parameters, tags, and the code and the machine that computed it."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from astrid.config import Config, FramesData
from astrid.config.compose import PROJECT_ROOT
from astrid.config.leaves import leaves
from astrid.config.secrets import scrub_values
from astrid.data.fields import Splits
from astrid.runtime import Runtime, git_state, hardware_facts, package_versions
from astrid.tracking.records import PARENT_TAG, STUDY_TAG, TRIAL_TAG

ENVIRONMENT_FILE, DIFF_FILE = "environment.json", "git.diff"
PRIOR_TAG = "data.prior"
"""Tag with the share of positive pixels in training."""


@dataclass(frozen=True)
class Surroundings:
    """What a run was computed by: code and machine, as tags; hardware and versions; uncommitted changes."""

    tags: dict[str, str]
    environment: dict[str, dict[str, str]]
    diff: str


@dataclass(frozen=True)
class RunFacts:
    """How a run is named and found: name, parameters (every leaf of the configuration), tags, and what it ran on."""

    name: str
    params: dict[str, str]
    tags: dict[str, str]
    surroundings: Surroundings


def surroundings(runtime: Runtime) -> Surroundings:
    """Look at the code and the machine."""
    git = git_state(PROJECT_ROOT)
    hardware, versions = hardware_facts(runtime), package_versions()
    tags = {
        "git.commit": git.commit or "unknown",
        "git.branch": git.branch or "unknown",
        "git.dirty": str(git.is_dirty).lower(),
        "git.remote": git.remote or "none",
        "host": hardware["host"],
        "device": hardware["device"],
        "precision": runtime.precision,
        "threads": str(runtime.threads),
    }
    return Surroundings(tags, {"hardware": hardware, "versions": versions}, git.diff)


def describe(config: Config, run_dir: Path, *, runtime: Runtime, splits: Splits, parameters: int) -> RunFacts:
    """Collect what identifies a run, and the facts about its code and machine."""
    around = surroundings(runtime)
    data = type(config.data).__name__.removesuffix("Data").lower()
    tags = around.tags | {
        "task": getattr(config.data, "target", data),
        "data": splits.description,
        "data.fingerprint": splits.fingerprint,
        PRIOR_TAG: f"{splits.train.prior:.6g}",
        "model.parameters": str(parameters),
    }
    if config.sweep.study is not None:
        tags |= {STUDY_TAG: config.sweep.study, TRIAL_TAG: str(config.sweep.trial)}
    if config.sweep.parent_run is not None:
        tags[PARENT_TAG] = config.sweep.parent_run
    if isinstance(config.data, FramesData) and config.data.split_unit in ("exposure", "section"):
        tags["data.split_unit"] = f"{config.data.split_unit} (weaker than field: splits may share a patch of sky)"
    name = f"unet-d{config.model.depth}-f{config.model.filters}-{data}-{run_dir.name[-8:]}"
    return RunFacts(name, parameters_of(config), tags, around)


def parameters_of(config: Config) -> dict[str, str]:
    """Return every leaf of a configuration, and the choice of each group."""
    choices = {field.name: type(getattr(config, field.name)).__name__ for field in dataclasses.fields(config)}
    params = leaves(dataclasses.asdict(config)) | {f"choice.{group}": choice for group, choice in choices.items()}
    params.pop("training.resume", None)  # how a run is taken up again is no property of it
    return params


def save_surroundings(around: Surroundings, run_dir: Path) -> None:
    """Write versions, hardware and uncommitted changes into the folder of a new run."""
    (run_dir / ENVIRONMENT_FILE).write_text(json.dumps(scrub_values(around.environment), indent=2))
    (run_dir / DIFF_FILE).write_text(around.diff)
