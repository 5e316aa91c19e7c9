"""Encoders of the spectrum: a network of 2018, and those of Rizzo et al. with one-dimensional input.

Rizzo, Dziadosz, Kyathanahally, Shamaei, Kreis, Magn Reson Med 2023;89:1707, doi 10.1002/mrm.29561.  Their layers are in
the supporting information and in the published program (github.com/bellarude/MRSdeeplearning), whose numbers are used
here.  ``share`` multiplies all numbers of kernels.
"""

from __future__ import annotations

import torch
from torch import nn

from .base import Encoder
from .views import WHOLE, Spectrum

__all__ = ["Hatami", "DeepNet1D", "ResNet1D", "InceptionNet1D", "UNet1DR", "UNet1DRJoint"]


def few(n: int, share: float) -> int:
    """Return a number of kernels times ``share``, at least one."""
    return max(1, round(n * share))


class _OnSpectrum(Encoder):
    """A view of the spectrum, and layers on it."""

    sees = "spectrum"
    least_points = 32
    _how: dict = {}

    def __init__(self, *, n_points: int, n_out: int, in_channels: int = 2, band=WHOLE):
        super().__init__(n_points=n_points, n_out=n_out, in_channels=in_channels)
        self.view = Spectrum(n_points, in_channels, band, **self._how)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(batch, in_channels, n_points)`` of FIDs -> ``(batch, n_out)``."""
        self.check(x)
        return self.layers(self.view(x))


class _CReLU(nn.Module):
    def forward(self, x):
        return torch.cat([x, -x], 1).relu()


class Hatami(_OnSpectrum):
    """Real and imaginary part of the spectrum through five convolutions with concatenated ReLU and max pooling, and two
    linear layers.

    Hatami, Sdika, Ratiney, MICCAI 2018, doi 10.48550/arXiv.1806.07237.  32, 64, 128, 256, 512 kernels 3 wide, a hidden
    layer of 1024 with dropout of a half: sizes as in later descriptions of the network (the paper itself was not at
    hand).
    """

    def __init__(self, *, n_points: int, n_out: int, in_channels: int = 2, band=WHOLE, share: float = 1.0):
        super().__init__(n_points=n_points, n_out=n_out, in_channels=in_channels, band=band)
        inside, length = self.view.shape
        layers: list[nn.Module] = []
        for width in (32, 64, 128, 256, 512):
            layers += [nn.Conv1d(inside, few(width, share), 3, padding=1), _CReLU(), nn.MaxPool1d(2, ceil_mode=True)]
            inside, length = 2 * few(width, share), -(-length // 2)
        hidden = few(1024, share)
        self.layers = nn.Sequential(
            *layers,
            nn.Flatten(),
            nn.Linear(inside * length, hidden),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(hidden, n_out),
        )


def _block(inside: int, outside: int, kernel: int = 3) -> list[nn.Module]:
    return [nn.Conv1d(inside, outside, kernel, padding="same"), nn.BatchNorm1d(outside), nn.ReLU()]


def _pool() -> nn.Module:
    # Published inputs are 2048 points; shorter ones must outlive as many poolings.
    return nn.MaxPool1d(2, ceil_mode=True)


def _head(inside: int, n_out: int, share: float, dropout: float) -> list[nn.Module]:
    """The published end: a hidden layer of 400 and a linear one, so that numbers below zero are possible."""
    hidden = few(400, share)
    return [
        nn.Flatten(),
        nn.Linear(inside, hidden),
        nn.BatchNorm1d(hidden),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(hidden, n_out),
    ]


class DeepNet1D(_OnSpectrum):
    """DeepNet-1D: six convolutions 3 wide with batch norm, ReLU and max pooling (8 to 256 kernels), a hidden layer of
    400.

    Real parts and imaginary parts one after the other in one channel.  doi 10.1002/mrm.29561.
    """

    _how = {"joined": True}

    def __init__(self, *, n_points: int, n_out: int, in_channels: int = 2, band=WHOLE, share: float = 1.0):
        super().__init__(n_points=n_points, n_out=n_out, in_channels=in_channels, band=band)
        inside, length = self.view.shape
        layers: list[nn.Module] = []
        for width in (8, 16, 32, 64, 128, 256):
            layers += [*_block(inside, few(width, share)), _pool()]
            inside, length = few(width, share), -(-length // 2)
        self.layers = nn.Sequential(*layers, *_head(inside * length, n_out, share, 0.1))


class _Bottleneck(nn.Module):
    """Convolutions 1, ``kernel`` and 1 wide, added to the input (by a convolution where its channels change), then
    ReLU."""

    def __init__(self, inside: int, narrow: int, outside: int, kernel: int = 3):
        super().__init__()
        self.main = nn.Sequential(
            *_block(inside, narrow, 1),
            *_block(narrow, narrow, kernel),
            nn.Conv1d(narrow, outside, 1),
            nn.BatchNorm1d(outside),
        )
        short = [] if inside == outside else [nn.Conv1d(inside, outside, 1)]
        self.short = nn.Sequential(*short, nn.BatchNorm1d(outside))

    def forward(self, x):
        return (self.main(x) + self.short(x)).relu()


class ResNet1D(_OnSpectrum):
    """ResNet-1D: two convolutions, then three groups of three bottlenecks (to 128, 256, 512 channels), max pooling
    after each.

    Real parts and imaginary parts one after the other in one channel.  doi 10.1002/mrm.29561.
    """

    _how = {"joined": True}

    def __init__(self, *, n_points: int, n_out: int, in_channels: int = 2, band=WHOLE, share: float = 1.0):
        super().__init__(n_points=n_points, n_out=n_out, in_channels=in_channels, band=band)
        inside, length = self.view.shape
        layers: list[nn.Module] = []
        for width in (8, 16):
            layers += [*_block(inside, few(width, share)), _pool()]
            inside, length = few(width, share), -(-length // 2)
        for narrow, wide in ((32, 128), (64, 256), (128, 512)):
            for _ in range(3):
                layers += [_Bottleneck(inside, few(narrow, share), few(wide, share)), _pool()]
                inside, length = few(wide, share), -(-length // 2)
        self.layers = nn.Sequential(*layers, *_head(inside * length, n_out, share, 0.3))


def _elu(inside: int, outside: int, kernel: int, stride: int = 1) -> nn.Module:
    return nn.Sequential(nn.Conv1d(inside, outside, kernel, stride=stride, padding=kernel // 2), nn.ELU())


class _Inception(nn.Module):
    """Convolutions 9, 7, 5, 3 and 1 wide and the mean of neighbours, side by side."""

    def __init__(self, inside: int, width: int):
        super().__init__()
        self.branches = nn.ModuleList(_elu(inside, width, kernel) for kernel in (9, 7, 5, 3, 1))
        self.mean = nn.AvgPool1d(3, stride=1, padding=1)
        self.n_out = 5 * width + inside

    def forward(self, x):
        return torch.cat([*(branch(x) for branch in self.branches), self.mean(x)], 1)


class _Reduction(nn.Module):
    """Half as long: a convolution of stride 2, three in a row, and max pooling, side by side."""

    def __init__(self, inside: int, width: int):
        super().__init__()
        self.branches = nn.ModuleList(
            [
                _elu(inside, width, 3, 2),
                nn.Sequential(_elu(inside, width, 1), _elu(width, width, 3), _elu(width, width, 3, 2)),
                nn.MaxPool1d(3, stride=2, padding=1),
            ]
        )
        self.n_out = 2 * width + inside

    def forward(self, x):
        return torch.cat([branch(x) for branch in self.branches], 1)


class InceptionNet1D(_OnSpectrum):
    """InceptionNet-1D: three inception blocks (25, 50, 75 kernels of each width) with ELU, two reductions between them.

    Real parts and imaginary parts one after the other in one channel.  doi 10.1002/mrm.29561 names the network and its
    ancestors; its layers are not in the text and are those of the published two-dimensional one, in one dimension,
    after a convolution and pooling that keep it quick.
    """

    _how = {"joined": True}

    def __init__(self, *, n_points: int, n_out: int, in_channels: int = 2, band=WHOLE, share: float = 1.0):
        super().__init__(n_points=n_points, n_out=n_out, in_channels=in_channels, band=band)
        inside, length = self.view.shape
        stem = few(50, share)
        layers: list[nn.Module] = [_elu(inside, stem, 9), nn.MaxPool1d(4, ceil_mode=True)]
        inside, length = stem, -(-length // 4)
        for width, reduced in ((25, 50), (50, 50), (75, None)):
            block = _Inception(inside, few(width, share))
            layers.append(block)
            inside = block.n_out
            if reduced:
                reduction = _Reduction(inside, few(reduced, share))
                layers.append(reduction)
                inside, length = reduction.n_out, (length - 1) // 2 + 1
        layers += [nn.Dropout1d(0.2), nn.AvgPool1d(2, ceil_mode=True)]
        length = -(-length // 2)
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.5), nn.Linear(inside * length, n_out))


class _UNet(nn.Module):
    """The published U-Net: four times half as long and back, one-dimensional, batch norm and ReLU; ``(batch, inside,
    n)`` -> ``(batch, outside, n)``."""

    def __init__(self, inside: int, outside: int, share: float):
        super().__init__()

        def conv(a, b, stride=1, linear=False):
            return nn.Sequential(
                nn.Conv1d(a, b, 3, stride=stride, padding=1), nn.BatchNorm1d(b), nn.Identity() if linear else nn.ReLU()
            )

        def back(a, b):
            return nn.Sequential(nn.ConvTranspose1d(a, b, 4, stride=2, padding=1), nn.BatchNorm1d(b), nn.ReLU())

        sizes = ((0, 32, 64), (32, 64, 128), (48, 128, 256), (64, 256, 512), (80, 512, 256))
        down, skip, last = [], [], inside
        for shrink, first, second in sizes:
            shrink, first, second = (few(size, share) if size else 0 for size in (shrink, first, second))
            parts = [conv(last, shrink, 2), conv(shrink, first)] if shrink else [conv(last, first)]
            down.append(nn.Sequential(*parts, conv(first, second)))
            skip.append(second)
            last = second
        self.down = nn.ModuleList(down)
        up = [back(last, few(256, share))]
        last = few(256, share)
        for beside, middle, out in ((3, 64, 128), (2, 48, 64), (1, 32, 32)):
            middle, out = few(middle, share), few(out, share)
            up.append(nn.Sequential(conv(skip[beside] + last, middle), conv(middle, middle), back(middle, out)))
            last = out
        self.up = nn.ModuleList(up)
        wide = few(32, share)
        paint = nn.Conv1d(wide, outside, 3, padding=1)
        # Begins with all but empty spectra: noise all over the band is far worse than nothing where lines fill few
        # points of it.
        assert paint.bias is not None
        with torch.no_grad():
            paint.weight.mul_(0.01)
            paint.bias.zero_()
        self.end = nn.Sequential(conv(last, wide), conv(wide, wide, linear=True), paint)

    def forward(self, x):
        n = x.shape[-1]
        x = nn.functional.pad(x, (0, -n % 16))
        levels = []
        for part in self.down:
            x = part(x)
            levels.append(x)
        x = self.up[0](x)
        for part, beside in zip(self.up[1:], levels[-2:0:-1]):
            x = part(torch.cat([beside, x], 1))
        return self.end(x)[..., :n]


class UNet1DR(_OnSpectrum):
    """UNet-1DR: the real part of the spectrum to every metabolite's own, noiseless one, whose integral is the answer; a
    network for each.

    doi 10.1002/mrm.29561, section 2.2.2, after Lee and Kim, doi 10.1002/mrm.27727; numbers of kernels as published for
    all metabolites (the variant UNet-1DR-hp-met has others for each).  Transposed convolutions are 4 wide, not 3, so
    that twice as long is exactly that.  ``spectra`` gives the spectra; an integral with the basis set as template is
    better than the plain mean that ``forward`` gives.
    """

    _how = {"real": True}
    separate = True

    def __init__(self, *, n_points: int, n_out: int, in_channels: int = 2, band=WHOLE, share: float = 1.0):
        super().__init__(n_points=n_points, n_out=n_out, in_channels=in_channels, band=band)
        outs = [1] * n_out if self.separate else [n_out]
        self.networks = nn.ModuleList(_UNet(self.view.shape[0], out, share) for out in outs)

    def spectra(self, x: torch.Tensor) -> torch.Tensor:
        """``(batch, in_channels, n_points)`` of FIDs -> real spectra in the band ``(batch, n_out, n_seen)``."""
        self.check(x)
        spectrum = self.view(x)
        return torch.cat([network(spectrum) for network in self.networks], 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(batch, in_channels, n_points)`` of FIDs -> ``(batch, n_out)``."""
        return self.spectra(x).mean(-1)


class UNet1DRJoint(UNet1DR):
    """As :class:`UNet1DR`, one network with a channel for each metabolite: not as published, and as many times quicker
    as there are metabolites."""

    separate = False
