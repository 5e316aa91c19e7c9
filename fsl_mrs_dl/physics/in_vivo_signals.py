"""Signals of the in-vivo model over all points of a FID, in NumPy: for viewers and results, which do not load torch.

The equations are those of :mod:`fsl_mrs_dl.physics.in_vivo_model`, one spectrum at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..core.axes import Axes
from .in_vivo_components import Components

__all__ = ["InVivoSignals", "MACROMOLECULES", "concentration_names", "macromolecule_shares"]

MACROMOLECULES = "MM"
"""Name of the sum of all macromolecules among the concentrations."""


def concentration_names(components: Components) -> list[str]:
    """Return the names of metabolites and lipids, then of the sum of all macromolecules, if there are any."""
    names, n_linear = list(components.names), components.n_linear
    return [*names[:n_linear], *([MACROMOLECULES] if len(names) > n_linear else [])]


def macromolecule_shares(components: Components) -> np.ndarray:
    """Return the weights ``(n_mm,)`` that turn amplitudes of macromolecules into their sum, which is one where each has
    its expected amplitude."""
    n_linear = components.n_linear
    expected = components.expected[n_linear:]
    size = np.abs(components.fids[n_linear:, 0]) * expected
    return size / size.sum() / expected


@dataclass(frozen=True)
class InVivoSignals:
    """All that turns a parameter vector of the in-vivo model into FIDs.

    Attributes
    ----------
    names : tuple of str
        Components: metabolites, lipids, macromolecules.
    n_linear : int
        Number of metabolites and lipids, which come first.
    fids : complex ndarray ``(n_components, n_points)``
    gauss : ndarray ``(n_components,)``
        Gaussian damping of macromolecule lines, 1/s^2.
    shape_hz : ndarray ``(n_shape,)``
        Frequencies of the line shape.
    slices : mapping of str to (int, int)
        First and last + 1 index of each block of a parameter vector.
    pivot, least_gamma : float
        See :class:`fsl_mrs_dl.physics.in_vivo_model.InVivoModel`.
    axes : Axes
        Of the data.
    """

    names: tuple[str, ...]
    n_linear: int
    fids: np.ndarray
    gauss: np.ndarray
    shape_hz: np.ndarray
    slices: Mapping[str, tuple[int, int]]
    pivot: float
    least_gamma: float
    axes: Axes

    @property
    def concentration_names(self) -> list[str]:
        """Names of metabolites and lipids, then of the sum of all macromolecules, if there are any."""
        return [*self.names[: self.n_linear], *([MACROMOLECULES] if len(self.names) > self.n_linear else [])]

    def components_of(self, name: str) -> list[int]:
        """Return the components of a concentration, of a single component, or of a sum of them written with '+'.

        Raises
        ------
        KeyError
            If there is none of that name.
        """
        out: list[int] = []
        for member in name.split("+"):
            if member in self.names:
                out.append(self.names.index(member))
            elif member == MACROMOLECULES and len(self.names) > self.n_linear:
                out += range(self.n_linear, len(self.names))
            else:
                raise KeyError(member)
        return out

    def block(self, x: np.ndarray, name: str) -> np.ndarray:
        """Return a block of a parameter vector ``(n_params,)``; empty where the model has no such block."""
        first, last = self.slices.get(name, (0, 0))
        return np.asarray(x[first:last], float)

    def components(self, x: np.ndarray, which: list[int] | slice = slice(None), water=1.0) -> np.ndarray:
        """Return the FIDs of components without phases, complex ``(n, n_points)``.

        Parameters
        ----------
        x : ndarray ``(n_params,)``
        which : list of int or slice
        water : ndarray ``(n_points,)``, optional
            Line shape that was taken from water.
        """
        time, n = self.axes.time(), len(self.names)
        damping = np.full(n, np.exp(self.block(x, "gamma")[0]) - self.least_gamma)
        damping[: self.n_linear] += self.block(x, "own_width")
        damping[self.n_linear :] += self.block(x, "pattern_width").sum()  # none for lines of the table
        hz = self.block(x, "own_shift") + self.block(x, "shift")
        variance = np.zeros(n)
        log_width = self.block(x, "q")
        variance[n - len(log_width) :] = np.exp(2 * log_width) * self.gauss[n - len(log_width) :]
        decay = np.exp((2j * np.pi * hz - damping)[which][:, None] * time - variance[which][:, None] * time**2)
        line = np.ones(len(time), complex)
        if len(self.shape_hz):
            factors = np.exp(2j * np.pi * self.shape_hz[:, None] * time) - 1
            line += self.block(x, "shape") @ factors
        common = line * np.exp(-np.exp(self.block(x, "variance")[0]) * time**2) * water
        amplitude = np.exp(self.block(x, "log_amp"))[which]
        return amplitude[:, None] * np.asarray(self.fids[which], complex) * decay * common

    def phase_factor(self, x: np.ndarray) -> np.ndarray:
        """Return the factor that phases turn spectra by, complex ``(n_points,)``."""
        n = self.axes.n_points
        hz = (np.arange(n) - n // 2) / (n * self.axes.dwelltime)
        angle = self.block(x, "phi0")[0] + self.block(x, "phi1")[0] * (hz - self.pivot)
        return np.exp(-1j * angle)
