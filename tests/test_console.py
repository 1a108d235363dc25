"""What the bar of a training run says."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from rich.console import Console
from rich.progress import Progress

from astrid.cli import main
from astrid.console import TrainingView, print_table, show_progress
from astrid.terminal import draws_bars
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


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("NO_COLOR", "CI"):
        monkeypatch.delenv(name, raising=False)
    yield
    logging.getLogger("astrid").setLevel(logging.NOTSET)


@pytest.mark.parametrize("name", ["NO_COLOR", "CI"])
def test_plain_lines_are_for_who_asks_for_them(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Console(force_terminal=True)
    assert draws_bars(terminal) and not draws_bars(Console(force_terminal=False))
    monkeypatch.setenv(name, "")
    assert draws_bars(terminal), "an empty variable asks for nothing"
    monkeypatch.setenv(name, "1")
    assert not draws_bars(terminal)


@pytest.mark.parametrize(("option", "level"), [("-q", logging.WARNING), ("-v", logging.DEBUG), (None, logging.NOTSET)])
def test_every_command_can_be_quiet_or_say_more(option: str | None, level: int) -> None:
    logging.getLogger("astrid").setLevel(logging.CRITICAL)
    assert main(["report", "nothing/here", *([] if option is None else [option])]) == 2
    assert logging.getLogger("astrid").level == level
    assert draws_bars(Console(force_terminal=True)) == (option != "-q")


def test_progress_is_a_line_where_there_is_no_terminal(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert list(show_progress([1, 2], "things", 2, doing="counting")) == [1, 2]
    assert caplog.messages == ["counting 2 things"]
