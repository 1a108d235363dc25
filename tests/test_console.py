"""What the bar of a training run says."""

from __future__ import annotations

import pytest
from rich.progress import Progress

from astrid.console import TrainingView
from astrid.training import StepReport


@pytest.mark.parametrize(("watts", "shown"), [(231.4, "231 W"), (None, None)])
def test_the_bar_shows_watts_where_power_is_known(watts: float | None, shown: str | None) -> None:
    bar = Progress(disable=True)
    TrainingView(4, monitor="val/auprc", bar=bar).step(StepReport(2, 5, 10, 0.25, 54.0, watts))
    (task,) = bar.tasks
    assert task.description == "  ".join(["epoch 2/4", "loss 0.2500", "54 img/s", *([shown] if shown else [])])
    assert (task.completed, task.total) == (15, 40)
