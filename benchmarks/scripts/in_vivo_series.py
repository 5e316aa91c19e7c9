"""Dynamic fits with the in-vivo model: functional series with the imperfections of scanners, and diffusion in vivo.

    python -m benchmarks.scripts.in_vivo_series --data DWI_STEAM_7T > benchmarks/in_vivo_series.md

The data are those of the folder dwi_steam_7t of the test data; the simulated part runs without them.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from fsl_mrs_dl.core.metabolites import typical_concentrations
from fsl_mrs_dl.core.noise import noise_outside
from fsl_mrs_dl.core.units import fid_to_spec
from fsl_mrs_dl.dynamic.configuration import Configuration, read_configuration
from fsl_mrs_dl.dynamic.in_vivo_series import fit_series_in_vivo
from fsl_mrs_dl.dynamic.series import DynamicFit, fit_series
from fsl_mrs_dl.fitting.data import choose_basis
from fsl_mrs_dl.fitting.options import FitOptions
from fsl_mrs_dl.fitting.uncertainty import Z95
from fsl_mrs_dl.io import nifti
from fsl_mrs_dl.io.basis import Basis, detect_conjugation
from fsl_mrs_dl.preproc.align import align_data
from fsl_mrs_dl.preproc.options import AlignOptions
from fsl_mrs_dl.simulation.acquisition import simulate_basis
from fsl_mrs_dl.simulation.functional import FunctionalOptions, functional_design, simulate_functional
from fsl_mrs_dl.simulation.in_vivo_effects import (
    draw_macromolecules,
    draw_shim,
    macromolecule_fids,
    shim_line_shapes,
)
from fsl_mrs_dl.simulation.recipes import Recipe

METABOLITES = "NAA NAAG Cr PCr GPC PCh Glu Gln Ins Lac GSH Tau GABA Asp".split()
SHOWN = ("NAA", "Glu", "Ins", "Lac", "GSH")
SERIES = FunctionalOptions(n_spectra=24, interval_s=12.0, block_s=48.0, narrowing_hz=-0.3, snr=50.0)
NULL = replace(SERIES, changes={})
SPECTRAL_MODELS: dict[str, tuple[Callable[..., DynamicFit], FitOptions]] = {
    "in-vivo": (fit_series_in_vivo, FitOptions(spectral_model="in-vivo", echo_time_s=0.02, repetition_time_s=2.0)),
    "FSL-MRS's": (fit_series, FitOptions(prior="none", baseline="poly, 4")),
}
GLM = """
Parameters = {
    "conc": {"dynamic": "glm", "params": ["c_response", "c_drift", "c_constant"]},
    "gamma": {"dynamic": "glm", "params": ["g_response", "g_drift", "g_constant"]},
    "sigma": "fixed", "eps": "variable", "Phi_0": "variable", "Phi_1": "fixed", "baseline": "fixed"}
Bounds = {"g_constant": (0, None), "sigma": (0, None)}
"""
DECAY = """
Parameters = {
    "conc": {"Mac": "variable", "other": {"dynamic": "exponential", "params": ["c_amp", "c_adc"]}},
    "gamma": "fixed", "sigma": "fixed", "eps": "fixed", "Phi_0": "variable", "Phi_1": "fixed", "baseline": "variable"}
Bounds = {"c_amp": (0, None), "c_adc": (0, None), "gamma": (0, None), "sigma": (0, None)}
"""


@dataclass(frozen=True)
class Tests:
    """Responses of series: estimate over constant, its true value, and SD, ``(n_series, n_metabs)``; residual over
    noise ``(n_series,)``."""

    values: np.ndarray
    true: np.ndarray
    sds: np.ndarray
    seconds: float


def main(argv=None) -> None:
    """Run the benchmark and print its page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="the folder dwi_steam_7t")
    parser.add_argument("--null", type=int, default=60, help="null series")
    parser.add_argument("--active", type=int, default=30, help="series with responses")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        print("\n".join([*functional_lines(args, Path(folder)), *diffusion_lines(args, Path(folder))]))


def configuration_of(text: str, folder: Path) -> Configuration:
    """Return a configuration of some text."""
    (folder / "config.py").write_text(text, encoding="utf-8")
    return read_configuration(folder / "config.py")


def scanner_like(basis: Basis, options: FunctionalOptions, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return FIDs of a series as a scanner gives them ``(n_spectra, n_points)``, and the relative responses.

    Macromolecules, shim, shifts and dampings of single metabolites are drawn from the recipe 'in-vivo', once for a
    series; broad lines of a baseline vary from spectrum to spectrum by a tenth.
    """
    recipe, axes, random = Recipe.load("in-vivo").content, basis.axes, np.random.default_rng(seed)
    generator, time_s = torch.Generator().manual_seed(seed), basis.axes.time()
    of_mm = recipe["measured_macromolecules"] | {"probability": 1.0}
    mm = macromolecule_fids(draw_macromolecules(of_mm, 1, generator), axes, 0.02)
    proton = np.abs(basis.fids[:, 0]).mean() / 5
    n = basis.n_metabs
    turns = 2j * np.pi * random.normal(0, 0.003 * axes.spec_freq_mhz, (n, 1)) - random.normal(0, 1.2, (n, 1))
    fids = np.concatenate([basis.fids * np.exp(turns * time_s), proton * mm.numpy()])
    conc = typical_concentrations(list(basis.names)) * np.exp(random.normal(0, 0.3, n))
    whole = Basis(fids, [*basis.names, "Mac"], basis.dwelltime, basis.spec_freq_mhz, source=basis.source)
    clean = simulate_functional(whole, replace(options, snr=1e9), seed, conc=np.append(conc, 1.0)).fids
    clean = clean * shim_line_shapes(draw_shim(recipe["shim"], 1, generator), axes).numpy()
    peak = np.abs(np.fft.fft(clean, axis=-1)).max()
    hz, width = axes.ppm_to_hz(random.uniform(0, 5, 6)), random.uniform(0.6, 2.0, 6) * axes.spec_freq_mhz
    shapes = np.exp(2j * np.pi * hz[:, None] * time_s - (np.pi * width[:, None] * time_s) ** 2 / (4 * np.log(2)))
    heights = random.normal(0, 0.04, 6) * peak / np.abs(np.fft.fft(shapes, axis=-1)).max(-1)
    heights = heights * np.exp(1j * random.uniform(-np.pi, np.pi, 6))
    clean = clean + (heights * (1 + 0.1 * random.standard_normal((len(clean), 6)))) @ shapes
    sd = peak / options.snr / np.sqrt(axes.n_points)
    noisy = clean + sd * (random.standard_normal(clean.shape) + 1j * random.standard_normal(clean.shape))
    return noisy, np.array([options.changes.get(name, 0.0) for name in basis.names])


def half_width(values: np.ndarray) -> float:
    """Return half the width of the central 68 % of some values, in percent: the SD of normal ones."""
    low, high = np.nanpercentile(values, [15.87, 84.13])
    return 100 * float(high - low) / 2


def responses(fit: DynamicFit, names: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the response of metabolites over their constant and its SD, NaN where the constant is not positive."""
    values, sds = [], []
    for name in names:
        keys = [f"conc_{name}_c_{role}" for role in ("response", "constant")]
        value, sd = fit.derived(lambda p, keys=keys: p[keys[0]] / p[keys[1]])
        positive = fit.x[fit.names.index(keys[1])] > 0
        values.append(value if positive else np.nan)
        sds.append(sd if positive else np.nan)
    return np.array(values), np.array(sds)


def tests_of(model: str, options: FunctionalOptions, basis: Basis, repeats: int, seed: int, folder: Path) -> Tests:
    """Return the responses of simulated series."""
    fit_of, fit_options = SPECTRAL_MODELS[model]
    configuration, design = configuration_of(GLM, folder), functional_design(options)
    rows, start = [], time.process_time()
    for number in range(repeats):
        fids, true = scanner_like(basis, options, seed + number)
        fit = fit_of(fids, basis, basis.axes, configuration, design, fit_options)
        rows.append((*responses(fit, list(basis.names)), true))
    values, sds, true = (np.array(part) for part in zip(*rows))
    return Tests(values, true, sds, (time.process_time() - start) / repeats)


def functional_lines(args, folder: Path) -> list[str]:
    """Return the part on simulated series."""
    grid = {"field_t": 3.0, "bandwidth_hz": 2000.0, "n_points": 1024}
    basis = simulate_basis(METABOLITES, sequence="press", te_ms=20.0, **grid)
    options = f"{SERIES.n_spectra} spectra of {SERIES.interval_s:g} s, blocks of {SERIES.block_s:g} s"
    lines = [
        "# Dynamic fits with the in-vivo model",
        "",
        f"`python -m benchmarks.scripts.in_vivo_series --data dwi_steam_7t --null {args.null} --active {args.active}`",
        "",
        f"## Functional series with the imperfections of scanners: {options}",
        "",
        f"PRESS at 3 T, TE 20 ms, {len(METABOLITES)} metabolites; macromolecules, shim, shifts and dampings of single"
        " metabolites drawn from the recipe 'in-vivo' once for a series, a baseline of broad lines that varies by a"
        f" tenth; SNR {SERIES.snr:g} in each spectrum; amplitudes, width, frequency and phase drift. Fit:"
        " concentrations and width follow response, drift and constant, shift and phase are free. Neither model's line"
        " shape, macromolecules and baseline are those of the simulation. Responses are relative to the constant.",
        "",
        f"Null series ({args.null}), share of responses that differ from zero at p < 0.05, metabolite by metabolite"
        f" and of all {len(METABOLITES)}; SD of z; spread of"
        " the estimates (half of the central 68 %) in percent:",
        "",
        "| spectral model | " + " | ".join(SHOWN) + " | all | SD of z | SD of " + ", ".join(SHOWN) + " (%) | s |",
        "|---|" + "---|" * (len(SHOWN) + 4),
    ]
    columns = [METABOLITES.index(name) for name in SHOWN]
    for model in SPECTRAL_MODELS:
        tests = tests_of(model, NULL, basis, args.null, 0, folder)
        z = tests.values / tests.sds
        share = [f"{np.nanmean(np.abs(z[:, column]) > Z95):.1%}" for column in columns]
        spread = ", ".join(f"{half_width(tests.values[:, column]):.1f}" for column in columns)
        total = f"{np.nanmean(np.abs(z) > Z95):.1%} | {np.nanstd(z):.2f}"
        lines.append(f"| {model} | {' | '.join(share)} | {total} | {spread} | {tests.seconds:.1f} |")
        print(lines[-1], file=sys.stderr)
    lines += [
        "",
        f"Series with responses ({args.active}): Glu {SERIES.changes['Glu']:.0%}, Lac {SERIES.changes['Lac']:.0%},"
        f" lines narrower by {-SERIES.narrowing_hz:g} Hz; median estimate +- its standard error (share of 95 %"
        " intervals that hold the truth):",
        "",
        "| spectral model | " + " | ".join(SHOWN) + " |",
        "|---|" + "---|" * len(SHOWN),
    ]
    for model in SPECTRAL_MODELS:
        tests = tests_of(model, SERIES, basis, args.active, 5000, folder)
        cells = []
        for column in columns:
            values, error = tests.values[:, column], np.abs(tests.values - tests.true)[:, column]
            inside = np.nanmean(error < Z95 * tests.sds[:, column])
            middle, spread = 100 * np.nanmedian(values), 1.25 * half_width(values) / len(values) ** 0.5
            cells.append(f"{middle:+.1f} +- {spread:.1f} % ({inside:.0%})")
        lines.append(f"| {model} | {' | '.join(cells)} |")
        print(lines[-1], file=sys.stderr)
    return lines


def diffusion_lines(args, folder: Path) -> list[str]:
    """Return the part on diffusion in vivo."""
    if args.data is None:
        return []
    data = nifti.load(args.data / "invivo1_steam.nii.gz")
    b_values = np.array(data.header["dim_6_header"]["Bval"]["Value"]) / 1000
    aligned = align_data(data, AlignOptions(dim="DIM_DYN", average=True)).data
    fids = aligned.fids.reshape(aligned.n_points, -1).T
    fids = fids.conj() if detect_conjugation(fids.mean(0), aligned.axes) else fids
    basis = choose_basis(Basis.load(args.data / "basis_STEAM_TE45_TM60.BASIS"), aligned)
    configuration = configuration_of(DECAY, folder)
    sums = {"tNAA": "NAA NAAG", "tCr": "Cr PCr", "tCho": "GPC PCh", "Glu": "Glu", "Ins": "Ins", "Gln": "Gln"}
    lines = [
        "",
        "## Diffusion in vivo: `dwi_steam_7t/invivo1_steam`",
        "",
        "7 T STEAM, 24 transients, b = 0, 0.9, 2.2 and 4.0 ms/um2, three directions, aligned and averaged; one"
        " exponential for each metabolite, macromolecules free. ADC (um2/ms) +- SD of sums from the slope of their"
        " logarithm between b = 0 and 4:",
        "",
        "| spectral model | " + " | ".join(sums) + " | residual / noise |",
        "|---|" + "---|" * (len(sums) + 1),
    ]
    for model, (fit_of, options) in SPECTRAL_MODELS.items():
        options = replace(options, echo_time_s=0.04, repetition_time_s=5.0)
        fit = fit_of(fids, basis, aligned.axes, configuration, b_values, options)
        cells = ["{:.3f} +- {:.3f}".format(*adc_of(fit, members.split(), b_values.max())) for members in sums.values()]
        noise = noise_outside(fid_to_spec(fids), aligned.axes).mean() * fit.fid_scale
        lines.append(f"| {model} | {' | '.join(cells)} | {fit.noise_sd / noise:.2f} |")
    return lines


def adc_of(fit: DynamicFit, members: list[str], b: float) -> tuple[float, float]:
    """Return the mean slope of the logarithm of a sum of exponential decays from zero to ``b``, and its SD."""
    names = [name for name in members if name in fit.metabolites]

    def slope(p):
        start = sum(p[f"conc_{name}_c_amp"] for name in names)
        end = sum(p[f"conc_{name}_c_amp"] * torch.exp(-p[f"conc_{name}_c_adc"] * b) for name in names)
        return torch.log(start / end) / b

    return fit.derived(slope)


if __name__ == "__main__":
    main()
