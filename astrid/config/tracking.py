"""Knobs of experiment tracking."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

from .alerts import AlertsConfig
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
    system_seconds: float | None = 10.0
    """Interval at which use of CPU, GPU, memory, disk and network is recorded as `system/...`; null records none."""
    alerts: AlertsConfig = field(default_factory=AlertsConfig)
    """Rules that warn in the log, in the run and by a webhook."""

    def __post_init__(self) -> None:
        seconds = self.system_seconds
        sane = seconds is None or 0.05 <= seconds <= 3600
        check(sane, "tracking.system_seconds", seconds, "null or 0.05 to 3600 s", "try tracking.system_seconds=10")
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
