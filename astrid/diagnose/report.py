"""A diagnosis as text, as JSON and as figures in the run's folder."""

from __future__ import annotations

import json
import math
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .examine import Diagnosis
from .finding import Finding

FOLDER, JSON_FILE = "diagnose", "diagnosis.json"


def write_diagnosis(diagnosis: Diagnosis) -> Path:
    """Write JSON and figures into `RUN/diagnose`, in place of those of an earlier look, and return the folder."""
    folder = diagnosis.run_dir / FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for finding, name in zip(diagnosis.findings, figure_names(diagnosis.findings), strict=True):
        finding.figure.savefig(folder / name)
    (folder / JSON_FILE).write_text(json.dumps(as_json(diagnosis), indent=2, allow_nan=False))
    return folder


def figure_names(findings: Sequence[Finding]) -> list[str]:
    """Return the file of each finding's figure: its kind, numbered from the second of a kind on."""
    seen, names = Counter[str](), list[str]()
    for finding in findings:
        seen[finding.kind] += 1
        number = seen[finding.kind]
        names.append(f"{finding.kind}.png" if number == 1 else f"{finding.kind}-{number}.png")
    return names


def as_json(diagnosis: Diagnosis) -> dict[str, Any]:
    """Return plain values; an infinite number is null, since JSON has none."""
    findings = [
        {
            "kind": finding.kind,
            "text": finding.text,
            "evidence": {name: value if math.isfinite(value) else None for name, value in finding.evidence.items()},
            "knob": finding.knob,
            "figure": figure,
        }
        for finding, figure in zip(diagnosis.findings, figure_names(diagnosis.findings), strict=True)
    ]
    return {"status": diagnosis.status, "findings": findings, "not_examined": diagnosis.skipped}


def as_text(diagnosis: Diagnosis, folder: Path) -> str:
    """Return what a person reads: each finding with its knob and figure, then what could not be looked at."""
    lines = []
    for finding, figure in zip(diagnosis.findings, figure_names(diagnosis.findings), strict=True):
        lines += [finding.text, f"  turn: {finding.knob}", f"  see: {folder / figure}"]
    nothing = "nothing found in what was examined" if diagnosis.skipped else "nothing found"
    lines += [] if diagnosis.findings else [nothing]
    return "\n".join([*lines, *(f"not examined: {what}" for what in diagnosis.skipped)])
