"""Where MLflow and its artifacts are: URIs made absolute, and the command that shows them."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from ..config import TrackingConfig
from ..config.secrets import scrub

SQLITE = "sqlite:///"


def resolve_uri(uri: str) -> str:
    """Make the path of a SQLite URI absolute, as seen from the working directory."""
    path = database_path(uri)
    return uri if path is None else f"{SQLITE}{path}"


def database_path(uri: str) -> Path | None:
    """Return the absolute path of a SQLite database, None for every other URI."""
    return Path(uri.removeprefix(SQLITE)).absolute() if uri.startswith(SQLITE) else None


def artifact_root(config: TrackingConfig) -> str | None:
    """Say where a new experiment keeps its artifacts: an absolute URI, or None for a server's own storage."""
    if config.artifacts is not None:
        return config.artifacts if "://" in config.artifacts else Path(config.artifacts).absolute().as_uri()
    path = database_path(config.uri)
    return None if path is None else path.with_name("artifacts").as_uri()


def without_password(uri: str) -> str:
    """Leave user, password and every other secret out of a URI that is shown or stored."""
    parts = urlsplit(uri)
    host = parts.netloc.rpartition("@")[2]
    return scrub(uri if host == parts.netloc else urlunsplit(parts._replace(netloc=host)))


def ui_command(config: TrackingConfig) -> str | None:
    """Return the command that opens the MLflow UI on this run's backend, None where tracking is off."""
    if config.backend == "off":
        return None
    if config.scheme in ("http", "https"):
        return f"python -m webbrowser {without_password(config.uri)}"
    beside_python = Path(sys.executable).with_name("mlflow")
    program = "mlflow" if shutil.which("mlflow") == str(beside_python) else str(beside_python)
    reads = f"MLFLOW_S3_ENDPOINT_URL={config.s3_endpoint} " if config.s3_endpoint else ""
    return f"{reads}{program} ui --backend-store-uri {without_password(resolve_uri(config.uri))}"
