"""Joint fits of simulated MEGA-PRESS and HERMES against their truth, their bound, and fits of difference spectra:

python -m benchmarks.scripts.edited_fit > benchmarks/edited_fit.md

Sub-spectra have drift left over (shift, phase and efficiency that differ), a macromolecule under GABA, a baseline, and
line shapes that the model does not know.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

import numpy as np
import torch

from fsl_mrs_dl.core.axes import Axes
from fsl_mrs_dl.fitting.edited_data import combined_basis
from fsl_mrs_dl.fitting.in_vivo.edited import problem_of
from fsl_mrs_dl.fitting.in_vivo.edited_result import EditedFit, combinations_of, quantify_edited
from fsl_mrs_dl.fitting.in_vivo.estimates import Likelihoods
from fsl_mrs_dl.fitting.in_vivo.solver import NormalEquations, likelihood, minimise
from fsl_mrs_dl.fitting.in_vivo.variants import average_of
from fsl_mrs_dl.fitting.options import FitOptions
from fsl_mrs_dl.fitting.quantify import quantify
from fsl_mrs_dl.simulation.edited_basis import simulate_edited_basis
from fsl_mrs_dl.simulation.edited_spectra import EditedEffects, EditedSpectra, simulate_edited

_MHZ = 123.25
_AXES = Axes(2048, 1 / 2000, _MHZ)
_SUMS = (("GABA",), ("GABA", "MM3co"), ("GSH",), ("Glu", "Gln"), ("NAA", "NAAG"), ("Cr", "PCr"))
_LABELS = {"GABA+MM3co": "GABA+", "Glu+Gln": "Glx", "NAA+NAAG": "tNAA", "Cr+PCr": "tCr"}
_DRIFT = EditedEffects(shift_hz=0.5, phase_deg=3.0, efficiency_sd=0.04)


def main(argv=None) -> None:
    """Run the benchmark and print its page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", type=int, default=64, help="sets of sub-spectra of each kind")
    parser.add_argument("--seed", type=int, default=11)
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    print(report(args.sets, args.seed))


def report(n: int, seed: int) -> str:
    """Return the page."""
    lines = [
        "# Joint fits of edited spectra",
        "",
        f"`python -m benchmarks.scripts.edited_fit --sets {n}`: simulated sub-spectra of 20 metabolites at 3 T, SNR 60"
        " to 150 in a sub-spectrum, each condition with a shift (SD 0.5 Hz) and a phase (3 degrees) of its own, editing"
        " pulses of an effect that differs between sets (4 %) and metabolites (3 %), a macromolecule under GABA (its"
        " amount differs by 30 %), line shapes of quadratic shims, a baseline that differs between conditions.",
        "",
        "Bias and RMSE in percent of the mean truth; 'SD' is the stated one; the bound is the root mean square of the"
        " model's SDs with its priors, about the fit; coverage is of 95 % intervals (of sums, of 1.96 SDs); 'difference"
        " only' leaves the sum of the conditions out of the same model: bound and RMSE over those of the joint fit;"
        " 'FSL-MRS's model' is a fit of the difference spectrum with its baseline 'poly, 2', no"
        " macromolecules (its GABA is GABA+): median of the absolute errors, over that of the joint fit.",
    ]
    for scheme in ("mega-press", "hermes"):
        basis = simulate_edited_basis(None, scheme, spec_freq_mhz=_MHZ)
        options = FitOptions(spectral_model="in-vivo", echo_time_s=basis.echo_time_s, repetition_time_s=2.0)
        for words, effects in (
            ("", _DRIFT),
            (", pulses of 90 % effect", replace(_DRIFT, efficiency=0.9)),
        ):
            spectra = simulate_edited(basis, _AXES, n, seed=seed, effects=effects)
            begun = time.process_time()
            edited = quantify_edited(spectra.fids, basis, _AXES, options)
            seconds = (time.process_time() - begun) / n
            lines += ["", f"## {scheme}{words}", "", *_table(spectra, edited, basis), "", _efficiency(spectra, edited)]
            lines += ["", f"{seconds:.2f} s of a core per set; {edited.main.converged.mean():.0%} converged."]
    return "\n".join(lines)


def _efficiency(spectra: EditedSpectra, edited: EditedFit) -> str:
    value, sd = edited.efficiency
    error = value - spectra.efficiency[:, None]
    each = ", ".join(
        f"{place:g} ppm {value[:, k].mean():.3f} (truth {spectra.efficiency.mean():.3f}, RMSE"
        f" {np.sqrt((error[:, k] ** 2).mean()):.3f}, stated {np.sqrt((sd[:, k] ** 2).mean()):.3f})"
        for k, place in enumerate(edited.places)
    )
    return f"Effect of pulses: {each}."


def _table(spectra: EditedSpectra, edited: EditedFit, basis) -> list[str]:
    """Return the table of errors."""
    fit = edited.main
    scale = fit.basis_scale[0] / fit.fid_scale
    truth = dict(zip(spectra.names, spectra.concentrations.T)) | {"MM3co": spectra.co_edited}
    bounds = {only: _bounds(edited, only) for only in (False, True)}
    plain, alone = _differences(spectra, edited, basis), _fits_of_differences(edited)
    lines = [
        "| | bias | RMSE | SD | RMSE / bound | coverage | difference only: bound | RMSE | FSL-MRS's model |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for members in _SUMS:
        columns = [fit.names.index(name) for name in members]
        value = fit.conc[:, columns].sum(1) * scale
        sd = np.sqrt(fit.cov[:, columns][:, :, columns].sum((1, 2))) * scale
        true = sum(truth[name] for name in members)
        error = value - true
        low, high = value - 1.96 * sd, value + 1.96 * sd
        if len(columns) == 1:
            low, high = (end[:, columns[0]] * scale for end in fit.limits)
        covered = ((low <= true) & (true <= high)).mean()
        bound, apart = (np.sqrt((bounds[only][members] ** 2).mean()) for only in (False, True))
        rmse = np.sqrt((error**2).mean())
        name = "+".join(members)
        other = "-"
        if name in plain:
            other = f"{np.median(np.abs(plain[name] - true)) / np.median(np.abs(error)):.1f}"
        lines.append(
            f"| {_LABELS.get(name, name)} | {100 * error.mean() / true.mean():+.1f} | {100 * rmse / true.mean():.1f} |"
            f" {100 * np.sqrt((sd**2).mean()) / true.mean():.1f} | {rmse / (bound * scale):.2f} | {100 * covered:.0f} |"
            f" {apart / bound:.2f} | {np.sqrt(((alone[:, columns].sum(1) * scale - true) ** 2).mean()) / rmse:.2f} |"
            f" {other} |"
        )
    return lines


def _bounds(edited: EditedFit, differences_only: bool) -> dict[tuple[str, ...], np.ndarray]:
    """Return the SDs of sums ``(n,)`` that the data and the priors allow, about the parameters that were fitted."""
    prepared, out = edited.prepared, {members: [] for members in _SUMS}
    fids = np.stack([edited.fits[k].fids for k in range(len(edited.fits))], 1)
    for row in range(len(fids)):
        problem = problem_of(prepared, fids[[row]], differences_only=differences_only)
        x = torch.as_tensor(edited.x[[row]])
        weights = edited.main.baseline_weights[row]
        strength = 3 * int(weights.argmax()) + 1
        gram, _, _ = likelihood(problem, NormalEquations.at(problem, x), problem.shares[[strength]])
        cov = torch.linalg.inv(gram[0] + problem.model.prior_precision).numpy()
        names, first = problem.model.components.names, problem.model.slices["log_amp"].start
        for members in _SUMS:
            at = [first + names.index(name) for name in members]
            amplitude = np.exp(edited.x[row, at])
            out[members].append(np.sqrt(amplitude @ cov[np.ix_(at, at)] @ amplitude))
    return {members: np.array(values) for members, values in out.items()}


def _fits_of_differences(edited: EditedFit) -> np.ndarray:
    """Return estimates ``(n, n_metabs)`` of the same model without the sum of the conditions, from the joint fit."""
    out, prepared = [], edited.prepared
    fids = np.stack([edited.fits[k].fids for k in range(len(edited.fits))], 1)
    for row in range(len(fids)):
        problem = problem_of(prepared, fids[[row]], differences_only=True)
        strength = torch.full((1,), 3 * int(edited.main.baseline_weights[row].argmax()) + 1)
        minimum = minimise(problem, torch.as_tensor(edited.x[[row]]), strength, max_iter=60)
        at_noise = replace(problem, noise=minimum.noise)
        likelihoods = Likelihoods.of(at_noise, minimum, average_of(at_noise, minimum))
        out.append(likelihoods.estimate(prepared.each[0].concentrations).mean[0])
    return np.stack(out)


def _differences(spectra: EditedSpectra, edited: EditedFit, basis) -> dict[str, np.ndarray]:
    """Return concentrations of single metabolites from fits of combinations with FSL-MRS's model."""
    out = {}
    combinations = combinations_of(basis.conditions)
    for name, weights in combinations.items():
        one = combined_basis(basis, weights, name)
        fids = np.einsum("k,nkt->nt", weights, spectra.fids)
        fit = quantify(fids, one, _AXES, FitOptions(prior="none"))
        scale = np.asarray(fit.basis_scale)[0] / fit.fid_scale
        names = list(fit.names)
        if name == "GSH":
            out["GSH"] = fit.conc[:, names.index("GSH")] * scale
            continue
        # Without a macromolecule in the basis set it is GABA+.
        out["GABA+MM3co"] = fit.conc[:, names.index("GABA")] * scale
        out["Glu+Gln"] = sum(fit.conc[:, list(fit.names).index(each)] for each in ("Glu", "Gln")) * scale
    return out


if __name__ == "__main__":
    main()
