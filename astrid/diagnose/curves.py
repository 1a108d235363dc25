"""What the curves of losses and scores tell: over-fitting, a plateau, a learning rate that is too high or too low."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from matplotlib.figure import Figure

from astrid.plots import training_curves

from .evidence import Evidence
from .finding import Finding

OVERFIT_RISE = 1.25
"""Over-fitting: how much the last validation losses are above the lowest, as a factor ..."""
OVERFIT_FALL = 0.8
"""... while the training loss fell to this share of what it was where validation was best."""
PLATEAU_EPOCHS = 6
"""Fewer epochs don't make a plateau."""
PLATEAU_GAIN = 0.02
"""Share by which the second half of a run must lower the training loss not to be a plateau."""
BLIND_MARGIN = 2.0
"""A network whose mean loss over an epoch is that many times the one of guessing was thrown off by its steps."""
LEAP = 0.3
"""A single step that changes weights by that share of what they were at first: after three nothing is left of it."""
HIGH_UPDATE = 4e-2
"""A typical step that changes weights by more than this share of them is large ..."""
LOW_UPDATE = 2e-4
"""A typical step that changes weights by less than this share of them is small."""
LITTLE_LEARNED = 0.7
"""Share of the blind loss that is left where little was learned."""


def overfitting(evidence: Evidence) -> Iterator[Finding]:
    """Find a validation loss that rises for good while the training loss goes on falling."""
    train, val = evidence.curve("train/loss"), evidence.curve("val/loss")
    if len(val) < 4 or not np.isfinite(val).all():
        return
    best = int(val.argmin())
    late = float(np.median(val[-3:]))  # of three, since a single epoch may be off
    if best > len(val) - 4 or late < OVERFIT_RISE * val[best] or train[-1] > OVERFIT_FALL * train[best]:
        return
    text = (
        f"over-fitting: val/loss rose to {late / val[best]:.2f} times its lowest, of epoch {best + 1}, while "
        f"train/loss fell to {train[-1] / train[best]:.2f} of what it was there"
    )
    knob = f"training.epochs={best + 1} or training.patience=3; more fields, model.dropout=0.2, a smaller model.filters"
    numbers = {"best_epoch": best + 1.0, "val_loss_rise": late / val[best], "train_loss_fall": train[-1] / train[best]}
    yield Finding("overfitting", text, numbers, knob, curves(evidence))


def plateau(evidence: Evidence) -> Iterator[Finding]:
    """Find a second half that brought nothing: neither a lower training loss nor a better monitor."""
    train, score = evidence.curve("train/loss"), evidence.curve(evidence.config.training.monitor)
    half = len(train) // 2
    if len(train) < PLATEAU_EPOCHS or not np.isfinite(score).all():
        return
    sign = 1 if evidence.config.training.monitor_mode == "max" else -1
    gain = 1 - train[half:].min() / train[:half].min()
    better = (sign * score[half:]).max() > (sign * score[:half]).max()
    if gain > PLATEAU_GAIN or better:
        return
    change = f"lower by {gain:.1%}" if gain >= 0 else f"higher by {-gain:.1%}"
    text = f"plateau: from epoch {half + 1} on neither train/loss ({change}) nor the monitor improved"
    knob = "schedule=cosine or a smaller optimizer.lr; training.patience=3 ends such a run"
    yield Finding("plateau", text, {"since_epoch": half + 1.0, "train_loss_gain": gain}, knob, curves(evidence))


def loss_not_finite(evidence: Evidence) -> Iterator[Finding]:
    """Find a run that its loss ended."""
    if evidence.status != "FAILED" or "loss must be finite" not in (evidence.reason or ""):
        return
    text = f"the loss became infinite or no number: {evidence.reason}"
    yield Finding("loss_not_finite", text, {}, _smaller_rate(evidence), curves(evidence))


def rate_too_high(evidence: Evidence) -> Iterator[Finding]:
    """Find leaps, losses far above that of guessing, where every network starts, or large steps that taught nothing."""
    blind, update, train = evidence.blind_loss, typical_update(evidence), evidence.curve("train/loss")
    if blind is None or len(train) == 0:
        return
    leap = largest_step(evidence)
    leaps = leap is not None and leap >= LEAP
    thrown = float(train.max()) >= BLIND_MARGIN * blind
    restless = update is not None and update >= HIGH_UPDATE and train.min() >= LITTLE_LEARNED * blind
    if not (leaps or thrown or restless):
        return
    text = (
        f"learning rate too high: train/loss was up to {train.max() / blind:.3g} times, and at best "
        f"{train.min() / blind:.0%} of, the {blind:.3g} of guessing the share of positives, where it started"
    )
    text += f"; a step changed weights by {leap:.2g} times what they were at first" if leaps else ""
    yield Finding("learning_rate_high", text, _rates(evidence), _smaller_rate(evidence), curves(evidence, blind=blind))


def rate_too_low(evidence: Evidence) -> Iterator[Finding]:
    """Find steps so small that little was learned."""
    blind, update, train = evidence.blind_loss, typical_update(evidence), evidence.curve("train/loss")
    if blind is None or update is None or len(train) == 0:
        return
    if not 0 < update < LOW_UPDATE or train.min() < LITTLE_LEARNED * blind:
        return
    text = (
        f"learning rate too low: a typical step changes weights by {update:.1e} of them, and train/loss, "
        f"{train.min():.3g}, is still {train.min() / blind:.0%} of that of guessing"
    )
    lr = evidence.config.optimizer.lr
    knob = f"optimizer.lr, which is {lr:g}: `astrid diagnose RUN --range-test` finds one"
    yield Finding("learning_rate_low", text, _rates(evidence), knob, curves(evidence, blind=blind))


def still_falls(evidence: Evidence) -> bool:
    """Tell whether the last validation loss is the lowest, so that more epochs would lower it further."""
    val = evidence.curve("val/loss")
    return len(val) > 1 and bool(val[-1] < val[:-1].min())


def typical_update(evidence: Evidence) -> float | None:
    """Return the change of the weights in a step as a share of them: the median weight, in the epoch of the largest.

    Biases, norms and what never moves are left out; None where nothing was kept.
    """
    medians = []
    for norms in evidence.norms:
        shares = [
            np.median(np.divide(norms.update[name], np.maximum(norms.weight[name], 1e-30)))
            for name in evidence.weights
            if max(norms.update[name]) > 0
        ]
        medians += [float(np.median(shares))] if shares else []
    return max(medians, default=None)


def largest_step(evidence: Evidence) -> float | None:
    """Return the largest change of the weights in a step as a share of what they were at first, of the median weight.

    A rate that is too high blows weights up, and beside those its steps look small; beside the first ones they do not.
    Nor do a warm-up, the length of a run or a loss that is bounded hide it. None where nothing was kept.
    """
    leaps = []
    for norms in evidence.norms:
        shares = [
            np.divide(norms.update[name], max(evidence.norms[0].weight[name][0], 1e-30))
            for name in evidence.weights
            if max(norms.update[name]) > 0
        ]
        leaps += [float(np.median(shares, axis=0).max())] if shares else []
    return max(leaps, default=None)


def curves(evidence: Evidence, *, blind: float | None = None) -> Figure:
    """Draw the run's curves; `blind` is the loss of guessing."""
    figure = training_curves(evidence.history, score=evidence.config.training.monitor)
    if blind is not None:
        axes = figure.axes[0]
        guess = axes.axhline(blind, color="black", linestyle="--", linewidth=1, label="guessing the share of positives")
        axes.set_yscale("log")
        axes.legend(handles=[guess], fontsize=7)
    return figure


def _rates(evidence: Evidence) -> dict[str, float]:
    """Return the numbers by which a learning rate is judged, those that are known."""
    train, update, blind = evidence.curve("train/loss"), typical_update(evidence), evidence.blind_loss
    numbers = {"learning_rate": evidence.config.optimizer.lr, "typical_update": update, "blind_loss": blind}
    numbers |= {"largest_step": largest_step(evidence)}
    numbers |= {"lowest_train_loss": float(train.min()), "highest_train_loss": float(train.max())}
    return {name: value for name, value in numbers.items() if value is not None}


def _smaller_rate(evidence: Evidence) -> str:
    lr = evidence.config.optimizer.lr
    return f"optimizer.lr, which is {lr:g}: `astrid diagnose RUN --range-test` finds one; schedule.warmup_epochs=1"
