"""Maps of a volume's fits: their values, and their files in FSL-MRS's folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from ..fitting.verdict import VERDICTS, verdicts
from . import layout, tables
from .fit_results import FitResults

__all__ = [
    "Grid",
    "in_order",
    "map_values",
    "write_for_viewer",
    "write_image",
    "write_maps",
    "write_misc",
    "write_summary",
]


@dataclass(frozen=True)
class Grid:
    """Places of the values of maps.

    Attributes
    ----------
    shape : (int, int, int)
        Voxels along x, y, z.
    affine : ndarray ``(4, 4)``, optional
        Of the images; None where the data have no position.
    index : int ndarray ``(n,)``
        Voxel of each value, counted with z fastest.
    """

    shape: tuple[int, int, int]
    affine: np.ndarray | None
    index: np.ndarray


_IN_VIVO = {
    "conc-ml": "conc-in-vivo",
    "ratio-ml": "ratio-in-vivo",
    "ratio-sd": "in-vivo-ratio-sd",
    "ci95-low": "in-vivo-ci95-low",
    "ci95-high": "in-vivo-ci95-high",
}
"""Maps of columns of uncertainty.csv whose estimates are the in-vivo model's, by those of the maximum of the
likelihood."""


def map_values(results: FitResults) -> dict[str, np.ndarray]:
    """Return the values of every map by its key: ``(n, len(names))`` per metabolite, ``(n,)`` per voxel."""
    fit, model = results.fit, results.fit.model
    columns = tables.metabolite_columns(results) | tables.spectrum_columns(fit)
    by_column = {one.column: one.key for one in layout.QUANTITIES if one.column}
    out = {by_column[name]: values for name, values in columns.items() if name in by_column}
    if model.name == "in-vivo":
        out = {_IN_VIVO.get(key, key): values for key, values in out.items()} | _in_vivo_values(results, out)
    out["raw-concentrations"] = results.concentrations[0]
    if results.ratios is not None:
        out["conc-internal"] = results.ratios[0]
    # FSL-MRS writes 999 % where nothing could be fitted.
    out["sd"] = np.where(fit.fitted[:, None], results.percent, 999.0)
    out["SNR"], out["FWHM"] = results.quality
    out["failed"] = np.where(fit.fitted, np.where(fit.empty, layout.NOISE, np.where(fit.converged, 0, 1)), 2)
    out["doubt"] = np.zeros(len(fit.params))
    for row, doubts in results.doubts.items():
        out["doubt"][row] = max(doubt.code for doubt in doubts)
    out["nuisance/p0"] = np.rad2deg(fit.block("phi0")[:, 0])
    out["nuisance/p1"] = -fit.block("phi1")[:, 0] / (2 * np.pi)
    parts: dict[str, np.ndarray | None] = {"shift": fit.block("eps") / (2 * np.pi * model.spec_freq_mhz)}
    parts |= {"gamma": results.widths.lorentz, "sigma": results.widths.gauss, "combined_lw": results.widths.combined}
    for part, values in parts.items():
        if values is not None:
            out |= {f"nuisance/{part}_group{group}": values[:, group] for group in range(values.shape[1])}
    with np.errstate(over="ignore"):  # an interval may end beyond the range of an image
        out = {name: np.asarray(values, np.float32) for name, values in out.items()}
    for name, values in out.items():
        if values.ndim == 2 and name != "sd":
            # Concentrations in a voxel of noise mean nothing; the parameters of its fit stay.
            values[fit.empty] = np.nan
    out["sd"][fit.empty] = 999.0
    return out


def _in_vivo_values(results: FitResults, columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the values of maps that only the in-vivo model has, from those of its columns."""
    fit, n = results.fit, len(results.fit.names)
    _, mean, sd = fit.table(results.sums, "posterior_mean")
    # The prior's share of a sum has no meaning.
    shares = {key: columns[key][:, :n] for key in ("prior-share", "between-models-share")}
    mostly_prior = shares["prior-share"] > layout.MOSTLY_PRIOR
    return {"conc-posterior": mean, "posterior-sd": sd, "mostly-prior": mostly_prior, **shares}


_OF_SPECTRUM = ("misfit", "unexplained", "ood-score", "usable")
_IN_SUMMARY = (
    "raw-concentrations",
    "conc-internal",
    "conc-molarity",
    "sd",
    "prior-pull",
    "prior-share",
    "failed",
    "doubt",
    *_OF_SPECTRUM,
)


def write_summary(folder: Path, grid: Grid, values: dict[str, np.ndarray]) -> None:
    """Write summary.csv: misfit and verdict, a line for each voxel.

    ``values`` are those that :func:`write_maps` returns.
    """
    place = np.stack(np.unravel_index(grid.index, grid.shape), 1)
    usable = np.nan_to_num(values["usable"]) > 0
    frame = pd.DataFrame(place, columns=["x", "y", "z"])
    for name in _OF_SPECTRUM:
        frame[name.replace("-", "_")] = values[name]
    frame["usable"] = usable
    words = np.array(VERDICTS)[verdicts(usable, values["unexplained"], values["ood-score"], values["doubt"] > 0)]
    frame["verdict"] = words
    frame.to_csv(folder / "summary.csv", index=False, float_format="%.4g")


def write_maps(
    folder: Path,
    grid: Grid,
    kinds: set[str],
    get: Callable[[str], np.ndarray],
    names: list[str],
    ours_only: bool = False,
    nuisance: bool = True,
) -> dict[str, np.ndarray]:
    """Write every map that there are values of; returns some of the values, for a summary.

    Parameters
    ----------
    folder : path
        Of the results.
    grid : Grid
    kinds : set of str
        Keys of :func:`map_values` that ``get`` has.
    get : callable
        Key -> values, ``(n,)`` or ``(n, n_names)``.
    names : list of str
        Metabolites and sums.
    ours_only : bool
        Leave out the maps that FSL-MRS writes itself.
    nuisance : bool
        Write phases, shifts and widths.
    """
    in_summary: dict[str, np.ndarray] = {"names": np.array(names)}
    save = partial(write_image, folder, grid)
    for one in layout.QUANTITIES:
        if one.key not in kinds or (ours_only and one.fsl_mrs):
            continue
        values = get(one.key)
        if one.key in _IN_SUMMARY:
            in_summary[one.key] = values
        if not one.per_metab:
            save(one.path(), values, one.fsl_mrs)
            continue
        for column, metab in enumerate(names[: values.shape[1]]):
            save(one.path(metab), values[:, column], one.fsl_mrs)
    for name in in_order(kinds) if nuisance else ():
        if name.startswith("nuisance/"):
            save(f"{name}.nii.gz", get(name), False)
    return in_summary


def in_order(kinds: set[str]) -> list[str]:
    """Return the keys of :func:`map_values` among some names, in the order in which :func:`write_maps` reads their
    values."""
    first = [one.key for one in layout.QUANTITIES if one.key in kinds]
    return first + sorted(name for name in kinds if name.startswith("nuisance/"))


def write_image(folder: Path, grid: Grid, name: str, values: np.ndarray, clean: bool = False) -> None:
    """Write one image; zero where there is no value, and, as FSL-MRS cleans its maps, where ``clean`` and a value is
    negative or huge."""
    import nibabel

    image = np.zeros(int(np.prod(grid.shape)), np.float32)
    # A ratio to a reference of zero has no value.
    image[grid.index] = np.nan_to_num(values, posinf=0, neginf=0)
    if clean:
        image[(image < 1e-10) | (image > 1e10)] = 0
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(image.reshape(grid.shape), grid.affine), path)


def write_misc(folder: Path, model, parameters: list[str], fitted: list[str], names: list[str]) -> None:
    """Write FSL-MRS's misc folder: names of metabolites, groups and parameters."""
    misc = folder / "misc"
    misc.mkdir()
    groups = {
        group: [name for name, number in zip(fitted, model.groups) if number == group]
        for group in range(model.n_groups)
    }
    (misc / "metabolite_groups.json").write_text(json.dumps(groups), encoding="utf-8")
    about = {
        "parameters": parameters,
        "parameters_inc_comb": [*parameters, *names[len(fitted) :]],
        "metabolites": fitted,
        "metabolites_inc_comb": names,
    }
    (misc / "mrs_fit_parameters.json").write_text(json.dumps(about), encoding="utf-8")


def write_for_viewer(folder: Path, names: list[str], written: set[str]) -> None:
    """Write the file tree and the colours of a viewer; ``written`` are the keys of quantities and spectra in the
    folder."""
    (folder / layout.TREE).write_text(layout.tree_text(written), encoding="utf-8")
    (folder / layout.COLOURS).write_text(layout.colourscheme_text(), encoding="utf-8")
    for metab in names:
        link = folder / layout.OF_VOXEL.format(metab=metab).rstrip("/")
        link.parent.mkdir(parents=True, exist_ok=True)
        try:
            link.symlink_to(Path("../../quality"), target_is_directory=True)
        except OSError:  # a file system without links
            shutil.copytree(folder / "quality", link)
