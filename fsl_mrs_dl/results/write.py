"""Files of a fit in FSL-MRS's layout: tables, spectra, picture and maps."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np

from ..fitting.in_vivo.result import InVivoFit
from ..fitting.in_vivo.spread import fitted_sd
from ..io import nifti
from ..io.basis import Basis
from . import in_vivo_model_file, model_file, tables
from .edited import write_edited
from .fit_results import FitResults

__all__ = ["model_data", "write_fit", "write_inputs", "write_maps"]

# Larger data are linked, not copied.
_LARGEST_COPY = 64 * 2**20


def write_fit(
    folder: Path, results: FitResults, *, options: str, filename: str = "fit", export: tuple[str, ...] = ()
) -> None:
    """Write every file of a fit into a folder.

    Parameters
    ----------
    folder : path
    results : FitResults
    options : str
        Content of options.txt.
    filename : str
        Name of the file of fitted spectra, without extension.
    export : tuple of str
        Further spectra to write: 'baseline', 'no_baseline', 'separate'.
    """
    from .figures import fit_summary
    from .series_figure import series_figure

    tables.summary_table(results).to_csv(folder / "summary.csv", index=False)
    tables.concentration_table(results).to_csv(folder / "concentrations.csv", index=False)
    tables.qc_table(results).to_csv(folder / "qc.csv", index=False)
    tables.parameter_table(results).to_csv(folder / "all_parameters.csv", index=False)
    tables.uncertainty_table(results).to_csv(folder / "uncertainty.csv", index=False)
    if results.absolute is not None:
        tables.budget_table(results).to_csv(folder / "concentration_budget.csv", index=False)
        tables.quantification_info(results).to_csv(folder / "quantification_info.csv")
    (folder / "options.txt").write_text(options, encoding="utf-8")
    for ending, what in _spectra(results, export).items():
        nifti.save(folder / f"{filename}{ending}.nii.gz", model_data(results, what))
    fit_summary(results, folder / "fit_summary.png")
    if results.is_series:
        series_figure(results, folder / "series.png")
    assert results.data is not None
    grid = results.data.fids.shape[:3]
    if len(results.fit.params) == np.prod(grid):
        _write_model(folder, results, grid)
    if results.edited is not None:
        write_edited(folder, results, results.edited)
    if max(grid) > 1:
        write_maps(folder / "maps", results)


def write_inputs(folder: Path, final: Path, source: Path, data: nifti.MrsData | None, basis: Basis) -> None:
    """Write the basis set as it was fitted, and the data, for programs that read results.

    Data are copied, so that the folder may be moved; a large file is linked instead, relative to the folder.

    Parameters
    ----------
    folder, final : path
        Where the folder is written, and where it will be.
    source : path
        File of the data.
    data : MrsData, optional
        Data that were fitted where the file holds others: averaged, or repaired when they were read.
    basis : Basis
    """
    basis.save(folder / "basis", info="The basis set of a fit.")
    source = source.resolve()
    if data is not None:
        nifti.save(folder / "data.nii.gz", data)
        return
    target = folder / ("data.nii.gz" if source.name.lower().endswith(".gz") else "data.nii")
    if source.stat().st_size <= _LARGEST_COPY:
        shutil.copyfile(source, target)
    else:
        target.symlink_to(os.path.relpath(source, final.resolve()))


def model_data(results: FitResults, what: str = "full") -> nifti.MrsData:
    """Return FIDs of the model, or of the part ``what`` of it, in shape, scale and orientation of the data file."""
    return results.as_data(results.fit.model_fids(what))


def write_maps(folder: Path, results: FitResults) -> None:
    """Write uncertainty.csv as images: ``<column>/<metabolite>.nii.gz``, ``<column>.nii.gz`` for values of a voxel."""
    import nibabel

    folder.mkdir()
    data = results.data
    assert data is not None
    shape = data.fids.shape
    grid = (*shape[:3], *(size for size in shape[4:] if size > 1))
    fitted = results.fit.fitted

    def save(path: Path, values: np.ndarray, everywhere: bool = False) -> None:
        # A spectrum that could not be fitted has no marks either.
        with np.errstate(over="ignore"):  # an interval may end beyond the range of an image
            values = np.where(fitted | everywhere, np.asarray(values, float), np.nan).astype(np.float32)
        nibabel.save(nibabel.Nifti1Image(values.reshape(grid), data.affine), path)

    for name, values in tables.metabolite_columns(results).items():
        (folder / name).mkdir()
        for column, metab in enumerate(results.names):
            save(folder / name / f"{metab}.nii.gz", values[:, column])
    for name, values in tables.spectrum_columns(results.fit).items():
        save(folder / f"{name}.nii.gz", values, everywhere=name in ("fitted", "usable", "converged"))


def _spectra(results: FitResults, export: tuple[str, ...]) -> dict[str, str]:
    """Return the parts of the model to write, by the end of their files' names."""
    parts = {"": "full"}
    if "baseline" in export or len(results.fit.params) == 1:
        parts["_baseline"] = "baseline"
    if "no_baseline" in export:
        parts["_no_baseline"] = "no baseline"
    if "separate" in export:
        parts |= {f"_{name}": name for name in results.fit.names}
    return parts


def _write_model(folder: Path, results: FitResults, grid: tuple[int, int, int]) -> None:
    """Write the fitted model of every voxel, for viewers."""
    fit = results.fit
    rows = np.flatnonzero(fit.fitted)
    if isinstance(fit, InVivoFit):
        stored_in_vivo = in_vivo_model_file.StoredInVivoFits(
            grid=grid,
            rows=rows,
            params=fit.x[rows],
            band=fitted_sd(fit, rows),
            band_hz=fit.fitted_model.window.hz,
            fid_scale=fit.fid_scale,
            conjugated=results.conjugated,
            water=None if fit.water_shape is None else fit.water_shape[rows],
            eddy_phase=None if fit.eddy_phase is None else fit.eddy_phase[rows],
            cov=model_file.pack_symmetric(fit.cov[rows]),
        )
        in_vivo_model_file.write_in_vivo_model(folder, fit.signals, stored_in_vivo)
        return
    stored = model_file.StoredFits(
        grid=grid,
        rows=rows,
        params=fit.params[rows],
        cov=model_file.pack_symmetric(fit.cov[rows]),
        noise_sd=fit.noise_sd[rows],
        fid_scale=fit.fid_scale,
        conjugated=results.conjugated,
    )
    model_file.write_model(folder, fit.model, fit.names, stored)
