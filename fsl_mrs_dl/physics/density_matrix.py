"""Density matrix of a group of coupled spins 1/2: free evolution, ideal pulses, and its observable lines."""

from __future__ import annotations

import functools
from collections.abc import Iterable

import numpy as np

__all__ = ["DensityMatrix"]


@functools.cache
def _spin_z(n_spins: int) -> np.ndarray:
    """Return the quantum number m of every spin in every product state, ``(n_spins, 2**n_spins)``; +1/2 comes first."""
    states = np.arange(2**n_spins)
    return np.array([0.5 - (states >> (n_spins - 1 - k) & 1) for k in range(n_spins)]).reshape(n_spins, -1)


@functools.cache
def _total_raising(n_spins: int) -> np.ndarray:
    """Return the sum of the raising operators of all spins, shape ``(2**n_spins, 2**n_spins)``."""
    raising = np.zeros((2**n_spins, 2**n_spins))
    states = np.arange(2**n_spins)
    for k in range(n_spins):
        bit = 1 << (n_spins - 1 - k)
        down = states[states & bit > 0]
        raising[down - bit, down] = 1
    return raising


@functools.cache
def _coherence_order(n_spins: int) -> np.ndarray:
    """Return the order of every element of the density matrix, shape ``(2**n_spins, 2**n_spins)``."""
    m = _spin_z(n_spins).sum(axis=0)
    return np.rint(m[:, None] - m[None, :]).astype(int)


def _hamiltonian(offsets_hz: np.ndarray, couplings_hz: Iterable[tuple[int, int, float]]) -> np.ndarray:
    """Return the Hamiltonian of shifts and couplings in Hz, real symmetric, ``(2**n_spins, 2**n_spins)``."""
    n_spins = len(offsets_hz)
    z = _spin_z(n_spins)
    hamiltonian = np.diag(offsets_hz @ z)
    states = np.arange(2**n_spins)
    for i, j, coupling in couplings_hz:
        hamiltonian[states, states] += coupling * z[i] * z[j]
        # The flip-flop term joins the states in which exactly one of the two spins is up.
        flipped = states ^ (1 << (n_spins - 1 - i)) ^ (1 << (n_spins - 1 - j))
        opposite = z[i] != z[j]
        hamiltonian[states[opposite], flipped[opposite]] += coupling / 2
    return hamiltonian


def _rotation(axis: str, degrees: float, hit: np.ndarray) -> np.ndarray:
    """Return the rotation of the spins flagged in ``hit`` about ``axis`` ('x' or 'y'), ``(2**n_spins, 2**n_spins)``."""
    half = np.radians(degrees) / 2
    off_diagonal = np.array([[0, -1j], [-1j, 0]]) if axis == "x" else np.array([[0, -1], [1, 0]])
    single = np.cos(half) * np.eye(2) + np.sin(half) * off_diagonal
    return functools.reduce(np.kron, [single if flag else np.eye(2) for flag in hit])


class DensityMatrix:
    """Density matrix of one group of protons during a sequence; product basis, frequencies in Hz from the carrier.

    Parameters
    ----------
    shifts_ppm : ndarray ``(n_spins,)``
    offsets_hz : ndarray ``(n_spins,)``
        Offsets from the carrier, heteronuclear couplings included.
    couplings_hz : sequence of (int, int, float)
        Pairs of protons, counted from 0, and their coupling.
    spec_freq_mhz : float
    """

    def __init__(self, shifts_ppm: np.ndarray, offsets_hz: np.ndarray, couplings_hz, spec_freq_mhz: float):
        self.shifts_ppm = shifts_ppm
        self.spec_freq_mhz = spec_freq_mhz
        self.n_spins = len(shifts_ppm)
        self.energies, self.states = np.linalg.eigh(_hamiltonian(offsets_hz, couplings_hz))
        self.rho = np.diag(_spin_z(self.n_spins).sum(axis=0)).astype(complex)

    def _apply(self, unitary: np.ndarray) -> None:
        self.rho = unitary @ self.rho @ unitary.conj().T

    def delay(self, seconds: float) -> None:
        """Evolve freely."""
        self._apply((self.states * np.exp(-2j * np.pi * self.energies * seconds)) @ self.states.T)

    def pulse(self, axis: str, degrees: float) -> None:
        """Rotate all spins about an axis."""
        self._apply(_rotation(axis, degrees, np.ones(self.n_spins, bool)))

    def select(self, order: int) -> None:
        """Keep the elements of one coherence order only, like gradients."""
        self.rho = np.where(_coherence_order(self.n_spins) == order, self.rho, 0)

    def edit(self, centre_ppm: float, bandwidth_hz: float) -> None:
        """Apply a selective 180 between opposite gradients; elements whose coherence order changes are lost."""
        hit = np.abs(self.shifts_ppm - centre_ppm) * self.spec_freq_mhz <= bandwidth_hz / 2
        if not hit.any():
            return
        unitary = _rotation("y", 180, hit)
        order = _coherence_order(self.n_spins)
        kept = np.zeros_like(self.rho)
        for p in range(-self.n_spins, self.n_spins + 1):
            rotated = unitary @ np.where(order == p, self.rho, 0) @ unitary.conj().T
            kept += np.where(order == p, rotated, 0)
        self.rho = kept

    def lines(self) -> tuple[np.ndarray, np.ndarray]:
        """Return frequencies (Hz) and complex amplitudes of observable lines, one unit per proton at full signal."""
        raising = self.states.T @ _total_raising(self.n_spins) @ self.states
        rho = self.states.T @ self.rho @ self.states
        amplitudes = rho * raising.T / 2 ** (self.n_spins - 2)
        frequencies = self.energies[None, :] - self.energies[:, None]
        observable = np.abs(amplitudes) > 1e-10
        return frequencies[observable], amplitudes[observable]
