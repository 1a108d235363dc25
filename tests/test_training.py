"""The loop learns, stops when it should, and goes on after a stop as if there had been none."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
import torch
from learners import METRICS, PLAIN, Bench, make_learner, spots

from astrid.augmentation import CHANGES, augment
from astrid.checkpoint import BEST, LAST, load_checkpoint
from astrid.config import AugmentConfig, ConstantSchedule, CosineSchedule, RunError, Stopped, TrainingConfig
from astrid.data.dataset import Batch
from astrid.data.store import FieldStore
from astrid.energy import Component, PhaseEnergy
from astrid.learner import Learner, Progress, take_up
from astrid.training import StepReport, accumulation_windows, step, training_values, validate

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
        bench.loaders = dataclasses.replace(bench.loaders, augment=AugmentConfig(flips=False))
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
    bench.loaders = dataclasses.replace(bench.loaders, augment=AugmentConfig(flips=False))
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


def test_patience_bears_as_many_epochs_as_it_says(store: FieldStore, tmp_path: Path) -> None:
    bench = Bench(store, tmp_path)
    config = dataclasses.replace(CPU, epochs=50, patience=2, monitor="val/loss")
    learner = bench.learner(config, schedule=ConstantSchedule())
    for group in learner.optimizer.param_groups:
        group["lr"] = 0.0  # nothing changes after the first epoch, but for the statistics of batch norm
    learner.model.eval()
    learner.model.train = lambda mode=True: learner.model  # type: ignore[method-assign]
    learner.schedule.step = lambda: None  # type: ignore[method-assign]
    progress = Progress()
    bench.fit(learner, config, progress)
    assert (progress.epoch, progress.best_epoch, progress.stale_epochs) == (3, 1, 2)


def test_min_delta_moves_patience_and_never_the_best() -> None:
    config = dataclasses.replace(CPU, monitor="val/auprc", min_delta=0.1)
    progress = Progress()
    seen = []
    for epoch, value in enumerate((0.5, 0.55, 0.59, 0.61, 0.6), start=1):
        progress.epoch = epoch
        seen.append((progress.judge(value, config), progress.stale_epochs))
    assert seen == [(True, 0), (True, 1), (True, 2), (True, 0), (False, 1)]
    assert (progress.best, progress.best_epoch) == (0.61, 4)


@pytest.mark.parametrize(("monitor", "better", "worse"), [("val/auprc", 0.6, 0.4), ("val/loss", 0.4, 0.6)])
def test_the_monitor_has_a_direction(monitor: str, better: float, worse: float) -> None:
    config = dataclasses.replace(CPU, monitor=monitor)
    progress = Progress(best=0.5, reference=0.5)
    assert not progress.judge(worse, config)
    assert not progress.judge(0.5, config)
    assert progress.judge(better, config)


def test_the_rate_follows_the_schedule_step_by_step(store: FieldStore, tmp_path: Path) -> None:
    bench = Bench(store, tmp_path)
    learner = bench.learner(CPU, schedule=CosineSchedule(warmup_epochs=0.0, final_fraction=0.0))
    records = bench.fit(learner, CPU)
    rates = [record.values["train/learning_rate"] for record in records]
    steps = len(bench.loaders.train)
    # After the last step of epoch e the schedule stands at step e * steps of 3 * steps - 1.
    expected = [0.005 * (1 + math.cos(math.pi * min(1.0, e * steps / (3 * steps - 1)))) for e in (1, 2, 3)]
    assert rates == pytest.approx(expected, abs=1e-9)


def test_gradients_are_clipped_to_the_norm_that_is_asked_for(store: FieldStore) -> None:
    image = torch.randn(2, 1, 16, 16)
    batch = {"image": image, "target": image > 1, "valid": torch.ones_like(image, dtype=torch.bool)}
    norms = {}
    for clip in (None, 1e-4):
        learner = make_learner(CPU, steps_per_epoch=3, **PLAIN)
        seen: list[float] = []

        def note(_: object, learner: Learner = learner, seen: list[float] = seen) -> None:
            grads = [parameter.grad.norm() for parameter in learner.model.parameters() if parameter.grad is not None]
            seen.append(torch.stack(grads).norm().item())

        learner.optimizer.register_step_pre_hook(lambda optimizer, args, kwargs, note=note: note(optimizer))
        step(learner, [batch], clip_norm=clip)
        norms[clip] = seen[0]
    assert norms[1e-4] == pytest.approx(1e-4, rel=1e-2)
    assert norms[None] > 1e-3


def test_every_batch_of_every_epoch_is_augmented_by_a_seed_of_its_own(
    store: FieldStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds: list[tuple[int, ...]] = []

    def watching(batch: Batch, config: AugmentConfig, *, seed: tuple[int, int, int]) -> Batch:
        seeds.append(seed)
        return augment(batch, config, seed=seed)

    monkeypatch.setattr("astrid.training.augment", watching)
    bench = Bench(store, tmp_path)
    bench.fit(bench.learner(CPU), CPU)
    assert len(seeds) == len(set(seeds)) == 3 * len(bench.loaders.train)


def test_images_per_second_are_those_of_the_epoch(store: FieldStore, tmp_path: Path) -> None:
    bench = Bench(store, tmp_path)
    for record in bench.fit(bench.learner(CPU), CPU):
        images = record.values["train/images_per_second"] * record.values["train/seconds"]
        assert images == pytest.approx(27)  # three fields of nine tiles, in every epoch


def test_an_epoch_says_what_its_own_components_took(store: FieldStore, tmp_path: Path) -> None:
    learner = make_learner(CPU, steps_per_epoch=3, **PLAIN)
    gpu, cpu = Component(7.0, "measured", "nvml"), Component(3.0, "measured", "rapl")
    progress = Progress(images=4, seconds=2.0, pixels=1.0)
    values = training_values(learner, progress, energy=PhaseEnergy("train", 1, 2.0, gpu, cpu))
    assert (values["train/gpu_joules"], values["train/cpu_joules"]) == (7.0, 3.0)


class StopAfter:
    """Ask for a stop once `steps` steps have been shown."""

    def __init__(self, bench: Bench, steps: int) -> None:
        self.bench, self.steps = bench, steps

    def append(self, report: StepReport) -> None:
        self.steps -= 1
        if self.steps == 0:
            self.bench.stop.received = "SIGTERM"


EVERY_CHANGE = AugmentConfig(**{f"{name}_probability": 0.5 for name in CHANGES})


@pytest.mark.parametrize(
    ("stopped_after", "workers", "augmented"),
    [
        (1, 0, AugmentConfig()),
        (12, 2, AugmentConfig()),
        *(
            pytest.param(steps, workers, AugmentConfig(), marks=pytest.mark.slow)
            for steps, workers in ((1, 2), (7, 0), (7, 2), (12, 0))
        ),
        pytest.param(12, 0, EVERY_CHANGE, id="every change"),
    ],
)
def test_a_stopped_run_goes_on_to_the_same_bits(
    store: FieldStore, tmp_path: Path, stopped_after: int, workers: int, augmented: AugmentConfig
) -> None:
    straight = Bench(store, tmp_path / "straight", augment=augmented)
    reference = straight.learner(CPU)
    expected = straight.fit(reference, CPU)

    bench = Bench(store, tmp_path / "stopped", workers=workers, augment=augmented)
    bench.reports = StopAfter(bench, stopped_after)  # type: ignore[assignment]
    with pytest.raises(Stopped, match="all is saved"):
        bench.fit(bench.learner(CPU), CPU)

    resumed = Bench(store, tmp_path / "stopped", workers=workers, augment=augmented)
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
