"""Losses over the valid pixels of a batch; what lies under the mask has no value and no gradient."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from astrid.config import BCEDiceLoss, BCELoss, DiceLoss, FocalLoss, LossConfig, TverskyLoss

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(logits, target, valid) to a scalar."""


def build_loss(config: LossConfig) -> Loss:
    """Return the loss that `config` names.

    Returns
    -------
    Loss
        A function of logits, (B, K, H, W); target, (B, 1, H, W) bool, True = positive; and valid, (B, 1, H, W) bool,
        True = pixel that counts. It returns the mean over the valid pixels, a float32 scalar (float64 for float64
        logits), and 0 with zero gradients where there is none. The K answers of deep supervision weigh 1, 1/2,
        1/4, ..., normalised to 1 (Lee et al. 2015, arXiv:1409.5185).
    """
    return partial(_over_answers, _single(config))


def binary_cross_entropy(logits: Tensor, target: Tensor, valid: Tensor, *, positive_weight: float = 1.0) -> Tensor:
    """Mean of -w y log p - (1 - y) log(1 - p) over the valid pixels, with w the weight of positives."""
    weight = logits.new_tensor(positive_weight)
    losses = F.binary_cross_entropy_with_logits(logits, target.to(logits), pos_weight=weight, reduction="none")
    return _mean(losses, valid)


def focal(logits: Tensor, target: Tensor, valid: Tensor, *, gamma: float, alpha: float) -> Tensor:
    """Mean of -a (1 - q)**gamma log q over the valid pixels (Lin et al. 2017, arXiv:1708.02002, equation 5).

    q is the probability given to the pixel's true class; a is `alpha` on positives and 1 - `alpha` on negatives.
    """
    towards_truth = torch.where(target, logits, -logits)
    positive = target.to(logits)
    balance = alpha * positive + (1 - alpha) * (1 - positive)
    # (1 - q)**gamma from its logarithm: the power has an infinite derivative at q = 1 when gamma < 1
    easiness = torch.exp(gamma * F.logsigmoid(-towards_truth))
    return _mean(-balance * easiness * F.logsigmoid(towards_truth), valid)


def tversky(
    logits: Tensor,
    target: Tensor,
    valid: Tensor,
    *,
    false_positive_weight: float = 0.5,
    false_negative_weight: float = 0.5,
    smooth: float = 1.0,
) -> Tensor:
    """One minus the soft Tversky index of all valid pixels of the batch (Salehi et al. 2017, arXiv:1706.05721).

    The index is (TP + s) / (TP + a FP + b FN + s), with soft counts: sums of probabilities. With a = b = 1/2 it is
    the soft Dice coefficient (Milletari et al. 2016, arXiv:1606.04797).
    """
    probability = torch.sigmoid(logits) * valid
    positive = (target & valid).to(logits)
    hits = (probability * positive).sum()
    false_positives = probability.sum() - hits
    false_negatives = positive.sum() - hits
    errors = false_positive_weight * false_positives + false_negative_weight * false_negatives
    return 1 - (hits + smooth) / (hits + errors + smooth)


def _single(config: LossConfig) -> Loss:
    """Loss of one answer, (B, 1, H, W)."""
    match config:
        case BCEDiceLoss():
            return partial(_bce_dice, config=config)
        case BCELoss():
            return partial(binary_cross_entropy, positive_weight=config.positive_weight)
        case FocalLoss():
            return partial(focal, gamma=config.gamma, alpha=config.alpha)
        case TverskyLoss():
            return partial(
                tversky,
                false_positive_weight=config.false_positive_weight,
                false_negative_weight=config.false_negative_weight,
                smooth=config.smooth,
            )
        case DiceLoss():
            return partial(tversky, smooth=config.smooth)
    raise TypeError(f"no loss for {type(config).__name__}")


def _bce_dice(logits: Tensor, target: Tensor, valid: Tensor, *, config: BCEDiceLoss) -> Tensor:
    cross_entropy = binary_cross_entropy(logits, target, valid, positive_weight=config.positive_weight)
    return cross_entropy + config.dice_weight * tversky(logits, target, valid, smooth=config.smooth)


def _over_answers(loss: Loss, logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Weighted mean of a loss over the answers of deep supervision, the first the finest."""
    expected = (logits.shape[0], 1, *logits.shape[2:])
    if not target.shape == valid.shape == expected:  # or broadcasting would pair each image with every target
        got = f"target {tuple(target.shape)} and valid {tuple(valid.shape)}"
        raise ValueError(f"target and valid must have the shape {expected} of one answer, got {got}")
    exact = logits.to(torch.promote_types(logits.dtype, torch.float32))
    answers = torch.split(exact.masked_fill(~valid, 0.0), 1, dim=1)  # K of (B, 1, H, W)
    weights = [0.5**level for level in range(len(answers))]
    losses = [weight * loss(answer, target, valid) for weight, answer in zip(weights, answers, strict=True)]
    return torch.stack(losses).sum() / sum(weights)


def _mean(losses: Tensor, valid: Tensor) -> Tensor:
    return (losses * valid).sum() / valid.sum().clamp(min=1)
