"""Data, scores and limits of the benchmark of supervised networks.

Rizzo et al., Magn Reson Med 2023;89:1707, doi 10.1002/mrm.29561: idealised spectra, scores a, q, R2, sigma and a R2,
groups of metabolites, water referencing.  Shamaei et al., doi 10.5220/0010318502680275: DSS1 to DSS7.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch

import fsl_mrs_dl
from benchmarks.papers import datasets
from benchmarks.papers.datasets import REFERENCE, REFERENCE_MM, RIZZO_GROUPS, RIZZO_MOST
from benchmarks.papers.quantification_measures import slopes
from benchmarks.papers.supervised_trainings import basis_and_recipe
from fsl_mrs_dl.fitting import priors, quantification, quantify, uncertainty
from fsl_mrs_dl.fitting.options import FitOptions
from fsl_mrs_dl.simulation import protocols, random_spectra

__all__ = [
    "METABOLITES",
    "Scores",
    "best_linear",
    "bounds",
    "draw_set",
    "dss_limit",
    "fits",
    "group_mean",
    "limits_of",
    "make_rizzo",
    "percent_of_mean",
    "referenced",
    "scores",
]

METABOLITES = tuple(RIZZO_MOST)


def make_rizzo(n: int, seed: int, reference: bool = True) -> dict:
    """Simulate idealised spectra that are not used in training: ``fid`` complex128 ``(n, n_points)``, ``conc``
    ``(n, 16)`` in mM, ``all`` of the basis set, ``snr``, ``gauss_hz`` and ``noise_sd`` ``(n,)``."""
    basis = datasets.rizzo_basis(reference)
    drawn, rendered = draw_set(basis, datasets.rizzo_recipe(), n, seed)
    conc = drawn["conc"].numpy().astype(float)
    return {
        "fid": rendered.fid.numpy().astype(complex),
        "conc": conc[:, : len(METABOLITES)],
        "all": conc,
        "noise_sd": rendered.noise_sd.numpy().astype(float),
        **{name: drawn[name].numpy().astype(float) for name in ("snr", "gauss_hz")},
    }


def referenced(estimates: np.ndarray, names, least: float = 0.0) -> np.ndarray:
    """Return concentrations ``(n, 16)`` of the sixteen metabolites in mM, by the water peak if the basis set has one.

    ``estimates`` ``(n, n_entries)`` are those of the basis entries ``names``.  Estimates of the water peak below
    ``least`` (mM) are replaced by it.
    """
    estimates = np.asarray(estimates, float)
    if REFERENCE in names:
        water = estimates[:, [list(names).index(REFERENCE)]]
        estimates = estimates / (np.maximum(water, least) if least else water) * REFERENCE_MM
    return estimates[:, [list(names).index(name) for name in METABOLITES]]


@dataclass(frozen=True)
class Scores:
    """Scores of the paper (section 2.2.4), ``(n_metabs,)`` each: slope, intercept (mM), squared correlation, root mean
    square error (mM)."""

    a: np.ndarray
    q: np.ndarray
    r2: np.ndarray
    sigma: np.ndarray

    @property
    def concise(self) -> np.ndarray:
        """a times R2."""
        return self.a * self.r2

    @property
    def linear(self) -> np.ndarray:
        """a times R2, or R2 / a where a is above one, since too steep a slope is no gain."""
        return self.r2 * np.where(self.a > 1, 1 / np.maximum(self.a, 1), self.a)


def scores(estimates: np.ndarray, truth: np.ndarray) -> Scores:
    """Return the scores of estimated concentrations ``(n, n_metabs)``."""
    a = slopes(estimates, truth)
    varies = estimates.var(0) > 0  # a constant estimate explains nothing
    r2 = np.where(varies, a**2 * truth.var(0) / np.where(varies, estimates.var(0), 1), 0)
    return Scores(a, estimates.mean(0) - a * truth.mean(0), r2, np.sqrt(np.mean((estimates - truth) ** 2, 0)))


def group_mean(values: np.ndarray, group: str) -> float:
    """Return the mean of values ``(16,)`` over a group of metabolites."""
    return float(np.mean(values[[METABOLITES.index(name) for name in RIZZO_GROUPS[group]]]))


def percent_of_mean(sigma: np.ndarray) -> np.ndarray:
    """Return errors (mM) ``(16,)`` in percent of the mean concentration, as in the paper."""
    return 100 * sigma / (0.5 * np.array(list(RIZZO_MOST.values())))


def fits(data: dict) -> tuple[quantification.Quantification, float]:
    """Fit idealised spectra with the model of their simulation; return the fit and its milliseconds per spectrum."""
    basis, recipe = basis_and_recipe("rizzo")
    prior = priors.from_recipe(recipe, basis.names)
    start = time.perf_counter()
    fit = fsl_mrs_dl.quantify(
        data["fid"],
        basis,
        dwelltime=basis.dwelltime,
        spec_freq_mhz=basis.spec_freq_mhz,
        model="voigt",
        baseline="off",
        rescale=False,
        prior=prior,
        init="classical",
    )
    return fit, 1e3 * (time.perf_counter() - start) / len(data["fid"])


def _information(data: dict) -> np.ndarray:
    """Return the Fisher information at the truth ``(n, 23, 23)``: all amplitudes in the basis set's order, both
    widths, shift and phases, as in the fit.

    Widths are the model's: the Lorentzian rate, and the square of the Gaussian one.
    """
    basis = datasets.rizzo_basis()
    model, _ = quantify.model_for(
        basis,
        basis.axes.with_points(data["fid"].shape[-1]),
        FitOptions(model="voigt", baseline="off", rescale=False),
    )
    # The model's Gaussian rate, exp(-(sigma t)^2), of a full width at half maximum.
    sigma = np.pi * data["gauss_hz"] / (2 * np.sqrt(np.log(2)))
    column = lambda values: torch.as_tensor(values)[:, None]  # noqa: E731
    zero = np.zeros(len(sigma))
    theta = model.join_theta(
        gamma=column(zero), variance=column(sigma**2), eps=column(zero), phi0=column(zero), phi1=column(zero)
    )
    parts = []
    for rows in np.array_split(np.arange(len(theta)), -(-len(theta) // 128)):
        parts.append(uncertainty.fisher_information(model, theta[rows], torch.as_tensor(data["all"][rows])).numpy())
    return np.concatenate(parts) / data["noise_sd"][:, None, None] ** 2


def bounds(data: dict) -> np.ndarray:
    """Return Cramer-Rao bounds at the truth as covariances ``(n, 16, 16)`` in mM by the water peak; width, shift and
    phase are free as in the fit.

    The peak is fitted, too, and its error enters every concentration; errors common to all amplitudes cancel.
    """
    cov = uncertainty.covariance(
        torch.as_tensor(_information(data)), torch.ones(len(data["conc"]), dtype=torch.float64)
    ).numpy()
    n, water = len(METABOLITES), data["all"].shape[1] - 1
    jacobian = np.zeros((len(cov), n, cov.shape[-1]))
    jacobian[:, np.arange(n), np.arange(n)] = 1
    jacobian[:, :, water] = -data["conc"] / REFERENCE_MM
    return jacobian @ cov @ jacobian.transpose(0, 2, 1)


def best_linear(data: dict, prior: str = "ranges") -> np.ndarray:
    """Return covariances ``(n, 16, 16)`` of the best linear estimate at the truth whose prior are the ranges of
    concentrations, macromolecules and widths.

    With ``prior='everything'`` it also includes everything that all the data have in common, as in a network trained on
    them: no shift, no phase, and lines broadened by a Gaussian only.
    """
    information, recipe = _information(data), datasets.rizzo_recipe()
    ranges, n = recipe.content["concentrations"]["ranges"], data["all"].shape[1]
    names = datasets.rizzo_basis().names
    ends = np.array(
        [ranges[name]["uniform"] if isinstance(ranges[name], dict) else (ranges[name],) * 2 for name in names], float
    )
    vary = np.flatnonzero(ends[:, 1] > ends[:, 0])
    information[:, vary, vary] += 12 / (ends[:, 1] - ends[:, 0])[vary] ** 2
    # Derivatives of the whole width by the Lorentzian rate and by the square of the Gaussian one, at no Lorentzian
    # width.
    per_hz, (low, high) = np.pi / (2 * np.sqrt(np.log(2))), recipe.content["gauss_fwhm_hz"]["uniform"]
    per_width = np.stack([np.full(len(information), 0.5346 / np.pi), 1 / (2 * per_hz**2 * data["gauss_hz"])], 1)
    information[:, n : n + 2, n : n + 2] += per_width[:, :, None] * per_width[:, None] * 12 / (high - low) ** 2
    # Constant parameters are known: the water peak and, under 'everything', shift, phases and the Lorentzian width.
    free = [*vary, n + 1] if prior == "everything" else [*vary, *range(n, information.shape[-1])]
    information = information[:, free][:, :, free]
    cov = uncertainty.covariance(
        torch.as_tensor(information), torch.ones(len(information), dtype=torch.float64)
    ).numpy()
    return cov[:, : len(METABOLITES), : len(METABOLITES)]


def limits_of(data: dict) -> dict[str, Scores]:
    """Return the scores that an estimate without bias and linear ones with more prior knowledge can reach, on average
    over the spectra, by name."""
    truth, diagonal = data["conc"], lambda cov: np.diagonal(cov, axis1=1, axis2=2).mean(0)
    spread, variance = truth.var(0), diagonal(bounds(data))
    one, zero = np.ones(len(spread)), np.zeros(len(spread))
    limits = {
        "always the mean": Scores(zero, truth.mean(0), zero, np.sqrt(spread)),
        "limit without bias": Scores(one, zero, spread / (spread + variance), np.sqrt(variance)),
    }
    for name, prior in (("limit, ranges known", "ranges"), ("limit, all else known, too", "everything")):
        remaining = diagonal(best_linear(data, prior))
        known = 1 - remaining / spread
        limits[name] = Scores(known, (1 - known) * truth.mean(0), known, np.sqrt(remaining))
    return limits


def dss_limit(name: str, n: int, seed: int, n_points: int | None = None) -> float:
    """Return approximately the least mean SMAPE (%) of any method on a data set: linearised, with ranges as normal
    distributions of the same SD.

    ``n_points`` is the number of points used from the beginning of the FIDs, all by default.
    """
    basis, recipe = basis_and_recipe(name)
    drawn, rendered = draw_set(basis, recipe, n, seed)
    fids = basis.fids[:, :n_points]
    time_axis = np.arange(fids.shape[-1]) * basis.dwelltime
    content, m = recipe.content, basis.n_metabs
    spread = lambda spec: (spec["uniform"][1] - spec["uniform"][0]) / np.sqrt(12) if isinstance(spec, dict) else 0.0  # noqa: E731
    ranges, each = content["concentrations"]["ranges"], content["each"]
    amplitude = np.array([spread(ranges[one]) for one in basis.names])
    lines = np.array([one.lower().startswith("mm") for one in basis.names])
    free = np.ones(m) if each.get("macromolecules") else (~lines).astype(float)
    sds = [amplitude, spread(each["shift_hz"]) * free, spread(each["damping_per_s"]) * free]
    sds += [np.deg2rad(spread(each.get("phase_deg", 0))) * free, np.deg2rad([spread(content["phase_deg"])])]
    sds = np.concatenate(sds)
    used = sds > 0
    least = []
    for row in range(n):
        conc = drawn["conc"][row].numpy().astype(float)
        shift, damping, phase = drawn["each"][row].numpy().astype(float).T
        exponent = (damping[:, None] + 2j * np.pi * shift[:, None]) * time_axis - 1j * (
            phase[:, None] + float(drawn["phi0"][row])
        )
        one = fids * np.exp(exponent)
        part = conc[:, None] * one
        slope = np.concatenate(
            [one, 2j * np.pi * time_axis * part, time_axis * part, -1j * part, -1j * part.sum(0)[None]]
        )[used]
        information = (slope.conj() @ slope.T).real / float(rendered.noise_sd[row]) ** 2 + np.diag(sds[used] ** -2)
        least.append(np.sqrt(np.diagonal(np.linalg.inv(information))[: int((amplitude > 0).sum())]))
    wanted = ~lines[amplitude > 0]
    middle = np.array([np.mean(ranges[one]["uniform"]) for one in np.array(basis.names)[amplitude > 0]])
    # The mean absolute value of a normal distribution is 0.8 of its SD.
    return float(np.mean((100 * np.sqrt(2 / np.pi) * np.mean(least, 0) / (2 * middle))[wanted]))


def draw_set(basis, recipe, n: int, seed: int):
    """Draw spectra of a recipe; return the drawn parameters and the rendered spectra."""
    protocol = protocols.protocol_of(basis.fids, basis.names, basis.axes)
    drawn = random_spectra.draw(recipe, n, basis.names, torch.Generator().manual_seed(seed))
    return drawn, random_spectra.render(drawn, protocol)
