"""A diffusion series of a human brain at 7 T: diffusivities beside those of the literature, for :mod:`.dynamic`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fsl_mrs_dl.core.units import fid_to_spec
from fsl_mrs_dl.dynamic.comparison import compare_fits
from fsl_mrs_dl.dynamic.configuration import read_configuration
from fsl_mrs_dl.dynamic.data import DynamicData
from fsl_mrs_dl.dynamic.derived import derived_quantities, sum_parameters
from fsl_mrs_dl.dynamic.series import DynamicFit, fit_series
from fsl_mrs_dl.fitting.data import choose_basis, water_fids
from fsl_mrs_dl.fitting.in_vivo.water_reference import water_reference
from fsl_mrs_dl.fitting.options import FitOptions
from fsl_mrs_dl.io import nifti
from fsl_mrs_dl.io.basis import Basis
from fsl_mrs_dl.preproc.align import align_data
from fsl_mrs_dl.preproc.options import AlignOptions
from fsl_mrs_dl.results.dynamic_figures import parameter_figure, residual_figure, spectra_figure

__all__ = ["in_vivo_lines"]

METABOLITES = "NAA NAAG Cr PCr GPC PCh Glu Gln Ins GSH Tau Mac".split()
REPORTED = ("tNAA", "tCr", "tCho", "Glu", "Ins")
MODELS = {
    "one diffusivity": ("t[:, 0] * p[1]", ("amp", "adc")),
    "by direction": ("t[:, 0] * (p[1] + p[2] * t[:, 1] + p[3] * t[:, 2])", ("amp", "adc", "first", "second")),
}
MODELS["by direction, kurtosis"] = (MODELS["by direction"][0], (*MODELS["by direction"][1], "kurtosis"))
LITERATURE = (
    "Deelchand et al. (doi 10.1002/mrm.26969; 3 T, prefrontal cortex, STEAM and PRESS, five subjects) give 0.14 to 0.18"
    " um2/ms for the trace of these five; Fotso et al. (doi 10.1002/mrm.26518; 3 T, slices, adults) 0.17, 0.20 and 0.18"
    " for tNAA, tCr and tCho, and 0.09, 0.11 and 0.11 after an extrapolation to no motion. The region of this voxel is"
    " not in the header."
)


def in_vivo_lines(folder: Path, work: Path, pictures: Path | None = None) -> list[str]:
    """Return the section of the page: ``folder`` is dwi_steam_7t, ``work`` is for the configurations.

    Pictures of the fit by direction are written into the folder ``pictures``.
    """
    data, water = (
        align_data(nifti.load(folder / f"invivo1_steam{end}.nii.gz"), AlignOptions(dim="DIM_DYN", average=True)).data
        for end in ("", "_water")
    )
    b_values = np.array(data.header["dim_5_header"]["Bval"]["Value"]) / 1000
    times = _times(b_values)
    basis = choose_basis(Basis.load(folder / "basis_STEAM_TE45_TM60.BASIS", keep=METABOLITES), data)
    plain = np.moveaxis(data.fids, 3, -1).reshape(-1, data.n_points)
    reference = water_reference(water_fids(water, data, False), data.axes)
    corrected = reference.corrected(plain)
    options, fits = FitOptions(prior="none"), {}
    for name in MODELS:
        configuration = read_configuration(_written(work, name))
        fits[name] = fit_series(corrected, basis, data.axes, configuration, times, options)
    uncorrected = fit_series(
        plain, basis, data.axes, read_configuration(_written(work, "by direction")), times, options
    )
    if pictures is not None:
        results = DynamicData(fits["by direction"], data, times, False)
        for draw in (parameter_figure, spectra_figure, residual_figure):
            draw(results, pictures / f"{draw.__name__}.png")
    return [
        "",
        "## In vivo",
        "",
        "`dwi_steam_7t/invivo1_steam`: STEAM, TE 40 ms, b values 0, 0.91, 2.16 and 3.96 ms/um2 in three orthogonal"
        f" directions, 24 transients each, aligned and averaged; {basis.n_metabs} basis spectra (of TE 45 ms), one"
        " width, free phase, shift and baseline of each spectrum, macromolecules linear in b. Eddy currents are taken"
        " off with the phase of the water that was acquired with the same gradients.",
        "",
        *_eddy_lines(plain, corrected, data.axes, b_values),
        "",
        "Left in, eddy currents broaden the lines with b, most along direction 3. A joint fit with one width then takes"
        " the missing height for diffusion, and fits of each spectrum alone at b = 0 lie above its curve. Phase and"
        " shift of transients are not the reason: after alignment they scatter by 3 to 7 degrees, which costs less than"
        " 1 % of an average. Amplitudes of transients scatter by about 10 % at high b beyond noise (pulsation); the"
        " average loses a part of the signal that is not corrected here. The spectrum at b = 0 has a spurious echo"
        " at 1.5 to 1.8 ppm.",
        "",
        *_comparison_lines(fits),
        "",
        "Diffusivities in um2/ms (a third of the trace), with SDs; of sums, those of the curve closest to theirs:",
        "",
        "| | " + " | ".join(REPORTED) + " |",
        "|---|" + "---|" * len(REPORTED),
        *(_row(name, fit) for name, fit in fits.items()),
        _row("by direction, eddy currents left in", uncorrected),
        "",
        LITERATURE,
    ]


def _times(b_values: np.ndarray) -> np.ndarray:
    """Return b values and two contrasts of the three directions, whose mean over directions is zero, ``(n, 3)``."""
    direction = (np.arange(len(b_values)) - 1) % 3
    contrasts = np.array([[1.0, 0], [0, 1], [-1, -1]])[direction]
    return np.column_stack([b_values, np.where(b_values[:, None] > 0, contrasts, 0)])


def _written(work: Path, name: str) -> Path:
    """Write the configuration of a model and return its path."""
    exponent, roles = MODELS[name]
    curve = "exp(-x + p[4] * x**2 / 6)" if "kurtosis" in roles else "exp(-x)"
    text = f"""from numpy import exp

Parameters = {{
    "conc": {{"other": {{"dynamic": "decay", "params": {list(roles)!r}}},
             "Mac": {{"dynamic": "line", "params": ["mac", "slope"]}}}},
    "eps": "variable", "Phi_0": "variable", "baseline": "variable"}}
Bounds = {{"amp": (0, None), "adc": (0, 1), "mac": (0, None), "gamma": (0, None), "sigma": (0, None)}}
"""
    limits = {"first": (-0.5, 0.5), "second": (-0.5, 0.5), "kurtosis": (0, 3)}
    for role in roles:
        if role in limits:
            text += f"Bounds[{role!r}] = {limits[role]!r}\n"
    text += f"""

def decay(p, t):
    x = {exponent}
    return p[0] * {curve}


def line(p, t):
    return p[0] - p[1] * t[:, 0]
"""
    path = work / f"{name.replace(' ', '_').replace(',', '')}.py"
    path.write_text(text, encoding="utf-8")
    return path


def _eddy_lines(plain: np.ndarray, corrected: np.ndarray, axes, b_values: np.ndarray) -> list[str]:
    """Return the table of line width and height of NAA without and with the correction."""
    lines = [
        "| b (ms/um2) | direction | NAA width (Hz): as acquired, corrected | NAA height over that at b = 0 |",
        "|---|---|---|---|",
    ]
    before, after = ([_line_of(fid, axes) for fid in fids] for fids in (plain, corrected))
    for number, b in enumerate(b_values):
        direction = "-" if b == 0 else str((number - 1) % 3 + 1)
        widths = f"{before[number][0]:.1f}, {after[number][0]:.1f}"
        heights = f"{before[number][1] / before[0][1]:.2f}, {after[number][1] / after[0][1]:.2f}"
        lines.append(f"| {b:.2f} | {direction} | {widths} | {heights} |")
    return lines


def _line_of(fid: np.ndarray, axes) -> tuple[float, float]:
    """Return full width at half maximum (Hz) and height of the magnitude around 2 ppm."""
    fine = axes.with_points(8 * axes.n_points)
    spectrum = np.abs(fid_to_spec(np.pad(fid, (0, 7 * axes.n_points))[None])[0])
    first, last = fine.window((1.8, 2.2))
    part = spectrum[first:last]
    peak = int(part.argmax())
    below = np.flatnonzero(part < part[peak] / 2)
    left, right = below[below < peak].max(initial=0), below[below > peak].min(initial=len(part))
    return float(right - left) * fine.bandwidth / fine.n_points, float(part[peak])


def _comparison_lines(fits: dict[str, DynamicFit]) -> list[str]:
    """Return the table of the comparison of models."""
    table = compare_fits(fits).table()
    lines = ["| model | free parameters | AIC difference | BIC difference | residual |", "|---|---|---|---|---|"]
    for name, row in table.iterrows():
        end = "" if row["converged"] else f" (not converged: {fits[str(name)].solution.distance:.2f} SD away)"
        lines.append(
            f"| {name}{end} | {row['free parameters']} | {row['AIC difference']:.1f} | {row['BIC difference']:.1f} |"
            f" {row['residual SD'] / table['residual SD'].min():.3f} |"
        )
    return lines


def _row(name: str, fit: DynamicFit) -> str:
    """Return the row of a fit in the table of diffusivities."""
    texts = [f"{metabolite} = conc_{metabolite}_adc" for metabolite in ("Glu", "Ins")]
    quantities = {one.name: one for one in derived_quantities(fit, texts)}
    quantities |= {one.name.split("_")[1]: one for one in sum_parameters(fit) if one.name.endswith("_adc")}
    cells = [f"{quantities[one].value:.3f} +- {quantities[one].sd:.3f}" for one in REPORTED]
    return f"| {name} | {' | '.join(cells)} |"
