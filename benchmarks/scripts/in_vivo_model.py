"""The in-vivo model on public spectra with truth, on simulated departures and on real scans, beside LCModel and
FSL-MRS: python -m benchmarks.scripts.in_vivo_model > benchmarks/in_vivo_model.md

Data are found through FSL_MRS_DL_TESTDATA, default ../shared/data.  LCModel's answers and FSL-MRS's are those that come
with the data.  One thread.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

import fsl_mrs_dl
from fsl_mrs_dl.core.axes import Axes
from fsl_mrs_dl.core.metabolites import is_macromolecule
from fsl_mrs_dl.core.units import fid_to_spec
from fsl_mrs_dl.fitting import quantify as quantify_module
from fsl_mrs_dl.fitting import uncertainty
from fsl_mrs_dl.fitting.data import choose_basis, fit_data
from fsl_mrs_dl.fitting.in_vivo.quantify import quantify_in_vivo
from fsl_mrs_dl.fitting.options import FitOptions
from fsl_mrs_dl.io import nifti
from fsl_mrs_dl.io.basis import Basis
from fsl_mrs_dl.simulation.acquisition import simulate_basis
from fsl_mrs_dl.simulation.in_vivo_spectra import DEPARTURES, simulate_in_vivo

DATA = Path(os.environ.get("FSL_MRS_DL_TESTDATA", Path(__file__).parents[2] / ".." / "shared" / "data"))
IN_VIVO = FitOptions(spectral_model="in-vivo", device="cpu")
OTHER_PRIORS = {
    "in-vivo, no prior on concentrations": replace(IN_VIVO, prior="none"),
    "in-vivo, soft constraints instead": replace(IN_VIVO, prior="none", soft_constraints=True),
    "in-vivo, soft constraints": replace(IN_VIVO, soft_constraints=True),
}
SUMS = ("NAA+NAAG", "Glu+Gln", "GPC+PCh")
CREATINE = ("Cr", "PCr")
REAL = {
    "lcmodel_test": ("lcmodel_test/spectrum.nii.gz", "lcmodel_test/3t.basis", "lcmodel_test.csv"),
    "invivo_7t_steam": (
        "invivo_7t_steam_raw/metab_processed.nii.gz",
        "invivo_7t_steam_raw/STEAM_7T_11ms.BASIS",
        "invivo_7t_steam_raw.metab_processed.csv",
    ),
    "siemens_press30": ("siemens_press30/suspect_rda.nii.gz", "siemens_press30/press_30ms_3T.basis", None),
}


def members(names, label: str) -> list[int]:
    """Return the columns of a metabolite or sum."""
    return [names.index(name) for name in label.split("+")]


def scores(estimate, truth, sd=None) -> np.ndarray:
    """Return RMSE and bias in percent of the mean truth, and coverage of 95 % intervals in percent, ``(m, 3)``."""
    error, mean = estimate - truth, truth.mean(0)
    cover = np.full(truth.shape[1], np.nan) if sd is None else 100 * np.mean(np.abs(error) < 1.96 * sd, 0)
    return np.stack([100 * np.sqrt(np.mean(error**2, 0)) / mean, 100 * error.mean(0) / mean, cover], 1)


def ratio_scores(mean, cov, truth, names, labels) -> np.ndarray:
    """Return :func:`scores` of ratios to total creatine."""
    under = members(names, "+".join(CREATINE))
    columns = [members(names, label) for label in labels]
    ratio = lambda conc: np.stack([conc[:, c].sum(1) / conc[:, under].sum(1) for c in columns], 1)  # noqa: E731
    sd = None if cov is None else np.stack([uncertainty.ratio_sd(mean, cov, c, under) for c in columns], 1)
    return scores(ratio(mean), ratio(truth), sd)


def row(label: str, values: np.ndarray, more: str = "") -> str:
    """Return a line of a table: medians over metabolites, and the least coverage."""
    rmse, bias = np.median(values[:, :2], 0)
    size = np.median(np.abs(values[:, 1]))
    cover = "" if np.isnan(values[:, 2]).all() else f"{np.nanmedian(values[:, 2]):.1f}"
    least = "" if not cover else f"{np.nanmin(values[:, 2]):.0f}"
    return f"| {label} | {rmse:.1f} | {bias:.1f} | {size:.1f} | {cover} | {least} |{more}"


HEAD = "| | RMSE, % | bias, % | size of bias, % | 95 % intervals with the truth, % | least of a metabolite |"


def in_vivo_like() -> None:
    """Print the table of the in-vivo-like spectra."""
    folder = DATA / "invivo_like_3t"
    data = nifti.load(folder / "svs.nii.gz")
    water = nifti.load(folder / "water.nii.gz")
    basis = choose_basis(Basis.load(next((DATA / "invivo_3t_press_philips").glob("*.BASIS"))), data)
    names = list(basis.names)
    labels = [name for name in names if name not in CREATINE] + list(SUMS)
    truth = _table(folder / "truth.csv", names)
    print("\n## 48 in-vivo-like spectra, 3 T PRESS 35 ms: ratios to Cr+PCr, medians over metabolites and sums\n")
    print(f"{HEAD} CPU s |\n|---|---|---|---|---|---|---|")
    lcmodel = _table(folder / "lcmodel.csv", names)
    # Where it has no creatine or no glutamate it has failed outright.
    largest = [lcmodel[:, members(names, total)].sum(1) for total in ("Cr+PCr", "Glu")]
    usable = np.isfinite(lcmodel).all(1) & (np.array(largest) > 0).all(0)
    values = ratio_scores(lcmodel[usable], None, truth[usable], names, labels)
    print(row(f"LCModel 6.3 ({usable.sum()} of 48)", values, " 7 |"))
    for label, options, reference in (
        ("ml, default", FitOptions(device="cpu"), None),
        ("ml, 'spline, moderate'", FitOptions(device="cpu", baseline="spline, moderate"), None),
        ("in-vivo", IN_VIVO, None),
        ("in-vivo with water", IN_VIVO, water),
        *((label, options, None) for label, options in OTHER_PRIORS.items()),
    ):
        began = time.process_time()
        fit = fit_data(data, basis, options, water=reference).fit
        took = (time.process_time() - began) / len(truth)
        order = [fit.names.index(name) for name in names]
        mean, cov = fit.estimate(options.estimate)
        values = ratio_scores(mean[:, order], cov[:, order][:, :, order], truth, names, labels)
        print(row(label, values, f" {took:.2f} |"))
        if options is IN_VIVO:
            mean, cov = fit.estimate("posterior_mean")
            values = ratio_scores(mean[:, order], cov[:, order][:, :, order], truth, names, labels)
            print(row(f"{label}, posterior_mean", values, " |"))


def _table(path: Path, names) -> np.ndarray:
    with open(path, newline="") as file:
        return np.array([[float(line.get(name) or "nan") for name in names] for line in csv.DictReader(file)])


def departures(n: int, seed: int) -> None:
    """Print the table of simulated departures."""
    base = {"sequence": "press", "field_t": 3.0, "bandwidth_hz": 2000.0, "n_points": 2048, "macromolecules": None}
    basis, other = (simulate_basis(te_ms=te, **base) for te in (35.0, 30.0))
    axes = Axes(1024, 1 / 2000, basis.spec_freq_mhz)
    print(f"\n## {n} simulated spectra of each departure, SNR 20 to 60, seed {seed}: ratios to Cr+PCr\n")
    print(f"{HEAD} ml, default: RMSE / intervals |\n|---|---|---|---|---|---|---|")
    for departure in (None, *DEPARTURES):
        made = simulate_in_vivo(basis, axes, n, seed=seed, departure=departure, other_basis=other)
        names = list(made.names)
        labels = [name for i, name in enumerate(names) if name not in CREATINE and made.concentrations[:, i].any()]
        results = []
        for options in (IN_VIVO, FitOptions(device="cpu")):
            quantify = quantify_in_vivo if options is IN_VIVO else quantify_module.quantify
            extra = {"water": made.water} if options is IN_VIVO and departure == "eddy currents" else {}
            fit = quantify(made.fids, basis, axes, options, **extra)
            order = [fit.names.index(name) for name in names]
            with np.errstate(divide="ignore", invalid="ignore"):
                values = ratio_scores(
                    fit.conc[:, order], fit.cov[:, order][:, :, order], made.concentrations, names, labels
                )
            results.append(values)
        plain = np.nanmedian(results[1], 0)
        print(row(departure or "none", results[0], f" {plain[0]:.0f} / {plain[2]:.0f} |"), flush=True)


SEQUENCES = {
    "PRESS 30 ms, 1.5 T": (1.5, {"sequence": "press", "te_ms": 30.0}),
    "PRESS 30 ms, 3 T": (3.0, {"sequence": "press", "te_ms": 30.0}),
    "PRESS 68 ms, 3 T": (3.0, {"sequence": "press", "te_ms": 68.0}),
    "PRESS 144 ms, 3 T": (3.0, {"sequence": "press", "te_ms": 144.0}),
    "PRESS 288 ms, 3 T": (3.0, {"sequence": "press", "te_ms": 288.0}),
    "STEAM 20 ms, 3 T": (3.0, {"sequence": "steam", "te_ms": 20.0, "tm_ms": 10.0}),
    "sLASER 28 ms, 3 T": (3.0, {"sequence": "slaser", "te_ms": 28.0}),
    "sLASER 28 ms, 7 T": (7.0, {"sequence": "slaser", "te_ms": 28.0}),
}
FILES = {
    "STEAM 11 ms, 7 T, a file": ("invivo_7t_steam_raw/STEAM_7T_11ms.BASIS", 11.0),
    "SPECIAL 9 ms, 7 T, a file": ("basis_more/basis_siemens_special9.basis", 9.0),
    "PRESS 30 ms, 3 T, a file": ("siemens_press30/press_30ms_3T.basis", 30.0),
}
_BANDWIDTHS_HZ = {1.5: 1250.0, 3.0: 2000.0, 7.0: 4000.0}


def sequences(n: int, seed: int) -> None:
    """Print the table of other sequences, echo times and field strengths."""
    print(f"\n## {n} simulated spectra of each sequence, SNR 20 to 60, seed {seed}: ratios to Cr+PCr\n")
    print(f"{HEAD} NAA+NAAG: RMSE / bias / intervals | Glu | Ins |\n|---|---|---|---|---|---|---|---|---|")
    made = {}
    for label, (field_t, kind) in SEQUENCES.items():
        bandwidth_hz = _BANDWIDTHS_HZ[field_t]
        basis = simulate_basis(
            field_t=field_t, bandwidth_hz=bandwidth_hz, n_points=2048, macromolecules=None, **_pulses(kind)
        )
        made[label] = (basis, kind["te_ms"], bandwidth_hz)
    for label, (path, te_ms) in FILES.items():
        basis = Basis.load(DATA / path)
        basis = basis.select([name for name in basis.names if not is_macromolecule(name)])
        made[label] = (basis, te_ms, _BANDWIDTHS_HZ[3.0 if basis.spec_freq_mhz < 200 else 7.0])
    for label, (basis, te_ms, bandwidth_hz) in made.items():
        axes = Axes(1024 if basis.spec_freq_mhz < 200 else 1600, 1 / bandwidth_hz, basis.spec_freq_mhz)
        print(_simulated_row(label, basis, basis, axes, te_ms, n, seed), flush=True)


def other_basis(n: int, seed: int) -> None:
    """Print the table of spectra of a file's basis set that are fitted with simulated ones."""
    print(f"\n## {n} spectra of one basis set fitted with another, 3 T PRESS, seed {seed}: ratios to Cr+PCr\n")
    print(f"{HEAD} NAA+NAAG: RMSE / bias / intervals | Glu | Ins |\n|---|---|---|---|---|---|---|---|---|")
    philips = next((DATA / "invivo_3t_press_philips").glob("*.BASIS")).relative_to(DATA)
    for maker, path, te_ms in (("Siemens", "siemens_press30/press_30ms_3T.basis", 30.0), ("Philips", philips, 35.0)):
        truth = Basis.load(DATA / path)
        truth = truth.select([name for name in truth.names if not is_macromolecule(name)])
        axes = Axes(1024, 1 / 2000, truth.spec_freq_mhz)
        print(_simulated_row(f"{maker}, its own", truth, truth, axes, te_ms, n, seed), flush=True)
        for assumed in (30.0, 35.0):
            fitted = simulate_basis(
                spec_freq_mhz=truth.spec_freq_mhz,
                bandwidth_hz=2000.0,
                n_points=2048,
                macromolecules=None,
                **_pulses({"sequence": "press", "te_ms": assumed}),
            ).select(list(truth.names))
            label = f"{maker} ({te_ms:g} ms), simulated for {assumed:g} ms"
            print(_simulated_row(label, truth, fitted, axes, te_ms, n, seed), flush=True)


def _pulses(kind: dict) -> dict:
    """Return a sequence's arguments with the pulses that ``simulate`` gives it."""
    return kind | ({"refocusing": "slice-selective"} if kind["sequence"] == "press" else {})


def _simulated_row(label: str, basis: Basis, fitted: Basis, axes: Axes, te_ms: float, n: int, seed: int) -> str:
    made = simulate_in_vivo(basis, axes, n, seed=seed, te_s=1e-3 * te_ms)
    fit = quantify_in_vivo(made.fids, fitted, axes, replace(IN_VIVO, echo_time_s=1e-3 * te_ms))
    names = list(made.names)
    order = [fit.names.index(name) for name in names]
    labels = [*(name for name in names if name not in CREATINE), "NAA+NAAG"]
    values = ratio_scores(fit.conc[:, order], fit.cov[:, order][:, :, order], made.concentrations, names, labels)
    shown = [values[labels.index(name)] for name in ("NAA+NAAG", "Glu", "Ins")]
    return row(label, values, "".join(f" {rmse:.0f} / {bias:.0f} / {cover:.0f} |" for rmse, bias, cover in shown))


def real_scans() -> None:
    """Print residuals and ratios of real scans, beside LCModel's where there are any."""
    print("\n## Real scans, one default for all: ratios to Cr+PCr (SD)\n")
    for label, (file, basis_file, reference) in REAL.items():
        data = nifti.load(DATA / file)
        basis = choose_basis(Basis.load(DATA / basis_file), data)
        fit = fit_data(data, basis, IN_VIVO).fit
        under = fit.members("Cr+PCr")
        residual = _residual(fit)
        print(
            f"\n{label}: residual over noise {residual:.2f}, misfit {fit.misfit[0]:.2f}, effective dimension of the"
            f" baseline {fit.baseline_dimension[0]:.1f}\n\n| | LCModel | in-vivo | SDs apart |\n|---|---|---|---|"
        )
        theirs = {}
        if reference:
            with open(DATA / "lcmodel_reference" / reference, newline="") as lines:
                content = {line["metabolite"]: line for line in csv.DictReader(lines)}
            total = float(content["Cr+PCr"]["conc"])
            theirs = {k: (float(v["conc"]) / total, float(v["sd"]) / total) for k, v in content.items()}
        for name in fit.names:
            ours = fit.conc[0, fit.names.index(name)] / fit.conc[0, under].sum()
            sd = uncertainty.ratio_sd(fit.conc, fit.cov, fit.members(name), under)[0]
            if name in theirs:
                apart = f"{(ours - theirs[name][0]) / np.hypot(sd, theirs[name][1]):.1f}"
                print(f"| {name} | {theirs[name][0]:.2f} ({theirs[name][1]:.2f}) | {ours:.2f} ({sd:.2f}) | {apart} |")
            else:
                print(f"| {name} | | {ours:.2f} ({sd:.2f}) | |")


def _residual(fit) -> float:
    """Return the residual over noise of the real part in the window, phase removed."""
    first, last = fit.model.window
    spectra = fid_to_spec(fit.fids) - fit.spectra("full")
    angle = fit.block("phi0") + fit.block("phi1") * fit.model.axes.hz()
    real = (spectra * np.exp(1j * angle)).real[:, first:last]
    return float(np.median(real.std(1) / fit.noise_outside_sd))


def challenge() -> None:
    """Print the table of the ISMRM fitting challenge of 2016."""
    folder = DATA / "fitting_challenge_2016"
    data, water = nifti.load(folder / "all28.nii.gz"), nifti.load(folder / "all28_h2o.nii.gz")
    basis = choose_basis(Basis.load(folder / "press3T_30ms.BASIS"), data)
    fits = {label: fit_data(data, basis, options).fit for label, options in OTHER_PRIORS.items()}
    fit = fit_data(data, basis, IN_VIVO).fit
    names = [name for name in basis.names if name != "Mac"]
    truth = _sets(folder / "truth_mM.csv", names)
    fids = np.moveaxis(water.fids, 3, -1).reshape(-1, water.n_points)
    first = max(8, int(0.004 / data.dwelltime))
    amplitude = np.exp(np.polyfit(np.arange(first), np.log(np.abs(fids[:, :first])).T, 1)[1])
    order = [fit.names.index(name) for name in names]
    print("\n## ISMRM fitting challenge 2016, sets 1 to 21, water as the reference, one free scale\n")
    print("| | mean error, % | of well-determined sums, % | GABA in sets 1-11, bias (SE), % | intervals, % |")
    print("|---|---|---|---|---|")
    newton = _sets(folder / "fsl_mrs_newton_2.4.8.csv", names)
    print(_challenge_row("FSL-MRS Newton 2.4.8", names, newton, truth, None))
    lcmodel = np.nan_to_num(_table(folder / "lcmodel_6.3.csv", names)[:21])
    print(_challenge_row("LCModel 6.3", names, lcmodel, truth, None))
    estimates = {label: other.estimate("in-vivo") for label, other in fits.items()}
    for label, (mean, cov) in (
        estimates | {name: fit.estimate(name) for name in ("in-vivo", "posterior_mean")}
    ).items():
        mean = mean[:21, order] / amplitude[:21, None]
        sd = np.sqrt(np.diagonal(cov, axis1=1, axis2=2))[:21, order] / amplitude[:21, None]
        print(_challenge_row(label, names, mean, truth, sd))
    print("\nResidual over noise of the artefact sets 22 to 28: " + ", ".join(f"{v:.2f}" for v in fit.misfit[21:]))


def _sets(path: Path, names) -> np.ndarray:
    with open(path, newline="") as file:
        lines = list(csv.DictReader(file))
    key = next(iter(lines[0]))
    rows = {line[key]: line for line in lines}
    sets = [f"set{i}" for i in range(1, 22)]
    return np.array([[float(rows[name][one]) if name in rows else np.nan for name in names] for one in sets])


def _challenge_row(label, names, mean, truth, sd) -> str:
    sums = ("NAA+NAAG", "Cr+PCr", "GPC+PCho", "Ins", "Glu+Gln", "Glu")
    total, of_truth = (np.stack([v[:, members(names, one)].sum(1) for one in sums], 1) for v in (mean, truth))
    factor = np.median(of_truth / total)
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.where(truth > 0, np.abs(mean * factor - truth) / truth, np.nan)
    gaba = names.index("GABA")
    some = truth[:11, gaba] > 0
    error = (mean[:11, gaba] * factor - truth[:11, gaba])[some]
    unit = 100 / truth[:11, gaba][some].mean()
    cover = "" if sd is None else f"{100 * np.nanmean(np.abs(mean * factor - truth) < 1.96 * sd * factor):.1f}"
    return (
        f"| {label} | {100 * np.nanmean(relative):.1f} | {100 * np.mean(np.abs(total * factor / of_truth - 1)):.1f}"
        f" | {unit * error.mean():.0f} ({unit * error.std(ddof=1) / np.sqrt(some.sum()):.0f}) | {cover} |"
    )


def speed() -> None:
    """Print CPU time per spectrum by the number of spectra."""
    basis = simulate_basis(
        sequence="press", te_ms=35.0, field_t=3.0, bandwidth_hz=2000.0, n_points=2048, macromolecules=None
    )
    axes = Axes(1024, 1 / 2000, basis.spec_freq_mhz)
    print("\n## CPU time per spectrum, one thread, models and tables made anew\n\n| spectra | ms each |\n|---|---|")
    for n in (1, 28, 512):
        made = simulate_in_vivo(basis, axes, n, seed=3)
        began = time.process_time()
        quantify_in_vivo(made.fids, basis, axes, IN_VIVO)
        print(f"| {n} | {1e3 * (time.process_time() - began) / n:.0f} |", flush=True)


PARTS = {
    "in-vivo-like": lambda args: in_vivo_like(),
    "departures": lambda args: departures(args.spectra, args.seed),
    "sequences": lambda args: sequences(args.spectra, args.seed),
    "other-basis": lambda args: other_basis(args.spectra, args.seed),
    "real": lambda args: real_scans(),
    "challenge": lambda args: challenge(),
    "speed": lambda args: speed(),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--spectra", type=int, default=48, help="simulated spectra of each departure (default 48)")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(1)
    versions = f"FSL-MRS-DL {fsl_mrs_dl.__version__}, torch {torch.__version__}, {platform.machine()}"
    print(f"# The in-vivo model\n\n{versions}.")
    for part in args.parts:
        PARTS[part](args)


if __name__ == "__main__":
    main()
