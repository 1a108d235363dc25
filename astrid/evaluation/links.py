"""Tell the model of its evaluation, so that who looks at the one finds the other."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from astrid.config import ConfigError, DataError, RunError, TrackingConfig
from astrid.config.resume import load_config, reachable
from astrid.deployed import Source
from astrid.tracking import Journal, known_run_id, sync
from astrid.tracking.versions import tag_version
from astrid.units import counted

from .subject import Subject

log = logging.getLogger(__name__)

HEADLINE = "test/auprc"


def link_model(subject: Subject, metrics: Mapping[str, float], *, run_dir: Path, config: TrackingConfig) -> None:
    """Tag the model's run, and its version where it is a registered one, with what was found and where.

    Each evaluation has a tag of its own. What can't be tagged is said and keeps nobody: the evaluation itself is done,
    and names the model. Nothing is tagged where tracking is off.
    """
    if config.backend == "off":
        return
    run = known_run_id(run_dir) or Journal.open(run_dir).started.uid
    result = f"{HEADLINE} {metrics[HEADLINE]:.4g}" if HEADLINE in metrics else f"without {HEADLINE}"
    told = f"{result} on {counted(len(subject.fields.store), 'field')} of {subject.fields.description}; run {run}"
    tags = {f"evaluated.{run_dir.resolve().name}": told}
    try:
        _tag(subject.model.source, tags, uri=config.uri)
    except (ConfigError, DataError, RunError) as error:
        log.warning("%s was not told of this evaluation: %s", subject.model.source.address, error)


def _tag(source: Source, tags: Mapping[str, str], *, uri: str) -> None:
    if source.version is not None:
        tag_version(source.version, tags, uri=uri)
        return
    folder = Path(source.address)
    own = load_config(folder).tracking
    if own.backend == "off":
        Journal.open(folder).write_tags(tags)
    else:
        sync(folder, reachable(own, folder), tags=tags)
