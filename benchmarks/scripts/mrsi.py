"""A whole MRSI volume: time, memory and accuracy of ``fsl_mrs_dl mrsi``, and of ``fsl_mrsi`` with Newton on a piece of
the same data.

    python -m benchmarks.scripts.mrsi --output benchmarks/mrsi.md

Everything is run as a user would, as commands of their own; the times are those of whole commands, from start to end.
"""

from __future__ import annotations

import argparse
import cProfile
import os
import platform
import pstats
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import torch

from fsl_mrs_dl.fitting.options import FitOptions
from fsl_mrs_dl.io import nifti
from fsl_mrs_dl.io.basis import Basis
from fsl_mrs_dl.mrsi import assemble, chunks, plan

BIN = Path(sys.executable).parent


MODELS = ("fsl-mrs", "in-vivo")
PARTS = {
    "settling the model": ("plan.py", "prepare"),
    "reading": ("job.py", "fids"),
    "minimisation, in-vivo": ("fit.py", "_minimise"),
    "minimisation, FSL-MRS's": ("free_lines.py", "fit_lines"),
    "estimates and their average, in-vivo": ("fit.py", "_fit_batch"),
    "covariance and posterior, FSL-MRS's": ("assess.py", "assess"),
    "values of maps": ("maps.py", "map_values"),
    "of them SNR and line widths": ("qc.py", "fit_qc"),
    "band of the fit": ("spread.py", "fitted_sd"),
    "spectra of the fit": ("chunks.py", "_spectra"),
    "keeping chunks": ("chunks.py", "save_chunk"),
    "writing the folder": ("assemble.py", "write_results"),
}
"""Functions whose share of the time is shown, by their file and name."""


def measured(*words, threads: int | None = None) -> tuple[float, float, float]:
    """Seconds that a command took, those of processor cores, and the most memory (GiB) it held."""
    environment = os.environ | ({} if threads is None else {"OMP_NUM_THREADS": str(threads)})
    begun = time.perf_counter()
    process = subprocess.Popen(
        list(map(str, words)), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment
    )
    error = process.stderr.read()
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(map(str, words))}\n{error.decode()[-2000:]}")
    return time.perf_counter() - begun, used.ru_utime + used.ru_stime, used.ru_maxrss / 2**20


def shares(data: Path, basis: Path, folder: Path, model: str) -> dict[str, float]:
    """Return the share of each part in the time of a volume, on one thread."""
    profile, options = cProfile.Profile(), FitOptions(spectral_model=model, device="cpu")
    torch.set_num_threads(1)
    profile.enable()
    job, pilot = plan.prepare(data, Basis.load(basis), folder, options, overwrite=True, say=lambda line: None)
    for k in range(job.n_chunks):
        chunks.fit_chunk(job, k)
    folder.mkdir()
    assemble.write_results(folder, job, options_text="", pilot=pilot)
    profile.disable()
    assemble.finish(job)
    shutil.rmtree(folder)
    functions = {}
    for (path, _, name), (_, _, _, cumulative, _) in pstats.Stats(profile).stats.items():
        functions[Path(path).name, name] = max(cumulative, functions.get((Path(path).name, name), 0.0))
    whole = sum(functions[PARTS[name]] for name in ("settling the model", "writing the folder"))
    whole += functions["chunks.py", "fit_chunk"]
    return {name: functions.get(place, 0.0) / whole for name, place in PARTS.items()}


def simulate(folder: Path, size, *more) -> Path:
    measured(BIN / "fsl_mrs_dl", "simulate", "mrsi", "--output", folder, "--size", *size, *more)
    return folder


def tiled(head: Path, target: Path, size) -> Path:
    """A volume in which every voxel is one of the head's brain, over and over, each time in another order."""
    data = nifti.load(head / "mrsi.nii.gz")
    brain = data.fids[image(head / "mask.nii.gz") != 0]
    n, rng = int(np.prod(size)), np.random.default_rng(0)
    order = np.concatenate([rng.permutation(len(brain)) for _ in range(-(-n // len(brain)))])[:n]
    nifti.save(target, replace(data, fids=brain[order].reshape(*size, -1)))
    return target


def piece_of(head: Path, folder: Path, size: int = 4) -> Path:
    """A square of voxels inside the brain, where nothing is near the scalp."""
    data = nifti.load(head / "mrsi.nii.gz")
    mask = np.asarray(nibabel.load(head / "mask.nii.gz").dataobj) != 0
    z = data.fids.shape[2] // 2
    inside = [
        (x, y)
        for x in range(mask.shape[0] - size)
        for y in range(mask.shape[1] - size)
        if mask[x : x + size, y : y + size, z].all()
    ]
    x, y = min(inside, key=lambda at: (at[0] - mask.shape[0] * 0.6) ** 2 + (at[1] - mask.shape[1] * 0.55) ** 2)
    part = (slice(x, x + size), slice(y, y + size), slice(z, z + 1))
    folder.mkdir()
    nifti.save(folder / "mrsi.nii.gz", replace(data, fids=data.fids[part]))
    # FSL-MRS does not take a volume of one voxel.
    nifti.save(folder / "two.nii.gz", replace(data, fids=data.fids[x : x + 2, y : y + 1, z : z + 1]))
    np.save(folder / "place.npy", [x, y, z])
    return folder


def image(path: Path) -> np.ndarray:
    return np.asarray(nibabel.load(path).dataobj)


def accuracy(results: Path, head: Path, piece: Path, kind: str, names) -> dict[str, float]:
    """RMSE of ratios to total creatine over the voxels of a piece."""
    x, y, z = np.load(piece / "place.npy", allow_pickle=False)
    truth = {name: image(head / "truth" / f"{name}.nii.gz")[x : x + 4, y : y + 4, z : z + 1] for name in names}
    total = truth["Cr"] + truth["PCr"]
    return {
        name: float(
            np.sqrt(
                np.mean(
                    (image(results / "concs" / kind / f"{name}.nii.gz").reshape(total.shape) - truth[name] / total) ** 2
                )
            )
        )
        for name in names
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument(
        "--sizes", nargs="*", default=["10x10x10", "32x32x10", "64x40x40"], help="volumes of brain voxels"
    )
    parser.add_argument("--most-in-vivo", type=int, default=10240, help="largest volume of the in-vivo model, voxels")
    parser.add_argument("--air", action="store_true", help="also the whole head without a mask")
    args = parser.parse_args()
    n = args.threads
    text = [
        "# A whole MRSI volume\n",
        (
            f"`python -m benchmarks.scripts.mrsi --threads {n}`, {n} cores of a {platform.machine()} CPU. Simulated"
            " head (`fsl_mrs_dl simulate mrsi`): 1024 points, 20 metabolites and macromolecules, SNR 20; FSL-MRS's"
            " model (Voigt, baseline 'poly, 2', posterior) and the in-vivo model, all maps and spectra written. Times"
            " are of whole commands, loading and writing included.\n"
        ),
    ]
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        rows, head = [], simulate(here / "head", (32, 32, 10))
        mask = ["--mask", head / "mask.nii.gz"]
        n_brain = int((image(head / "mask.nii.gz") != 0).sum())
        jobs = [("head of 32x32x10, in the mask", n_brain, head / "mrsi.nii.gz", mask)]
        jobs += [
            (f"brain voxels, {label}", int(np.prod(list(map(int, label.split("x"))))), label, [])
            for label in args.sizes
        ]
        if args.air:
            jobs.append(("head of 32x32x10, with air and scalp", 10240, head / "mrsi.nii.gz", []))
        jobs = [(model, *job) for model in MODELS for job in jobs if model == "fsl-mrs" or job[1] <= args.most_in_vivo]
        for model, name, voxels, data, more in jobs:
            if isinstance(data, str):
                data = tiled(head, here / f"{data}.nii", tuple(map(int, data.split("x"))))
            took, used, memory = measured(
                BIN / "fsl_mrs_dl",
                "mrsi",
                "--data",
                data,
                "--basis",
                head / "basis",
                "--output",
                here / "out",
                "--overwrite",
                "--spectral-model",
                model,
                "--parallel-workers",
                n,
                *more,
                threads=n,
            )
            rows.append((model, name, voxels, took, used, memory))
            print(rows[-1], flush=True)
        text += [
            "| model | volume | voxels | s | CPU s | CPU ms per voxel | most memory, GiB |",
            "|---|---|---|---|---|---|---|",
        ]
        text += [
            f"| {model} | {name} | {voxels} | {took:.1f} | {used:.1f} | {1e3 * used / voxels:.2f} | {memory:.2f} |"
            for model, name, voxels, took, used, memory in rows
        ]
        thousand = tiled(head, here / "profile.nii", (10, 10, 10))
        found = {model: shares(thousand, head / "basis", here / "profiled", model) for model in MODELS}
        text += ["\nShares of the time of 1000 brain voxels, % (one thread, under a profiler; parts overlap):\n"]
        text += ["| part | " + " | ".join(MODELS) + " |", "|---|---|---|"]
        text += [f"| {part} | " + " | ".join(f"{100 * found[m][part]:.0f}" for m in MODELS) + " |" for part in PARTS]
        piece = piece_of(head, here / "piece")
        common = ["--basis", head / "basis", "--overwrite"]
        measured(
            BIN / "fsl_mrs_dl",
            "mrsi",
            "--data",
            piece / "mrsi.nii.gz",
            "--output",
            here / "ours",
            "--spectral-model",
            "fsl-mrs",
            *common,
            threads=n,
        )
        names = [
            path.name.removesuffix(".nii.gz")
            for path in sorted((here / "ours" / "concs" / "ml").glob("*.nii.gz"))
            if "+" not in path.name
        ]
        columns = {"`ml`": accuracy(here / "ours", head, piece, "ratio", names)}
        columns["`posterior_mean`"] = accuracy(here / "ours", head, piece, "posterior_ratio", names)
        if (BIN / "fsl_mrsi").is_file():
            newton = [BIN / "fsl_mrsi", "--algo", "Newton", "--parallel", "off", *common]
            sixteen, *_ = measured(*newton, "--data", piece / "mrsi.nii.gz", "--output", here / "theirs", threads=n)
            two, *_ = measured(*newton, "--data", piece / "two.nii.gz", "--output", here / "two", threads=n)
            columns["Newton"] = accuracy(here / "theirs", head, piece, "internal", names)
            each = (sixteen - two) / 14
            whole = next(
                (took / voxels for _, name, voxels, took, *_ in rows if name == "brain voxels, 32x32x10"), None
            )
            ratio = (
                f", {each / whole:.0f} times what a voxel takes us in 32x32x10 brain voxels, all included"
                if whole
                else ""
            )
            text.append(
                f"\n`fsl_mrsi` with Newton on 4 x 4 voxels: {sixteen:.1f} s, of them {1e3 * each:.0f} ms per voxel"
                f" beyond its start{ratio}."
            )
            print(text[-1], flush=True)
        text += [
            "\n## Accuracy on 4 x 4 voxels\n",
            "RMSE of the ratio to Cr+PCr.\n",
            "| | " + " | ".join(columns) + " |",
            "|---|" + "---|" * len(columns),
        ]
        text += [
            f"| {name} | " + " | ".join(f"{values[name]:.4f}" for values in columns.values()) + " |" for name in names
        ]
    args.output.write_text("\n".join(text) + "\n")


if __name__ == "__main__":
    main()
