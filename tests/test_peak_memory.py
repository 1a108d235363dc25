"""The memory of a pass is that of the tensors it holds at once, whatever the process held before."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from astrid.config.compose import load
from astrid.metrics.peak_memory import peak_bytes
from astrid.unet import build_unet

MEBI = 2**20


class Steps(nn.Module):
    """Makes tensors as large as its input, of which it holds at most three at once."""

    def forward(self, image: Tensor) -> Tensor:
        one = image + 1
        two = one * 2
        del one
        three, four = two + 1, two + 2
        del two
        return torch.cat([three, four])


def test_the_peak_of_a_pass_worked_by_hand() -> None:
    image = torch.zeros(1, 1, 512, 512)  # 1 MiB
    assert peak_bytes(Steps(), image) == pytest.approx(4 * MEBI, abs=0.01 * MEBI)  # three, four and both together


def test_what_the_process_held_before_does_not_count() -> None:
    image = torch.zeros(1, 1, 512, 512)
    ballast = [torch.ones(1, 64, 512, 512) for _ in range(2)]
    alone = peak_bytes(Steps(), image)
    del ballast
    assert alone == peak_bytes(Steps(), image)


def test_the_peak_of_a_network_grows_in_proportion_to_its_batch() -> None:
    model = build_unet(load(["model=unet_small"]).model, channels=3, stretch="arcsinh", prior=0.01)
    one, four = (peak_bytes(model, torch.zeros(batch, 3, 64, 64)) for batch in (1, 4))
    assert 3.9 < four / one < 4.1
    assert model.training


@pytest.mark.gpu
def test_a_gpu_and_the_cpu_need_about_the_same() -> None:
    image = torch.zeros(1, 1, 512, 512)
    assert peak_bytes(Steps(), image.cuda()) == pytest.approx(peak_bytes(Steps(), image), rel=0.1)
