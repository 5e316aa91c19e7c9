"""Lipids of the scalp in a volume: error of metabolites by distance from the scalp, and intervals that hold the truth.

    python -m benchmarks.scripts.mrsi_lipids --output benchmarks/mrsi_lipids.md
    python -m benchmarks.scripts.mrsi_lipids --seeds 4 5 6 --concentration-sd 0.3 --output benchmarks/mrsi_people.md

The second are three heads whose concentrations differ from typical ones, where priors are centred.  Heads are simulated
without lipids and water, and with lipids 10 and 100 times the metabolites where a voxel is all scalp, spread as phase
encoding does without a filter of k-space and with one.  Every way of handling lipids fits the same voxels.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
from scipy.ndimage import distance_transform_edt

from fsl_mrs_dl.cli.main import main as command
from fsl_mrs_dl.simulation import phantom

SUMS = ("NAA+NAAG", "Cr+PCr", "GPC+PCh", "Glu+Gln", "Ins")
EDGES_MM = (0, 15, 30, 200)

NOTES = """
Lipids are 10 or 100 times the metabolites where a voxel is all scalp; without a filter of k-space they ring into the
whole brain. In the rows without lipids and water the subspace is empty, and the fits with it are the same to the last
digit. L2 removal and HLSVD take metabolites with what they remove: no SD contains that.

The usual prior of the in-vivo model is a factor of e about typical proportions: wider than people differ. So where it
decides, of weak metabolites, intervals hold the truth more often than 95 %. That of `posterior_mean` is a factor of
1.35, as healthy people differ."""

WAYS = {
    "none": ["--spectral-model", "fsl-mrs"],
    "spline, moderate": ["--spectral-model", "fsl-mrs", "--baseline", "spline, moderate"],
    "L2": ["--spectral-model", "fsl-mrs", "--nuisance", "l2"],
    "HLSVD": ["--spectral-model", "fsl-mrs", "--nuisance", "hlsvd"],
    "subspace": ["--spectral-model", "fsl-mrs", "--nuisance", "subspace"],
    "in vivo": ["--spectral-model", "in-vivo", "--nuisance", "off"],
    "in vivo, subspace": ["--spectral-model", "in-vivo", "--nuisance", "subspace"],
}


def image(path: Path) -> np.ndarray:
    return np.asarray(nibabel.load(path).dataobj)


def distances(head: phantom.Phantom) -> np.ndarray:
    """Distance of the brain's voxels from the edge of the brain in mm."""
    size = np.linalg.norm(head.data.affine[:3, :3], axis=0)
    padded = np.pad(head.mask[:, :, :], ((1, 1), (1, 1), (0, 0)))
    return distance_transform_edt(padded, sampling=size)[1:-1, 1:-1][head.mask] - size[:2].mean() / 2


@dataclass
class Scores:
    """Of the voxels of a head: relative errors ``(n,)`` by name of the sum, whether intervals hold the truth
    ``(n_metabs, n)``, the same for the estimate with a narrow prior, and which voxels were fitted ``(n,)``."""

    errors: dict[str, np.ndarray]
    inside: np.ndarray
    inside_narrow: np.ndarray
    fitted: np.ndarray


def scores(folder: Path, head: phantom.Phantom, in_vivo: bool) -> Scores:
    """Compare the maps of a folder with the truth."""
    mask, names = head.mask, [name for name in head.basis.names if name.lower() != "mm"]
    truth = {name: head.concentrations[name][mask] for name in head.basis.names}
    kind, interval = ("in_vivo", "in_vivo_ci95") if in_vivo else ("ml", "ci95")
    conc = {name: image(folder / "concs" / kind / f"{name}.nii.gz")[mask] for name in names}
    fitted = image(folder / "quality" / "failed.nii.gz")[mask] < 2
    inside, narrow = [], []
    for name in names:
        limits = (folder / "uncertainties" / f"{name}_{interval}_{end}.nii.gz" for end in ("low", "high"))
        low, high = (image(path)[mask] for path in limits)
        inside.append((low <= truth[name]) & (truth[name] <= high))
        mean = image(folder / "concs" / "posterior_mean" / f"{name}.nii.gz")[mask]
        sd = image(folder / "uncertainties" / f"{name}_posterior_sd.nii.gz")[mask]
        narrow.append(np.abs(mean - truth[name]) <= 1.96 * sd)
    errors = {}
    for total in SUMS:
        true = sum(truth[name] for name in total.split("+"))
        errors[total] = (sum(conc[name] for name in total.split("+")) - true) / true.mean()
    return Scores(errors, np.array(inside), np.array(narrow), fitted)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path)
    parser.add_argument("--size", type=int, nargs=3, default=(24, 24, 1))
    parser.add_argument("--seeds", type=int, nargs="+", default=[3])
    parser.add_argument("--ways", nargs="+", default=list(WAYS))
    parser.add_argument("--cases", nargs="+", default=["0:none:0", "10:none", "100:hamming", "100:none"])
    parser.add_argument(
        "--concentration-sd", type=float, default=0.0, help="log SD of concentrations about typical ones"
    )
    args = parser.parse_args()
    concentrations = "typical concentrations"
    if args.concentration_sd:
        concentrations = f"concentrations that differ from typical ones, log SD {args.concentration_sd:g}"
    bands = [f"{low} to {high} mm" if high < 200 else f"beyond {low} mm" for low, high in zip(EDGES_MM, EDGES_MM[1:])]
    text = [
        "# Lipids of the scalp in a volume\n",
        (
            f"`python -m benchmarks.scripts.mrsi_lipids --seeds {' '.join(map(str, args.seeds))} --concentration-sd"
            f" {args.concentration_sd:g}`: simulated heads of {' x '.join(map(str, args.size))} voxels,"
            f" {concentrations}, 512 points, SNR 30, semi-LASER TE 35 ms, residual water as high as metabolites."
            f" RMSE in percent of the mean, median over {', '.join(SUMS)}, by distance from the edge of the brain, and"
            " the share of 95 % intervals of all metabolites that hold the truth (in vivo: posterior ones), and"
            " of those of `posterior_mean`.\n"
        ),
        "| lipids, filter (, water) | way | "
        + " | ".join(bands)
        + " | intervals, "
        + " | intervals, ".join(bands)
        + " | the same with a narrow prior, all | CPU s |",
        "|---|---|" + "---|" * (2 * len(bands) + 2),
    ]
    with tempfile.TemporaryDirectory() as temporary:
        for case in args.cases:
            height, k_filter, *water = case.split(":")
            # L2 removal needs lipids to learn from.
            ways = [way for way in args.ways if float(height) or way != "L2"]
            results: dict[str, list] = {way: [] for way in ways}
            for seed in args.seeds:
                options = phantom.PhantomOptions(
                    size=args.size,
                    n_points=512,
                    snr=30,
                    lipid_height=float(height),
                    water=float(water[0]) if water else 1.0,
                    seed=seed,
                    k_filter=k_filter,
                    concentration_sd=args.concentration_sd,
                    te_ms=35,
                )
                head = phantom.simulate_phantom(phantom.default_basis(512), options)
                folder = Path(temporary) / f"{case.replace(':', '-')}-{seed}"
                folder.mkdir()
                phantom.write_phantom(folder, head)
                for way in ways:
                    out, begun = folder / "out", time.process_time()
                    words = ["mrsi", "--data", folder / "mrsi.nii.gz", "--basis", folder / "basis", "--mask",
                             folder / "mask.nii.gz", "--output", out, "--overwrite", "--no_rescale", "--no_spectra",
                             *WAYS[way]]  # fmt: skip
                    with contextlib.redirect_stdout(io.StringIO()) as said:
                        code = command(list(map(str, words)))
                    if code:
                        raise SystemExit(said.getvalue())
                    seconds = time.process_time() - begun
                    results[way].append((scores(out, head, "in vivo" in way), distances(head), seconds))
            for way, parts in results.items():
                where = np.concatenate([part[1] for part in parts])
                fitted = np.concatenate([part[0].fitted for part in parts])
                errors = {name: np.concatenate([part[0].errors[name] for part in parts]) for name in SUMS}
                inside = np.concatenate([part[0].inside for part in parts], 1)
                narrow = np.concatenate([part[0].inside_narrow for part in parts], 1)[:, fitted].mean()
                cells, covered = [], []
                for low, high in zip(EDGES_MM, EDGES_MM[1:]):
                    rows = (where >= low) & (where < high) & fitted
                    rmse = [100 * np.sqrt(np.mean(values[rows] ** 2)) for values in errors.values()]
                    cells.append(f"{np.median(rmse):.1f}")
                    covered.append(f"{100 * inside[:, rows].mean():.1f}")
                covered.append(f"{100 * narrow:.1f}")
                seconds = sum(part[2] for part in parts)
                text.append(f"| {case.replace(':', ', ')} | {way} | {' | '.join(cells + covered)} | {seconds:.0f} |")
                print(text[-1], flush=True)
    text.append(NOTES)
    if args.output:
        args.output.write_text("\n".join(text) + "\n")


if __name__ == "__main__":
    main()
