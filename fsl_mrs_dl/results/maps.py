"""Maps of a volume's fits: what they show, and their files in FSL-MRS's folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from . import layout, tables

__all__ = ["Grid", "values_of", "all_names", "write", "write_misc", "write_for_viewer"]


@dataclass(frozen=True)
class Grid:
    """Where the values of maps belong: ``shape`` (x, y, z), ``affine``, and the voxels ``index`` ``(n,)``, counted with
    z fastest."""

    shape: tuple[int, int, int]
    affine: np.ndarray
    index: np.ndarray


def values_of(whole: tables.FitResults) -> dict[str, np.ndarray]:
    """Values of every map: those of a metabolite ``(n, len(names))``, of a voxel ``(n,)``, by the map's key."""
    fit, model = whole.fit, whole.fit.model
    columns, voxels = whole.estimates(), whole.per_spectrum()
    by_column = {one.column: one.key for one in layout.QUANTITIES if one.column}
    out = {by_column[name]: values for name, values in (columns | voxels).items() if name in by_column}
    out["raw-concentrations"] = whole.table[0]
    if whole.reference is not None:
        out["conc-internal"] = whole.ratios[0]
    # As FSL-MRS has it: what is not known at all has 999 %.
    out["sd"] = np.where(fit.usable[:, None], whole.percent(), 999.0)
    out["SNR"], out["FWHM"] = whole.quality
    out["failed"] = np.where(fit.usable, np.where(fit.empty, layout.NOISE, np.where(fit.converged, 0, 1)), 2)
    out["nuisance/p0"] = np.rad2deg(fit.block("phi0")[:, 0])
    out["nuisance/p1"] = -fit.block("phi1")[:, 0] / (2 * np.pi)
    parts = {"shift": fit.block("eps") / (2 * np.pi * model.spec_freq_mhz)}
    parts |= {"gamma": whole.widths.lorentz, "sigma": whole.widths.gauss, "combined_lw": whole.widths.combined}
    for part, values in parts.items():
        if values is not None:
            out |= {f"nuisance/{part}_group{group}": values[:, group] for group in range(values.shape[1])}
    with np.errstate(over="ignore"):  # an interval may end beyond all that an image can hold
        out = {name: np.asarray(values, np.float32) for name, values in out.items()}
    for name, values in out.items():
        if values.ndim == 2 and name != "sd":
            # What is found in noise is nothing to be shown; how it was fitted is.
            values[fit.empty] = np.nan
    out["sd"][fit.empty] = 999.0
    return out


class _Names:
    """In place of fits that are not at hand: what their metabolites are called."""

    def __init__(self, names: list[str]):
        self.names = names


def all_names(fitted: list[str], internal_ref, combine) -> list[str]:
    """Metabolites, then the sums that are reported, as :class:`fsl_mrs_dl.results.tables.FitResults` has them."""
    return tables.FitResults(_Names(fitted), tables.row_data(), list(internal_ref), list(combine)).names


_FOR_SUMMARY = ("raw-concentrations", "conc-internal", "sd", "prior-pull", "failed", "ood-score")


def write(
    folder: Path,
    grid: Grid,
    kinds: set[str],
    get: Callable[[str], np.ndarray],
    names: list[str],
    ours_only: bool = False,
) -> dict[str, np.ndarray]:
    """Write every map that there are values of; some of the values, for a summary.

    Parameters
    ----------
    folder : path
        Of the results.
    grid : Grid
    kinds : set of str
        Keys of :func:`values_of` that ``get`` has.
    get : callable
        Key -> values, ``(n,)`` or ``(n, n_names)``.
    names : list of str
        Metabolites and sums.
    ours_only : bool
        Leave out what FSL-MRS writes itself.
    """
    seen: dict[str, np.ndarray] = {"names": np.array(names)}
    save = partial(_write_map, folder, grid)
    for one in layout.QUANTITIES:
        if one.key not in kinds or (ours_only and one.fsl_mrs):
            continue
        values = get(one.key)
        if one.key in _FOR_SUMMARY:
            seen[one.key] = values
        if not one.per_metab:
            save(one.path(), values, one.fsl_mrs)
            continue
        for column, metab in enumerate(names[: values.shape[1]]):
            save(one.path(metab), values[:, column], one.fsl_mrs)
    for name in kinds if not ours_only else ():
        if name.startswith("nuisance/"):
            save(f"{name}.nii.gz", get(name), False)
    return seen


def _write_map(folder: Path, grid: Grid, name: str, values: np.ndarray, clean: bool) -> None:
    """One image; zero where there is nothing, and, where FSL-MRS cleans its maps, where a value is negative or beyond
    all reason."""
    import nibabel

    image = np.zeros(int(np.prod(grid.shape)), np.float32)
    # A ratio to a reference of which nothing was found has no value.
    image[grid.index] = np.nan_to_num(values, posinf=0, neginf=0)
    if clean:
        image[(image < 1e-10) | (image > 1e10)] = 0
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(image.reshape(grid.shape), grid.affine), path)


def write_misc(folder: Path, model, fitted: list[str], names: list[str]) -> None:
    """FSL-MRS's misc folder."""
    misc = folder / "misc"
    misc.mkdir()
    groups = {
        group: [name for name, own in zip(fitted, model.groups) if own == group] for group in range(model.n_groups)
    }
    (misc / "metabolite_groups.json").write_text(json.dumps(groups))
    parameters = model.parameter_names(fitted)
    about = {
        "parameters": parameters,
        "parameters_inc_comb": [*parameters, *names[len(fitted) :]],
        "metabolites": fitted,
        "metabolites_inc_comb": names,
    }
    (misc / "mrs_fit_parameters.json").write_text(json.dumps(about))


def write_for_viewer(folder: Path, names: list[str], written: set[str]) -> None:
    """The file tree and the colours that the viewer reads; ``written`` are keys of quantities and spectra that are
    there."""
    (folder / layout.TREE).write_text(layout.tree_text(written))
    (folder / layout.COLOURS).write_text(layout.colourscheme_text())
    for metab in names:
        link = folder / layout.OF_VOXEL.format(metab=metab).rstrip("/")
        link.parent.mkdir(parents=True, exist_ok=True)
        try:
            link.symlink_to(Path("../../quality"), target_is_directory=True)
        except OSError:  # a file system without links
            shutil.copytree(folder / "quality", link)
