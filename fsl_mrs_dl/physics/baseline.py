"""Spectral baselines as FSL-MRS defines them: none, a polynomial, or a penalised spline.

A baseline is linear: real regressors over the fitted window, each with a real and an imaginary coefficient, and for the
spline a penalty on the second differences of the coefficients.  Being linear it can be eliminated from a fit exactly;
:meth:`Baseline.projector` gives the operator that does it.

Penalised spline: Eilers & Marx, doi 10.1214/ss/1038425655.  Effective dimension: Hastie & Tibshirani, Generalized
Additive Models, 1990.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TypeVar

import numpy as np
import torch

from ..core.errors import OptionError

__all__ = ["Baseline", "SPLINE_STIFFNESS", "Elimination", "real_rows"]

SPLINE_STIFFNESS = {"very-stiff": 3.0, "stiff": 10.0, "moderate": 20.0, "flexible": 30.0, "very-flexible": 50.0}
"""FSL-MRS's names for the effective dimension of the spline baseline."""

_SPLINES_PER_PPM = 15

Values = TypeVar("Values", np.ndarray, torch.Tensor)


@dataclass(frozen=True)
class Baseline:
    """A baseline over ``n_window`` spectral points spanning ``width_ppm``.

    ``mode`` is 'off', 'polynomial' or 'spline'; ``order`` the polynomial's order; ``effective_dimension`` the spline's.
    ``given`` replaces the regressors by real ones of the caller's, ``(n_window, n_regressors)``, in the same order.
    ``nuisance`` are complex ones that come after them, ``(n_window, n)``, whose coefficients have SDs of
    ``nuisance_sd`` ``(n,)`` times the noise's; those with an SD of zero take no part.
    """

    mode: str
    n_window: int
    width_ppm: float
    order: int = 0
    effective_dimension: float = 0.0
    given: np.ndarray | None = None
    nuisance: np.ndarray | None = None
    nuisance_sd: np.ndarray | None = None

    @classmethod
    def parse(cls, text: str, n_window: int, width_ppm: float) -> Baseline:
        """From FSL-MRS's words: 'off', 'poly, N', 'spline, NAME' or 'spline, ED'.

        Raises
        ------
        OptionError
            If the words cannot be understood; the message lists what can.
        """
        names = ", ".join(SPLINE_STIFFNESS)
        help_text = (
            f"write 'off', 'poly, N' (N an order) or 'spline, S' (S one of {names}, or a dimension of at least 2)"
        )
        match = re.fullmatch(r"\s*(off|poly(?:nomial)?|spline)\s*(?:,?\s*([\w.+-]+))?\s*", text, re.IGNORECASE)
        if match is None:
            raise OptionError("not understood", option="baseline", value=f"'{text}'", remedy=help_text)
        kind, value = match[1].lower(), match[2]
        if kind == "off":
            return cls("off", n_window, width_ppm)
        if value is None:
            raise OptionError("incomplete", option="baseline", value=f"'{text}'", remedy=help_text)
        if kind == "spline":
            try:
                dimension = SPLINE_STIFFNESS.get(value) or float(value)
            except ValueError:
                dimension = float("nan")
            if not 2 <= dimension < np.inf:
                raise OptionError("no such stiffness", option="baseline", value=f"'{text}'", remedy=help_text)
            return cls("spline", n_window, width_ppm, effective_dimension=dimension)
        if not re.fullmatch(r"[+-]?\d+", value):
            raise OptionError(
                "the order must be a whole number", option="baseline", value=f"'{text}'", remedy=help_text
            )
        # FSL-MRS takes a negative order as no baseline.
        return (
            cls("off", n_window, width_ppm)
            if int(value) < 0
            else cls("polynomial", n_window, width_ppm, order=int(value))
        )

    def __str__(self) -> str:
        if self.mode == "polynomial":
            return f"polynomial of order {self.order}"
        if self.mode == "spline":
            return f"penalised spline, effective dimension {self.effective_dimension:g}"
        return "off"

    @cached_property
    def regressors(self) -> np.ndarray:
        """Regressors over the window, shape ``(n_window, n_regressors)``, real ones unless there are nuisances.

        FSL-MRS's parameter vector holds a constant also when the baseline is off; no fit ever makes it other than zero.
        """
        if self.nuisance is None:
            return self._smooth
        return np.concatenate([self._smooth, self.nuisance], 1)

    @cached_property
    def _smooth(self) -> np.ndarray:
        """Real regressors of the baseline alone."""
        if self.given is not None:
            return self.given
        if self.mode == "spline":
            return _spline_regressors(self.n_window, int(_SPLINES_PER_PPM * self.width_ppm))
        # FSL-MRS means its powers to be orthogonal but makes them with a rank-deficient inverse, so that its higher
        # ones carry rounding noise of the lower.  The span, and with it every fit, is the same.
        x = np.linspace(-1, 1, self.n_window)
        columns = [np.ones_like(x)]
        for power in range(1, self.order + 1):
            done = np.stack(columns, axis=1)
            new = x**power
            columns.append(new - done @ np.linalg.lstsq(done, new, rcond=None)[0])
        return np.stack(columns, axis=1)

    @property
    def n_regressors(self) -> int:
        return self.regressors.shape[1]

    @cached_property
    def penalty(self) -> np.ndarray:
        """Matrix P of the penalty b'Pb on one channel's coefficients, ``(n_regressors, n_regressors)``; zero if
        unpenalised."""
        n = self._smooth.shape[1]
        out = np.zeros((self.n_regressors, self.n_regressors))
        if self.mode == "spline":
            out[:n, :n] = _spline_penalty(self.effective_dimension, self._smooth.tobytes(), n)
        if self.nuisance_sd is not None:
            at = np.arange(n, self.n_regressors)
            out[at, at] = np.where(self.nuisance_sd > 0, 1 / np.maximum(self.nuisance_sd, 1e-9) ** 2, 1.0)
        return out

    @cached_property
    def _used(self) -> np.ndarray:
        """Tell which regressors take part in a fit, bool ``(n_regressors,)``."""
        smooth = np.full(self._smooth.shape[1], self.mode != "off")
        if self.nuisance_sd is None:
            return smooth
        return np.concatenate([smooth, self.nuisance_sd > 0])

    @cached_property
    def solver(self) -> np.ndarray:
        """Matrix that takes a spectrum in the window to its coefficients, ``(n_regressors, n_window)``."""
        used, out = self._used, np.zeros((self.n_regressors, self.n_window), self.regressors.dtype)
        if used.any():
            adjoint, penalty = self.regressors[:, used].conj().T, self.penalty[np.ix_(used, used)]
            out[used] = np.linalg.pinv(adjoint @ adjoint.conj().T + penalty, hermitian=True) @ adjoint
        return out

    @cached_property
    def projector(self) -> tuple[np.ndarray, np.ndarray]:
        """``(U, d)`` such that ``x - U @ (d * (U.T @ x))`` eliminates the baseline, with the adjoint of a complex U.

        With ``L`` that operator, ``|L (y - s)|**2`` is the penalised cost of fitting ``y`` by ``s`` and the best
        baseline. ``U`` is ``(n_window, rank)`` with orthonormal columns, ``d`` is ``(rank,)`` in 0..1.
        """
        used = self._used
        if not used.any():
            return np.zeros((self.n_window, 0)), np.zeros(0)
        every = self.penalty[np.ix_(used, used)]
        u, size, vt = np.linalg.svd(self.regressors[:, used], full_matrices=False)
        keep = size > size[0] * 1e-10
        u, size, vt = u[:, keep], size[keep], vt[keep]
        # Coefficients that the window does not see (FSL-MRS's splines may have an empty column) are free, but the
        # penalty ties them to the others: they are eliminated, not held at zero.
        unseen = np.linalg.eigh(np.eye(len(every)) - vt.conj().T @ vt)
        free = unseen[1][:, unseen[0] > 0.5].conj().T
        cross = vt @ every @ free.conj().T
        penalty = vt @ every @ vt.conj().T - cross @ np.linalg.pinv(free @ every @ free.conj().T) @ cross.conj().T
        # In the basis U the hat matrix is S (S^2 + penalty)^-1 S; its eigenvectors rotate U.
        hat = size[:, None] * np.linalg.solve(np.diag(size**2) + penalty, np.diag(size))
        share, rotation = np.linalg.eigh((hat + hat.conj().T) / 2)
        # The root would turn rounding of a share of one, 1e-16, into a trace of 1e-8 of the baseline that stays.
        share = np.where(share > 1 - 1e-12, 1.0, share)
        return u @ rotation, 1 - np.sqrt(np.clip(1 - share, 0, None))

    @property
    def used_dimension(self) -> float:
        """Real degrees of freedom the baseline takes from one channel: the trace of its hat matrix."""
        _, d = self.projector
        return float(np.sum(1 - (1 - d) ** 2))

    def order_coefficients(self, coefficients: np.ndarray) -> np.ndarray:
        """Complex coefficients ``(..., n_regressors)`` -> the real tail of FSL-MRS's parameter vector.

        Polynomials alternate real and imaginary; splines have all real ones first.
        """
        if self.mode == "spline":
            return np.concatenate([coefficients.real, coefficients.imag], axis=-1)
        return np.stack([coefficients.real, coefficients.imag], axis=-1).reshape(*coefficients.shape[:-1], -1)

    def collect_coefficients(self, tail: Values) -> Values:
        """The inverse of :meth:`order_coefficients`."""
        n = self.n_regressors
        if self.mode == "spline":
            return tail[..., :n] + 1j * tail[..., n:]
        return tail[..., 0::2] + 1j * tail[..., 1::2]


def _spline_regressors(n_window: int, n_segments: int, degree: int = 3) -> np.ndarray:
    """Cubic B-splines on equidistant knots over the points 1..n_window, ``(n_window, n_segments + degree)``."""
    from scipy.interpolate import BSpline

    x = np.arange(1.0, n_window + 1)
    step = (x[-1] - x[0]) / n_segments
    knots = x[0] + step * np.arange(-degree, n_segments + degree + 1)
    columns = BSpline.design_matrix(np.clip(x, knots[degree], knots[-degree - 1]), knots, degree).toarray()
    return columns


@lru_cache(maxsize=8)
def _spline_penalty(effective_dimension: float, regressors: bytes, n: int) -> np.ndarray:
    """Penalty on the second differences of the coefficients of regressors ``(n_window, n)``, given as bytes."""
    difference = np.diff(np.eye(n), n=2, axis=1)
    roughness = difference @ difference.T
    return _penalty_weight(effective_dimension, np.frombuffer(regressors).reshape(-1, n), roughness) * roughness


def _penalty_weight(effective_dimension: float, regressors: np.ndarray, roughness: np.ndarray) -> float:
    """Weight of the roughness penalty at which the spline has the wanted effective dimension."""
    from scipy.optimize import fminbound

    gram = regressors.T @ regressors

    def distance(weight):
        return (np.trace(np.linalg.lstsq(gram + weight * roughness, gram, rcond=None)[0]) - effective_dimension) ** 2

    # FSL-MRS stops at this search's default tolerance; going further would define another baseline.
    return float(fminbound(distance, 1e-7, 1e7))


def real_rows(complex_rows: torch.Tensor) -> torch.Tensor:
    """Complex ``(..., n)`` -> real ``(..., 2n)``, so that real parts of inner products are plain products."""
    return torch.view_as_real(complex_rows).flatten(-2)


class Elimination:
    """What a baseline explains does not count: every spectrum counts as ``L x = x - u @ (d * (u.H @ x))``.

    Inner products of ``L x`` need the products with ``u`` only, so the many columns of a model need not be changed one
    by one.

    Parameters
    ----------
    u : ``(n_window, rank)``
        Orthonormal columns, real or complex.
    d : real ``(rank,)``
        From 0 to 1.
    """

    def __init__(self, u: torch.Tensor, d: torch.Tensor):
        self.u, self.d = u, d
        self.share = (d * (2 - d)).clamp(min=0)
        self.complex_u = u if u.is_complex() else torch.complex(u, torch.zeros_like(u))
        self.adjoint_u = self.complex_u.conj().resolve_conj() if u.is_complex() else self.complex_u
        self.root = self.adjoint_u * self.share.sqrt()

    def to(self, dtype: torch.dtype) -> Elimination:
        return Elimination(self.u.to(dtype.to_complex() if self.u.is_complex() else dtype), self.d.to(dtype))

    def __call__(self, spectra: torch.Tensor) -> torch.Tensor:
        """``L`` applied once."""
        return spectra - (spectra @ self.adjoint_u * self.d) @ self.complex_u.mT

    def both(self, spectra: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """``L`` applied once, and twice."""
        inner = spectra @ self.adjoint_u
        once, twice = ((inner * factor) @ self.complex_u.mT for factor in (self.d, self.share))
        return spectra - once, spectra - twice

    def gram(self, spectra: torch.Tensor) -> torch.Tensor:
        """Real parts of the inner products of ``L`` times the rows, ``(..., n, n_window)`` -> ``(..., n, n)``."""
        rows, inner = real_rows(spectra), real_rows(spectra @ self.root)
        return rows @ rows.mT - inner @ inner.mT
