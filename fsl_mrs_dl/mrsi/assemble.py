"""Chunks put together into FSL-MRS's folder of maps and spectra."""

from __future__ import annotations

import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch

from ..io.volume import write_spectra
from ..results import layout, maps, model_file, tables
from .chunks import _files, _gathered, _model
from .job import Job

__all__ = ["write_results"]


def write_results(
    folder: Path, job: Job, *, options: str, pilot: tables.FitResults | None = None
) -> dict[str, np.ndarray]:
    """Write FSL-MRS's folder and our maps from what is kept of a job; some of the maps' values, for a summary.

    Parameters
    ----------
    folder : path
        There and empty.
    job : Job
        With every chunk done.
    options : str
        For options.txt.
    pilot : FitResults, optional
        Drawn into fit_avg.png.

    Returns
    -------
    dict
        Arrays with a row per voxel, by the key of the map; 'names' are the columns of those with several.
    """
    model, fitted, _ = _model(job)
    names = maps.all_names(fitted, job.settings.internal_ref, job.settings.combine)
    (folder / "options.txt").write_text(options)
    with np.load(job.file(0)) as arrays:
        kinds = {name.replace("|", "/") for name in arrays.files}
    grid = maps.Grid(job.volume.grid, job.volume.about.affine, job.index)
    with ThreadPoolExecutor(1) as pool:
        # Packing spectra leaves the interpreter to others.
        packing = pool.submit(_write_all_spectra, folder, job) if job.settings.spectra else None
        seen = _write_maps(folder, job, model, fitted, names, kinds, grid, pilot)
        if packing is not None:
            packing.result()
    return seen


def _write_maps(
    folder: Path, job: Job, model, fitted, names, kinds: set[str], grid: maps.Grid, pilot
) -> dict[str, np.ndarray]:
    """All but the spectra."""
    seen = maps.write(folder, grid, kinds, lambda name: _gathered(job, [name])[0], names)
    params, cov, noise = _gathered(job, ["params", "cov", "noise-sd"])
    maps.write_misc(folder, model, fitted, names)
    model_file.write_model(
        folder,
        model,
        fitted,
        grid=grid.shape,
        fid_scale=job.fid_scale,
        conjugated=job.conjugated,
        rows=job.index,
        params=params,
        cov=cov,
        noise_sd=noise,
    )
    maps.write_for_viewer(folder, names, kinds | (set(layout.SPECTRA) if job.settings.spectra else set()))
    if pilot is not None:
        from ..results.figures import fit_summary

        fit_summary(pilot, folder / "fit_avg.png")
    return seen


def _write_all_spectra(folder: Path, job: Job) -> None:
    """fit, baseline and residual, one file each, side by side."""
    (folder / "fit").mkdir()
    parts = []
    for file in _files(job):
        with np.load(file) as arrays:
            parts.append((np.searchsorted(job.index, arrays["index"]), file.with_suffix(".npy")))

    def read(which: int, part: slice) -> tuple[np.ndarray, np.ndarray]:
        out = np.zeros((part.stop - part.start, len(job.index)), np.complex64)
        for rows, file in parts:
            out[:, rows] = np.load(file, mmap_mode="r")[which, part]
        return job.index, out

    with ThreadPoolExecutor(min(3, torch.get_num_threads())) as pool:
        paths = [folder / path for path in layout.SPECTRA.values()]
        for future in [
            pool.submit(write_spectra, path, job.volume, partial(read, which)) for which, path in enumerate(paths)
        ]:
            future.result()


def finish(job: Job) -> None:
    """Remove what a job kept."""
    shutil.rmtree(job.scratch, ignore_errors=True)


def rate(begun: float, n_voxels: int) -> str:
    """How long it took, in words."""
    took = time.perf_counter() - begun
    return f"{took:.1f} s, {1e3 * took / max(1, n_voxels):.2f} ms per voxel"


def summary(job: Job, seen: dict[str, np.ndarray]) -> str:
    """What became of a volume, for the terminal."""
    failed, names = seen["failed"], seen["names"]
    good = (failed == 0) & (seen["ood-score"] <= layout.OOD_LIMIT)
    what = "clean ones"
    if not good.any():
        good, what = failed == 0, "them"
    there = int((failed < 2).sum())
    lines = [f"{there} of {len(failed)} voxels fitted; medians of {int(good.sum())} {what}:"]
    ratio = seen.get("conc-internal")
    reference = "/" + "+".join(job.settings.internal_ref)
    head = (
        f"{'Metab':<10}{'conc':>10}{'%SD':>6}"
        + (f"{reference:>12}" if ratio is not None else "")
        + ("  mostly prior" if "prior-pull" in seen else "")
    )
    lines += [head, "-" * len(head)]
    for column, name in enumerate(names):
        part = [seen[key][good, column] for key in ("raw-concentrations", "sd")]
        middle = [np.nanmedian(values) if np.isfinite(values).any() else np.nan for values in part]
        line = f"{name:<10}{middle[0]:10.4g}{middle[1]:6.0f}"
        if ratio is not None:
            values = ratio[good, column]
            line += f"{np.nanmedian(values) if np.isfinite(values).any() else np.nan:12.3f}"
        if "prior-pull" in seen:
            line += f"{100 * np.mean(seen['prior-pull'][good, column] > tables.MOSTLY_PRIOR):11.0f} %"
        lines.append(line)
    for value in (1, 2, 3):
        if (failed == value).any():
            lines.append(
                f"{int((failed == value).sum())} voxels: {layout.FAILED[value]} (quality/failed.nii.gz is {value}"
                " there)."
            )
    strange = int((seen["ood-score"][failed < 2] > layout.OOD_LIMIT).sum())
    if strange:
        lines.append(
            f"{strange} of {int((failed < 2).sum())} spectra are unlike clean data (quality/ood_score.nii.gz is above 1"
            " there)."
        )
    if strange > 0.5 * max(there, 1):
        lines.append(
            "Most are: check basis set (sequence, echo time), macromolecules (--mm), baseline (--baseline 'spline,"
            " moderate') and --mask."
        )
    return "\n".join(lines)
