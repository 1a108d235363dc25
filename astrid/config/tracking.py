"""Knobs of experiment tracking."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

from .alerts import AlertsConfig
from .checks import check
from .gate import GateConfig
from .secrets import has_credentials, scrub

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

    Null is the folder `artifacts` beside a SQLite database, and a server's own storage. `s3://bucket/prefix` is filled
    directly, past any server, with the credentials in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.
    """
    s3_endpoint: str | None = None
    """URL of an S3 server that isn't AWS, as https://ACCOUNT.r2.cloudflarestorage.com for Cloudflare R2.

    Null is what MLFLOW_S3_ENDPOINT_URL names, and AWS where that is unset.
    """
    experiment: str = "astrid"
    """Name of the MLflow experiment."""
    registered_model: str = "astrid-unet"
    """Name under which each finished model becomes a new version."""
    gate: GateConfig = field(default_factory=GateConfig)
    """When a new version becomes the champion."""
    wait_seconds: float = 30.0
    """Longest wait at the end of a run for MLflow to take what is left; 5 s where it doesn't answer.

    `astrid sync` sends the rest; 0 leaves all of it to that.
    """
    system_seconds: float | None = 1.0
    """Interval at which use of CPU, GPU, memory, disk and network is recorded as `system/...`; null records none."""
    alerts: AlertsConfig = field(default_factory=AlertsConfig)
    """Rules that warn in the log, in the run and by a webhook."""

    def __post_init__(self) -> None:
        for name in ("uri", "experiment", "registered_model"):
            value = getattr(self, name)
            check(bool(value.strip()), f"tracking.{name}", value, "not empty", "leave it at its default")
            named = name == "uri" or scrub(value) == value
            check(named, f"tracking.{name}", value, "a name without key, token or password", "choose another")
        check(self.wait_seconds >= 0, "tracking.wait_seconds", self.wait_seconds, "at least 0", "try 30")
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
        rule = "a folder or URI without password, token or signature: MLflow stores it"
        remedy = "give credentials in the environment, as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        check(not has_credentials(self.artifacts or ""), "tracking.artifacts", self.artifacts, rule, remedy)
        seconds = self.system_seconds
        sane = seconds is None or 0.05 <= seconds <= 3600
        check(sane, "tracking.system_seconds", seconds, "null or 0.05 to 3600 s", "try tracking.system_seconds=1")
        self._check_s3()

    def _check_s3(self) -> None:
        if self.artifacts is not None and self.on_s3:
            named = re.fullmatch(r"s3://[A-Za-z0-9._-]{3,63}(/.*)?", self.artifacts) is not None
            rule = "s3:// and the name of a bucket: 3 to 63 letters, digits and . _ -"
            check(named, "tracking.artifacts", self.artifacts, rule, "try s3://astrid/runs")
        if self.s3_endpoint is None:
            return
        remedy = "try http://localhost:9000 or https://ACCOUNT.r2.cloudflarestorage.com"
        plain = re.fullmatch(r"https?://([\w.-]+|\[[0-9A-Fa-f:]+\])(:\d+)?(/[^?#]*)?", self.s3_endpoint) is not None
        shown = self.s3_endpoint.rpartition("@")[2]  # what stands before it may be a password
        check(plain, "tracking.s3_endpoint", shown, "an http or https URL that names a host and no user", remedy)
        rule = "s3://bucket/prefix when tracking.s3_endpoint is set"
        remedy = "try tracking.artifacts=s3://astrid/runs, or leave tracking.s3_endpoint out"
        check(self.on_s3, "tracking.artifacts", self.artifacts, rule, remedy)

    @property
    def on_s3(self) -> bool:
        """Whether artifacts go to a bucket."""
        return self.artifacts is not None and self.artifacts.startswith("s3://")

    @property
    def scheme(self) -> str:
        """Kind of backend that `uri` names, without its driver: `postgresql` for `postgresql+psycopg2://`."""
        return self.uri.partition(":")[0].partition("+")[0]
