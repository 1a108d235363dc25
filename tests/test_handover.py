"""The tables of a run tell what each test field showed."""

from __future__ import annotations

import numpy as np

from astrid.handover import run_tables
from astrid.metrics.object_counts import ObjectCounts
from astrid.metrics.per_field import FieldCounts


def fields(**scores: list[float | None]) -> FieldCounts:
    counts = np.array([[0, 2], [0, 0]]), np.array([[5, 1], [7, 0]])
    detected = np.array([[1, 0, 2], [0, 0, 1]])
    objects = ObjectCounts(detected, np.array([8, 7]), np.array([0]), np.array([9.0]), np.array([0.2]))
    return FieldCounts(["a", "b"], *counts, objects, "ab", scores=scores)


def test_a_field_has_its_pixels_its_detections_and_its_own_scores() -> None:
    table = run_tables([], {}, fields(auprc=[0.75, None], ece=[0.1, 0.2]))["test_fields"]
    assert table.columns == [
        *("field", "patch_of_sky", "positive_pixels", "negative_pixels", "hits", "misses", "false_alarms"),
        *("auprc", "ece"),
    ]
    assert table.rows == [["a", "a", 2, 6, 1, 0, 2, 0.75, 0.1], ["b", "b", 0, 7, 0, 0, 1, None, 0.2]]


def test_where_fields_are_not_scored_the_table_has_counts_only() -> None:
    assert run_tables([], {}, fields())["test_fields"].columns[-1] == "false_alarms"
