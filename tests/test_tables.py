"""A run's tables come back from Parquet as they were, with units, and from JSON as MLflow reads them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from astrid.config import TrackingConfig
from astrid.handover import run_tables
from astrid.metrics.per_field import FieldCounts
from astrid.tracking import Table
from astrid.tracking.tables import write_table
from astrid.tracking.tracker import open_tracker
from astrid.units import unit_of

FIELDS = FieldCounts(["a", "b"], np.array([[1, 2], [0, 4]]), np.array([[5, 0], [7, 1]]), None, "abc")


def written(table: Table, folder: Path) -> Path:
    _, as_parquet = write_table(table, folder / "table", about={"run": "unet"})
    return as_parquet


@settings(max_examples=50)
@given(
    st.lists(
        st.tuples(
            st.one_of(st.none(), st.text()), st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False))
        ),
        max_size=5,
    )
)
def test_parquet_and_json_hold_the_same_rows(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str | None, float | None]]
) -> None:
    folder = tmp_path_factory.mktemp("tables")
    table = Table(["name", "value"], [list(row) for row in rows])
    as_json, as_parquet = write_table(table, folder / "table", about={})
    assert pq.read_table(as_parquet).to_pylist() == [dict(zip(table.columns, row, strict=True)) for row in rows]
    assert json.loads(as_json.read_text()) == {"columns": table.columns, "data": [list(row) for row in rows]}


def test_pandas_reads_numbers_as_numbers_and_nothing_as_missing(tmp_path: Path) -> None:
    frame = pd.read_parquet(
        written(Table(["field", "auprc", "snr50"], [["a", 0.5, None], ["b", None, None]]), tmp_path)
    )
    assert frame["auprc"].dtype == np.float64
    assert frame["snr50"].dtype == np.float64
    assert list(frame["auprc"].isna()) == [False, True]
    assert list(frame["field"]) == ["a", "b"]


def test_a_column_carries_its_unit_and_the_file_its_run(tmp_path: Path) -> None:
    schema = pq.read_schema(written(Table(["p50", "auprc"], [[1.0, 0.5]], {"p50": "ms"}), tmp_path))
    assert schema.field("p50").metadata == {b"unit": b"ms"}
    assert schema.field("auprc").metadata is None
    assert schema.metadata[b"astrid.run"] == b"unet"


def test_a_run_writes_each_table_in_both_forms_and_reports_both(tmp_path: Path) -> None:
    metrics = {"test/auprc": 0.8, "test/auprc_low": 0.7, "test/auprc_high": 0.9, "latency/p50_ms": 3.0}
    history = [{"epoch": 1.0, "train/seconds": 2.0}, {"epoch": 2.0, "train/seconds": 2.5, "val/auprc": float("nan")}]
    with open_tracker(TrackingConfig(backend="off"), tmp_path, name="unet", params={}, tags={}) as tracker:
        tracker.tables(run_tables(history, metrics, FIELDS))
    journal = (tmp_path / "journal.jsonl").read_text()
    for name in ("epochs", "metrics", "test_fields"):
        assert f'"tables/{name}.parquet"' in journal
        assert f'"tables/{name}.json"' in journal
    found = pd.read_parquet(tmp_path / "tables/metrics.parquet").set_index("metric")
    assert list(found.loc["test/auprc", ["value", "low", "high"]]) == [0.8, 0.7, 0.9]
    assert found.loc["latency/p50_ms", "unit"] == "ms"
    epochs = pq.read_table(tmp_path / "tables/epochs.parquet")
    assert epochs.schema.field("train/seconds").metadata == {b"unit": b"s"}
    assert epochs["val/auprc"].to_pylist() == [None, None]
    assert pd.read_parquet(tmp_path / "tables/test_fields.parquet")["positive_pixels"].tolist() == [3, 4]


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("latency/p99_ms", "ms"),
        ("latency/p50_ms_per_mpix", "ms/Mpix"),
        ("throughput/mpix_per_s", "Mpix/s"),
        ("energy/total_kwh", "kWh"),
        ("energy/train_joules_per_mpix", "J/Mpix"),
        ("energy/seconds", "s"),
        ("test/false_per_mpix", "1/Mpix"),
        ("carbon/g_co2e", "g CO2e"),
        ("test/auprc", None),
        ("test/programs", None),
    ],
)
def test_a_unit_follows_from_the_end_of_a_name(name: str, unit: str | None) -> None:
    assert unit_of(name) == unit
