"""Dynamic fits of a diffusion series: error of the decays against the bound, beside fits of each spectrum and beside
fsl_dynmrs.

    python -m benchmarks.scripts.dynamic --data DWI_STEAM_7T [--fsl_dynmrs PROGRAM] > benchmarks/dynamic.md

The data are those of the folder dwi_steam_7t of the test data: a synthetic series whose decays are known.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.scripts.dynamic_in_vivo import in_vivo_lines
from fsl_mrs_dl.core.units import spec_to_fid
from fsl_mrs_dl.dynamic.configuration import Configuration, read_configuration
from fsl_mrs_dl.dynamic.derived import mapped_slopes
from fsl_mrs_dl.dynamic.series import DynamicFit, fit_series
from fsl_mrs_dl.fitting.data import choose_basis
from fsl_mrs_dl.fitting.options import FitOptions
from fsl_mrs_dl.io import nifti
from fsl_mrs_dl.io.basis import Basis
from fsl_mrs_dl.preproc.align import align_data
from fsl_mrs_dl.preproc.options import AlignOptions

CONFIGURATION = """
from numpy import exp, asarray, ones_like

Parameters = {
    "conc": {"other": {"dynamic": "model_biexp", "params": ["c_amp", "c_slow", "c_fast", "c_share"]},
             "Mac": {"dynamic": "model_lin", "params": ["c_amp", "c_slope"]}},
    "gamma": "fixed", "sigma": "fixed", "eps": "fixed", "Phi_0": "variable", "Phi_1": "fixed", "baseline": "variable"}
Bounds = {"c_amp": (0, None), "c_slow": (0, 0.1), "c_fast": (0.1, 4), "c_share": (0, 1),
          "gamma": (0, None), "sigma": (0, None)}


def model_biexp(p, t):
    return p[0] * (p[3] * exp(-p[1] * t) + (1 - p[3]) * exp(-p[2] * t))


def model_biexp_grad(p, t):
    e1, e2 = exp(-p[1] * t), exp(-p[2] * t)
    return asarray([p[3] * e1 + (1 - p[3]) * e2, -p[0] * p[3] * t * e1, -p[0] * (1 - p[3]) * t * e2, p[0] * (e1 - e2)])


def model_lin(p, t):
    return p[0] - p[1] * t


def model_lin_grad(p, t):
    return asarray([ones_like(t), -t])
"""
SUMS = {"NAA+NAAG": ("NAA", "NAAG"), "Cr+PCr": ("Cr", "PCr"), "GPC+PCho": ("GPC", "PCh"), "Glu": ("Glu",)} | {
    "Ins": ("Ins",),
    "GSH": ("GSH",),
}
KEPT = ["NAA", "NAAG", "Cr", "PCr", "GPC", "Glu", "Ins", "GSH", "Mac"]
OPTIONS = FitOptions(prior="none")


@dataclass(frozen=True)
class Decays:
    """Signal over that at b = 0: ``values`` ``(n_sums, n_times)`` and SDs where there are some."""

    values: np.ndarray
    sd: np.ndarray | None = None


def main(argv=None) -> None:
    """Run the benchmark and print its page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="the folder dwi_steam_7t")
    parser.add_argument("--fsl_dynmrs", help="the program of FSL-MRS; left out where it is absent")
    parser.add_argument("--pictures", type=Path, help="folder for pictures of the fit in vivo")
    parser.add_argument("--only", choices=("synthetic", "in-vivo"), help="one part of the page")
    parser.add_argument("--repeats", type=int, default=12, help="noise realisations of the simulated series")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        lines = [] if args.only == "in-vivo" else [report(args, Path(folder))]
        if args.only != "synthetic":
            lines += in_vivo_lines(args.data, Path(folder), args.pictures)
        print("\n".join(lines))


def report(args, folder: Path) -> str:
    """Return the page."""
    aligned = align_data(nifti.load(args.data / "synthetic.nii.gz"), AlignOptions(dim="DIM_DYN", average=True)).data
    fids = aligned.fids.reshape(aligned.n_points, -1).T
    basis = choose_basis(Basis.load(args.data / "basis_STEAM_TE45_TM60.BASIS"), aligned)
    truth = {
        str(one["metab"] if isinstance(one["metab"], str) else one["metab"][0]): (one["bValues"], one["decay"])
        for one in json.loads((args.data / "decay_metab.txt").read_text(encoding="utf-8"))
    }
    times = np.array(truth["Glu"][0], float)
    true = np.array([truth[name][1] for name in SUMS])
    (folder / "config.py").write_text(CONFIGURATION, encoding="utf-8")
    configuration = read_configuration(folder / "config.py")
    fit_series(fids, basis, aligned.axes, configuration, times, OPTIONS)  # what is loaded once
    start = time.perf_counter()
    fit = fit_series(fids, basis, aligned.axes, configuration, times, OPTIONS)
    seconds = time.perf_counter() - start
    np.savetxt(folder / "bvals", times)
    theirs, their_seconds = _of_fsl_mrs(args, folder, aligned, fids)
    lines = [
        "# Dynamic fits",
        "",
        "`python -m benchmarks.scripts.dynamic`: `dwi_steam_7t/synthetic`, 9 b values, aligned and averaged, 19 basis"
        " spectra, biexponential decays (macromolecules: linear), one width and shift for the series, phase and"
        f" baseline free at each b value ({len(fit.names)} free parameters).",
        "",
        "Root mean square error of the decays (signal over that at b = 0) over the eight b values, in percentage"
        " points; the bound is the mean SD that the joint covariance gives. The series was not made with this basis"
        f" set, widths and baseline: the residual is {fit.noise_sd / _noise_outside(fids, fit):.2f} times the noise.",
        "",
        "| | " + " | ".join(SUMS) + " |",
        "|---|" + "---|" * len(SUMS),
    ]
    joint, single = decays_of(fit), single_decays(fit)
    rows = {"bound of the joint fit": joint.sd, "joint fit": joint.values - true}
    rows["each b value on its own"] = single.values - true
    if theirs is not None:
        rows["fsl_dynmrs"] = decays_of(fit, theirs).values - true
    lines += [f"| {name} | {' | '.join(f'{100 * rms(row):.2f}' for row in values)} |" for name, values in rows.items()]
    lines += ["", f"Time of the joint fit, single fits included: {seconds:.1f} s of one thread."]
    if theirs is not None:
        cost = cost_with_best_baseline(fit, theirs)
        lines.append(
            f"fsl_dynmrs: {their_seconds:.0f} s, {their_seconds / seconds:.0f} times as long; cost of its end over that"
            f" of ours minus one: {cost / fit.solution.cost - 1:.2e}, which is"
            f" {np.sqrt(max(cost - fit.solution.cost, 0)) / fit.noise_sd:.2f} SD away (ours:"
            f" {fit.solution.distance:.0e} SD from its minimum)."
        )
    lines += _simulated(configuration, fit, basis, aligned, times, args.repeats)
    return "\n".join(lines)


def rms(values: np.ndarray) -> float:
    """Return the root mean square over b values above zero."""
    return float(np.sqrt(np.mean(np.square(values[1:]))))


def cost_with_best_baseline(fit: DynamicFit, x: np.ndarray) -> float:
    """Return the cost of free parameters with the best baseline at each time.

    FSL-MRS's polynomials span what ours do, but their coefficients are others.
    """
    theta, conc, _ = fit.model.unpack(fit.mapping.mapped(torch.as_tensor(x)))
    residual = torch.as_tensor(fit.spectra) - fit.model.join_metabolites(theta, conc)
    return float(fit.model.eliminate_baseline(residual).abs().square().sum())


def _columns(fit: DynamicFit, names: Sequence[str]) -> list[int]:
    return [fit.metabolites.index(name) for name in names if name in fit.metabolites]


def decays_of(fit: DynamicFit, x: np.ndarray | None = None) -> Decays:
    """Return the decays of a joint fit, or of other free parameters in its mapping, with SDs by the delta method."""
    at = torch.as_tensor(fit.x if x is None else x)
    mapped, dense = fit.mapping.mapped(at), mapped_slopes(fit, at)
    values, sds = [], []
    cov = np.nan_to_num(fit.cov, posinf=0)
    for names in SUMS.values():
        columns = _columns(fit, names)
        total, by_x = mapped[:, columns].sum(1).numpy(), dense[:, columns].sum(1).numpy()
        ratio = total / total[0]
        by_ratio = (by_x - ratio[:, None] * by_x[0]) / total[0]
        values.append(ratio)
        sds.append(np.sqrt(np.clip(np.einsum("ti,ij,tj->t", by_ratio, cov, by_ratio), 0, None)))
    return Decays(np.array(values), np.array(sds))


def single_decays(fit: DynamicFit) -> Decays:
    """Return the decays of the fits of each spectrum on its own."""
    totals = np.array([fit.initial[:, _columns(fit, names)].sum(1) for names in SUMS.values()])
    return Decays(totals / totals[:, :1])


def _noise_outside(fids: np.ndarray, fit: DynamicFit) -> float:
    """Return the noise per real channel of the scaled spectra, from the end of the FIDs."""
    return float(np.std(np.concatenate([fids[:, -200:].real, fids[:, -200:].imag])) * fit.fid_scale)


def _of_fsl_mrs(args, folder: Path, aligned, fids: np.ndarray):
    """Return the free parameters of fsl_dynmrs and its time, None and NaN where it is absent."""
    if not args.fsl_dynmrs:
        return None, np.nan
    series = nifti.MrsData(
        fids.T[None, None, None], aligned.dwelltime, aligned.spec_freq_mhz, aligned.nucleus, ("DIM_USER_0",)
    )
    nifti.save(folder / "series.nii.gz", series)
    words = [args.fsl_dynmrs, "--data", folder / "series.nii.gz", "--basis", args.data / "basis_STEAM_TE45_TM60.BASIS"]
    words += ["--dyn_config", folder / "config.py", "--time_variables", folder / "bvals", "--output", folder / "fsl"]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    folder_of_program = str(Path(shutil.which(args.fsl_dynmrs) or args.fsl_dynmrs).parent)
    environment["PATH"] = f"{folder_of_program}{os.pathsep}{environment['PATH']}"
    start = time.perf_counter()
    subprocess.run([str(word) for word in words], check=True, capture_output=True, env=environment)
    return _stored(folder / "fsl"), time.perf_counter() - start


def _stored(folder: Path) -> np.ndarray:
    import pandas as pd

    return pd.read_csv(folder / "dyn_results.csv", index_col="samples").iloc[0].to_numpy().copy()


def _simulated(
    configuration: Configuration, fit: DynamicFit, basis: Basis, aligned, times: np.ndarray, repeats: int
) -> list[str]:
    """Return the table of series that follow the model: the fitted one of nine metabolites, with other noise."""
    few = basis.select(KEPT)
    base = fit_series(aligned.fids.reshape(aligned.n_points, -1).T, few, aligned.axes, configuration, times, OPTIONS)
    with torch.no_grad():
        fids = spec_to_fid(base.model(torch.as_tensor(base.mapped)).numpy()) / base.fid_scale
    noise = base.noise_sd / base.fid_scale
    rng, true = np.random.default_rng(23), decays_of(base).values
    joint, single, inside, bound = [], [], [], []
    for _ in range(repeats):
        noisy = fids + noise * (rng.normal(size=fids.shape) + 1j * rng.normal(size=fids.shape))
        one = fit_series(noisy, few, aligned.axes, configuration, times, OPTIONS)
        decays = decays_of(one)
        joint.append(decays.values - true)
        single.append(single_decays(one).values - true)
        bound.append(decays.sd)
        inside.append(np.abs(decays.values - true)[:, 1:] < 1.96 * decays.sd[:, 1:])
    errors = {"bound": bound, "joint fit": joint, "each b value on its own": single}
    lines = [
        "",
        f"The fitted model of nine metabolites as truth, {repeats} realisations of noise of that size:",
        "",
        "| | " + " | ".join(SUMS) + " |",
        "|---|" + "---|" * len(SUMS),
    ]
    for name, values in errors.items():
        table = np.sqrt(np.mean(np.square(np.array(values)[:, :, 1:]), axis=(0, 2)))
        lines.append(f"| {name} | {' | '.join(f'{100 * value:.2f}' for value in table)} |")
    share = np.mean(inside, axis=(0, 2))
    lines.append(f"| share within 1.96 SD | {' | '.join(f'{value:.0%}' for value in share)} |")
    return lines


if __name__ == "__main__":
    main()
