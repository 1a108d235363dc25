"""What the folder of a run tells of it; nothing else is asked, and what is missing or damaged is noted."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from types import UnionType
from typing import Any

from astrid.config import ConfigError, DataError
from astrid.config.command import as_overrides, train_command
from astrid.config.resume import CONFIG_FILE, EVALUATION_FILE, load_config
from astrid.energy import RunEnergy
from astrid.energy.ledger import LEDGER
from astrid.energy_runs import with_ledger
from astrid.inspection.cutouts import CUTOUTS_FILE, Cutout, read_cutouts
from astrid.run_facts import DIFF_FILE, ENVIRONMENT_FILE
from astrid.tracking.journal import FILE_NAME
from astrid.tracking.records import count_damaged
from astrid.tracking.stored_runs import StoredRun, read_folder
from astrid.tracking.tables import Table
from astrid.units import counted
from astrid.watch.state import Reader

from .pictures import read_pictures

FIGURES, TABLES = "figures", "tables"


@dataclass(frozen=True)
class Ending:
    """How a run stands: RUNNING, FINISHED, FAILED, KILLED, or GONE without a word; and why."""

    status: str
    reason: str | None = None


@dataclass(frozen=True)
class Material:
    """Everything that a report shows.

    Attributes
    ----------
    folder : Path
    run : StoredRun
    ending : Ending
    alerts : list of str
        Warnings of the run.
    overrides : list of str or None
        What was asked for beside the defaults; None where the configuration can't be read.
    command : str or None
        What a person types to get this run again.
    tables : dict of Table
    environment : dict
        Hardware and versions.
    diff : str
        Changes to the code that were in no commit.
    energy : RunEnergy or None
    figures : dict of bytes
        PNGs by name.
    cutouts : list of Cutout
        Of hits, misses and false alarms.
    notes : list of str
        What is missing or damaged.
    """

    folder: Path
    run: StoredRun
    ending: Ending
    alerts: list[str] = field(default_factory=list)
    overrides: list[str] | None = None
    command: str | None = None
    tables: dict[str, Table] = field(default_factory=dict)
    environment: dict[str, dict[str, str]] = field(default_factory=dict)
    diff: str = ""
    energy: RunEnergy | None = None
    figures: dict[str, bytes] = field(default_factory=dict)
    cutouts: list[Cutout] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def is_evaluation(self) -> bool:
        """Whether the run judged a finished model."""
        return (self.folder / EVALUATION_FILE).is_file()

    @property
    def is_group(self) -> bool:
        """Whether the run is several, each in a folder of its own below."""
        return any(self.folder.glob(f"*/{FILE_NAME}"))


def gather(folder: Path, *, ending: Ending | None = None) -> Material:
    """Read the folder of a run, finished or not; arguments and errors are those of `run_page.run_page`."""
    run, reader, notes = read_folder(folder), Reader(folder), list[str]()
    _, status = reader.look()
    if damaged := count_damaged(folder / FILE_NAME):
        left_out = f"{FILE_NAME} has {counted(damaged, 'damaged line')}, left out"
        notes.append(f"{left_out}; a run that was killed while it wrote, and resumed, has one")
    overrides, command = _asked(folder, notes)
    return Material(
        folder=folder,
        run=run,
        ending=ending or Ending(status, reader.state.reason),
        alerts=reader.state.alerts,
        overrides=overrides,
        command=command,
        tables=_tables(folder, notes),
        environment=_environment(folder, notes),
        diff=_text(folder / DIFF_FILE),
        energy=_energy(run, folder, notes),
        figures=read_pictures(folder / FIGURES, notes),
        cutouts=_cutouts(folder, notes),
        notes=notes,
    )


def _asked(folder: Path, notes: list[str]) -> tuple[list[str] | None, str | None]:
    if (folder / EVALUATION_FILE).is_file():
        return None, None
    try:
        config = load_config(folder)
        return as_overrides(config), train_command(config)
    except (ConfigError, DataError) as error:
        notes.append(f"{CONFIG_FILE} can't be read: {error}")
        return None, None


def _tables(folder: Path, notes: list[str]) -> dict[str, Table]:
    found: dict[str, Table] = {}
    for path in sorted((folder / TABLES).glob("*.json")):
        read = read_table(path, notes)
        if read is not None:
            found[path.stem] = read
    return found


def read_table(path: Path, notes: list[str]) -> Table | None:
    """Return what `write_table` wrote; None for another shape, which is added to the notes."""
    saved = _json(path, notes)
    if _is_table(saved):
        return Table(saved["columns"], saved["data"])
    if saved is not None:
        notes.append(f"{path.name} is damaged: it must hold columns, and rows of texts and numbers as long")
    return None


def judged_split(material: Material) -> str:
    """Return the split that was judged: test, unless an evaluation chose another."""
    return material.run.tags.get("evaluation.split", "test")


def _is_table(saved: Any) -> bool:
    """Tell whether what was read has the shape that `write_table` gives."""
    if not (
        isinstance(saved, dict) and _is_list_of(saved.get("columns"), str) and _is_list_of(saved.get("data"), list)
    ):
        return False
    width = len(saved["columns"])
    return all(len(row) == width and _is_list_of(row, str | float | int | None) for row in saved["data"])


def _is_list_of(value: Any, kind: type | UnionType) -> bool:
    return isinstance(value, list) and all(isinstance(item, kind) for item in value)


def _environment(folder: Path, notes: list[str]) -> dict[str, dict[str, str]]:
    path = folder / ENVIRONMENT_FILE
    saved = _json(path, notes) if path.is_file() else None
    if saved is None:
        return {}
    if isinstance(saved, dict) and all(_is_texts(part) for part in saved.values()):
        return saved
    notes.append(f"{path.name} is damaged: it must hold texts by name, as hardware and versions")
    return {}


def _is_texts(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(text, str) for text in value.values())


def _cutouts(folder: Path, notes: list[str]) -> list[Cutout]:
    path = folder / CUTOUTS_FILE
    if not path.is_file():
        return []
    try:
        return read_cutouts(path)
    except DataError as error:
        notes.append(str(error))
        return []


def _energy(run: StoredRun, folder: Path, notes: list[str]) -> RunEnergy | None:
    if not (folder / LEDGER).is_file():
        return None
    try:
        return with_ledger(run, folder)
    except DataError as error:
        notes.append(str(error))
        return None


def _json(path: Path, notes: list[str]) -> Any:
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        notes.append(f"{path.name} is damaged: {error}")
        return None


def _text(path: Path) -> str:
    return path.read_text(errors="replace") if path.is_file() else ""
