"""Encoders of wavelet transforms: convolutions on scalograms, and wavelet scattering with one hidden layer."""

from __future__ import annotations

import torch
from torch import nn

from .base import Encoder
from .views import WHOLE, Scalogram, Scattering

__all__ = ["ScalogramCNN", "WSCN"]


class _Scaled(nn.Module):
    """Numbers less their mean, over their SD, both of the first batches that it is trained with, for each of ``shape``.

    With a ``power`` below one, over so much of the SD's logarithm, and over the mean SD for the rest: inputs of small
    variation stay smaller.  Mean and SD are not those of every batch, as in batch normalisation: the random content of
    a batch would be an error of a tenth in every number.
    """

    n_batches = 32
    mean: torch.Tensor
    square: torch.Tensor
    seen: torch.Tensor

    def __init__(self, *shape: int, power: float = 1.0):
        super().__init__()
        self.power = power
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("square", torch.ones(shape))
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training and self.seen < self.n_batches:
            # An axis of length one in the shape has one mean and SD along it.
            along = [0, *(axis + 1 for axis, n in enumerate(self.mean.shape) if n == 1 != x.shape[axis + 1])]
            with torch.no_grad():
                self.mean += (x.mean(along, keepdim=True)[0] - self.mean) / (self.seen + 1)
                self.square += ((x - self.mean).square().mean(along, keepdim=True)[0] - self.square) / (self.seen + 1)
                self.seen += 1
        sd = self.square.sqrt()
        # Constant inputs become zero, not amplified rounding errors.
        sd = torch.maximum(sd, 1e-5 * sd.max()).clamp(min=1e-30)
        return (x - self.mean) / (sd**self.power * sd.mean() ** (1 - self.power))


class ScalogramCNN(Encoder):
    """Six convolutions with ReLU, five of them followed by max pooling, and a linear layer, on the scalogram of the
    FID.

    Shamaei, 'Deep learning for magnetic resonance spectroscopy quantification: a time-frequency analysis approach'
    (Proc STUDENT EEICT II, Brno 2020:131, hdl.handle.net/11012/200638; it has no DOI).  Kernels and channels are not in
    the paper: 3 x 3 and 8 to 64 here, and every row is scaled by its mean and SD, without which nothing is learnt for
    long.  The paper's scalogram has 340 x 1536 numbers (``n_rows=340, n_columns=1536``), too many for a CPU; the
    default has 64 x 128.
    """

    sees = "scalogram"
    least_points = 64

    def __init__(
        self,
        *,
        n_points: int,
        n_out: int,
        in_channels: int = 2,
        band=WHOLE,
        n_rows: int = 64,
        n_columns: int = 128,
        share: float = 1.0,
    ):
        super().__init__(n_points=n_points, n_out=n_out, in_channels=in_channels)
        self.view = Scalogram(n_points, in_channels, band, n_rows=n_rows, n_columns=n_columns)
        layers: list[nn.Module] = []
        inside, rows, columns = self.view.shape
        for index, width in enumerate((8, 16, 32, 32, 64, 64)):
            width = max(1, round(share * width))
            layers += [nn.Conv2d(inside, width, 3, padding=1), nn.ReLU()]
            inside = width
            if index < 5:
                layers.append(nn.MaxPool2d(2, ceil_mode=True))
                rows, columns = -(-rows // 2), -(-columns // 2)
        scaled = _Scaled(*self.view.shape[:2], 1)
        self.layers = nn.Sequential(scaled, *layers, nn.Flatten(), nn.Linear(inside * rows * columns, n_out))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(batch, in_channels, n_points)`` -> ``(batch, n_out)``."""
        self.check(x)
        return self.layers(self.view(x))


class WSCN(Encoder):
    """Wavelet scattering of the FID, flattened, one hidden layer of 20 neurons and a linear one.

    Shamaei, Starcukova, Starcuk, doi 10.5220/0010318502680275.  The hidden layer's tangent and inputs of one size are
    those of MATLAB's networks, with which the paper was made; here inputs are less their mean and over the root of
    their SD, because wavelets of nothing but noise should not count as much as those of the lines (5 % less error than
    with their SD).  The paper trains by scaled conjugate gradients, we as everything else, and the benchmark ends
    by L-BFGS.
    """

    sees = "scattering"
    least_points = 64
    keeps_view = True

    def __init__(self, *, n_points: int, n_out: int, in_channels: int = 2, hidden: int = 20):
        super().__init__(n_points=n_points, n_out=n_out, in_channels=in_channels)
        self.view = Scattering(n_points, in_channels)
        channels, paths, windows = self.view.shape
        n = channels * paths * windows
        self.layers = nn.Sequential(
            nn.Flatten(), _Scaled(n, power=0.5), nn.Linear(n, hidden), nn.Tanh(), nn.Linear(hidden, n_out)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(batch, in_channels, n_points)`` -> ``(batch, n_out)``."""
        self.check(x)
        return self.layers(self.view(x))
