"""Knobs of experiment tracking."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from .checks import check

DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
SERVERS = ("http", "https")


@dataclass
class TrackingConfig:
    """Where a run is reported, beside its own folder."""

    backend: Literal["mlflow", "off"] = "mlflow"
    """`off` keeps the run in its folder only and never imports mlflow."""
    uri: str = "sqlite:///outputs/mlflow.db"
    """MLflow tracking URI: a database or a server; a relative SQLite path starts at the working directory."""
    artifacts: str | None = None
    """Where a new MLflow experiment keeps its artifacts: a folder (made absolute) or a URI.

    Null is the folder `artifacts` beside a SQLite database, and a server's own storage.
    """
    experiment: str = "astrid"
    """Name of the MLflow experiment."""
    registered_model: str = "astrid-unet"
    """Name under which each finished model becomes a new version."""

    def __post_init__(self) -> None:
        for name in ("uri", "experiment", "registered_model"):
            value = getattr(self, name)
            check(bool(value.strip()), f"tracking.{name}", value, "not empty", "leave it at its default")
        remedy = "try sqlite:///outputs/mlflow.db or http://localhost:9003"
        known = self.scheme in DATABASES + SERVERS and "://" in self.uri
        check(known, "tracking.uri", self.uri, f"a URI of {', '.join(DATABASES + SERVERS)}", remedy)
        if self.scheme in SERVERS:
            check(bool(urlsplit(self.uri).netloc), "tracking.uri", self.uri, "a URI that names a host", remedy)
        if self.scheme == "sqlite":
            named = self.uri.startswith("sqlite:///") and not self.uri.endswith("/")
            check(named, "tracking.uri", self.uri, "sqlite:/// and the path of a file", remedy)
        elif self.scheme in DATABASES:
            rule = f"a folder or URI when tracking.uri is a {self.scheme} database"
            check(self.artifacts is not None, "tracking.artifacts", self.artifacts, rule, "try outputs/artifacts")

    @property
    def scheme(self) -> str:
        """Kind of backend that `uri` names, without its driver: `postgresql` for `postgresql+psycopg2://`."""
        return self.uri.partition(":")[0].partition("+")[0]
