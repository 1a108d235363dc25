"""What the bar of a training run says."""

from __future__ import annotations

import pytest
from rich.progress import Progress

from astrid.console import TrainingView, print_table, show_progress
from astrid.training import StepReport


def test_the_title_of_a_table_is_one_line_however_narrow_its_columns(capsys: pytest.CaptureFixture[str]) -> None:
    title = "a title that is a good deal longer than the table below it, and than the terminal is wide, " * 2
    print_table(title, [("auprc", "0.5")], columns=("metric", "U-Net"))
    assert capsys.readouterr().out.splitlines()[0] == title


def test_one_of_a_thing_is_no_plural(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        for count in (1, 2):
            list(show_progress(range(count), "test fields", count, doing="preparing"))
    assert [record.getMessage() for record in caplog.records] == ["preparing 1 test field", "preparing 2 test fields"]


@pytest.mark.parametrize(("watts", "shown"), [(231.4, "231 W"), (None, None)])
def test_the_bar_shows_watts_where_power_is_known(watts: float | None, shown: str | None) -> None:
    bar = Progress(disable=True)
    TrainingView(4, monitor="val/auprc", bar=bar).step(StepReport(2, 5, 10, 0.25, 54.0, watts))
    (task,) = bar.tasks
    assert task.description == "  ".join(["epoch 2/4", "loss 0.2500", "54 img/s", *([shown] if shown else [])])
    assert (task.completed, task.total) == (15, 40)
