"""Files of a dynamic fit of a volume, in FSL-MRS's form: a folder for each voxel, and maps of free parameters."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from ..dynamic.series import DynamicFit
from ..dynamic.volume import DynamicVolume
from ..io import nifti
from .dynamic import write_tables
from .maps import Grid, write_image

__all__ = ["DynamicMaps"]

_CRITERIA = {"AIC": "AIC", "BIC": "BIC", "log evidence": "log_evidence"}


class DynamicMaps:
    """Maps of a volume's dynamic fits, collected voxel by voxel.

    Parameters
    ----------
    folder : path
        The tables of each voxel are written to ``voxels/x_y_z`` in it at once.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.places: list[tuple[int, int, int]] = []
        self.columns: dict[str, list[float]] = {}
        self.fids: list[np.ndarray] = []

    def keep(self, place: tuple[int, int, int], fit: DynamicFit) -> None:
        """Take the fit of a voxel."""
        folder = self.folder / "voxels" / "_".join(map(str, place))
        folder.mkdir(parents=True)
        write_tables(folder, fit, np.asarray(fit.mapping.time_variable))
        criteria = fit.information_criteria()
        values = {f"qc/{path}": criteria[name] for name, path in _CRITERIA.items()}
        values |= {
            "qc/noise_sd": fit.noise_outside_sd / fit.fid_scale,
            "qc/residual_sd": fit.noise_sd / fit.fid_scale,
            "qc/converged": float(fit.solution.converged),
            "qc/distance_sd": fit.solution.distance,
        }
        for name, mean, sd in zip(fit.names, fit.x, fit.sd):
            values |= {f"mean/{name}": mean, f"var/{name}": sd**2, f"sd/{name}": sd}
        for path, value in values.items():
            self.columns.setdefault(path, []).append(float(value))
        self.places.append(place)
        self.fids.append(fit.model_fids().astype(np.complex64))

    @property
    def unusable_note(self) -> str:
        """A line on voxels whose fit has not converged; empty where all have."""
        n = int(np.sum(np.array(self.columns.get("qc/converged", ())) == 0))
        if not n:
            return ""
        return (
            f"{n} of {len(self.places)} fits have not converged and are not usable (qc/converged.nii.gz is 0 there):"
            " leave these voxels out, fit fewer metabolites (`ignore`), or let `dyn_config` have fewer parameters."
        )

    def write(self, volume: DynamicVolume) -> None:
        """Write maps, zero where there is no fit, and the spectra of model and residual."""
        data = volume.data
        shape = data.fids.shape[:3]
        index = np.ravel_multi_index(tuple(np.array(self.places).T), shape)
        grid = Grid(shape, np.eye(4) if data.affine is None else data.affine, index)
        for path, values in self.columns.items():
            write_image(self.folder, grid, f"{path}.nii.gz", np.array(values))
        fids = np.zeros((*shape, *data.fids.shape[4:], data.fids.shape[3]), np.complex64)
        for place, one in zip(self.places, self.fids):
            fids[place] = (one.conj() if volume.conjugated else one).reshape(fids.shape[3:])
        fids = np.moveaxis(fids, -1, 3)
        nifti.save(self.folder / "fit.nii.gz", replace(data, fids=fids.astype(data.fids.dtype)))
        at = tuple(np.array(self.places).T)
        residual = np.zeros_like(data.fids)
        residual[at] = data.fids[at] - fids[at]
        nifti.save(self.folder / "residual.nii.gz", replace(data, fids=residual))
        lines = [f"{x} {y} {z}: {reason}" for (x, y, z), reason in sorted(volume.left_out.items())]
        if lines:
            (self.folder / "left_out.txt").write_text("\n".join([*lines, ""]), encoding="utf-8")
