"""What a run calls to report itself: into its journal at once, and to MLflow in the background."""

from __future__ import annotations

import json
import logging
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import psutil

from ..config import BudgetSpent, Pruned, RunError, Stopped, TrackingConfig
from .journal import Journal, Status
from .records import STATE_TAG, TRIAL_TAG
from .shipper import Shipper, connect_sink, ship_pending
from .tables import Table, write_table

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

TABLES = "tables"


def open_tracker(
    config: TrackingConfig,
    run_dir: Path,
    *,
    name: str,
    params: Mapping[str, str],
    tags: Mapping[str, str],
    resume: bool = False,
) -> Tracker:
    """Claim the run folder, or go on with the run in it; MLflow hears of it with the first report.

    Parameters
    ----------
    config : where runs are reported.
    run_dir : folder of the run.
    name : what MLflow's table shows the run as; a resumed run keeps its first.
    params : every leaf of the configuration; one that a resumed run changed becomes the tag ``changed.KEY``.
    tags : whatever else tells runs apart.
    resume : go on with the run in `run_dir`.

    Raises
    ------
    DataError
        If the folder is taken (a new run), or holds no run or one that is still going (a resumed one).
    """
    if resume:
        journal = Journal.open(run_dir)
        journal.attach()
    else:
        journal = Journal.create(run_dir, name=name, experiment=config.experiment)
    journal.write_params(params)
    journal.write_tags(who_ran() | dict(tags))
    if config.backend == "off":
        return Tracker(journal, None, is_trial=TRIAL_TAG in tags)
    shipper = Shipper(connect_sink(run_dir, journal.started, config), run_dir)
    return Tracker(journal, shipper, wait_seconds=config.wait_seconds, is_trial=TRIAL_TAG in tags)


def sync(run_dir: Path, config: TrackingConfig, *, tags: Mapping[str, str] | None = None) -> int:
    """Send what MLflow lacks of a run that is over, and return the number of records sent.

    A run whose process was killed is ended as KILLED.

    Parameters
    ----------
    run_dir : folder of the run.
    config : where it is reported.
    tags : what else has become known of it.

    Raises
    ------
    DataError
        If the folder holds no run, or one that is still going: that one sends itself.
    ShippingError
        If MLflow could not be reached; run it again later.
    """
    journal = Journal.open(run_dir)
    journal.end_if_killed()
    journal.write_tags(tags or {})
    return ship_pending(connect_sink(run_dir, journal.started, config), run_dir)


def who_ran() -> dict[str, str]:
    """Return the tags by which MLflow shows who started a run, and with which program."""
    program = Path(sys.argv[0]).name or "python"
    return {
        "mlflow.user": psutil.Process().username(),
        "mlflow.source.name": program,
        "mlflow.source.type": "LOCAL",
    }


@dataclass(frozen=True)
class End:
    """How a run ended, in MLflow's words; `state` is what its study calls that where it is a trial."""

    status: Status
    state: str
    reason: str | None = None


def ending_of(error: BaseException | None) -> End:
    """Return how a run ended that was left by an error, or by none.

    FINISHED, also for a pruned trial and where the budget is spent; KILLED when somebody stopped it; else FAILED.
    """
    match error:
        case None:
            return End("FINISHED", "COMPLETE")
        case Pruned() | BudgetSpent():
            return End("FINISHED", "PRUNED", str(error))
    killed = isinstance(error, Stopped | KeyboardInterrupt)
    return End("KILLED" if killed else "FAILED", "FAIL", f"{type(error).__name__}: {error}")


class Tracker:
    """Report a run. Nothing here waits for MLflow but `close`, for a bounded time.

    As a context manager it closes itself: FINISHED (also for a pruned trial, and where the budget
    is spent), KILLED when somebody stopped the run, and FAILED for any other error.
    """

    def __init__(
        self, journal: Journal, shipper: Shipper | None, *, wait_seconds: float = 30.0, is_trial: bool = False
    ) -> None:
        self.journal = journal
        self._shipper = shipper
        self._wait_seconds = wait_seconds
        self._is_trial = is_trial

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Report how the block ended."""
        end = ending_of(error)
        if isinstance(error, BudgetSpent):
            self.tags({"stopped": str(error)})
        self._end(end.status, state=end.state, reason=end.reason)

    def _end(self, status: Status, *, state: str, reason: str | None = None) -> None:
        """Close, and say of a sweep's trial how it ended in the words of its study."""
        if self._is_trial:
            self.tags({STATE_TAG: state})
        self.close(status, reason=reason)

    def connect(self) -> str | None:
        """Return the id of the run in MLflow, found or created at once; None with tracking off, or without an answer.

        To be called before anything is reported: afterwards the background does this.
        """
        return None if self._shipper is None else self._shipper.connect()

    def metrics(self, values: Mapping[str, float], *, step: int) -> dict[str, float]:
        """Report the metrics of one step; return what is on record, where a point that was known keeps its value."""
        self.journal.write_metrics(values, step=step)
        self._wake()
        return self.journal.recorded(values, step=step)

    def tags(self, values: Mapping[str, str]) -> None:
        """Report tags; a later value replaces an earlier one."""
        self.journal.write_tags(values)
        self._wake()

    def artifact(self, path: Path, *, folder: str = "") -> None:
        """Report a file of the run folder."""
        self.journal.write_artifact(path, folder=folder)
        self._wake()

    def dataset(self, name: str, *, digest: str, source: str, context: str = "training") -> None:
        """Report what data the run reads, with a digest of its content."""
        self.journal.write_dataset(name, digest=digest, source=source, context=context)
        self._wake()

    def tables(self, tables: Mapping[str, Table]) -> None:
        """Report tables, once and together, as JSON, which MLflow's pages show as tables, and as Parquet."""
        folder = self.journal.run_dir / TABLES
        folder.mkdir(exist_ok=True)
        started = self.journal.started
        for name, table in tables.items():
            for path in write_table(
                table, folder / name, about={"run": started.name, "uid": started.uid, "table": name}
            ):
                self.journal.write_artifact(path, folder=TABLES)
        shown = [{"path": f"{TABLES}/{name}.json", "type": "table"} for name in tables]
        self.tags({"mlflow.loggedArtifacts": json.dumps(shown)})

    def model(self, module: torch.nn.Module, example: torch.Tensor, *, step: int, extras: Sequence[Path] = ()) -> None:
        """Save the trained network in the run folder and report it; it becomes a new registered version.

        Parameters
        ----------
        module : network with its best weights; left as it is.
        example : (B, C, H, W) float32, of which the first image is kept as input example.
        step : epoch of the weights; a resumed run that comes to the same ones again reports them once.
        extras : files that are copied beside the model: what a user of it and the gate need to know.

        With tracking off nothing is saved, since the format is MLflow's; the weights are in the checkpoint.
        """
        if self._shipper is None:
            return
        from .registry import save_model

        folder = self.journal.run_dir / f"model-{step}"
        if self.journal.holds_model(folder):
            return
        shutil.rmtree(folder, ignore_errors=True)  # half saved, when the run was killed
        save_model(module, example, folder)
        for extra in extras:
            shutil.copy(extra, folder)
        self.journal.write_model(folder, step=step)
        self._wake()

    def uses_model(self, model_id: str) -> None:
        """Report which model of MLflow the run judges; its page then shows the run."""
        self.journal.write_model_used(model_id)
        self._wake()

    @property
    def retried_uploads(self) -> int | None:
        """How often this process could not send to MLflow and had to try again; None where nothing is sent."""
        return None if self._shipper is None else self._shipper.failed_attempts

    def close(self, status: Status, *, reason: str | None = None, wait_seconds: float | None = None) -> bool:
        """Report how the run ended and wait, for a bounded time, until MLflow has everything; say whether it has.

        The wait is at most `tracking.wait_seconds`, unless another is given, and short where MLflow doesn't answer.
        What MLflow lacks stays in the journal, and the log says how to send it later. Where the journal can't be
        written any more the end of a failed run is only logged, so that the first error stays the one that is seen.
        """
        try:
            self.journal.write_end(status, reason=reason)
        except RunError as error:
            if status == "FINISHED":
                raise
            log.error("%s", error)
        longest = self._wait_seconds if wait_seconds is None else wait_seconds
        return self._shipper is None or self._shipper.close(wait_seconds=longest)

    def _wake(self) -> None:
        if self._shipper is not None:
            self._shipper.wake()
