"""Baselines of a fit: FSL-MRS's regressors, and this package's baseline on them.

Importing this module does not load torch, because results refer to :class:`SharedBaseline` when they are unpickled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from fsl_mrs.utils import baseline as fsl_baseline

from ..core.errors import DataError, OptionError

if TYPE_CHECKING:
    from ..physics.baseline import Baseline

__all__ = ["fsl_mrs_baseline", "matching_baseline"]

# Outside of the objects: every result has one, and carries it from process to process.
_REGRESSORS: dict[tuple, np.ndarray] = {}

if hasattr(fsl_baseline, "Baseline"):

    class SharedBaseline(fsl_baseline.Baseline):
        """FSL-MRS's baseline, its regressors made once and shared by all results of a volume.

        FSL-MRS computes them anew at every use.  Polynomials of order two and more come from a rank-deficient inverse
        whose rounding may differ between two calls, and then coefficients of one do not belong to the other.
        """

        @property
        def regressor(self):
            """Complex regressors, shape ``(n_points, 2 n)``."""
            key = tuple(sorted((name, str(value)) for name, value in vars(self).items()))
            if key not in _REGRESSORS:
                if len(_REGRESSORS) >= 8:
                    _REGRESSORS.clear()
                _REGRESSORS[key] = super().regressor
            return _REGRESSORS[key]


def fsl_mrs_baseline(mrs, ppmlim: tuple[float, float], words: str) -> tuple[dict, np.ndarray]:
    """Return FSL-MRS's baseline: the arguments of ``FitRes`` that carry it, and its complex regressors ``(n_points,
    2 n)``.

    Raises
    ------
    DataError
        If this FSL-MRS makes its baselines in an unknown way.
    OptionError
        If it has no such baseline.
    """
    if hasattr(fsl_baseline, "Baseline"):
        shared = SharedBaseline(mrs, ppmlim, words, None)
        return {"baseline_obj": shared}, shared.regressor
    if not hasattr(fsl_baseline, "prepare_baseline_regressor"):
        raise DataError("the baselines of this FSL-MRS are of an unsupported kind", remedy="use `algo` Newton")
    from ..physics.baseline import Baseline

    kind = Baseline.parse(words, mrs.numPoints, 1.0)
    if kind.mode == "spline":
        raise OptionError(
            "this FSL-MRS has no spline baseline",
            option="baseline",
            value=f"'{words}'",
            remedy="use a polynomial or a newer FSL-MRS",
        )
    regressor = fsl_baseline.prepare_baseline_regressor(mrs, kind.order, ppmlim)
    return {"baseline_order": kind.order, "B": regressor}, regressor


def matching_baseline(
    words: str, regressor: np.ndarray, window: tuple[int, int], ppmlim: tuple[float, float]
) -> Baseline:
    """Return this package's baseline on FSL-MRS's regressors, so that the coefficients are those of FSL-MRS.

    Parameters
    ----------
    words : str
        'off', 'poly, N' or 'spline, STIFFNESS'.
    regressor : ndarray ``(n_points, 2 n)``
        From :func:`fsl_mrs_baseline`.
    window : (int, int)
        First and last+1 point that are fitted.
    ppmlim : (float, float)
    """
    from ..physics.baseline import Baseline

    first, last = window
    plain = Baseline.parse(words, last - first, abs(ppmlim[1] - ppmlim[0]))
    half = regressor.shape[1] // 2
    columns = regressor[first:last, :half] if plain.mode == "spline" else regressor[first:last, 0::2]
    return Baseline(
        plain.mode,
        plain.n_window,
        plain.width_ppm,
        plain.order,
        plain.effective_dimension,
        np.ascontiguousarray(columns.real),
    )
