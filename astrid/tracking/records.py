"""What a journal holds: one small record per line, as JSON."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..config.secrets import scrub, scrub_named, scrub_values

log = logging.getLogger(__name__)

STUDY_TAG, TRIAL_TAG, STATE_TAG, PARENT_TAG = "sweep", "trial", "trial.state", "mlflow.parentRunId"
"""Tags of a run that is a trial: name of its study, its number there, how it ended, MLflow run of the study."""
EVALUATED_TAG = "evaluation.model"
"""Tag of a run that judges a finished model: which."""
GROUP_TAG, MEMBER_TAG = "group", "member"
"""Tags of a run that is one of several repeats or folds: name of the run that stands for all, and which one it is."""


@dataclass(frozen=True)
class RunStarted:
    """Who the run is; the first record of every journal."""

    uid: str
    name: str
    experiment: str
    time_ms: int


@dataclass(frozen=True)
class Attached:
    """A process writes to the run from here on: it is RUNNING, for the first time or again."""

    host: str
    pid: int
    process_started: float
    time_ms: int


@dataclass(frozen=True)
class Params:
    """Parameters with the values they had when the run began."""

    values: dict[str, str]


@dataclass(frozen=True)
class ParamChanged:
    """A parameter that a resumed run changed."""

    key: str
    old: str
    new: str


@dataclass(frozen=True)
class Tags:
    """Tags; a later value replaces an earlier one."""

    values: dict[str, str]


@dataclass(frozen=True)
class Metrics:
    """Metrics of one step."""

    values: dict[str, float]
    step: int
    time_ms: int


@dataclass(frozen=True)
class Artifact:
    """A file of the run folder, by its relative path, and the artifact folder that it goes to."""

    path: str
    folder: str


@dataclass(frozen=True)
class Dataset:
    """Data that the run read: what it is called, a digest of its content, where it came from, what it was for."""

    name: str
    digest: str
    source: str
    context: str


@dataclass(frozen=True)
class Model:
    """A trained model, saved as a folder of the run folder."""

    uid: str
    path: str
    step: int


@dataclass(frozen=True)
class ModelUsed:
    """A model in MLflow that the run judges."""

    model_id: str


@dataclass(frozen=True)
class Ended:
    """How the run ended: FINISHED, FAILED or KILLED."""

    status: str
    reason: str | None
    time_ms: int


Record = RunStarted | Attached | Params | ParamChanged | Tags | Metrics | Artifact | Dataset | Model | ModelUsed | Ended

KINDS: dict[str, type[Record]] = {
    "run": RunStarted,
    "attached": Attached,
    "params": Params,
    "param_changed": ParamChanged,
    "tags": Tags,
    "metrics": Metrics,
    "artifact": Artifact,
    "dataset": Dataset,
    "model": Model,
    "model_used": ModelUsed,
    "ended": Ended,
}
NAMES = {kind: name for name, kind in KINDS.items()}


def scrubbed(record: Record) -> Record:
    """Return the record without secrets; names of metrics are plain and stay as they are, without being looked at."""
    match record:
        case Metrics():
            return record
        case Params(values):
            return Params(scrub_values(values))
        case Tags(values):
            return Tags(scrub_values(values))
        case ParamChanged(key, old, new):
            return ParamChanged(key, scrub_named(key, old), scrub_named(key, new))
    fields = {name: scrub(value) if isinstance(value, str) else value for name, value in asdict(record).items()}
    kind: Any = type(record)
    clean: Record = kind(**fields)
    return clean


def encode(record: Record) -> bytes:
    """Write a record as one line."""
    fields = {"kind": NAMES[type(record)], **asdict(record)}
    return json.dumps(fields, allow_nan=False).encode() + b"\n"


def decode(line: bytes) -> Record:
    """Read a line back.

    Raises
    ------
    ValueError
        If the line is no record, as one that was cut short by a crash isn't.
    """
    fields = json.loads(line)
    try:
        record = KINDS[fields.pop("kind")](**fields)
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"not a journal record: {line[:80]!r}") from error
    if isinstance(record, Metrics) and not all(isinstance(value, float | int) for value in record.values.values()):
        raise ValueError(f"metrics that are no numbers: {line[:80]!r}")
    return record


def read_records(path: Path, *, offset: int = 0) -> Iterator[tuple[Record, int]]:
    """Yield the whole records of a journal from a byte offset on, each with the offset behind it.

    A last line without its newline is still being written, or was cut short, and is left out. A line inside that is
    no record is what remains of a line cut short before the run was resumed; it is skipped.
    """
    with path.open("rb") as file:
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n"):
                return
            offset += len(line)
            try:
                record = decode(line)
            except ValueError:
                log.debug("%s: skipped a damaged line before byte %d", path, offset)
                continue
            yield record, offset


def count_damaged(path: Path) -> int:
    """Return how many whole lines of a journal are no records; one remains of a run that was killed and resumed."""
    return sum(not _is_record(line) for line in path.read_bytes().split(b"\n")[:-1])


def _is_record(line: bytes) -> bool:
    try:
        decode(line)
    except ValueError:
        return False
    return True
