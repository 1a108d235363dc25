"""Training state on disk: written atomically, read without running code, refused when damaged or foreign."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from astrid.config import ConfigError

CHECKPOINTS, LAST, BEST = "checkpoints", "last.pt", "best.pt"
"""Folder in that of a run, and the files in it."""
FORMAT = "astrid-checkpoint-1"
"""What the file's `format` entry says; it changes when an older file could no longer be taken up."""


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a state of tensors and plain values, so that the file is either the old one or the new one, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        torch.save({"format": FORMAT} | state, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a state onto the CPU; only tensors and plain values are accepted, no code is run.

    Raises
    ------
    ConfigError
        Where the file is missing, damaged, not a checkpoint of AstrID, or one of another format.
    """
    if not path.is_file():
        raise ConfigError(f"training.resume must lead to a checkpoint, got {path} which doesn't exist")
    _refuse_damage(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"{path} must be a checkpoint of tensors and plain values, but reading it failed: {reason}"
        ) from error
    if not isinstance(state, dict) or "format" not in state:
        raise ConfigError(f"{path} must be a checkpoint that AstrID wrote, but it is a foreign file")
    if state["format"] != FORMAT:
        raise ConfigError(f"{path} must have format {FORMAT}, got {state['format']!r}; use the version that wrote it")
    return dict(state)


def _refuse_damage(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError) as error:
        raise ConfigError(
            f"{path} must be a whole checkpoint, but it is damaged or foreign: {error}; start a new run"
        ) from error
    if damaged is not None:
        raise ConfigError(f"{path} must be a whole checkpoint, but its part {damaged} has a wrong checksum")
