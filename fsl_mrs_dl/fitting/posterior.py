"""What is known of concentrations once prior and data are put together: mean, SD, covariance and intervals of the
posterior.

The data's part is Gaussian: the estimate without bounds and its Cramer-Rao covariance, everything else (baseline,
shift, width) integrated out.  Priors of single metabolites, and that nothing is negative, need not be Gaussian; they
are brought in by expectation propagation (Minka, UAI 2001; Rasmussen & Williams, Gaussian Processes for Machine
Learning, 3.6), for a batch of spectra at once.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from scipy.special import log_ndtr, ndtri_exp

from .out_of_distribution import away
from .priors import Prior

__all__ = ["Posterior", "posterior", "upper_limit"]


@dataclass
class Posterior:
    """Posterior of concentrations, a row per spectrum.

    ``mean`` ``(n, n_metabs)``, ``cov`` ``(n, n_metabs, n_metabs)``; ``pull`` ``(n, n_metabs)`` the share of the prior's
    variance that the data left standing, 0 to 1, zero where nothing was expected (for priors that are not Gaussian: of
    the Gaussian that the prior looks like where the posterior is); ``low``, ``high`` ``(n, n_metabs)`` limits of the
    central 95 % interval, ``low68``, ``high68`` of the central 68 %; ``conflict`` bool ``(n, n_metabs)`` where the data
    say something else than what was expected, by more than both allow for; ``point`` ``(n, k)`` the mean of all
    parameters; ``sites`` ``(n, 2, k)`` the Gaussians that stand for prior and limits, precision and precision times
    mean.  ``prior`` is what was expected, in the concentrations' unit.
    """

    mean: np.ndarray
    cov: np.ndarray
    pull: np.ndarray
    low: np.ndarray
    high: np.ndarray
    low68: np.ndarray
    high68: np.ndarray
    conflict: np.ndarray
    point: np.ndarray
    sites: np.ndarray
    prior: Prior

    def update(self, rows, other: Posterior) -> None:
        """Overwrite ``rows`` by another's."""
        for part in fields(self):
            if part.name != "prior":
                getattr(self, part.name)[rows] = getattr(other, part.name)

    def taken(self, rows) -> Posterior:
        """Some of the rows."""
        return Posterior(*(getattr(self, part.name)[rows] for part in fields(self) if part.name != "prior"), self.prior)

    @property
    def sd(self) -> np.ndarray:
        """Standard deviations, ``(n, n_metabs)``."""
        return np.sqrt(np.clip(np.diagonal(self.cov, axis1=1, axis2=2), 0, None))


_SWEEPS, _ROUGH_SWEEPS, _DAMPING = 30, 5, 0.8
_CONFLICT = 3.0  # SDs
_GRID = 33


def posterior(
    prior: Prior,
    estimates: np.ndarray,
    cov: np.ndarray,
    lower: np.ndarray,
    upper: np.ndarray,
    *,
    near: Posterior | None = None,
    rough: np.ndarray | None = None,
) -> Posterior:
    """Prior and data put together.

    Parameters
    ----------
    prior : Prior
        Of the first ``n_metabs`` of the parameters, in their unit (see :func:`fsl_mrs_dl.fitting.priors.scale_to`).
    estimates : ndarray ``(n, k)``
        Of concentrations and, after them, of other parameters, without bounds; NaN where a spectrum could not be
        fitted.
    cov : ndarray ``(n, k, k)``
        Their covariance; an infinite variance for what the data say nothing about.
    lower, upper : ndarray ``(k,)``
        Between what limits each of them is known to be, infinite for none.
    near : Posterior, optional
        Of these spectra, from estimates that were a little different: where the search begins.
    rough : bool ndarray ``(n,)``, optional
        Spectra of which an approximation is enough, because it is where another search begins.
    """
    (n, k), m = estimates.shape, len(prior.names)
    blank = [np.full(shape, np.nan) for shape in ((n, m), (n, m, m), *[(n, m)] * 5)]
    out = Posterior(*blank, np.zeros((n, m), bool), np.full((n, k), np.nan), np.full((n, 2, k), np.nan), prior)
    rows = np.flatnonzero(np.isfinite(estimates).all(1))
    for start in range(0, len(rows), 512):
        index = rows[start : start + 512]
        sites = None if near is None else near.sites[index]
        brief = np.zeros(len(index), bool) if rough is None else rough[index]
        _propagate(out, index, prior.extended(k), estimates[index], cov[index], lower, upper, brief, sites)
    return out


_NOTHING = 1e16  # variance, of entries of about one, from which on it says nothing


def _precision(cov: np.ndarray) -> np.ndarray:
    """Inverse covariances of entries of about one; zero for those the data say nothing about."""
    variance = np.diagonal(cov, axis1=1, axis2=2)
    known = np.isfinite(variance) & (variance > 0) & (variance < _NOTHING)
    size = np.sqrt(np.where(known, variance, 1.0))
    both = known[:, :, None] & known[:, None, :]
    eye = np.eye(cov.shape[-1])
    with np.errstate(invalid="ignore"):
        unit = np.where(both, cov / (size[:, :, None] * size[:, None, :]), eye)
    # Two that cannot be told apart have a correlation of minus one, which has no inverse.
    inverse = np.linalg.inv(unit + 1e-10 * eye)
    return np.where(both, inverse / (size[:, :, None] * size[:, None, :]), 0.0)


@np.errstate(
    over="ignore", invalid="ignore", divide="ignore"
)  # of spectra that know next to nothing; what comes out is looked at
def _propagate(out: Posterior, index, prior: Prior, conc, cov, lower, upper, brief, sites=None) -> None:
    (n, m), n_out = conc.shape, out.mean.shape[1]
    kinds = np.array(prior.kinds)
    variance = np.diagonal(cov, axis1=1, axis2=2)
    # Of the middle one: a single spectrum that knows next to nothing must not set the scale for the others.
    scale = np.median(np.abs(conc), 0) + np.median(np.sqrt(np.where(np.isfinite(variance), variance, 0)), 0)
    scale = np.where(np.isfinite(scale) & (scale > 0), scale, 1.0)
    # All in units of about one, so that limits on numbers below mean the same for everybody.
    numbers = prior.numbers / scale[:, None]
    numbers[kinds == "lognormal", 1] = prior.numbers[kinds == "lognormal", 1]
    data = _precision(cov / np.outer(scale, scale))
    x = np.where(data.any(2), conc / scale, 0.0)
    fixed, pulled = np.zeros((m, m)), np.zeros(m)
    normal = np.flatnonzero(kinds == "normal")
    if len(normal):
        spread = (
            np.diag(numbers[normal, 1] ** 2)
            if prior.cov is None
            else (prior.cov / np.outer(scale, scale))[np.ix_(normal, normal)]
        )
        inverse = np.linalg.inv(spread)
        fixed[np.ix_(normal, normal)] = inverse
        pulled[normal] = inverse @ numbers[normal, 0]
    base = data + fixed
    linear = np.einsum("nij,nj->ni", data, x) + pulled
    low, high = lower / scale, upper / scale
    uniform = kinds == "uniform"
    low[uniform] = np.maximum(numbers[uniform, 0], low[uniform])
    high[uniform] = numbers[uniform, 1]
    logs = np.flatnonzero(kinds == "lognormal")
    # Sites: what each factor looks like as a Gaussian, precision and precision times mean.
    tau = np.zeros((n, m))
    # A broad beginning, so that entries of which the data say nothing have a finite variance at all.
    bounded = np.isfinite(low) & np.isfinite(high)
    width = np.where(bounded, np.where(bounded, high, 1) - np.where(bounded, low, 0), 1.0)
    start = np.where(bounded, 12 / np.maximum(width, 1e-9) ** 2, 1e-6)
    middle = np.where(bounded, np.where(bounded, low, 0) + width / 2, np.maximum(x.mean(0), 0))
    for i in logs:
        start[i], middle[i] = 1 / max(numbers[i, 0] * np.expm1(numbers[i, 1] ** 2) ** 0.5, 1e-9) ** 2, numbers[i, 0]
    tau += start
    nu = tau * middle
    if sites is not None:
        known = np.isfinite(sites).all((1, 2))
        tau[known], nu[known] = np.maximum(sites[known, 0] * scale**2, 1e-10), sites[known, 1] * scale
    going = np.arange(n)
    for sweep in range(_SWEEPS):
        if sweep == _ROUGH_SWEEPS:
            going = going[~brief[going]]
            if not len(going):
                break
        t, v = tau[going], nu[going]
        cavity, cavity_tau, _, _ = _cavities(base[going], linear[going], t, v)
        mean, spread, _ = _tilted(cavity, 1 / cavity_tau, low, high, logs, numbers)
        new_tau = np.maximum(1 / spread - cavity_tau, 1e-10)
        new_nu = mean / spread - cavity * cavity_tau
        tau[going], nu[going] = t + _DAMPING * (new_tau - t), v + _DAMPING * (new_nu - v)
        # Spectra whose sites have settled are done with.
        going = going[(np.abs(new_tau - t) / (new_tau + t + 1e-8)).max(1) > 1e-3]
        if not len(going):
            break
    cavity, cavity_tau, sigma, variance = _cavities(base, linear, tau, nu)
    mean, spread, quantiles = _tilted(cavity, 1 / cavity_tau, low, high, logs, numbers, (0.025, 0.16, 0.84, 0.975))
    out.sites[index] = np.stack([tau / scale**2, nu / scale], axis=1)
    # The marginals are the tilted ones, which are not Gaussian; correlations are those of the approximation.
    ratio = np.sqrt(spread / variance)
    out.point[index] = mean * scale
    out.mean[index] = out.point[index][:, :n_out]
    out.cov[index] = (sigma * ratio[:, :, None] * ratio[:, None, :] * np.outer(scale, scale))[:, :n_out, :n_out]
    # Within limits it is the variance that is left; of a lognormal prior what it adds to the precision where the
    # posterior is, because its variance says nothing about its tails.  Of a Gaussian one both are the same.
    share = np.where(kinds == "lognormal", tau * variance, spread / np.where(prior.says, prior.sd / scale, 1.0) ** 2)
    out.pull[index] = np.where(prior.says, np.clip(share, 0, 1), 0.0)[:, :n_out]
    own = np.diagonal(cov, axis1=1, axis2=2)[:, :n_out]
    with np.errstate(divide="ignore", invalid="ignore"):
        # What everything else says of an entry against what is expected of it.
        apart = [away(kinds[i], *numbers[i], cavity[:, i], 1 / np.sqrt(cavity_tau[:, i])) for i in range(n_out)]
    out.conflict[index] = np.stack(apart, 1) > _CONFLICT
    # Nothing expected and nothing measured: nothing is known.
    unknown = ~prior.says[:n_out] & ~(np.isfinite(own) & (own > 0))
    out.mean[index] = np.where(unknown, np.nan, out.mean[index])
    out.point[index, :n_out] = np.where(unknown, conc[:, :n_out], out.point[index, :n_out])
    out.pull[index] = np.where(unknown, np.nan, out.pull[index])
    quantiles = [np.where(np.pad(unknown, ((0, 0), (0, m - n_out))), np.nan, values) for values in quantiles]
    blank = unknown[:, :, None] | unknown[:, None, :]
    out.cov[index] = np.where(blank, np.nan, out.cov[index])
    for part, values in zip((out.low, out.low68, out.high68, out.high), quantiles):
        part[index] = (values * scale)[:, :n_out]


def _cavities(base, linear, tau, nu):
    """What everything but its own site says of each entry: mean and precision ``(n, m)``; and the whole's covariance
    and variances."""
    sigma = np.linalg.inv(base + tau[:, :, None] * np.eye(tau.shape[1]))
    variance = np.maximum(np.diagonal(sigma, axis1=1, axis2=2), 1e-20)
    precision = np.maximum(1 / variance - tau, 1e-8)
    mu = np.einsum("nij,nj->ni", sigma, linear + nu)
    return (mu / variance - nu) / precision, precision, sigma, variance


def _tilted(mean, variance, low, high, logs, numbers, quantiles=()):
    """Moments and quantiles of Gaussians ``(n, m)`` cut off at ``low`` and ``high`` ``(m,)`` or, for ``logs``, times a
    lognormal density."""
    sd = np.sqrt(variance)
    if len(logs) == mean.shape[1]:
        return _times_lognormal(mean, sd, *numbers.T, quantiles)
    cut_mean, cut_variance, at = _truncated(mean, sd, low, high, quantiles)
    if len(logs):
        first, second, found = _times_lognormal(mean[:, logs], sd[:, logs], *numbers[logs].T, quantiles)
        cut_mean[:, logs], cut_variance[:, logs] = first, second
        for values, one in zip(at, found):
            values[:, logs] = one
    return cut_mean, cut_variance, at


def _truncated(mean, sd, low, high, quantiles):
    """Moments and quantiles of normal distributions between two limits, far out in the tails too."""
    a, b = (low - mean) / sd, (high - mean) / sd
    a, b = np.clip(a, -1e10, 1e10), np.clip(b, -1e10, 1e10)
    # The side that holds less is looked at, where differences of probabilities do not cancel.
    mirrored = a + b > 0
    a, b = np.where(mirrored, -b, a), np.where(mirrored, -a, b)
    log_b, log_a = log_ndtr(b), log_ndtr(a)
    log_mass = log_b + np.log1p(-np.exp(np.minimum(log_a - log_b, -1e-13)))
    density = lambda x: np.exp(np.clip(-0.5 * x * x - 0.5 * np.log(2 * np.pi) - log_mass, -745, 700))  # noqa: E731
    phi_a, phi_b = density(a), density(b)
    first = phi_a - phi_b
    second = 1 + a * phi_a - b * phi_b - first**2
    # A thin slice far out: uniform between its limits, or an exponential from its nearer one.
    width = b - a
    thin = width < 1e-3
    first = np.where(thin, (a + b) / 2, first)
    second = np.where(thin, width**2 / 12, second)
    far = ~thin & (b < -50)
    rate = -b
    slope = np.where(far, rate * np.minimum(width, 1e6), 1.0)
    ending = np.exp(-np.minimum(slope, 700))
    safe = np.where(far, rate, 1.0)
    share = slope * ending / np.maximum(1 - ending, 1e-300)
    exponential = b - (1 - share) / safe
    spread = (1 - slope * share - share**2) / safe**2
    first = np.where(far, exponential, first)
    second = np.where(far, np.maximum(spread, 1e-6 / safe**2), second)
    second = np.maximum(second, 1e-12)
    out = []
    for q in quantiles:
        part = np.where(mirrored, 1 - q, q)
        x = ndtri_exp(np.minimum(np.logaddexp(np.log1p(-part) + log_a, np.log(part) + log_b), -1e-300))
        x = np.where(thin, a + part * width, np.clip(x, a, b))
        out.append(mean + sd * np.where(mirrored, -x, x))
    return mean + sd * np.where(mirrored, -first, first), second * sd**2, out


def _times_lognormal(mean, sd, median, log_sd, quantiles):
    """Moments and quantiles of normal distributions ``(n, m)`` times lognormal densities ``(m,)``, on a grid of the
    logarithm."""
    place = np.maximum(mean / median, 1e-6)
    # The grid covers the prior, and finely what the data say within it.
    centre, width = np.log(place), np.minimum(sd / median / place, 50)
    weight = 1 / log_sd**2 + 1 / width**2
    middle = np.where(mean > 0, centre / width**2 / weight, 0.0)
    reach = np.sqrt(1 / weight)
    narrow = reach < 0.3 * log_sd
    lower = np.where(narrow, middle - 5 * reach, np.maximum(-6 * log_sd, np.minimum(middle - 5 * reach, -2 * log_sd)))
    upper = np.where(narrow, middle + 5 * reach, np.minimum(6 * log_sd, np.maximum(middle + 5 * reach, 0)))
    step = np.linspace(-1, 1, _GRID)
    log = ((lower + upper) / 2)[..., None] + ((upper - lower) / 2)[..., None] * step
    x = median[:, None] * np.exp(log)
    # In the logarithm the lognormal density is a normal one.
    density = ((x - mean[..., None]) / sd[..., None]) ** 2
    density += (log / log_sd[:, None]) ** 2
    density -= density.min(-1, keepdims=True)
    density *= -0.5
    np.exp(density, out=density)
    total = density.sum(-1)
    first = np.einsum("...g,...g->...", density, x) / total
    second = np.einsum("...g,...g->...", density, (x - first[..., None]) ** 2) / total
    out = []
    if quantiles:
        below = (np.cumsum(density, -1) - density / 2) / total[..., None]
        for q in quantiles:
            at = np.clip((below < q).sum(-1), 1, _GRID - 1)[..., None]
            a, b = (np.take_along_axis(below, at - k, -1)[..., 0] for k in (1, 0))
            left, right = (np.take_along_axis(x, at - k, -1)[..., 0] for k in (1, 0))
            part = np.clip((q - a) / np.maximum(b - a, 1e-300), 0, 1)
            out.append(left + part * (right - left))
    return first, np.maximum(second, 1e-12 * median**2), out


def upper_limit(centre, sd, part: float = 0.68):
    """Below what a number that is not negative lies with this probability, if it was measured as ``centre`` with an
    error ``sd``."""
    centre, sd = np.broadcast_arrays(np.asarray(centre, float), np.asarray(sd, float))
    known = np.isfinite(centre) & np.isfinite(sd) & (sd > 0)
    x, s = np.where(known, centre, 0.0), np.where(known, sd, 1.0)
    (limit,) = _truncated(x, s, np.zeros_like(x), np.full_like(x, np.inf), (part,))[2]
    return np.where(known, limit, centre + np.where(sd > 0, np.inf, 0.0))
