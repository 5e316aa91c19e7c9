"""Dynamic fits of simulated functional series: bias and coverage of the betas, and false positives of null series.

    python -m benchmarks.scripts.functional > benchmarks/functional.md

Blocks of a stimulus, metabolites and a line width that respond, drifts of amplitude, width, frequency and phase: see
``fsl_mrs_dl/simulation/functional.py``.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from fsl_mrs_dl.core.units import fid_to_spec
from fsl_mrs_dl.dynamic.configuration import Configuration, read_configuration
from fsl_mrs_dl.dynamic.joint_fit import CATEGORIES, JointModel, parameter_covariance, solve_joint
from fsl_mrs_dl.dynamic.mapping import Mapping
from fsl_mrs_dl.dynamic.series import fit_series, time_tensors
from fsl_mrs_dl.fitting.options import FitOptions
from fsl_mrs_dl.fitting.quantify import model_for
from fsl_mrs_dl.fitting.uncertainty import Z95
from fsl_mrs_dl.io.basis import Basis
from fsl_mrs_dl.simulation.acquisition import simulate_basis
from fsl_mrs_dl.simulation.functional import FunctionalOptions, FunctionalSeries, functional_design, simulate_functional

METABOLITES = "NAA NAAG Cr PCr GPC PCh Glu Gln Ins Lac GSH Tau".split()
OPTIONS = FitOptions(prior="none", baseline="poly, 0", rescale=False, init="classical")
ACTIVE = FunctionalOptions(n_spectra=32, interval_s=10.0, block_s=40.0, narrowing_hz=-0.3)
NULL = replace(ACTIVE, changes={}, narrowing_hz=0.0)
NARROWING = replace(ACTIVE, changes={})


@dataclass(frozen=True)
class Case:
    """Series of one kind, and how they are fitted: cosines in the design, and whether the width responds in it."""

    title: str
    series: FunctionalOptions
    n_drifts: int = 1
    free_width: bool = True


CASES = {
    "active": Case("responses and drift, both in the design", ACTIVE),
    "null": Case("no response, drift in the design", NULL),
    "narrowing": Case("width responds, concentrations do not, both in the design", NARROWING),
    "fixed width": Case("the same, no response of the width in the design", NARROWING, 1, False),
    "three cosines": Case("drift of three cosines, all in the design", replace(NULL, n_drifts=3), 3),
    "one of three": Case("drift of three cosines, one in the design", replace(NULL, n_drifts=3), 1),
    "no drift column": Case("drift of one cosine, none in the design", NULL, 0),
    "jitter": Case("amplitude of each spectrum varies by 2 % (SD)", replace(NULL, amplitude_jitter=0.02)),
    "precise": Case("SNR 200, drift in the design", replace(NULL, snr=200)),
    "precise, no column": Case("SNR 200, drift of one cosine, none in the design", replace(NULL, snr=200), 0),
    "precise, jitter": Case("SNR 200, amplitudes vary by 2 %", replace(NULL, snr=200, amplitude_jitter=0.02)),
}


@dataclass(frozen=True)
class Betas:
    """Betas of the response of every metabolite, then of the width, ``(n_series, n_metabs + 1)``: errors and SDs."""

    true: np.ndarray
    errors: np.ndarray
    sds: np.ndarray
    noise: np.ndarray

    @property
    def z(self) -> np.ndarray:
        """Errors over SDs."""
        return self.errors / self.sds


def main(argv=None) -> None:
    """Run the benchmark and print its page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--null", type=int, default=200, help="null series with drift in the design")
    parser.add_argument("--active", type=int, default=120, help="series with responses")
    parser.add_argument("--whole", type=int, default=8, help="series that are also fitted from scratch")
    parser.add_argument("--other", type=int, default=30, help="series of each other kind")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    print(report(args))


def functional_basis() -> Basis:
    """Return the basis set of the series: 3 T, ideal STEAM."""
    grid = {"field_t": 3.0, "bandwidth_hz": 1250.0, "n_points": 256}
    return simulate_basis(METABOLITES, sequence="steam", te_ms=14.0, tm_ms=30.0, **grid)


def configuration_of(case: Case, folder: Path) -> Configuration:
    """Return the configuration of a dynamic fit of a case."""
    roles = ["response", *(f"drift{number}" for number in range(case.n_drifts)), "constant"]
    parameters = {
        "conc": {"dynamic": "glm", "params": [f"c_{role}" for role in roles]},
        "gamma": {"dynamic": "glm" if case.free_width else "width", "params": [f"g_{role}" for role in roles]},
        "sigma": "fixed",
        "eps": "variable",
        "Phi_0": "variable",
        "Phi_1": "fixed",
        "baseline": "fixed",
    }
    bounds = {"g_constant": (0, None), "sigma": (0, None)}
    if not case.free_width:
        parameters["gamma"] = {"dynamic": "width", "params": [f"g_{role}" for role in roles[1:]]}
    text = f"Parameters = {parameters!r}\nBounds = {bounds!r}\n"
    text += "\ndef width(p, t):\n    return t[:, 1:] @ p\n\n\ndef width_grad(p, t):\n    return t[:, 1:].T\n"
    path = folder / "config.py"
    path.write_text(text, encoding="utf-8")
    return read_configuration(path)


@dataclass(frozen=True)
class Ends:
    """The end of a fit: free parameters by name, their SDs, and the SD of the noise."""

    names: list[str]
    x: np.ndarray
    sd: np.ndarray
    noise_sd: float


class Fitter:
    """Fits of series of one case, from the parameters that they were made with.

    A fit from scratch, :func:`fsl_mrs_dl.dynamic.series.fit_series`, ends at the same minimum, for the longer time of
    its search for initial values; :meth:`distances` measures it.
    """

    def __init__(self, case: Case, basis: Basis, folder: Path):
        self.basis, self.configuration = basis, configuration_of(case, folder)
        self.design = functional_design(case.series, case.n_drifts)
        self.model, _ = model_for(basis, basis.axes, OPTIONS)
        sizes = {CATEGORIES.get(key, key): size for key, size in self.model.sizes.items()}
        self.mapping = Mapping(self.configuration, sizes, basis.names, time_tensors(self.design), len(self.design))

    def __call__(self, series: FunctionalSeries) -> Ends:
        """Return the end of the fit of a series."""
        first, last = self.model.window
        joint = JointModel(torch.as_tensor(fid_to_spec(series.fids)[:, first:last]), self.model, self.mapping)
        solution = solve_joint(joint, self.mapping.start(torch.as_tensor(series.params)))
        if not solution.converged:
            print(f"not converged: {solution.distance:.2g} SD", file=sys.stderr)
        cov, noise = parameter_covariance(joint, solution)
        return Ends(self.mapping.names, solution.x.numpy(), cov.diagonal().clamp(min=0).sqrt().numpy(), noise)

    def distance(self, series: FunctionalSeries) -> float:
        """Return how far a fit from scratch ends from this one: the largest difference of a parameter, in SDs."""
        one = self(series)
        other = fit_series(series.fids, self.basis, self.basis.axes, self.configuration, self.design, OPTIONS)
        return float(np.max(np.abs(one.x - other.x) / one.sd))


def fitted_betas(case: Case, basis: Basis, repeats: int, folder: Path, seed: int) -> Betas:
    """Return the betas of the response in fits of simulated series."""
    fitter, rows = Fitter(case, basis, folder), []
    for number in range(repeats):
        series = simulate_functional(basis, case.series, seed + number)
        end = fitter(series)
        rows.append((*_errors(series, end), end.noise_sd / series.noise_sd))
    errors, sds, noise = (np.array(part) for part in zip(*rows))
    return Betas(np.append(series.conc_betas[:, 0], series.gamma_betas[0]), errors, sds, noise)


def _errors(series: FunctionalSeries, fit: Ends) -> tuple[np.ndarray, np.ndarray]:
    """Return errors and SDs of the betas of the response: concentrations and, where it is free, the width."""
    names = [f"conc_{name}_c_response" for name in series.basis.names] + ["gamma_0_g_response"]
    where = [fit.names.index(name) for name in names if name in fit.names]
    true = np.append(series.conc_betas[:, 0], series.gamma_betas[0])[: len(where)]
    return fit.x[where] - true, fit.sd[where]


def independent_tests(z: np.ndarray) -> float:
    """Return how many independent tests the correlated ones ``(n_series, n_tests)`` of normal z amount to.

    The variance of the share of positive tests grows with the correlations of the squares of z, which are the squares
    of those of z; these are free of the bias that the number of series gives them.
    """
    n, k = z.shape
    squares = np.corrcoef(z.T) ** 2
    squares = np.where(np.eye(k, dtype=bool), 1.0, np.clip(squares - 1 / (n - 1), 0, None))
    return z.size * k / squares.sum()


def report(args) -> str:
    """Return the page."""
    basis = functional_basis()
    counts = {"active": args.active, "null": args.null}
    betas = {}
    with tempfile.TemporaryDirectory() as folder:
        whole = Fitter(CASES["active"], basis, Path(folder))
        distance = max(whole.distance(simulate_functional(basis, ACTIVE, seed)) for seed in range(args.whole))
        start = time.process_time()
        for seed, (name, case) in enumerate(CASES.items()):
            betas[name] = fitted_betas(case, basis, counts.get(name, args.other), Path(folder), 100_000 * seed)
            print(f"{name}: {time.process_time() - start:.0f} s", file=sys.stderr)
    seconds = (time.process_time() - start) / sum(len(one.errors) for one in betas.values())
    introduction = _introduction(seconds, args.whole, distance)
    return "\n".join([*introduction, *_active_lines(betas["active"]), *_null_lines(betas)])


def _introduction(seconds: float, whole: int, distance: float) -> list[str]:
    o = ACTIVE
    return [
        "# Functional series",
        "",
        "`python -m benchmarks.scripts.functional`: simulated series at 3 T (ideal STEAM, TE 14 ms, 12 metabolites at"
        f" concentrations of the brain), {o.n_spectra} spectra of {o.interval_s:g} s, blocks of {o.block_s:g} s"
        f" convolved with a haemodynamic response, SNR {o.snr:g} in each spectrum. Amplitudes drift by"
        f" {100 * o.drift:g} % and the width by {o.width_drift_hz:g} Hz (SD over the series), the frequency by"
        f" {o.shift_drift_hz:g} Hz and the phase by {o.phase_drift_deg:g} degrees from first to last spectrum, with an"
        f" SD of {o.shift_jitter_hz:g} Hz and {o.phase_jitter_deg:g} degrees around that. Fit: concentrations and"
        " Lorentzian width follow a linear model of response, drift (half a period of a cosine) and constant; shift"
        " and phase are free for every spectrum; the rest is common."
        f" Fits start at the parameters that the series were made with ({seconds:.2f} s each); of {whole} that were"
        f" also fitted from scratch, no parameter ended elsewhere by more than {distance:.0e} SD.",
        "",
    ]


def _active_lines(betas: Betas) -> list[str]:
    """Return the table of bias and coverage."""
    n = len(betas.errors)
    lines = [
        f"## Bias and coverage: {CASES['active'].title}",
        "",
        f"{n} series. Glu changes by {100 * ACTIVE.changes['Glu']:g} %, Lac by {100 * ACTIVE.changes['Lac']:g} %, the"
        f" width by {ACTIVE.narrowing_hz:g} Hz ({np.pi * ACTIVE.narrowing_hz:.2f} rad/s). The bias has the standard"
        " error of its mean; coverage is that of intervals of 95 %.",
        "",
        "| beta of the response | true | bias | SD of estimates | mean of stated SDs | coverage |",
        "|---|---|---|---|---|---|",
    ]
    for number, name in enumerate([*METABOLITES, "width (rad/s)"]):
        errors, sds = betas.errors[:, number], betas.sds[:, number]
        bias, spread = errors.mean(), errors.std(ddof=1)
        inside = np.mean(np.abs(errors) < Z95 * sds)
        lines.append(
            f"| {name} | {betas.true[number]:.3f} | {bias:+.4f} +- {spread / np.sqrt(n):.4f} | {spread:.4f} |"
            f" {sds.mean():.4f} | {inside:.1%} |"
        )
    spread, total = betas.errors.std(0, ddof=1), np.mean(np.abs(betas.z) < Z95)
    lines += [
        "",
        f"All: coverage {total:.1%}, SD of estimates over stated SDs {np.mean(spread / betas.sds.mean(0)):.3f}"
        f"; noise of the residual over the true one {betas.noise.mean():.4f}.",
        "",
    ]
    return lines


def _null_lines(betas: dict[str, Betas]) -> list[str]:
    """Return the table of false positives."""
    lines = [
        "## False positives",
        "",
        "Share of betas of concentrations that differ from zero at p < 0.05, of 12 metabolites in each series, with the"
        " standard error by the number of independent tests that the correlations of the estimates leave. The width is"
        " counted where its response is in the design.",
        "",
        "| case | series | tests (independent) | false positives | SD of z | width: false positives |",
        "|---|---|---|---|---|---|",
    ]
    for name, case in CASES.items():
        if name == "active":
            continue
        z = betas[name].z[:, : len(METABOLITES)]
        independent = independent_tests(z)
        share = np.mean(np.abs(z) > Z95)
        error = np.sqrt(max(share * (1 - share), 1e-9) / independent)
        width = betas[name].z[:, len(METABOLITES) :]
        width_text = f"{np.mean(np.abs(width) > Z95):.1%}" if width.size else "-"
        lines.append(
            f"| {case.title} | {len(z)} | {z.size} ({independent:.0f}) |"
            f" {share:.1%} +- {error:.1%} | {z.std():.3f} | {width_text} |"
        )
    lines += [
        "",
        "A change of the width that the design lacks is taken for a change of concentrations, so the response of the"
        " width belongs into the configuration. Drifts that it lacks are nearly orthogonal to four periods of blocks:"
        " they raise the false positives of concentrations little, and those of the width to most of all series."
        " Amplitudes that vary from one spectrum to the next are no part of the noise within spectra, from which SDs"
        " come; at a high SNR these are too small then.",
    ]
    return lines


if __name__ == "__main__":
    main()
