"""An in vivo MEGA-PRESS scan: the joint fit of all of it and of its interleaved parts, and the subtraction artefact of
our difference and of FSL-MRS's, if it is there:

python -m benchmarks.scripts.mega_in_vivo > benchmarks/mega_in_vivo.md
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from fsl_mrs_dl.core.units import fid_to_spec
from fsl_mrs_dl.fitting.data import fit_data
from fsl_mrs_dl.fitting.options import FitOptions
from fsl_mrs_dl.io import nifti
from fsl_mrs_dl.io.edited_basis import EditedBasis
from fsl_mrs_dl.preproc.align import align_data
from fsl_mrs_dl.preproc.averaging import weighted_mean
from fsl_mrs_dl.preproc.options import AlignOptions
from fsl_mrs_dl.preproc.water_removal import remove_residual_water
from fsl_mrs_dl.results.edited import quality_table
from fsl_mrs_dl.results.fit_results import FitResults
from fsl_mrs_dl.simulation.edited_basis import simulate_edited_basis

DATA = Path(os.environ.get("FSL_MRS_DL_TESTDATA", Path(__file__).parents[2] / "../shared/data"))

_SHOWN = ("GABA+MM3co", "GABA", "MM3co", "GSH", "Glu+Gln", "NAA", "Ins")
_WINDOW = (0.2, 4.2)
_WITHOUT_ECHO = (0.2, 3.55)
_USUAL = {"edit_duration_ms": 15.0, "edit_ppm": (1.9, 7.5), "refocusing": "slice-selective"}
_OTHER = (
    {"refocusing": "ideal"},
    *({"edit_duration_ms": ms} for ms in (12.0, 18.0, 22.0)),
    *({"edit_ppm": (ppm, 7.5)} for ppm in (1.84, 1.95)),
    {"edit_duration_ms": 20.0, "edit_ppm": (1.88, 7.5)},
    {"edit_duration_ms": 18.0, "edit_ppm": (1.95, 7.5)},
)


def main(argv=None) -> None:
    """Run the benchmark and print its page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", type=int, default=4, help="interleaved parts of the scan")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    print(report(DATA / "mega_press_3t" / "mega68.nii.gz", args.parts))


def report(path: Path, n_parts: int) -> str:
    """Return the page."""
    data = nifti.load(path)
    data = replace(data, header={**data.header, "RepetitionTime": 2.0})
    basis = _basis(data)
    aligned = align_data(data, AlignOptions(dim="DIM_DYN")).data
    n = aligned.fids.shape[aligned.axis("DIM_DYN")]
    lines = [
        "# An in vivo MEGA-PRESS scan",
        "",
        f"`python -m benchmarks.scripts.mega_in_vivo`: 3 T, TE 68 ms, {n} transients ON and OFF, with a spurious echo"
        " at 3.6 to 3.9 ppm in OFF; simulated basis set (sinc-Gaussian editing pulses of 15 ms, slice-selective"
        f" refocusing pulses). Ratios to total creatine. 'Parts' are {n_parts} interleaved parts of the aligned scan,"
        " fitted each by itself: their SD over the stated one tells whether stated SDs hold.",
    ]
    everything = np.ones(n, bool)
    for title, window in (("Usual window", None), ("Echo left out (--ppmlim 0.2 3.55)", _WITHOUT_ECHO)):
        whole = _fit(_part(aligned, everything), basis, window)
        parts = [_fit(_part(aligned, np.arange(n) % n_parts == k), basis, window) for k in range(n_parts)]
        lines += ["", f"## {title}", "", *_table(whole, parts), "", _quality(whole)]
    assert whole.edited is not None
    lines += _with_other_pulses(data, _part(aligned, everything))
    lines += [
        "",
        "## The difference spectrum",
        "",
        "Largest signal of choline (3.14 to 3.28 ppm) that the difference leaves, over choline in OFF, and the height"
        " of the line at 3 ppm over the noise's SD (of difference spectra as they are, without a fit).",
        "",
        "| | choline left, % | 3 ppm over noise |",
        "|---|---|---|",
    ]
    ours = _part(aligned, everything)
    differences = {"ours (alignment only)": ours.fids[0, 0, 0, :, 0] - ours.fids[0, 0, 0, :, 1]}
    spectra = whole.edited
    time = data.axes.time()
    shift, phase = spectra.shift_hz[0][0], np.deg2rad(spectra.phase_deg[0][0])
    moved = [
        ours.fids[0, 0, 0, :, element] * np.exp(1j * (phase[k] - 2 * np.pi * shift[k] * time))
        for k, element in enumerate(spectra.order)
    ]
    differences["ours, offsets of the joint fit taken out"] = moved[0] - moved[1]
    off = ours.fids[0, 0, 0, :, 1]
    theirs = _of_fsl_mrs(path)
    if theirs is not None:
        differences["FSL-MRS align, align-diff, average, subtract (doubled)"] = 2 * theirs
    for name, fid in differences.items():
        lines.append(f"| {name} | {_left(fid, off, data):.1f} | {_height(fid, data):.1f} |")
    return "\n".join(lines)


def _basis(data: nifti.MrsData, **pulses) -> EditedBasis:
    """Return a simulated basis set for the scan."""
    axes = {"spec_freq_mhz": data.spec_freq_mhz, "bandwidth_hz": data.bandwidth}
    return simulate_edited_basis(None, "mega-press", te_ms=68, **axes, **(_USUAL | pulses))


def _with_other_pulses(data: nifti.MrsData, mean: nifti.MrsData) -> list[str]:
    """Return the section that tells how much rests on the editing pulses, which the header does not hold."""
    shown = ("GABA+MM3co", "GABA", "GSH", "Glu+Gln")
    lines = [
        "",
        "## Other pulses",
        "",
        "The header holds neither the pulses of ON nor those that refocus. The whole scan fitted with others (SDs in"
        " brackets), the echo left out but in rows that say so.",
        "",
        f"| refocusing | editing: ms | ppm | residual over noise | effect | {' | '.join(shown)} |",
        "|---|---|---|---|---|" + "---|" * len(shown),
    ]
    for pulses in ({}, *_OTHER):
        made = _USUAL | pulses
        basis = _basis(data, **pulses)
        for window in (_WITHOUT_ECHO,) if pulses and "refocusing" not in pulses else (_WITHOUT_ECHO, None):
            fit = _fit(mean, basis, window)
            label = made["refocusing"] + ("" if window else ", with the echo")
            ratios = " | ".join("{:.3f} ({:.3f})".format(*_ratio(fit, name)) for name in shown)
            lines.append(
                f"| {label} | {made['edit_duration_ms']:g} | {made['edit_ppm'][0]:g} | {fit.fit.misfit[0]:.2f} |"
                f" {_effect(fit)} | {ratios} |"
            )
    return lines


def _effect(results: FitResults) -> str:
    """Return the effect of the pulses of ON over that of the simulated ones, with its SD."""
    assert results.edited is not None
    row = quality_table(results, results.edited).iloc[0]
    value, sd = row.filter(like="efficiency_")[:2]
    return f"{value:.2f} +- {sd:.2f}"


def _table(whole: FitResults, parts: list[FitResults]) -> list[str]:
    """Return ratios of the whole scan and of its parts."""
    lines = [
        "| | whole scan | stated SD | mean of parts | SD between parts | stated SD of a part | SD between / stated |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in _SHOWN:
        value, sd = _ratio(whole, name)
        each = np.array([_ratio(one, name) for one in parts])
        between, stated = each[:, 0].std(ddof=1), np.sqrt((each[:, 1] ** 2).mean())
        lines.append(
            f"| {name} | {value:.3f} | {sd:.3f} | {each[:, 0].mean():.3f} | {between:.3f} | {stated:.3f} |"
            f" {between / stated:.2f} |"
        )
    return lines


def _quality(whole: FitResults) -> str:
    assert whole.edited is not None
    quality = quality_table(whole, whole.edited).iloc[0]
    end = "" if whole.fit.converged[0] else " The fit of the whole scan has not converged, its verdict is 'not usable'."
    return (
        f"Effect of the editing pulses {_effect(whole)} of the simulated one; residual over noise"
        f" {whole.fit.misfit[0]:.2f}; width of creatine {quality['Cr_FWHM_hz']:.1f} Hz.{end}"
    )


def _part(aligned: nifti.MrsData, chosen: np.ndarray) -> nifti.MrsData:
    """Return the mean of some aligned transients, without residual water."""
    axis = aligned.axis("DIM_DYN")
    weights = (chosen / chosen.sum()).reshape([-1 if k == axis else 1 for k in range(aligned.fids.ndim)])
    mean = weighted_mean(aligned, "DIM_DYN", weights)
    return remove_residual_water(mean, _WINDOW).data


def _fit(data: nifti.MrsData, basis, window) -> FitResults:
    options = FitOptions(spectral_model="in-vivo", edit_conditions=("on", "off"), ppmlim=window)
    return FitResults.of_data(fit_data(data, basis, options), options)


def _ratio(results: FitResults, name: str) -> tuple[float, float]:
    column = results.names.index(name)
    return float(results.ratios[0][0, column]), float(results.ratios[1][0, column])


def _of_fsl_mrs(path: Path) -> np.ndarray | None:
    """Return FSL-MRS's difference, which is half of ON minus OFF; None where it is not installed."""
    if shutil.which("fsl_mrs_proc") is None:
        return None
    with tempfile.TemporaryDirectory() as folder:

        def step(*words: str) -> None:
            command = ["fsl_mrs_proc", *words, "--output", folder]
            subprocess.run(command, check=True, capture_output=True)

        def file(name: str) -> str:
            return str(Path(folder) / f"{name}.nii.gz")

        ppm = ("--ppm", *map(str, _WINDOW))
        step("align", "--file", str(path), "--dim", "DIM_DYN", *ppm, "--filename", "aligned")
        step(
            *("align-diff", "--file", file("aligned"), "--dim", "DIM_DYN", "--dim_diff", "DIM_EDIT"),
            *(*ppm, "--diff_type", "sub", "--filename", "matched"),
        )
        step("average", "--file", file("matched"), "--dim", "DIM_DYN", "--filename", "mean")
        step("subtract", "--file", file("mean"), "--dim", "DIM_EDIT", "--filename", "difference")
        data = remove_residual_water(nifti.load(file("difference")), _WINDOW).data
        return data.fids[0, 0, 0]


def _smooth(fid: np.ndarray, data: nifti.MrsData) -> np.ndarray:
    """Return the spectrum with lines 3 Hz broader."""
    return fid_to_spec(fid * np.exp(-np.pi * 3 * data.axes.time()))


def _left(fid: np.ndarray, off: np.ndarray, data: nifti.MrsData) -> float:
    first, last = data.axes.window((3.14, 3.28))
    return 100 * np.abs(_smooth(fid, data)[first:last]).max() / np.abs(_smooth(off, data)[first:last]).max()


def _height(fid: np.ndarray, data: nifti.MrsData) -> float:
    """Return the height of the difference about 3 ppm, phased by its sum there, over the noise beside the spectrum."""
    spectrum = _smooth(fid, data)
    first, last = data.axes.window((2.9, 3.12))
    quiet = slice(*data.axes.window((7.0, 9.0)))
    turned = (spectrum * np.exp(-1j * np.angle(spectrum[first:last].sum()))).real
    return float(turned[first:last].max() / spectrum[quiet].real.std())


if __name__ == "__main__":
    main()
