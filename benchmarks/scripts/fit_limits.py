"""Accuracy of the fit against the Cramer-Rao bound, and its speed: python -m benchmarks.scripts.fit_limits >
benchmarks/fit_limits.md

Data: the ISMRM basis set of the quantification paper (doi 10.1016/j.compbiomed.2023.106837) with the ranges of its
Table 2, one Lorentzian damping, shift and phase; found through FSL_MRS_DL_TESTDATA, default ../shared/data.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from pathlib import Path

import numpy as np
import scipy.io
import torch

import fsl_mrs_dl
from fsl_mrs_dl.core.axes import Axes
from fsl_mrs_dl.fitting import quantify, uncertainty
from fsl_mrs_dl.fitting.options import FitOptions
from fsl_mrs_dl.io.basis import Basis

DATA = (
    Path(os.environ.get("FSL_MRS_DL_TESTDATA", Path(__file__).parents[2] / ".." / "shared" / "data"))
    / "seed_quant_ismrm3t"
)
NAMES = "Ala Asp Cr GABA GPC GSH Glc Gln Glu Gly Ins Lac NAA NAAG PCho PCr PE Tau sIns mm".split()
RANGES = {
    "Ala": (0.1, 1.8),
    "Asp": (1, 2),
    "Cr": (4.5, 10.5),
    "GABA": (1, 2),
    "Glc": (1, 2),
    "Gln": (3, 6),
    "Glu": (6, 12.5),
    "GPC": (0.5, 1.8),
    "GSH": (1.5, 3),
    "Gly": (0.2, 1),
    "Ins": (4, 9),
    "Lac": (0.2, 1),
    "NAA": (7.5, 17),
    "NAAG": (0.5, 2.5),
    "PCho": (0.2, 1),
    "PCr": (3, 5.5),
    "PE": (1, 2),
    "sIns": (0.2, 0.5),
    "Tau": (3, 6),
    "mm": (14, 17),
}
DWELLTIME, FREQUENCY = 0.25e-3, 123.23


def simulate(n: int, seed: int, noise_factor: float):
    """Basis, noisy FIDs, true concentrations, and the exact model at the truth."""
    fids = scipy.io.loadmat(DATA / "basisset.mat")["data"].T
    mm = next(v for k, v in scipy.io.loadmat(DATA / "mm.mat").items() if not k.startswith("__")).squeeze()
    # The file's frequency axis runs the other way.
    basis = Basis(np.concatenate([fids, mm[None]]).conj(), tuple(NAMES), DWELLTIME, FREQUENCY, source=str(DATA))
    model, _ = quantify.model_for(
        basis,
        Axes(2048, DWELLTIME, FREQUENCY, "1H"),
        FitOptions(rescale=False, model="lorentzian", baseline="off", ppmlim=(0.2, 4.2)),
    )
    random = np.random.default_rng(seed)
    low, high = np.array([RANGES[name] for name in NAMES]).T
    conc = random.uniform(low, high, (n, len(NAMES)))
    draw = lambda a, b: torch.as_tensor(random.uniform(a, b, (n, 1)))  # noqa: E731
    theta = model.join_theta(
        gamma=draw(0, 15), eps=2 * np.pi * draw(-3, 3), phi0=draw(-np.pi / 10, np.pi / 10), phi1=draw(0, 0)
    )
    params = model.pack(theta, torch.as_tensor(conc), torch.zeros(n, 1, dtype=torch.complex128))
    each = model.metabolites(params).abs()
    height = each[:, :-1].amax((1, 2)).numpy()
    noise_sd = height / random.normal(67, 15, n).clip(10) * noise_factor
    noise = random.standard_normal((2, n, 2048)) * noise_sd[:, None]
    from fsl_mrs_dl.core.units import spec_to_fid

    data = spec_to_fid(model(params).numpy() + noise[0] + 1j * noise[1])
    information = uncertainty.fisher_information(model, theta, torch.as_tensor(conc))
    bound = uncertainty.covariance(information, torch.as_tensor(noise_sd)).numpy()
    return basis, data, conc, np.sqrt(np.diagonal(bound, axis1=1, axis2=2)[:, : len(NAMES)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=512)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=4, help="independent batches")
    args = parser.parse_args()
    print("# The fit against the Cramer-Rao bound\n")
    print(
        f"`python -m benchmarks.scripts.fit_limits --n {args.n} --seed {args.seed} --repeat {args.repeat}`,"
        f" {torch.get_num_threads()} threads,"
    )
    print(
        f"{platform.machine()}, torch {torch.__version__}. Window 0.2 to 4.2 ppm, Lorentzian model with first-order"
        " phase, baseline"
    )
    print(
        "off, concentrations not negative, classical initial values. SNR 67 +- 15: largest metabolite peak in the"
        " magnitude spectrum over"
    )
    print("the noise SD of the real spectrum.\n")
    for factor, title in ((1.0, "SNR 67 +- 15"), (1.8, "the same with 1.8 times the noise")):
        errors, bounds, truth, took, converged = [], [], [], [], []
        for repeat in range(args.repeat):
            basis, fids, conc, bound = simulate(args.n, args.seed + repeat, factor)
            start = time.perf_counter()
            fit = fsl_mrs_dl.quantify(
                fids,
                basis,
                dwelltime=DWELLTIME,
                spec_freq_mhz=FREQUENCY,
                model="lorentzian",
                baseline="off",
                ppmlim=(0.2, 4.2),
                rescale=False,
                prior="none",
            )
            took.append((time.perf_counter() - start) / args.n * 1e3)
            errors.append(fit.conc - conc)
            bounds.append(bound)
            truth.append(conc)
            converged.append(fit.converged.mean())
        error, bound, conc = np.concatenate(errors), np.concatenate(bounds), np.concatenate(truth)
        print(f"## {title}\n")
        print(
            f"{error.shape[0]} spectra; {np.mean(converged):.2%} converged; {np.median(took):.2f} ms per spectrum"
            f" (batch of {args.n}), bounds and noise included.\n"
        )
        print("| metabolite | RMSE / CRLB | bias / CRLB | R2 | R2 at the bound |\n|---|---|---|---|---|")
        for i, name in enumerate(NAMES):
            rms = np.sqrt(np.mean(bound[:, i] ** 2))
            spread = conc[:, i].var()
            print(
                f"| {name} | {np.sqrt(np.mean(error[:, i] ** 2)) / rms:.3f} | {error[:, i].mean() / rms:+.3f} "
                f"| {1 - np.mean(error[:, i] ** 2) / spread:.3f} | {1 - rms**2 / spread:.3f} |"
            )
        print()


if __name__ == "__main__":
    main()
