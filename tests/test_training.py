"""The loop learns, stops when it should, and goes on after a stop as if there had been none."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from learners import METRICS, PLAIN, Bench, make_learner, spots

from astrid.checkpoint import load_checkpoint
from astrid.config import RunError, Stopped, TrainingConfig
from astrid.data.store import FieldStore
from astrid.learner import BEST, LAST, Progress, take_up
from astrid.training import StepReport, accumulation_windows, step, validate

CPU = TrainingConfig(device="cpu", precision="fp32", epochs=3, threads=1)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FieldStore:
    return spots(tmp_path_factory.mktemp("spots") / "train")


def weights(learner_model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in learner_model.state_dict().values()])


def test_one_batch_is_learned_by_heart(store: FieldStore, tmp_path: Path) -> None:
    bench = Bench(store, tmp_path, batch_size=30)
    config = dataclasses.replace(CPU, epochs=60)
    records = bench.fit(bench.learner(config), config)
    assert records[-1].values["val/auprc"] > 0.95
    assert records[-1].values["train/loss"] < 0.5 * records[0].values["train/loss"]


def test_accumulated_batches_take_the_same_step_as_one_large_batch(store: FieldStore, tmp_path: Path) -> None:
    whole = Bench(store, tmp_path / "whole", batch_size=10)
    parts = Bench(store, tmp_path / "parts", batch_size=5)
    results = []
    for bench, accumulate in ((whole, 1), (parts, 2)):
        config = dataclasses.replace(CPU, epochs=1, accumulate=accumulate)
        bench.loaders = dataclasses.replace(bench.loaders, flips=False)
        learner = bench.learner(config, **PLAIN)
        records = bench.fit(learner, config)
        results.append((weights(learner.model), records[0].values["train/loss"], records[0].step))
    torch.testing.assert_close(results[0][0], results[1][0], atol=1e-5, rtol=1e-4)
    assert results[0][1] == pytest.approx(results[1][1], rel=1e-5)
    assert results[0][2] == results[1][2] == 3


def test_a_last_short_window_is_weighted_by_its_own_length() -> None:
    batches = [{"valid": torch.ones(1)}] * 7
    assert [len(window) for window in accumulation_windows(batches, 3)] == [3, 3, 1]


def test_a_batch_without_valid_pixels_changes_neither_loss_nor_gradient(store: FieldStore) -> None:
    learner = make_learner(CPU, steps_per_epoch=3, **PLAIN)
    image = torch.randn(2, 1, 16, 16)
    full = {"image": image, "target": image > 1, "valid": torch.ones_like(image, dtype=torch.bool)}
    empty = full | {"valid": torch.zeros_like(image, dtype=torch.bool)}
    loss, pixels = step(learner, [full, empty], clip_norm=None)
    after_both = weights(learner.model)
    other = make_learner(CPU, steps_per_epoch=3, **PLAIN)
    alone, _ = step(other, [full], clip_norm=None)
    assert pixels == 512
    assert loss == alone
    assert torch.equal(after_both, weights(other.model))


def test_epoch_loss_is_the_mean_over_valid_pixels(store: FieldStore, tmp_path: Path) -> None:
    bench = Bench(store, tmp_path, batch_size=4)
    bench.loaders = dataclasses.replace(bench.loaders, flips=False)
    config = dataclasses.replace(CPU, epochs=1)
    learner = bench.learner(config, **PLAIN)
    for group in learner.optimizer.param_groups:
        group["lr"] = 0.0
    learner.schedule.step = lambda: None  # type: ignore[method-assign]  # hold the rate at zero
    values = bench.fit(learner, config)[0].values
    assert values["train/loss"] == pytest.approx(values["val/loss"], rel=1e-5)


def test_a_loss_that_is_not_finite_stops_with_epoch_and_step(store: FieldStore, tmp_path: Path) -> None:
    bench = Bench(store, tmp_path)
    learner = bench.learner(CPU)
    healthy, calls = learner.loss, []

    def failing(*arguments: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return healthy(*arguments) * (float("nan") if len(calls) == 3 else 1.0)

    learner.loss = failing
    with pytest.raises(RunError, match=r"got nan in epoch 1, step 3; try a smaller optimizer\.lr"):
        bench.fit(learner, CPU)
    assert load_checkpoint(tmp_path / LAST)["progress"]["step"] == 0  # the spoiled weights are not saved


def test_training_stops_early_and_keeps_the_best_weights(store: FieldStore, tmp_path: Path) -> None:
    bench = Bench(store, tmp_path)
    config = dataclasses.replace(CPU, epochs=50, patience=2, monitor="val/loss")
    progress = Progress()
    learner = bench.learner(config)
    records = bench.fit(learner, config, progress)
    losses = [record.values["val/loss"] for record in records]
    best = min(range(len(losses)), key=losses.__getitem__) + 1
    assert progress.best_epoch == best
    assert len(records) < 50 or best >= 49
    assert progress.best == min(losses)
    kept = load_checkpoint(tmp_path / BEST)
    assert (kept["epoch"], kept["value"]) == (best, min(losses))
    learner.model.load_state_dict(kept["model"])
    assert validate(learner, bench.loaders.val, metrics=METRICS)["val/loss"] == pytest.approx(min(losses), rel=1e-6)


def test_min_delta_and_direction_decide_what_is_an_improvement() -> None:
    rising = dataclasses.replace(CPU, monitor="val/auprc", min_delta=0.1)
    falling = dataclasses.replace(CPU, monitor="val/loss")
    progress = Progress(best=0.5)
    assert not progress.improves(0.59, rising)
    assert progress.improves(0.61, rising)
    assert progress.improves(0.49, falling)
    assert not progress.improves(0.5, falling)


class StopAfter:
    """Ask for a stop once `steps` steps have been shown."""

    def __init__(self, bench: Bench, steps: int) -> None:
        self.bench, self.steps = bench, steps

    def append(self, report: StepReport) -> None:
        self.steps -= 1
        if self.steps == 0:
            self.bench.stop.received = "SIGTERM"


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("stopped_after", [1, 7, 12])
def test_a_stopped_run_goes_on_to_the_same_bits(
    store: FieldStore, tmp_path: Path, stopped_after: int, workers: int
) -> None:
    straight = Bench(store, tmp_path / "straight")
    reference = straight.learner(CPU)
    expected = straight.fit(reference, CPU)

    bench = Bench(store, tmp_path / "stopped", workers=workers)
    bench.reports = StopAfter(bench, stopped_after)  # type: ignore[assignment]
    with pytest.raises(Stopped, match="all is saved"):
        bench.fit(bench.learner(CPU), CPU)

    resumed = Bench(store, tmp_path / "stopped", workers=workers)
    torch.manual_seed(999)  # whatever another process may have drawn
    learner = resumed.learner(CPU)
    torch.manual_seed(999)
    progress = take_up(learner, load_checkpoint(tmp_path / "stopped" / LAST))
    resumed.fit(learner, CPU, progress)
    assert torch.equal(weights(learner.model), weights(reference.model))
    names = ("train/loss", "val/loss", "val/auprc", "train/learning_rate")
    for values, record in zip(progress.history, expected, strict=True):
        assert [values[name] for name in names] == [record.values[name] for name in names]


def test_steps_are_reported_with_rate_and_loss(store: FieldStore, tmp_path: Path) -> None:
    bench = Bench(store, tmp_path)
    bench.fit(bench.learner(CPU), CPU)
    assert len(bench.reports) == 3 * 7
    assert bench.reports[-1].batch == bench.reports[-1].batches == 7
    assert all(report.images_per_second > 0 and report.loss is not None for report in bench.reports)
