"""Runs beside each other: ranks and how sure they are, text, page, and the command."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from mirrored_runs import MLFLOW_WARNINGS, patient_mlflow
from toy_runs import fill_store, made

from astrid.cli import main
from astrid.compare import compare
from astrid.compare.numbers import significant, with_interval
from astrid.compare.ranking import lower_is_better
from astrid.compare.tables import FORMATS, render
from astrid.config import ConfigError
from astrid.tracking import Journal
from astrid.tracking.progress import Progress
from astrid.tracking.stored_runs import StoredRun, read_folder

pytestmark = MLFLOW_WARNINGS


def ranks(runs: list[StoredRun], metric: str = "test/auprc") -> list[tuple[int, str]]:
    return [(row.rank, row.run.name) for _, row in compare(runs, metric).rows]


@pytest.mark.parametrize(
    "metric", ["val/loss", "test/ece", "test/brier_uncalibrated", "latency/p50_ms", "energy/total_kwh"]
)
def test_costs_and_errors_rank_the_lowest_first(metric: str) -> None:
    runs = [made("high", metrics={metric: 2.0}), made("low", metrics={metric: 1.0})]
    assert ranks(runs, metric) == [(1, "low"), (2, "high")]
    assert lower_is_better("carbon/g_co2e") and lower_is_better("test/snr50") and lower_is_better("test/false_per_mpix")
    assert lower_is_better("test/murphy_reliability") and lower_is_better("test/false_positive_rate")


@pytest.mark.parametrize(
    "metric",
    ["test/auprc", "test/precision_macro", "test/tpr_at_fpr_1e-3", "test/murphy_resolution", "throughput/mpix_per_s"],
)
def test_scores_rank_the_highest_first(metric: str) -> None:
    runs = [made("low", metrics={metric: 1.0}), made("high", metrics={metric: 2.0})]
    assert ranks(runs, metric) == [(1, "high"), (2, "low")]


@pytest.mark.parametrize("metric", ["test/threshold", "test/operating_achieved", "test/murphy_uncertainty"])
def test_a_metric_without_a_better_direction_is_refused(metric: str) -> None:
    with pytest.raises(ConfigError, match=metric):
        compare([made("a", metrics={metric: 0.5})], metric)


def test_the_objective_improves_as_its_monitor_does() -> None:
    runs = [made(name, metrics={"objective": value}) for name, value in (("a", 0.2), ("b", 0.1))]
    by_loss = [made(run.name, metrics=run.metrics, params={"training.monitor": "val/loss"}) for run in runs]
    by_auprc = [made(run.name, metrics=run.metrics, params={"training.monitor": "val/auprc"}) for run in runs]
    assert ranks(by_loss, "objective")[0] == (1, "b")
    assert ranks(by_auprc, "objective")[0] == (1, "a")
    with pytest.raises(ConfigError, match="val/auprc, val/loss"):
        compare([by_loss[0], by_auprc[0]], "objective")


def test_equal_values_share_a_rank() -> None:
    assert ranks([made("a", 0.8), made("b", 0.9), made("c", 0.9)]) == [(1, "b"), (1, "c"), (3, "a")]


def test_an_epoch_metric_counts_at_the_best_epoch() -> None:
    curve = [(1, 0.5), (2, 0.9), (3, 0.4)]
    peaked = made("peaked", metrics={"val/auprc": 0.4}, histories={"val/auprc": curve}, tags={"best_epoch": "2"})
    steady = made("steady", metrics={"val/auprc": 0.6}, histories={"val/auprc": [(1, 0.6)]}, tags={"best_epoch": "1"})
    assert ranks([steady, peaked], "val/auprc") == [(1, "peaked"), (2, "steady")]


def test_runs_of_different_data_are_ranked_apart_and_it_says_so() -> None:
    runs = [made("a", 0.8), made("b", 0.9), made("alien", 0.99, tags={"data.fingerprint": "e" * 64})]
    assert ranks(runs) == [(1, "b"), (2, "a"), (1, "alien")]
    assert "NOT COMPARABLE" in render(compare(runs, "test/auprc"), "table")
    assert "NOT COMPARABLE" not in render(compare(runs[:2], "test/auprc"), "table")


def test_failed_and_unfinished_runs_are_listed_and_not_ranked() -> None:
    runs = [made("a"), made("bad", 0.99, status="FAILED"), made("going", status="RUNNING"), made("mute", None)]
    comparison = compare(runs, "test/auprc")
    assert [row.run.name for _, row in comparison.rows] == ["a"]
    reasons = {run.name: reason for run, reason in comparison.left_out}
    assert reasons == {"bad": "failed", "going": "running", "mute": "finished without test/auprc"}


def test_overlapping_intervals_are_said_to_be_no_difference() -> None:
    close = [made("a", 0.80, half_width=0.02), made("b", 0.79, half_width=0.02), made("c", 0.5, half_width=0.02)]
    verdict = compare(close, "test/auprc").groups[0].verdict
    assert "a (test/auprc 0.800 [0.780, 0.820]) and b (0.790 [0.770, 0.810]) can't be told apart" in verdict
    apart = compare([close[0], close[2]], "test/auprc").groups[0].verdict
    assert "don't overlap" in apart
    assert "can't be said" in compare([close[0], made("bare", 0.7)], "test/auprc").groups[0].verdict


def test_a_metric_that_nobody_logged_names_those_that_are_close() -> None:
    with pytest.raises(ConfigError, match=r"test/auprx; try test/auprc"):
        compare([made("a")], "test/auprx")


def test_what_differs_is_found_absence_included() -> None:
    runs = [made("a", params={"optimizer.lr": "0.1"}), made("b", params={"model.depth": "3"})]
    differences = compare(runs, "test/auprc").differences
    assert differences == {
        "model.depth": {"a": "2", "b": "3"},
        "optimizer.lr": {"a": "0.1", "b": "(absent)"},
    }


def test_the_clock_of_a_resumed_run_is_not_taken_for_its_work() -> None:
    plain, resumed = made("a"), made("b", tags={"resumed.host": "here"})
    metered = made("c", tags={"resumed.host": "here"}, metrics={"energy/seconds": 42.0})
    seconds = {row.run.name: row.seconds for _, row in compare([plain, resumed, metered], "test/auprc").rows}
    assert seconds == {"a": 100.0, "b": None, "c": 42.0}


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.99731, "0.997"), (0.9997, "1.00"), (197.2, "197"), (4288.0, "4290"), (6.0594e-4, "6.06e-04"), (0.0, "0")],
)
def test_a_bare_number_has_three_significant_digits(value: float, text: str) -> None:
    assert significant(value) == text


@pytest.mark.parametrize(
    ("bounds", "text"),
    [
        ((0.872213, 0.861342, 0.883125), "0.872 [0.861, 0.883]"),
        ((0.872213, 0.7911, 0.9304), "0.87 [0.79, 0.93]"),
        ((0.872213, 0.872101, 0.872299), "0.87221 [0.87210, 0.87230]"),
        ((6.06e-9, 6.01e-9, 6.11e-9), "6.06e-09 [6.01e-09, 6.11e-09]"),
        ((320.0, 280.0, 390.0), "320 [280, 390]"),
        ((0.5, 0.5, 0.5), "0.500 [0.500, 0.500]"),
    ],
)
def test_an_interval_decides_how_many_digits_are_shown(bounds: tuple[float, float, float], text: str) -> None:
    assert with_interval(*bounds) == text


@pytest.mark.parametrize("form", ["table", "markdown"])
def test_unmeasured_energy_is_unavailable_and_never_zero(form: str) -> None:
    runs = [made("a"), made("b", metrics={"energy/total_kwh": 0.0123})]
    text = render(compare(runs, "test/auprc"), form)
    [without] = [line for line in text.splitlines() if re.match(r"[| ]*1[| ]+a\b", line)]
    assert "unavailable" in without
    assert "0.012" in text
    [first, second] = json.loads(render(compare(runs, "test/auprc"), "json"))["runs"]
    assert (first["energy_kwh"], second["energy_kwh"]) == (None, 0.0123)


def test_csv_and_json_hold_the_same_with_full_digits() -> None:
    runs = [made("a, with comma", 0.123456789, half_width=0.01), made("b", status="FAILED", params={"x": "1"})]
    comparison = compare(runs, "test/auprc")
    rows = list(csv.DictReader(io.StringIO(render(comparison, "csv"))))
    records = json.loads(render(comparison, "json"))["runs"]
    assert [row["run"] for row in rows] == [record["run"] for record in records] == ["a, with comma", "b"]
    assert float(rows[0]["value"]) == records[0]["value"] == 0.123456789
    assert (rows[0]["x"], rows[1]["x"], rows[1]["rank"], rows[1]["status"]) == ("(absent)", "1", "", "failed")


def test_a_limit_keeps_the_best_and_says_what_it_hides() -> None:
    runs = [made(f"run-{number}", number / 10) for number in range(5)]
    text = render(compare(runs, "test/auprc"), "table", limit=2)
    assert "run-4" in text and "run-3" in text and "run-2" not in text
    assert "the best 2 of 5 runs" in text


def test_a_markdown_table_keeps_its_columns_whatever_a_name_holds() -> None:
    text = render(compare([made("a|b"), made("c")], "test/auprc"), "markdown")
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    counted = {len(re.split(r"(?<!\\)\|", row)) for row in rows if "wall s" in row or "unavailable" in row}
    assert counted == {11}


@pytest.fixture(scope="module")
def toy_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    uri = f"sqlite:///{tmp_path_factory.mktemp('toy')}/mlflow.db"
    with patient_mlflow():
        fill_store(uri, count=10)
        yield uri


@pytest.mark.parametrize("form", FORMATS)
def test_the_command_ranks_a_sweep_in_every_format(
    form: str, toy_uri: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    assert main(["compare", "--sweep", "toy_sweep", "--uri", toy_uri, "--format", form, "--output", str(output)]) == 0
    assert capsys.readouterr().out == ""
    text = output.read_text()
    assert all(f"toy-00{number}" in text for number in range(10))
    assert "optimizer.lr" in text


def test_the_command_writes_a_page_with_curves(toy_uri: str, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert main(["compare", "--experiment", "toy", "--uri", toy_uri, "--html", str(page)]) == 0
    found = re.search(r'id="comparison">(.*?)</script>', page.read_text(), re.DOTALL)
    assert found
    [group] = json.loads(found[1])["groups"]
    assert len(group["runs"]) == 9, "one failed"
    assert all(len(run["curves"]["val/auprc"]) == 20 for run in group["runs"])


def test_run_folders_are_compared_without_mlflow(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, value in (("a", 0.4), ("b", 0.6)):
        journal = Journal.create(tmp_path / name, name=f"run-{name}", experiment="none")
        journal.write_metrics({"test/auprc": value}, step=1)
        journal.write_end("FINISHED")
    folders = [str(tmp_path / name) for name in ("a", "b", "a")]
    assert main(["compare", *folders, "--uri", f"sqlite:///{tmp_path}/missing.db", "--format", "csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [(row["rank"], row["run"]) for row in rows] == [("1", "run-b"), ("2", "run-a")]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "got none"),
        (["--sweep", "a", "--experiment", "b"], "--sweep a and --experiment b"),
        (["--experiment", "a", "--html", "nosuch/page.html"], "make nosuch first"),
        (["nosuch/folder"], "nosuch/folder holds no run"),
        (["--experiment", "a", "--uri", "sqlite:///nosuch.db"], "nosuch.db"),
    ],
)
def test_a_mistake_is_exit_code_2_with_one_line(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", *arguments]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Journal.create(tmp_path / "run", name="unet", experiment="astrid").write_metrics({"test/auprc": 0.5}, step=1)
    assert main(["compare", str(tmp_path / "run"), "--output", str(tmp_path)]) == 2
    assert f"{tmp_path} must be a file that can be written" in capsys.readouterr().err


def test_a_run_folder_goes_by_its_id_in_mlflow(tmp_path: Path) -> None:
    Journal.create(tmp_path / "run", name="unet", experiment="astrid")
    uid = read_folder(tmp_path / "run").run_id
    Progress(tmp_path / "run", "sqlite:///a.db").restart("abc")
    assert read_folder(tmp_path / "run").run_id == "abc"
    Progress(tmp_path / "run", "sqlite:///b.db").restart("def")  # sent to two: neither is the id of the run
    assert read_folder(tmp_path / "run").run_id == uid
