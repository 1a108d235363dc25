"""Runs as their energy is analysed: the ledger in the run folder, and what the journal beside it tells."""

from __future__ import annotations

from pathlib import Path

from astrid.config import DataError
from astrid.energy import RunEnergy
from astrid.energy.ledger import LEDGER, read_ledger
from astrid.tracking.stored_runs import StoredRun, read_folder


def read_run(folder: str | Path) -> RunEnergy:
    """Read a run, one that goes on included, from its folder, which needs no MLflow.

    Raises
    ------
    DataError
        The folder holds no run, or one without an energy ledger.
    """
    return with_ledger(read_folder(Path(folder)), Path(folder))


def with_ledger(run: StoredRun, folder: Path) -> RunEnergy:
    """Add the ledger in its folder to what was recorded of a run.

    Raises
    ------
    DataError
        There is no ledger.
    """
    path = folder / LEDGER
    if not path.is_file():
        rule, remedy = f"hold {LEDGER}", "give a run whose folder is on this machine, or fetch that artifact of it"
        raise DataError(f"the folder of {run.name} must {rule}, got {folder}; {remedy}")
    return RunEnergy(
        name=run.name,
        ledger=read_ledger(path),
        params=run.params,
        tags=run.tags,
        metrics=run.metrics,
        histories=run.histories,
    )
