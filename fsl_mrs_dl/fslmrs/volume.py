"""Values of the voxels of an MRSI volume, collected while FSL-MRS iterates over them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["VolumeMapCollector"]


class VolumeMapCollector:
    """Values of a volume's maps, collected batch by batch.

    Parameters
    ----------
    internal_ref, combine : list of str
        Internal reference, and sums written with '+'.
    estimate : str
        The one that FSL-MRS's tables hold.
    """

    def __init__(self, internal_ref: list[str], combine: list[str], estimate: str = "ml"):
        self.internal_ref, self.combine, self.estimate = internal_ref, combine, estimate
        self.parts: list[dict] = []
        self.first: Any = None  # fits of the first batch
        self.fid_scale = 1.0

    def keep(self, fits, places: list[tuple], spectra: list) -> None:
        """Add the values of one batch, whose voxels are at ``places``."""
        from ..results import maps
        from ..results.fit_results import FitResults

        if self.first is None:
            self.first, self.fid_scale = fits, float(spectra[0].scaling["FID"])
        part = maps.map_values(FitResults(fits, None, self.internal_ref, self.combine, estimate=self.estimate))
        # FSL-MRS scales each voxel's FID by itself; a model for viewers has one scale.
        scale = self.fid_scale / np.array([float(mrs.scaling["FID"]) for mrs in spectra])
        part |= _in_vivo_model(fits, scale) if fits.model.name == "in-vivo" else _model(fits, scale)
        part["place"] = np.array([tuple(place)[:3] for place in places])
        part["conjugated"] = np.array([bool(mrs.conj_FID) for mrs in spectra])
        self.parts.append(part)

    def write(self, folder: str | Path) -> None:
        """Write the maps that FSL-MRS does not make into its folder of results, and the files of viewers."""
        from ..io.images import open_image
        from ..results import layout, maps
        from ..results.fit_results import reported_names

        folder = Path(folder)
        if not self.parts or not (folder / "concs" / "raw").is_dir():
            return
        image = open_image(next((folder / "concs" / "raw").glob("*.nii.gz")))
        x, y, z = (*image.shape, 1)[:3]
        shape = (x, y, z)
        get = lambda name: np.concatenate([part[name] for part in self.parts])  # noqa: E731
        index = np.ravel_multi_index(tuple(get("place").T), shape)
        kinds = set(self.parts[0]) - _OF_MODEL - {"place", "conjugated", *_OF_WATER}
        names = reported_names(self.first.names, self.internal_ref, self.combine)
        in_vivo = self.first.model.name == "in-vivo"
        # FSL-MRS writes the shift of a group's first metabolite, and the widths of some of its models.
        grid = maps.Grid(shape, image.affine, index)
        maps.write_maps(folder, grid, kinds, get, names, ours_only=True, nuisance=in_vivo)
        about = {
            "grid": shape,
            "rows": index,
            "fid_scale": self.fid_scale,
            "conjugated": bool(get("conjugated").mean() > 0.5),
        }
        about |= {name: get(name) for name in _OF_MODEL & set(self.parts[0])} | self._of_water()
        _write_model(folder, self.first, about)
        written = {one.key for one in layout.QUANTITIES if one.key in kinds and (folder / one.path(names[0])).is_file()}
        written |= {one.key for one in layout.QUANTITIES if one.fsl_mrs and (folder / one.path(names[0])).is_file()}
        maps.write_for_viewer(
            folder, names, written | {key for key, path in layout.SPECTRA.items() if (folder / path).is_file()}
        )

    def _of_water(self) -> dict[str, np.ndarray]:
        """Return line shapes and phases that were taken from water; a batch without a fit has none."""
        out = {}
        for name, nothing in _OF_WATER.items():
            there = [part[name] for part in self.parts if name in part]
            if there:
                empty = np.full(there[0].shape[1:], nothing, np.float32)
                out[name] = np.concatenate(
                    [part.get(name, np.tile(empty, (len(part["place"]), 1))) for part in self.parts]
                )
        return out


_OF_MODEL = {"params", "cov", "noise_sd", "band"}
"""Arrays of the model for viewers."""
_OF_WATER = {"water": 1.0, "eddy_phase": 0.0}
"""The same of a water reference, with the values where there is none."""


def _model(fits, scale: np.ndarray) -> dict[str, np.ndarray]:
    """Return parameters, covariance and noise of fits whose data are multiplied by ``scale`` ``(n,)``."""
    from ..results import model_file

    params, cov = fits.params.copy(), fits.cov.copy()
    m, tail = len(fits.names), fits.model.sizes["baseline"]
    linear = [*range(m), *range(params.shape[1] - tail, params.shape[1])]
    params[:, linear] *= scale[:, None]
    cov[:, :m] *= scale[:, None, None]
    cov[:, :, :m] *= scale[:, None, None]
    return {
        "params": params.astype(np.float32),
        "cov": model_file.pack_symmetric(cov),
        "noise_sd": fits.noise_sd * scale,
    }


def _in_vivo_model(fits, scale: np.ndarray) -> dict[str, np.ndarray]:
    """Return parameters, and SDs of the fitted spectra, of fits whose data are multiplied by ``scale`` ``(n,)``."""
    from ..fitting.in_vivo.spread import fitted_sd
    from ..results import model_file

    rows = np.flatnonzero(fits.fitted)
    params, band = fits.x.copy(), np.full((len(fits.x), fits.fitted_model.window.n_window), np.nan)
    params[:, fits.fitted_model.slices["log_amp"]] += np.log(scale)[:, None]
    if len(rows):
        band[rows] = fitted_sd(fits, rows) * scale[rows, None]
    out = {"params": params, "band": band, "water": fits.water_shape, "eddy_phase": fits.eddy_phase}
    out["cov"] = model_file.pack_symmetric(fits.cov * scale[:, None, None] ** 2)
    return {name: values.astype(np.float32) for name, values in out.items() if values is not None}


def _write_model(folder: Path, fits, values: dict) -> None:
    """Write the model for viewers; ``values`` are those of its file."""
    from ..results import in_vivo_model_file, model_file

    if fits.model.name == "in-vivo":
        stored = in_vivo_model_file.StoredInVivoFits(band_hz=fits.fitted_model.window.hz, **values)
        in_vivo_model_file.write_in_vivo_model(folder, fits.signals, stored)
    else:
        model_file.write_model(folder, fits.model, fits.names, model_file.StoredFits(**values))
