"""Run folders that hold a model nobody trained, for the tests of what is done with models."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from astrid.checkpoint import BEST, CHECKPOINTS, save_checkpoint
from astrid.config.compose import load
from astrid.config.resume import save_config
from astrid.evaluate import judged_by
from astrid.metrics.chosen import Chosen
from astrid.model_card import FACTS_FILE, ModelFacts
from astrid.predictor import build_predictor
from astrid.runtime import Runtime
from astrid.tracking import Journal
from astrid.unet import build_unet

CPU = Runtime(torch.device("cpu"), "fp32", threads=1, channels_last=False)
CHOSEN = Chosen(logit_threshold=0.5, detection_threshold=0.6)


def plant_model(
    run_dir: Path,
    overrides: Sequence[str],
    *,
    channels: int = 3,
    chosen: Chosen = CHOSEN,
    seen: Mapping[str, list[str]] | None = None,
) -> Path:
    """Make the folder of a finished run whose network has random weights; return it."""
    config = load(["model.depth=1", "model.filters=4", "metrics.bins=4096", "tracking=off", *overrides])
    torch.manual_seed(0)
    network = build_unet(config.model, channels=channels, stretch=config.data.stretch, prior=0.3)
    for parameter in network.heads[0].parameters():
        torch.nn.init.normal_(parameter)  # so that logits differ from pixel to pixel
    journal = Journal.create(run_dir, name=run_dir.name, experiment="astrid")
    save_config(config, run_dir)
    save_checkpoint(run_dir / CHECKPOINTS / BEST, {"model": network.state_dict(), "epoch": 1})
    planted_facts(build_predictor(network, CPU, config.model).halo, config, channels, chosen, seen or {}).save(
        run_dir / FACTS_FILE
    )
    journal.write_end("FINISHED")
    return run_dir


def planted_facts(halo: int, config: Any, channels: int, chosen: Chosen, seen: Mapping[str, list[str]]) -> ModelFacts:
    return ModelFacts(
        network={"depth": 1, "filters": 4, "channels": channels, "parameters": 10, "halo": halo},
        precision="fp32",
        channels_last=False,
        whole=False,
        chosen=chosen,
        min_pixels=config.metrics.min_pixels,
        preprocessing={"choice": type(config.data).__name__} | dataclasses.asdict(config.data),
        description="planted data",
        fingerprint="ab" * 32,
        test_fingerprint="cd" * 32,
        test_fields=2,
        metrics={},
        machine={},
        best_epoch=1,
        judged_by=judged_by(config.metrics),
        seen=dict(seen),
    )
