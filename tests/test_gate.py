"""A version becomes champion only if it is better beyond doubt, on the same test fields, and not worse otherwise."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from astrid.config import ConfigError
from astrid.config.gate import GateConfig
from astrid.metrics.bootstrap import Resampled, resample_fields, save_fields
from astrid.metrics.histogram import PixelHistogram
from astrid.metrics.per_field import FieldCounter, FieldCounts
from astrid.metrics.ranking import auprc
from astrid.tracking.gate import FACTS_FILE, FIELDS_FILE, Candidate, decide, read_candidate

MACHINE = {"host": "here", "device": "cpu", "threads": "2"}
NOISE = np.random.default_rng(0).normal(0, 0.02, 1000)
CONFIG = GateConfig()


def candidate(
    value: float = 0.8, *, ece: float = 0.001, latency: float = 5.0, spread: float = 0.0, **more: Any
) -> Candidate:
    """A version whose resamples move with those of all others, and by `spread` of their own."""
    own = np.random.default_rng(1).normal(0, 1, 1000) * spread
    made = Candidate(
        version="1",
        metrics={"test/auprc": value, "test/ece": ece, "latency/p50_ms": latency},
        machine=MACHINE,
        test_fingerprint="abc",
        fields=64,
        resampled=value + NOISE + own,
        levels=(2.5, 97.5),
        seed=0,
    )
    return dataclasses.replace(made, **more)


def test_a_better_version_is_promoted_with_its_numbers() -> None:
    decision = decide(candidate(0.83, spread=0.01), candidate(0.80), CONFIG)
    assert decision.verdict == "promoted"
    tags = decision.tags()
    assert float(tags["gate.difference"]) == pytest.approx(0.03)
    assert 0 < float(tags["gate.low"]) < 0.03 < float(tags["gate.high"])
    assert tags["gate.reason"].startswith("against version 1: test/auprc +0.03 [+0.0")


def test_pairing_sees_what_two_overlapping_intervals_hide() -> None:
    better, champion = candidate(0.81, spread=0.002), candidate(0.80)
    assert better.resampled is not None and champion.resampled is not None
    assert np.percentile(better.resampled, 2.5) < np.percentile(champion.resampled, 97.5)
    assert decide(better, champion, CONFIG).verdict == "promoted"


@pytest.mark.parametrize(("value", "spread"), [(0.77, 0.01), (0.805, 0.01), (0.80, 0.0)])
def test_a_worse_or_an_equal_version_is_refused(value: float, spread: float) -> None:
    decision = decide(candidate(value, spread=spread), candidate(0.80), CONFIG)
    assert decision.verdict == "refused"
    assert "not above 0 beyond its 95 % interval" in decision.reason


def judged(folder: Path, logits: list[np.ndarray], targets: list[np.ndarray]) -> Candidate:
    """A version as a run leaves it: its fields counted, resampled and saved."""
    planes = [
        (torch.from_numpy(z), torch.from_numpy(y), torch.ones(len(z), dtype=torch.bool))
        for z, y in zip(logits, targets, strict=True)
    ]
    seen = PixelHistogram(bins=2**21, limit=40.0, device="cpu")
    for plane in planes:
        seen.update(*plane)
    counter = FieldCounter(seen, rules="")
    for number, plane in enumerate(planes):
        counter.add(f"f{number}", *plane, contents=[targets[number]])
    counts = counter.counts()
    folder.mkdir()
    save_fields(folder / FIELDS_FILE, counts, resample_fields(counts, resamples=400, seed=0))
    metrics = {"test/auprc": auprc(seen), "test/ece": 0.001, "latency/p50_ms": 5.0}
    (folder / FACTS_FILE).write_text(json.dumps({"metrics": metrics, "machine": MACHINE}))
    found = read_candidate(folder, version=folder.name, metric="test/auprc")
    assert found is not None
    return found


@pytest.mark.parametrize("scale", [0.02, 0.5, 3.0])
def test_logits_that_rank_alike_are_no_better_however_wide_they_are(tmp_path: Path, scale: float) -> None:
    rng = np.random.default_rng(5)
    targets = [rng.random(20_000) < 0.01 for _ in range(12)]
    logits = [(rng.normal(-4, 1.5, 20_000) + 4 * y).astype(np.float32) for y in targets]
    plain = judged(tmp_path / "plain", logits, targets)
    scaled = judged(tmp_path / "scaled", [z * np.float32(scale) for z in logits], targets)
    noisy = judged(tmp_path / "noisy", [z + rng.normal(0, 1, len(z)).astype(np.float32) for z in logits], targets)
    assert decide(plain, scaled, CONFIG).verdict != "promoted"
    assert decide(scaled, plain, CONFIG).verdict != "promoted"
    assert decide(noisy, scaled, CONFIG).verdict == "refused"
    assert decide(scaled, noisy, CONFIG).verdict == "promoted"


def test_what_is_undefined_is_said_and_not_compared() -> None:
    bare = candidate(0.9)
    bare = dataclasses.replace(bare, metrics={"test/auprc": 0.9})
    decision = decide(bare, candidate(0.8), CONFIG)
    assert decision.verdict == "promoted"
    assert "test/ece not compared" in decision.reason and "latency not compared" in decision.reason


def test_an_interval_that_misses_the_difference_decides_nothing() -> None:
    shifted = candidate(0.81)
    assert shifted.resampled is not None
    odd = dataclasses.replace(shifted, resampled=shifted.resampled + 0.05)
    assert decide(odd, candidate(0.80), CONFIG).verdict == "undecided"


@pytest.mark.parametrize(
    ("worse", "reason"),
    [({"ece": 0.0016}, "test/ece rose by 0.0006"), ({"latency": 7.6}, "1.52 times the champion's")],
)
def test_a_better_version_that_is_worse_otherwise_is_refused(worse: Mapping[str, float], reason: str) -> None:
    decision = decide(candidate(0.9, **worse), candidate(0.8), CONFIG)
    assert decision.verdict == "refused"
    assert reason in decision.reason


@pytest.mark.parametrize("bearable", [{"ece": 0.0014}, {"latency": 7.4}, {"ece": 0.0, "latency": 1.0}])
def test_what_is_allowed_doesnt_refuse(bearable: Mapping[str, float]) -> None:
    assert decide(candidate(0.9, **bearable), candidate(0.8), CONFIG).verdict == "promoted"


def test_latency_of_another_machine_is_not_compared_and_that_is_said() -> None:
    elsewhere = candidate(0.9, latency=500.0, machine=MACHINE | {"threads": "1"})
    decision = decide(elsewhere, candidate(0.8), CONFIG)
    assert decision.verdict == "promoted"
    assert "latency not compared" in decision.reason
    assert "gate.latency_ratio" not in decision.tags()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"test_fingerprint": "abd"}, "other test fields"),
        ({"fields": 7}, "7 test fields are too few"),
        ({"resampled": None, "seed": None}, "was not resampled"),
        ({"seed": 1}, "with seed 0, this one with 1"),
        ({"resampled": np.full(1000, np.nan)}, "undefined in some resamples"),
    ],
)
def test_what_cannot_be_compared_is_left_undecided(change: Mapping[str, Any], reason: str) -> None:
    decision = decide(candidate(0.99, **change), candidate(0.1), CONFIG)
    assert decision.verdict == "undecided"
    assert reason in decision.reason
    assert set(decision.tags()) == {"gate.reason"}


def test_a_version_without_test_results_is_left_undecided() -> None:
    assert decide(None, candidate(), CONFIG).verdict == "undecided"
    assert "the champion carries no" in decide(candidate(), None, CONFIG).reason


def test_versions_with_other_numbers_of_resamples_share_the_first() -> None:
    fewer = candidate(0.9)
    assert fewer.resampled is not None
    decision = decide(dataclasses.replace(fewer, resampled=fewer.resampled[:200]), candidate(0.8), CONFIG)
    assert decision.verdict == "promoted"
    assert decision.numbers["resamples"] == 200


def test_the_headline_metric_is_a_choice() -> None:
    config = GateConfig(metric="test/purity")
    assert "test/purity was not resampled" in decide(candidate(0.9), candidate(0.8), config).reason


def test_a_candidate_is_read_from_the_folder_of_a_model(tmp_path: Path) -> None:
    assert read_candidate(tmp_path, version="3", metric="test/auprc") is None
    counts = FieldCounts(["a", "b"], *(np.ones((2, 4), np.int64),) * 2, None, "abc")
    (tmp_path / FACTS_FILE).write_text('{"metrics": {"test/auprc": 0.5}, "machine": {"host": "h"}}')
    save_fields(tmp_path / FIELDS_FILE, counts, Resampled({"auprc": NOISE}, (1.0, 99.0), 7))
    read = read_candidate(tmp_path, version="3", metric="test/auprc")
    assert read is not None
    assert np.array_equal(read.resampled, NOISE)
    assert (read.version, read.fields, read.levels, read.seed, read.test_fingerprint) == ("3", 2, (1.0, 99.0), 7, "abc")
    other = read_candidate(tmp_path, version="3", metric="test/completeness")
    assert other is not None
    assert (other.resampled, other.seed) == (None, None)


@pytest.mark.parametrize(
    "knob", [{"ece_margin": -0.1}, {"latency_ratio": 0.9}, {"fewest_fields": 1}, {"resamples": 50}, {"seed": -1}]
)
def test_impossible_knobs_are_refused_by_name(knob: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=rf"tracking\.gate\.{next(iter(knob))} must be at least"):
        GateConfig(**knob)
