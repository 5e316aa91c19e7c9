"""Verdicts and warnings on realistic spectra, good scans and artefacts, with the limits that they are judged by:
python -m benchmarks.scripts.verdict > benchmarks/verdict.md

Data are found through FSL_MRS_DL_TESTDATA, default ../shared/data.  One thread; all parts take less than ten minutes
of an idle core.  Limits of the data files come from more spectra (--spectra 40).
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

import fsl_mrs_dl
from fsl_mrs_dl.core.axes import Axes
from fsl_mrs_dl.core.units import fid_to_spec
from fsl_mrs_dl.fitting import artefacts, verdict
from fsl_mrs_dl.fitting import quantify as quantify_module
from fsl_mrs_dl.fitting.data import choose_basis, fit_data
from fsl_mrs_dl.fitting.in_vivo.quantify import quantify_in_vivo
from fsl_mrs_dl.fitting.options import FitOptions
from fsl_mrs_dl.io import nifti
from fsl_mrs_dl.io.basis import Basis
from fsl_mrs_dl.results.fit_results import FitResults
from fsl_mrs_dl.simulation.acquisition import simulate_basis
from fsl_mrs_dl.simulation.in_vivo_spectra import DEPARTURES, simulate_in_vivo

DATA = Path(os.environ.get("FSL_MRS_DL_TESTDATA", Path(__file__).parents[2] / ".." / "shared" / "data"))
CLASSICAL = FitOptions(spectral_model="fsl-mrs", device="cpu", init="classical")
MODELS = {
    "in-vivo": FitOptions(spectral_model="in-vivo", device="cpu"),
    "fsl-mrs, poly": replace(CLASSICAL, baseline="poly, 2"),
    "fsl-mrs, spline": replace(CLASSICAL, baseline="spline, moderate"),
}
STUDIES = {
    "3 T PRESS 35 ms": {"sequence": "press", "te": (35.0, 30.0), "field_t": 3.0, "bandwidth_hz": 2000.0},
    "7 T STEAM 11 ms": {"sequence": "steam", "te": (11.0, 16.0), "tm_ms": 32.0, "field_t": 7.0, "bandwidth_hz": 4000.0},
    "3 T sLASER 30 ms": {"sequence": "slaser", "te": (30.0, 35.0), "field_t": 3.0, "bandwidth_hz": 4000.0},
}
PRESS_BASIS = "invivo_3t_press_philips/3T_PRESS_Philips_35ms_noMM.BASIS"
SCANS = {
    "lcmodel_test": ("lcmodel_test/spectrum.nii.gz", "lcmodel_test/3t.basis"),
    "invivo_7t_steam": ("invivo_7t_steam_raw/metab_processed.nii.gz", "invivo_7t_steam_raw/STEAM_7T_11ms.BASIS"),
    "siemens_press30": ("siemens_press30/suspect_rda.nii.gz", "siemens_press30/press_30ms_3T.basis"),
    "invivo_like_3t": ("invivo_like_3t/svs.nii.gz", PRESS_BASIS),
}
OWN_ARTEFACT = {"eddy currents": "eddy currents", "lipid": "lipid", "first-order phase": "first-order phase"}
ARTEFACTS = {
    22: "eddy currents",
    23: "residual water",
    24: "residual water, shifted into the window",
    25: "lipids of a tumour",
    26: "lipids of a tumour",
    27: "lipids of a tumour",
    28: "lipids of the scalp",
}


def fit(fids, basis, axes, options, te_s=None):
    """Fit FIDs by one of :data:`MODELS`."""
    options = replace(options, echo_time_s=te_s, repetition_time_s=2.0)
    run = quantify_in_vivo if options.spectral_model == "in-vivo" else quantify_module.quantify
    return run(fids, basis, axes, options)


def basis_of(study: dict, te_ms: float) -> Basis:
    """Return the basis set of a study at an echo time."""
    about = {name: value for name, value in study.items() if name != "te"}
    n_points = 2048 if study["bandwidth_hz"] == 2000.0 else 4096
    return simulate_basis(te_ms=te_ms, n_points=n_points, macromolecules=None, **about)


def realistic(n: int, seed: int) -> Iterator[tuple[str, str, Basis, Axes, object]]:
    """Iterate over simulated studies: names of study and departure, basis set, axes, spectra."""
    for number, (name, study) in enumerate(STUDIES.items()):
        basis, other = (basis_of(study, te) for te in study["te"])
        axes = Axes(basis.n_points // 2, basis.dwelltime, basis.spec_freq_mhz)
        for index, departure in enumerate((None, *DEPARTURES)):
            made = simulate_in_vivo(
                basis,
                axes,
                n,
                seed=seed + 100 * number + index,
                departure=departure,
                other_basis=other,
                te_s=study["te"][0] / 1e3,
                snr=(15, 150),
            )
            yield name, departure or "none", basis, axes, made


def limits(n: int, seed: int, models) -> None:
    """Print what realistic spectra have: numbers that limits are from, verdicts, and false warnings."""
    for label in models:
        options = MODELS[label]
        now = verdict.limits_for(options.spectral_model, label.split()[-1])
        kinds, true, verdicts, n_all, values = Counter(), Counter(), Counter(), 0, []
        for study, departure, basis, axes, made in realistic(n, seed):
            result = fit(made.fids, basis, axes, options, float(study.split()[-2]) / 1e3)
            values.append(np.stack([result.misfit, result.unexplained, result.ood_latent * now.estimates, result.ood]))
            verdicts.update(result.verdict.tolist())
            n_all += n
            for row in range(n):
                of_row = {one.kind for one in artefacts.artefacts_of(artefacts.fitted_spectrum(result, row))}
                kinds.update(of_row)
                if departure in OWN_ARTEFACT:
                    true.update(kind for kind in of_row if kind == OWN_ARTEFACT[departure])
        everything = np.concatenate(values, 1)
        print(f"\n## Realistic spectra, {label}: {n_all}\n")
        print("| | median | 95 % | 99 % | limit |\n|---|---|---|---|---|")
        for name, numbers, limit in zip(
            ("misfit", "unexplained", "estimates", "out-of-distribution score"),
            everything,
            (now.misfit, now.unexplained, now.estimates, 1.0),
        ):
            middle, high, top = np.percentile(numbers, [50, 95, 99])
            print(f"| {name} | {middle:.3g} | {high:.3g} | {top:.3g} | {limit:g} |")
        words = ", ".join(f"{verdict.VERDICTS[kind]} {count}" for kind, count in sorted(verdicts.items()))
        above = 100 * np.mean(everything[3] > 1)
        print(f"\nOut of distribution: {above:.1f} %. Verdicts: {words}.\n")
        print(f"Warnings: {', '.join(f'{kind} {count}' for kind, count in sorted(kinds.items())) or 'none'}.")
        print(
            f"Of these with that departure: {', '.join(f'{kind} {count}' for kind, count in true.items()) or 'none'}."
        )


def scans() -> None:
    """Print verdicts and warnings of good scans."""
    print("\n## Good scans\n\n| scan | model | misfit | unexplained, % | score | verdicts | warnings |")
    print("|---|---|---|---|---|---|---|")
    files = dict(SCANS)
    philips = os.environ.get("FSL_MRS_DL_PHILIPS")  # made by spec2nii from the scanner's files
    if philips:
        files["invivo_3t_press_philips"] = (philips, PRESS_BASIS)
    for name, (file, basis_file) in files.items():
        data = nifti.load(DATA / file)
        basis = choose_basis(Basis.load(DATA / basis_file), data)
        for label, options in MODELS.items():
            fitted = fit_data(data, basis, options)
            results = FitResults.with_options(fitted.fit, data, options, artefacts_before=fitted.artefacts)
            print(f"| {name} | {label} {_row(results, range(len(results.fit.params)))}", flush=True)


def _row(results: FitResults, rows) -> str:
    """Return cells on some spectra: medians, verdicts of the fits, warnings."""
    rows = list(rows)
    fit = results.fit
    words = Counter(verdict.VERDICTS[kind] for kind in fit.verdict[rows])
    kinds = Counter(a.kind for row in rows for a in results.artefacts.get(row, ()))
    kinds.update(a.kind for a in results.artefacts_before)
    counts = lambda counter: ", ".join(f"{key}{f' ({n})' if len(rows) > 1 else ''}" for key, n in counter.items())  # noqa: E731
    return (
        f"| {np.median(fit.misfit[rows]):.2f} | {100 * np.median(fit.unexplained[rows]):.1f} |"
        f" {np.median(fit.ood[rows]):.2f} | {counts(words)} | {counts(kinds) or 'none'} |"
    )


def challenge() -> None:
    """Print verdicts, warnings and remedies of the artefact sets of the fitting challenge."""
    folder = DATA / "fitting_challenge_2016"
    data, water = nifti.load(folder / "all28.nii.gz"), nifti.load(folder / "all28_h2o.nii.gz")
    basis = choose_basis(Basis.load(folder / "press3T_30ms.BASIS"), data)
    print("\n## ISMRM fitting challenge 2016\n")
    print("| set | artefact | model | misfit | unexplained, % | score | verdict | warnings |")
    print("|---|---|---|---|---|---|---|---|")
    for label, options in MODELS.items():
        fitted = fit_data(data, basis, options)
        results = FitResults.with_options(fitted.fit, data, options, artefacts_before=fitted.artefacts)
        print(f"| 1 to 21 | none | {label} {_row(results, range(21))}")
        for number, artefact in ARTEFACTS.items():
            print(f"| {number} | {artefact} | {label} {_row(results, [number - 1])}", flush=True)
    options = MODELS["in-vivo"]
    print("\nIn-vivo model with the remedy, misfit before and after:")
    before = fit_data(data, basis, options).fit
    with_water = fit_data(data, basis, options, water=water).fit
    tumour = fit_data(data, basis, replace(options, mm="tumour")).fit
    naa = before.names.index("NAA")
    print(
        f"- 22, `--h2o`: {before.misfit[21]:.2f} to {with_water.misfit[21]:.2f}, and NAA changes by"
        f" {100 * (with_water.conc[21, naa] / before.conc[21, naa] - 1):.0f} % (set 1, without eddy currents, by"
        f" {100 * (with_water.conc[0, naa] / before.conc[0, naa] - 1):.0f} %). {with_water.water_note}"
    )
    for number in (25, 26, 27, 28):
        print(f"- {number}, `--mm tumour`: {before.misfit[number - 1]:.2f} to {tumour.misfit[number - 1]:.2f}")


def made_artefacts(n: int, seed: int, models) -> None:
    """Print how often artefacts of known size are named, one at a time."""
    study = STUDIES["3 T PRESS 35 ms"]
    basis = basis_of(study, 35.0)
    axes = Axes(1024, basis.dwelltime, basis.spec_freq_mhz)
    made = simulate_in_vivo(basis, axes, n, seed=seed + 777, snr=(20, 80))
    clean, seconds, ppm = made.fids, axes.time(), axes.ppm()
    height = np.abs(fid_to_spec(clean))[:, (ppm > 1.8) & (ppm < 3.4)].max(1)[:, None]

    def signal(at_ppm, size, envelope):
        one = np.exp(2j * np.pi * axes.ppm_to_hz(at_ppm) * seconds) * envelope
        return size * height * one / np.abs(fid_to_spec(one[None])).max()

    def relabelled(field_t):
        other = basis_of(study | {"field_t": field_t}, 35.0)
        factor = other.spec_freq_mhz / basis.spec_freq_mhz
        return replace(other, spec_freq_mhz=basis.spec_freq_mhz, dwelltime=other.dwelltime * factor)

    turned = basis.fids.copy()
    turned[basis.names.index("NAA")] *= np.exp(1j * np.deg2rad(50))
    hz = np.fft.fftfreq(1024, axes.dwelltime) / axes.spec_freq_mhz
    first = np.fft.ifft(np.fft.fft(clean) * np.exp(-1j * np.deg2rad(45) * hz))
    cases = {
        "none": (clean, basis, {}),
        "mirrored data": (clean.conj(), basis, {}),
        "echo time of the basis set, 30 for 35 ms in its header": (
            clean,
            replace(basis_of(study, 30.0), echo_time_s=0.03),
            {},
        ),
        "the same, header empty": (clean, basis_of(study, 30.0), {}),
        "144 for 35 ms, header empty": (clean, basis_of(study, 144.0), {}),
        "field of the basis set, 7 T called 3 T": (clean, relabelled(7.0), {}),
        "field of the basis set, 1.5 T called 3 T": (clean, relabelled(1.5), {}),
        "no macromolecules in the fit": (clean, basis, {"mm": "none"}),
        "eddy currents, 1.2 rad, 20 ms": (clean * np.exp(1.2j * np.exp(-seconds / 0.02)), basis, {}),
        "eddy currents, a dip of .8 rad at 30 ms": (
            clean * np.exp(-0.8j * seconds / 0.03 * np.exp(1 - seconds / 0.03)),
            basis,
            {},
        ),
        "lipid as high as NAA": (
            clean + signal(1.3, 1.0, np.exp(-40 * seconds)) + signal(0.9, 0.4, np.exp(-40 * seconds)),
            basis,
            {},
        ),
        "echo at 120 ms, half of NAA": (clean + signal(3.3, 0.5, np.exp(-(((seconds - 0.12) / 0.03) ** 2))), basis, {}),
        "echo at 200 ms, half of NAA": (clean + signal(4.1, 0.5, np.exp(-(((seconds - 0.2) / 0.02) ** 2))), basis, {}),
        "water 15 times as high": (clean + signal(4.65, 15.0, np.exp(-25 * seconds)), basis, {}),
        "water in the window": (clean + 1j * signal(4.15, 8.0, np.exp(-25 * seconds)), basis, {}),
        "45 degrees per ppm": (first, basis, {}),
        "NAA of the basis set turned by 50 degrees": (clean, replace(basis, fids=turned), {}),
    }
    print(f"\n## Artefacts made, {n} spectra each, SNR 20 to 80: verdicts of the fit, and warnings\n")
    print("| artefact | model | misfit | unexplained, % | score | verdicts | warnings |\n|---|---|---|---|---|---|---|")
    for label in (one for one in ("in-vivo", "fsl-mrs, poly") if one in models):
        for name, (fids, used, more) in cases.items():
            changes = more if label == "in-vivo" else {}
            if more and not changes:
                continue
            options = replace(MODELS[label], **changes)
            before = artefacts.artefacts_before(fids, used, axes, 0.035)
            result = fit(fids, used, axes, options, 0.035)
            results = FitResults.with_options(result, None, options, artefacts_before=before)
            print(f"| {name} | {label} {_row(results, range(n))}", flush=True)


def noise(n: int, seed: int) -> None:
    """Print the noise by the ends of the spectrum against the true one, and coverage of intervals by either noise."""
    print("\n## Noise by second differences of the empty ends, over the true one\n")
    print("| | mean | SD |\n|---|---|---|")
    from fsl_mrs_dl.core.noise import noise_outside

    rows: dict[str, list] = {}
    cover: dict[tuple[str, str], list] = {}
    for study, _, basis, axes, made in realistic(n, seed):
        rows.setdefault(study, []).append(noise_outside(fid_to_spec(made.fids), axes) / made.noise_sd)
        line = np.exp((2j * np.pi * axes.ppm_to_hz(4.6) - 25) * axes.time())
        size = 30 * np.abs(fid_to_spec(made.fids)).max(1) / np.abs(fid_to_spec(line[None])).max()
        ratio = noise_outside(fid_to_spec(made.fids + size[:, None] * line), axes) / made.noise_sd
        rows.setdefault(f"{study}, water 30 times as high", []).append(ratio)
        for label in ("fsl-mrs, poly", "fsl-mrs, spline"):
            result = fit(made.fids, basis, axes, MODELS[label])
            order = [result.names.index(name) for name in made.names]
            conc = result.conc[:, order]
            factor = np.median(conc.sum(1) / made.concentrations.sum(1))
            inside = np.abs(conc - factor * made.concentrations)
            for kind, scale in (("residual", 1.0), ("ends", result.misfit[:, None])):
                cover.setdefault((label, kind), []).append(np.mean(inside < 1.96 * result.crlb_sd[:, order] / scale))
    for name, ratios in rows.items():
        print(f"| {name} | {np.mean(ratios):.3f} | {np.std(ratios):.3f} |")
    print("\n95 % intervals of FSL-MRS's model that hold the truth, SDs by the noise of the residual / of the ends:")
    for label in ("fsl-mrs, poly", "fsl-mrs, spline"):
        print(f"- {label}: {100 * np.mean(cover[label, 'residual']):.0f} / {100 * np.mean(cover[label, 'ends']):.0f} %")


PARTS = {
    "scans": lambda args: scans(),
    "challenge": lambda args: challenge(),
    "warnings": lambda args: made_artefacts(args.artefact_spectra, args.seed, args.models),
    "limits": lambda args: limits(args.spectra, args.seed, args.models),
    "noise": lambda args: noise(args.spectra, args.seed),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS), help="of limits and warnings")
    parser.add_argument("--spectra", type=int, default=5, help="of each study and departure (default 5)")
    parser.add_argument("--artefact-spectra", type=int, default=8, help="of each artefact (default 8)")
    parser.add_argument("--seed", type=int, default=1000)
    args, begun = parser.parse_args(), time.process_time()
    torch.set_num_threads(1)
    versions = f"FSL-MRS-DL {fsl_mrs_dl.__version__}, torch {torch.__version__}, {platform.machine()}"
    print(f"# Verdicts and warnings\n\n`python -m benchmarks.scripts.verdict`; {versions}; seed {args.seed}.")
    for part in args.parts:
        PARTS[part](args)
    print(f"\n{(time.process_time() - begun) / 60:.1f} minutes of a CPU.")


if __name__ == "__main__":
    main()
