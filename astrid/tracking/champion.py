"""The aliases of a registered model: `challenger` is its newest version, `champion` the one that passed the gate.

Everything here may be repeated, as sending a journal may, and runs that finish together take turns.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts, list_artifacts
from mlflow.entities import RunTag

from ..config import DataError
from ..config.gate import GateConfig
from .gate import CHALLENGER, CHAMPION, FACTS_FILE, FIELDS_FILE, Candidate, Decision, decide, read_candidate
from .places import database_path

HISTORY_TAG = "astrid.former_champions"
DECISION_TAG = "gate.decision"
LONGEST_HISTORY = 100
LONGEST_WAIT_SECONDS = 60.0


@dataclass(frozen=True)
class Registered:
    """A registered model: where it is and what it is called.

    Attributes
    ----------
    client : MlflowClient
    uri : str
        The tracking URI of the client.
    name : str
        Name of the registered model.
    """

    client: MlflowClient
    uri: str
    name: str

    def lock(self) -> FileLock:
        """Return a lock that makes processes of this host take turns at the aliases; MLflow itself has none."""
        path = database_path(self.uri)
        digest = hashlib.sha256(f"{self.uri} {self.name}".encode()).hexdigest()[:16]
        place = Path(tempfile.gettempdir()) / f"astrid-{os.getuid()}-{digest}" if path is None else Path(f"{path}.gate")
        return FileLock(f"{place}.lock", timeout=LONGEST_WAIT_SECONDS)

    def holder(self, alias: str) -> str | None:
        """Return the version that has an alias."""
        version = self.client.get_registered_model(self.name).aliases.get(alias)
        return None if version is None else str(version)

    def versions(self) -> list[str]:
        """Return all versions, by rising number."""
        found = self.client.search_model_versions(f"name = '{self.name}'")
        return sorted((str(version.version) for version in found), key=int)

    def former_champions(self) -> list[str]:
        """Return the versions that were champion before, the latest last."""
        told = self.client.get_registered_model(self.name).tags.get(HISTORY_TAG, "[]")
        return [str(version) for version in json.loads(told)]

    def move_champion(self, version: str) -> None:
        """Give the alias to a version, and remember the one that had it for a rollback."""
        current = self.holder(CHAMPION)
        if current == version:
            return
        if current is not None:  # first remembered: a crash in between leaves one entry too many, which rollback skips
            history = [*self.former_champions(), current][-LONGEST_HISTORY:]
            self.client.set_registered_model_tag(self.name, HISTORY_TAG, json.dumps(history))
        self.client.set_registered_model_alias(self.name, CHAMPION, version)

    def take_champion_back(self) -> str:
        """Give the alias to the version that had it before, and return that.

        Raises
        ------
        DataError
            Where there was none before, or it is gone.
        """
        current, existing = self.holder(CHAMPION), self.versions()
        history = [version for version in self.former_champions() if version in existing]  # others were deleted
        while history and history[-1] == current:
            history.pop()
        if not history:
            raise DataError(f"{self.name} had no champion before version {current}; try astrid promote VERSION")
        version = history.pop()
        self.client.set_registered_model_alias(self.name, CHAMPION, version)
        self.client.set_registered_model_tag(self.name, HISTORY_TAG, json.dumps(history))
        return version

    def note(self, version: str, decision: Decision, *, run_id: str) -> None:
        """Write a decision as tags of run and version; the verdict last, as the sign that all is done."""
        tags = decision.tags() | {DECISION_TAG: decision.verdict}
        self.client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])
        for key, value in tags.items():
            self.client.set_model_version_tag(self.name, version, key, value)

    def check_known(self, version: str, *, typed: str = "VERSION") -> None:
        """Refuse a version that doesn't exist, listing those that do; `typed` is what the user named it by."""
        known = self.versions()
        if version not in known:
            rule = f"a version of {self.name}, which are {', '.join(known) or 'none'}"
            raise DataError(f"{typed} must be {rule}, got {version!r}; choose one of them")


def hold_gate(model: Registered, version: str, *, folder: Path, run_id: str, config: GateConfig) -> None:
    """Make a new version the challenger, decide once whether it becomes the champion, and note that in tags.

    Parameters
    ----------
    model : Registered
    version : str
        The new version.
    folder : Path
        Its saved model, here.
    run_id : str
        MLflow run that it comes from.
    config : GateConfig
    """
    with model.lock():
        challenger = model.holder(CHALLENGER)
        if challenger is None or int(challenger) < int(version):  # an old run may be sent again
            model.client.set_registered_model_alias(model.name, CHALLENGER, version)
        if DECISION_TAG in model.client.get_model_version(model.name, version).tags:
            return
        new = read_candidate(folder, version=version, metric=config.metric)
        model.note(version, _settle(model, version, new, config), run_id=run_id)


def _settle(model: Registered, version: str, new: Candidate | None, config: GateConfig) -> Decision:
    """Decide against whoever is champion, and once more if a process on another host changes that meanwhile."""
    while True:
        against = model.holder(CHAMPION)
        if against == version:
            return Decision("promoted", "it is the champion already", {})
        if against is None:
            decision = Decision("promoted", "there was no champion", {})
        else:
            decision = decide(new, _fetch_candidate(model, against, metric=config.metric), config)
        if model.holder(CHAMPION) != against:
            continue
        if decision.verdict == "promoted":
            model.move_champion(version)
        return decision


def _fetch_candidate(model: Registered, version: str, *, metric: str) -> Candidate | None:
    """Read the champion's test results from its own artifacts, which a resumed run doesn't overwrite."""
    source = model.client.get_model_version(model.name, version).source
    with fetch_files(source, {FACTS_FILE, FIELDS_FILE}, uri=model.uri) as folder:
        return read_candidate(folder, version=version, metric=metric)


@contextmanager
def fetch_files(source: str | None, names: set[str], *, uri: str) -> Iterator[Path]:
    """Fetch those of the named files that a saved model holds into a folder that exists within the block only."""
    held = {Path(file.path).name for file in list_artifacts(artifact_uri=source, tracking_uri=uri)}
    with tempfile.TemporaryDirectory() as folder:
        for name in held & names:
            download_artifacts(artifact_uri=f"{source}/{name}", dst_path=folder, tracking_uri=uri)
        yield Path(folder)
