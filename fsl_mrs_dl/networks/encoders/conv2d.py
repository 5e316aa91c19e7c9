"""Encoders of spectrograms, by Rizzo et al.

Rizzo, Dziadosz, Kyathanahally, Shamaei, Kreis, Magn Reson Med 2023;89:1707, doi 10.1002/mrm.29561: two channels (real
and imaginary part, ``2d2c``), or one with both side by side (``2d1c``).  Numbers and widths of kernels are those of the
published program (github.com/bellarude/MRSdeeplearning).  ``share`` multiplies all numbers of kernels.
"""

from __future__ import annotations

import torch
from torch import nn

from .base import Encoder
from .spectrum import few
from .views import WHOLE, Spectrogram

__all__ = [
    "ShallowNet2D2C",
    "ShallowNet2D2CReLU",
    "ShallowNet2D2CHp",
    "DeepNet2D2C",
    "DeepNet2D1C",
    "DeepNet2D1CWide",
    "ResNet2D1C",
    "ResNet2D1CWide",
    "InceptionNet2D1C",
]


class _OnSpectrogram(Encoder):
    sees = "spectrogram"
    least_points = 32
    _joined = False

    def __init__(self, *, n_points: int, n_out: int, in_channels: int = 2, band=WHOLE):
        super().__init__(n_points=n_points, n_out=n_out, in_channels=in_channels)
        self.view = Spectrogram(n_points, in_channels, band, joined=self._joined)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(batch, in_channels, n_points)`` of FIDs -> ``(batch, n_out)``."""
        self.check(x)
        return self.layers(self.view(x))


def _block(inside: int, outside: int, kernel: int | tuple[int, int], elu: bool = False, stride: int = 1) -> nn.Module:
    """A convolution with ELU, or with batch norm and ReLU."""
    size = (kernel, kernel) if isinstance(kernel, int) else kernel
    conv = nn.Conv2d(inside, outside, size, stride=stride, padding=(size[0] // 2, size[1] // 2))
    return nn.Sequential(conv, nn.ELU()) if elu else nn.Sequential(conv, nn.BatchNorm2d(outside), nn.ReLU())


class ShallowNet2D2C(_OnSpectrogram):
    """ShallowNet-2D2c with ELU: three convolutions (50, 100, 150 kernels, 9, 5 and 3 wide), each with max pooling, and
    a linear layer.

    Dropout of whole channels after the second and third; batch norm of the numbers that come out.
    doi 10.1002/mrm.29561.
    """

    _kernels, _widths, _dropout, _elu, _twice = (9, 5, 3), (50, 100, 150), (0.1, 0.15), True, False

    def __init__(self, *, n_points: int, n_out: int, in_channels: int = 2, band=WHOLE, share: float = 1.0):
        super().__init__(n_points=n_points, n_out=n_out, in_channels=in_channels, band=band)
        inside, rows, columns = self.view.shape
        layers: list[nn.Module] = []
        for kernel, width, dropout in zip(self._kernels, self._widths, (0.0, *self._dropout)):
            width = few(width, share)
            layers.append(_block(inside, width, kernel, self._elu))
            if self._twice:
                layers.append(_block(width, width, kernel, self._elu))
            layers.append(nn.MaxPool2d(2))
            if dropout:
                layers.append(nn.Dropout2d(dropout))
            inside, rows, columns = width, rows // 2, columns // 2
        self.layers = nn.Sequential(
            *layers, nn.Flatten(), nn.Linear(inside * rows * columns, n_out), nn.BatchNorm1d(n_out)
        )


class ShallowNet2D2CReLU(ShallowNet2D2C):
    """ShallowNet-2D2c with batch norm and ReLU, kernels 11, 9 and 5 wide.  doi 10.1002/mrm.29561."""

    _kernels, _elu = (11, 9, 5), False


class ShallowNet2D2CHp(ShallowNet2D2C):
    """ShallowNet-2D2c-hp: what Bayesian optimisation made of it, 300, 100, 150 kernels, 7, 9 and 5 wide.
    doi 10.1002/mrm.29561.

    Ten times the work of the others; for a GPU.
    """

    _kernels, _widths, _dropout = (7, 9, 5), (300, 100, 150), (0.35, 0.35)


class DeepNet2D2C(ShallowNet2D2C):
    """The deeper one of two channels: two convolutions before every pooling.  doi 10.1002/mrm.29561."""

    _twice = True


def _head(inside: int, n_out: int, share: float) -> list[nn.Module]:
    hidden = few(400, share)
    return [
        nn.Flatten(),
        nn.Linear(inside, hidden),
        nn.BatchNorm1d(hidden),
        nn.ReLU(),
        nn.Dropout(0.1),
        nn.Linear(hidden, n_out),
    ]


class DeepNet2D1C(_OnSpectrogram):
    """DeepNet-2D1c: six convolutions 3 wide with batch norm, ReLU and max pooling (8 to 256 kernels), a hidden layer of
    400.

    doi 10.1002/mrm.29561.
    """

    _joined = True
    _kernels = (3, 3, 3, 3, 3, 3)

    def __init__(self, *, n_points: int, n_out: int, in_channels: int = 2, band=WHOLE, share: float = 1.0):
        super().__init__(n_points=n_points, n_out=n_out, in_channels=in_channels, band=band)
        inside, rows, columns = self.view.shape
        layers: list[nn.Module] = []
        for kernel, width in zip(self._kernels, (8, 16, 32, 64, 128, 256)):
            layers += [_block(inside, few(width, share), kernel), nn.MaxPool2d(2)]
            inside, rows, columns = few(width, share), rows // 2, columns // 2
        self.layers = nn.Sequential(*layers, *_head(inside * rows * columns, n_out, share))


class DeepNet2D1CWide(DeepNet2D1C):
    """As :class:`DeepNet2D1C`, kernels 13, 11, 9, 7, 5 and 3 wide."""

    _kernels = (13, 11, 9, 7, 5, 3)


class _Bottleneck(nn.Module):
    """Convolutions 1, ``kernel`` and 1 wide, added to what came in (by a convolution where its channels change), then
    ReLU."""

    def __init__(self, inside: int, narrow: int, outside: int, kernel: int):
        super().__init__()
        self.main = nn.Sequential(
            _block(inside, narrow, 1),
            _block(narrow, narrow, kernel),
            nn.Conv2d(narrow, outside, 1),
            nn.BatchNorm2d(outside),
        )
        short = [] if inside == outside else [nn.Conv2d(inside, outside, 1)]
        self.short = nn.Sequential(*short, nn.BatchNorm2d(outside))

    def forward(self, x):
        return (self.main(x) + self.short(x)).relu()


class ResNet2D1C(_OnSpectrogram):
    """ResNet-2D1c: two groups of three bottlenecks (to 128 and 256 channels), max pooling after each, a hidden layer of
    400.

    doi 10.1002/mrm.29561.
    """

    _joined = True
    _kernels = (3, 3, 3, 3, 3, 3)

    def __init__(self, *, n_points: int, n_out: int, in_channels: int = 2, band=WHOLE, share: float = 1.0):
        super().__init__(n_points=n_points, n_out=n_out, in_channels=in_channels, band=band)
        inside, rows, columns = self.view.shape
        layers: list[nn.Module] = []
        for index, kernel in enumerate(self._kernels):
            narrow, wide = ((32, 128), (64, 256))[index // 3]
            layers += [_Bottleneck(inside, few(narrow, share), few(wide, share), kernel), nn.MaxPool2d(2)]
            inside, rows, columns = few(wide, share), rows // 2, columns // 2
        self.layers = nn.Sequential(*layers, *_head(inside * rows * columns, n_out, share))


class ResNet2D1CWide(ResNet2D1C):
    """As :class:`ResNet2D1C`, kernels 13, 11, 9, 7, 5 and 3 wide."""

    _kernels = (13, 11, 9, 7, 5, 3)


class _Inception(nn.Module):
    """Convolutions 9, 7, 5, 3 and 1 wide and the mean of neighbours, side by side; ``split`` adds long and flat ones
    after the last two."""

    def __init__(self, inside: int, width: int, split: bool = False):
        super().__init__()
        self.branches = nn.ModuleList(_block(inside, width, kernel, True) for kernel in (9, 7, 5, 3, 1))
        self.after = nn.ModuleList(
            _block(width, width, shape, True) for shape in ((1, 3), (3, 1), (1, 3), (3, 1)) if split
        )
        self.mean = nn.AvgPool2d(3, stride=1, padding=1)
        self.n_out = (9 if split else 5) * width + inside

    def forward(self, x):
        found = [branch(x) for branch in self.branches]
        more = [layer(found[3 if index < 2 else 4]) for index, layer in enumerate(self.after)]
        return torch.cat([*found, *more, self.mean(x)], 1)


class _Reduction(nn.Module):
    """Half as large: a convolution of stride 2, several in a row, and max pooling, side by side."""

    def __init__(self, inside: int, width: int, long: bool):
        super().__init__()
        step = _block(width, width, 3, True, 2)
        first: nn.Module
        if long:
            first = nn.Sequential(_block(inside, width, 1, True), _block(width, width, 3, True, 2))
            rest = [_block(width, width, (1, 7), True), _block(width, width, (7, 1), True)]
        else:
            first, rest = _block(inside, width, 3, True, 2), [_block(width, width, 3, True)]
        self.branches = nn.ModuleList(
            [first, nn.Sequential(_block(inside, width, 1, True), *rest, step), nn.MaxPool2d(2)]
        )
        self.n_out = 2 * width + inside

    def forward(self, x):
        return torch.cat([branch(x) for branch in self.branches], 1)


class InceptionNet2D1C(_OnSpectrogram):
    """InceptionNet-2D1c: three inception blocks (25, 50, 75 kernels of each width) with ELU, two reductions between
    them.

    doi 10.1002/mrm.29561.  The published program joins branches along frequency; here they are joined as channels, as
    inception networks do.
    """

    _joined = True

    def __init__(self, *, n_points: int, n_out: int, in_channels: int = 2, band=WHOLE, share: float = 1.0):
        super().__init__(n_points=n_points, n_out=n_out, in_channels=in_channels, band=band)
        inside, rows, columns = self.view.shape
        layers: list[nn.Module] = []
        for index, width in enumerate((25, 50, 75)):
            block = _Inception(inside, few(width, share), split=index == 2)
            layers.append(block)
            inside = block.n_out
            if index < 2:
                reduction = _Reduction(inside, few(50, share), long=index == 1)
                layers.append(reduction)
                inside, rows, columns = reduction.n_out, rows // 2, columns // 2
            if index:
                layers.append(nn.Dropout2d(0.1 * index))
        layers += [nn.AvgPool2d(2), nn.Flatten(), nn.Dropout(0.5)]
        self.layers = nn.Sequential(
            *layers, nn.Linear(inside * (rows // 2) * (columns // 2), n_out), nn.BatchNorm1d(n_out)
        )
