"""Posterior of concentrations: mean, SD, covariance and intervals from prior and data.

The likelihood is approximated by a Gaussian: the estimate without bounds and its Cramer-Rao covariance, everything else
(baseline, shift, width) integrated out.  Priors of single metabolites, and the limit at zero, need not be Gaussian;
they are included by expectation propagation (Minka, UAI 2001; Rasmussen & Williams, Gaussian Processes for Machine
Learning, 3.6), for a batch of spectra at once.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from .out_of_distribution import distance_sd
from .priors import Prior
from .uncertainty import normal_interval, sum_sd

__all__ = ["Posterior", "posterior", "upper_limit"]


@dataclass
class Posterior:
    """Posterior of concentrations, a row per spectrum.

    Attributes
    ----------
    mean : ndarray ``(n, n_metabs)``
    cov : ndarray ``(n, n_metabs, n_metabs)``
    pull : ndarray ``(n, n_metabs)``
        Posterior over prior variance, 0 to 1; zero for entries without a prior.  For priors that are not Gaussian it is
        that of their Gaussian approximation at the posterior.
    low, high, low68, high68 : ndarray ``(n, n_metabs)``
        Limits of the central 95 % and 68 % intervals.
    conflict : bool ndarray ``(n, n_metabs)``
        Prior and data differ by more than three SDs of both.
    point : ndarray ``(n, k)``
        Mean of all parameters.
    sites : ndarray ``(n, 2, k)``
        Gaussian approximations of prior and limits: precision, and precision times mean.
    prior : Prior
        In the unit of the concentrations.
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
        """Overwrite ``rows`` with those of another posterior."""
        for part in fields(self):
            if part.name != "prior":
                getattr(self, part.name)[rows] = getattr(other, part.name)

    def select(self, rows) -> Posterior:
        """Return some of the rows."""
        arrays = {part.name: getattr(self, part.name)[rows] for part in fields(self) if part.name != "prior"}
        return Posterior(**arrays, prior=self.prior)

    @classmethod
    def joined(cls, parts: list[Posterior], order: np.ndarray, prior: Prior) -> Posterior:
        """Join those of several batches in another order, with one prior for all."""
        names = [part.name for part in fields(cls) if part.name != "prior"]
        arrays = {name: np.concatenate([getattr(part, name) for part in parts])[order] for name in names}
        return cls(**arrays, prior=prior)

    @property
    def sd(self) -> np.ndarray:
        """Standard deviations, ``(n, n_metabs)``."""
        return np.sqrt(np.clip(np.diagonal(self.cov, axis1=1, axis2=2), 0, None))

    def interval(self, members: list[int], *, negative: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Return the limits of the 95 % interval of a sum of concentrations, ``(n,)`` each; that of a sum is a normal
        one, cut off at zero unless ``negative`` concentrations are possible."""
        if len(members) == 1:
            return self.low[:, members[0]], self.high[:, members[0]]
        return normal_interval(self.mean[:, members].sum(1), sum_sd(self.cov, members), negative=negative)


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
    """Combine prior and data.

    Parameters
    ----------
    prior : Prior
        Of the first ``n_metabs`` of the parameters, in their unit (see :func:`fsl_mrs_dl.fitting.priors.scale_to`).
    estimates : ndarray ``(n, k)``
        Of concentrations and, after them, of other parameters, without bounds; NaN where a spectrum could not be
        fitted.
    cov : ndarray ``(n, k, k)``
        Their covariance; an infinite variance for a parameter that the data do not determine.
    lower, upper : ndarray ``(k,)``
        Limits of each of them, infinite for none.
    near : Posterior, optional
        Initial values: the posterior of these spectra for estimates that differ a little.
    rough : bool ndarray ``(n,)``, optional
        Spectra of which an approximation is enough, because it only gives initial values.
    """
    (n, k), m = estimates.shape, len(prior.names)
    shapes = {"mean": (n, m), "cov": (n, m, m), "point": (n, k), "sites": (n, 2, k)}
    shapes |= dict.fromkeys(("pull", "low", "high", "low68", "high68"), (n, m))
    blank = {name: np.full(shape, np.nan) for name, shape in shapes.items()}
    out = Posterior(**blank, conflict=np.zeros((n, m), bool), prior=prior)
    rows = np.flatnonzero(np.isfinite(estimates).all(1))
    for start in range(0, len(rows), 512):
        index = rows[start : start + 512]
        sites = None if near is None else near.sites[index]
        brief = np.zeros(len(index), bool) if rough is None else rough[index]
        # Spectra with next to no signal overflow; their results are checked instead.
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            factors = _Factors.of(prior.extended(k), estimates[index], cov[index], lower, upper)
            tau, nu = _propagate(factors, *_initial_sites(factors, sites), brief)
            out.update(index, _marginals(factors, tau, nu, prior, estimates[index], cov[index]))
    return out


_UNDETERMINED = 1e16  # variance of entries of about one from which on the data do not determine them


def _precision(cov: np.ndarray) -> np.ndarray:
    """Return inverse covariances of entries of about one, ``(n, k, k)``; zero where the data do not determine them."""
    variance = np.diagonal(cov, axis1=1, axis2=2)
    known = np.isfinite(variance) & (variance > 0) & (variance < _UNDETERMINED)
    size = np.sqrt(np.where(known, variance, 1.0))
    both = known[:, :, None] & known[:, None, :]
    eye = np.eye(cov.shape[-1])
    with np.errstate(invalid="ignore"):
        unit = np.where(both, cov / (size[:, :, None] * size[:, None, :]), eye)
    # Two that cannot be told apart have a correlation of minus one, which has no inverse.
    inverse = np.linalg.inv(unit + 1e-10 * eye)
    return np.where(both, inverse / (size[:, :, None] * size[:, None, :]), 0.0)


@dataclass(frozen=True)
class _Factors:
    """Likelihood and prior of a batch of spectra with all parameters scaled to about one.

    ``scale`` ``(k,)`` is what they were divided by; ``kinds`` and ``numbers`` are the prior's; ``precision`` ``(n, k,
    k)`` and ``linear`` ``(n, k)`` (precision times mean) are those of its Gaussian part and the likelihood;
    ``estimates`` ``(n, k)`` are zero where the data do not determine them; ``low`` and ``high`` ``(k,)`` are limits,
    ``lognormal`` the indices of the entries of that kind.
    """

    scale: np.ndarray
    kinds: np.ndarray
    numbers: np.ndarray
    precision: np.ndarray
    linear: np.ndarray
    estimates: np.ndarray
    low: np.ndarray
    high: np.ndarray
    lognormal: np.ndarray

    @classmethod
    def of(cls, prior: Prior, estimates: np.ndarray, cov: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> _Factors:
        """Scale estimates and prior; arguments as for :func:`posterior`, the prior for all ``k`` parameters."""
        k, kinds = estimates.shape[1], np.array(prior.kinds)
        variance = np.diagonal(cov, axis1=1, axis2=2)
        # Medians: a single spectrum with next to no signal must not set the scale of the others.
        scale = np.median(np.abs(estimates), 0) + np.median(np.sqrt(np.where(np.isfinite(variance), variance, 0)), 0)
        # In units of about one the numerical limits below mean the same for all parameters.
        scale = np.where(np.isfinite(scale) & (scale > 0), scale, 1.0)
        numbers = prior.numbers / scale[:, None]
        numbers[kinds == "lognormal", 1] = prior.numbers[kinds == "lognormal", 1]
        of_data = _precision(cov / np.outer(scale, scale))
        scaled = np.where(of_data.any(2), estimates / scale, 0.0)
        fixed, pulled = np.zeros((k, k)), np.zeros(k)
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
        low, high = lower / scale, upper / scale
        uniform = kinds == "uniform"
        low[uniform] = np.maximum(numbers[uniform, 0], low[uniform])
        high[uniform] = numbers[uniform, 1]
        return cls(
            scale=scale,
            kinds=kinds,
            numbers=numbers,
            precision=of_data + fixed,
            linear=np.einsum("nij,nj->ni", of_data, scaled) + pulled,
            estimates=scaled,
            low=low,
            high=high,
            lognormal=np.flatnonzero(kinds == "lognormal"),
        )

    def tilted(self, mean, variance, quantiles=()):
        """Return moments and quantiles of cavity distributions ``(n, k)`` times the exact factors."""
        return _tilted(mean, variance, self.low, self.high, self.lognormal, self.numbers, quantiles=quantiles)


def _initial_sites(factors: _Factors, sites: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Return initial sites ``(n, k)``, the Gaussian approximations of the factors: precision, and precision times mean.

    ``sites`` ``(n, 2, k)`` are those of a similar posterior, taken where they are finite.
    """
    low, high, numbers, scale = factors.low, factors.high, factors.numbers, factors.scale
    tau = np.zeros(factors.estimates.shape)
    # Broad ones, so that entries that the data do not determine have a finite variance at all.
    bounded = np.isfinite(low) & np.isfinite(high)
    width = np.where(bounded, np.where(bounded, high, 1) - np.where(bounded, low, 0), 1.0)
    start = np.where(bounded, 12 / np.maximum(width, 1e-9) ** 2, 1e-6)
    middle = np.where(bounded, np.where(bounded, low, 0) + width / 2, np.maximum(factors.estimates.mean(0), 0))
    for i in factors.lognormal:
        start[i], middle[i] = 1 / max(numbers[i, 0] * np.expm1(numbers[i, 1] ** 2) ** 0.5, 1e-9) ** 2, numbers[i, 0]
    tau += start
    nu = tau * middle
    if sites is not None:
        known = np.isfinite(sites).all((1, 2))
        tau[known], nu[known] = np.maximum(sites[known, 0] * scale**2, 1e-10), sites[known, 1] * scale
    return tau, nu


def _propagate(factors: _Factors, tau: np.ndarray, nu: np.ndarray, brief: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the sites after expectation propagation; a few sweeps only for spectra that are ``brief`` ``(n,)``."""
    active = np.arange(len(tau))
    for sweep in range(_SWEEPS):
        if sweep == _ROUGH_SWEEPS:
            active = active[~brief[active]]
            if not len(active):
                break
        t, v = tau[active], nu[active]
        cavity, cavity_tau, _, _ = _cavities(factors.precision[active], factors.linear[active], t, v)
        mean, spread, _ = factors.tilted(cavity, 1 / cavity_tau)
        new_tau = np.maximum(1 / spread - cavity_tau, 1e-10)
        new_nu = mean / spread - cavity * cavity_tau
        tau[active], nu[active] = t + _DAMPING * (new_tau - t), v + _DAMPING * (new_nu - v)
        # Spectra whose sites have settled are finished.
        active = active[(np.abs(new_tau - t) / (new_tau + t + 1e-8)).max(1) > 1e-3]
        if not len(active):
            break
    return tau, nu


def _marginals(
    factors: _Factors, tau: np.ndarray, nu: np.ndarray, prior: Prior, estimates: np.ndarray, cov: np.ndarray
) -> Posterior:
    """Return the posterior that sites stand for, in the unit of the estimates."""
    k, m, scale, kinds = tau.shape[1], len(prior.names), factors.scale, factors.kinds
    extended = prior.extended(k)
    cavity, cavity_tau, sigma, variance = _cavities(factors.precision, factors.linear, tau, nu)
    mean, spread, quantiles = factors.tilted(cavity, 1 / cavity_tau, (0.025, 0.16, 0.84, 0.975))
    # The marginals are the tilted ones, which are not Gaussian; correlations are those of the approximation.
    ratio = np.sqrt(spread / variance)
    point = mean * scale
    out_mean = point[:, :m].copy()
    out_cov = (sigma * ratio[:, :, None] * ratio[:, None, :] * np.outer(scale, scale))[:, :m, :m]
    # Within limits it is the ratio of variances; of a lognormal prior what it adds to the precision at the posterior,
    # because its variance does not describe its tails.  Of a Gaussian one both are the same.
    share = np.where(
        kinds == "lognormal", tau * variance, spread / np.where(extended.informative, extended.sd / scale, 1.0) ** 2
    )
    pull = np.where(extended.informative, np.clip(share, 0, 1), 0.0)[:, :m]
    own = np.diagonal(cov, axis1=1, axis2=2)[:, :m]
    # The distribution given everything else, compared with the prior of the entry itself.
    distance = [
        distance_sd(kinds[i], *factors.numbers[i], value=cavity[:, i], sd=1 / np.sqrt(cavity_tau[:, i]))
        for i in range(m)
    ]
    # Neither expected nor measured.
    unknown = ~extended.informative[:m] & ~(np.isfinite(own) & (own > 0))
    point[:, :m] = np.where(unknown, estimates[:, :m], point[:, :m])
    blank = unknown[:, :, None] | unknown[:, None, :]
    quantiles = [np.where(np.pad(unknown, ((0, 0), (0, k - m))), np.nan, values) for values in quantiles]
    low, low68, high68, high = ((values * scale)[:, :m] for values in quantiles)
    return Posterior(
        mean=np.where(unknown, np.nan, out_mean),
        cov=np.where(blank, np.nan, out_cov),
        pull=np.where(unknown, np.nan, pull),
        low=low,
        high=high,
        low68=low68,
        high68=high68,
        conflict=np.stack(distance, 1) > _CONFLICT,
        point=point,
        sites=np.stack([tau / scale**2, nu / scale], axis=1),
        prior=prior,
    )


def _cavities(base, linear, tau, nu):
    """Return mean and precision ``(n, k)`` of each entry without its own site, and covariance and variances with
    all."""
    sigma = np.linalg.inv(base + tau[:, :, None] * np.eye(tau.shape[1]))
    variance = np.maximum(np.diagonal(sigma, axis1=1, axis2=2), 1e-20)
    precision = np.maximum(1 / variance - tau, 1e-8)
    mu = np.einsum("nij,nj->ni", sigma, linear + nu)
    return (mu / variance - nu) / precision, precision, sigma, variance


def _tilted(mean, variance, low, high, lognormal, numbers, *, quantiles=()):
    """Return moments and quantiles of Gaussians ``(n, k)`` cut off at ``low`` and ``high`` ``(k,)`` or, for the entries
    ``lognormal``, times a lognormal density."""
    sd = np.sqrt(variance)
    if len(lognormal) == mean.shape[1]:
        return _times_lognormal(mean, sd, numbers[:, 0], numbers[:, 1], quantiles)
    cut_mean, cut_variance, limits = _truncated(mean, sd, low, high, quantiles)
    if len(lognormal):
        median, log_sd = numbers[lognormal].T
        first, second, others = _times_lognormal(mean[:, lognormal], sd[:, lognormal], median, log_sd, quantiles)
        cut_mean[:, lognormal], cut_variance[:, lognormal] = first, second
        for values, one in zip(limits, others):
            values[:, lognormal] = one
    return cut_mean, cut_variance, limits


def _truncated(mean, sd, low, high, quantiles):
    """Return moments and quantiles of normal distributions between two limits, accurate in the far tails, too."""
    from scipy.special import log_ndtr, ndtri_exp  # not needed by every fit, and slow to import

    a, b = (low - mean) / sd, (high - mean) / sd
    a, b = np.clip(a, -1e10, 1e10), np.clip(b, -1e10, 1e10)
    # Computed in the tail of less mass, where differences of probabilities do not cancel.
    mirrored = a + b > 0
    a, b = np.where(mirrored, -b, a), np.where(mirrored, -a, b)
    log_b, log_a = log_ndtr(b), log_ndtr(a)
    log_mass = log_b + np.log1p(-np.exp(np.minimum(log_a - log_b, -1e-13)))
    phi_a, phi_b = (np.exp(np.clip(-0.5 * x * x - 0.5 * np.log(2 * np.pi) - log_mass, -745, 700)) for x in (a, b))
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
    """Return moments and quantiles of normal distributions ``(n, m)`` times lognormal densities ``(m,)``, on a grid of
    the logarithm."""
    place = np.maximum(mean / median, 1e-6)
    # The grid covers the prior, and is fine where the likelihood lies within it.
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
    """Return the limit that a nonnegative number measured as ``centre`` with an error ``sd`` is below with probability
    ``part``; infinite where the error is unknown."""
    centre, sd = np.broadcast_arrays(np.asarray(centre, float), np.asarray(sd, float))
    known = np.isfinite(centre) & np.isfinite(sd) & (sd > 0)
    x, s = np.where(known, centre, 0.0), np.where(known, sd, 1.0)
    (limit,) = _truncated(x, s, np.zeros_like(x), np.full_like(x, np.inf), (part,))[2]
    return np.where(known, limit, centre + np.where(sd > 0, np.inf, 0.0))
