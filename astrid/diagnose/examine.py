"""All checks over one run, in the order of what would be mended first."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from astrid.checkpoint import CHECKPOINTS
from astrid.config import ConfigError, DataError
from astrid.layer_norms import NORMS_FILE

from .balance import imbalance
from .curves import loss_not_finite, overfitting, plateau, rate_too_high, rate_too_low, still_falls
from .evidence import Evidence, read_evidence
from .finding import Finding, causes
from .gradients import exploding, frozen, vanishing
from .labels import shifted_labels
from .leaks import leaks
from .loading import starving
from .noise import label_noise
from .probe import Probe, open_probe
from .units import dead_units, not_finite

RECORDED: tuple[Callable[[Evidence], Iterator[Finding]], ...] = (
    *(loss_not_finite, rate_too_high, rate_too_low, frozen, exploding, vanishing, starving, overfitting, plateau),
)
"""Checks of what the run's folder holds."""
PROBED: tuple[Callable[[Probe], Iterator[Finding]], ...] = (
    *(leaks, shifted_labels, not_finite, label_noise, dead_units, imbalance),
)
"""Checks that look at its data, or at its network."""


@dataclass(frozen=True)
class Diagnosis:
    """What was found in a run, and what could not be looked at and why."""

    run_dir: Path
    status: str
    findings: list[Finding]
    skipped: list[str]


def diagnose(run_dir: Path) -> Diagnosis:
    """Look for what went wrong in a run, or is about to.

    Raises
    ------
    ConfigError, DataError
        Where the folder holds no training run.
    """
    evidence = read_evidence(run_dir)
    skipped = list(_unrecorded(evidence))
    try:
        probe = open_probe(evidence.config, run_dir, fingerprint=evidence.fingerprint)
    except (ConfigError, DataError) as error:
        skipped.append(f"data, labels and units: {error}")
        found = _recorded(evidence)
    else:
        known = evidence.prior if evidence.prior is not None else probe.splits.train.prior
        found = _recorded(dataclasses.replace(evidence, prior=known))
        found += [with_patience(finding, evidence) for check in PROBED for finding in check(probe)]
        if probe.predictor is None:
            skipped.append(f"units and label noise: {_without_checkpoint(evidence)}")
    return Diagnosis(run_dir, evidence.status, causes(found), skipped)


def with_patience(finding: Finding, evidence: Evidence) -> Finding:
    """Offer more epochs first to a network that calls all negative but was still learning when its run ended."""
    if finding.kind != "imbalance" or not still_falls(evidence):
        return finding
    longer = f"training.epochs={2 * evidence.config.training.epochs}, for val/loss still fell when the run ended"
    return dataclasses.replace(finding, knob=f"{longer}; or {finding.knob}")


def _recorded(evidence: Evidence) -> list[Finding]:
    return [finding for check in RECORDED for finding in check(evidence)]


def _unrecorded(evidence: Evidence) -> Iterator[str]:
    if not evidence.history:
        yield "curves and loader: no epoch is finished"
    elif not evidence.norms and evidence.config.training.log_gradients == 0:
        yield "gradients: the run kept no norms; training.log_gradients=4 does"
    elif not evidence.norms:
        yield f"gradients: {NORMS_FILE} is gone or empty, though the run kept norms"


def _without_checkpoint(evidence: Evidence) -> str:
    """Say why there is no checkpoint."""
    if evidence.status == "RUNNING":
        return "the run has no checkpoint yet"
    return f"{evidence.run_dir / CHECKPOINTS} holds no checkpoint: the run ended before its first, or they were removed"
