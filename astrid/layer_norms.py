"""Norms of gradients, weights and updates by parameter, taken in a few steps of each epoch and kept in the run folder.

The device is never waited for: norms stay on it until the epoch is over, when its loss is read anyway.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

NORMS_FILE = "norms.jsonl"
DIGITS = 4
"""Significant digits that are kept."""


@dataclass(frozen=True)
class EpochNorms:
    """Euclidean norms by name of a parameter, one number for each step that was looked at.

    Attributes
    ----------
    epoch : int
    gradient : dict of list of float or None
        Of the gradient before clipping; None where a parameter has none, as one that needs none.
    weight : dict of list of float
        Of the parameter before the step.
    update : dict of list of float
        Of what the step changed in it.
    """

    epoch: int
    gradient: dict[str, list[float | None]] = field(default_factory=dict)
    weight: dict[str, list[float]] = field(default_factory=dict)
    update: dict[str, list[float]] = field(default_factory=dict)

    def append_to(self, path: Path) -> None:
        """Write a line of JSON."""
        kinds = {kind: _rounded(getattr(self, kind)) for kind in ("gradient", "weight", "update")}
        with path.open("a") as file:
            file.write(json.dumps({"epoch": self.epoch} | kinds) + "\n")


def read_norms(path: Path) -> list[EpochNorms]:
    """Return the norms of every epoch, of a repeated one the last; none where the run kept none.

    A line that a killed run cut short, or that is damaged, is left out.
    """
    found: dict[int, EpochNorms] = {}
    for line in path.read_bytes().splitlines() if path.is_file() else []:
        try:
            norms = EpochNorms(**json.loads(line))
        except (ValueError, TypeError):  # no text, no JSON, or no norms
            continue
        found[norms.epoch] = norms
    return list(found.values())


class NormLog:
    """Take the norms in `samples` steps of an epoch, evenly spread.

    Parameters
    ----------
    model : nn.Module
    samples : int
        Steps an epoch to look at; 0 takes none.
    steps : int
        Steps of an epoch.
    """

    def __init__(self, model: nn.Module, *, samples: int, steps: int) -> None:
        self.named = dict(model.named_parameters())
        self.looked_at = {number * steps // samples for number in range(samples)}
        self._step = 0
        self._weights: list[Tensor] = []
        self._gradient = torch.empty(0)
        self._taken: list[tuple[Tensor, Tensor, Tensor]] = []
        self._missing: list[list[bool]] = []

    @torch.no_grad()
    def before_step(self) -> None:
        """Look at the gradients, not yet clipped, and keep the weights, if it is this step's turn."""
        if self._step in self.looked_at:
            self._weights = [weight.clone() for weight in self.named.values()]
            self._gradient = _norms([_gradient(weight) for weight in self.named.values()])
            self._missing.append([weight.grad is None for weight in self.named.values()])
        self._step += 1

    @torch.no_grad()
    def after_step(self) -> None:
        """Look at what the step changed."""
        if self._weights:
            changes = [now - before for now, before in zip(self.named.values(), self._weights, strict=True)]
            self._taken.append((self._gradient, _norms(self._weights), _norms(changes)))
            self._weights = []

    def settle(self, epoch: int) -> EpochNorms | None:
        """Return what an epoch's steps showed and begin anew; None where nothing was taken."""
        taken, missing = self._taken, zip(*self._missing, strict=True)
        self._taken, self._missing, self._step = [], [], 0
        if not taken:
            return None
        kinds = [torch.stack(norms).T.tolist() for norms in zip(*taken, strict=True)]
        kinds[0] = [_where_there(norms, absent) for norms, absent in zip(kinds[0], missing, strict=True)]
        return EpochNorms(epoch, *(dict(zip(self.named, values, strict=True)) for values in kinds))


def _gradient(weight: nn.Parameter) -> Tensor:
    return torch.zeros_like(weight) if weight.grad is None else weight.grad


def _where_there(norms: Sequence[float], absent: Sequence[bool]) -> list[float | None]:
    """Return a parameter's norms, None in the steps in which it had no gradient."""
    return [None if gone else norm for norm, gone in zip(norms, absent, strict=True)]


def _norms(tensors: list[Tensor]) -> Tensor:
    """Return the norm of each tensor, (N,) float32 on the device."""
    return torch.stack([torch.linalg.vector_norm(tensor.float()) for tensor in tensors])


def _rounded(norms: Mapping[str, Sequence[float | None]]) -> dict[str, list[float | None]]:
    return {name: [_digits(norm) for norm in own] for name, own in norms.items()}


def _digits(norm: float | None) -> float | None:
    return None if norm is None else float(f"{norm:.{DIGITS}g}")
