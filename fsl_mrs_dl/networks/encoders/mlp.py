"""Encoders without convolutions."""

from __future__ import annotations

import torch
from torch import nn

from .base import Encoder

__all__ = ["MLP", "MLPMixer"]


class MLP(Encoder):
    """Fully connected layers in place of convolutions, a variant of the quantification paper's encoder.

    Every channel goes through the layers by itself (768, 512 and then half as many each time), a last one joins them.
    doi 10.1016/j.compbiomed.2023.106837.
    """

    least_points = 16

    def __init__(self, *, n_points: int, n_out: int, in_channels: int = 2, widths=(768, 512, 256, 128, 64)):
        super().__init__(n_points=n_points, n_out=n_out, in_channels=in_channels)
        layers: list[nn.Module] = []
        inside = n_points
        for width in widths:
            layers += [nn.Linear(inside, width), nn.GELU()]
            inside = width
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(inside * in_channels, n_out))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(batch, in_channels, n_points)`` -> ``(batch, n_out)``."""
        self.check(x)
        return self.layers(x)


class _Mixer(nn.Module):
    """One layer across patches, one across channels, each added to its input."""

    def __init__(self, n_patches: int, width: int, across: int, within: int):
        super().__init__()
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.patches = nn.Sequential(nn.Linear(n_patches, across), nn.GELU(), nn.Linear(across, n_patches))
        self.channels = nn.Sequential(nn.Linear(width, within), nn.GELU(), nn.Linear(within, width))

    def forward(self, x):
        x = x + self.patches(self.first(x).mT).mT
        return x + self.channels(self.second(x))


class MLPMixer(Encoder):
    """MLP-Mixer for one-dimensional signals, a variant of the quantification paper's encoder.

    The signal is cut into patches, the last one filled up with zeros.  Tolstikhin et al., arXiv 2105.01601;
    one-dimensional in doi 10.1016/j.compbiomed.2023.106837.
    """

    least_points = 16

    def __init__(
        self,
        *,
        n_points: int,
        n_out: int,
        in_channels: int = 2,
        patch: int = 16,
        width: int = 64,
        depth: int = 4,
        across: int = 128,
        within: int = 256,
    ):
        super().__init__(n_points=n_points, n_out=n_out, in_channels=in_channels)
        self.fill = -n_points % patch
        n_patches = (n_points + self.fill) // patch
        self.embed = nn.Conv1d(in_channels, width, patch, stride=patch)
        self.blocks = nn.Sequential(*(_Mixer(n_patches, width, across, within) for _ in range(depth)))
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Flatten(), nn.Linear(width * n_patches, n_out))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(batch, in_channels, n_points)`` -> ``(batch, n_out)``."""
        self.check(x)
        x = nn.functional.pad(x, (0, self.fill))
        return self.head(self.blocks(self.embed(x).mT))
