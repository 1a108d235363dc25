"""The checks of `astrid diagnose` on evidence made by hand: each finds its fault and is silent without it."""

from __future__ import annotations

import ast
import dataclasses
import json
import math
import re
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from learners import make_learner
from matplotlib.figure import Figure
from sklearn.metrics import roc_auc_score

from astrid.augmentation import augment
from astrid.config import BCELoss, Config, ConfigError, DataError, ModelConfig, RunError, TrainingConfig
from astrid.config.compose import PROJECT_ROOT, load
from astrid.config.resume import save_config
from astrid.data.fields import Splits
from astrid.data.frames import Field
from astrid.data.store import FieldStore, write_fields
from astrid.diagnose import Diagnosis, Finding, as_text, rates, write_diagnosis
from astrid.diagnose.balance import imbalance
from astrid.diagnose.bench import Bench
from astrid.diagnose.curves import loss_not_finite, overfitting, plateau, rate_too_high, rate_too_low
from astrid.diagnose.evidence import Evidence, blind_loss, read_evidence
from astrid.diagnose.examine import with_patience
from astrid.diagnose.finding import causes
from astrid.diagnose.gradients import exploding, frozen, vanishing
from astrid.diagnose.labels import REACH, LightAround, shifted_labels
from astrid.diagnose.leaks import fingerprints, leaks
from astrid.diagnose.loading import starving
from astrid.diagnose.memory import layer_memory
from astrid.diagnose.noise import agree, auroc, contradictory, speckle, speckled, turned_over
from astrid.diagnose.probe import Probe, Seen
from astrid.diagnose.units import dead_units, not_finite
from astrid.layer_norms import EpochNorms, read_norms
from astrid.tracking.journal import Journal
from astrid.training import prepare

LAYERS = ("encoders.0.first.weight", "encoders.1.first.weight", "decoders.0.block.first.weight", "heads.0.weight")


def told(
    train: list[float], val: list[float] | None = None, *, score: list[float] | None = None, **changes: object
) -> Evidence:
    """A run with these curves; 1 % of its pixels are positive."""
    val, score = val or train, score or [0.5 + 0.01 * number for number in range(len(train))]
    history = [
        {"epoch": number + 1.0, "train/loss": a, "val/loss": b, "val/auprc": c, "train/learning_rate": 1e-3}
        | {"train/seconds": 10.0, "train/waiting_seconds": 0.2}
        for number, (a, b, c) in enumerate(zip(train, val, score, strict=True))
    ]
    evidence = Evidence(Path("run"), load(), "FINISHED", None, history, prior=0.01)
    return dataclasses.replace(evidence, **changes)  # type: ignore[arg-type]


def norms(*, gradient: float = 1e-2, update: float = 1e-2, **own: tuple[float | None, float]) -> list[EpochNorms]:
    """Norms of two epochs, alike in all layers but for those named by their last block, as (gradient, update)."""
    pairs = {name: own.get(name.split(".")[0] + name.split(".")[1], (gradient, update)) for name in LAYERS}
    kinds = [{name: [pair[kind]] for name, pair in pairs.items()} for kind in (0, 1)]
    ones = {name: [1.0] for name in LAYERS}
    return [EpochNorms(epoch, kinds[0], ones, kinds[1]) for epoch in (1, 2)]


HEALTHY = [0.05, 0.03, 0.02, 0.015, 0.013, 0.012, 0.0115, 0.011]


@pytest.mark.parametrize("check", [overfitting, plateau, loss_not_finite, rate_too_high, rate_too_low, starving])
def test_a_run_that_learns_gives_no_finding(check: object) -> None:
    assert list(check(told(HEALTHY, norms=norms()))) == []  # type: ignore[operator]


def test_a_validation_loss_that_rises_while_training_falls_is_over_fitting() -> None:
    rising = [0.05, 0.03, 0.022, 0.025, 0.03, 0.034, 0.04, 0.045]
    (found,) = overfitting(told(HEALTHY, rising))
    assert found.evidence["best_epoch"] == 3
    assert found.evidence["val_loss_rise"] == pytest.approx(0.04 / 0.022)
    both_rise = [0.05, 0.03, 0.022, 0.025, 0.03, 0.034, 0.04, 0.045]
    assert list(overfitting(told(both_rise, rising))) == []


def test_a_second_half_that_brings_nothing_is_a_plateau() -> None:
    flat = [0.05, 0.03, 0.02, 0.02, 0.02, 0.02, 0.02, 0.02]
    (found,) = plateau(told(flat, score=[0.1, 0.3, 0.5, 0.6, 0.6, 0.6, 0.6, 0.6]))
    assert found.evidence["since_epoch"] == 5
    assert "train/loss (lower by 0.0%)" in found.text
    assert list(plateau(told(flat, score=[0.1, 0.3, 0.5, 0.6, 0.6, 0.6, 0.7, 0.7]))) == []
    (worse,) = plateau(told([0.05, 0.03, 0.02, 0.02, 0.022, 0.022, 0.022, 0.022], score=[0.6] * 8))
    assert "train/loss (higher by 10.0%)" in worse.text


def test_guessing_costs_the_entropy_of_the_prior() -> None:
    entropy = -0.01 * math.log(0.01) - 0.99 * math.log(0.99)
    assert blind_loss(BCELoss(), 0.01) == pytest.approx(entropy, rel=1e-4)


def test_a_loss_above_guessing_tells_of_a_rate_that_is_too_high() -> None:
    (found,) = rate_too_high(told([0.9, 0.06, 0.058]))
    assert found.evidence["highest_train_loss"] == 0.9
    assert "optimizer.lr" in found.knob


def test_large_steps_that_teach_nothing_tell_of_it_too_and_small_ones_of_the_contrary() -> None:
    idle = [0.056, 0.0559, 0.0558]
    assert [found.kind for found in rate_too_high(told(idle, norms=norms(update=0.1)))] == ["learning_rate_high"]
    assert [found.kind for found in rate_too_low(told(idle, norms=norms(update=1e-5)))] == ["learning_rate_low"]
    for check in (rate_too_high, rate_too_low):
        assert list(check(told(idle, norms=norms(update=1e-2)))) == []
        assert list(check(told([], norms=norms(update=1e-5)))) == []  # norms of an epoch that didn't end
    settling = [norms(update=0.1)[0], norms(update=1e-5)[1]]  # the epoch of the largest steps counts
    assert len(list(rate_too_high(told(idle, norms=settling)))) == 1
    assert list(rate_too_low(told(idle, norms=settling))) == []


def test_a_leap_tells_of_it_even_where_the_loss_is_bounded_and_the_weights_have_grown() -> None:
    first, grown = norms(update=5.0), norms(update=5.0)[1]
    blown_up = dataclasses.replace(grown, weight={name: [500.0] for name in LAYERS})  # a step of 1 % of that
    (found,) = rate_too_high(told(HEALTHY, norms=[first[0], blown_up]))
    assert found.evidence["largest_step"] == 5.0
    warmed_up = dataclasses.replace(first[0], update={name: [1e-3] for name in LAYERS})
    assert len(list(rate_too_high(told(HEALTHY, norms=[warmed_up, blown_up])))) == 1
    assert list(rate_too_high(told(HEALTHY, norms=norms(update=0.1)))) == []


def test_a_loss_that_is_no_number_is_told_with_its_step() -> None:
    reason = "LossNotFinite: the loss must be finite, got nan in epoch 1, step 7; try a smaller optimizer.lr"
    (found,) = loss_not_finite(told([], status="FAILED", reason=reason))
    assert "step 7" in found.text


def test_layers_without_gradient_or_left_out_of_the_optimizer_are_frozen() -> None:
    for gradient in (None, 1e-2):
        (found,) = frozen(told(HEALTHY, norms=norms(encoders0=(gradient, 0.0))))
        assert "encoders.0" in found.text
        assert found.evidence == {"frozen_parameters": 1, "parameters": 4}
    assert list(frozen(told(HEALTHY, norms=norms(encoders0=(0.0, 0.0))))) == []  # nothing to learn from: not frozen


def test_a_layer_with_next_to_no_gradient_vanishes() -> None:
    (found,) = vanishing(told(HEALTHY, norms=norms(encoders0=(1e-7, 1e-2))))
    assert "encoders.0" in found.text
    assert list(vanishing(told(HEALTHY, norms=norms(encoders0=(1e-4, 1e-2))))) == []


def test_gradients_that_grow_without_bound_explode() -> None:
    first, second = norms()[0], norms(gradient=1e3)[1]
    (found,) = exploding(told(HEALTHY, norms=[first, dataclasses.replace(second, epoch=5)]))  # a kill lost 2 to 4
    assert found.kind == "exploding_gradients" and re.search(r"in epoch 5, \S+ in epoch 1$", found.text)
    assert list(exploding(told(HEALTHY, norms=norms()))) == []


def test_a_first_epoch_that_began_with_empty_batches_is_no_explosion() -> None:
    """The first epoch of `experiment=hrc_cosmic_rays` had norms of 0, 0.01, 0.02, 1; those of the second are near 1."""
    empty = {name: [0.0, 0.0, 1e-6, 1.0] for name in LAYERS}
    ones, moved = ({name: [value] * 4 for name in LAYERS} for value in (1.0, 1e-2))
    first, later = EpochNorms(1, empty, ones, moved), norms(gradient=1.0)[1]
    assert list(exploding(told(HEALTHY, norms=[first, later]))) == []


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
@pytest.mark.parametrize("epochs", [1, 2])
def test_a_gradient_that_is_not_finite_explodes_in_whichever_layer_and_epoch(wrong: float, epochs: int) -> None:
    seen = norms(encoders0=(wrong, 1e-2))[:epochs]
    assert [found.kind for found in exploding(told(HEALTHY, norms=seen))] == ["exploding_gradients"]


def test_a_missing_gradient_and_a_step_that_a_scaler_left_out_do_not_explode() -> None:
    assert list(exploding(told(HEALTHY, norms=norms(encoders0=(None, 0.0))))) == []
    overflow = EpochNorms(1, {"a": [math.inf, 1.0]}, {"a": [1.0, 1.0]}, {"a": [0.0, 0.1]})
    assert list(exploding(told(HEALTHY, norms=[overflow]))) == []


def texts(source: str) -> Iterator[str]:
    """The strings of a module, where 1 stands for what they are filled with."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "1" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


ADVICE = re.compile(r"\b((?:data|loss|model|optimizer|schedule|training)(?:\.\w+)*)=([\w.]*\w)")


def test_every_override_that_is_advised_composes() -> None:
    sources = (PROJECT_ROOT / "astrid" / "diagnose").glob("*.py")
    advised = {
        match.groups() for path in sources for text in texts(path.read_text()) for match in ADVICE.finditer(text)
    }
    assert len(advised) > 15
    for key, value in advised:
        frames = ["data=frames", "data.root=.", "data.manifest=m.csv"] if key.startswith("data.split") else []
        load([*frames, f"{key}={value}"])


def test_a_network_that_still_learned_is_offered_more_epochs_first() -> None:
    imbalanced = Finding("imbalance", "", {}, "loss=focal", Figure())
    learning = told([0.05, 0.04, 0.03])
    assert with_patience(imbalanced, learning).knob.startswith(f"training.epochs={2 * learning.config.training.epochs}")
    assert with_patience(imbalanced, told([0.05, 0.03, 0.04])) == imbalanced
    assert with_patience(dataclasses.replace(imbalanced, kind="leak"), learning).knob == "loss=focal"


@pytest.mark.parametrize(
    ("lr", "said"),
    [
        ("0.03", "the run's peak, 0.03, fits\n"),
        ("0.3", "the run's peak, 0.3, is too high, try optimizer.lr=0.02\n"),
        ("1e-5", "the run's peak, 1e-05, is low, try optimizer.lr=0.02\n"),
    ],
)
def test_a_range_test_proposes_a_rate_only_where_the_runs_own_learns_less_than_another(
    lr: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = {1e-5: 1.0, 2e-3: 0.4, 0.02: 0.2, 0.03: 0.29, 0.3: None}
    found = rates.RangeTest(np.array([1e-3, 0.5, 1.0]), np.array([1.0, 0.2, 0.4]), trials)
    monkeypatch.setattr(rates, "range_test", lambda config: found)
    save_config(load([f"optimizer.lr={lr}"]), tmp_path)
    told = rates.range_tested(tmp_path, tmp_path)
    assert said in told and "0.4 at 0.002\n" in told and "not finite at 0.3" in told
    assert {"rate": 0.3, "loss": None} in json.loads((tmp_path / "range_test.json").read_text())["trials"]


class Slope:
    """A bench whose one weight w costs |w - 1| and moves by the rate: it arrives, or overshoots for ever."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def learner(self) -> tuple[object, Iterator[dict[str, float]]]:
        return SimpleNamespace(weight=0.0, optimizer=SimpleNamespace(param_groups=[{}])), repeat({})

    def windows(self, learner: object, batches: Iterator[dict[str, float]]) -> Iterator[list[dict[str, float]]]:
        return ([batch] for batch in batches)


def test_a_range_test_tries_rates_below_the_one_of_the_lowest_loss_and_the_runs_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def down(learner: SimpleNamespace, window: object, *, clip_norm: float | None) -> tuple[float, None]:
        rate, loss = learner.optimizer.param_groups[0]["lr"], abs(learner.weight - 1)
        learner.weight += rate * math.copysign(1.0, 1 - learner.weight)
        return loss, None

    monkeypatch.setattr(rates, "Bench", Slope)
    monkeypatch.setattr(rates, "step", down)
    found = rates.range_test(load(["optimizer.lr=1.7"]))
    lowest = float(found.rates[found.losses.argmin()])
    assert list(found.trials) == rates.rates_to_try(lowest, own=1.7)
    arrives = [rate for rate in found.trials if rate * (rates.TRIAL_STEPS - rates.JUDGED_STEPS) >= 1]
    assert found.proposed == min(arrives), "the smallest step that arrives swings least around the end"
    assert found.trials[1.7] == pytest.approx(np.mean([abs(k % 2 * 1.7 - 1) for k in range(90)][-30:]))
    assert not found.fits(1.7) and found.fits(min(arrives))


def test_rates_to_try_have_two_digits_and_are_none_below_the_lowest() -> None:
    assert rates.rates_to_try(0.5, own=0.0123) == [0.0012, 0.005, 0.0123, 0.017, 0.05, 0.17]
    assert rates.rates_to_try(2e-6, own=0.001) == [1e-6, 1e-4, 0.001]


def test_where_no_rate_keeps_the_loss_finite_none_is_proposed() -> None:
    lost = rates.RangeTest(np.array([1e-3]), np.array([1.0]), {1e-3: None, 1e-2: None})
    assert lost.proposed is None and not lost.fits(1e-2)
    assert rates.verdict(lost, 1e-2).endswith("try another loss, or one below 0.001")


def test_a_short_training_that_ends_in_no_number_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(learner: SimpleNamespace, window: object, *, clip_norm: float | None) -> tuple[float, None]:
        learner.weight += 1
        rate = learner.optimizer.param_groups[0]["lr"]
        return (math.inf if rate == 0.5 and learner.weight > 80 else 1.0), None

    monkeypatch.setattr(rates, "Bench", Slope)
    monkeypatch.setattr(rates, "step", explode)
    trials = rates.range_test(load(["optimizer.lr=0.5"])).trials
    assert trials.pop(0.5) is None and set(trials.values()) == {1.0}


def test_a_range_test_whose_first_loss_is_no_number_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "Bench", Slope)
    monkeypatch.setattr(rates, "step", lambda *given, **named: (math.nan, None))
    with pytest.raises(RunError, match=r"the loss must be finite at a learning rate of 1e-06, got nan"):
        rates.range_test(load())


@pytest.mark.slow
def test_short_trainings_take_the_steps_that_the_run_takes(tiny: list[str]) -> None:
    config = load(tiny)
    training = dataclasses.replace(config.training, accumulate=2)
    bench = Bench(dataclasses.replace(config, training=training))
    learner, batches = bench.learner()
    first = next(bench.windows(learner, batches))
    assert len(first) == 2
    again, plain = bench.learner()
    for number, found in enumerate(first):  # each batch is turned in its own way
        turned = augment(prepare(next(plain), again.runtime), config.data.augment, seed=(training.seed, 0, number))
        assert torch.equal(found["image"], turned["image"])
    for one, other in zip(learner.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(one, other), "each begins from the run's first weights"


def test_a_run_that_ended_in_its_first_epoch_has_a_figure_that_says_so() -> None:
    ended = dataclasses.replace(told([]), status="FAILED", reason="the loss must be finite, got nan")
    (finding,) = loss_not_finite(ended)
    assert all([text.get_text() for text in axes.texts] == ["no epoch was finished"] for axes in finding.figure.axes)


def test_waiting_for_batches_is_starving_unless_the_gpu_is_busy_meanwhile() -> None:
    slow = told(HEALTHY)
    for values in slow.history:
        values["train/waiting_seconds"] = 4.0
    (found,) = starving(slow)
    assert found.evidence["waiting_share"] == pytest.approx(0.4)
    assert list(starving(dataclasses.replace(slow, gpu_percent=[95.0, 96.0]))) == []
    assert len(list(starving(dataclasses.replace(slow, gpu_percent=[20.0, 30.0])))) == 1


def test_what_another_finding_explains_is_left_out() -> None:
    kinds = ["dead_units", "learning_rate_high", "loader"]
    found = [Finding(kind, "", {}, "", Figure()) for kind in kinds]
    assert [finding.kind for finding in causes(found)] == ["learning_rate_high", "loader"]


def squares(number: int, *, size: int = 128, shift: tuple[int, int] = (0, 0), count: int = 12) -> Field:
    """A field of noise with bright squares of 4 pixels, whose labels are shifted by (dy, dx)."""
    generator = np.random.default_rng([7, number])
    image = generator.normal(size=(1, size, size)).astype(np.float32)
    target = np.zeros((size, size), bool)
    for y, x in generator.integers(16, size - 20, size=(count, 2)):
        target[y : y + 4, x : x + 4] = True
    image[0, target] += 8.0
    target = np.roll(target, shift, axis=(0, 1))
    return Field(f"field {number}", image, target, np.ones((size, size), bool))


def probe_of(folder: Path, train: list[Field], val: list[Field], **changes: object) -> Probe:
    stores = {}
    for name, fields in (("train", train), ("val", val), ("test", val)):
        write_fields(folder / name, fields)
        stores[name] = FieldStore(folder / name)
    probe = Probe(load(), Splits(**stores, fingerprint="f", description="d"), None)
    return dataclasses.replace(probe, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(("dy", "dx"), [(0, 5), (-5, 0), (3, -4)])
def test_shifted_labels_are_found_with_the_shift(dy: int, dx: int, tmp_path: Path) -> None:
    fields = [squares(number, shift=(dy, dx)) for number in range(6)]
    (found,) = shifted_labels(probe_of(tmp_path, fields[:4], fields[4:]))
    assert (found.evidence["dy"], found.evidence["dx"]) == (-dy, -dx)  # where the light is, seen from the label


@pytest.mark.parametrize("split", ["training", "validation"])
def test_labels_shifted_in_one_split_alone_are_found_there(split: str, tmp_path: Path) -> None:
    shifts = [(0, 5) if split == name else (0, 0) for name in ("training", "validation")]
    train, val = ([squares(number, shift=shift) for number in range(6)] for shift in shifts)
    (found,) = shifted_labels(probe_of(tmp_path, train, val))
    assert f"in {split} the light" in found.text


def test_shifted_labels_too_few_in_each_split_are_found_in_both_together(tmp_path: Path) -> None:
    train, val = ([squares(number, shift=(0, 5), count=40)] for number in (0, 2))  # 3.3, 3.0, 4.4 standard errors
    (found,) = shifted_labels(probe_of(tmp_path, train, val))
    assert "in training and validation the light" in found.text


def test_the_excess_of_light_at_a_shift_is_told_in_standard_errors() -> None:
    blocks = np.zeros((4, 1, 2 * REACH + 1, 2 * REACH + 1))
    blocks[:, 0, REACH + 2, REACH - 1] = 5.0, 1.0, 3.0, 3.0
    blocks[:, 0, REACH, REACH] = 2.0
    assert LightAround(blocks, np.ones(4)).excess(2, -1) == pytest.approx(4 / math.sqrt(9 + 1 + 1 + 1))


def test_labels_that_lie_on_their_light_are_not_shifted(tmp_path: Path) -> None:
    fields = [squares(number) for number in range(6)]
    assert list(shifted_labels(probe_of(tmp_path, fields[:4], fields[4:]))) == []


def test_dark_objects_are_marked_as_well_as_bright_ones(tmp_path: Path) -> None:
    fields = [dataclasses.replace(one, image=-one.image) for one in (squares(number) for number in range(6))]
    assert list(shifted_labels(probe_of(tmp_path, fields[:4], fields[4:]))) == []


@settings(max_examples=25, deadline=None)
@given(y=st.integers(0, 60), x=st.integers(0, 60), scale=st.floats(0.1, 10), noise=st.sampled_from([0.0, 0.02]))
def test_an_overlap_is_found_at_any_offset_scale_and_level(y: int, x: int, scale: float, noise: float) -> None:
    generator = np.random.default_rng(3)
    sky = generator.normal(size=(128, 128)).astype(np.float32)
    copy = (scale * sky + 5.0 + scale * noise * generator.normal(size=sky.shape)).astype(np.float32)
    ours, theirs = fingerprints(sky[:64, :64]), fingerprints(copy[y : y + 64, x : x + 64])
    common = len(np.intersect1d(ours, theirs))
    assert common <= max(0, 64 - y) * max(0, 64 - x)
    if y <= 32 and x <= 16:
        assert common >= 8


def test_separate_exposures_share_nothing_however_coarse_their_digits() -> None:
    generator = np.random.default_rng(4)
    for step in (1e-4, 0.3, 1.0):
        first, second = (np.round(generator.normal(size=(256, 256)) / step).astype(np.float32) for _ in range(2))
        ours, theirs = fingerprints(first), fingerprints(second)
        assert len(np.intersect1d(ours, theirs)) < max(8, 0.02 * len(ours))


def test_blank_saturated_and_smooth_pixels_tell_nothing() -> None:
    assert len(fingerprints(np.zeros((64, 64), np.float32))) == 0
    assert len(fingerprints(np.zeros((8, 8), np.float32))) == 0
    y, x = np.mgrid[:64, :64]
    star = np.exp(-((y - 32) ** 2 + (x - 30) ** 2) / 200).astype(np.float32)
    assert len(fingerprints(star)) == 0


def test_a_field_on_both_sides_is_a_leak_and_separate_fields_are_none(tmp_path: Path) -> None:
    fields = [squares(number) for number in range(5)]
    (val, test) = leaks(probe_of(tmp_path / "leaky", fields[:4], fields[3:]))
    assert val.evidence == {"shared_fields": 1, "fields": 2}
    assert "field 3" in val.text
    assert "test" in test.text
    assert list(leaks(probe_of(tmp_path / "sound", fields[:3], fields[3:]))) == []


def seen_with(field: Field, logits: np.ndarray) -> Seen:
    return Seen(field, "train", logits.astype(np.float32))


def sure_of(field: Field, truth: np.ndarray) -> Seen:
    """A network that is sure of `truth`, a little less at the edges of an object."""
    noise = np.random.default_rng(5).normal(scale=0.5, size=truth.shape)
    return seen_with(field, np.where(truth, 4.0, -6.0) + noise)


def test_pixels_turned_over_one_by_one_are_speckle() -> None:
    field = squares(1)
    noisy = field.target ^ (np.random.default_rng(2).random(field.target.shape) < 0.2)
    assert speckle(field.target, field.valid) == 0
    assert speckle(noisy, field.valid) == pytest.approx(0.2, abs=0.02)
    wrong, right = sure_of(dataclasses.replace(field, target=noisy), field.target), sure_of(field, field.target)
    assert len(speckled([wrong])) == 1
    assert speckled([right]) == []
    assert len(speckled([wrong, *[dataclasses.replace(right, split="val")] * 3])) == 1  # in training alone


def test_the_auroc_of_a_field_is_that_of_scikit_learn() -> None:
    field, generator = squares(1), np.random.default_rng(0)
    logits = (generator.normal(size=field.target.shape) + field.target).round(1)  # with ties
    expected = roc_auc_score(field.target.ravel(), logits.ravel())
    assert auroc(seen_with(field, logits)) == pytest.approx(expected, rel=1e-6)


def test_a_field_whose_labels_are_turned_over_is_found() -> None:
    fields = [squares(number) for number in range(5)]
    seen = [sure_of(field, field.target) for field in fields]
    assert turned_over(seen) == []
    seen[2] = sure_of(dataclasses.replace(fields[2], target=~fields[2].target), fields[2].target)
    (found,) = turned_over(seen)
    assert "field 2" in found.text
    mild = sure_of(fields[0], fields[0].target ^ (np.random.default_rng(1).random(fields[0].target.shape) < 0.1))
    seen[0] = dataclasses.replace(mild, logits=-mild.logits)  # below chance, though less so
    (found,) = turned_over(seen)
    worst = auroc(seen[2])
    assert worst is not None and worst < (auroc(seen[0]) or 0)
    assert "in 2 of 5 fields" in found.text
    assert f"field 2 first: AUROC {worst:.2f}" in found.text


def test_what_works_in_place_holds_no_memory_of_its_own() -> None:
    learner = make_learner(TrainingConfig(device="cpu"), steps_per_epoch=1, model=ModelConfig(depth=1, filters=4))
    rows = {row.name: row.output_bytes for row in layer_memory(learner, torch.zeros(2, 1, 16, 16))}
    assert rows["encoders.0.first_norm"] == rows["encoders.0.first"] > 0
    assert [name for name in rows if name.endswith(("activation", "dropout"))] == []


def test_a_group_of_runs_is_no_run_and_names_its_members(tmp_path: Path) -> None:
    save_config(load(["training.repeats=2"]), tmp_path)
    for folder in (tmp_path, tmp_path / "r0", tmp_path / "r1"):
        folder.mkdir(exist_ok=True)
        Journal.create(folder, name="run", experiment="astrid")
    with pytest.raises(DataError, match=r"is a group of several; give one of its members \(r0, r1\)"):
        read_evidence(tmp_path)


def test_objects_that_lost_their_labels_are_found_as_suspects() -> None:
    fields = [squares(number) for number in range(16)]
    assert contradictory([sure_of(field, field.target) for field in fields]) == []
    kept = np.arange(128) >= 40  # objects to the left of that column lose their labels
    seen = [sure_of(dataclasses.replace(field, target=field.target & kept), field.target) for field in fields]
    (found,) = contradictory(seen)
    assert found.evidence["unlabelled"] >= 10
    assert all(suspect.x < 44 for suspect in agree(seen).suspects)


def test_an_answer_that_is_no_number_is_told_and_judges_no_label(tmp_path: Path) -> None:
    probe = probe_of(tmp_path, [squares(0)], [squares(1)])
    probe.__dict__["answers"] = [
        sure_of(squares(0), squares(0).target),
        seen_with(squares(1), np.full((128, 128), np.nan)),
    ]
    (found,) = not_finite(probe)
    assert found.evidence == {"fields": 0.5}
    assert [one.field.name for one in probe.seen] == ["field 0"]
    probe = dataclasses.replace(probe)
    probe.__dict__["answers"] = [sure_of(squares(0), squares(0).target)]
    assert list(not_finite(probe)) == []


def test_a_layer_of_constant_channels_is_dead_and_single_ones_are_not(tmp_path: Path) -> None:
    probe = probe_of(tmp_path, [squares(0)], [squares(1)])
    dead, alive = (np.zeros(8, np.float32), np.zeros(8, np.float32)), (np.zeros(8, np.float32), np.ones(8, np.float32))
    alive[1][:2] = 0
    probe.__dict__["spans"] = {"encoders.0.first": alive, "encoders.1.first": dead, "encoders.1.second": dead}
    (found,) = dead_units(probe)
    assert "encoders.1.first" in found.text and "encoders.0" not in found.text
    probe.__dict__["spans"] = {"encoders.0.first": alive}
    assert list(dead_units(probe)) == []


def test_a_loss_of_overlap_on_empty_batches_is_told(tmp_path: Path) -> None:
    empty = [dataclasses.replace(squares(number), target=np.zeros((128, 128), bool)) for number in range(9)]
    probe = probe_of(tmp_path, [squares(10), *empty], [squares(11)])
    assert list(imbalance(probe)) == []  # cross-entropy learns from empty tiles, too
    (found,) = imbalance(dataclasses.replace(probe, config=load(["loss=dice"])))
    assert found.evidence["empty_batches"] == pytest.approx(0.9**4)
    unsettled = load(["loss=dice", "data.batch_size=auto"])
    with pytest.raises(ConfigError, match=r"data\.batch_size must be a number here, got 'auto'"):
        list(imbalance(dataclasses.replace(probe, config=unsettled)))


def test_a_network_that_calls_all_negative_is_told(tmp_path: Path) -> None:
    probe = probe_of(tmp_path, [squares(0)], [squares(1)])
    probe.__dict__["seen"] = [seen_with(squares(0), np.full((128, 128), -5.0))]
    (found,) = imbalance(probe)
    assert found.evidence["positive"] == found.evidence["negative"]
    probe.__dict__["seen"] = [sure_of(squares(0), squares(0).target)]
    assert list(imbalance(probe)) == []


def test_a_diagnosis_is_written_as_json_and_figures_in_place_of_the_last(tmp_path: Path) -> None:
    finding = Finding("plateau", "plateau: it is flat", {"gain": math.inf}, "schedule=cosine", Figure())
    folder = write_diagnosis(Diagnosis(tmp_path, "FAILED", [finding], ["units: no checkpoint"]))
    written = json.loads((folder / "diagnosis.json").read_text())
    assert written["findings"][0]["evidence"] == {"gain": None}
    assert (folder / written["findings"][0]["figure"]).is_file()
    assert "turn: schedule=cosine" in as_text(Diagnosis(tmp_path, "FAILED", [finding], []), folder)
    again = dataclasses.replace(finding, text="of the other kind")
    twice = Diagnosis(tmp_path, "FAILED", [finding, again], [])
    folder = write_diagnosis(twice)
    figures = [one["figure"] for one in json.loads((folder / "diagnosis.json").read_text())["findings"]]
    assert figures == ["plateau.png", "plateau-2.png"]
    assert all((folder / name).is_file() and str(folder / name) in as_text(twice, folder) for name in figures)
    write_diagnosis(Diagnosis(tmp_path, "FINISHED", [], []))
    assert [path.name for path in folder.iterdir()] == ["diagnosis.json"]


def test_damaged_norms_are_left_out_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "norms.jsonl"
    norms()[0].append_to(path)
    with path.open("ab") as file:
        file.write(b'\x80\xff\x00 no text\n{"epok": 2}\n[1, 2]\n{"epoch": 3, "grad')
    assert [one.epoch for one in read_norms(path)] == [norms()[0].epoch]
