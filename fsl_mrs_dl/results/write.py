"""Results written as a folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..io import nifti
from . import model_file
from .tables import FitResults

__all__ = ["write_fit", "write_maps"]


def write_fit(
    folder: Path, results: FitResults, *, options: str, filename: str = "fit", export: tuple[str, ...] = ()
) -> None:
    """Write every file of a fit into ``folder``; ``export`` names further spectra, 'baseline', 'no_baseline',
    'separate'."""
    from .figures import fit_summary

    results.summary().to_csv(folder / "summary.csv", index=False)
    results.concentrations().to_csv(folder / "concentrations.csv", index=False)
    results.qc().to_csv(folder / "qc.csv", index=False)
    results.parameters().to_csv(folder / "all_parameters.csv", index=False)
    results.uncertainties().to_csv(folder / "uncertainty.csv", index=False)
    (folder / "options.txt").write_text(options)
    wanted = {"": "full"}
    if "baseline" in export or len(results.fit.params) == 1:
        wanted["_baseline"] = "baseline"
    if "no_baseline" in export:
        wanted["_no_baseline"] = "no baseline"
    if "separate" in export:
        wanted |= {f"_{name}": name for name in results.fit.names}
    for ending, what in wanted.items():
        nifti.save(folder / f"{filename}{ending}.nii.gz", results.fid_file(what))
    fit_summary(results, folder / "fit_summary.png")
    fit, grid = results.fit, results.data.fids.shape[:3]
    if len(fit.params) == np.prod(grid):
        rows = np.flatnonzero(fit.usable)
        model_file.write_model(
            folder,
            fit.model,
            fit.names,
            grid=grid,
            fid_scale=fit.fid_scale,
            conjugated=results.conjugated,
            rows=rows,
            params=fit.params[rows],
            cov=model_file.packed(fit.cov[rows]),
            noise_sd=fit.noise_sd[rows],
        )
    if max(results.data.fids.shape[:3]) > 1:
        write_maps(folder / "maps", results)


_OF_SPECTRUM = (
    "noise_sd",
    "misfit",
    "ood_score",
    "ood_residual",
    "ood_latent",
    "ood_network",
    "converged",
    "usable",
    "n_iter",
)


def write_maps(folder: Path, results: FitResults) -> None:
    """Images of what is in uncertainty.csv: ``<quantity>/<metabolite>.nii.gz``, and ``<quantity>.nii.gz`` of what a
    voxel has once."""
    import nibabel

    folder.mkdir()
    shape = results.data.fids.shape
    grid = (*shape[:3], *(size for size in shape[4:] if size > 1))
    frame = results.uncertainties().drop(columns=["Metab", *results.index.columns])
    m = len(results.names)
    usable = frame["usable"].to_numpy()[::m]

    def save(path: Path, values, everywhere: bool = False) -> None:
        # What could not be fitted has no marks either.
        with np.errstate(over="ignore"):  # an interval may end beyond all that an image can hold
            values = np.where(usable | everywhere, np.asarray(values, float), np.nan).astype(np.float32)
        nibabel.save(nibabel.Nifti1Image(values.reshape(grid), results.data.affine), path)

    for name in frame:
        if name in _OF_SPECTRUM:
            save(folder / f"{name}.nii.gz", frame[name].to_numpy()[::m], name in ("usable", "converged"))
            continue
        (folder / name).mkdir()
        for column, metab in enumerate(results.names):
            save(folder / name / f"{metab}.nii.gz", frame[name].to_numpy()[column::m])
