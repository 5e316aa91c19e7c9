"""Chunks assembled into FSL-MRS's folder of maps and spectra."""

from __future__ import annotations

import json
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import torch

from ..core.parallel import one_thread
from ..fitting.fitted_data import reference_note
from ..fitting.in_vivo.result import signals_of
from ..io.volume import write_spectra
from ..results import in_vivo_model_file, layout, maps, model_file
from ..results.fit_results import FitResults, reported_names
from . import scratch
from .chunks import chunk_files, gather, gather_one_by_one, model_of
from .job import Job
from .spatial import spatial_estimate

__all__ = ["write_results", "finish", "duration", "summary"]


def write_results(
    folder: Path, job: Job, *, options_text: str, pilot: FitResults | None = None
) -> dict[str, np.ndarray]:
    """Write FSL-MRS's folder and our maps from the chunks of a job.

    Parameters
    ----------
    folder : path
        There and empty.
    job : Job
        With every chunk done.
    options_text : str
        For options.txt.
    pilot : FitResults, optional
        Drawn into fit_avg.png.

    Returns
    -------
    dict
        Values of some maps for :func:`summary`: arrays with a row per voxel by the key of the map; 'names' are the
        columns of those with several.

    Raises
    ------
    OutputError
        If a chunk cannot be read.
    """
    (folder / "options.txt").write_text(options_text, encoding="utf-8")
    with ThreadPoolExecutor(1) as pool:
        # Packing spectra leaves the interpreter to others.
        packing = pool.submit(_write_all_spectra, folder, job) if job.volume_options.spectra else None
        values = _write_maps(folder, job)
        if packing is not None:
            packing.result()
    if job.in_vivo is not None and job.in_vivo.population is not None:
        learnt = json.dumps(asdict(job.in_vivo.population), indent=1)
        (folder / "volume_priors.json").write_text(learnt, encoding="utf-8")
    if pilot is not None:
        from ..results.figures import fit_summary

        fit_summary(pilot, folder / "fit_avg.png")
    return values


def _write_maps(folder: Path, job: Job) -> dict[str, np.ndarray]:
    """Write all but spectra and picture; returns values of some maps."""
    prepared, options = model_of(job), job.options
    model, fitted = prepared.model, prepared.names
    names = reported_names(fitted, options.internal_ref, options.combine)
    kinds, spatial = set(scratch.load_arrays(job.file(0))), {}
    if job.volume_options.spatial:
        spatial = _spatial_maps(job, fitted, names)
        kinds |= set(spatial)
    grid = maps.Grid(job.volume.grid, job.volume.about.affine, job.index)

    stored = gather_one_by_one(job, maps.in_order(kinds - set(spatial)))

    def values_of(name: str) -> np.ndarray:
        return spatial[name] if name in spatial else stored(name)

    values = maps.write_maps(folder, grid, kinds, values_of, names)
    maps.write_summary(folder, grid, values)
    maps.write_misc(folder, model, prepared.parameters, fitted, names)
    _write_model(folder, job, grid.shape)
    maps.write_for_viewer(folder, names, kinds | (set(layout.SPECTRA) if job.volume_options.spectra else set()))
    return values


def _spatial_maps(job: Job, fitted: list[str], names: list[str]) -> dict[str, np.ndarray]:
    """Return the spatial estimate of metabolites and sums, ``(n, len(names))`` by the keys of maps."""
    own, packed = gather(job, ["own", "own_cov"])
    m = own.shape[1]
    rows, columns = np.tril_indices(m)
    cov = np.empty((len(own), m, m))
    cov[:, rows, columns] = cov[:, columns, rows] = packed
    affine = job.volume.about.affine
    # Data without a position have no size of voxels.
    size = np.ones(3) if affine is None else np.linalg.norm(affine[:3, :3], axis=0)
    with one_thread():
        estimate = spatial_estimate(own.astype(float), cov, job.index, job.volume.grid, size, job.tissue)
    members = [[fitted.index(part) for part in (name.split("+") if name not in fitted else [name])] for name in names]
    # Indices of pairs: mean and SD, then the limits.
    sums, limits = ([function(each) for each in members] for function in (estimate.of_sum, estimate.interval))
    values = {
        "conc-spatial": [mean for mean, _ in sums],
        "spatial-sd": [sd for _, sd in sums],
        "spatial-ci95-low": [low for low, _ in limits],
        "spatial-ci95-high": [high for _, high in limits],
    }
    return {key: np.stack(each, 1).astype(np.float32) for key, each in values.items()}


def _write_model(folder: Path, job: Job, grid: tuple[int, int, int]) -> None:
    """Write the fitted model of every voxel, for viewers."""
    prepared = model_of(job)
    if job.in_vivo is not None:
        params, band, cov = gather(job, ["params", "band", "cov"])
        of_water = {"water": job.in_vivo.water_use and job.in_vivo.water_use.line_shape}
        of_water["eddy_phase"] = job.in_vivo.water_use and job.in_vivo.water_use.eddy_currents
        in_vivo = in_vivo_model_file.StoredInVivoFits(
            grid=grid,
            rows=job.index,
            params=params,
            band=band,
            band_hz=job.in_vivo.model.window.hz,
            fid_scale=job.fid_scale,
            conjugated=job.conjugated,
            cov=cov,
            **{name: gather(job, [name])[0] for name, taken in of_water.items() if taken},
        )
        in_vivo_model_file.write_in_vivo_model(folder, signals_of(job.in_vivo.model, job.axes), in_vivo)
        return
    params, cov, noise = gather(job, ["params", "cov", "residual-sd"])
    fits = model_file.StoredFits(
        grid=grid,
        rows=job.index,
        params=params,
        cov=cov,
        noise_sd=noise,
        fid_scale=job.fid_scale,
        conjugated=job.conjugated,
    )
    model_file.write_model(folder, prepared.model, prepared.names, fits)


def _write_all_spectra(folder: Path, job: Job) -> None:
    """Write fit, baseline and residual, one file each, in parallel."""
    (folder / "fit").mkdir()
    parts = []
    for file in chunk_files(job):
        index = scratch.load_arrays(file, ["index"])["index"]
        parts.append((np.searchsorted(job.index, index), file.with_suffix(".npy")))

    def read(which: int, part: slice) -> tuple[np.ndarray, np.ndarray]:
        out = np.zeros((part.stop - part.start, len(job.index)), np.complex64)
        for rows, file in parts:
            out[:, rows] = scratch.load_array(file)[which, part]
        return job.index, out

    with ThreadPoolExecutor(min(3, torch.get_num_threads())) as pool:
        paths = [folder / path for path in layout.SPECTRA.values()]
        for future in [
            pool.submit(write_spectra, path, job.volume, partial(read, which)) for which, path in enumerate(paths)
        ]:
            future.result()


def finish(job: Job) -> None:
    """Remove the scratch folder of a job."""
    shutil.rmtree(job.scratch, ignore_errors=True)


def duration(begun: float, n_voxels: int) -> str:
    """Return the time since ``begun`` (of ``time.perf_counter``) in words, in all and per voxel."""
    seconds = time.perf_counter() - begun
    text = _in_words(seconds)
    return text if n_voxels < 2 else f"{text}, {_in_words(seconds / n_voxels)} per voxel"


def _in_words(seconds: float) -> str:
    """Return a time in its unit, with no more digits than mean anything."""
    if seconds >= 99.5:
        return f"{seconds:.0f} s"
    return f"{seconds:.3g} s" if seconds >= 0.9995 else f"{1e3 * seconds:.3g} ms"


def summary(job: Job, values: dict[str, np.ndarray], advice: str = "") -> str:
    """Return the results of a volume in words, for the terminal.

    Parameters
    ----------
    job : Job
    values : dict
        From :func:`write_results`.
    advice : str
        Last line where most spectra are out of distribution.
    """
    failed = values["failed"]
    good = (failed == 0) & (values["ood-score"] <= layout.OOD_LIMIT) & (values["usable"] > 0) & (values["doubt"] == 0)
    n_fitted, which = int((failed < 2).sum()), f"; medians over {int(good.sum())} clean ones:"
    if not good.any():
        good = (failed == 0) & (values["usable"] > 0)
        which = f", none of them clean; medians over {int(good.sum())} usable ones:"
    if not good.any():
        good = failed == 0
        which = f", none of them usable; medians over {int(good.sum())} that converged:"
    lines = [f"{n_fitted} of {len(failed)} voxels fitted{which}"]
    alone = job.scaling is not None and job.scaling.tissue is None
    lines += _medians(values, good, "/" + "+".join(job.options.internal_ref), layout.WATER_MARK * alone)
    note = reference_note(job.options.internal_ref, list(values["names"]))
    lines += [note] * bool(note)
    for value in (1, 2, 3):
        if (failed == value).any():
            lines.append(
                f"{int((failed == value).sum())} voxels: {layout.FAILED[value]} (quality/failed.nii.gz is {value}"
                " there)."
            )
    unusable = int(((values["usable"] <= 0) & (failed == 0)).sum())
    if unusable:
        lines.append(
            f"{unusable} of {n_fitted} fits leave too much of the signal unexplained (quality/usable.nii.gz is 0"
            " there, and where a fit did not converge)."
        )
    for value, reason in layout.DOUBTS.items():
        n_doubtful = int(((values["doubt"] == value) & (values["usable"] > 0)).sum())
        if n_doubtful:
            lines.append(
                f"{n_doubtful} of {n_fitted} fits are doubtful: {reason} (quality/doubt.nii.gz is {value} there)."
            )
    n_outside = int((values["ood-score"][failed < 2] > layout.OOD_LIMIT).sum())
    if n_outside:
        lines.append(
            f"{n_outside} of {n_fitted} spectra are out of distribution (quality/ood_score.nii.gz is above 1 there)."
        )
    if advice and n_outside > 0.5 * max(n_fitted, 1):
        lines.append(advice)
    return "\n".join(lines)


def _medians(values: dict[str, np.ndarray], good: np.ndarray, reference: str, mark: str = "") -> list[str]:
    """Return a table of the medians over some voxels, a line for each metabolite; ``mark`` stands behind mM."""

    def median(numbers: np.ndarray) -> float:
        return float(np.nanmedian(numbers)) if np.isfinite(numbers).any() else np.nan

    ratio, pull = values.get("conc-internal"), values.get("prior-pull", values.get("prior-share"))
    head = f"{'Metab':<10}{'conc':>10}{'%SD':>6}"
    molarity = values.get("conc-molarity")
    head += "" if ratio is None else f"{reference:>12}"
    head += "" if molarity is None else f"{f'mM{mark}':>9}"
    head += "" if pull is None else "  mostly prior"
    lines = [head, "-" * len(head)]
    for column, name in enumerate(values["names"]):
        conc, sd = (median(values[key][good, column]) for key in ("raw-concentrations", "sd"))
        line = f"{name:<10}{conc:10.4g}{sd:6.0f}"
        if ratio is not None:
            line += f"{median(ratio[good, column]):12.3f}"
        if molarity is not None:
            line += f"{median(molarity[good, column]):9.3f}"
        if pull is not None and column < pull.shape[1]:
            line += f"{100 * np.mean(pull[good, column] > layout.MOSTLY_PRIOR):11.0f} %"
        lines.append(line)
    return lines
