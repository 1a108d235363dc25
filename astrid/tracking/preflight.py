"""What is asked before a run relies on the place of its artifacts: one that refuses ends it while that is cheap."""

from __future__ import annotations

import logging
import threading

from ..config import ConfigError, TrackingConfig
from .places import artifact_root, database_path
from .s3 import check_bucket
from .shipper import prepare_mlflow

log = logging.getLogger(__name__)

LONGEST_SECONDS = 5.0


def check_artifacts(config: TrackingConfig) -> None:
    """Refuse a place for artifacts that can't be used, or that the experiment would pass over.

    Asks nobody where tracking is off or `tracking.artifacts` is null. A tracking server that doesn't answer within 5 s
    is left alone: the run goes on, and its shipper warns.

    Raises
    ------
    ConfigError
        If the bucket can't be written, or the experiment exists and keeps its artifacts elsewhere.
    """
    if config.backend == "off" or config.artifacts is None:
        return
    check_bucket(config)
    location, wanted = location_of_experiment(config), str(artifact_root(config))
    if location is not None and location.rstrip("/") != wanted.rstrip("/"):
        rule = f"{location}, where the experiment {config.experiment!r} has kept its artifacts since it was made"
        remedy = f"choose a new one, as tracking.experiment={config.experiment}-2, or leave tracking.artifacts out"
        raise ConfigError(f"tracking.artifacts must be {rule}, got {wanted}; {remedy}")


def location_of_experiment(config: TrackingConfig) -> str | None:
    """Return where an experiment keeps its artifacts; None if it doesn't exist, or MLflow doesn't answer in time."""
    path = database_path(config.uri)
    if path is not None and not path.exists():
        return None
    prepare_mlflow(config)
    from .mlflow_sink import find_location

    found: list[str | None] = []
    thread = threading.Thread(target=lambda: found.append(find_location(config)), daemon=True)
    thread.start()
    thread.join(LONGEST_SECONDS)
    if not found:
        log.debug("MLflow did not say within %g s where %s keeps its artifacts", LONGEST_SECONDS, config.experiment)
    return found[0] if found else None
