"""What encoders of the literature look at: the spectrum, a spectrogram, a scalogram, wavelet scattering.  Nothing here
is trained.

A view takes FIDs as channels, real and imaginary parts in turn, ``(batch, in_channels, n_points)``; ``shape`` is what
it makes of one, without the batch.  ``band`` is the part of the spectrum that matters, in cycles per point, -0.5 to
0.5; the caller defines what that is in ppm.
"""

from __future__ import annotations

import math
import warnings

import numpy as np
import torch
from torch import nn

from ...core.errors import OptionError

__all__ = ["View", "Spectrum", "Spectrogram", "Scalogram", "Scattering", "WHOLE"]

WHOLE = (-0.5, 0.5)
"""The band of everything."""

_EXTRA = "install it with: pip install '.[timefreq]' in a copy of the repository"


class View(nn.Module):
    """Base of all views."""

    shape: tuple[int, ...]

    def __init__(self, n_points: int, in_channels: int = 2):
        super().__init__()
        if in_channels % 2:
            raise OptionError(
                f"{type(self).__name__}: is made from FIDs, whose channels come in twos, not"
                f" {in_channels} channels; choose an encoder that takes any points, such as resnet."
            )
        self.n_points, self.n_signals = n_points, in_channels // 2


def _complex(x: torch.Tensor) -> torch.Tensor:
    """Channels ``(batch, 2 n_signals, n)`` -> complex ``(batch, n_signals, n)``."""
    return torch.complex(x[:, 0::2].contiguous(), x[:, 1::2].contiguous())


def _channels(z: torch.Tensor) -> torch.Tensor:
    """Complex ``(batch, n_signals, ...)`` -> ``(batch, 2 n_signals, ...)``."""
    return torch.stack([z.real, z.imag], 2).flatten(1, 2)


class Spectrum(View):
    """The band of the spectrum, ``(in_channels, n_seen)``; zero-filled to twice the points, so that the real part alone
    holds all there is.

    Parameters
    ----------
    joined : bool
        One channel, imaginary parts after real ones.
    real : bool
        Real parts alone.
    """

    def __init__(self, n_points: int, in_channels: int = 2, band=WHOLE, *, joined: bool = False, real: bool = False):
        super().__init__(n_points, in_channels)
        self.joined, self.real = joined, real
        cycles = np.arange(-n_points, n_points) / (2 * n_points)
        inside = np.flatnonzero((cycles >= band[0]) & (cycles < band[1]))
        if len(inside) < 16:
            raise OptionError(
                f"the band {band[0]:.3g} to {band[1]:.3g} of the spectrum has {len(inside)} points, at least 16 are"
                " needed."
            )
        self.first, self.last = int(inside[0]), int(inside[-1]) + 1
        channels = self.n_signals * (1 if real else 2)
        self.shape = (1, channels * len(inside)) if joined else (channels, len(inside))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        fid = _complex(x)
        fid = torch.cat([0.5 * fid[..., :1], fid[..., 1:]], -1)
        spec = torch.fft.fftshift(torch.fft.fft(fid, n=2 * self.n_points, dim=-1), dim=-1)[..., self.first : self.last]
        spec = spec / math.sqrt(self.n_points)
        out = spec.real if self.real else _channels(spec)
        return out.flatten(1)[:, None] if self.joined else out


class Spectrogram(View):
    """Short-time Fourier transform with diagonal downsampling, section 2.1.2 of doi 10.1002/mrm.29561.

    32 Hamming windows, each half as long as the FID and 3/256 of it later than the one before (6 ms where the FID lasts
    half a second; the paper's windows last 256 ms and are 6 ms apart), and 1024 frequencies in the band; of each window
    every eighth frequency is kept, beginning one later than in the window before, so that neighbours together still
    have the fine grid: 128 frequencies x 32 times.

    Parameters
    ----------
    joined : bool
        One channel, imaginary parts after real ones along time: ``(1, 128, 64)`` for one FID.  Else ``(2, 128, 32)``.
    """

    n_windows, n_rows, _every = 32, 128, 8
    kernel_re: torch.Tensor
    kernel_im: torch.Tensor

    def __init__(self, n_points: int, in_channels: int = 2, band=WHOLE, *, joined: bool = False):
        super().__init__(n_points, in_channels)
        self.joined = joined
        self.length, self.hop = max(8, n_points // 2), max(1, 3 * n_points // 256)
        fine = self.n_rows * self._every
        cycles = band[0] + (band[1] - band[0]) * (torch.arange(fine, dtype=torch.float64) + 0.5) / fine
        cycles = cycles.reshape(self.n_rows, self._every).mT  # (offset, row)
        window = torch.hamming_window(self.length, periodic=False, dtype=torch.float64)
        angle = -2 * torch.pi * torch.arange(self.length)[:, None] * cycles[:, None]
        kernel = torch.polar(window[:, None] / math.sqrt(self.length) * torch.ones_like(angle), angle)
        # Real products, because a complex buffer would lose its other half in a conversion to another precision.
        self.register_buffer("kernel_re", kernel.real.float(), persistent=False)
        self.register_buffer("kernel_im", kernel.imag.float(), persistent=False)
        self.shape = (
            (1, self.n_rows, 2 * self.n_signals * self.n_windows)
            if joined
            else (in_channels, self.n_rows, self.n_windows)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        needed = self.length + self.hop * (self.n_windows - 1)
        parts = nn.functional.pad(x, (0, max(0, needed - self.n_points)))[..., :needed].unfold(
            -1, self.length, self.hop
        )
        # (batch, channel, window, length) -> by offset: windows 0, 8, 16, 24; then 1, 9, ...
        parts = parts.unflatten(2, (self.n_windows // self._every, self._every)).permute(3, 0, 1, 2, 4)
        shape = parts.shape[1:-1]
        flat = parts.reshape(self._every, -1, self.length)
        by_re, by_im = (torch.bmm(flat, kernel).unflatten(1, shape) for kernel in (self.kernel_re, self.kernel_im))
        re = by_re[:, :, 0::2] - by_im[:, :, 1::2]
        im = by_im[:, :, 0::2] + by_re[:, :, 1::2]
        both = torch.stack([re, im], 3)  # (offset, batch, signal, part, group, row)
        both = both.permute(1, 2, 3, 5, 4, 0).flatten(-2)  # (batch, signal, part, row, window)
        if self.joined:
            return both.flatten(1, 2).permute(0, 2, 1, 3).flatten(2)[:, None]
        return both.flatten(1, 2)


class Scalogram(View):
    """Continuous wavelet transform, real and imaginary parts as channels, ``(in_channels, n_rows, n_columns)``.

    Wavelets are PyWavelets' complex Morlet of bandwidth 3 and centre 1, which is about as long as MATLAB's default
    Morse wavelet; their gain is one where they are most sensitive, as in MATLAB.  Rows are evenly spaced in the
    logarithm of the frequency's distance from the carrier, one side of it after the other where the band has both; a
    wavelet of the other side is the mirrored one.  ``ptwt`` makes them once, here.

    Raises
    ------
    OptionError
        Where ptwt is not installed.
    """

    wavelet = "cmor3.0-1.0"
    gain_ri: torch.Tensor

    def __init__(self, n_points: int, in_channels: int = 2, band=WHOLE, *, n_rows: int = 64, n_columns: int = 128):
        super().__init__(n_points, in_channels)
        try:
            import ptwt
            import pywt
        except ImportError as exc:
            raise OptionError(
                f"needs ptwt, which cannot be loaded ({exc})", option="encoder", value="scalogram", remedy=_EXTRA
            ) from exc
        cycles = _wavelet_frequencies(band, n_points, n_rows)
        impulse = torch.zeros(1, 2 * n_points - 1, dtype=torch.float64)
        impulse[0, n_points - 1] = 1
        scales = pywt.central_frequency(self.wavelet) / np.abs(cycles)
        answer = ptwt.cwt(impulse, scales, pywt.ContinuousWavelet(self.wavelet))[0][:, 0]
        answer = torch.where(torch.as_tensor(cycles < 0)[:, None], answer.conj(), answer)
        self.step = max(1, -(-n_points // n_columns))
        self.n_columns = -(-n_points // self.step)
        whole = 2 * self.step * self.n_columns
        around = torch.zeros(len(cycles), whole, dtype=answer.dtype)
        around[:, :n_points] = answer[:, n_points - 1 :]
        around[:, whole - n_points + 1 :] = answer[:, : n_points - 1]
        gain = torch.fft.fft(around)
        gain = gain / gain.abs().amax(-1, keepdim=True)
        self.cycles = cycles
        self.register_buffer("gain_ri", torch.view_as_real(gain).float(), persistent=False)
        self.shape = (in_channels, len(cycles), self.n_columns)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gain = torch.view_as_complex(self.gain_ri)
        spec = torch.fft.fft(_complex(x), n=gain.shape[-1], dim=-1)[:, :, None] * gain
        # Every step-th point of the inverse transform is the inverse of the spectrum folded as often.
        folded = spec.unflatten(-1, (self.step, -1)).mean(-2)
        return _channels(torch.fft.ifft(folded, dim=-1)[..., : self.n_columns])


def _wavelet_frequencies(band, n_points: int, n_rows: int) -> np.ndarray:
    """Cycles per point of the wavelets, ``(n_rows,)``: as near to the carrier as a few periods in the FID, as far as
    sampling allows."""
    least, most = 4 / n_points, 0.45
    sides = [(-1, -band[0], -band[1]), (1, band[1], band[0])]
    sides = [(sign, min(far, most), max(near, least)) for sign, far, near in sides if far > least]
    sides = [side for side in sides if side[1] > side[2]] or [(1, most, least)]
    counts = [n_rows // len(sides)] * len(sides)
    counts[0] += n_rows - sum(counts)
    return np.concatenate([sign * np.geomspace(far, near, n) for (sign, far, near), n in zip(sides, counts)])


class Scattering(View):
    """Wavelet scattering of real and imaginary parts, ``(in_channels, n_paths, n_windows)``: two filter banks of
    quality 8 and 1.

    By kymatio; as far averaged as leaves at least 8 windows and the FID is long enough for.  1024 points have 176 paths
    and 8 windows (MATLAB's framework has 154).

    Raises
    ------
    OptionError
        Where kymatio is not installed.
    """

    def __init__(self, n_points: int, in_channels: int = 2):
        super().__init__(n_points, in_channels)
        try:
            from .kymatio_torch import QuickBackend, ScatteringTorch1D
        except ImportError as exc:
            raise OptionError(
                f"needs kymatio, which cannot be loaded ({exc})", option="encoder", value="wscn", remedy=_EXTRA
            ) from exc
        scattering = None
        for scale in range(7, 1, -1):
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("error", UserWarning)  # that the FID is too short for the longest wavelets
                    scattering = ScatteringTorch1D(J=scale, shape=n_points, Q=(8, 1))
                break
            except UserWarning:
                continue
        if scattering is None:
            raise OptionError(
                f"{n_points} points are too few for wavelets", option="encoder", value="wscn", remedy="use more"
            )
        scattering.backend = QuickBackend
        # In a tuple, so that its filters, which are no weights, are not saved with the network.
        self.transform = (scattering,)
        self.shape = (in_channels, *scattering(torch.zeros(1, n_points)).shape[-2:])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scattering = self.transform[0].to(x.device)
        return scattering(x.contiguous())
