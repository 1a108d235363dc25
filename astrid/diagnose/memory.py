"""What each layer holds in a training step: its output, which the backward pass needs; its weights with their state."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from astrid.learner import Learner

MEBIBYTE = 2**20


@dataclass(frozen=True)
class LayerMemory:
    """Bytes of a layer: what it puts out for a batch, and its weights, gradients and optimizer state."""

    name: str
    output_bytes: int
    weight_bytes: int


def layer_memory(learner: Learner, image: Tensor) -> list[LayerMemory]:
    """Measure every layer that has no layers of its own, the largest first.

    Parameters
    ----------
    learner : Learner
        That has taken a step, so that its optimizer has its state.
    image : (B, C, T, T) Tensor
        A batch on the device.
    """
    leaves = {name: module for name, module in learner.model.named_modules() if not list(module.children())}
    outputs = dict.fromkeys(leaves, 0)
    kept: dict[int, Tensor] = {}  # by their place in memory, which none gives up before all have been counted

    def note(name: str, output: Tensor) -> None:
        place = output.untyped_storage().data_ptr()
        if place not in kept:  # what works in place holds nothing of its own
            outputs[name] += output.nbytes
        kept[place] = output

    handles = [
        module.register_forward_hook(lambda module, inputs, output, name=name: note(name, output))
        for name, module in leaves.items()
    ]
    try:
        with learner.runtime.autocast():
            learner.model(image)
    finally:
        for handle in handles:
            handle.remove()
    rows = [LayerMemory(name, outputs[name], _held(learner, module)) for name, module in leaves.items()]
    held = (row for row in rows if row.output_bytes or row.weight_bytes)
    return sorted(held, key=lambda row: -(row.output_bytes + row.weight_bytes))


def memory_table(rows: Sequence[LayerMemory]) -> list[str]:
    """Return the lines of a table."""
    title = "memory of a step by layer: output for the batch; weights, gradients and optimizer state"
    lines = (
        f"  {row.output_bytes / MEBIBYTE:8.2f} MiB {row.weight_bytes / MEBIBYTE:8.2f} MiB  {row.name}" for row in rows
    )
    return [title, *lines]


def _held(learner: Learner, module: nn.Module) -> int:
    """Return the bytes of a layer's parameters, of gradients as large, and of the optimizer's state."""
    state = learner.optimizer.state
    return sum(2 * weight.nbytes + _state_bytes(state[weight].values()) for weight in module.parameters())


def _state_bytes(values: Iterable[object]) -> int:
    return sum(value.nbytes for value in values if isinstance(value, Tensor))
