"""Starters: where a fit begins.

A starter looks at spectra and proposes nonlinear parameters; :mod:`fsl_mrs_dl.refine` finishes them.  Several proposals per
spectrum are welcome, the one with the lowest cost is taken.  The classical search here needs no training and no prior but
what a brain spectrum roughly looks like; it is also the fallback where no network applies.
"""

from __future__ import annotations

import json
from functools import lru_cache
from importlib import resources
from typing import Protocol

import numpy as np
import torch

from .errors import OptionError
from .signal_model import SignalModel

__all__ = ["Starter", "ClassicalStarter", "AlsoFrom", "STARTERS", "typical_concentrations", "is_macromolecule"]


class Starter(Protocol):
    """What a starter is: a name and a call."""

    name: str

    def __call__(self, spec: torch.Tensor, model: SignalModel, names: list[str]) -> torch.Tensor:
        """Spectra in the window, complex ``(batch, n_window)`` -> proposals ``(batch, n_candidates, n_theta)``."""


@lru_cache
def _table() -> dict:
    return json.loads(resources.files("fsl_mrs_dl").joinpath("data/brain_concentrations.json").read_text())


def is_macromolecule(name: str) -> bool:
    """Is a basis entry a macromolecule or lipid rather than a metabolite?  By the names in use: Mac, mm, MM09, Lip13."""
    return name.lower() in ("mac", "mm", "mmbg", "macro") or name[:2].upper() == "MM" or name[:3].lower() == "lip"


def typical_concentrations(names: list[str]) -> np.ndarray | None:
    """Typical brain concentration of each name, mmol/kg, shape ``(n_metabs,)``; zero where not known.

    ``None`` if the set does not look like metabolites of the brain: fewer than three known names.
    """
    table, aliases = _table()["concentrations"], _table()["aliases"]
    values = np.array([table.get(aliases.get(name, name), 0.0) for name in names])
    return values if np.count_nonzero(values) >= 3 else None


class ClassicalStarter:
    """Matched filter of the windowed spectrum with the basis at typical concentrations, for a few line widths.

    The position of the filter's maximum gives the shift, its argument the phase; both are exact for white noise and a true
    template, whatever the phase.  The template's norm inside the window is taken into account, so that a strong signal near
    the edge of the window does not attract it.

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
        weights = typical_concentrations(names) if model.nucleus == "1H" else None
        if weights is None:
            norm = model.basis.abs().square().sum(-1).sqrt().cpu().numpy()
            weights = np.array([0.0 if is_macromolecule(name) else 1 / max(size, 1e-300) for name, size in zip(names, norm)])
            weights = weights if weights.any() else np.ones(len(names))
        weights = torch.as_tensor(weights, device=spec.device).to(model.complex_dtype)
        template = weights @ model.basis
        widths = torch.tensor(self.widths_hz, dtype=model.dtype, device=spec.device) * torch.pi
        templates = template * torch.exp(-widths[:, None] * model.time)

        # The data stay fixed in their window; it is the template that moves.
        windowed = spec.new_zeros(len(spec), n)
        windowed[:, model.bins] = model.eliminate_baseline(spec)
        data = torch.fft.ifft(windowed, dim=-1, norm="ortho")
        first_halved = templates.clone()
        first_halved[:, 0] *= 0.5
        hz = torch.fft.fftfreq(pad, model.dwelltime, dtype=model.dtype, device=spec.device)
        near = (hz.abs() <= self.max_shift_ppm * model.spec_freq_mhz).nonzero()[:, 0]
        filtered = torch.fft.fft(first_halved.conj() * data[:, None], n=pad, dim=-1)[..., near]
        score = filtered.abs() / self._norm_in_window(first_halved, model)[:, near].sqrt()
        best = score.argmax(-1, keepdim=True)
        shift = hz[near][best]
        angle = filtered.gather(-1, best).angle()
        zero = torch.zeros_like(angle)
        # Basis and data both have lines of their own; the proposals differ in what is added to the basis'.
        gamma = widths[None, :, None].expand_as(angle)
        eps = -2 * torch.pi * shift
        blocks = {"gamma": gamma, "variance": zero, "eps": eps, "phi0": -angle, "phi1": zero}
        return model.join_theta(**{name: blocks[name] for name in model.theta_sizes})

    @staticmethod
    def _norm_in_window(templates: torch.Tensor, model: SignalModel) -> torch.Tensor:
        """Energy of each template inside the window when shifted by each bin of the padded grid, ``(n_widths, 2n)``."""
        pad = 2 * model.n_points
        power = torch.fft.fft(templates, n=pad, dim=-1, norm="ortho").abs() ** 2
        window = torch.zeros(pad, dtype=power.dtype, device=power.device)
        window[torch.cat([2 * model.bins, (2 * model.bins + 1) % pad])] = 1.0
        moved = torch.fft.ifft(torch.fft.fft(window) * torch.fft.fft(power, dim=-1).conj(), dim=-1).real
        return moved.clamp(min=moved.amax(-1, keepdim=True) * 1e-6)


class AlsoFrom:
    """Another starter's proposals and one more: parameters known beforehand, such as those of a volume's average.

    Parameters
    ----------
    starter : Starter
        Whose proposals are kept; its name too.
    params : array ``(n_params,)``
        FSL-MRS's parameter vector of ``model``.
    model : SignalModel

    Raises
    ------
    OptionError
        If the vector has another length than the model's, or is not finite.
    """

    def __init__(self, starter: Starter, params, model: SignalModel):
        vector = torch.as_tensor(np.asarray(params, float).copy())
        if vector.shape != (model.n_params,) or not torch.isfinite(vector).all():
            raise OptionError(
                f"x0: {tuple(vector.shape)} numbers, all finite, were expected to be {model.n_params}: one for each parameter of "
                f"the {model.name} model with {model.n_metabs} metabolites and this baseline; leave x0 out, or give such a vector."
            )
        self.starter, self.name = starter, starter.name
        theta, _, _ = model.unpack(vector)
        self.blocks, self.groups = model.split_theta(theta), torch.as_tensor(model.groups)

    def __call__(self, spec: torch.Tensor, model: SignalModel, names: list[str]) -> torch.Tensor:
        proposals = self.starter(spec, model, names)
        blocks = dict(self.blocks)
        if len(blocks["eps"]) != model.theta_sizes["eps"]:
            # Free shifts are released from a fit with shared ones, which starts from each group's median.
            eps = blocks["eps"]
            blocks["eps"] = torch.stack([eps[self.groups == group].median() for group in range(model.n_groups)])
        known = model.join_theta(**blocks).to(proposals)
        return torch.cat([proposals, known.expand(len(proposals), 1, -1)], dim=1)


STARTERS = {ClassicalStarter.name: ClassicalStarter}
"""The starters by name."""
