"""Visits of one patch of sky are one unit: intervals and the gate resample patches, not frames."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import numpy as np
import pytest
from drawn_fields import draw_fields

from astrid.baselines.comparison import judge_detector
from astrid.baselines.detectors import DETECTORS
from astrid.data.frames import Field
from astrid.data.store import FieldStore, write_fields
from astrid.metrics.bootstrap import load_fields, resample_fields, save_fields
from astrid.metrics.histogram import PixelHistogram
from astrid.metrics.intervals import field_intervals
from astrid.metrics.objects import ObjectTally, _FieldTally
from astrid.metrics.per_field import FieldCounter, FieldCounts
from astrid.metrics.resampled import field_metrics
from astrid.metrics.revisits import merge_visits
from astrid.tracking.gate import FIELDS_FILE

PATCHES, VISITS = 10, 4


@pytest.fixture(scope="module")
def revisited() -> FieldCounts:
    return draw_fields(np.random.default_rng(4), PATCHES * VISITS, visits=VISITS)


def test_patches_hold_the_pixels_sources_and_sums_of_their_visits(revisited: FieldCounts) -> None:
    merged = merge_visits(revisited)
    assert merged.names == [f"patch {number}" for number in range(PATCHES)]
    assert np.array_equal(merged.positives[2], revisited.positives[8:12].sum(axis=0))
    assert merged.pixels is not None and merged.objects is not None and revisited.objects is not None
    assert np.array_equal(merged.objects.counts[2], revisited.objects.counts[8:12].sum(axis=0))
    assert np.array_equal(merged.objects.field, revisited.objects.field // VISITS)
    assert field_metrics(merged) == pytest.approx(field_metrics(revisited))


def test_visits_of_a_patch_need_not_stand_together() -> None:
    counts = draw_fields(np.random.default_rng(0), 3)
    merged = merge_visits(dataclasses.replace(counts, groups=("a", "b", "a")))
    assert merged.names == ["a", "b"]
    assert np.array_equal(merged.positives, [counts.positives[0] + counts.positives[2], counts.positives[1]])


def test_fields_of_their_own_stay_as_they_are() -> None:
    counts = draw_fields(np.random.default_rng(0), 3)
    assert merge_visits(counts) is counts


def test_intervals_over_revisited_patches_hold_the_truth() -> None:
    rng = np.random.default_rng(1)
    truth = field_metrics(draw_fields(rng, 3000))
    held: dict[str, list[bool]] = {name: [] for name in ("auprc", "auroc", "brier", "mcc", "completeness")}
    for _ in range(80):
        ends = field_intervals(draw_fields(rng, PATCHES * VISITS, visits=VISITS))
        for name, inside in held.items():
            inside.append(ends[f"{name}_low"] <= truth[name] <= ends[f"{name}_high"])
    for name, inside in held.items():
        assert np.mean(inside) >= 0.86, name  # frames as units: 0.50 to 0.75


def test_the_log_says_how_many_fields_are_independent(revisited: FieldCounts, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    field_intervals(revisited)
    assert "the 40 test fields as 10, one for each patch of sky" in caplog.text


def test_many_visits_of_a_single_patch_have_no_interval() -> None:
    counts = draw_fields(np.random.default_rng(0), 4, visits=4)
    assert field_intervals(counts) == {}
    assert resample_fields(counts, resamples=100, seed=0) is None


def test_the_gate_draws_patches(revisited: FieldCounts) -> None:
    by_visits, by_patches = (
        resample_fields(one, resamples=200, seed=3) for one in (revisited, merge_visits(revisited))
    )
    assert by_visits is not None and by_patches is not None
    assert by_visits.levels == by_patches.levels
    np.testing.assert_array_equal(by_visits.values["auprc"], by_patches.values["auprc"])


def test_patches_are_kept_with_the_fields_and_older_files_have_a_patch_a_field(
    revisited: FieldCounts, tmp_path: Path
) -> None:
    save_fields(tmp_path / FIELDS_FILE, revisited, None)
    assert load_fields(tmp_path / FIELDS_FILE).groups == revisited.groups
    old = dataclasses.replace(revisited, groups=())
    save_fields(tmp_path / "old.npz", old, None)
    assert load_fields(tmp_path / "old.npz").independent == PATCHES * VISITS


def test_a_detectors_interval_is_that_of_its_patches() -> None:
    def tally(repeated: int) -> ObjectTally:
        made = ObjectTally([5.0], min_pixels=1)
        for found in (3, 6, 9, 5):
            distance = np.where(np.arange(10) < found, 0.5, np.nan)[None]
            made._fields += [_FieldTally(np.full(10, 8.0), distance, np.array([10 - found]), 10_000)] * repeated
        return made

    once, twice = (
        judge_detector(
            DETECTORS[0], tally(n), threshold=5.0, rates=[], groups=[patch for patch in "abcd" for _ in range(n)]
        )
        for n in (1, 2)
    )
    assert "completeness_low" in once.metrics
    assert twice.metrics == pytest.approx(once.metrics)


def counter_of(groups: list[str | None]) -> FieldCounter:
    import torch

    seen = PixelHistogram(bins=4096, limit=40.0, device="cpu")
    counter = FieldCounter(seen, rules="")
    logits = torch.linspace(-3, 3, 50)
    for number, group in enumerate(groups):
        counter.add(str(number), logits, logits > 1, torch.ones(50, dtype=torch.bool), contents=[], group=group)
    return counter


def test_fields_grouped_otherwise_are_other_test_fields_and_a_group_of_ones_own_is_none() -> None:
    alone, own, shared = (counter_of(groups).counts() for groups in ([None, None], ["0", "1"], ["a", "a"]))
    assert alone.fingerprint == own.fingerprint != shared.fingerprint
    assert (alone.independent, shared.independent) == (2, 1)


def test_a_store_keeps_the_patch_of_each_field(tmp_path: Path) -> None:
    flat = np.zeros((4, 4))
    planes = flat[None].astype(np.float32), flat > 1, flat == 0
    write_fields(tmp_path / "s", [Field("A#2", *planes, group="A"), Field("B", *planes)])
    kept = FieldStore(tmp_path / "s")
    assert [kept.field(number).group for number in range(2)] == [entry.group for entry in kept.entries] == ["A", "B"]
