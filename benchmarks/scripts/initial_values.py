"""How often a fit from each kind of initial values ends at the best cost.

    python -m benchmarks.scripts.initial_values > benchmarks/initial_values.md

Spectra are simulated on basis sets of real protocols that are in no training (of the test data: FSL_MRS_DL_TESTDATA,
default ../shared/data), in five conditions, at three SNRs.  The best cost is the lowest of an
exhaustive search: the fits from the eight best of 252 points on a grid of shifts, phases and widths, from the truth,
and from the initial values themselves.  A fit has reached it if its cost is at most 0.1 % higher.

The lowest cost is not the best fit where the model lacks a signal (lipids, a crooked baseline): metabolites may then
replace it at a wrong shift.  So each cell holds two shares: of fits that end at the best cost, and of fits that end
within 0.03 ppm of the true shift.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from pathlib import Path

import numpy as np
import scipy.io
import torch

from fsl_mrs_dl.core import metabolites, units
from fsl_mrs_dl.core.axes import Axes
from fsl_mrs_dl.fitting import optimise, quantify, varpro
from fsl_mrs_dl.fitting.automatic_initialisation import INITIALISATIONS, AutomaticChoice
from fsl_mrs_dl.fitting.network_initialisation import theta_from_quantities
from fsl_mrs_dl.fitting.options import FitOptions
from fsl_mrs_dl.io.basis import Basis
from fsl_mrs_dl.physics import spinsim
from fsl_mrs_dl.simulation import protocols, random_spectra, recipes

DATA = Path(os.environ.get("FSL_MRS_DL_TESTDATA", Path(__file__).parents[2] / ".." / "shared" / "data"))
CONDITIONS = {
    "clean": "normal-brain",
    "water": "residual-water",
    "lipid": "lipid",
    "baseline": "strong-baseline",
    "tumour": "tumour",
}


def real_bases() -> dict[str, tuple[Basis, float, int]]:
    """Return basis sets and the grids they are used on, by name: bandwidth (Hz) and points."""
    folder = DATA / "seed_quant_ismrm3t"
    fids = scipy.io.loadmat(folder / "basisset.mat")["data"].T.conj()
    names = "Ala Asp Cr GABA GPC GSH Glc Gln Glu Gly Ins Lac NAA NAAG PCh PCr PE Tau Scyllo".split()
    philips = next((DATA / "invivo_3t_press_philips").rglob("*.BASIS"))
    steam = next((DATA / "invivo_7t_steam_raw").rglob("*.BASIS"))
    seven = DATA / "fsl_basis_7t"
    seven = seven if list(seven.glob("*.json")) else next(path.parent for path in seven.rglob("*.json"))
    return {
        "3T PRESS 35 (Philips)": (Basis.load(philips), 2000.0, 1024),
        "3T ISMRM": (Basis(fids, tuple(names), 0.25e-3, 123.23, source=str(folder)), 2000.0, 1024),
        "7T STEAM 11": (Basis.load(steam), 6000.0, 2048),
        "7T sLASER": (Basis.load(seven), 6000.0, 2048),
    }


def simulate(
    basis: Basis,
    bandwidth: float,
    n_points: int,
    recipe: str,
    snr: float,
    n: int,
    seed: int,
    baseline="poly, 2",
    mm=None,
):
    """Return the basis set of the model, the model, FIDs (complex128) and the drawn truth.

    With ``mm`` the model has macromolecules (a kind of :func:`spinsim.macromolecules`), each a group of its own.
    """
    basis = basis.select(None, [name for name in basis.names if name in ("H2O", "Ref", "DSS")] or None)
    fids = basis.resampled(1 / bandwidth, n_points)
    protocol = protocols.protocol_of(fids, basis.names, Axes(fids.shape[-1], 1 / bandwidth, basis.spec_freq_mhz))
    content = dict(recipes.Recipe.load(recipe).content)
    content["snr"] = snr
    if any(metabolites.is_macromolecule(name) for name in basis.names):
        content.pop("macromolecules", None)
    drawn = random_spectra.draw(recipes.Recipe.of(recipe, content), n, basis.names, torch.Generator().manual_seed(seed))
    data = random_spectra.render(drawn, protocol).fid.to(torch.complex128).numpy()
    data *= 100 / np.linalg.norm(data, axis=-1, keepdims=True)
    names, options = [], {}
    if mm:
        rows, names = spinsim.macromolecules(
            mm, spec_freq_mhz=basis.spec_freq_mhz, bandwidth_hz=bandwidth, n_points=n_points
        )
        keep = [row for row, name in enumerate(basis.names) if not metabolites.is_macromolecule(name)]
        both = np.concatenate([fids[keep], rows])
        basis = Basis(
            both, (*(basis.names[row] for row in keep), *names), 1 / bandwidth, basis.spec_freq_mhz, source=basis.source
        )
        options = {"metab_groups": basis.groups(list(names)), "ind_scale": list(names)}
    axes = Axes(n_points, 1 / bandwidth, basis.spec_freq_mhz)
    model, _ = quantify.model_for(basis, axes, FitOptions(baseline=baseline, **options))
    return basis, model, data, drawn


def true_theta(model, drawn) -> torch.Tensor:
    """Return the nonlinear parameters of the simulated spectra."""
    shift = drawn["shift_ppm"].double() + drawn["shift_hz"].double() / model.spec_freq_mhz
    others = (drawn[name].double()[:, None] for name in ("phi0", "phi1", "lorentz_hz", "gauss_hz"))
    return theta_from_quantities(model, shift[:, None], *others)[:, 0]


def shift_ppm(model, theta) -> torch.Tensor:
    """Return the shift of the first group (ppm)."""
    return -model.split_theta(theta)["eps"][:, 0] / (2 * torch.pi * model.spec_freq_mhz)


def grid_theta(spec, model, names) -> torch.Tensor:
    """Return 252 initial values for every spectrum: 21 shifts, 6 phases, 2 widths."""
    shift = torch.linspace(-0.4, 0.4, 21, dtype=torch.float64) * model.spec_freq_mhz
    phase = torch.arange(6, dtype=torch.float64) * torch.pi / 3
    width = torch.tensor([3.0, 12.0], dtype=torch.float64) * torch.pi
    s, p, w = (x.flatten() for x in torch.meshgrid(shift, phase, width, indexing="ij"))
    zero = torch.zeros_like(s)
    blocks = dict(gamma=w, variance=zero, eps=-2 * torch.pi * s, phi0=p, phi1=zero)
    one = model.join_theta(**{name: blocks[name][:, None] for name in model.theta_sizes})
    return one.expand(len(spec), *one.shape)


def best_costs(spec, model, drawn, n_refined: int) -> torch.Tensor:
    """Return the lowest cost from the grid's best starts and from the truth."""
    target = model.eliminate_baseline(spec)
    nonnegative = torch.ones(model.n_metabs, dtype=torch.bool)
    lower, upper = model.theta_bounds
    truth = true_theta(model, drawn).clamp(lower, upper)
    best = optimise.solve(target, model, truth, 60).cost
    for row in range(0, len(spec), 4):
        starts = grid_theta(spec[row : row + 4], model, None).clamp(lower, upper)
        k = starts.shape[1]
        rows = target[row : row + 4]
        cost = varpro.cost(rows.repeat_interleave(k, 0), model.columns, starts.flatten(0, 1), nonnegative=nonnegative)
        chosen = cost.reshape(-1, k).topk(n_refined, largest=False).indices
        theta = torch.gather(starts, 1, chosen[..., None].expand(-1, -1, starts.shape[-1])).flatten(0, 1)
        end = optimise.solve(rows.repeat_interleave(n_refined, 0), model, theta, 60).cost.reshape(-1, n_refined).amin(1)
        best[row : row + 4] = torch.minimum(best[row : row + 4], end)
    return best


def newton(data, basis: Basis, model, n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Fit ``n`` FIDs by FSL-MRS Newton from its own initial values; return our cost there and the shift (ppm)."""
    from fsl_mrs.core import MRS
    from fsl_mrs.core.basis import Basis as FslBasis
    from fsl_mrs.utils.fitting import fit_FSLModel

    header = {
        "centralFrequency": basis.spec_freq_mhz * 1e6,
        "bandwidth": 1 / model.dwelltime,
        "dwelltime": model.dwelltime,
        "fwhm": 1.0,
    }
    fids = basis.resampled(model.dwelltime, model.n_points)
    first, last = model.window
    costs, shifts = [], []
    for fid in data[:n]:
        fsl_basis = FslBasis(fids.T.copy(), list(basis.names), [dict(header) for _ in basis.names])
        mrs = MRS(FID=fid.copy(), cf=basis.spec_freq_mhz * 1e6, bw=1 / model.dwelltime, nucleus="1H", basis=fsl_basis)
        mrs.check_FID(repair=False)
        mrs.rescaleForFitting()
        result = fit_FSLModel(mrs, method="Newton", model="voigt", baseline="poly, 2", ppmlim=model.ppmlim)
        theta, _, _ = model.unpack(torch.as_tensor(result.params)[None])
        target = model.eliminate_baseline(units.fid_to_spec(torch.as_tensor(fid))[None, first:last])
        costs.append(
            varpro.cost(target, model.columns, theta, nonnegative=torch.ones(model.n_metabs, dtype=torch.bool))
        )
        shifts.append(shift_ppm(model, theta))
    return torch.cat(costs), torch.cat(shifts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--n", type=int, default=2000, help="spectra per condition, over all SNRs and bases (default 2000)"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--init", nargs="+", default=list(INITIALISATIONS), help="kinds of initial values (default all)"
    )
    parser.add_argument("--model", help="network, by name or folder")
    parser.add_argument(
        "--newton",
        type=int,
        default=0,
        metavar="N",
        help="FSL-MRS Newton, too, on the first N spectra of each basis set",
    )
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--bases", nargs="+", help="only basis sets whose name contains one of these")
    parser.add_argument("--conditions", nargs="+", default=list(CONDITIONS))
    parser.add_argument("--snr", nargs="+", type=float, default=[5.0, 15.0, 50.0])
    parser.add_argument("--baseline", default="poly, 2", help="of the model (default 'poly, 2')")
    parser.add_argument("--mm", help="macromolecules to add to the model, such as fsl-default")
    parser.add_argument("--refined", type=int, default=8, help="ends of the exhaustive search (default 8)")
    args = parser.parse_args()
    bases = real_bases()
    if args.bases:
        bases = {name: one for name, one in bases.items() if any(part in name for part in args.bases)}
    n = max(1, round(args.n / len(bases)))
    torch.set_num_threads(args.threads)
    choices = {name: AutomaticChoice(name, args.model if name != "classical" else None) for name in args.init}
    command = " ".join(["python -m benchmarks.scripts.initial_values", *sys.argv[1:]])
    print(
        f"# Initial values\n\n`{command}`, {platform.processor() or platform.machine()}, "
        f"torch {torch.__version__}; {n} spectra per basis set, condition and SNR, model with baseline {args.baseline}"
        + (f" and {args.mm} macromolecules" if args.mm else "")
        + ".\n\nShare of fits (%) that end at the best cost found by an exhaustive search, within 0.1 % / within 0.03"
        " ppm of the true shift (time per spectrum, one thread beside other work).\n"
    )
    print("| condition | SNR | basis set | " + " | ".join(choices) + " |\n|---|---|---|" + "---|" * len(choices))
    for condition in args.conditions:
        for snr in args.snr:
            print_rows(args, bases, choices, condition, snr, n)


def print_rows(args, bases: dict, choices: dict, condition: str, snr: float, n: int) -> None:
    """Print the rows of a condition and an SNR: one of each basis set, one of all."""
    shares, newton_shares = {name: [] for name in choices}, []
    for label, (basis, bandwidth, n_points) in bases.items():
        chosen, model, data, drawn = simulate(
            basis, bandwidth, n_points, CONDITIONS[condition], snr, n, args.seed, args.baseline, args.mm
        )
        first, last = model.window
        spec = units.fid_to_spec(torch.as_tensor(data))[:, first:last]
        costs, seconds, close = {}, {}, {}
        truth = drawn["shift_ppm"].double()
        for name, choice in choices.items():
            initial_values = choice.for_model(model)
            start = time.perf_counter()
            ends = [optimise.fit_spectra(part, model, list(chosen.names), initial_values) for part in spec.split(64)]
            seconds[name] = (time.perf_counter() - start) / n
            costs[name] = torch.cat([end.cost for end in ends])
            close[name] = (shift_ppm(model, torch.cat([end.theta for end in ends])) - truth).abs() < 0.03
        best = torch.stack([best_costs(spec, model, drawn, args.refined), *costs.values()]).amin(0)
        for name, cost in costs.items():
            shares[name].append(torch.stack([cost <= best * 1.001, close[name]]).double())
        if args.newton:
            cost, shift = newton(data, chosen, model, args.newton)
            lowest = torch.minimum(best[: args.newton], cost)
            reached = torch.stack([cost <= lowest * 1.001, (shift - truth[: args.newton]).abs() < 0.03])
            newton_shares.append(reached.double())
        row = " | ".join(
            "{:.1f} / {:.1f} ({:.0f} ms)".format(*(100 * shares[name][-1].mean(1)).tolist(), 1e3 * seconds[name])
            for name in choices
        )
        print(f"| {condition} | {snr:g} | {label} | {row} |", flush=True)
    row = " | ".join(
        "**{:.1f} / {:.1f}**".format(*(100 * torch.cat(shares[name], 1).mean(1)).tolist()) for name in choices
    )
    print(f"| {condition} | {snr:g} | all | {row} |", flush=True)
    if newton_shares:
        at_best, close = (100 * torch.cat(newton_shares, 1).mean(1)).tolist()
        print(
            f"| {condition} | {snr:g} | FSL-MRS Newton, first {args.newton} of each | {at_best:.1f} / {close:.1f} |"
            + " |" * (len(choices) - 1),
            flush=True,
        )


if __name__ == "__main__":
    main()
