"""Properties of FIDs without a model, in NumPy."""

from __future__ import annotations

import warnings

import numpy as np

from .errors import DataError

__all__ = [
    "FEWEST_ACQUIRED",
    "UNUSABLE",
    "acquired_points",
    "check_decay",
    "usable_fids",
    "why_unusable",
    "zero_filling",
]

FEWEST_ACQUIRED = 16
"""Points, at least, that estimates are made from."""

UNUSABLE = "is zero or holds NaN, or begins with zeros"
"""What messages say of a FID that is not usable (:func:`usable_fids`)."""

# One zero may be chance in data of few bits.  With more the time of the echo is unknown, the signal at it is not there,
# and water was estimated up to a fifth too small, or not at all.
_FIRST = 2


def acquired_points(fids: np.ndarray) -> int:
    """Return the number of points, at least 16, up to the last at which one of the FIDs ``(..., n_points)`` is not
    zero: those behind were filled in, and hold no noise; all of them where every FID is zero."""
    n_points = fids.shape[-1]
    if (fids[..., -1] != 0).any():
        return n_points
    used = np.flatnonzero((fids != 0).any(axis=tuple(range(fids.ndim - 1))))
    return min(n_points, max(int(used[-1]) + 1, FEWEST_ACQUIRED)) if len(used) else n_points


def usable_fids(fids: np.ndarray, axis: int = -1) -> np.ndarray:
    """Tell which FIDs are usable, ``(..., n_points)`` -> bool ``(...)``: those that are finite and do not begin with
    zeros.

    ``axis`` is that of time.
    """
    return np.isfinite(fids).all(axis) & (_first(fids, axis) != 0).any(axis)


def why_unusable(fids: np.ndarray, axis: int = -1) -> tuple[str, str | None]:
    """Say why none of some FIDs ``(..., n_points)`` is usable, and the remedy where there is one.

    Filters of some scanners put a delay before the signal, and programs set spoilt points to zero.
    """
    late = (_first(fids, axis) == 0).all(axis) & (fids != 0).any(axis) & np.isfinite(fids).all(axis)
    if not late.any():
        return "every FID is zero or holds NaN", None
    first = int((fids != 0).argmax(axis)[late].min())
    return (
        f"the FIDs begin with {first} zeros, the delay of a digital filter or points that were set to zero",
        "cut them off (fsl_mrs_proc truncate) in data and water reference alike; where the echo was earlier than the"
        " first point that remains, give that point's time after it in s as AcquisitionStartTime in the header",
    )


_START = 0.1  # of the points, where FIDs have most of their signal
_NO_DECAY, _DECAY = 0.02, 0.5  # shares of the signal there, of spectra or single points, and of FIDs
_CLEAR = 6.0  # SDs that the signal of a mean must have for a judgement


def check_decay(fids: np.ndarray, *, stacklevel: int = 2) -> None:
    """Refuse FIDs whose first axis is that of time, and warn of spectra, which do not decay.

    Parameters
    ----------
    fids : complex ndarray ``(..., n_points)``
    stacklevel : int
        Of the warning, as of :func:`warnings.warn`.

    Raises
    ------
    DataError
        If the array is ``(n_points, n_spectra)``.
    """
    rows = fids.reshape(-1, fids.shape[-1])
    rows = rows[np.isfinite(rows).all(-1)]
    share = _share_at_start(rows)
    transposed = fids.ndim == 2 and len(rows) > max(rows.shape[-1], FEWEST_ACQUIRED)
    if transposed and not share > _DECAY and _share_at_start(rows.T) > _DECAY:
        n_rows, n_points = fids.shape
        raise DataError(
            f"the array has {n_rows} rows of {n_points} points, and the signal decays along the rows' axis; time is the"
            " last axis",
            remedy="transpose the array (fids.T)",
        )
    if share < _NO_DECAY:
        warnings.warn(
            "No decay: the signal is not at the beginning of the last axis. Give FIDs: a spectrum is turned into one by"
            " fsl_mrs_dl.core.units.spec_to_fid.",
            stacklevel=stacklevel + 1,
        )


def _share_at_start(rows: np.ndarray) -> float:
    """Return the share of the signal of FIDs ``(n, n_points)`` in the first tenth of their points; NaN where there is
    no clear signal."""
    if rows.size == 0 or rows.shape[-1] < FEWEST_ACQUIRED:
        return np.nan
    rows = rows[:, : acquired_points(rows)]
    largest = np.abs(rows).max()
    if not largest > np.finfo(float).tiny:  # a division by less overflows
        return np.nan
    power = (np.abs(rows / largest) ** 2).mean(0)
    # The median of such a mean is below its expectation.
    noise = float(np.median(power)) / (1 - 1 / (9 * len(rows))) ** 3
    above = power - noise
    # The power of noise has an SD as large as its mean.
    if above.sum() < _CLEAR * noise * np.sqrt(len(power) / len(rows)):
        return np.nan
    above = np.clip(above - 3 * noise / np.sqrt(len(rows)), 0, None)
    start = max(1, round(_START * len(power)))
    return float(above[:start].sum() / above.sum()) if above.any() else np.nan


def _first(fids: np.ndarray, axis: int) -> np.ndarray:
    return np.take(fids, np.arange(min(_FIRST, fids.shape[axis])), axis)


def zero_filling(fids: np.ndarray) -> np.ndarray:
    """Return the points of FIDs ``(..., n_points)`` over those that were acquired, at least 16, ``(...)``: 1 where no
    zeros were filled in.

    The points of a zero-filled spectrum are not independent: variances of estimates, with the noise of a point, are
    larger by this factor than they would be for independent ones.
    """
    n_points = fids.shape[-1]
    acquired = n_points - (fids[..., ::-1] != 0).argmax(-1)
    return n_points / np.clip(acquired, min(FEWEST_ACQUIRED, n_points), None)
