"""Uncertainty: noise, Fisher information, Cramer-Rao bounds, sums and ratios.

Bounds are computed with the full covariance of every fitted parameter, baseline included, so that sums and ratios of
correlated metabolites have correct standard deviations.  Cavassila et al., doi 10.1002/nbm.701; Landheer and Juchem,
doi 10.1002/nbm.4521.
"""

from __future__ import annotations

import numpy as np
import torch

from ..physics.signal_model import SignalModel
from .coarse_model import reduced

__all__ = [
    "sensitivities",
    "fisher_information",
    "covariance",
    "narrower_share",
    "without_bounds",
    "noise_from_residual",
    "normal_interval",
    "sum_sd",
    "ratio_sd",
    "ratio_interval",
    "ratio_of_intervals",
    "Z95",
]

Z95 = 1.959964
"""Half width in SDs of the central 95 % of a normal distribution."""


def sensitivities(model: SignalModel, theta: torch.Tensor, conc: torch.Tensor) -> torch.Tensor:
    """Return derivatives of the spectrum by concentrations and nonlinear parameters, baseline eliminated, real
    ``(batch, n, 2 n_window)``."""
    quick = reduced(model, len(theta))
    rows = torch.cat([quick.columns(theta), quick.theta_derivatives(theta, conc)], dim=-2)
    return torch.view_as_real(rows).flatten(-2)


def fisher_information(model: SignalModel, theta: torch.Tensor, conc: torch.Tensor) -> torch.Tensor:
    """Return the information of concentrations and nonlinear parameters for unit noise in each real channel, baseline
    eliminated.

    ``theta`` ``(batch, n_theta)``, ``conc`` ``(batch, n_metabs)``; gives ``(batch, n, n)``, concentrations first.  With
    a penalised baseline the penalty counts as prior knowledge of the baseline, as it does in the fit.
    """
    quick = reduced(model, len(theta))
    spectra = torch.cat([quick.plain_columns(theta), quick.theta_derivatives(theta, conc, eliminate=False)], dim=-2)
    if quick.elimination is not None:
        return quick.elimination.gram(spectra)
    rows = torch.view_as_real(spectra).flatten(-2)
    return rows @ rows.mT


_MOST_NEGATIVE = 2.0  # SDs


def without_bounds(
    rows: torch.Tensor,
    residual: torch.Tensor,
    conc: torch.Tensor,
    held: torch.Tensor,
    inverse: torch.Tensor,
    noise_sd: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the estimates without bounds at zero: concentrations ``(batch, n_metabs)``, and changes of the others.

    They are one Newton step from the estimates with bounds, in which only the gradients of those at a bound count.
    Intervals are centred on them, and priors are combined with them, because an estimate at a bound is not a sufficient
    summary of the data.  None moves further below its bound than two of its SDs: a longer step indicates a wrong model,
    which must not affect the other parameters.

    Parameters
    ----------
    rows : ``(batch, n, 2 n_window)``
        See :func:`sensitivities`.
    residual : complex ``(batch, n_window)``
        Of the fit, baseline eliminated.
    conc : ``(batch, n_metabs)``
    held : bool ``(batch, n)``
        Parameters at a lower bound; the gradients of the others are rounding errors.
    inverse : ``(batch, n, n)``
        Of the information, for unit noise.
    noise_sd : ``(batch,)``
        Infinite for steps of any length.
    """
    m = conc.shape[-1]
    diagonal = inverse.diagonal(dim1=-2, dim2=-1)
    held = held & torch.isfinite(diagonal)
    pull = (rows @ torch.view_as_real(residual).flatten(-2)[..., None])[..., 0]
    pull = torch.where(held, pull, torch.zeros_like(pull))
    inverse = torch.nan_to_num(inverse, posinf=0.0)
    step = (inverse @ pull[..., None])[..., 0]
    least = -_MOST_NEGATIVE * noise_sd[:, None] * torch.nan_to_num(diagonal, posinf=0.0).clamp(min=0).sqrt()
    short = held & (step < least)
    if short.any():
        # The others move conditionally on the shortened steps of those at a bound.
        both = held[:, :, None] & held[:, None, :]
        eye = torch.eye(held.shape[-1], dtype=inverse.dtype, device=inverse.device)
        size = torch.where(held, diagonal, torch.ones_like(diagonal)).clamp(min=1e-300).sqrt()
        block = torch.where(both, inverse / (size[:, :, None] * size[:, None, :]), eye) + 1e-10 * eye
        wanted = torch.where(held, torch.maximum(step, least) / size, torch.zeros_like(step))
        weight = torch.where(held, torch.linalg.solve(block, wanted) / size, torch.zeros_like(step))
        step = torch.where(short.any(-1, keepdim=True), (inverse @ weight[..., None])[..., 0], step)
    return conc + step[:, :m], step[:, m:]


def covariance(information: torch.Tensor, noise_sd: torch.Tensor) -> torch.Tensor:
    """Return the Cramer-Rao bound as a matrix: inverse information times noise variance, ``(batch, n, n)``.

    ``noise_sd`` ``(batch,)`` is per real channel.  A parameter nothing depends on gets an infinite variance; two that
    cannot be distinguished get a very large one.
    """
    diagonal = information.diagonal(dim1=-2, dim2=-1)
    alive = diagonal > diagonal.amax(-1, keepdim=True) * 1e-24
    size = torch.where(alive, diagonal, torch.ones_like(diagonal)).sqrt()
    eye = torch.eye(information.shape[-1], dtype=information.dtype, device=information.device)
    both = alive[:, :, None] & alive[:, None, :]
    scaled = torch.where(both, information / (size[:, :, None] * size[:, None, :]), eye) + 1e-13 * eye
    finite = torch.isfinite(scaled).all(-1).all(-1)
    inverse = torch.linalg.inv(torch.where(finite[:, None, None], scaled, eye)) / (size[:, :, None] * size[:, None, :])
    inverse = inverse * noise_sd[:, None, None] ** 2
    dead = (eye.bool() & ~alive[:, :, None]) | ~finite[:, None, None]
    return torch.where(dead, torch.full_like(inverse, torch.inf), torch.where(both, inverse, torch.zeros_like(inverse)))


def noise_from_residual(
    model: SignalModel, residual: torch.Tensor, conc: torch.Tensor, filled: torch.Tensor | float = 1.0
) -> torch.Tensor:
    """Return the noise SD per real channel of the spectrum from the residual of the fit, ``(batch,)``.

    ``residual`` complex ``(batch, n_window)``.  Degrees of freedom of the parameters and the effective dimension of the
    baseline are subtracted; concentrations held at zero have none.  Of spectra filled with zeros by factors ``filled``
    ``(batch,)`` each takes as much noise as so many points have.
    """
    width = residual.shape[-1]
    used = (conc != 0).sum(-1) + sum(model.theta_sizes.values()) + 2 * model.baseline.used_dimension
    freedom = (2 * width - used * filled).clamp(min=1)
    return (residual.abs().square().sum(-1) / freedom).sqrt()


def sum_sd(cov: np.ndarray, members: list[int]) -> np.ndarray:
    """Return the SD of the sum of the concentrations ``members``; ``cov`` ``(..., n, n)`` -> ``(...,)``."""
    block = cov[..., members, :][..., :, members]
    return np.sqrt(np.clip(block.sum((-1, -2)), 0, None))


def narrower_share(share, sd, narrower_sd):
    """Return the share of priors in an estimate with a narrower prior, of the variance of the likelihood.

    Parameters
    ----------
    share, sd : array_like
        Share of priors that are in both, and the SD of the estimate that has only these.
    narrower_sd : array_like
        SD of the estimate with the narrower prior.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.clip(1 - (1 - np.asarray(share)) * (np.asarray(narrower_sd) / np.asarray(sd)) ** 2, 0, 1)


def normal_interval(centre: np.ndarray, sd: np.ndarray, *, negative: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Return the limits of the central 95 % of a normal distribution, cut off at zero unless ``negative`` values are
    possible."""
    low = centre - Z95 * sd
    return low if negative else np.maximum(low, 0), centre + Z95 * sd


def ratio_sd(conc: np.ndarray, cov: np.ndarray, over: list[int], under: list[int]) -> np.ndarray:
    """Return the SD of a ratio of two sums of concentrations to first order, covariances included.

    ``conc`` ``(..., n)``, ``cov`` ``(..., m, m)`` whose first n rows are the concentrations' -> ``(...,)``; infinite
    where the denominator is zero.
    """
    # Infinite variances of other metabolites must not enter.
    used = sorted({*over, *under})
    over, under = ([used.index(row) for row in rows] for rows in (over, under))
    conc, cov = conc[..., used], cov[..., used, :][..., :, used]
    upper, lower = conc[..., over].sum(-1), conc[..., under].sum(-1)
    slope = np.zeros(conc.shape)
    with np.errstate(divide="ignore", invalid="ignore"):
        for index in over:
            slope[..., index] += 1 / lower
        for index in under:
            slope[..., index] += -upper / lower**2
        variance = np.einsum("...i,...ij,...j->...", slope, cov, slope)
        # A sum over itself is 1, whatever rounding says.
        sd = np.zeros_like(variance) if set(over) == set(under) else np.sqrt(np.clip(variance, 0, None))
        return np.where(lower != 0, sd, np.inf)


def ratio_interval(
    conc: np.ndarray, cov: np.ndarray, over: list[int], under: list[int], z: float = Z95, *, negative: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Return the interval of a ratio of two sums of concentrations, ``(...,)`` each.

    Fieller's theorem (doi 10.1111/j.2517-6161.1954.tb00159.x), exact for normal errors however uncertain the
    denominator is; unbounded where the denominator may be zero.  Arguments as for :func:`ratio_sd`; negative ratios
    are cut off unless ``negative`` concentrations are possible.
    """
    cov = cov[..., : conc.shape[-1], : conc.shape[-1]]
    a, b = conc[..., over].sum(-1), conc[..., under].sum(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        vaa, vab, vbb = (
            cov[..., rows, :][..., columns].sum((-1, -2))
            for rows, columns in ((over, over), (over, under), (under, under))
        )
        one, two, three = b**2 - z**2 * vbb, a * b - z**2 * vab, a**2 - z**2 * vaa
        root = np.sqrt(np.clip(two**2 - one * three, 0, None))
        bounded = (one > 0) & (negative | (b > 0))
        low, high = np.where(bounded, (two - root) / one, -np.inf), np.where(bounded, (two + root) / one, np.inf)
    if set(over) == set(under):
        low = high = np.ones_like(a)
    if not negative:
        low, high = np.maximum(low, 0), np.maximum(high, 0)
    nothing = ~np.isfinite(a) | ~np.isfinite(b)
    return np.where(nothing, np.nan, low), np.where(nothing, np.nan, high)


def ratio_of_intervals(
    conc: np.ndarray,
    cov: np.ndarray,
    over: list[int],
    under: list[int],
    limits: tuple[np.ndarray, np.ndarray],
    limits_under: tuple[np.ndarray, np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """Return the interval of a ratio of two sums of concentrations with skewed intervals of their own, ``(...,)`` each.

    The distances of the four limits from the estimates take the place of SDs (Donner, Zou, Stat Methods Med Res
    2012;21:347-359, doi 10.1177/0962280210383082), so that a ratio to what is well known has the interval
    of its numerator.  Unbounded where the denominator may be zero.

    Parameters
    ----------
    conc, cov, over, under
        As for :func:`ratio_interval`.
    limits, limits_under : (ndarray, ndarray)
        Lower and upper limits of both sums, ``(...,)`` each, not negative.
    """
    cov = cov[..., : conc.shape[-1], : conc.shape[-1]]
    a, b = conc[..., over].sum(-1), conc[..., under].sum(-1)
    (low_a, high_a), (low_b, high_b) = limits, limits_under
    vaa, vab, vbb = (
        cov[..., rows, :][..., columns].sum((-1, -2)) for rows, columns in ((over, over), (over, under), (under, under))
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        correlation = np.nan_to_num(np.clip(vab / np.sqrt(vaa * vbb), -1, 1))

        def limit(of_a: np.ndarray, of_b: np.ndarray, sign: int) -> np.ndarray:
            """Return a limit from those of numerator and denominator that it depends on."""
            shared = a * b - correlation * (of_a - a) * (b - of_b)
            one, three = of_b * (2 * b - of_b), of_a * (2 * a - of_a)
            return (shared + sign * np.sqrt(np.clip(shared**2 - one * three, 0, None))) / one

        # The upper limit of the denominator may be above twice its estimate, where the formula has no root.
        low = limit(low_a, np.minimum(high_b, 1.99 * b), -1)
        high = np.where(low_b > 0, limit(high_a, low_b, 1), np.inf)
    nothing = ~np.isfinite(a) | ~np.isfinite(b) | (b <= 0)
    ratio = np.where(nothing, np.nan, a / np.where(nothing, 1, b))
    low, high = np.clip(low, 0, ratio), np.fmax(high, ratio)
    return np.where(nothing, np.nan, low), np.where(nothing, np.nan, high)
