"""Finished runs of a known quality for the tests of the registry, and the databases they go to."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch

from astrid.config import TrackingConfig
from astrid.metrics.bootstrap import resample_fields, save_fields
from astrid.metrics.chosen import Chosen
from astrid.metrics.per_field import FieldCounts
from astrid.model_card import ModelFacts, model_card
from astrid.tracking import open_tracker, sync

NAME = "astrid-unet"
FIELDS = 12


def create_database(folder: Path) -> Path:
    """Create a database of MLflow, which takes seconds; copy it for each test."""
    from astrid.tracking.mlflow_sink import open_store

    path = folder / "mlflow.db"
    open_store(f"sqlite:///{path}")
    return path


def tracking_on_copy(database: Path, folder: Path) -> TrackingConfig:
    """Return the tracking of a test that has a database of its own."""
    shutil.copy(database, folder / "mlflow.db")
    return TrackingConfig(uri=f"sqlite:///{folder}/mlflow.db")


def save_network(folder: Path) -> Path:
    """Save a small network as runs do."""
    from astrid.tracking.registry import save_model

    save_model(torch.nn.Conv2d(3, 1, 1), torch.zeros(1, 3, 8, 8), folder / "model")
    return folder / "model"


def facts(**changes: Any) -> ModelFacts:
    values: dict[str, Any] = {
        "network": {"depth": 2, "filters": 4, "channels": 3, "parameters": 10, "halo": 16},
        "precision": "bf16",
        "channels_last": True,
        "whole": False,
        "chosen": Chosen(logit_threshold=0.25, detection_threshold=0.6),
        "min_pixels": 1,
        "preprocessing": {"choice": "SimulatedData", "stretch": "arcsinh"},
        "description": "simulated sky",
        "fingerprint": "ab" * 32,
        "test_fingerprint": "cd" * 32,
        "test_fields": FIELDS,
        "metrics": {"test/auprc": 0.8, "test/ece": 0.001, "latency/p50_ms": 5.0, "latency/p95_ms": 6.0},
        "machine": {"host": "here", "device": "cpu", "threads": "2"},
        "best_epoch": 1,
    }
    return ModelFacts(**values | changes)


def fields_of_quality(quality: float) -> FieldCounts:
    """Fields whose positives lie the higher in logit the better the network; their difficulty is the same for all."""
    rng, bins = np.random.default_rng(5), 50
    means = 25 + quality * rng.uniform(0.9, 1.1, FIELDS)
    rows = [rng.normal(means[:, None], 5, (FIELDS, 60)), np.random.default_rng(6).normal(25, 5, (FIELDS, 600))]
    counts = [
        np.stack([np.bincount(row.clip(0, bins - 1).astype(int), minlength=bins) for row in part]) for part in rows
    ]
    return FieldCounts([f"f{number}" for number in range(FIELDS)], *counts, None, "cd" * 32)


def finish_run(config: TrackingConfig, run_dir: Path, network: Path, *, quality: float, ship: bool = True) -> None:
    """Do what a finished run does; with `ship` false it is left to `sync`."""
    tracker = open_tracker(TrackingConfig(backend="off"), run_dir, name=run_dir.name, params={}, tags={})
    tracker.journal.write_model(save_model(run_dir, network, quality=quality), step=1)
    tracker.close("FINISHED")
    if ship:
        sync(run_dir, config)


def save_model(run_dir: Path, network: Path, *, quality: float) -> Path:
    """Put a saved network with all that belongs to it into a run's folder, and return where."""
    counts = fields_of_quality(quality)
    resampled = resample_fields(counts, resamples=200, seed=0)
    assert resampled is not None
    value = float(np.mean(resampled.values["auprc"]))
    shutil.copytree(network, run_dir / "model-1")
    told = facts(metrics=facts().metrics | {"test/auprc": value})
    told.save(run_dir / "model-1" / "model.json")
    (run_dir / "model-1" / "model_card.md").write_text(
        model_card(told, run=run_dir.name, energy="energy: none", address="runs/unet-1")
    )
    save_fields(run_dir / "model-1" / "test_fields.npz", counts, resampled)
    return run_dir / "model-1"
