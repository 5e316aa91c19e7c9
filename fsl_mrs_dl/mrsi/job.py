"""A whole MRSI volume: fitted in chunks side by side, kept on disk as it goes, put together into FSL-MRS's folder at
the end.

A run has a hidden folder beside its output.  Every chunk that is done lies there, so that a run which was interrupted
can go on, and spectra need not be in memory.  Chunks are the same whoever fits them: one process, several, or the nodes
of a cluster.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..fitting.options import DlOptions
from ..fitting.priors import Prior
from ..io.basis import Basis
from ..io.volume import Volume

__all__ = ["Settings", "Job", "scratch_of"]


CHUNK = 256
"""Voxels of a chunk."""


@dataclass(frozen=True)
class Settings:
    """How to fit; names and meaning as in :func:`fsl_mrs_dl.fitting.quantify.quantify`.

    ``internal_ref`` and ``combine`` are metabolites and sums of them ('GPC+PCh'); ``spectra`` tells whether fit,
    baseline and residual are written; ``share_starts`` fits voxels again from where their neighbours ended, where that
    is elsewhere.
    """

    model: str = "voigt"
    ppmlim: tuple[float, float] | None = None
    baseline: str = "poly, 2"
    groups: tuple[int, ...] | None = None
    ind_scale: tuple[str, ...] | None = None
    rescale: bool = True
    internal_ref: tuple[str, ...] = ("Cr", "PCr")
    combine: tuple[str, ...] = ()
    dl: DlOptions = field(default_factory=DlOptions)
    conjugate: bool | None = None
    spectra: bool = True
    share_starts: bool = False


@dataclass(frozen=True)
class Job:
    """Everything that fitting a chunk needs, small enough to be sent to another process.

    ``index`` ``(n,)`` are the voxels to fit, counted with z fastest, and ``pilot`` those of them that the volume is
    looked at with beforehand; ``prior`` is in the units of the scaled data.
    """

    volume: Volume
    basis: Basis
    settings: Settings
    index: np.ndarray
    fid_scale: float
    conjugated: bool
    prior: Prior | None
    scratch: Path
    signature: str
    pilot: np.ndarray
    chunk: int = CHUNK

    @property
    def n_chunks(self) -> int:
        return -(-len(self.index) // self.chunk)

    def rows(self, k: int) -> slice:
        """Which of the voxels chunk ``k`` has."""
        return slice(k * self.chunk, min(len(self.index), (k + 1) * self.chunk))

    def file(self, k: int) -> Path:
        """Where the results of chunk ``k`` are kept."""
        return self.scratch / f"chunk-{k:05d}.npz"

    def done(self) -> list[int]:
        """Chunks that are there already."""
        return [k for k in range(self.n_chunks) if self.file(k).is_file()]


def scratch_of(output: Path) -> Path:
    """The folder in which a run keeps what is done of it."""
    output = Path(output).resolve()
    return output.with_name(f".{output.name}-unfinished")


# -- before the fit ------------------------------------------------------------------------------------------------


# -- one chunk -----------------------------------------------------------------------------------------------------


# -- all chunks ----------------------------------------------------------------------------------------------------


# -- neighbours ----------------------------------------------------------------------------------------------------


# -- putting together ----------------------------------------------------------------------------------------------
