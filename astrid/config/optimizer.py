"""Knobs of the optimizers, one dataclass per choice of the group."""

from __future__ import annotations

from dataclasses import dataclass, field

from .checks import check


@dataclass
class OptimizerConfig:
    """What every optimizer has."""

    lr: float = 3e-3
    """Peak learning rate; the schedule multiplies it."""
    weight_decay: float = 0.0
    """Weight decay (decoupled for AdamW, L2 penalty otherwise); not applied to biases and norms."""

    def __post_init__(self) -> None:
        check(self.lr > 0, "optimizer.lr", self.lr, "positive", "try optimizer.lr=0.003")
        check(self.weight_decay >= 0, "optimizer.weight_decay", self.weight_decay, "at least 0", "try 0.01")


@dataclass
class AdamConfig(OptimizerConfig):
    """Adam (Kingma and Ba 2015, arXiv:1412.6980)."""

    betas: list[float] = field(default_factory=lambda: [0.9, 0.999])
    """Decay rates of the running mean and the running square of the gradient, each in [0, 1)."""
    eps: float = 1e-8
    """Added to the denominator for numerical stability."""

    def __post_init__(self) -> None:
        super().__post_init__()
        valid = len(self.betas) == 2 and all(0 <= beta < 1 for beta in self.betas)
        check(valid, "optimizer.betas", list(self.betas), "two numbers in [0, 1)", "try optimizer.betas=[0.9,0.999]")
        check(self.eps > 0, "optimizer.eps", self.eps, "positive", "try optimizer.eps=1e-8")


@dataclass
class AdamWConfig(AdamConfig):
    """AdamW: Adam with decoupled weight decay (Loshchilov and Hutter 2019, arXiv:1711.05101)."""

    weight_decay: float = 0.01


@dataclass
class SGDConfig(OptimizerConfig):
    """Stochastic gradient descent with momentum."""

    lr: float = 0.05
    momentum: float = 0.9
    """Share of the previous step that is kept, in [0, 1)."""
    nesterov: bool = False
    """Look ahead along the momentum before taking the gradient; needs momentum."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(0 <= self.momentum < 1, "optimizer.momentum", self.momentum, "in [0, 1)", "try 0.9")
        if self.nesterov:
            rule = "positive when optimizer.nesterov is true"
            check(self.momentum > 0, "optimizer.momentum", self.momentum, rule, "try optimizer.momentum=0.9")
