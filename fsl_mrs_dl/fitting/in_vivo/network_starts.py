"""Initial values of an in vivo fit that a network proposes: shift, phases and widths at once, for any basis set;
amplitudes follow from them linearly."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch

from ...core import units
from ...core.errors import OptionError
from ...networks import model_cards
from ...networks.universal import PpmGrid
from ...physics.in_vivo_model import InVivoModel
from .solver import NormalEquations, Problem, systems
from .starts import classical_start

__all__ = ["IN_VIVO_NETWORK", "check_network", "network_refuses", "network_start", "start_with_network"]

IN_VIVO_NETWORK = "quant-universal"
"""The model that proposes initial values of the in-vivo model."""

_LEAST_AMPLITUDE = 0.05  # of the expected one


def network_refuses(model: InVivoModel, name: str = IN_VIVO_NETWORK) -> str:
    """Return the reason why the network is not for data like these; empty if it is."""
    axes = model.window.axes
    return model_cards.read_card(name).refuses(
        nucleus=axes.nucleus,
        spec_freq_mhz=axes.spec_freq_mhz,
        ppm_low=float(model.window.ppm[0]),
        ppm_high=float(model.window.ppm[-1]),
        acquired_s_mhz=axes.n_points * axes.dwelltime * axes.spec_freq_mhz,
    )


def check_network(model: InVivoModel, init: str) -> None:
    """Raise OptionError if the network is not for data like these."""
    reason = network_refuses(model)
    if reason:
        raise OptionError(
            f"the network {IN_VIVO_NETWORK} is not for data like these: {reason}",
            option="init",
            value=init,
            remedy="choose classical, or leave it out",
        )


def start_with_network(problem: Problem, init: str, *, name: str = IN_VIVO_NETWORK) -> torch.Tensor:
    """Return starting parameters ``(b, n_params)``: a network's for ``init`` 'network', and for 'both' those of network
    and classical search whose cost is lower."""
    proposed = network_start(problem, name=name)
    if init == "network":
        return proposed
    classical, share = classical_start(problem), problem.shares[-1].expand(len(proposed), -1)
    cost, other = (systems(problem, NormalEquations.at(problem, x), x, share)[2] for x in (proposed, classical))
    return torch.where((cost < other)[:, None], proposed, classical)


def network_start(
    problem: Problem, *, name: str = IN_VIVO_NETWORK, candidate: int = 0, strength: int = -1
) -> torch.Tensor:
    """Return starting parameters ``(b, n_params)`` as :func:`.starts.classical_start` does, proposed by a network.

    Parameters
    ----------
    problem : Problem
    name : str
        A model of the kind quant-universal, by name or folder.
    candidate : int
        Which of the network's likeliest shifts, from 0 to 2.
    strength : int
        Index of the baseline's strength that is eliminated where amplitudes are estimated.
    """
    model = problem.model
    s, mhz = model.slices, model.window.axes.spec_freq_mhz
    with torch.no_grad():
        proposal = _network(name).propose(_grid(model)(problem.spectra.cpu()), mhz)
    proposal = {key: value.to(model.prior_mean) for key, value in proposal.items() if not value.is_complex()}
    x = model.prior_mean.repeat(len(problem.spectra), 1)
    shift = proposal["shift_ppm"][:, candidate] * mhz
    slope = proposal["phi1"] / mhz
    x[:, s["shift"]] = shift[:, None]
    x[:, s["phi1"]] = slope[:, None]
    # The model's phases turn about its pivot, and its time starts at one dwell time.
    pivot = model.pivot - units.ppm_to_hz(2.2, mhz)
    phi0 = proposal["phi0"] + slope * pivot + 2 * torch.pi * shift * model.window.axes.dwelltime
    x[:, s["phi0"]] = phi0[:, None]
    if problem.water is None:
        gamma = torch.pi * proposal["lorentz_hz"] + model.least_gamma
        variance = (torch.pi * proposal["gauss_hz"]) ** 2 / (4 * math.log(2))
        for block, value in (("gamma", gamma), ("variance", variance)):
            centre, sd = model.prior_mean[s[block]], model.prior_precision.diagonal()[s[block]] ** -0.5
            log = torch.log(value.clamp(min=1e-6))[:, None]
            x[:, s[block]] = torch.minimum(torch.maximum(log, centre - 2 * sd), centre + 2 * sd)
    return _with_amplitudes(problem, x, strength)


@lru_cache(maxsize=2)
def _network(name: str):
    return model_cards.load(name)[0]


def _grid(model: InVivoModel) -> PpmGrid:
    window = model.window
    return _kept_grid(window.first, window.last, window.axes.n_points, window.axes.dwelltime, window.axes.spec_freq_mhz)


@lru_cache(maxsize=4)
def _kept_grid(first: int, last: int, n_points: int, dwelltime: float, spec_freq_mhz: float) -> PpmGrid:
    bins = (np.arange(first, last) - n_points // 2) % n_points
    return PpmGrid(bins, n_points, dwelltime, spec_freq_mhz)


def _with_amplitudes(problem: Problem, x: torch.Tensor, strength: int) -> torch.Tensor:
    """Return parameters with amplitudes for their shifts, phases and widths: the scales of metabolites and
    macromolecules by least squares, then each amplitude about them with its prior's width."""
    model = problem.model
    s = model.slices
    spectra = problem.without_free(model.component_spectra(x, problem.water))
    # The target holds no free part, so that products with it need no projection.
    in_baseline = spectra @ problem.vectors.conj()
    share = problem.shares[strength].to(spectra.dtype)
    gram = (spectra.conj() @ spectra.mT - (in_baseline * share).conj() @ in_baseline.mT).real
    target = problem.target @ problem.vectors.conj()
    dots = (spectra.conj() @ problem.target[..., None])[..., 0]
    dots = (dots - ((in_baseline * share).conj() @ target[..., None])[..., 0]).real
    mm = torch.as_tensor(model.components.kinds == "mm", device=x.device)
    member = torch.stack([~mm, mm]).to(gram)
    two, right = member @ gram @ member.mT, dots @ member.mT
    eye = torch.eye(2, dtype=gram.dtype, device=gram.device)
    size = two.diagonal(dim1=-2, dim2=-1).mean(-1)[:, None, None]
    scales = torch.linalg.solve(two + 1e-3 * size * eye, right[..., None])[..., 0]
    alone = right[:, 0] / two[:, 0, 0].clamp(min=1e-300)
    scale = torch.where(scales[:, 0] > 0, scales[:, 0], alone.abs()).clamp(min=1e-30)
    scales = torch.stack([scale, torch.maximum(scales[:, 1], 0.2 * scale)], -1)
    centre = scales @ member
    # Components are already those of the expected amplitudes: factors about the scales, as wide as their priors.
    log_sd = torch.as_tensor(model.components.log_sd, device=x.device).to(gram)
    weight = (problem.noise[:, None] / (centre * log_sd)) ** 2
    factors = torch.linalg.solve(gram + torch.diag_embed(weight), (dots + weight * centre)[..., None])[..., 0]
    factors = torch.maximum(factors, _LEAST_AMPLITUDE * centre)
    out = x.clone()
    out[:, s["log_amp"]] += torch.log(factors)
    out[:, s["scale"]], out[:, s["mm_scale"]] = torch.log(scales[:, :1]), torch.log(scales[:, 1:])
    return out
