"""Convolutional encoders."""

from __future__ import annotations

import torch
from torch import nn

from .base import Encoder

__all__ = ["QuantCNN", "AlignCNN", "ConvNeXt", "ResNet"]


class _Strided(Encoder):
    """Convolutions of stride 2 without padding, each followed by an activation, then one linear layer."""

    def __init__(self, *, n_points, n_out, in_channels, blocks, first_kernel, kernel, dropout, activation):
        super().__init__(n_points=n_points, n_out=n_out, in_channels=in_channels)
        layers: list[nn.Module] = [nn.Dropout(dropout)] if dropout else []
        channels, length = in_channels, n_points
        for index in range(blocks):
            out, size = (16 if index == 0 else 24 + 8 * (index - 1)), first_kernel if index == 0 else kernel
            layers += [nn.Conv1d(channels, out, size, stride=2), activation()]
            channels, length = out, (length - size) // 2 + 1
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * length, n_out))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(batch, in_channels, n_points)`` -> ``(batch, n_out)``."""
        self.check(x)
        return self.layers(x)


def _least(blocks: int, first_kernel: int, kernel: int) -> int:
    """Return the shortest input that leaves one point after all strides."""
    length = 1
    for index in reversed(range(blocks)):
        length = (length - 1) * 2 + (first_kernel if index == 0 else kernel)
    return length


class QuantCNN(_Strided):
    """Encoder of the quantification paper: eight convolutions of stride 2 with GELU and a linear layer.

    16, 24, 32, ... 72 channels; the kernels are 11 wide in the first block and 9 in the others if that leaves points,
    else as narrow as it takes.  From 1024 points on the paper's sizes fit.  Shamaei et al.,
    doi 10.1016/j.compbiomed.2023.106837.
    """

    least_points = _least(8, 2, 2)

    def __init__(self, *, n_points: int, n_out: int, in_channels: int = 2, blocks: int = 8, kernel: int = 0):
        if not kernel:
            wide = (9, 7, 5, 4, 3, 2)
            kernel = next((k for k in wide if n_points >= _least(blocks, k + 2, k)), 2)
        first = kernel + 2 if n_points >= _least(blocks, kernel + 2, kernel) else kernel
        super().__init__(
            n_points=n_points,
            n_out=n_out,
            in_channels=in_channels,
            blocks=blocks,
            first_kernel=first,
            kernel=kernel,
            dropout=0.0,
            activation=nn.GELU,
        )


class AlignCNN(_Strided):
    """Encoder of the alignment paper: dropout of a fifth of the input, six convolutions of stride 2 with ReLU, a linear
    layer.

    16, 24, 32, 40, 48, 56 channels; kernels 5 wide in the first block, 3 in the others.  Shamaei et al.,
    doi 10.1002/mrm.29498.
    """

    least_points = _least(6, 5, 3)

    def __init__(self, *, n_points: int, n_out: int, in_channels: int = 2, dropout: float = 0.2):
        super().__init__(
            n_points=n_points,
            n_out=n_out,
            in_channels=in_channels,
            blocks=6,
            first_kernel=5,
            kernel=3,
            dropout=dropout,
            activation=nn.ReLU,
        )


class _NextBlock(nn.Module):
    """Depthwise convolution, layer norm, two pointwise layers with GELU between them, scaled and added."""

    def __init__(self, width: int):
        super().__init__()
        self.depthwise = nn.Conv1d(width, width, 7, padding=3, groups=width)
        self.pointwise = nn.Sequential(
            nn.LayerNorm(width, eps=1e-6), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        self.scale = nn.Parameter(torch.full((width,), 1e-6))

    def forward(self, x):
        return x + (self.scale * self.pointwise(self.depthwise(x).mT)).mT


class _ChannelNorm(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, x):
        return self.norm(x.mT).mT


class ConvNeXt(Encoder):
    """ConvNeXt for one-dimensional signals, as a variant of the quantification paper's encoder.

    Four stages, each shortening the signal four times and each with depthwise convolutions 7 wide; the mean over
    the remaining points goes into a linear layer.  Liu et al., arXiv 2201.03545; one-dimensional in
    doi 10.1016/j.compbiomed.2023.106837.
    """

    least_points = 256

    def __init__(
        self, *, n_points: int, n_out: int, in_channels: int = 2, depths=(1, 1, 3, 1), widths=(32, 64, 128, 256)
    ):
        super().__init__(n_points=n_points, n_out=n_out, in_channels=in_channels)
        layers: list[nn.Module] = []
        for index, (depth, width) in enumerate(zip(depths, widths)):
            if index == 0:
                layers += [nn.Conv1d(in_channels, width, 4, stride=4), _ChannelNorm(width)]
            else:
                layers += [_ChannelNorm(widths[index - 1]), nn.Conv1d(widths[index - 1], width, 4, stride=4)]
            layers += [_NextBlock(width) for _ in range(depth)]
        self.layers, self.head = nn.Sequential(*layers), nn.Linear(widths[-1], n_out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(batch, in_channels, n_points)`` -> ``(batch, n_out)``."""
        self.check(x)
        return self.head(self.layers(x).mean(-1))


class _Residual(nn.Module):
    """Two convolutions and a shortcut; group norm, so that one spectrum gives the same as a batch of them."""

    def __init__(self, inside: int, outside: int, stride: int, kernel: int):
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv1d(inside, outside, kernel, stride=stride, padding=kernel // 2, bias=False),
            nn.GroupNorm(4, outside),
            nn.GELU(),
            nn.Conv1d(outside, outside, kernel, padding=kernel // 2, bias=False),
            nn.GroupNorm(4, outside),
        )
        self.short = (
            nn.Conv1d(inside, outside, 1, stride=stride, bias=False)
            if (inside, stride) != (outside, 1)
            else nn.Identity()
        )

    def forward(self, x):
        return nn.functional.gelu(self.main(x) + self.short(x))


class ResNet(Encoder):
    """One-dimensional residual network; positions are kept to the end, because they matter as much as the presence
    of a line.

    He et al., doi 10.1109/CVPR.2016.90.
    """

    least_points = 16

    def __init__(
        self,
        *,
        n_points: int,
        n_out: int,
        in_channels: int = 2,
        widths=(24, 32, 48, 64),
        depth: int = 1,
        kernel: int = 5,
        hidden: int = 128,
    ):
        super().__init__(n_points=n_points, n_out=n_out, in_channels=in_channels)
        layers: list[nn.Module] = [nn.Conv1d(in_channels, widths[0], 7, stride=2, padding=3), nn.GELU()]
        length, inside = -(-n_points // 2), widths[0]
        for index, width in enumerate(widths):
            for step in range(depth):
                stride = 2 if index and step == 0 else 1
                layers.append(_Residual(inside, width, stride, kernel))
                length, inside = -(-length // stride), width
        self.layers = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(inside * length, hidden), nn.GELU(), nn.Linear(hidden, n_out))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(batch, in_channels, n_points)`` -> ``(batch, n_out)``."""
        self.check(x)
        return self.head(self.layers(x))
