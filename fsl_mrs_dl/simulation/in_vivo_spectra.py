"""Spectra as scanners give them, with their truth: a line shape of the shim, shifts of single metabolites,
macromolecules that differ between people, a baseline, residual water; and, one at a time, departures that no fit
expects.

Ranges: shifts of single metabolites, Near et al., doi 10.1002/nbm.4257; macromolecules, Cudalbu et al.,
doi 10.1002/nbm.4393; concentrations, ``data/brain_concentrations.json``.  The numbers are not those of the in-vivo
model's priors: a study has macromolecules, and a shim, of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..core import units
from ..core.axes import Axes
from ..core.errors import OptionError
from ..core.metabolites import is_macromolecule, typical_concentrations
from ..io.basis import Basis
from ..physics.in_vivo_components import build_components

__all__ = [
    "DEPARTURES",
    "InVivoSpectra",
    "line_shapes",
    "macromolecule_signals",
    "metabolite_signals",
    "phased",
    "simulate_in_vivo",
    "water_and_baseline",
]

DEPARTURES = (
    "line shape",
    "mm proportions",
    "mm missing",
    "baseline",
    "echo time",
    "unknown metabolite",
    "metabolite absent",
    "eddy currents",
    "lipid",
    "first-order phase",
)
"""Departures from what a fit expects, see :func:`simulate_in_vivo`."""

_MM_BETWEEN_PEOPLE, _MM_OF_STUDY = 0.18, 0.2  # log SDs of each line
_CONCENTRATION_LOG_SD = 0.3
_SHIFT_PPM, _WIDTH_SHARE = 0.0025, 0.15


@dataclass(frozen=True)
class InVivoSpectra:
    """Simulated spectra and their truth.

    Attributes
    ----------
    fids, water : complex ndarray ``(n, n_points)``
        Suppressed, and the unsuppressed reference with the same line shape and eddy currents.
    concentrations : ndarray ``(n, n_metabs)``
        Of the basis set's entries.
    names : tuple of str
    noise_sd : ndarray ``(n,)``
        Of one real channel.
    axes : Axes
    """

    fids: np.ndarray
    water: np.ndarray
    concentrations: np.ndarray
    names: tuple[str, ...]
    noise_sd: np.ndarray
    axes: Axes


def simulate_in_vivo(
    basis: Basis,
    axes: Axes,
    n: int,
    *,
    snr: tuple[float, float] = (20.0, 60.0),
    seed: int = 0,
    te_s: float = 0.035,
    departure: str | None = None,
    other_basis: Basis | None = None,
) -> InVivoSpectra:
    """Simulate spectra of one study.

    Parameters
    ----------
    basis : Basis
        Metabolites that are simulated, and whose truth is returned.
    axes : Axes
    n : int
    snr : (float, float)
        Range of the highest point of the magnitude spectrum over the noise SD of one real channel.
    seed : int
    te_s : float
        Echo time that macromolecules are weighted for.
    departure : str, optional
        One of :data:`DEPARTURES`.  'echo time' renders the metabolites of ``other_basis``.
    other_basis : Basis, optional
        The same metabolites with another echo time.

    Raises
    ------
    OptionError
        Unknown departure, a basis set that is not a brain's, or no other basis set where one is needed.
    """
    if departure is not None and departure not in DEPARTURES:
        raise OptionError(
            "is unknown", option="departure", value=departure, remedy=f"choose one of {', '.join(DEPARTURES)}"
        )
    names = tuple(name for name in basis.names if not is_macromolecule(name))
    typical = typical_concentrations(list(names))
    if typical is None:
        raise OptionError("has fewer than three brain metabolites", option="basis", value=str(basis.source))
    rendered = basis
    if departure == "echo time":
        if other_basis is None:
            raise OptionError(
                "needs another basis set", option="departure", value=departure, remedy="give `other_basis`"
            )
        rendered = other_basis
    random = np.random.default_rng(seed)
    rendered = rendered.select(list(names))
    fids = rendered.resampled(axes.dwelltime, axes.n_points)
    concentrations = np.where(typical > 0, typical, 0.5) * np.exp(
        _CONCENTRATION_LOG_SD * random.standard_normal((n, len(names)))
    )
    if departure == "metabolite absent":
        concentrations[:, int(np.argsort(typical)[len(names) // 2])] = 0.0
    lines = line_shapes(random, axes, n, strong=departure == "line shape")
    signal = metabolite_signals(random, fids, concentrations, axes)
    proton = np.abs(fids[:, 0]).mean() / 5.0
    signal += macromolecule_signals(random, rendered, axes, n, te_s, departure) * proton * 10
    if departure == "unknown metabolite":
        signal += 1.5 * proton * np.exp(2j * np.pi * axes.ppm_to_hz(3.34) * axes.time())
    signal = signal * lines
    height = np.abs(units.fid_to_spec(signal)).max(1)
    signal += water_and_baseline(random, axes, height, departure)
    water = 4000 * proton * lines * np.exp(-10 * axes.time())
    if departure == "eddy currents":
        turn = np.exp(1j * 1.2 * np.exp(-axes.time() / 0.02))
        signal, water = signal * turn, water * turn
    signal = phased(random, signal, axes, first_order=departure == "first-order phase")
    noise_sd = height / random.uniform(*snr, n)
    noise = random.standard_normal((n, axes.n_points, 2)) * noise_sd[:, None, None]
    return InVivoSpectra(signal + noise.view(complex)[..., 0], water, concentrations, names, noise_sd, axes)


def line_shapes(random: np.random.Generator, axes: Axes, n: int, strong: bool = False) -> np.ndarray:
    """Return line shapes of random shim fields, complex ``(n, n_points)``, one at time zero.

    Voxels have quadratic field terms: a cloud of frequencies that is not symmetric.
    """
    time, field = axes.time(), axes.spec_freq_mhz / 123.2
    out = np.empty((n, len(time)), complex)
    for row in range(n):
        place = random.uniform(-1, 1, (400, 3))
        linear, quadratic = random.normal(0, 1.2, 3), random.normal(0, 4.0 if strong else 1.2, 3)
        hz = field * (place @ linear + (place**2 - 1 / 3) @ quadratic)
        out[row] = np.exp(2j * np.pi * (hz - hz.mean())[:, None] * time).mean(0)
    damping = random.uniform(3.0, 8.0, (n, 1))
    shift = random.normal(0, 0.01 * axes.spec_freq_mhz, (n, 1))
    return out * np.exp((2j * np.pi * shift - damping) * time)


def metabolite_signals(
    random: np.random.Generator, fids: np.ndarray, concentrations: np.ndarray, axes: Axes
) -> np.ndarray:
    """Return the sums of metabolites ``(n, n_points)``, each with a shift and a damping of its own."""
    time = axes.time()
    out = np.zeros((len(concentrations), len(time)), complex)
    for row, conc in enumerate(concentrations):
        shift = random.normal(0, _SHIFT_PPM * axes.spec_freq_mhz, len(conc))
        damping = 5.0 * _WIDTH_SHARE * random.standard_normal(len(conc))
        out[row] = (conc[:, None] * fids * np.exp((2j * np.pi * shift - damping)[:, None] * time)).sum(0)
    return out


def macromolecule_signals(
    random: np.random.Generator,
    basis: Basis,
    axes: Axes,
    n: int,
    te_s: float,
    departure=None,
    survival: Callable[[float], complex] = lambda ppm: 1.0,
) -> np.ndarray:
    """Return macromolecules and, as a departure, lipids, complex ``(n, n_points)``, in units of a proton, with the
    factor that editing pulses multiply a line at a chemical shift (ppm) by."""
    fids = basis.resampled(axes.dwelltime, axes.n_points)
    components = build_components(fids, basis.names, axes, te_s=te_s, tr_s=2.0, survival=survival)
    time, proton = axes.time(), np.abs(fids[:, 0]).mean() / 5.0
    mm = components.kinds == "mm"
    shapes = components.fids[mm] / proton * np.exp(-components.gauss_variance[mm][:, None] * time**2)
    spread = 0.5 if departure == "mm proportions" else _MM_BETWEEN_PEOPLE
    study = _MM_OF_STUDY * random.standard_normal(mm.sum())
    amount = np.exp(study + spread * random.standard_normal((n, mm.sum())) + 0.15 * random.standard_normal((n, 1)))
    if departure == "mm missing":
        amount *= 0.0
    lipids = components.fids[components.kinds == "lipid"] / proton
    of_lipids = np.array([0.4, 2.0, 0.2]) if departure == "lipid" else np.array([0.02, 0.05, 0.01])
    of_lipids = of_lipids * np.exp(0.5 * random.standard_normal((n, 3)))
    return 0.55 * amount @ shapes + of_lipids @ lipids


def water_and_baseline(
    random: np.random.Generator, axes: Axes, height: np.ndarray, departure: str | None = None
) -> np.ndarray:
    """Return residual water and a smooth baseline of random broad humps, complex ``(n, n_points)``; ``height``
    ``(n,)`` is that of the highest peak."""
    time, n = axes.time(), len(height)
    out = np.zeros((n, len(time)), complex)
    size = 0.15 if departure == "baseline" else 0.04
    for row in range(n):
        for ppm in (0.3, 1.0, 1.8, 2.6, 3.4, 4.1):
            decay = np.exp(-((np.pi * random.uniform(0.8, 1.5) * axes.spec_freq_mhz * time) ** 2) / (4 * np.log(2)))
            hump = decay * np.exp(2j * np.pi * axes.ppm_to_hz(ppm) * time)
            peak = np.abs(units.fid_to_spec(hump)).max()
            out[row] += height[row] / peak * size * (random.normal() + 1j * random.normal()) * hump
        offset, damping = axes.ppm_to_hz(random.normal(4.67, 0.02)), random.uniform(15, 40)
        water = np.exp((2j * np.pi * offset - damping) * time + 2j * np.pi * random.uniform())
        out[row] += height[row] * random.uniform(0.3, 2.0) / np.abs(units.fid_to_spec(water)).max() * water
    return out


def phased(random: np.random.Generator, fids: np.ndarray, axes: Axes, first_order: bool = False) -> np.ndarray:
    """Return FIDs ``(n, n_points)`` with phases of zero and first order."""
    n = len(fids)
    zero = random.uniform(-np.pi / 3, np.pi / 3, (n, 1))
    first = random.normal(0, 15.0 if first_order else 1.5, (n, 1))  # degrees per ppm
    angle = zero + np.deg2rad(first) * (axes.ppm() - 2.5)
    return units.spec_to_fid(units.fid_to_spec(fids) * np.exp(-1j * angle))
