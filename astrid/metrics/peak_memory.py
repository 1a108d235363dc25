"""The memory that a forward pass needs on top of the weights and its input."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

Autocast = Callable[[], AbstractContextManager[object]]


def peak_bytes(model: nn.Module, example: Tensor, *, autocast: Autocast = nullcontext) -> int:
    """Run one forward pass in evaluation mode and return the most bytes that its tensors held at once.

    On CUDA this is what torch's allocator reports. On the CPU it is summed up from every allocation and release that
    torch's profiler sees; the resident set would not tell, since it also holds what earlier work left. What libraries
    allocate behind torch's back is in neither.

    Parameters
    ----------
    model : nn.Module
    example : (B, C, H, W) Tensor
        Batch on the model's device.
    autocast : callable
        Makes the context that sets the precision.
    """
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode(), autocast():
            model(example)  # what is made once, such as a choice of algorithm, is no part of a pass
            return _on_cuda(model, example) if example.device.type == "cuda" else _on_cpu(model, example)
    finally:
        model.train(was_training)


def _on_cuda(model: nn.Module, example: Tensor) -> int:
    torch.cuda.synchronize(example.device)
    torch.cuda.reset_peak_memory_stats(example.device)
    before = torch.cuda.memory_allocated(example.device)
    model(example)
    torch.cuda.synchronize(example.device)
    return torch.cuda.max_memory_allocated(example.device) - before


def _on_cpu(model: nn.Module, example: Tensor) -> int:
    silence_profiler()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        model(example)
    events = [event for event in recorded.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return most


def silence_profiler() -> None:
    """Keep torch's profiler from writing to the terminal that it starts and stops; what fails is raised."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
