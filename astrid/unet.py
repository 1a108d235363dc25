"""The U-Net family (Ronneberger et al. 2015, arXiv:1505.04597): image in background sigma in, logits out."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from astrid.config import ConfigError, ModelConfig, settled
from astrid.config.checks import check

HE_GAIN = math.sqrt(2)
"""Keeps the variance from layer to layer behind a rectifier; GELU and SiLU are close enough to one at any depth."""


def build_unet(config: ModelConfig, *, channels: int, stretch: Literal["arcsinh", "linear"], prior: float) -> UNet:
    """Build a U-Net whose first answer everywhere is the prior of the positive class.

    Parameters
    ----------
    config : ModelConfig
        Its shape.
    channels : int
        Channels of the image.
    stretch : "arcsinh" or "linear"
        What the network does first to its input; arcsinh is linear in the noise, logarithmic on bright stars.
    prior : float
        Share of positive pixels in the training data, in (0, 1).

    Returns
    -------
    UNet
        With He-initialised convolutions [1]_ and output biases of log(prior / (1 - prior)) [2]_.

    References
    ----------
    .. [1] He et al. 2015, arXiv:1502.01852
    .. [2] Lin et al. 2017, arXiv:1708.02002, section 4.1
    """
    check(channels >= 1, "channels", channels, "at least 1", "give the number of image channels")
    check(0 < prior < 1, "prior", prior, "in (0, 1)", "train on fields that hold both positive and negative pixels")
    network = UNet(config, channels=channels, stretch=stretch)
    _initialise(network)
    for head in network.heads:
        assert isinstance(head, nn.Linear)
        nn.init.normal_(head.weight, std=0.01)  # small, so that the bias speaks first
        nn.init.constant_(head.bias, math.log(prior / (1 - prior)))
    return network


class UNet(nn.Module):
    """U-Net for images of any size.

    `forward` takes an image, (B, C, H, W) float32 in background sigma, and returns logits, (B, 1, H, W) float32.
    In training with `deep_supervision` it returns (B, depth, H, W): channel 0 is the output, then come the logits
    of ever coarser decoder levels. In evaluation with `test_time_augmentation` the logits are the mean of those of the
    eight orientations, each turned back.
    """

    eightfold = False  # networks pickled by earlier versions lack it

    def __init__(self, config: ModelConfig, *, channels: int, stretch: Literal["arcsinh", "linear"]) -> None:
        super().__init__()
        self.depth = settled("model.depth", config.depth)
        filters = settled("model.filters", config.filters)
        widths = [filters * 2**level for level in range(self.depth + 1)]
        outputs = self.depth if config.deep_supervision else 1
        self.stretch = stretch
        self.recompute = config.gradient_checkpointing
        self.eightfold = config.test_time_augmentation
        self.encoders = nn.ModuleList(Block(config, *pair) for pair in zip([channels, *widths], widths, strict=False))
        self.decoders = nn.ModuleList(UpBlock(config, width) for width in widths[-2::-1])
        self.heads = nn.ModuleList(nn.Linear(width, 1) for width in widths[:outputs])

    def forward(self, image: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        if self.training:
            self._refuse_small(height, width)
        # stretched in float32, whatever autocast does: a bright star's wings need more than bfloat16's 8 bits
        features = _arcsinh(image.float()) if self.stretch == "arcsinh" else image.float()
        features = _pad_to_multiple(features, 2**self.depth)
        logits = self._mean_logits(features) if self.eightfold and not self.training else self._logits(features)
        return logits[..., :height, :width]

    def _mean_logits(self, features: Tensor) -> Tensor:
        """Average over the orientations of what is already padded, so that the pooling grid is turned with the sky."""
        return (self._mean_of_turns(features) + self._mean_of_turns(features.flip(-1)).flip(-1)) / 2

    def _mean_of_turns(self, features: Tensor) -> Tensor:
        plane = (-2, -1)
        turns = (torch.rot90(self._logits(torch.rot90(features, k, plane)), -k, plane) for k in range(4))
        return torch.stack(list(turns)).mean(dim=0)

    def _logits(self, features: Tensor) -> Tensor:
        """Return logits, (B, 1 or depth, H, W), of a padded image."""
        levels = self._decode(self._encode(features))
        heads = self.heads if self.training else self.heads[:1]
        logits = [_logits(head, level, features.shape[-2:]) for head, level in zip(heads, levels, strict=False)]
        return torch.cat(logits, dim=1)

    def _encode(self, features: Tensor) -> list[Tensor]:
        """Run the contracting path; returns one map a level, finest first, the bottleneck last."""
        levels = [self._run(self.encoders[0], features)]  # (B, F, H, W)
        for encoder in list(self.encoders)[1:]:
            levels.append(self._run(encoder, F.max_pool2d(levels[-1], 2)))  # (B, F * 2**k, H / 2**k, W / 2**k)
        return levels

    def _decode(self, skips: list[Tensor]) -> list[Tensor]:
        """Run the expanding path; returns the decoder's maps, finest first."""
        levels = [skips[-1]]
        for decoder, skip in zip(self.decoders, skips[-2::-1], strict=True):
            levels.append(self._run(decoder, levels[-1], skip))
        return levels[:0:-1]

    def _run(self, block: nn.Module, *inputs: Tensor) -> Tensor:
        if self.recompute and self.training:
            return _recomputed(block, *inputs)
        result: Tensor = block(*inputs)
        return result

    def _refuse_small(self, height: int, width: int) -> None:
        smallest = 2**self.depth + 1
        if min(height, width) < smallest:
            rule = f"trains on at least {smallest}×{smallest} pixels, so that its bottleneck has 2×2"
            remedy = f"try data.tile_size={2 * 2**self.depth} or a smaller model.depth"
            raise ConfigError(f"a U-Net of model.depth={self.depth} {rule}, got {height}×{width}; {remedy}")


class Block(nn.Module):
    """Two 3×3 convolutions, each normalised and activated: (B, inputs, H, W) to (B, outputs, H, W)."""

    def __init__(self, config: ModelConfig, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = _conv3x3(config, inputs, outputs)
        self.first_norm = _norm(config, outputs)
        self.second = _conv3x3(config, outputs, outputs)
        self.second_norm = _norm(config, outputs)
        self.shortcut = nn.Conv2d(inputs, outputs, 1) if config.residual else None
        self.activation = _activation(config)
        self.dropout = nn.Dropout2d(config.dropout)

    def forward(self, features: Tensor) -> Tensor:
        result = self.activation(self.first_norm(self.first(features)))
        result = self.second_norm(self.second(result))
        if self.shortcut is not None:
            result = result + self.shortcut(features)
        dropped: Tensor = self.dropout(self.activation(result))
        return dropped

    @torch.no_grad()
    def share_variance(self) -> None:
        """Give both terms of a residual sum half its variance, which would otherwise double in every block."""
        if self.shortcut is not None:
            for weight in (self.second.weight, self.shortcut.weight):
                weight.mul_(math.sqrt(0.5))


class UpBlock(nn.Module):
    """Double the resolution, join the skip connection and run a block.

    From (B, 2F, H, W) and a skip connection of (B, F, 2H, 2W) to (B, F, 2H, 2W).
    """

    def __init__(self, config: ModelConfig, width: int) -> None:
        super().__init__()
        self.upsample = _upsampling(config, width)
        self.gate = AttentionGate(width) if config.attention else None
        self.block = Block(config, 2 * width, width)

    def forward(self, coarse: Tensor, skip: Tensor) -> Tensor:
        upsampled = self.upsample(coarse)  # (B, F, 2H, 2W)
        if self.gate is not None:
            skip = self.gate(skip, upsampled)
        result: Tensor = self.block(torch.cat([skip, upsampled], dim=1))  # (B, 2F, 2H, 2W) inside
        return result


class AttentionGate(nn.Module):
    """Weigh each pixel of a skip connection by what the decoder sees there (Oktay et al. 2018, arXiv:1804.03999)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = max(1, width // 2)
        self.from_skip = nn.Conv2d(width, hidden, 1)
        self.from_decoder = nn.Conv2d(width, hidden, 1, bias=False)
        self.weight = nn.Conv2d(hidden, 1, 1)

    def forward(self, skip: Tensor, decoder: Tensor) -> Tensor:
        joint = F.relu(self.from_skip(skip) + self.from_decoder(decoder), inplace=True)
        weight: Tensor = torch.sigmoid(self.weight(joint))  # (B, 1, H, W)
        return skip * weight


def receptive_field_pixels(config: ModelConfig) -> int:
    """Edge of the square of input pixels, centred on a logit, outside which nothing can change it.

    A diameter: logits at least this far apart share no input pixel. Group and instance norm, which see the mean and
    variance of the whole image, are not counted.
    """
    cell: int = 2 ** settled("model.depth", config.depth)  # edge of a bottleneck pixel
    convolutions = 2 * cell + 4 * (cell - 1)  # twice 3×3 in the bottleneck, and in every level down and up
    pooling = cell - 1  # from one edge of a cell to the other
    interpolation = cell - 1 if config.upsampling == "bilinear" else 0
    return 2 * (convolutions + pooling + interpolation) + 1


def parameter_count(network: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


def _arcsinh(image: Tensor) -> Tensor:
    # torch.asinh isn't vectorised on a CPU: three times slower than this, 15 % of a forward pass
    size = image.abs()
    return torch.log1p(size + size * (size / (1 + torch.sqrt(size * size + 1)))).copysign(image)


def _pad_to_multiple(features: Tensor, step: int) -> Tensor:
    """Add sky on the right and below up to a multiple of `step`, at least twice it.

    Zero is the sky's level and what the convolutions pad with: it invents no source, where mirroring doubles those
    at the edge and repeating draws trails. Two steps, because instance norm needs more than one pixel.
    """
    height, width = features.shape[-2:]
    down, right = (max(2 * step, size + -size % step) - size for size in (height, width))
    return F.pad(features, (0, right, 0, down)) if down or right else features


def _logits(head: nn.Module, features: Tensor, size: torch.Size) -> Tensor:
    """Logits of one decoder level at full size, (B, 1, H, W) float32."""
    # outside autocast: bfloat16 logits would tie pixels that the score should rank
    with torch.autocast(features.device.type, enabled=False):
        logits: Tensor = head(features.float().movedim(1, -1)).movedim(-1, 1)  # a 1×1 convolution, in half its time
    if logits.shape[-2:] == size:
        return logits
    return F.interpolate(logits, size=size, mode="bilinear", align_corners=False)


def _conv3x3(config: ModelConfig, inputs: int, outputs: int) -> nn.Conv2d:
    # a norm brings a bias of its own
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=config.norm == "none")


def _norm(config: ModelConfig, width: int) -> nn.Module:
    match config.norm:
        case "batch":
            return nn.BatchNorm2d(width)
        case "group":  # Wu and He 2018, arXiv:1803.08494
            return nn.GroupNorm(math.gcd(8, width), width)
        case "instance":
            return nn.InstanceNorm2d(width, affine=True)
        case "none":
            return nn.Identity()


def _activation(config: ModelConfig) -> nn.Module:
    match config.activation:
        case "relu":
            return nn.ReLU(inplace=True)
        case "leaky_relu":
            return nn.LeakyReLU(0.01, inplace=True)
        case "gelu":
            return nn.GELU()
        case "silu":
            return nn.SiLU()


def _upsampling(config: ModelConfig, width: int) -> nn.Module:
    if config.upsampling == "transposed":
        return nn.ConvTranspose2d(2 * width, width, 2, stride=2)
    # the 1×1 convolution first: it commutes with the interpolation and costs a quarter there
    smooth = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
    return nn.Sequential(nn.Conv2d(2 * width, width, 1), smooth)


def _initialise(network: nn.Module) -> None:
    """Draw He-normal weights for every convolution and set biases to zero."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            # each output of the transposed convolution sees one of its kernel's pixels
            seen = 1 if isinstance(module, nn.ConvTranspose2d) else math.prod(module.kernel_size)
            nn.init.normal_(module.weight, std=HE_GAIN / math.sqrt(module.in_channels * seen))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for module in network.modules():
        if isinstance(module, Block):
            module.share_variance()


def _recomputed(block: nn.Module, *inputs: Tensor) -> Tensor:
    """Run a block and keep only its inputs; the backward pass runs it again (Chen et al. 2016, arXiv:1604.06174)."""
    run = partial(checkpoint, block, *inputs, use_reentrant=False)
    if not torch.compiler.is_compiling():  # there the second pass belongs to a graph that counts statistics once
        run = partial(run, context_fn=lambda: (nullcontext(), _statistics_kept(block)))
    result: Tensor = run()
    return result


@contextmanager
def _statistics_kept(block: nn.Module) -> Iterator[None]:
    """Let batch norms write their running statistics to copies, so that a second pass doesn't count twice."""
    norms = [module for module in block.modules() if isinstance(module, nn.BatchNorm2d)]
    kept = [(norm, name, buffer) for norm in norms for name, buffer in norm.named_buffers()]
    for norm, name, buffer in kept:
        setattr(norm, name, buffer.clone())
    try:
        yield
    finally:
        for norm, name, buffer in kept:
            setattr(norm, name, buffer)
