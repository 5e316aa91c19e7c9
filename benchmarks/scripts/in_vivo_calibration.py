"""Simulation-based calibration of the in-vivo estimate (Talts et al., doi 10.48550/arXiv.1804.06788):

    python -m benchmarks.scripts.in_vivo_calibration --output benchmarks > benchmarks/in_vivo_calibration.md

Spectra are drawn from the model's own priors, with noise, and fitted with the same priors.  Where the posterior is
right the rank of the truth in it is uniform, and the squared error over the variance is one in the mean.  One thread.
"""

from __future__ import annotations

import argparse
import platform
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from scipy import stats

import fsl_mrs_dl
from fsl_mrs_dl.core.axes import Axes
from fsl_mrs_dl.fitting.in_vivo.estimates import Likelihoods, parameter_covariance
from fsl_mrs_dl.fitting.in_vivo.prepared import smooth_baseline_of
from fsl_mrs_dl.fitting.in_vivo.ratios import ConcentrationPrior
from fsl_mrs_dl.fitting.in_vivo.solver import Problem, minimise
from fsl_mrs_dl.fitting.in_vivo.starts import classical_start
from fsl_mrs_dl.fitting.in_vivo.variants import average_of
from fsl_mrs_dl.physics.coarse_window import make_window
from fsl_mrs_dl.physics.in_vivo_components import build_components, priors_table
from fsl_mrs_dl.physics.in_vivo_model import InVivoModel, make_in_vivo_model
from fsl_mrs_dl.physics.in_vivo_signals import MACROMOLECULES
from fsl_mrs_dl.physics.smooth_baseline import SmoothBaseline
from fsl_mrs_dl.simulation.acquisition import simulate_basis

BINS = 20
COMMON = ("shift", "phi0", "phi1", "gamma", "variance")
STARTS_AT = 3  # index of the baseline's strength


@dataclass
class Calibration:
    """Ranks and standard scores of one condition.

    Attributes
    ----------
    names : list of str
        Metabolites, and the macromolecules' scale.
    ranks, scores, inside : ndarray ``(n, m)``
        Rank of the truth in the posterior, 0 to 1; error over posterior SD; whether the 95 % interval holds the truth.
    common : ndarray ``(n, 5)``
        Errors over SDs of :data:`COMMON`.
    amount : ndarray ``(n,)``
        True logarithm of the macromolecules' scale over the metabolites'; 1.2 to 2 in fits of real scans.
    converged : float
    """

    names: list[str]
    ranks: np.ndarray
    scores: np.ndarray
    inside: np.ndarray
    common: np.ndarray
    amount: np.ndarray
    converged: float


def model_of(field_t: float, prior: str) -> tuple[InVivoModel, InVivoModel, SmoothBaseline]:
    """Return the model that spectra are drawn from, the one that is fitted, and their baseline."""
    basis = simulate_basis(
        sequence="press", te_ms=35.0, field_t=field_t, bandwidth_hz=700 * field_t, n_points=1024, macromolecules=None
    )
    axes = Axes(768, 1 / (700 * field_t), basis.spec_freq_mhz)
    window = make_window(axes, (0.2, 4.2))
    on_grid = basis.resampled(axes.dwelltime, axes.n_points)
    components = build_components(on_grid, basis.names, axes, te_s=0.035, tr_s=2.0)
    drawn_from = components
    if prior == "population":
        table = priors_table()["concentrations"]
        narrow = components.log_sd * np.where(
            components.kinds == "metabolite", table["population_log_sd"] / table["log_sd"], 1.0
        )
        drawn_from = replace(components, log_sd=narrow)
    baseline = smooth_baseline_of(window.ppm, axes.nucleus)
    return make_in_vivo_model(drawn_from, window), make_in_vivo_model(components, window), baseline


def draw(model: InVivoModel, n: int, snr: tuple[float, float], random: np.random.Generator) -> np.ndarray:
    """Draw parameters from a model's prior ``(n, n_params)``; the unit of amplitudes gives an SNR in a range, the
    zero-order phase is any."""
    s = model.slices
    precision = model.prior_precision.numpy()
    free = np.setdiff1d(np.arange(model.n_params), [s["scale"].start, s["phi0"].start])
    factor = np.linalg.cholesky(np.linalg.inv(precision[np.ix_(free, free)]))
    x = np.tile(model.prior_mean.numpy(), (n, 1))
    x[:, free] += random.standard_normal((n, len(free))) @ factor.T
    x[:, s["phi0"]] = random.uniform(-np.pi, np.pi, (n, 1))
    parts = model.component_spectra(torch.as_tensor(x))
    metabolites = torch.as_tensor(model.components.kinds == "metabolite")
    height = parts[:, metabolites].sum(1).abs().amax(-1).numpy()
    unit = np.log(random.uniform(*snr, n) / height)[:, None]
    for name in ("log_amp", "scale", "mm_scale"):
        x[:, s[name]] += unit
    return x


def spectra_of(model: InVivoModel, baseline: SmoothBaseline, x: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return spectra of parameters with baseline and noise of SD 1 in a real channel, complex ``(n, n_window)``."""
    n = len(x)
    normal = lambda size: random.standard_normal((n, size)) + 1j * random.standard_normal((n, size))  # noqa: E731
    strength = random.choice(priors_table()["baseline"]["strengths"], (n, 1))
    humps = (strength * np.sqrt(baseline.values) * normal(len(baseline.values))) @ baseline.vectors.T
    free = 30 * normal(baseline.free.shape[1]) @ baseline.free.T
    return model.spectrum(torch.as_tensor(x)).numpy() + humps + free + normal(model.window.n_window)


def calibrate(field_t: float, prior: str, n: int, snr: tuple[float, float], seed: int, batch: int = 128) -> Calibration:
    """Draw, fit and rank."""
    random = np.random.default_rng(seed)
    drawn_from, model, baseline = model_of(field_t, prior)
    truth = draw(drawn_from, n, snr, random)
    spectra = spectra_of(drawn_from, baseline, truth, random)
    strengths, parts = priors_table()["baseline"]["strengths"], []
    for first in range(0, n, batch):
        rows = slice(first, first + batch)
        problem = Problem.make(model, spectra[rows], np.ones(len(spectra[rows])), baseline, strengths)
        parts.append(_ranked(problem, torch.as_tensor(truth[rows]), ConcentrationPrior(prior)))
    columns = [np.concatenate(column) for column in zip(*parts)]
    names = [*_metabolites(model), MACROMOLECULES]
    return Calibration(names, *columns[:5], converged=float(columns[5].mean()))


def _metabolites(model: InVivoModel) -> list[str]:
    return list(model.components.names[: int((model.components.kinds == "metabolite").sum())])


def _ranked(problem: Problem, truth: torch.Tensor, prior: ConcentrationPrior) -> tuple[np.ndarray, ...]:
    """Return ranks, scores, whether intervals hold the truth, scores of common parameters, the amount of
    macromolecules, and convergence."""
    model = problem.model
    s = model.slices
    columns = [*range(len(_metabolites(model))), model.n_linear]
    start = classical_start(problem)
    minimum = minimise(problem, start, torch.full((len(start),), STARTS_AT), max_iter=60)
    at_noise = replace(problem, noise=minimum.noise)
    average = average_of(at_noise, minimum)
    likelihoods = Likelihoods.of(at_noise, minimum, average)
    posteriors, estimate = likelihoods.posteriors(prior), likelihoods.estimate(prior)
    amplitude = torch.exp(torch.cat([truth[:, s["log_amp"]][:, : model.n_linear], truth[:, s["mm_scale"]]], -1))
    rank = torch.stack([(p.mass() * (p.grid <= amplitude[..., None])).sum(-1) for p in posteriors], 1)
    rank = (rank * likelihoods.weights[..., None]).sum(1)[:, columns].numpy()
    amplitude = amplitude[:, columns].numpy()
    sd = np.sqrt(np.diagonal(estimate.cov, axis1=1, axis2=2))[:, columns]
    score = (estimate.mean[:, columns] - amplitude) / sd
    inside = (estimate.low[:, columns] <= amplitude) & (amplitude <= estimate.high[:, columns])
    sds = parameter_covariance(problem, minimum).diagonal(dim1=-2, dim2=-1).clamp(min=0).sqrt()
    error = minimum.x - truth
    error[:, s["phi0"]] = torch.remainder(error[:, s["phi0"]] + torch.pi, 2 * torch.pi) - torch.pi
    common = np.stack([(error / sds)[:, s[name].start].numpy() for name in COMMON], 1)
    amount = (truth[:, s["mm_scale"]] - truth[:, s["scale"]])[:, 0].numpy()
    return rank, score, inside, common, amount, minimum.converged.numpy()


def table(label: str, result: Calibration) -> None:
    """Print the table of one condition."""
    n = len(result.ranks)
    print(f"\n## {label}\n\n{n} spectra, {100 * result.converged:.0f} % converged.\n")
    print("| | mean of error over SD | its mean square | 95 % intervals with the truth, % | uniform ranks, p |")
    print("|---|---|---|---|---|")
    for column, name in enumerate(result.names):
        score = result.scores[:, column]
        print(
            f"| {name} | {score.mean():.2f} | {np.mean(score**2):.2f} | {100 * result.inside[:, column].mean():.1f}"
            f" | {_uniform(result.ranks[:, column]):.2g} |"
        )
    scores = result.scores
    print(
        f"| **all** | {scores.mean():.2f} | {np.mean(scores**2):.2f} | {100 * result.inside.mean():.1f}"
        f" | medians: {np.median([_uniform(column) for column in result.ranks.T]):.2g} |"
    )
    print("\n| common to all lines | mean of error over SD | its mean square | its median square |\n|---|---|---|---|")
    for column, name in enumerate(COMMON):
        score = result.common[:, column]
        print(f"| {name} | {score.mean():.2f} | {np.mean(score**2):.2f} | {np.median(score**2):.2f} |", flush=True)


def by_amount(result: Calibration) -> None:
    """Print errors by the amount of macromolecules."""
    print("\n| log amount of macromolecules | spectra | MM, mean of error over SD | NAA | NAA, 95 % intervals, % |")
    print("|---|---|---|---|---|")
    naa, mm = result.names.index("NAA"), result.names.index(MACROMOLECULES)
    for low, high in ((-np.inf, -1), (-1, 0), (0, 1), (1, np.inf)):
        some = (result.amount > low) & (result.amount <= high)
        print(
            f"| {low:g} to {high:g} | {some.sum()} | {result.scores[some, mm].mean():.2f}"
            f" | {result.scores[some, naa].mean():.2f} | {100 * result.inside[some, naa].mean():.1f} |",
            flush=True,
        )


def _uniform(ranks: np.ndarray) -> float:
    """Return the p-value of uniform ranks by the test of chi-square."""
    return float(stats.chisquare(np.histogram(ranks, BINS, (0, 1))[0]).pvalue)


def figure(results: dict[str, Calibration], path: Path) -> None:
    """Draw rank histograms: all metabolites together, and single ones."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    shown = ["all", "NAA", "Cr", "Glu", "Gln", "GABA", "GSH", "Lac", "NAAG"]
    fig, axes = plt.subplots(len(results), len(shown), figsize=(2 * len(shown), 2.2 * len(results)), squeeze=False)
    for row, (label, result) in zip(axes, results.items()):
        for axis, name in zip(row, shown):
            ranks = result.ranks if name == "all" else result.ranks[:, result.names.index(name)]
            # Metabolites of one spectrum are not independent of each other: the band of all is too narrow.
            low, high = stats.binom.interval(0.95, ranks.size, 1 / BINS)
            axis.hist(ranks.ravel(), BINS, range=(0, 1), color="tab:blue")
            axis.axhspan(low, high, color="0.6", alpha=0.6)
            axis.set_title(name, fontsize=9)
            axis.set_yticks([])
            axis.tick_params(labelsize=7)
        row[0].set_ylabel(label, fontsize=8)
    fig.suptitle("Rank of the true concentration in its posterior; grey: 95 % of uniform ranks", fontsize=10)
    fig.tight_layout()
    fig.savefig(path, dpi=80)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--spectra", type=int, default=384, help="of each condition (default 384)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("."), help="folder of the figure")
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(
        f"# Calibration of the in-vivo estimate\n\nFSL-MRS-DL {fsl_mrs_dl.__version__}, torch {torch.__version__},"
        f" {platform.machine()}; PRESS 35 ms, seed {args.seed}. Spectra are drawn from the model's own priors"
        " (concentrations: 'wide', a factor of e; 'population', of 1.35) and fitted with the same, every spectrum"
        " alone.\n\n![rank histograms](in_vivo_calibration.png)"
    )
    results = {}
    for field_t, prior, snr in ((3.0, "wide", (10, 60)), (3.0, "population", (10, 60)), (7.0, "population", (10, 60))):
        label = f"{field_t:g} T, {prior}, SNR {snr[0]} to {snr[1]}"
        results[label] = calibrate(field_t, prior, args.spectra, snr, args.seed)
        table(label, results[label])
        by_amount(results[label])
    figure(results, args.output / "in_vivo_calibration.png")


if __name__ == "__main__":
    main()
