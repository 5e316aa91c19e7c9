"""Strength of nuisance signals in every voxel by evidence, and what metabolites may look like beside them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..core.axes import Axes
from ..core.metabolites import is_macromolecule, typical_concentrations
from ..physics.nuisance import NuisanceSpace

__all__ = ["StrengthChoice", "metabolite_examples"]

_EXAMPLES, _ROOTS = 256, 48
_SHIFT_PPM, _LOG_SD, _MM_LOG_SD = 0.1, 0.5, 0.7
_GAMMA_PER_S, _GAUSS_HZ = (4.0, 30.0), (2.0, 12.0)
_SIZES = tuple(2.0 * 4.0**k for k in range(6))
"""SDs of the metabolites' largest component over the noise's that are tried."""


def metabolite_examples(fids: np.ndarray, names: list[str], axes: Axes) -> np.ndarray:
    """Return FIDs whose independent complex normal weights give spectra like those of a basis set, ``(n, n_points)``.

    Concentrations are spread about typical ones, shifts and widths as in a volume; phases are any.

    Parameters
    ----------
    fids : complex ndarray ``(n_metabs, n_points)``
        Basis FIDs.
    names : list of str
    axes : Axes
        Of the FIDs.
    """
    rng = np.random.default_rng(0)
    typical = typical_concentrations(names)
    typical = np.ones(len(names)) if typical is None else np.where(typical > 0, typical, 1.0)
    of_mm = np.array([is_macromolecule(name) for name in names])
    if of_mm.any() and (~of_mm).any():
        # Macromolecules have units of their own: they are as large as the metabolites.
        size = np.linalg.norm(fids, axis=1)
        typical[of_mm] = np.linalg.norm(typical[~of_mm] @ fids[~of_mm]) / size[of_mm].clip(1e-30) / of_mm.sum()
    spread = np.where(of_mm, _MM_LOG_SD, _LOG_SD)
    time = axes.time() - axes.dwelltime
    conc = typical * np.exp(spread * rng.standard_normal((_EXAMPLES, len(names))))
    shift = axes.spec_freq_mhz * rng.uniform(-_SHIFT_PPM, _SHIFT_PPM, (_EXAMPLES, 1))
    gamma = rng.uniform(*_GAMMA_PER_S, (_EXAMPLES, 1))
    gauss = np.pi * rng.uniform(*_GAUSS_HZ, (_EXAMPLES, 1)) / np.sqrt(4 * np.log(2))
    out = (conc @ fids) * np.exp((2j * np.pi * shift - gamma) * time - (gauss * time) ** 2)
    _, size, rows = np.linalg.svd(out / np.sqrt(_EXAMPLES), full_matrices=False)
    return size[:_ROOTS, None] * rows[:_ROOTS]


class StrengthChoice:
    """Chooses the state of a nuisance space that spectra are best explained by, with metabolites and baseline Gaussian.

    Parameters
    ----------
    space : NuisanceSpace
        Normalised in the window.
    transform : callable
        FIDs ``(n, n_points)`` -> spectra in the window ``(n, n_window)``.
    baseline : ndarray, complex ``(n_window, rank)``
        Root of the baseline's covariance over the noise's.
    """

    def __init__(self, space: NuisanceSpace, transform: Callable[[np.ndarray], np.ndarray], baseline: np.ndarray):
        self.space = space
        metabolites = transform(space.metabolites).T
        roots = [space.root(state, transform) for state in range(len(space.states))]
        # All of them together span few dimensions; the rest of a spectrum is the same noise for every state.
        self._span = np.linalg.qr(np.concatenate([baseline, metabolites, roots[-1]], 1))[0]
        into = self._span.conj().T
        self._fixed, self._metabolites, self._roots = into @ baseline, into @ metabolites, [into @ r for r in roots]
        self._factors: dict[tuple[int, int], tuple[np.ndarray, float]] = {}

    def _factor(self, state: int, size: int) -> tuple[np.ndarray, float]:
        """Return the matrix that whitens, ``(rank, rank)``, and the log determinant of the covariance."""
        if (state, size) not in self._factors:
            root = np.concatenate([self._fixed, _SIZES[size] * self._metabolites, self._roots[state]], 1)
            vectors, sd, _ = np.linalg.svd(root, full_matrices=False)
            self._factors[state, size] = (
                (vectors.conj() / np.sqrt(1 + sd**2)).astype(np.complex64),
                float(np.log1p(sd**2).sum()),
            )
        return self._factors[state, size]

    def evidence(self, spectra: np.ndarray, state: int) -> np.ndarray:
        """Return the log evidence of a state for spectra over their noise in :attr:`_span`, complex ``(n, rank)``,
        ``(n,)``, up to a constant of each spectrum; the best of all sizes of the metabolites."""
        values = []
        for size in range(len(_SIZES)):
            matrix, log_det = self._factor(state, size)
            values.append(-0.5 * np.square(np.abs(spectra @ matrix)).sum(-1) - log_det)
        return np.max(values, 0)

    def __call__(self, spectra: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """Return the best state of each spectrum, int ``(n,)``.

        Parameters
        ----------
        spectra : complex ndarray ``(n, n_window)``
        noise : ndarray ``(n,)``
            SD of each real channel.
        """
        states = self.space.states
        over_noise = ((spectra / noise[:, None]) @ self._span.conj()).astype(np.complex64)
        waters = sorted({water for _, water in states})
        # First the lipids beside much water, then the water beside these lipids.
        first = [number for number, (_, water) in enumerate(states) if water == waters[-1]]
        best = np.array(first)[np.argmax([self.evidence(over_noise, number) for number in first], 0)]
        if len(waters) == 1:
            return best
        out = best.copy()
        for lipid_state in np.unique(best):
            rows = np.flatnonzero(best == lipid_state)
            same = [number for number, (lipid, _) in enumerate(states) if lipid == states[lipid_state][0]]
            out[rows] = np.array(same)[np.argmax([self.evidence(over_noise[rows], number) for number in same], 0)]
        return out
