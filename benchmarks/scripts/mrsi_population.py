"""Priors of the in-vivo model that are learnt from a volume, against those of the table and of a study, on spectra with
truth:

    python -m benchmarks.scripts.mrsi_population --output benchmarks/mrsi_population.md
    python -m benchmarks.scripts.mrsi_population --seeds 2 3 4 5 --concentration-sd 0.3 --output OUTPUT

The in-vivo-like spectra are the same with every seed, and left out where there are several.  Data are found through
FSL_MRS_DL_TESTDATA, default ../shared/data.  One thread.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.scripts.in_vivo_model import CREATINE, DATA, IN_VIVO, SUMS, _table, ratio_scores
from fsl_mrs_dl.core.axes import Axes
from fsl_mrs_dl.core.parallel import one_thread
from fsl_mrs_dl.fitting.data import choose_basis
from fsl_mrs_dl.fitting.in_vivo import quantify
from fsl_mrs_dl.fitting.in_vivo.fit import prepare
from fsl_mrs_dl.fitting.rows import fid_scale_of
from fsl_mrs_dl.io import nifti
from fsl_mrs_dl.io.basis import Basis
from fsl_mrs_dl.simulation import phantom
from fsl_mrs_dl.simulation.acquisition import simulate_basis
from fsl_mrs_dl.simulation.in_vivo_spectra import DEPARTURES, simulate_in_vivo

WAYS = ("table", "study", "volume")


@dataclass
class Case:
    """Spectra with their truth ``(n, n_metabs)``."""

    label: str
    fids: np.ndarray
    basis: Basis
    axes: Axes
    truth: np.ndarray
    names: list[str]
    sums: tuple[str, ...] = SUMS


def in_vivo_like() -> Case:
    """Return the in-vivo-like spectra."""
    folder = DATA / "invivo_like_3t"
    data = nifti.load(folder / "svs.nii.gz")
    basis = choose_basis(Basis.load(next((DATA / "invivo_3t_press_philips").glob("*.BASIS"))), data)
    names, fids = list(basis.names), data.fids.reshape(-1, data.fids.shape[-1])
    return Case("48 in-vivo-like spectra", fids, basis, data.axes, _table(folder / "truth.csv", names), names)


def simulated(n: int, seed: int, concentration_sd: float) -> Iterator[Case]:
    """Yield a simulated head without lipids and water, and simulated departures of ``n`` spectra."""
    options = phantom.PhantomOptions(
        size=(24, 24, 1),
        n_points=512,
        snr=20,
        lipids=False,
        water=0,
        # The record's head with the record's seed.
        seed=seed + 2,
        te_ms=35,
        concentration_sd=concentration_sd,
    )
    head = phantom.simulate_phantom(phantom.default_basis(512), options)
    names = [name for name in head.basis.names if name.lower() != "mm"]
    truth = np.stack([head.concentrations[name][head.mask] for name in names], 1)
    label = "head without lipids"
    sums = tuple(name for name in SUMS if all(part in names for part in name.split("+")))
    yield Case(label, head.data.fids[head.mask], head.basis, head.data.axes, truth, names, sums)
    base = {"sequence": "press", "field_t": 3.0, "bandwidth_hz": 2000.0, "n_points": 2048, "macromolecules": None}
    basis, other = (simulate_basis(te_ms=te, **base) for te in (35.0, 30.0))
    axes = Axes(1024, 1 / 2000, basis.spec_freq_mhz)
    for departure in (None, *DEPARTURES):
        made = simulate_in_vivo(basis, axes, n, seed=seed, departure=departure, other_basis=other)
        label = f"simulated: {departure or 'as the model'}"
        yield Case(label, made.fids, basis, axes, made.concentrations, list(made.names), ())


@one_thread()
def fitted(case: Case, way: str):
    """Return the fits of a case with the priors of a kind."""
    fids = case.fids.astype(complex)
    scale = fid_scale_of(fids)
    if way == "table":
        on_grid, _, acquisition = quantify.scaled_basis(case.basis, case.axes, IN_VIVO)
        prepared = prepare(fids * scale, on_grid, case.basis.names, case.axes, acquisition)
    else:
        prepared = quantify.prepare_in_vivo(fids * scale, case.basis, case.axes, IN_VIVO, of_volume=way == "volume")
    return quantify.fit_with_prepared(fids * scale, prepared, max_iter=IN_VIVO.most_steps_in_vivo)


def scores(case: Case, way: str) -> list[float]:
    """Return RMSE, size of the bias and share of the intervals of the usual estimate and of ``posterior_mean``, and
    seconds of a processor."""
    there = [name for i, name in enumerate(case.names) if name not in CREATINE and case.truth[:, i].any()]
    began = time.process_time()
    fit = fitted(case, way)
    took = time.process_time() - began
    order, out = [fit.names.index(name) for name in case.names], []
    for mean, cov in ((fit.conc, fit.cov), fit.estimate("posterior_mean")):
        values = ratio_scores(
            mean[:, order], cov[:, order][:, :, order], case.truth, case.names, there + list(case.sums)
        )
        out += [np.median(values[:, 0]), np.median(np.abs(values[:, 1])), np.mean(values[:, 2])]
    return [*map(float, out), took]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path)
    parser.add_argument("--spectra", type=int, default=64, help="of each departure")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--concentration-sd", type=float, default=0.0, help="of the head, about typical ones")
    args = parser.parse_args()
    seeds, sd = args.seeds, args.concentration_sd
    several = len(seeds) > 1
    of_seeds = "; means over seeds, and in brackets the RMSE over that of the study, least to most" if several else ""
    text = [
        "# Priors learnt from a volume\n",
        (
            f"`python -m benchmarks.scripts.mrsi_population --spectra {args.spectra} --seeds"
            f" {' '.join(map(str, seeds))} --concentration-sd {sd:g}`: ratios to Cr+PCr of the in-vivo model with the"
            " priors of the table, those of a study (means of proportions, shifts and widths) and those of a volume"
            " (`mrsi`: means of line widths, first-order phase and macromolecules; spreads of all; strength of the"
            " baseline). RMSE and size of the bias in percent of the mean, medians over metabolites; share of 95 %"
            " intervals that hold the truth, mean over metabolites"
            f"{of_seeds}. One thread.\n"
        ),
        "| spectra | priors | RMSE | bias | intervals | RMSE, posterior_mean | bias | intervals | CPU s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    rows: dict[str, dict[str, list]] = {}
    for seed in seeds:
        for case in [*([] if several else [in_vivo_like()]), *simulated(args.spectra, seed, sd)]:
            for way in WAYS:
                rows.setdefault(case.label, {}).setdefault(way, []).append(scores(case, way))
                print(seed, case.label, way, np.round(rows[case.label][way][-1], 1), flush=True)
    for label, by_way in rows.items():
        for way, each in by_way.items():
            means = np.mean(each, 0)
            cells = [f"{value:.1f}" for value in means[:-1]]
            for column in (0, 3) if several and way != "study" else ():
                ratios = np.array(each)[:, column] / np.array(by_way["study"])[:, column]
                cells[column] += f" ({ratios.min():.2f} to {ratios.max():.2f})"
            text.append(f"| {label} | {way} | {' | '.join(cells)} | {means[-1]:.0f} |")
    if args.output:
        args.output.write_text("\n".join(text) + "\n")


if __name__ == "__main__":
    main()
