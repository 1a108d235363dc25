"""Claims about the masked losses."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from astrid.config import BCEDiceLoss, BCELoss, DiceLoss, FocalLoss, LossConfig, TverskyLoss
from astrid.losses import build_loss

CONFIGS = [BCELoss(positive_weight=3.0), DiceLoss(), FocalLoss(), FocalLoss(gamma=0.5), TverskyLoss(), BCEDiceLoss()]
every_loss = pytest.mark.parametrize("config", CONFIGS, ids=lambda config: repr(config))


@pytest.fixture(autouse=True)
def _repeatable():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


def batch(*, answers: int = 1, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, target and valid of two images of 5×7 pixels, a third positive and a quarter masked."""
    logits = 3 * torch.randn(2, answers, 5, 7, dtype=dtype)
    return logits, torch.rand(2, 1, 5, 7) < 0.33, torch.rand(2, 1, 5, 7) > 0.25


def square(rows: list[list[float]]) -> Tensor:
    return torch.tensor(rows)[None, None]


TARGET = square([[1, 0, 0], [0, 1, 0], [0, 0, 1]]).bool()
VALID = square([[1, 1, 1], [1, 1, 0], [1, 0, 0]]).bool()  # 6 pixels, 2 of them positive
LOGITS = square([[math.log(3.0)] * 3] * 3)  # probability 3/4 everywhere


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (BCELoss(), (2 * math.log(4 / 3) + 4 * math.log(4)) / 6),
        (BCELoss(positive_weight=5.0), (10 * math.log(4 / 3) + 4 * math.log(4)) / 6),
        (FocalLoss(gamma=2.0, alpha=0.75), (2 * 0.75 / 16 * math.log(4 / 3) + 4 * 0.25 * 9 / 16 * math.log(4)) / 6),
        # hits 1.5, false positives 3, false negatives 0.5
        (DiceLoss(smooth=1.0), 1 - 2.5 / (1.5 + 0.5 * 3.5 + 1)),
        (TverskyLoss(false_positive_weight=0.2, false_negative_weight=0.8, smooth=2.0), 1 - 3.5 / (1.5 + 1.0 + 2)),
        (
            BCEDiceLoss(dice_weight=2.0),
            (2 * math.log(4 / 3) + 4 * math.log(4)) / 6 + 2 * (1 - 2.5 / (1.5 + 0.5 * 3.5 + 1)),
        ),
    ],
    ids=repr,
)
def test_three_by_three_pixels_worked_by_hand(config, expected):
    assert build_loss(config)(LOGITS, TARGET, VALID).item() == pytest.approx(expected, rel=1e-6)


def test_cross_entropy_is_torchs_over_the_valid_pixels():
    logits, target, valid = batch()
    expected = F.binary_cross_entropy_with_logits(
        logits[valid], target[valid].float(), pos_weight=torch.tensor(3.0), reduction="mean"
    )
    torch.testing.assert_close(build_loss(BCELoss(positive_weight=3.0))(logits, target, valid), expected)


def test_focal_without_focus_is_half_the_cross_entropy():
    images = batch()
    focal = build_loss(FocalLoss(gamma=0.0, alpha=0.5))(*images)
    torch.testing.assert_close(focal, 0.5 * build_loss(BCELoss())(*images))


def test_tversky_with_equal_prices_is_dice():
    images = batch()
    equal = TverskyLoss(false_positive_weight=0.5, false_negative_weight=0.5)
    torch.testing.assert_close(build_loss(equal)(*images), build_loss(DiceLoss())(*images))


def test_dice_of_a_perfect_answer_is_zero_and_of_its_opposite_nearly_one():
    _, target, valid = batch()
    certain = torch.where(target, 100.0, -100.0)
    dice = build_loss(DiceLoss(smooth=1e-3))
    assert dice(certain, target, valid).item() == pytest.approx(0, abs=1e-6)
    assert dice(-certain, target, valid).item() == pytest.approx(1, abs=1e-3)


@every_loss
@pytest.mark.parametrize("answers", [1, 3])
def test_gradients_are_those_of_the_value(config, answers):
    logits, target, valid = (images[..., :2, :3] for images in batch(answers=answers, dtype=torch.float64))
    loss = build_loss(config)
    assert torch.autograd.gradcheck(lambda logits: loss(logits, target, valid), logits.clone().requires_grad_())


@every_loss
@pytest.mark.parametrize("junk", [1e4, -1e30, math.nan, math.inf, -math.inf])
def test_what_lies_under_the_mask_changes_no_bit_of_value_or_gradient(config, junk):
    logits, target, valid = batch(answers=2)
    spoilt = torch.where(valid, logits, junk)
    results = []
    for pixels, truth in ((logits, target), (spoilt, target ^ ~valid)):
        pixels = pixels.clone().requires_grad_()
        value = build_loss(config)(pixels, truth, valid)
        (gradient,) = torch.autograd.grad(value, pixels)
        assert (gradient[~valid.expand_as(gradient)] == 0).all()
        assert (gradient[valid.expand_as(gradient)] != 0).all()
        results.append((value, gradient))
    torch.testing.assert_close(results[1], results[0], rtol=0, atol=0)


@every_loss
def test_a_batch_without_a_valid_pixel_weighs_nothing(config):
    logits, target, valid = batch(answers=2)
    logits.requires_grad_()
    value = build_loss(config)(logits, target, torch.zeros_like(valid))
    (gradient,) = torch.autograd.grad(value, logits)
    assert value.item() == 0
    assert (gradient == 0).all()


@every_loss
@pytest.mark.parametrize("certainty", [100.0, -100.0, 1e4])
def test_certain_logits_have_finite_values_and_gradients(config, certainty):
    _, target, valid = batch()
    logits = torch.where(target, certainty, -certainty).requires_grad_()
    value = build_loss(config)(logits, target, valid)
    (gradient,) = torch.autograd.grad(value, logits)
    assert value.isfinite()
    assert gradient.isfinite().all()


@every_loss
def test_a_better_answer_costs_less(config):
    logits, target, valid = batch()
    better = logits + torch.where(target, 1.0, -1.0)
    loss = build_loss(config)
    assert loss(better, target, valid) < loss(logits, target, valid)


@every_loss
def test_deep_answers_weigh_one_half_quarter(config):
    logits, target, valid = batch(answers=3)
    loss = build_loss(config)
    single = [loss(logits[:, [level]], target, valid) for level in range(3)]
    expected = (single[0] + single[1] / 2 + single[2] / 4) / 1.75
    torch.testing.assert_close(loss(logits, target, valid), expected)


@every_loss
def test_half_precision_logits_are_judged_in_float32(config):
    logits, target, valid = batch()
    half = logits.bfloat16()
    value = build_loss(config)(half, target, valid)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, build_loss(config)(half.float(), target, valid), rtol=0, atol=0)


def test_shapes_that_would_broadcast_are_refused():
    logits, target, valid = batch()
    with pytest.raises(ValueError, match=r"shape \(2, 1, 5, 7\)"):
        build_loss(BCELoss())(logits, target[:, 0], valid)


def test_the_base_of_the_losses_is_none():
    with pytest.raises(TypeError, match="no loss for LossConfig"):
        build_loss(LossConfig())
