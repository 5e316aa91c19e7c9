"""The fitted model of one voxel of a results folder, evaluated with NumPy alone, so that viewers need not load torch.

The folder ``misc/dl_model`` contains the model's settings, its basis set, and the parameters of every voxel with their
covariance.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..core import units
from ..core.errors import DataError
from ..core.metabolites import name_among
from . import layout
from .in_vivo_model_file import InVivoEvaluator
from .stored_voxels import places_of, row_at

__all__ = ["Evaluator", "StoredFits", "pack_symmetric", "unpack_symmetric", "write_model"]


@dataclass(frozen=True)
class StoredFits:
    """The fits of a volume as they are stored for viewers.

    Attributes
    ----------
    grid : (int, int, int)
        Voxels along x, y, z.
    rows : int ndarray ``(n,)``
        Voxel of each fit, counted with z fastest.
    params : ndarray ``(n, n_params)``
        FSL-MRS's parameter vectors, in the units of the scaled data.
    cov : ndarray ``(n, k (k + 1) / 2)``
        Their covariance as :func:`pack_symmetric` returns it.
    noise_sd : ndarray ``(n,)``
        SD per real channel of the residual of the scaled spectrum, which counts as noise.
    fid_scale : float
        Factor of the data before the fit.
    conjugated : bool
        Whether the data were conjugated before the fit.
    """

    grid: tuple[int, int, int]
    rows: np.ndarray
    params: np.ndarray
    cov: np.ndarray
    noise_sd: np.ndarray
    fid_scale: float
    conjugated: bool


def pack_symmetric(cov: np.ndarray) -> np.ndarray:
    """Return the lower triangles of symmetric matrices ``(n, k, k)`` in single precision, ``(n, k (k + 1) / 2)``."""
    with np.errstate(over="ignore"):  # an undetermined variance may exceed single precision
        return cov[(slice(None), *np.tril_indices(cov.shape[-1]))].astype(np.float32)


def unpack_symmetric(triangle: np.ndarray, k: int) -> np.ndarray:
    """Return the symmetric matrix ``(k, k)`` of a lower triangle ``(k (k + 1) / 2,)``."""
    out = np.zeros((k, k))
    rows, columns = np.tril_indices(k)
    out[rows, columns] = out[columns, rows] = triangle
    return out


def write_model(folder: Path, model, names: list[str], fits: StoredFits) -> None:
    """Write the files of :class:`Evaluator`.

    Parameters
    ----------
    folder : path
        Of the results; ``misc/dl_model`` is created in it.
    model : SignalModel
    names : list of str
        Metabolites.
    fits : StoredFits
    """
    target = folder / layout.MODEL
    target.mkdir(parents=True)
    about = {
        "names": list(names),
        "groups": list(model.groups),
        "model": model.name,
        "gaussian": model.shape.gaussian,
        "free_shift": model.shape.free_shift,
        "dwelltime": model.dwelltime,
        "spec_freq_mhz": model.spec_freq_mhz,
        "nucleus": model.nucleus,
        "window": list(model.window),
        "baseline": str(model.baseline),
        "fid_scale": fits.fid_scale,
        "conjugated": bool(fits.conjugated),
        "grid": [int(size) for size in fits.grid],
        "units": "conc: data times fid_scale over basis.npy; gamma, sigma 1/s; eps rad/s; phi0 rad; phi1 rad/Hz",
    }
    (target / "model.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    arrays = {
        "basis": model.basis.cpu().numpy().astype(np.complex64),
        "projector_u": model.projector_u.real.cpu().numpy().astype(np.float32),
        "projector_d": model.projector_d.cpu().numpy().astype(np.float32),
        "rows": np.asarray(fits.rows, np.int32),
        "params": np.asarray(fits.params, np.float32),
        "cov": fits.cov,
        "noise_sd": np.asarray(fits.noise_sd, np.float32),
    }
    for name, values in arrays.items():
        np.save(target / f"{name}.npy", values)


@dataclass
class Evaluator:
    """The model of a results folder; see :meth:`open`."""

    about: dict
    arrays: dict

    @classmethod
    def open(cls, results: str | Path) -> Evaluator | InVivoEvaluator | None:
        """Return the model of a folder of results, FSL-MRS's or the in-vivo one; None where the folder has none, as
        those of FSL-MRS.

        Raises
        ------
        DataError
            If the model cannot be read.
        """
        folder = Path(results) / layout.MODEL
        if not folder.is_dir():
            return None
        try:
            about = json.loads((folder / "model.json").read_text(encoding="utf-8-sig"))
            if about["model"] == "in-vivo":
                return InVivoEvaluator.read(folder, about)
            names = ("basis", "projector_u", "projector_d", "rows", "params", "cov", "noise_sd")
            arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in names}
            place = places_of(about["grid"], arrays["rows"])
        except (OSError, ValueError, KeyError, IndexError, TypeError) as exc:
            raise DataError(f"{folder}: cannot be read ({exc})", remedy="make the results again") from exc
        return cls(about, {**arrays, "place": place})

    @property
    def names(self) -> list[str]:
        """Metabolites that were fitted."""
        return self.about["names"]

    def _blocks(self, row: int) -> dict[str, np.ndarray]:
        """Return concentrations, and width and shift of every metabolite; phases."""
        values = np.asarray(self.arrays["params"][row], float)
        groups = np.asarray(self.about["groups"])
        n, g = len(groups), int(groups.max()) + 1
        conc, gamma, at = values[:n], values[n : n + g][groups], n + g
        sigma = np.zeros(n)
        if self.about["gaussian"]:
            sigma, at = values[at : at + g][groups], at + g
        if self.about["free_shift"]:
            eps, at = values[at : at + n], at + n
        else:
            eps, at = values[at : at + g][groups], at + g
        return {"conc": conc, "gamma": gamma, "sigma": sigma, "eps": eps, "phi0": values[at], "phi1": values[at + 1]}

    def _fids(self, blocks: dict, which=slice(None)) -> np.ndarray:
        """Return FIDs of the metabolites at a concentration of one, complex ``(n, n_points)``."""
        basis = np.asarray(self.arrays["basis"][which], complex)
        time = units.time_axis(basis.shape[-1], self.about["dwelltime"])
        gamma, sigma, eps = (blocks[name][which][:, None] for name in ("gamma", "sigma", "eps"))
        return basis * np.exp(-(1j * eps + gamma + sigma**2 * time) * time)

    def _phase(self, blocks: dict, n_points: int) -> np.ndarray:
        """Return the phase factor of every spectral point, complex ``(n_points,)``."""
        return np.exp(-1j * (blocks["phi0"] + blocks["phi1"] * units.frequency_axis(n_points, self.about["dwelltime"])))

    def contribution(self, voxel: tuple[int, int, int], metab: str) -> np.ndarray | None:
        """Return a metabolite's part of the fit, as ``fit/fit.nii.gz`` stores FIDs: complex ``(n_points,)``; None
        where nothing was fitted.

        ``metab`` may be a sum written with '+'.

        Raises
        ------
        DataError
            If the metabolite was not fitted.
        """
        which = []
        for name in metab.split("+"):
            member = name_among(name, self.names)
            if member is None:
                raise DataError(f"metabolite {name}: was not fitted", remedy=f"choose one of {', '.join(self.names)}")
            which.append(self.names.index(member))
        row = row_at(voxel, self.arrays["place"], self.arrays["params"])
        if row is None:
            return None
        blocks = self._blocks(row)
        fid = blocks["conc"][which] @ self._fids(blocks, which)
        fid = units.spec_to_fid(units.fid_to_spec(fid) * self._phase(blocks, len(fid))) / self.about["fid_scale"]
        # Files store the conjugate of the FIDs in memory.
        return fid if self.about["conjugated"] else fid.conj()

    def band(self, voxel: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray] | None:
        """Return the SD of the fitted spectrum, baseline included.

        Returns
        -------
        hz, sd : ndarray ``(n_window,)``
            Offsets from the spectrometer frequency, ascending, and the SD of the real spectrum there, in the scale of
            ``np.fft.fft(fid)`` with the file's FIDs.  None where nothing was fitted, or no variance is finite.
        """
        row = row_at(voxel, self.arrays["place"], self.arrays["params"])
        if row is None:
            return None
        first, last = self.about["window"]
        blocks = self._blocks(row)
        fids = self._fids(blocks)
        n_points = fids.shape[-1]
        time = units.time_axis(n_points, self.about["dwelltime"])
        groups = np.asarray(self.about["groups"])
        n_groups = int(groups.max()) + 1
        weighted = blocks["conc"][:, None] * fids
        by_group = np.zeros((n_groups, n_points), complex)
        np.add.at(by_group, groups, weighted)
        parts = [fids, -by_group * time]
        if self.about["gaussian"]:
            parts.append(-by_group * time**2)
        parts.append(-1j * (weighted if self.about["free_shift"] else by_group) * time)
        total = by_group.sum(0)
        spec = units.fid_to_spec(np.concatenate([*parts, -1j * total[None]]))
        spec = np.concatenate([spec, spec[-1:] * units.frequency_axis(n_points, self.about["dwelltime"])])
        spec = (spec * self._phase(blocks, n_points))[:, first:last]
        u, d = np.asarray(self.arrays["projector_u"], float), np.asarray(self.arrays["projector_d"], float)
        if d.size:
            spec = spec - (spec @ u * d) @ u.T
        cov = unpack_symmetric(np.asarray(self.arrays["cov"][row], float), len(spec))
        is_finite = np.isfinite(cov).all(0)
        cov = np.where(np.isfinite(cov), cov, 0.0)
        if not is_finite.any():
            return None
        variance = np.einsum("ki,kl,li->i", spec.real, cov, spec.real)
        if d.size:
            # The baseline takes up a part of the noise.
            variance = variance + (u**2 @ d) * float(self.arrays["noise_sd"][row]) ** 2
        sd = np.sqrt(np.clip(variance, 0, None)) * np.sqrt(n_points) / self.about["fid_scale"]
        hz = (np.arange(first, last) - n_points // 2) / (n_points * self.about["dwelltime"])
        return (-hz[::-1], sd[::-1]) if self.about["conjugated"] else (hz, sd)
