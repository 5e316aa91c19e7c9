"""Initial values of a fit: nonlinear parameters proposed from the spectra.

:mod:`fsl_mrs_dl.fitting.varpro` refines them.  Of several proposals per spectrum the one with the lowest cost is taken.
The classical search needs no training and no prior but typical concentrations of a brain; it is also the fallback where
no network applies.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch

from ..core.metabolites import is_macromolecule, typical_concentrations
from ..physics.signal_model import SignalModel
from .coarse_model import ReducedModel, reduced

__all__ = ["InitialValues", "ClassicalSearch"]


class InitialValues(Protocol):
    """Source of initial values: a name and a call."""

    name: str

    def __call__(self, spec: torch.Tensor, model: SignalModel, names: list[str]) -> torch.Tensor:
        """Return proposals ``(batch, n_candidates, n_theta)`` for spectra in the window, complex ``(batch, n_window)``.

        The first of each spectrum is finite; NaN marks absent ones.
        """


_N_WIDTHS = 2  # line widths proposed, of those tried


class ClassicalSearch:
    """Matched filter of the windowed spectrum with the basis at typical concentrations, for a few line widths.

    The position of the filter's maximum gives the shift, its argument the phase; both are exact for white noise and a
    true template, whatever the phase.  The template's norm inside the window is taken into account, so that a strong
    signal near the edge of the window does not attract it.

    Parameters
    ----------
    max_shift_ppm : float
        Shifts to either side that are searched.
    widths_hz : tuple of float
        Lorentzian line widths tried, full width at half maximum.
    """

    name = "classical"

    def __init__(self, max_shift_ppm: float = 0.35, widths_hz: tuple[float, ...] = (2.0, 6.0, 14.0, 30.0)):
        self.max_shift_ppm = max_shift_ppm
        self.widths_hz = widths_hz

    def __call__(self, spec: torch.Tensor, model: SignalModel, names: list[str]) -> torch.Tensor:
        n, pad = model.n_points, 2 * model.n_points
        typical = typical_concentrations(names) if model.nucleus == "1H" else None
        if typical is None:
            norm = model.basis.abs().square().sum(-1).sqrt().cpu().numpy()
            typical = np.array(
                [0.0 if is_macromolecule(name) else 1 / max(size, 1e-300) for name, size in zip(names, norm)]
            )
            typical = typical if typical.any() else np.ones(len(names))
        weights = torch.as_tensor(typical, device=spec.device).to(model.complex_dtype)
        widths = torch.tensor(self.widths_hz, dtype=model.dtype, device=spec.device) * torch.pi
        hz = torch.fft.fftfreq(pad, model.dwelltime, dtype=model.dtype, device=spec.device)
        near = (hz.abs() <= self.max_shift_ppm * model.spec_freq_mhz).nonzero()[:, 0]
        templates = (weights @ model.basis) * torch.exp(-widths[:, None] * model.time)
        templates[:, 0] *= 0.5
        template_norm = self._norm_in_window(templates, model)[:, near].sqrt()
        # The template is shifted; the data stay in their window.
        data, small = model.eliminate_baseline(spec), reduced(model, len(spec))
        if isinstance(small, ReducedModel) and self.max_shift_ppm * model.spec_freq_mhz <= small.most_shift / (
            2 * torch.pi
        ):
            filtered = small.correlate(weights, widths, data, hz[near])
        else:
            windowed = spec.new_zeros(len(spec), n)
            windowed[:, model.bins] = data
            data = torch.fft.ifft(windowed, dim=-1, norm="ortho")
            filtered = torch.fft.fft(templates.conj() * data[:, None], n=pad, dim=-1)[..., near]
        score = filtered.abs() / template_norm
        best = score.argmax(-1, keepdim=True)
        shift = hz[near][best]
        angle = filtered.gather(-1, best).angle()
        zero = torch.zeros_like(angle)
        # The widths are added to those of the basis set.  Only the likeliest of them are proposed.
        gamma = widths[None, :, None].expand_as(angle)
        likely = score.amax(-1, keepdim=True).topk(min(_N_WIDTHS, len(widths)), dim=1).indices
        gamma, shift, angle, zero = (values.gather(1, likely) for values in (gamma, shift, angle, zero))
        eps = -2 * torch.pi * shift
        blocks = {"gamma": gamma, "variance": zero, "eps": eps, "phi0": -angle, "phi1": zero}
        return model.join_theta(**{name: blocks[name] for name in model.theta_sizes})

    @staticmethod
    def _norm_in_window(templates: torch.Tensor, model: SignalModel) -> torch.Tensor:
        """Return the energy of each template inside the window when shifted by each bin of the padded grid,
        ``(n_widths, 2n)``."""
        pad = 2 * model.n_points
        power = torch.fft.fft(templates, n=pad, dim=-1, norm="ortho").abs() ** 2
        window = torch.zeros(pad, dtype=power.dtype, device=power.device)
        window[torch.cat([2 * model.bins, (2 * model.bins + 1) % pad])] = 1.0
        moved = torch.fft.ifft(torch.fft.fft(window) * torch.fft.fft(power, dim=-1).conj(), dim=-1).real
        return moved.clamp(min=moved.amax(-1, keepdim=True) * 1e-6)
