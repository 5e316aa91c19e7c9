"""Networks that take noise out of spectra.

A denoised spectrum looks better and holds no more information: a fit of it is no more certain (Dziadosz et al.,
Denoising MR spectra by deep learning: miracle or mirage?, Proc ISMRM 2022, 2541).
"""

from __future__ import annotations

import torch
from torch import nn

from ..core import units
from ..core.errors import OptionError

__all__ = ["METHODS", "Denoiser"]


class Denoiser(nn.Module):
    """Convolutional autoencoder on the real and imaginary part of the spectrum: MRspecNET,
    github.com/frank-roesler/MRspecNET.

    Half of the layers are convolutions, each but the first with twice the channels of the one before and all followed
    by a ReLU; the other half are transposed convolutions back.  Points outside the window stay as they are.

    Parameters
    ----------
    dwelltime, spec_freq_mhz : float
        Of the data; seconds, MHz.
    n_points : int
        Points of the FIDs it is trained on; it takes other numbers, too.
    channels, kernel, layers : int
        Channels of the first layer, width of the kernels, number of layers (even).
    ppmlim : (float, float)
        The window.

    Raises
    ------
    OptionError
        If the number of layers is not even, or there are fewer than 16 points in the window.
    """

    method = "autoencoder"

    def __init__(
        self,
        dwelltime: float,
        spec_freq_mhz: float,
        n_points: int = 1024,
        *,
        channels: int = 64,
        kernel: int = 32,
        layers: int = 6,
        ppmlim=(0.2, 4.2),
    ):
        super().__init__()
        if layers < 2 or layers % 2:
            raise OptionError(f"{layers} layers: must be an even number, 2 at least.")
        self.settings = {
            "dwelltime": dwelltime,
            "spec_freq_mhz": spec_freq_mhz,
            "n_points": n_points,
            "channels": channels,
            "kernel": kernel,
            "layers": layers,
            "ppmlim": list(ppmlim),
        }
        self.dwelltime, self.spec_freq_mhz, self.n_points, self.ppmlim = (
            dwelltime,
            spec_freq_mhz,
            n_points,
            tuple(ppmlim),
        )
        self.inside(n_points)
        sizes = [2, *(channels * 2**index for index in range(layers // 2))]
        down = [
            layer for a, b in zip(sizes, sizes[1:]) for layer in (nn.Conv1d(a, b, kernel, padding=kernel), nn.ReLU())
        ]
        up = [
            layer
            for a, b in zip(sizes[::-1], sizes[-2::-1])
            for layer in (nn.ConvTranspose1d(a, b, kernel, padding=kernel), nn.ReLU())
        ]
        self.layers = nn.Sequential(*down, *up[:-1])

    def inside(self, n_points: int) -> slice:
        """Return the window's points of a spectrum of ``n_points``."""
        ppm = units.ppm_axis(n_points, self.dwelltime, self.spec_freq_mhz)
        bins = ((ppm >= self.ppmlim[0]) & (ppm <= self.ppmlim[1])).nonzero()[0]
        if len(bins) < 16:
            raise OptionError(
                f"the data have {len(bins)} points between {self.ppmlim[0]:g} and {self.ppmlim[1]:g} ppm, at least 16"
                " are needed."
            )
        return slice(int(bins[0]), int(bins[-1]) + 1)

    def scaled(self, fid: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the window of FIDs ``(batch, n)`` as channels of height 1, ``(batch, 2, n_window)``, and their height
        before, ``(batch,)``."""
        spec = units.fid_to_spec(fid)[:, self.inside(fid.shape[-1])]
        height = spec.abs().amax(-1).clamp(min=1e-30)
        x = torch.view_as_real(spec / height[:, None]).permute(0, 2, 1)
        return x.to(next(self.parameters()).dtype), height

    def window_energy(self, fid: torch.Tensor) -> torch.Tensor:
        """Return the sum of squares of all the FIDs' spectra in the window."""
        return units.fid_to_spec(fid)[:, self.inside(fid.shape[-1])].abs().square().sum()

    def forward(self, fid: torch.Tensor) -> torch.Tensor:
        """Return FIDs of the same size ``(batch, n)`` with less noise in the window."""
        x, height = self.scaled(fid)
        real, imag = self.layers(x).unbind(1)
        spec = units.fid_to_spec(fid).clone()
        spec[:, self.inside(fid.shape[-1])] = torch.complex(real, imag).to(spec.dtype) * height[:, None]
        return units.spec_to_fid(spec)

    def loss(self, fid: torch.Tensor, clean: torch.Tensor) -> torch.Tensor:
        """Return the mean squared error in the window, in units of the noisy spectrum's height squared."""
        x, height = self.scaled(fid)
        spec = units.fid_to_spec(clean)[:, self.inside(clean.shape[-1])] / height[:, None]
        return (self.layers(x) - torch.view_as_real(spec).permute(0, 2, 1).to(x)).square().mean()


METHODS = {Denoiser.method: Denoiser}
"""The denoisers by name."""
