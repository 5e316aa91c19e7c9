"""FIDs as rows to fit: checked, and their scale."""

from __future__ import annotations

import numpy as np

from ..core.errors import DataError
from ..core.fids import usable_fids, why_unusable

__all__ = ["fid_scale_of", "rows_to_fit"]


def rows_to_fit(fids) -> tuple[np.ndarray, np.ndarray]:
    """Return FIDs ``(..., n_points)`` as rows ``(n, n_points)``, and which of them are usable ``(n,)``.

    Raises
    ------
    DataError
        If they are real numbers, or none is usable.
    """
    fids = np.asarray(fids)
    if not np.iscomplexobj(fids):
        raise DataError(f"FIDs are real numbers ({fids.dtype}); complex FIDs are needed.")
    rows = fids.reshape(-1, fids.shape[-1])
    usable = usable_fids(rows)
    if not usable.any():
        problem, remedy = why_unusable(rows)
        raise DataError(problem, remedy=remedy or "there is nothing to fit")
    return rows, usable


def fid_scale_of(rows: np.ndarray) -> float:
    """Return the factor that brings usable rows ``(n, n_points)`` to FSL-MRS's scale.

    It is one for all, so that their raw concentrations can be compared; for a single FID it is FSL-MRS's.

    Raises
    ------
    DataError
        If they are too small for numbers of the computer.
    """
    peak = float(max(np.abs(rows.real).max(), np.abs(rows.imag).max()))
    if peak < 1e-290:
        raise DataError(f"the largest value of the FIDs is {peak:g}: they are as good as zero.")
    # Squares overflow, or vanish, long before values do.
    energy = np.linalg.norm(rows / peak, axis=-1)
    return 100 / float(np.sqrt(np.mean(energy.astype(float) ** 2))) / peak
