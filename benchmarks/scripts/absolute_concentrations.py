"""Absolute concentrations: against FSL-MRS's numbers, in the ISMRM fitting challenge of 2016, and the coverage of their
intervals.

    python -m benchmarks.scripts.absolute_concentrations [--parts creatine challenge coverage scan] >
    benchmarks/absolute_concentrations.md

``creatine`` and ``challenge`` need the folder ``fitting_challenge_2016`` of the test data, ``scan`` the folder
``invivo_3t_press_philips`` and spec2nii.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

import fsl_mrs_dl
from fsl_mrs_dl.concentrations.relaxation import Relaxation, signal_factor
from fsl_mrs_dl.concentrations.scaling import SOURCES, WaterScaling, absolute_concentrations
from fsl_mrs_dl.concentrations.tissue import WATER_DENSITY, WATER_MOLALITY, TissueFractions
from fsl_mrs_dl.concentrations.water import WATER_LIMITS, line_area
from fsl_mrs_dl.core.axes import Axes
from fsl_mrs_dl.fitting.data import choose_basis, fit_data, water_fids
from fsl_mrs_dl.fitting.in_vivo.quantify import quantify_in_vivo
from fsl_mrs_dl.fitting.options import FitOptions
from fsl_mrs_dl.fitting.quantify import quantify
from fsl_mrs_dl.io import nifti
from fsl_mrs_dl.io.basis import Basis, detect_conjugation
from fsl_mrs_dl.simulation.acquisition import simulate_basis
from fsl_mrs_dl.simulation.in_vivo_spectra import simulate_in_vivo

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("FSL_MRS_DL_TESTDATA", ROOT.parent / "shared" / "data"))
CHALLENGE, SCAN = DATA / "fitting_challenge_2016", DATA / "invivo_3t_press_philips"
SUMS = ("Cr+PCr", "NAA+NAAG", "GPC+PCho")

# The challenge's own scaling: grey and white matter 0.6 and 0.4, T2 of their water 110 and 80 ms, of metabolites 160
# ms, TR much longer than T1.
ITS_SCALING = WaterScaling(
    echo_time_s=0.03,
    repetition_time_s=60.0,
    tissue=TissueFractions.from_values(0.4, 0.6, 0.0),
    t1={"H2O_GM": 1.5, "H2O_WM": 1.0, "H2O_CSF": 4.0, "METAB": 1.3},
    t2={"H2O_GM": 0.110, "H2O_WM": 0.080, "H2O_CSF": 1.0, "METAB": 0.160},
)


def text_fids(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the suppressed and the water FID of a text file with two pairs of columns, complex ``(n_points,)``
    each."""
    columns = np.loadtxt(path)
    return columns[:, 0] + 1j * columns[:, 1], columns[:, 2] + 1j * columns[:, 3]


def creatine(args) -> None:
    """Print what the challenge's test of water scaling reads."""
    data = nifti.load_header(CHALLENGE / "all28.nii.gz")
    metabolites, water = text_fids(CHALLENGE / "Cr_10mM_test_water_scaling.txt")
    axes = Axes(len(metabolites), data.dwelltime, data.spec_freq_mhz)
    if detect_conjugation(metabolites, axes):
        metabolites, water = metabolites.conj(), water.conj()
    basis = Basis.load(CHALLENGE / "press3T_30ms.BASIS").select(["Cr"], None)
    fit = quantify(metabolites[None], basis, axes, FitOptions(baseline="off", ppmlim=(1.0, 4.2), init="classical"))
    print("\n## Test of water scaling: creatine, 10 mM by its name\n")
    print(
        "The two lines of the challenge's text file are exponentials, so their amplitudes are known without a fit.\n"
        "By the challenge's own formula (water 29697 mM, relaxation of metabolites 1.206, three and two protons) they\n"
        "are 10.83 mM, not 10.00. Both ways of comparing read these amplitudes within 2 %; the sets below do\n"
        "not share the difference.\n"
    )
    print("| compared | mM |\n|---|---|")
    for area, name in (("as-fitted", "as FSL-MRS does"), ("alike", "amplitudes at the first sample")):
        absolute, _ = absolute_concentrations(fit, water[None], replace(ITS_SCALING, area=area))
        assert absolute is not None
        print(f"| {name} | {absolute.molarity[0, 0]:.2f} |")
    # Both lines are exponentials: the amplitudes are known without any basis set.
    t = np.arange(axes.n_points) * axes.dwelltime
    hz = np.array([-200.411, -91.214])
    lines = np.exp((2j * np.pi * hz[:, None] - 15.708) * t)[:, 1:].T
    size = np.abs(np.linalg.lstsq(lines, metabolites[1:], rcond=None)[0])
    whole = WATER_MOLALITY * (0.6 * 0.78 * np.exp(-30 / 110) + 0.4 * 0.65 * np.exp(-30 / 80)) * np.exp(30 / 160)
    for protons, one, name in zip((3, 2), size, ("CH3 at 3.03 ppm", "CH2 at 3.91 ppm")):
        print(f"| exponentials, {name} | {one / np.abs(water[0]) * 2 / protons * whole:.2f} |")


def challenge(args) -> None:
    """Print the 21 sets without artefacts in mM, without a free scale."""
    data, water = (nifti.load(CHALLENGE / name) for name in ("all28.nii.gz", "all28_h2o.nii.gz"))
    data, water = (replace(one, fids=one.fids[..., :21]) for one in (data, water))
    basis = choose_basis(Basis.load(CHALLENGE / "press3T_30ms.BASIS"), data)
    with open(CHALLENGE / "truth_mM.csv", newline="") as file:
        rows = {row[""]: [float(row[f"set{i}"] or 0) for i in range(1, 22)] for row in csv.DictReader(file)}
    newton = {}
    with open(CHALLENGE / "fsl_mrs_newton_2.4.8.csv", newline="") as file:
        newton = {row[""]: [float(row[f"set{i}"] or 0) for i in range(1, 22)] for row in csv.DictReader(file)}
    names = [name for name in basis.names if name != "Mac" and name in rows]
    reported = [*SUMS, "Glu+Gln", *names]
    truth = {name: sum(np.array(rows[part]) for part in name.split("+")) for name in reported}
    times = {"echo_time_s": 0.03, "repetition_time_s": 60.0}
    tables = {"FSL-MRS Newton 2.4.8": {name: sum(np.array(newton[p]) for p in name.split("+")) for name in reported}}
    cover = {}
    for label, options, shape in (
        ("FSL-MRS's model", FitOptions(init="classical"), False),
        ("in-vivo model", FitOptions(spectral_model="in-vivo", **times), False),
        ("in-vivo model, --h2o", FitOptions(spectral_model="in-vivo", **times), True),
    ):
        fitted = fit_data(data, basis, options, water=water if shape else None)
        fids = water_fids(water, fitted.data, fitted.conjugated)
        certain = replace(ITS_SCALING, tissue=replace(ITS_SCALING.tissue, sd=0.0))
        # The scaling is known exactly, and the fit's error is all there is.
        exact = {**certain.t1, **{f"{key}_SD": 0.0 for key in certain.t1}}
        exact_t2 = {**certain.t2, **{f"{key}_SD": 0.0 for key in certain.t2}}
        certain = replace(certain, t1=exact, t2=exact_t2)
        absolute, _ = absolute_concentrations(fitted.fit, fids, certain, sums=[*SUMS, "Glu+Gln"])
        assert absolute is not None
        column = {name: absolute.names.index(name) for name in reported}
        tables[label] = {name: absolute.molarity[:, column[name]] for name in reported}
        cover[label] = np.mean(
            [
                (absolute.low["molarity"][:, column[name]] <= truth[name])
                & (truth[name] <= absolute.high["molarity"][:, column[name]])
                for name in names
            ]
        )
    print("\n## ISMRM fitting challenge 2016, sets 1 to 21 in mM: bias (RMSE)\n")
    print("No free scale: water, TE, T2 and tissue fractions as the challenge states them.\n")
    print("| | truth | " + " | ".join(tables) + " |\n" + "|---" * (len(tables) + 2) + "|")
    for name in reported:
        cells = []
        for table in tables.values():
            error = table[name] - truth[name]
            cells.append(f"{error.mean():+.2f} ({np.sqrt(np.mean(error**2)):.2f})")
        print(f"| {name} | {truth[name].mean():.2f} | {' | '.join(cells)} |")
    for name in SUMS:
        cells = [f"{100 * np.mean(table[name] / truth[name] - 1):+.1f} %" for table in tables.values()]
        print(f"| {name}, relative bias | | {' | '.join(cells)} |")
    print("\nShare of 95 % intervals, with the errors of the fit alone, that hold the truth: ", end="")
    print(", ".join(f"{label} {100 * value:.0f} %" for label, value in cover.items()) + ".")


def _truths(n: int, rng, relaxation: Relaxation, tissue: TissueFractions, drawn: set[str], te: float, tr: float):
    """Return the visible share of metabolites, and the visible water, of ``n`` subjects, ``(n,)`` each."""
    parts = ("GM", "WM", "CSF")
    fractions = np.array([float(tissue.grey), float(tissue.white), float(tissue.csf)])
    noise = rng.normal(size=(n, 3)) * tissue.sd * np.sqrt(1.5) * ("tissue fractions" in drawn)
    fractions = np.clip(fractions + noise - noise.mean(1, keepdims=True), 0, 1)
    fractions /= fractions.sum(1, keepdims=True)

    def times(kind: str, part: str, source: str) -> np.ndarray:
        value, sd = getattr(relaxation, kind)[part], getattr(relaxation, f"{kind}_sd")[part]
        return np.maximum(value + sd * rng.normal(size=n) * (source in drawn), 0.05 * value)

    water = 0.0
    for column, part in enumerate(parts):
        t1, t2 = (times(kind, f"H2O_{part}", "water relaxation") for kind in ("t1", "t2"))
        water = water + fractions[:, column] * WATER_DENSITY[part] * signal_factor(t1, t2, te, tr)
    t1, t2 = (times(kind, "METAB", "metabolite relaxation") for kind in ("t1", "t2"))
    return (1 - fractions[:, 2]) * signal_factor(t1, t2, te, tr), WATER_MOLALITY * water


def coverage(args) -> None:
    """Print how often 95 % intervals hold the truth where all sources of error are drawn, or one."""
    basis = simulate_basis(
        sequence="press", te_ms=35.0, field_t=2.89, bandwidth_hz=2000.0, n_points=2048, macromolecules=None
    )
    axes, te, tr = Axes(1024, 1 / 2000, basis.spec_freq_mhz), 0.035, 2.0
    tissue = TissueFractions.from_values(0.4, 0.5, 0.1)
    scaling, relaxation = WaterScaling(te, tr, tissue=tissue), Relaxation.at_field(2.89)
    assert relaxation is not None
    fids = basis.resampled(axes.dwelltime, axes.n_points)
    decay = np.exp(-20 * np.arange(axes.n_points) * axes.dwelltime)
    creatine_area = np.mean(
        [line_area(fids[basis.names.index(one)] * decay, axes, (2, 5), level=True) for one in ("Cr", "PCr")]
    )
    # mM of a concentration of one beside water whose first sample is one, both fully visible.
    unit = creatine_area / line_area(decay.astype(complex), axes, WATER_LIMITS, level=True) * 2 / 5
    print("\n## Coverage of 95 % intervals of the molarity, %\n")
    print(
        "Every subject has its own T1, T2 and tissue fractions, drawn from the spread that the SDs contain; fits and\n"
        "water have noise. In-vivo model: spectra of the recipe in-vivo. FSL-MRS's model: spectra that obey it.\n"
        "Sources that are not drawn are left out of the SDs; the in-vivo model's common amplitude (8 %) is in all.\n"
    )
    print(
        "| drawn | model | spectra | tNAA | tCr | tCho | Ins | Glu | mean of all | bias of tCr, % |\n"
        + "|---" * 10
        + "|"
    )
    cases = [("all four", set(SOURCES))] + [(source, {"fit", "water fit", source}) for source in SOURCES[3:]]
    cases += [("fit and water only", {"fit", "water fit"})]
    made = simulate_in_vivo(basis, axes, args.spectra, seed=args.seed, te_s=te, snr=(40, 80))
    in_vivo = quantify_in_vivo(
        made.fids,
        basis,
        axes,
        FitOptions(spectral_model="in-vivo", echo_time_s=te, repetition_time_s=tr),
        water=made.water,
    )
    many = np.tile(made.concentrations, (8, 1))
    plain_fids, plain_water, plain_conc = _plain(fids, axes, many, np.random.default_rng(args.seed + 1))
    plain = quantify(plain_fids, basis, axes, FitOptions(init="classical"))
    sums = ["NAA+NAAG", "Cr+PCr", "GPC+PCh"]
    for title, drawn in cases:
        settled = _only(scaling, relaxation, drawn)
        for label, fit, water, conc, area in (
            ("in-vivo", in_vivo, made.water, made.concentrations, None),
            ("FSL-MRS's, as FSL-MRS compares", plain, plain_water, plain_conc, None),
            ("FSL-MRS's, at the first sample", plain, plain_water, plain_conc, "alike"),
        ):
            rng = np.random.default_rng(args.seed + 2)
            visible, visible_water = _truths(len(conc), rng, relaxation, tissue, drawn, te, tr)
            # A spectrum is fitted once: its signal is that of a subject with more or less of everything.
            amount = np.abs(water[:, 0])
            molarity = conc * (unit * visible_water / visible / amount)[:, None]
            absolute, _ = absolute_concentrations(fit, water, replace(settled, area=area), sums=sums)
            assert absolute is not None
            names = [*sums, "Ins", "Glu"]
            every = [name for name in basis.names if conc[:, list(basis.names).index(name)].min() > 0]
            held = {}
            for name in [*names, *every]:
                truth = sum(molarity[:, list(basis.names).index(part)] for part in name.split("+"))
                column = absolute.names.index(name)
                held[name] = (absolute.low["molarity"][:, column] <= truth) & (
                    truth <= absolute.high["molarity"][:, column]
                )
                if name == "Cr+PCr":
                    bias = np.median(absolute.molarity[:, column] / truth) - 1
            cells = " | ".join(f"{100 * held[name].mean():.1f}" for name in names)
            mean = 100 * np.mean([held[name].mean() for name in every])
            print(f"| {title} | {label} | {len(conc)} | {cells} | {mean:.1f} | {100 * bias:+.1f} |", flush=True)


def _plain(fids, axes: Axes, conc: np.ndarray, rng):
    """Return spectra that obey FSL-MRS's model without a baseline, their water, and concentrations."""
    t = axes.time()
    n = len(conc)
    gamma, sigma = rng.uniform(4, 12, n), rng.uniform(5, 12, n)
    line = np.exp(-t * gamma[:, None] - (t * sigma[:, None]) ** 2)
    spectra = (conc @ fids) * line
    size = np.abs(np.fft.fft(spectra)).max(1, keepdims=True) / np.sqrt(axes.n_points)
    spectra = spectra + size / 60 * (rng.normal(size=spectra.shape) + 1j * rng.normal(size=spectra.shape))
    water = np.exp(-t * (gamma + 7)[:, None] - (t * sigma[:, None]) ** 2) * np.abs(spectra[:, :1]).max() * 300
    water = water + 1e-3 * np.abs(water[:, :1]) * (rng.normal(size=water.shape) + 1j * rng.normal(size=water.shape))
    return spectra, water, conc


def _only(scaling: WaterScaling, relaxation: Relaxation, drawn: set[str]) -> WaterScaling:
    """Return a scaling without the errors that are not drawn."""
    times = {}
    for kind in ("t1", "t2"):
        values, sds = getattr(relaxation, kind), getattr(relaxation, f"{kind}_sd")
        times[kind] = dict(values)
        for part, sd in sds.items():
            source = "metabolite relaxation" if part == "METAB" else "water relaxation"
            times[kind][f"{part}_SD"] = sd if source in drawn else 0.0
    tissue = scaling.tissue
    assert tissue is not None
    tissue = tissue if "tissue fractions" in drawn else replace(tissue, sd=0.0)
    return replace(scaling, tissue=tissue, **times)


_OF_SCAN = ("Cr+PCr", "NAA+NAAG", "GPC+PCh", "Ins", "Glu+Gln")


def scan(args) -> None:
    """Print the concentrations of one scan with two basis sets, without and with its measured macromolecules."""
    command = [sys.executable, "-m", "fsl_mrs_dl", "run", "--data", str(SCAN / "PRESS_raw-act.SDAT")]
    command += ["--h2o", str(SCAN / "PRESS_raw-ref.SDAT"), "--tissue_frac", "0.3", "0.6", "0.1"]
    bases = {
        "simulated, 30 ms": [],
        "vendor's pulses, 35 ms": ["--basis", str(SCAN / "3T_PRESS_Philips_35ms_noMM.BASIS")],
    }
    measured = ["--mm", str(SCAN / "PRESS_metabolite-nulled_TI600_raw-act.SDAT")]
    models = {
        "in-vivo model, its macromolecules": [],
        "in-vivo model, measured macromolecules": measured,
        "FSL-MRS's model, measured macromolecules": ["--spectral-model", "fsl-mrs", *measured],
        "FSL-MRS's model, none": ["--spectral-model", "fsl-mrs"],
    }
    print("\n## One scan, two basis sets\n")
    print(
        "Philips PRESS at 3 T, TE 30 ms, and its metabolite-nulled acquisition; tissue fractions are assumed (white\n"
        "0.3, grey 0.6, CSF 0.1), so that only differences between the rows count. mM, and the residual over noise.\n"
    )
    print(f"| model | basis set | {' | '.join(_OF_SCAN)} | residual |\n" + "|---" * (3 + len(_OF_SCAN)) + "|")
    with tempfile.TemporaryDirectory() as folder:
        for model, of_model in models.items():
            for basis, of_basis in bases.items():
                output = Path(folder) / f"{model} {basis}"
                one = [*command, *of_basis, *of_model, "--output", str(output)]
                subprocess.run(one, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                with (output / "summary.csv").open(newline="") as lines:
                    rows = {row["Metab"]: row for row in csv.DictReader(lines)}
                cells = [f"{float(rows[name]['mM']):.1f} ± {float(rows[name]['mM SD']):.1f}" for name in _OF_SCAN]
                misfit = float(rows["Cr+PCr"]["misfit"])
                print(f"| {model} | {basis} | {' | '.join(cells)} | {misfit:.2f} |", flush=True)


PARTS = {"creatine": creatine, "challenge": challenge, "coverage": coverage, "scan": scan}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--spectra", type=int, default=400, help="simulated spectra of the coverage (default 400)")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(1)
    versions = f"FSL-MRS-DL {fsl_mrs_dl.__version__}, torch {torch.__version__}, {platform.machine()}"
    print(f"# Absolute concentrations\n\n{versions}.")
    for part in args.parts:
        PARTS[part](args)


if __name__ == "__main__":
    main()
