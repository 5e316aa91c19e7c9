"""Initial values of an in vivo fit: shift, phase, width and scale by matched filters with typical spectra, the baseline
eliminated."""

from __future__ import annotations

import torch

from ...physics.progression import progression
from .solver import Problem

__all__ = ["classical_start"]

_GAMMAS = (4.0, 10.0, 25.0)  # 1/s
_SHIFT_STEP_PPM = 0.01


def classical_start(
    problem: Problem, *, most_ppm: float = 0.25, about_ppm: float = 0.0, strength: int = -1
) -> torch.Tensor:
    """Return starting parameters ``(b, n_params)``: the best shift, width and phase for sums of typical metabolites and
    of macromolecules.

    Parameters
    ----------
    most_ppm : float
        Largest shift that is searched.
    about_ppm : float
        Shift that the search is about.
    strength : int
        Index of the baseline's strength that is eliminated.
    """
    model = problem.model
    s, mhz = model.slices, model.window.axes.spec_freq_mhz
    shifts = (about_ppm + torch.arange(-most_ppm, most_ppm + 1e-9, _SHIFT_STEP_PPM)) * mhz
    grid = torch.cartesian_prod(torch.tensor(_GAMMAS), shifts).to(model.prior_mean)
    x = model.prior_mean.repeat(len(grid), 1)
    x[:, s["gamma"]] = torch.log(grid[:, :1] + model.least_gamma)
    x[:, s["shift"]] = grid[:, 1:]
    mm = torch.as_tensor(model.components.kinds == "mm", device=x.device)
    water = None if problem.water is None else problem.water.mean(0, keepdim=True)
    # Sums of components at the prior; shifts and dampings that are common to all are products with these.
    signals = model.signals(model.prior_mean[None], model.basis, model.time, water)[0]
    sums = torch.stack([signals[~mm].sum(0), signals[mm].sum(0)])
    damping = torch.exp(model.prior_mean[s["gamma"]]) - model.least_gamma - grid[:, 0]
    turns = torch.complex(damping, 2 * torch.pi * (grid[:, 1] - model.prior_mean[s["shift"]]))
    step = model.time[1] - model.time[0]
    common = progression(turns * model.time[0], turns * step, len(model.time))
    templates = model.to_window(sums * common[:, None])
    amplitudes, score = _projections(problem, templates, strength)
    score = score.reshape(len(score), len(_GAMMAS), -1)
    by_gamma = score.max(-1)
    gamma_index = by_gamma.values.argmax(-1)
    index = gamma_index * len(shifts) + by_gamma.indices.gather(1, gamma_index[:, None])[:, 0]
    amplitude = amplitudes[torch.arange(len(index)), index]
    start = x[index].clone()
    scale = amplitude[:, 0].abs().clamp(min=1e-30)
    phase = -torch.angle(amplitude[:, 0])
    mm_scale = torch.maximum((amplitude[:, 1] * torch.exp(1j * phase)).real, 0.2 * scale)
    start[:, s["log_amp"]] += torch.where(mm, torch.log(mm_scale)[:, None], torch.log(scale)[:, None])
    start[:, s["scale"]] += torch.log(scale)[:, None]
    start[:, s["mm_scale"]] += torch.log(mm_scale)[:, None]
    start[:, s["phi0"]] = phase[:, None]
    return start


def _projections(problem: Problem, templates: torch.Tensor, strength: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return complex amplitudes ``(b, g, 2)`` of metabolites and macromolecules for templates ``(g, 2, n_window)``, and
    the energy they explain ``(b, g)``."""
    templates = problem.without_free(templates)
    share = problem.shares[strength].to(templates.dtype)
    weighted = templates - ((templates @ problem.vectors.conj()) * share) @ problem.vectors.mT
    gram = weighted @ templates.mH
    size = gram.diagonal(dim1=-2, dim2=-1).real.mean()
    gram = gram + 1e-3 * size * torch.eye(2, dtype=gram.dtype, device=gram.device)
    dots = torch.einsum("bw,gkw->bgk", problem.target, weighted.conj())
    amplitudes = torch.linalg.solve(gram.mT[None], dots[..., None])[..., 0]
    score = (amplitudes * dots.conj()).real.sum(-1)
    # Macromolecules upside down are less likely than a spectrum that fits a little worse.
    together = (amplitudes[..., 1] * amplitudes[..., 0].conj()).real
    return amplitudes, torch.where(together >= 0, score, 0.97 * score)
