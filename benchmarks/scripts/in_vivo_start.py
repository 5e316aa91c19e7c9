"""Where fits of the in-vivo model end from a network's initial values, from the classical ones and from others:

    python -m benchmarks.scripts.in_vivo_start > benchmarks/in_vivo_start.md

Spectra of :func:`fsl_mrs_dl.simulation.in_vivo_spectra.simulate_in_vivo`, which is not what networks are trained on, at
3 T and 7 T, of a simulated and a measured protocol's basis set each, spectra of the recipe that they are trained on,
and real scans (FSL_MRS_DL_TESTDATA, default ../shared/data), are shifted by up to 0.25 ppm and turned by any phase.
The best optimum known is the one of highest evidence among the ends of all starts.  One thread.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

import fsl_mrs_dl
from fsl_mrs_dl.core.axes import Axes
from fsl_mrs_dl.core.noise import noise_outside
from fsl_mrs_dl.core.units import fid_to_spec
from fsl_mrs_dl.fitting.data import choose_basis
from fsl_mrs_dl.fitting.in_vivo.fit import Acquisition, prepare
from fsl_mrs_dl.fitting.in_vivo.network_starts import network_refuses, network_start, start_with_network
from fsl_mrs_dl.fitting.in_vivo.solver import Minimum, Problem, evidence, minimise
from fsl_mrs_dl.fitting.in_vivo.starts import classical_start
from fsl_mrs_dl.io import nifti
from fsl_mrs_dl.io.basis import Basis
from fsl_mrs_dl.networks.model_cards import read_card
from fsl_mrs_dl.physics.in_vivo_components import priors_table
from fsl_mrs_dl.simulation import random_spectra
from fsl_mrs_dl.simulation.acquisition import simulate_basis
from fsl_mrs_dl.simulation.in_vivo_spectra import simulate_in_vivo
from fsl_mrs_dl.simulation.protocols import protocol_of
from fsl_mrs_dl.simulation.recipes import Recipe

DATA = Path(os.environ.get("FSL_MRS_DL_TESTDATA", Path(__file__).parents[2] / ".." / "shared" / "data"))
BEST, NEAR = 0.5, 5.0  # log evidence below the best
FIRST_STRENGTH, MAX_ITER = 3, 60
MOST_PPM = 0.25
# Shares of the simulated spectra.
CONDITIONS = {None: 0.5, "lipid": 0.125, "baseline": 0.125, "line shape": 0.125, "first-order phase": 0.125}
REAL = {
    "lcmodel_test": ("lcmodel_test/spectrum.nii.gz", "lcmodel_test/3t.basis"),
    "siemens_press30": ("siemens_press30/suspect_rda.nii.gz", "siemens_press30/press_30ms_3T.basis"),
    "7 T STEAM": ("invivo_7t_steam_raw/metab_processed.nii.gz", "invivo_7t_steam_raw/STEAM_7T_11ms.BASIS"),
    "invivo_like_3t": ("invivo_like_3t/svs.nii.gz", "invivo_3t_press_philips/3T_PRESS_Philips_35ms_noMM.BASIS"),
    "fitting challenge": ("fitting_challenge_2016/all28.nii.gz", "fitting_challenge_2016/press3T_30ms.BASIS"),
}


@dataclass(frozen=True)
class Case:
    """Spectra of one protocol.

    Attributes
    ----------
    label : str
    problem : Problem
    shift_hz : ndarray ``(n,)``
        That the spectra were shifted by.
    field : str
    """

    label: str
    problem: Problem
    shift_hz: np.ndarray
    field: str


def case_of(label: str, fids: np.ndarray, basis: Basis, axes: Axes, random: np.random.Generator) -> Case:
    """Shift and turn FIDs, and make the problem of their fits."""
    n = len(fids)
    shift = random.uniform(-MOST_PPM, MOST_PPM, n) * axes.spec_freq_mhz
    time_s = np.arange(axes.n_points) * axes.dwelltime
    fids = fids * np.exp(2j * np.pi * shift[:, None] * time_s + 1j * random.uniform(-np.pi, np.pi, (n, 1)))
    fids = fids * (100 / np.linalg.norm(fids, axis=1).mean())
    on_grid = basis.resampled(axes.dwelltime, axes.n_points)
    on_grid = on_grid * (100 / np.linalg.norm(on_grid.mean(0)))
    acquisition = Acquisition(te_s=0.03, tr_s=2.0)
    prepared = prepare(fids, on_grid, basis.names, axes, acquisition)
    window = prepared.model.window
    noise = noise_outside(fid_to_spec(fids[:, : window.axes.n_points]), window.axes)
    strengths = priors_table()["baseline"]["strengths"]
    problem = Problem.make(prepared.model, window.transform(fids), noise, prepared.baseline, strengths)
    return Case(label, problem, shift, f"{axes.spec_freq_mhz / 42.577:.0f} T")


def simulated_cases(n: int, seed: int) -> list[Case]:
    """Return ``n`` simulated spectra of each of four protocols, SNR 5 to 60."""
    random = np.random.default_rng(seed)
    bases = {
        "3 T PRESS 35, simulated": simulate_basis(
            sequence="press", te_ms=35.0, field_t=3.0, bandwidth_hz=2000.0, n_points=2048, macromolecules=None
        ),
        "3 T PRESS 35, measured protocol": Basis.load(DATA / REAL["invivo_like_3t"][1]),
        "7 T sLASER 28, simulated": simulate_basis(
            sequence="slaser", te_ms=28.0, field_t=7.0, bandwidth_hz=4000.0, n_points=4096, macromolecules=None
        ),
        "7 T STEAM 11, measured protocol": Basis.load(DATA / REAL["7 T STEAM"][1]),
    }
    cases = []
    for label, basis in bases.items():
        dwelltime = 1 / (16 * basis.spec_freq_mhz)
        axes = Axes(int(0.5 / dwelltime), dwelltime, basis.spec_freq_mhz)
        parts = [
            simulate_in_vivo(
                basis, axes, round(share * n), snr=(5, 60), seed=int(random.integers(2**31)), departure=departure
            ).fids
            for departure, share in CONDITIONS.items()
        ]
        cases.append(case_of(label, np.concatenate(parts), basis, axes, random))
        if label == "3 T PRESS 35, measured protocol":
            fids = recipe_fids(basis, axes, n, int(random.integers(2**31)))
            cases.append(case_of("the same, recipe in-vivo", fids, basis, axes, random))
    return cases


def recipe_fids(basis: Basis, axes: Axes, n: int, seed: int) -> np.ndarray:
    """Return FIDs of the recipe that networks are trained on, with its lipids, water and echoes ``(n, n_points)``."""
    recipe = Recipe.load("in-vivo")
    here = {"snr": {"uniform": [5, 60]}, "shift_ppm": 0.0, "phase_deg": 0.0}
    protocol = protocol_of(basis.resampled(axes.dwelltime, axes.n_points), basis.names, axes, te_s=0.035)
    generator = torch.Generator().manual_seed(seed)
    drawn = random_spectra.draw(Recipe.of(recipe.name, recipe.content | here), n, protocol.names, generator)
    return random_spectra.render(drawn, protocol).fid.numpy().astype(complex)


def real_cases(repeats: int, seed: int) -> list[Case]:
    """Return real spectra, sets of less than 8 several times."""
    random = np.random.default_rng(seed)
    cases = []
    for label, (file, basis_file) in REAL.items():
        data = nifti.load(DATA / file)
        basis = choose_basis(Basis.load(DATA / basis_file), data)
        fids = np.moveaxis(data.fids, 3, -1).reshape(-1, data.n_points)
        basis = basis.select([name for name in basis.names if name != "Mac"])
        fids = np.tile(fids, (repeats if len(fids) < 8 else 1, 1))
        cases.append(case_of(label, fids, basis, data.axes, random))
    return cases


def near_truth(case: Case) -> torch.Tensor:
    """Return the classical start with shifts within 0.04 ppm of the true one."""
    starts, mhz = [], case.problem.model.window.axes.spec_freq_mhz
    for row, shift in enumerate(case.shift_hz):
        starts.append(classical_start(case.problem.rows([row]), most_ppm=0.04, about_ppm=shift / mhz))
    return torch.cat(starts)


def from_common(problem: Problem, minimum: Minimum) -> torch.Tensor:
    """Return the shift, phases, widths and scales of minima, with all that single lines have of their own, and the line
    shape, at their prior: what a network that made no error would propose."""
    s = problem.model.slices
    x = problem.model.prior_mean.repeat(len(minimum.x), 1)
    for name in ("shift", "phi0", "phi1", "gamma", "variance", "scale", "mm_scale", "log_amp"):
        x[:, s[name]] = minimum.x[:, s[name]]
    return x


@dataclass
class Ends:
    """Ends of the fits from one kind of start."""

    minimum: Minimum
    start_ms: float
    fit_ms: float


def fit(problem: Problem, start: Callable[[Problem], torch.Tensor]) -> Ends:
    """Fit from a start, in CPU milliseconds per spectrum."""
    n = len(problem.spectra)
    begun = time.process_time()
    x = start(problem)
    between = time.process_time()
    minimum = minimise(problem, x, torch.full((n,), FIRST_STRENGTH), max_iter=MAX_ITER)
    end = time.process_time()
    return Ends(minimum, 1e3 * (between - begun) / n, 1e3 * (end - between) / n)


def compare(case: Case, networks: list[str]) -> list[dict]:
    """Return the rows of one protocol: share at the best optimum, within a few of log evidence, at the true shift,
    steps and times."""
    problem, mhz = case.problem, case.problem.model.window.axes.spec_freq_mhz
    ends = {"classical": fit(problem, classical_start)}
    for name in networks:
        network_start(problem, name=name)  # loads it
        ends[read_card(name).name] = fit(problem, lambda some, name=name: network_start(some, name=name))
    if networks:
        ends["both"] = fit(problem, lambda some: start_with_network(some, "both", name=networks[-1]))
    ends["near the truth"] = fit(problem, lambda some: near_truth(case))
    noise = torch.stack([end.minimum.noise for end in ends.values()]).amin(0)
    at_noise = replace(problem, noise=noise)
    value = {label: _evidence(at_noise, end.minimum) for label, end in ends.items()}
    highest = torch.stack(list(value.values()))
    choice = highest.argmax(0)
    best = replace(ends["classical"].minimum)
    best.x = torch.stack([end.minimum.x for end in ends.values()])[choice, torch.arange(len(choice))]
    ends["best optimum's own common parameters"] = fit(problem, lambda some: from_common(some, best))
    value["best optimum's own common parameters"] = _evidence(
        at_noise, ends["best optimum's own common parameters"].minimum
    )
    highest = torch.stack(list(value.values())).amax(0)
    rows = []
    for label, end in ends.items():
        shift = end.minimum.x[:, problem.model.slices["shift"]][:, 0].numpy()
        below = highest - value[label]
        rows.append(
            {
                "case": case.label,
                "start": label,
                "best": (below < BEST).numpy(),
                "near": (below < NEAR).numpy(),
                "shift": np.abs(shift - case.shift_hz) / mhz < 0.03,
                "steps": end.minimum.steps.numpy(),
                "start_ms": np.full(len(below), end.start_ms),
                "fit_ms": np.full(len(below), end.start_ms + end.fit_ms),
            }
        )
    return rows


def _evidence(problem: Problem, minimum: Minimum) -> torch.Tensor:
    return evidence(problem, minimum.normal, minimum.x).amax(-1)


HEAD = (
    "| | start | at the best optimum, % | within 5 of its log evidence, % | {shift} | steps | start, ms"
    " | start and fit, ms |\n|---|---|---|---|---|---|---|---|"
)


def print_rows(label: str, rows: list[dict], real: bool) -> None:
    """Print the rows of one or several protocols together."""
    for start in dict.fromkeys(row["start"] for row in rows):
        some = [row for row in rows if row["start"] == start]
        mean = {
            key: np.concatenate([row[key] for row in some]).mean()
            for key in ("best", "near", "shift", "steps", "start_ms", "fit_ms")
        }
        shift = "" if real else f"{100 * mean['shift']:.1f}"
        print(
            f"| {label} | {start} | {100 * mean['best']:.1f} | {100 * mean['near']:.1f} | {shift} | {mean['steps']:.1f}"
            f" | {mean['start_ms']:.1f} | {mean['fit_ms']:.0f} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--spectra", type=int, default=64, help="simulated, of each protocol (default 64)")
    parser.add_argument("--repeats", type=int, default=8, help="shifts and phases of a real spectrum (default 8)")
    parser.add_argument(
        "--networks", nargs="*", default=["quant-universal"], help="names or folders (default quant-universal)"
    )
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(
        f"# Initial values of the in-vivo model\n\nFSL-MRS-DL {fsl_mrs_dl.__version__}, torch {torch.__version__},"
        f" {platform.machine()}, one thread beside other work; CPU times per spectrum; seed {args.seed}. Spectra are"
        f" shifted by up to {MOST_PPM:g} ppm and turned by any phase. 'Best optimum': log evidence within {BEST:g} of"
        " the highest from any start; 'both': the lower cost of the last network's and the classical start."
    )
    for name in args.networks:
        card = read_card(name)
        about = card["training"]
        print(f"\n{card.name}: `{about['command']}`, {about['minutes']:.0f} minutes on {about['device']}.")
    for title, cases, real in (
        ("Simulated, SNR 5 to 60", simulated_cases(args.spectra, args.seed), False),
        ("Real and public", real_cases(args.repeats, args.seed), True),
    ):
        print(f"\n## {title}\n\n" + HEAD.format(shift="" if real else "within 0.03 ppm of the true shift, %"))
        rows = []
        for case in cases:
            usable = [name for name in args.networks if not network_refuses(case.problem.model, name)]
            rows += compare(case, usable)
            print_rows(f"{case.label}, {len(case.shift_hz)}", [row for row in rows if row["case"] == case.label], real)
        print_rows("**all**", rows, real)


if __name__ == "__main__":
    main()
