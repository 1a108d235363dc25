"""Knobs of the U-Net family."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .auto import Auto
from .checks import check


@dataclass
class ModelConfig:
    """A U-Net: `depth` poolings, `filters` channels at full resolution, doubled at each level."""

    depth: int | Auto = 3
    """Number of 2×2 poolings, 1 to 6: the bottleneck sees the tile shrunk by 2**depth. `auto`: what objects need."""
    filters: int | Auto = 16
    """Channels of the first level, 4 to 128; level k has filters × 2**k. `auto`: what data and device can bear."""
    norm: Literal["batch", "group", "instance", "none"] = "batch"
    """Normalisation after each convolution."""
    activation: Literal["relu", "leaky_relu", "gelu", "silu"] = "relu"
    """Non-linearity after each normalisation."""
    dropout: float = 0.0
    """Probability of dropping a whole feature channel at the end of each block, 0 to 1 (exclusive)."""
    residual: bool = False
    """Add each block's input to its output through a 1×1 convolution (He et al. 2016, arXiv:1512.03385)."""
    attention: bool = False
    """Gate the skip connections by attention (Oktay et al. 2018, arXiv:1804.03999)."""
    upsampling: Literal["transposed", "bilinear"] = "transposed"
    """How the decoder doubles the resolution: learned transposed convolution or bilinear plus 1×1."""
    deep_supervision: bool = False
    """Also train coarser decoder levels, with weights 1, 1/2, 1/4, ... (Lee et al. 2015, arXiv:1409.5185)."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""
    test_time_augmentation: bool = False
    """Outside training, average the logits over all flips and quarter turns: steadier, for eight times the work."""

    def __post_init__(self) -> None:
        fits = self.depth == "auto" or 1 <= self.depth <= 6
        check(fits, "model.depth", self.depth, "from 1 to 6", "try model.depth=3")
        fits = self.filters == "auto" or 4 <= self.filters <= 128
        check(fits, "model.filters", self.filters, "from 4 to 128", "try model.filters=16")
        check(0 <= self.dropout < 1, "model.dropout", self.dropout, "at least 0 and below 1", "try model.dropout=0.1")
