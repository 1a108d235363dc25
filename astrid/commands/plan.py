"""Propose tile, depth, filters and batch size for the data and the device at hand, and say why.

    astrid plan                                              # the default simulated sky
    astrid plan data=frames data.root=DIR data.manifest=FILE.csv
    astrid plan experiment=hrc_cosmic_rays training.epochs=20
    astrid plan model.filters=32                             # what is given stays; the rest is chosen around it
    astrid plan model=unet_deep --format json                # a named network stays as it is, too

The fields are prepared as a run would, and are there for it afterwards. Depth follows from the objects and the PSF,
the tile from the receptive field and the fields, filters from the amount of training pixels and the device. Batch
sizes are tried with real training steps of a throw-away network. A proposal is a start, not a result: the scores of
other sizes are found by a sweep. A run does the same by itself with `model=auto data.batch_size=auto`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shlex
import textwrap
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from ..config.compose import load

if TYPE_CHECKING:
    from ..plan import Choice, Plan

TILE, DEPTH, FILTERS, BATCH = "data.tile_size", "model.depth", "model.filters", "data.batch_size"
MIB = 2**20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="as for train.py: data=frames")
    parser.add_argument("--format", choices=("table", "json"), default="table", help="(default: %(default)s)")


def run(arguments: argparse.Namespace) -> int:
    """Prepare the fields, choose, and print."""
    choose = open_knobs(arguments.overrides)
    config = load([*arguments.overrides, *placeholders(choose)])
    from ..console import announce
    from ..data.fields import build_splits, check_splits
    from ..plan import known_reach, propose
    from ..runtime import prepare_runtime

    runtime = prepare_runtime(config.training)
    splits = build_splits(config.data, receptive_field_pixels=known_reach(config.model), announce=announce)
    check_splits(splits, monitor=config.training.monitor)
    plan = propose(config, runtime=runtime, splits=splits, tile_too=TILE in choose)
    command = training_command(arguments.overrides, plan)
    print(as_json(plan, command) if arguments.format == "json" else as_text(plan, command))
    return 0


def open_knobs(overrides: Sequence[str]) -> list[str]:
    """Return the knobs that the user leaves to the plan; a network chosen by name keeps its depth and filters."""
    given = dict(override.lstrip("+").split("=", 1) for override in overrides if "=" in override)
    fixed = {key for key, value in given.items() if value != "auto"}
    if "model" in fixed:
        fixed |= {key for key in (DEPTH, FILTERS) if given.get(key) != "auto"}
    return [key for key in (TILE, DEPTH, FILTERS, BATCH) if key not in fixed]


def placeholders(choose: Collection[str]) -> list[str]:
    """Return overrides under which any choice of the open knobs can be composed."""
    opened = [f"{key}=auto" for key in (DEPTH, FILTERS, BATCH) if key in choose]
    return [*opened, f"{TILE}=16"] if {TILE, DEPTH} <= set(choose) else opened


def training_command(overrides: Sequence[str], plan: Plan) -> str:
    """Return the command that trains with the proposal."""
    kept = [override for override in overrides if override.lstrip("+").split("=")[0] not in plan.choices]
    kept = [override for override in kept if override != "model=auto"]
    chosen = [f"{key}={choice.value}" for key, choice in plan.choices.items()]
    return shlex.join(["python", "train.py", *kept, *chosen])


def as_json(plan: Plan, command: str) -> str:
    """Write everything as JSON."""
    parts = {
        "choices": {key: dataclasses.asdict(choice) for key, choice in plan.choices.items()},
        "data": dataclasses.asdict(plan.profile),
        "device": dataclasses.asdict(plan.device),
        "trials": [dataclasses.asdict(trial) for trial in plan.trials],
        "epoch_seconds": plan.epoch_seconds,
        "command": command,
    }
    return json.dumps(parts, indent=2)


def as_text(plan: Plan, command: str) -> str:
    """Write data, choices with reasons, what was measured, and the command."""
    lines = [describe_data(plan), ""]
    lines += [as_row(key, choice) for key, choice in plan.choices.items()]
    if plan.trials and plan.epoch_seconds is not None:
        lines += ["", "batch  peak MiB  s/step  images/s"]
        lines += [
            f"{trial.batch:>5}  {trial.peak_bytes / MIB:>8.0f}  {trial.seconds:>6.3f}  {trial.images_per_second:>8.1f}"
            for trial in plan.trials
        ]
        seconds = f"{plan.epoch_seconds:.0f} s"
        lines.append(f"an epoch of {plan.tiles} tiles takes about {seconds}, validation and loading aside")
    return "\n".join([*lines, "", command])


def as_row(key: str, choice: Choice) -> str:
    """Write knob and value, and the reason wrapped beside them."""
    left = f"{key:<16} {choice.value:>4}  "
    return textwrap.fill(choice.reason, 120, initial_indent=left, subsequent_indent=" " * len(left))


def describe_data(plan: Plan) -> str:
    """Say what the data are like."""
    data = plan.profile
    edges = sorted({data.smallest_edge_pixels, data.largest_edge_pixels})
    size = " to ".join(map(str, edges))
    width = "unknown" if data.fwhm_pixels is None else f"{data.fwhm_pixels:.2f} pixels"
    return (
        f"{data.train_fields} training, {data.val_fields} validation and {data.test_fields} test fields of "
        f"{size} pixels and {data.channels} channels; PSF FWHM {width}\n"
        f"{data.training_pixels:,} training pixels, {data.positive_share:.3%} positive; "
        f"95 % of {data.objects} objects within {data.extent_pixels:.0f} pixels"
    )
