"""Networks that propose initial values for any protocol: ``quant-universal`` and ``align-universal``.

Both take spectra on one grid, fixed in ppm, and are thus independent of field strength, bandwidth and number of points.
:class:`PpmGrid` interpolates spectra there.  Outputs are in ppm and radians;
:mod:`fsl_mrs_dl.fitting.network_initialisation` and :mod:`fsl_mrs_dl.preproc.proposals` turn them into parameters.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from ..core import units
from . import encoders

__all__ = ["GRID_PPM", "STEP_PPM", "AlignUniversal", "PpmGrid", "QuantUniversal", "peaks"]

GRID_PPM = 4.65 + 0.009375 * np.arange(-474, -474 + 424)
"""The grid, ppm: 424 points from 0.206 to 4.172."""

STEP_PPM = 0.009375
"""Distance of two points of the grid, ppm."""

_N_FFT = 1024  # twice the grid and more, so that lags do not wrap round


class PpmGrid:
    """Linear map from spectra on the bins of a discrete Fourier transform to spectra on the fixed grid.

    Parameters
    ----------
    bins : int array
        Bins of the transform (not shifted) that are known; everything outside them counts as zero.
    n_points, dwelltime, spec_freq_mhz
        Of the data; seconds, MHz.
    longest_s : float, optional
        FIDs are cut there; later points are mostly noise.  ``106.7 / spec_freq_mhz`` by default, the
        resolution of the grid.
    """

    def __init__(self, bins, n_points: int, dwelltime: float, spec_freq_mhz: float, longest_s: float | None = None):
        longest_s = longest_s or 1 / (STEP_PPM * spec_freq_mhz)
        n_kept = min(n_points, max(1, round(longest_s / dwelltime)))
        hz = torch.as_tensor(units.ppm_to_hz(GRID_PPM, spec_freq_mhz)).double()
        # The sum over the kept FID of exp(2j pi x k): its turns per point are those of a bin less those of a point of
        # the grid.
        turns = torch.as_tensor(bins).double()[:, None] / n_points - hz * dwelltime
        turns = turns - turns.round()
        size = torch.special.sinc(n_kept * turns) / torch.special.sinc(turns) * (n_kept / n_points)
        self.matrix = torch.polar(size.abs(), torch.pi * ((n_kept - 1) * turns + (size < 0))).to(torch.complex64)

    def __call__(self, spec: torch.Tensor) -> torch.Tensor:
        """Return spectra on the grid, complex64 ``(..., 424)``, from complex ``(..., n_bins)``."""
        if self.matrix.device != spec.device:
            self.matrix = self.matrix.to(spec.device)
        return spec.to(torch.complex64) @ self.matrix


def _channels(spec: torch.Tensor) -> torch.Tensor:
    """Return complex spectra ``(batch, n)`` as real channels ``(batch, 4, n)``: plain, and with their range compressed.

    A residual water or lipid line may be ten times the metabolites; divided by ``|spec| + median`` both are visible.
    """
    size = spec.abs()
    full = spec / size.amax(-1, keepdim=True).clamp(min=1e-30)
    soft = spec / (size + 3 * size.median(-1, keepdim=True).values.clamp(min=1e-30))
    return torch.stack([full.real, full.imag, soft.real, soft.imag], -2)


class QuantUniversal(nn.Module):
    """Network for the nuisance parameters of a spectrum with any basis set; concentrations follow from them linearly.

    The shift is given as a distribution over 81 steps of 0.01 ppm, which may have several maxima.

    Parameters
    ----------
    encoder : str
        One of :data:`fsl_mrs_dl.networks.encoders.ENCODERS`.
    arguments : dict, optional
        Of the encoder.
    """

    n_shifts, step_ppm, n_knots = 81, 0.01, 16
    shifts_ppm: torch.Tensor

    def __init__(self, encoder: str = "resnet", arguments: dict | None = None):
        super().__init__()
        self.settings = {"encoder": encoder, "arguments": arguments or {}}
        n_out = self.n_shifts + 2 + 1 + 2 + 2 * self.n_knots
        self.encoder = encoders.make(encoder, n_points=len(GRID_PPM), n_out=n_out, in_channels=5, **(arguments or {}))
        self.register_buffer(
            "shifts_ppm", (torch.arange(self.n_shifts) - self.n_shifts // 2) * self.step_ppm, persistent=False
        )

    def forward(self, spec: torch.Tensor, spec_freq_mhz: float | torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the parameters of complex spectra on the grid ``(batch, 424)``, with the spectrometer frequency (MHz).

        Returns
        -------
        dict
            ``shift_logits`` ``(batch, 81)``; ``phase`` ``(batch, 2)``, cosine and sine of the phase at 2.2 ppm, of any
            length; ``phi1`` rad per ppm, ``lorentz_hz``, ``gauss_hz`` ``(batch,)``; ``baseline`` complex ``(batch,
            16)``, the mean of everything but metabolites over 16 parts of the grid, over the largest magnitude of the
            spectrum.
        """
        frequency = torch.as_tensor(spec_freq_mhz, dtype=torch.float32, device=spec.device).expand(len(spec))
        known = (torch.log(frequency / 128) / 1.0)[:, None, None].expand(-1, 1, spec.shape[-1])
        out = self.encoder(torch.cat([_channels(spec), known], 1))
        shift, phase, phi1, widths, baseline = out.split([self.n_shifts, 2, 1, 2, 2 * self.n_knots], -1)
        lorentz, gauss = nn.functional.softplus(widths * 4).unbind(-1)
        return {
            "shift_logits": shift,
            "phase": phase,
            "phi1": phi1[:, 0] * 0.1,
            "lorentz_hz": lorentz,
            "gauss_hz": gauss,
            "baseline": torch.complex(*baseline.chunk(2, -1)),
        }

    def propose(self, spec, spec_freq_mhz, n_candidates: int = 3) -> dict[str, torch.Tensor]:
        """Return the likeliest shifts ``(batch, n_candidates)`` in ppm with their probabilities, and the other
        parameters once each."""
        out = self(spec, spec_freq_mhz)
        shift, probability = peaks(out["shift_logits"], self.shifts_ppm, n_candidates)
        cosine, sine = out["phase"].unbind(-1)
        return {
            "shift_ppm": shift,
            "probability": probability,
            "phi0": torch.atan2(sine, cosine),
            **{name: out[name] for name in ("phi1", "lorentz_hz", "gauss_hz", "baseline")},
        }


def peaks(logits: torch.Tensor, values: torch.Tensor, n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return position and mass of the ``n`` largest maxima of a distribution over evenly spaced values.

    The position is the mean over five values around the maximum.
    """
    mass = torch.softmax(logits, -1)
    padded = nn.functional.pad(mass, (2, 2))
    around = padded.unfold(-1, 5, 1)
    total = around.sum(-1)
    highest = total == nn.functional.max_pool1d(nn.functional.pad(total, (3, 3))[:, None], 7, 1)[:, 0]
    probability, index = (total * highest).topk(n, -1)
    step = values[1] - values[0]
    part = around.gather(1, index[..., None].expand(-1, -1, 5))
    offset = (part * torch.arange(-2, 3, device=part.device)).sum(-1) / part.sum(-1).clamp(min=1e-12)
    return values[index] + offset * step, probability


class AlignUniversal(nn.Module):
    """Network for the relative shift and phase of a transient and its reference, by a weighted correlation.

    A small network weighs every point of both spectra, so that unstable water and lipids do not count; the correlation
    of the weighted spectra over all lags is the distribution of the shift, and its angle the phase.

    Parameters
    ----------
    width, depth : int
        Channels and number of the convolutions, each of which reaches twice as far as the one before.
    """

    n_lags = 53  # to either side: 0.497 ppm
    lags: torch.Tensor

    def __init__(self, width: int = 24, depth: int = 6):
        super().__init__()
        self.settings = {"width": width, "depth": depth}
        layers: list[nn.Module] = [nn.Conv1d(9, width, 7, padding=3), nn.GELU()]
        for index in range(depth - 1):
            reach = 2 ** (index % 5)
            layers += [nn.Conv1d(width, width, 5, padding=2 * reach, dilation=reach), nn.GroupNorm(4, width), nn.GELU()]
        self.body = nn.Sequential(*layers)
        self.weights = nn.Conv1d(width, 2, 1)
        self.sharpness = nn.Linear(width, 1)
        self.register_buffer("lags", torch.arange(-self.n_lags, self.n_lags + 1), persistent=False)

    @property
    def shifts_ppm(self) -> torch.Tensor:
        """Shift of every lag, ppm."""
        return self.lags * STEP_PPM

    def forward(self, transient: torch.Tensor, reference: torch.Tensor, spec_freq_mhz) -> dict[str, torch.Tensor]:
        """Return ``shift_logits`` and ``correlation`` (complex), ``(batch, 107)``, of complex spectra on the grid,
        ``(batch, 424)`` each.

        Positive shifts: the transient lies at higher ppm than the reference.  ``weights`` ``(batch, 2, 424)`` are those
        of the points.
        """
        frequency = torch.as_tensor(spec_freq_mhz, dtype=torch.float32, device=transient.device).expand(len(transient))
        known = torch.log(frequency / 128)[:, None, None].expand(-1, 1, transient.shape[-1])
        features = self.body(torch.cat([_channels(transient), _channels(reference), known], 1))
        weights = torch.sigmoid(self.weights(features))
        x, r = (
            one / one.abs().square().mean(-1, keepdim=True).sqrt().clamp(min=1e-30) * weights[:, index]
            for index, one in enumerate((transient, reference))
        )
        product = torch.fft.fft(x, _N_FFT) * torch.fft.fft(r, _N_FFT).conj()
        correlation = torch.fft.ifft(product)[:, self.lags]
        energy = x.abs().square().sum(-1, keepdim=True) * r.abs().square().sum(-1, keepdim=True)
        sharp = nn.functional.softplus(self.sharpness(features.mean(-1)) + 2) * 20
        similar = correlation.abs().square() / energy.clamp(min=1e-30)
        return {"shift_logits": sharp * similar, "correlation": correlation, "weights": weights, "product": product}

    def propose(self, transient, reference, spec_freq_mhz) -> dict[str, torch.Tensor]:
        """Return the likeliest shift (ppm) and the phase there (rad, FSL-MRS's sign), ``(batch,)`` each.

        The correlation is interpolated between the lags around the likeliest one, to its maximum.
        """
        out = self(transient, reference, spec_freq_mhz)
        _, probability = peaks(out["shift_logits"], self.shifts_ppm.to(torch.float32), 1)
        lag = self.lags[out["shift_logits"].argmax(-1)]
        # The transform of a spectrum runs through time backwards; the first quarter is the little that weighting puts
        # before zero.
        time = torch.arange(_N_FFT, device=lag.device)
        time = torch.where(time > 0.25 * _N_FFT, time - _N_FFT, time).to(torch.float32)
        step = 1 / 16
        fine = torch.arange(-24, 25, device=lag.device) * step
        turned = out["product"] * torch.polar(
            torch.ones(1, device=lag.device), 2 * torch.pi / _N_FFT * lag[:, None] * time
        )
        angle = 2 * torch.pi / _N_FFT * time[:, None] * fine
        around = turned @ torch.polar(torch.ones_like(angle), angle)
        size = around.abs().square()
        best = size[:, 1:-1].argmax(-1, keepdim=True) + 1
        low, middle, high = (size.gather(-1, best + k)[:, 0] for k in (-1, 0, 1))
        bend = (low - 2 * middle + high).clamp(max=-1e-30)
        offset = (0.5 * (low - high) / bend).clamp(-1, 1) * step
        phase = around.gather(-1, best)[:, 0].angle()
        shift = (lag + fine[best[:, 0]] + offset) * STEP_PPM
        return {"shift_ppm": shift, "probability": probability[:, 0], "phi0": -phase}
