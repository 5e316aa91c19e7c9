"""The in-vivo model of a results folder, evaluated with NumPy alone, so that viewers need not load torch.

The folder ``misc/dl_model`` contains the components of the study, the parameters of every voxel, the covariance of its
concentrations, and the SD of its fitted spectrum, which is a hundred times smaller than the covariance of all its
parameters.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ..core import units
from ..core.axes import Axes
from ..core.errors import DataError
from ..core.metabolites import name_among
from ..physics.in_vivo_signals import InVivoSignals
from . import layout
from .stored_voxels import places_of, row_at

__all__ = ["InVivoEvaluator", "StoredInVivoFits", "write_in_vivo_model"]

_ARRAYS = ("components", "gauss", "shape_hz", "rows", "params", "band", "band_hz")
_OPTIONAL = ("water", "eddy_phase", "cov")


@dataclass(frozen=True)
class StoredInVivoFits:
    """In vivo fits of a volume as they are stored for viewers.

    Attributes
    ----------
    grid : (int, int, int)
        Voxels along x, y, z.
    rows : int ndarray ``(n,)``
        Voxel of each fit, counted with z fastest.
    params : ndarray ``(n, n_params)``
        Parameter vectors of the model, see :class:`fsl_mrs_dl.physics.in_vivo_signals.InVivoSignals`.
    band : ndarray ``(n, n_window)``
        SD of the real part of ``numpy.fft.fft`` of the scaled FID of the fit.
    band_hz : ndarray ``(n_window,)``
        Offsets from the carrier of its points, ascending.
    fid_scale : float
        Factor of the data before the fit.
    conjugated : bool
        Whether the data were conjugated before the fit.
    water : ndarray ``(n, n_points)``, optional
        Line shapes that were taken from water.
    eddy_phase : ndarray ``(n, n_points)``, optional
        Phase of eddy currents (rad) that was taken out of the data before the fit.
    cov : ndarray ``(n, k (k + 1) / 2)``, optional
        Covariance of the ``k`` concentrations, in the units of the scaled data, as
        :func:`fsl_mrs_dl.results.model_file.pack_symmetric` returns it.
    """

    grid: tuple[int, int, int]
    rows: np.ndarray
    params: np.ndarray
    band: np.ndarray
    band_hz: np.ndarray
    fid_scale: float
    conjugated: bool
    water: np.ndarray | None = None
    eddy_phase: np.ndarray | None = None
    cov: np.ndarray | None = None


def write_in_vivo_model(folder: Path, signals: InVivoSignals, fits: StoredInVivoFits) -> None:
    """Write the files of :class:`InVivoEvaluator`.

    Parameters
    ----------
    folder : path
        Of the results; ``misc/dl_model`` is created in it.
    signals : InVivoSignals
    fits : StoredInVivoFits
    """
    target = folder / layout.MODEL
    target.mkdir(parents=True)
    about = {
        "model": "in-vivo",
        "names": signals.concentration_names,
        "components": list(signals.names),
        "n_linear": signals.n_linear,
        "slices": {name: [int(first), int(last)] for name, (first, last) in signals.slices.items()},
        "pivot": signals.pivot,
        "least_gamma": signals.least_gamma,
        "axes": asdict(signals.axes),
        "fid_scale": fits.fid_scale,
        "conjugated": bool(fits.conjugated),
        "grid": [int(size) for size in fits.grid],
        "units": "log_amp: log of data times fid_scale over components.npy; shifts Hz, damping 1/s, phi0 rad, phi1"
        " rad/Hz about pivot (Hz); band: SD of the real part of the FFT of data times fid_scale; cov: of the"
        " concentrations",
    }
    (target / "model.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    arrays = {
        "components": signals.fids.astype(np.complex64),
        "gauss": signals.gauss,
        "shape_hz": signals.shape_hz,
        "rows": np.asarray(fits.rows, np.int32),
        "params": np.asarray(fits.params, np.float32),
        "band": np.asarray(fits.band, np.float32),
        "band_hz": fits.band_hz,
    }
    for name in _OPTIONAL:
        values = getattr(fits, name)
        if values is not None:
            arrays[name] = values.astype(np.float32)
    for name, values in arrays.items():
        np.save(target / f"{name}.npy", values)


@dataclass
class InVivoEvaluator:
    """The in-vivo model of a results folder; opened by :meth:`fsl_mrs_dl.results.model_file.Evaluator.open`."""

    about: dict
    arrays: dict

    @classmethod
    def read(cls, folder: Path, about: dict) -> InVivoEvaluator:
        """Return the model of a folder ``misc/dl_model``, whose ``model.json`` holds ``about``.

        Raises
        ------
        OSError, ValueError, KeyError, IndexError, TypeError
            If it is incomplete.
        """
        names = [*_ARRAYS, *(name for name in _OPTIONAL if (folder / f"{name}.npy").is_file())]
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in names}
        place = places_of(about["grid"], arrays["rows"])
        evaluator = cls(about, {**arrays, "place": place})
        if len(evaluator.signals.fids) != len(evaluator.signals.names):
            raise ValueError("components and their names differ in number")
        return evaluator

    @property
    def names(self) -> list[str]:
        """Metabolites and lipids that were fitted, and the sum of macromolecules."""
        return self.about["names"]

    @property
    def signals(self) -> InVivoSignals:
        """Signals of the study."""
        about = self.about
        return InVivoSignals(
            names=tuple(about["components"]),
            n_linear=about["n_linear"],
            fids=self.arrays["components"],
            gauss=np.asarray(self.arrays["gauss"]),
            shape_hz=np.asarray(self.arrays["shape_hz"]),
            slices={name: tuple(block) for name, block in about["slices"].items()},
            pivot=about["pivot"],
            least_gamma=about["least_gamma"],
            axes=Axes(**about["axes"]),
        )

    def contribution(self, voxel: tuple[int, int, int], metab: str) -> np.ndarray | None:
        """Return a metabolite's part of the fit, as ``fit/fit.nii.gz`` stores FIDs: complex ``(n_points,)``; None
        where nothing was fitted.

        ``metab`` may be a sum written with '+', or a single macromolecule.

        Raises
        ------
        DataError
            If the metabolite was not fitted.
        """
        signals, which = self.signals, []
        known = list(dict.fromkeys([*self.names, *signals.names]))
        for name in metab.split("+"):
            member = name_among(name, known)
            if member is None:
                raise DataError(f"metabolite {name}: was not fitted", remedy=f"choose one of {', '.join(self.names)}")
            which += signals.components_of(member)
        row = row_at(voxel, self.arrays["place"], self.arrays["params"])
        if row is None:
            return None
        x = np.asarray(self.arrays["params"][row], float)
        water = np.asarray(self.arrays["water"][row], float) if "water" in self.arrays else 1.0
        spectrum = units.fid_to_spec(signals.components(x, which, water).sum(0)) * signals.phase_factor(x)
        fid = units.spec_to_fid(spectrum) / self.about["fid_scale"]
        if "eddy_phase" in self.arrays:
            fid = fid * np.exp(1j * np.asarray(self.arrays["eddy_phase"][row], float))
        # Files store the conjugate of the FIDs in memory.
        return fid if self.about["conjugated"] else fid.conj()

    def band(self, voxel: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray] | None:
        """Return the SD of the fitted spectrum, baseline included.

        Returns
        -------
        hz, sd : ndarray ``(n_window,)``
            Offsets from the spectrometer frequency, ascending, and the SD of the real spectrum there, in the scale of
            ``np.fft.fft(fid)`` with the file's FIDs.  None where nothing was fitted, or the SD is not finite.
        """
        row = row_at(voxel, self.arrays["place"], self.arrays["params"])
        if row is None:
            return None
        sd = np.asarray(self.arrays["band"][row], float) / self.about["fid_scale"]
        if not np.isfinite(sd).all():
            return None
        hz = np.asarray(self.arrays["band_hz"], float)
        return (-hz[::-1], sd[::-1]) if self.about["conjugated"] else (hz, sd)
