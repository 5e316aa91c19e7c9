"""Values of the voxels of an MRSI volume, collected while FSL-MRS iterates over them."""

from __future__ import annotations

from pathlib import Path

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
        self.model, self.names, self.fid_scale = None, None, 1.0

    def keep(self, fits, places: list[tuple], spectra: list) -> None:
        """Add the values of one batch, whose voxels are at ``places``."""
        from ..results import maps, model_file
        from ..results.fit_results import FitResults

        if self.model is None:
            self.model, self.names, self.fid_scale = fits.model, list(fits.names), float(spectra[0].scaling["FID"])
        part = maps.map_values(FitResults(fits, None, self.internal_ref, self.combine, estimate=self.estimate))
        # FSL-MRS scales each voxel's FID by itself; a model for viewers has one scale.
        scale = self.fid_scale / np.array([float(mrs.scaling["FID"]) for mrs in spectra])
        params, cov = fits.params.copy(), fits.cov.copy()
        m, tail = len(fits.names), fits.model.sizes["baseline"]
        linear = [*range(m), *range(params.shape[1] - tail, params.shape[1])]
        params[:, linear] *= scale[:, None]
        cov[:, :m] *= scale[:, None, None]
        cov[:, :, :m] *= scale[:, None, None]
        part |= {
            "params": params.astype(np.float32),
            "cov": model_file.pack_symmetric(cov),
            "noise": fits.noise_sd * scale,
        }
        part["place"] = np.array([tuple(place)[:3] for place in places])
        part["conjugated"] = np.array([bool(mrs.conj_FID) for mrs in spectra])
        self.parts.append(part)

    def write(self, folder: str | Path) -> None:
        """Write the maps that FSL-MRS does not make into its folder of results, and the files of viewers."""
        from ..results import layout, maps, model_file
        from ..results.fit_results import reported_names

        folder = Path(folder)
        if not self.parts or not (folder / "concs" / "raw").is_dir():
            return
        import nibabel

        image = nibabel.load(next((folder / "concs" / "raw").glob("*.nii.gz")))
        shape = (*image.shape, 1)[:3]
        get = lambda name: np.concatenate([part[name] for part in self.parts])  # noqa: E731
        index = np.ravel_multi_index(tuple(get("place").T), shape)
        kinds = set(self.parts[0]) - {"params", "cov", "noise", "place", "conjugated"}
        names = reported_names(self.names, self.internal_ref, self.combine)
        maps.write_maps(folder, maps.Grid(shape, image.affine, index), kinds, get, names, ours_only=True)
        fits = model_file.StoredFits(
            grid=shape,
            rows=index,
            params=get("params"),
            cov=get("cov"),
            noise_sd=get("noise"),
            fid_scale=self.fid_scale,
            conjugated=bool(get("conjugated").mean() > 0.5),
        )
        model_file.write_model(folder, self.model, self.names, fits)
        written = {one.key for one in layout.QUANTITIES if one.key in kinds and (folder / one.path(names[0])).is_file()}
        written |= {one.key for one in layout.QUANTITIES if one.fsl_mrs and (folder / one.path(names[0])).is_file()}
        maps.write_for_viewer(
            folder, names, written | {key for key, path in layout.SPECTRA.items() if (folder / path).is_file()}
        )
