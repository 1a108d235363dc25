"""Whether a new version is better than the champion, and beyond doubt: the decision and its numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..config.gate import GateConfig

CHAMPION, CHALLENGER = "champion", "challenger"
FACTS_FILE, FIELDS_FILE = "model.json", "test_fields.npz"
"""The files of a model's folder that the gate reads."""


@dataclass(frozen=True)
class Candidate:
    """What the gate knows of a version.

    Attributes
    ----------
    version : str
    metrics : mapping
        Final metrics of the run.
    machine : mapping
        What latency was measured on.
    test_fingerprint : str
        Digest of the test fields and of how they are judged.
    fields : int
        Number of test fields; visits of one patch of sky are one.
    resampled : (R,) float64 or None
        The headline metric on resampled fields; None where there is no such thing.
    levels : (float, float)
        Percentiles that bound a 95 % interval.
    seed : int or None
        Seed of the resamples.
    """

    version: str
    metrics: Mapping[str, float]
    machine: Mapping[str, str]
    test_fingerprint: str
    fields: int
    resampled: NDArray[np.float64] | None
    levels: tuple[float, float]
    seed: int | None


@dataclass(frozen=True)
class Decision:
    """What the gate decided.

    Attributes
    ----------
    verdict : 'promoted', 'refused' or 'undecided'
        It becomes the champion; the champion stays; they can't be compared, and the champion stays.
    reason : str
        Why, for a person.
    numbers : dict
        difference, low, high of the headline metric, and whatever else was compared.
    """

    verdict: Literal["promoted", "refused", "undecided"]
    reason: str
    numbers: Mapping[str, float]

    def tags(self) -> dict[str, str]:
        """Return everything but the verdict by the names of its tags."""
        return {"gate.reason": self.reason} | {f"gate.{name}": f"{value:.6g}" for name, value in self.numbers.items()}


def read_candidate(folder: Path, *, version: str, metric: str) -> Candidate | None:
    """Read what the gate needs from the folder of a saved model; None where the model carries no test results."""
    if not all((folder / name).is_file() for name in (FACTS_FILE, FIELDS_FILE)):
        return None
    facts = json.loads((folder / FACTS_FILE).read_text())
    name = f"resampled_{metric.removeprefix('test/')}"
    with np.load(folder / FIELDS_FILE, allow_pickle=False) as arrays:
        known = name in arrays
        low, high = arrays["levels"] if known else (0.0, 100.0)
        return Candidate(
            version=version,
            metrics=facts["metrics"],
            machine=facts["machine"],
            test_fingerprint=str(arrays["fingerprint"]),
            fields=len(np.unique(arrays["groups" if "groups" in arrays else "names"])),
            resampled=arrays[name] if known else None,
            levels=(float(low), float(high)),
            seed=int(arrays["seed"]) if known else None,
        )


def decide(new: Candidate | None, champion: Candidate | None, config: GateConfig) -> Decision:
    """Compare a new version with the champion.

    It is promoted if the headline metric is better beyond the 95 % interval of the difference over the same test
    fields, and neither calibration nor latency is worse than allowed.
    """
    if new is None or champion is None:
        which = "this version" if new is None else "the champion"
        return Decision("undecided", f"{which} carries no test results to compare", {})
    obstacle = _obstacle(new, champion, config)
    if obstacle is not None:
        return Decision("undecided", obstacle, {})
    numbers = _difference(new, champion, config.metric)
    interval = f"{numbers['difference']:+.4g} [{numbers['low']:+.4g}, {numbers['high']:+.4g}]"
    against = f"against version {champion.version}: {config.metric} {interval}"
    if not numbers["low"] > 0 or not numbers["difference"] > 0:
        return Decision("refused", f"{against} is not above 0 beyond its 95 % interval", numbers)
    if not numbers["low"] <= numbers["difference"] <= numbers["high"]:
        return Decision("undecided", f"{against}: the resamples don't enclose the difference", numbers)
    worsened, said, more = _side_effects(new, champion, config)
    verdict: Literal["promoted", "refused"] = "refused" if worsened else "promoted"
    return Decision(verdict, "; ".join([against, *worsened, *said]), numbers | more)


def _obstacle(new: Candidate, champion: Candidate, config: GateConfig) -> str | None:
    """Say why the two can't be compared, if they can't."""
    rivals = f"version {champion.version}"
    if new.test_fingerprint != champion.test_fingerprint:
        return f"{rivals} was judged on other test fields, or judged otherwise"
    if new.fields < config.fewest_fields:
        rule = f"tracking.gate.fewest_fields is {config.fewest_fields}"
        return f"{new.fields} test fields are too few for an interval; {rule}"
    known = config.metric in new.metrics and config.metric in champion.metrics
    if new.resampled is None or champion.resampled is None or not known:
        return f"{config.metric} was not resampled in both versions"
    if new.seed != champion.seed:
        return f"{rivals} was resampled with seed {champion.seed}, this one with {new.seed}; see tracking.gate.seed"
    shared = min(len(new.resampled), len(champion.resampled))
    if not np.isfinite(new.resampled[:shared] + champion.resampled[:shared]).all():
        return f"{config.metric} is undefined in some resamples"
    return None


def _difference(new: Candidate, champion: Candidate, metric: str) -> dict[str, float]:
    """Return the difference and its interval: the resamples are of the same fields, and the first ones are shared."""
    assert new.resampled is not None and champion.resampled is not None
    shared = min(len(new.resampled), len(champion.resampled))
    low, high = np.percentile(new.resampled[:shared] - champion.resampled[:shared], new.levels)
    return {
        "difference": new.metrics[metric] - champion.metrics[metric],
        "low": float(low),
        "high": float(high),
        "resamples": float(shared),
    }


def _side_effects(
    new: Candidate, champion: Candidate, config: GateConfig
) -> tuple[list[str], list[str], dict[str, float]]:
    """Return what got worse than allowed, what could not be compared, and the numbers."""
    worsened: list[str] = []
    said: list[str] = []
    numbers: dict[str, float] = {}
    if not all("test/ece" in side.metrics for side in (new, champion)):
        said.append("test/ece not compared: it is undefined in one of them")
    else:
        rise = new.metrics["test/ece"] - champion.metrics["test/ece"]
        numbers["ece_difference"] = rise
        if rise > config.ece_margin:
            worsened.append(f"test/ece rose by {rise:.2g}, more than tracking.gate.ece_margin={config.ece_margin:g}")
    if not all("latency/p50_ms" in side.metrics for side in (new, champion)):
        said.append("latency not compared: it was not measured in one of them")
    elif dict(new.machine) != dict(champion.machine):
        said.append("latency not compared: it was measured on another machine")
    else:
        ratio = new.metrics["latency/p50_ms"] / champion.metrics["latency/p50_ms"]
        numbers["latency_ratio"] = ratio
        if ratio > config.latency_ratio:
            rule = f"more than tracking.gate.latency_ratio={config.latency_ratio:g}"
            worsened.append(f"latency/p50_ms is {ratio:.2f} times the champion's, {rule}")
    return worsened, said, numbers
