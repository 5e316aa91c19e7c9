"""Posterior of amplitudes that are not negative: a Gaussian likelihood, independent priors of any form, by expectation
propagation.

Minka, doi 10.48550/arXiv.1301.2294; Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006, chapter 3.6.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

__all__ = ["AmplitudePosterior", "AmplitudePrior", "amplitude_posterior", "mixture_interval"]

_POINTS = 64  # of the grid of each marginal
_SETTLED = 2  # sweeps after which amplitudes are known well enough to tell which are well determined
_WELL_DETERMINED = 0.3  # relative SD


@dataclass(frozen=True)
class AmplitudePrior:
    """Prior of each amplitude: lognormal, or flat above zero where ``log_sd`` is infinite.

    Attributes
    ----------
    log_median, log_sd : Tensor ``(b, m)``
    """

    log_median: torch.Tensor
    log_sd: torch.Tensor

    def log_density(self, value: torch.Tensor) -> torch.Tensor:
        """Return the log density at ``(b, m, k)`` up to a constant."""
        log = torch.log(value.clamp(min=1e-300))
        z = (log - self.log_median[..., None]) / self.log_sd[..., None]
        return torch.where(torch.isfinite(self.log_sd[..., None]), -0.5 * z**2 - log, torch.zeros_like(log))

    def largest(self) -> torch.Tensor:
        """Return amplitudes that are hardly exceeded, ``(b, m)``."""
        return torch.exp(self.log_median + 4.5 * self.log_sd)


@dataclass(frozen=True)
class AmplitudePosterior:
    """Moments and marginals of amplitudes.

    Attributes
    ----------
    mean : Tensor ``(b, m)``
    cov : Tensor ``(b, m, m)``
    prior_share : Tensor ``(b, m)``
        Share of the likelihood's variance that priors and the bound at zero take away.
    grid, density : Tensor ``(b, m, k)``
        The marginals.
    sites : (Tensor, Tensor)
        Precision and linear term, ``(b, m)`` each, of the Gaussian that stands for priors and the bound at zero.
    """

    mean: torch.Tensor
    cov: torch.Tensor
    prior_share: torch.Tensor
    grid: torch.Tensor
    density: torch.Tensor
    sites: tuple[torch.Tensor, torch.Tensor]

    def spread(self, rows: torch.Tensor, n: int) -> AmplitudePosterior:
        """Return those of ``n`` spectra, of which ``rows`` have these; the others have zeros, and flat marginals."""

        def everywhere(values: torch.Tensor, empty: torch.Tensor) -> torch.Tensor:
            out = empty.to(values).expand(n, *values.shape[1:]).clone()
            out[rows] = values
            return out

        zero, one = torch.zeros(1), torch.ones(1)
        position = torch.arange(1.0, self.grid.shape[-1] + 1)
        mean, cov, share = (everywhere(values, zero) for values in (self.mean, self.cov, self.prior_share))
        sites = everywhere(self.sites[0], zero), everywhere(self.sites[1], zero)
        return AmplitudePosterior(
            mean, cov, share, everywhere(self.grid, position), everywhere(self.density, one), sites
        )

    def mass(self) -> torch.Tensor:
        """Return the probability of each interval of the grid, ``(b, m, k)``."""
        step = torch.diff(self.grid, dim=-1, prepend=self.grid[..., :1] * 0)
        mass = self.density * step
        return mass / mass.sum(-1, keepdim=True)


def amplitude_posterior(
    precision: torch.Tensor, linear: torch.Tensor, prior: AmplitudePrior, *, sweeps: int = 5
) -> AmplitudePosterior:
    """Combine a likelihood ``exp(-x'Px/2 + l'x)`` with independent priors.

    Parameters
    ----------
    precision : Tensor ``(b, m, m)``
    linear : Tensor ``(b, m)``
    prior : AmplitudePrior
        Of amplitudes in a unit that is free.
    sweeps : int
        Updates of all sites together, damped.

    Notes
    -----
    The density of a lognormal prior falls as one over the amplitude.  Errors of amplitudes have a part in common, of
    relative variance ``s^2``, that priors are not meant to say anything of, because the unit is free; yet the densities
    of ``m`` amplitudes together would move it down by ``m s^2``.  So amplitudes that are well determined, and tell what
    is common, have priors that do not fall so; how they compare with one another the priors say as before.
    """
    unit = precision.diagonal(dim1=-2, dim2=-1).clamp(min=1e-300) ** -0.5
    precision = precision * unit[:, :, None] * unit[:, None]
    linear = linear * unit
    prior = AmplitudePrior(prior.log_median - torch.log(unit), prior.log_sd)
    eye = torch.eye(linear.shape[1], dtype=linear.dtype, device=linear.device)
    # Sites begin as Gaussians of the prior's size, so that the first cavity is not the likelihood alone.
    finite = torch.isfinite(prior.log_sd)
    zero = torch.zeros_like(linear)
    size = torch.exp(torch.where(finite, prior.log_median + 0.5 * prior.log_sd**2, zero))
    relative = torch.sqrt(torch.expm1(prior.log_sd.clamp(max=2.0) ** 2))
    spread = torch.where(finite, size * relative, torch.full_like(size, 1e3))
    tau, nu = spread**-2, torch.where(finite, size, zero) * spread**-2
    step, free_unit = 1.0, torch.zeros_like(linear)
    for sweep in range(sweeps + 1):
        cov = torch.linalg.inv(precision + torch.diag_embed(tau) + 1e-9 * eye)
        mean = (cov @ (linear + free_unit + nu)[..., None])[..., 0]
        var = cov.diagonal(dim1=-2, dim2=-1)
        cavity = (1 / var - tau).clamp(min=1e-6)
        cavity_mean = (mean / var - nu) / cavity
        grid, density, first, second = _tilted(cavity_mean, cavity**-0.5, prior)
        if sweep == sweeps:
            break
        if sweep == _SETTLED:
            free_unit = _unit_free(mean, cov, finite)
        new_tau = (1 / second - cavity).clamp(min=1e-8)
        new_nu = first * (new_tau + cavity) - cavity * cavity_mean
        tau, nu = tau + step * (new_tau - tau), nu + step * (new_nu - nu)
        step = 0.7
    # The tilted distributions' marginals are better than the Gaussian's; correlations are the Gaussian's.
    alone = torch.linalg.inv(precision + 1e-9 * eye).diagonal(dim1=-2, dim2=-1)
    share = (1 - second / alone.clamp(min=1e-300)).clamp(0, 1)
    ratio = (second / var).sqrt() * unit
    cov = cov * ratio[:, :, None] * ratio[:, None]
    sites = (tau / unit**2, (nu + free_unit) / unit)
    return AmplitudePosterior(first * unit, cov, share, grid * unit[..., None], density / unit[..., None], sites)


def _unit_free(mean: torch.Tensor, cov: torch.Tensor, lognormal: torch.Tensor) -> torch.Tensor:
    """Return the linear term ``(b, m)`` that takes back the fall of lognormal densities at amplitudes that are well
    determined, which alone tell what is common to all."""
    size = mean.clamp(min=1e-300)
    relative_variance = cov.diagonal(dim1=-2, dim2=-1).clamp(min=0) / size**2
    known = 1 / (1 + (relative_variance / _WELL_DETERMINED**2) ** 2)
    known = torch.where(lognormal & (mean > 0), known, torch.zeros_like(mean))
    # One of them all keeps its density: that of the common part by itself.
    others = (1 - 1 / known.sum(-1, keepdim=True).clamp(min=1.0)) * known
    return others / size


def _tilted(mean: torch.Tensor, sd: torch.Tensor, prior: AmplitudePrior):
    """Return grid, density, mean and variance of a normal distribution times the prior, above zero."""
    low = (mean - 6 * sd).clamp(min=0.0)
    high = torch.maximum(mean + 6 * sd, torch.zeros_like(mean))
    # Far below zero a normal distribution falls off as an exponential.
    fall = sd / (1 + (-mean / sd).clamp(min=0))
    high = torch.maximum(high, 12 * fall)
    largest = prior.largest()
    limited = torch.minimum(high, torch.maximum(largest, low * 1.02 + 1e-12))
    high = torch.where(torch.isfinite(largest), limited, high)
    position = (torch.arange(_POINTS, dtype=mean.dtype, device=mean.device) + 0.5) / _POINTS
    # Denser near the lower end, where a lognormal may have its peak.
    near_zero = (low <= 0)[..., None]
    spaced = torch.where(near_zero, position**2, position)
    width = torch.where(near_zero, 2 * position, torch.ones_like(position)) / _POINTS
    span = (high - low)[..., None]
    grid = low[..., None] + span * spaced
    log = -0.5 * ((grid - mean[..., None]) / sd[..., None]) ** 2 + prior.log_density(grid)
    density = torch.exp(log - log.amax(-1, keepdim=True))
    mass = density * width * span
    total = mass.sum(-1, keepdim=True)
    first = (mass * grid).sum(-1, keepdim=True) / total
    second = (mass * (grid - first) ** 2).sum(-1) / total[..., 0]
    return grid, density / total, first[..., 0], second.clamp(min=1e-300)


def mixture_interval(
    posteriors: list[AmplitudePosterior], weights: torch.Tensor, level: float = 0.95
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the ends of the central interval of a mixture of posteriors, ``(b, m)`` each.

    ``weights`` ``(b, n)`` sum up to one.
    """
    grid = torch.cat([posterior.grid for posterior in posteriors], -1)
    mass = torch.cat([posterior.mass() * weights[:, i, None, None] for i, posterior in enumerate(posteriors)], -1)
    order = grid.argsort(-1)
    grid, running = grid.gather(-1, order), torch.cumsum(mass.gather(-1, order), -1)
    ends = []
    for tail in ((1 - level) / 2, (1 + level) / 2):
        index = (running < tail).sum(-1, keepdim=True).clamp(max=grid.shape[-1] - 1)
        ends.append(grid.gather(-1, index)[..., 0])
    return ends[0], ends[1]
