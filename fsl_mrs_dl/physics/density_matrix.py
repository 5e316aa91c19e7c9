"""Density matrix of a group of coupled spins 1/2: free evolution, pulses, and its observable lines."""

from __future__ import annotations

import functools
from collections.abc import Iterable

import numpy as np

from ..core.editing import EditingPulse
from .editing_pulses import band_centre_hz, n_steps, waveform
from .refocusing import RefocusingPulse

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


def _single_rotations(offsets_hz: np.ndarray, field_hz: np.ndarray, seconds: float) -> np.ndarray:
    """Return the rotation of every spin in every step of a field, ``(n_spins, n_steps, 2, 2)``."""
    offsets = offsets_hz[:, None]
    total = np.sqrt(offsets**2 + np.abs(field_hz) ** 2)
    sine = np.pi * seconds * np.sinc(total * seconds)
    a, b = np.cos(np.pi * total * seconds) - 1j * offsets * sine, -1j * field_hz * sine
    return np.moveaxis(np.array([[a, -b.conj()], [b, a.conj()]]), (0, 1), (2, 3))


def _kron(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the Kronecker products of two stacks of square matrices, ``(n_steps, m, m)`` and ``(n_steps, n, n)``."""
    size = one.shape[-1] * other.shape[-1]
    return (one[:, :, None, :, None] * other[:, None, :, None, :]).reshape(len(one), size, size)


def _rotated(left: np.ndarray, right: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Return the products of the Kronecker products of two stacks of matrices with a stack of matrices."""
    blocks = matrix.reshape(len(matrix), left.shape[-1], right.shape[-1], -1)
    turned = (right[:, None] @ blocks).reshape(len(matrix), left.shape[-1], -1)
    return (left @ turned).reshape(matrix.shape)


def _times_blocks(blocks: list[tuple[np.ndarray, np.ndarray]], matrix: np.ndarray) -> np.ndarray:
    """Return the product of a matrix in blocks, each with its rows, and whole matrices ``(..., n, n)``."""
    product = np.empty_like(matrix)
    for rows, block in blocks:
        product[..., rows, :] = block @ matrix[..., rows, :]
    return product


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
        self.offsets_hz = offsets_hz
        self.couplings_hz = couplings_hz
        self.spec_freq_mhz = spec_freq_mhz
        self.n_spins = len(shifts_ppm)
        self._propagators: dict = {}
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

    def edit(self, pulse: EditingPulse, steps: int | None = None) -> None:
        """Apply an editing pulse between opposite gradients; elements whose coherence order changes are lost.

        Parameters
        ----------
        pulse : EditingPulse
            An ideal one turns the spins in its band at once; spins evolve during a sinc-Gaussian one.
        steps : int, optional
            Time steps of the pulse, by default as :func:`fsl_mrs_dl.physics.editing_pulses.n_steps` says.
        """
        unitary = self._ideal_editing(pulse) if pulse.shape == "ideal" else self._shaped_editing(pulse, steps)
        if unitary is not None:
            self._apply_between_gradients(unitary[None], same_order=True)

    def refocus(self, pulse: RefocusingPulse) -> None:
        """Apply a slice-selective refocusing pulse between equal gradients, averaged over the slice; elements whose
        coherence order is not reversed are lost.  Spins evolve during the pulse."""
        if pulse not in self._propagators:
            centre = pulse.centre_hz(self.spec_freq_mhz)
            apart = self.offsets_hz - centre
            places, weight = pulse.places(float(np.abs(apart).max()))
            unitary = self._driven(pulse.waveform().astype(complex), pulse.step_s, apart + places[:, None])
            frame = np.exp(-2j * np.pi * centre * 1e-3 * pulse.duration_ms * _spin_z(self.n_spins).sum(axis=0))
            self._propagators[pulse] = frame[:, None] * unitary * np.sqrt(weight)
        self._apply_between_gradients(self._propagators[pulse], same_order=False)

    def _apply_between_gradients(self, unitaries: np.ndarray, *, same_order: bool) -> None:
        """Apply propagators ``(n, 2**n_spins, 2**n_spins)`` and add up the results.  Elements are kept whose coherence
        order has stayed the same, or has been reversed."""
        order = _coherence_order(self.n_spins)
        kept = np.zeros_like(self.rho)
        for p in range(-self.n_spins, self.n_spins + 1):
            before = np.where(order == p, self.rho, 0)
            if before.any():
                after = (unitaries @ before @ unitaries.conj().swapaxes(1, 2)).sum(0)
                kept += np.where(order == (p if same_order else -p), after, 0)
        self.rho = kept

    def _ideal_editing(self, pulse: EditingPulse) -> np.ndarray | None:
        """Return the rotation by an ideal editing pulse; None where no spin is in its band."""
        assert pulse.bandwidth_hz is not None  # chosen when the pulse was made
        apart_hz = np.abs(self.shifts_ppm[:, None] - np.array(pulse.centres_ppm)) * self.spec_freq_mhz
        hit = (apart_hz <= pulse.bandwidth_hz / 2).any(axis=1)
        return _rotation("y", 180, hit) if hit.any() else None

    def _shaped_editing(self, pulse: EditingPulse, steps: int | None) -> np.ndarray:
        """Return the propagator of a pulse with a waveform, couplings and shifts included.

        The frame of the waveform is that of the bands, so the result is turned back by the shift of that frame; where
        it starts makes no difference between gradients.
        """
        key = (pulse, steps)
        if key not in self._propagators:
            assert pulse.duration_ms is not None  # of every pulse with a waveform
            field = waveform(pulse, self.spec_freq_mhz, n_steps(pulse) if steps is None else steps)
            step_s = 1e-3 * pulse.duration_ms / len(field)
            centre = band_centre_hz(pulse, self.spec_freq_mhz)
            propagator = self._driven(field, step_s, self.offsets_hz[None] - centre)[0]
            frame = np.exp(-2j * np.pi * centre * 1e-3 * pulse.duration_ms * _spin_z(self.n_spins).sum(axis=0))
            self._propagators[key] = frame[:, None] * propagator
        return self._propagators[key]

    def _driven(self, field_hz: np.ndarray, step_s: float, offsets_hz: np.ndarray) -> np.ndarray:
        """Return propagators of a waveform ``(n_steps,)`` in its frame for several offsets of the spins ``(n,
        n_spins)``, ``(n, 2**n_spins, 2**n_spins)``.

        In each time step the spins turn in the field and their shift, exactly, between two halves of the evolution of
        the couplings; the error falls with the square of the step.
        """
        half, whole = self._coupling_blocks(step_s / 2), self._coupling_blocks(step_s)
        singles = np.stack([_single_rotations(one, field_hz, step_s) for one in offsets_hz], 2)
        middle, steps = self.n_spins // 2, len(field_hz)
        nothing = np.ones((len(offsets_hz), 1, 1))
        one = np.broadcast_to(np.eye(2**self.n_spins, dtype=complex), (len(offsets_hz), *2 * [2**self.n_spins]))
        propagator = _times_blocks(half, one)
        for k in range(steps):
            left, right = (
                functools.reduce(_kron, part, nothing) for part in (singles[:middle, k], singles[middle:, k])
            )
            propagator = _times_blocks(whole if k + 1 < steps else half, _rotated(left, right, propagator))
        return propagator

    def _coupling_blocks(self, seconds: float) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return the evolution of the couplings alone, which keeps the total quantum number: for each value of it the
        states that have it, and their propagator."""
        coupling = _hamiltonian(np.zeros(self.n_spins), self.couplings_hz)
        total = np.rint(_spin_z(self.n_spins).sum(axis=0) * 2)
        blocks = []
        for value in np.unique(total):
            states = np.flatnonzero(total == value)
            energies, vectors = np.linalg.eigh(coupling[np.ix_(states, states)])
            blocks.append((states, (vectors * np.exp(-2j * np.pi * energies * seconds)) @ vectors.T))
        return blocks

    def lines(self) -> tuple[np.ndarray, np.ndarray]:
        """Return frequencies (Hz) and complex amplitudes of observable lines, one unit per proton at full signal."""
        raising = self.states.T @ _total_raising(self.n_spins) @ self.states
        rho = self.states.T @ self.rho @ self.states
        amplitudes = rho * raising.T / 2 ** (self.n_spins - 2)
        frequencies = self.energies[None, :] - self.energies[:, None]
        observable = np.abs(amplitudes) > 1e-10
        return frequencies[observable], amplitudes[observable]
