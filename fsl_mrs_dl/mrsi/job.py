"""A whole MRSI volume: fitted in chunks in parallel, kept on disk as it goes, assembled into FSL-MRS's folder at the
end.

A run has a hidden folder beside its output, the scratch folder.  Every finished chunk is stored there, so that an
interrupted run can be resumed, and spectra need not be in memory.  Chunks are the same whether one process fits them,
several, or the nodes of a cluster.  The folder holds JSON and arrays only, and nothing in it is ever unpickled.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..concentrations.scaling import WaterScaling
from ..core.axes import Axes
from ..fitting.data import water_of_length
from ..fitting.filtered_band import WHOLE, Band
from ..fitting.in_vivo.prepared import PreparedModel
from ..fitting.options import FitOptions
from ..fitting.priors import Prior
from ..io.basis import Basis
from ..io.volume import Volume
from ..physics.nuisance import NuisanceSpace
from .nuisance import L2Removal, without_lines

__all__ = ["CHUNK", "SMALL_CHUNK", "VolumeOptions", "Job", "scratch_of"]

CHUNK = 256
"""Voxels of a chunk."""

SMALL_CHUNK = 32
"""Voxels of a chunk of the in-vivo model on CPUs, which takes some seconds, so that little is lost with it."""


@dataclass(frozen=True)
class VolumeOptions:
    """Say what only a volume has to choose.

    Attributes
    ----------
    conjugate : bool, optional
        Conjugate the FIDs; by default where their frequency axis runs backwards.
    spectra : bool
        Write fit, baseline and residual.
    share_initial_values : bool
        Fit voxels again from their neighbours' parameters where these differ.
    nuisance : str
        Handling of lipids and water, one of :data:`fsl_mrs_dl.mrsi.nuisance.NUISANCES`.
    spatial : bool
        Estimate concentrations with a spatial prior, too.
    volume_priors : bool
        Learn the priors of the in-vivo model, of all but concentrations, from voxels of the volume.
    """

    conjugate: bool | None = None
    spectra: bool = True
    share_initial_values: bool = False
    nuisance: str = "auto"
    spatial: bool = False
    volume_priors: bool = True


@dataclass(frozen=True)
class Job:
    """Everything that the fit of a chunk needs, small enough to be sent to another process.

    Attributes
    ----------
    volume : Volume
    basis : Basis
    options : FitOptions
    volume_options : VolumeOptions
    index : int ndarray ``(n,)``
        Voxels to fit, counted with z fastest.
    pilot : int ndarray
        Those of them from whose fits the prior comes.
    fid_scale : float
        Factor of the FIDs before the fit.
    conjugated : bool
    prior : Prior, optional
        In the units of the scaled data.
    water : Volume, optional
        Water reference of every voxel.
    scaling : WaterScaling, optional
        For absolute concentrations, with the tissue fractions of every voxel of the grid, or of all; None without.
    nuisance : NuisanceSpace, optional
        Lipids and water that leak into the voxels, where they are part of the likelihood.
    removal : L2Removal, optional
        Removal of lipids before the fit.
    band : Band
        Band that a filter left of the spectra.
    tissue : ndarray ``(n, 3)``, optional
        Fractions of white matter, grey matter and CSF in each voxel of ``index``, for the spatial prior.
    in_vivo : PreparedModel, optional
        The in-vivo model with its window and the priors of the volume, on the CPU; None of FSL-MRS's model.
    scratch : path
        Folder of the finished chunks.
    signature : str
        JSON of everything that must be the same for a run to be resumed.
    chunk : int
        Voxels of a chunk.
    """

    volume: Volume
    basis: Basis
    options: FitOptions
    volume_options: VolumeOptions
    index: np.ndarray
    pilot: np.ndarray
    fid_scale: float
    conjugated: bool
    prior: Prior | None
    scratch: Path
    signature: str
    chunk: int = CHUNK
    in_vivo: PreparedModel | None = None
    water: Volume | None = None
    scaling: WaterScaling | None = None
    nuisance: NuisanceSpace | None = None
    removal: L2Removal | None = None
    tissue: np.ndarray | None = None
    band: Band = WHOLE

    def fids(self, index: np.ndarray) -> np.ndarray:
        """Read the FIDs of voxels ``(n, n_points)``, in the in-memory convention, without what is removed before the
        fit."""
        fids = self.volume.fids(index)
        if self.removal is None and self.volume_options.nuisance != "hlsvd":
            return fids
        forward = (fids.conj() if self.conjugated else fids).astype(complex)
        cleaned = without_lines(forward, self.axes) if self.removal is None else self.removal(forward)
        return (cleaned.conj() if self.conjugated else cleaned).astype(fids.dtype)

    @property
    def axes(self) -> Axes:
        """Axes of the volume's FIDs."""
        return self.volume.about.axes.with_points(self.volume.n_points)

    def scaled_fids(self, fids: np.ndarray) -> np.ndarray:
        """Return FIDs of the volume in the direction and scale of the fits."""
        with np.errstate(invalid="ignore", over="ignore"):
            return (fids.conj() if self.conjugated else fids).astype(np.complex128) * self.fid_scale

    def water_fids(self, index: np.ndarray) -> np.ndarray | None:
        """Return the water reference of voxels, complex ``(n, n_points)``, in the direction of the fits; None
        without."""
        if self.water is None:
            return None
        fids = water_of_length(self.water.fids(index), self.volume.n_points)
        return (fids.conj() if self.conjugated else fids).astype(np.complex128)

    @property
    def n_chunks(self) -> int:
        """Number of chunks."""
        return -(-len(self.index) // self.chunk)

    def rows(self, k: int) -> slice:
        """Return the rows of ``index`` that chunk ``k`` holds."""
        return slice(k * self.chunk, min(len(self.index), (k + 1) * self.chunk))

    def n_voxels(self, chunks) -> int:
        """Return the number of voxels in some chunks."""
        return sum(self.rows(k).stop - self.rows(k).start for k in chunks)

    def file(self, k: int) -> Path:
        """Return the file of the results of chunk ``k``."""
        return self.scratch / f"chunk-{k:05d}.npz"

    def done(self) -> list[int]:
        """Return the chunks whose results are there."""
        return [k for k in range(self.n_chunks) if self.file(k).is_file()]


def scratch_of(output: str | Path) -> Path:
    """Return the scratch folder of a run with this output folder."""
    output = Path(output).resolve()
    return output.with_name(f".{output.name}-unfinished")
