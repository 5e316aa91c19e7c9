"""Density-matrix simulation of basis sets: coupled 1H spins, any field, echo time and sampling.

Each group of coupled protons is simulated exactly: its full Hamiltonian (shifts and scalar couplings, strong coupling
included) is diagonalised in the product basis, the density matrix is carried through the pulse sequence, and the FID is
a sum over the transitions between eigenstates.  Pulses are instantaneous and perfect, but for editing pulses and the
refocusing pulses of PRESS, edited or not, which may have a waveform; the latter are averaged over their slices,
chemical shift displacement included.  Selective excitation, relaxation and diffusion are not simulated.
Heteronuclei (31P, 14N) couple weakly and are not excited, so their state is a constant of the motion: a group that
couples to them is the average of plain proton groups, one per state.

The FIDs follow :mod:`fsl_mrs_dl.core.units`: ``exp(+2j*pi*f*t)``, sampled at ``t = k * dwelltime``, an on-resonance
singlet upright, one unit per proton.  The physical constants and their sources are in ``data/spin_systems.json``.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np

from ..core.editing import EDITING_SCHEMES, WITH_PRESS, EditingPulse, editing_pulses
from ..core.errors import BasisError, OptionError
from ..core.units import ppm_to_hz
from .density_matrix import DensityMatrix
from .refocusing import REFOCUSING, RefocusingPulse, usual_refocusing_pulse
from .spin_systems import SpinGroup, SpinSystem, constants, metabolite_names, spin_system

__all__ = [
    "MACROMOLECULE_KINDS",
    "SEQUENCES",
    "macromolecules",
    "simulate_basis",
    "simulate_metabolite",
    "transitions",
    "usual_te1_ms",
]

SEQUENCES = ("fid", "spin-echo", "special", "press", "steam", "slaser", *EDITING_SCHEMES)
MACROMOLECULE_KINDS = ("parametric", "fsl-default", "summed")

_DOUBLE_SPIN = {"31P": 1, "14N": 2}
# Scanners keep the first echo of PRESS short; of ideal pulses this value explains a real basis best
# (benchmarks/basis_validation.md).
_TE1_MS = 14.0
# What sums of times are off by where pulses follow each other at once.
_ROUNDING_MS = 1e-9
# Between two adiabatic refocusing pulses of MEGA-sLASER, which take 3.5 ms.
_SLASER_GAP_MS = 5.0

# FSL-MRS's default macromolecules: name, positions in ppm, areas; gamma in 1/s and sigma in rad/s as basis_tools sets.
_FSL_MM = (
    ("MM09", (0.9,), (3.0,)),
    ("MM12", (1.2,), (2.0,)),
    ("MM14", (1.4,), (2.0,)),
    ("MM17", (1.7,), (2.0,)),
    ("MM21", (2.08, 2.25, 1.95, 3.0), (1.33, 0.33, 0.33, 0.4)),
)
_FSL_MM_GAMMA, _FSL_MM_SIGMA = 40.0, 30.0
_MM_WIDTHS_AT_MHZ = 127.7


_Step = Callable[[DensityMatrix], None]


def _delay(milliseconds: float) -> _Step:
    return lambda spins: spins.delay(milliseconds * 1e-3)


def _pulse(axis: str, degrees: float) -> _Step:
    return lambda spins: spins.pulse(axis, degrees)


def _select(order: int) -> _Step:
    return lambda spins: spins.select(order)


def _edit(before_ms: float, pulse: EditingPulse, after_ms: float) -> list[_Step]:
    """Return a delay, an editing pulse and a delay; the delays are counted from the middle of the pulse."""
    half = (pulse.duration_ms or 0.0) / 2
    if min(before_ms, after_ms) < half - _ROUNDING_MS:
        raise OptionError(
            f"the sequence has {min(before_ms, after_ms):g} ms before or after the middle of the pulse, which needs"
            f" {half:g} ms",
            option="edit_duration_ms",
            value=f"{pulse.duration_ms:g}",
            remedy="give a shorter one, a longer echo time, or `edit_pulse` ideal",
        )
    return [_delay(before_ms - half), lambda spins: spins.edit(pulse), _delay(after_ms - half)]


def _echoes(*half_echoes_ms: float) -> list[_Step]:
    """Return excitation and one refocusing pulse in the middle of twice each half echo time."""
    steps = [_pulse("y", 90)]
    for half in half_echoes_ms:
        steps += [_delay(half), _pulse("x", 180), _delay(half)]
    return steps


def _refocus(pulse: RefocusingPulse) -> _Step:
    return lambda spins: spins.refocus(pulse)


def usual_te1_ms(te_ms: float) -> float:
    """Return the first echo time (ms) that is assumed of PRESS, and of editing sequences with it, of an echo time."""
    return min(_TE1_MS, te_ms / 2)


def _press(te_ms: float, te1_ms: float, refocusing: str) -> list[_Step]:
    pulse = usual_refocusing_pulse(te_ms, te1_ms) if refocusing == "slice-selective" else None
    if pulse is None:
        return _echoes(te1_ms / 2, (te_ms - te1_ms) / 2)
    whole, half = pulse.duration_ms, pulse.duration_ms / 2
    steps = [_pulse("y", 90), _delay(te1_ms / 2 - half), _refocus(pulse), _delay(te_ms / 2 - whole)]
    return [*steps, _refocus(pulse), _delay((te_ms - te1_ms) / 2 - half)]


def _steam(te_ms: float, tm_ms: float) -> list[_Step]:
    # The stimulated echo: order +1, then order 0 (longitudinal and zero-quantum, which keeps evolving), then -1.
    steps = [_pulse("y", 90), _delay(te_ms / 2), _select(1), _pulse("y", -90), _select(0), _delay(tm_ms)]
    return steps + [_pulse("y", 90), _delay(te_ms / 2)]


def _mega_press(
    te_ms: float, te1_ms: float, pulse: EditingPulse, first_ms: float | None, refocusing: str
) -> list[_Step]:
    # The edited coupling refocuses when the editing pulses are TE/2 apart; if no time is given, the first lies half way
    # in the interval that remains behind the first refocusing pulse, and so does the second behind the second.
    first = (te_ms - te1_ms) / 4 if first_ms is None else first_ms
    # Between a refocusing pulse and the editing pulses beside it.
    room = 2 * min(first, te_ms / 2 - first) - (pulse.duration_ms or 0.0)
    refocus, half = _pulse("x", 180), 0.0
    usual = usual_refocusing_pulse(te_ms, te1_ms, room_ms=room) if refocusing == "slice-selective" else None
    if usual is not None:
        refocus, half = _refocus(usual), usual.duration_ms / 2
    steps = [_pulse("y", 90), _delay(te1_ms / 2 - half), refocus]
    steps += [*_edit(first - half, pulse, te_ms / 2 - first - half), refocus]
    return steps + _edit(first - half, pulse, (te_ms - te1_ms) / 2 - first)


def _mega_slaser(te_ms: float, pulse: EditingPulse) -> list[_Step]:
    # The first refocusing pulse is early and the other three follow each other half way, so that there is room for an
    # editing pulse before and one after them, TE/2 apart and with an odd number of refocusing pulses between.
    gap = min(_SLASER_GAP_MS, te_ms / 8)
    quarter, room = te_ms / 4, te_ms / 4 - gap
    steps = [_pulse("y", 90), _delay(gap), _pulse("x", 180), *_edit(quarter, pulse, room), _pulse("x", 180)]
    return steps + [_delay(gap), _pulse("x", 180), _delay(gap), _pulse("x", 180), *_edit(room, pulse, room)]


def _check_time(name: str, value: float | None, sequence: str, low: float = 0.0, high: float = np.inf) -> float:
    if value is None:
        raise OptionError(f"{name} is missing: {sequence} needs it, in milliseconds.")
    if not low <= value <= high or not np.isfinite(value):
        span = f"between {low:g} and {high:g} ms" if np.isfinite(high) else f"{low:g} ms or more"
        raise OptionError(f"{name} = {value:g} ms makes no sense for {sequence}: give {span}.")
    return float(value)


def _editing_pulse(sequence: str, edit, edit_ppm, edit_bandwidth_hz, edit_pulse) -> EditingPulse:
    """Return the editing pulse of one edit condition."""
    conditions = EDITING_SCHEMES[sequence]
    if edit not in conditions:
        names = [f"'{name}'" for name in conditions]
        raise OptionError(f"edit = {edit} is not an editing condition: give {', '.join(names[:-1])} or {names[-1]}.")
    if isinstance(edit_pulse, EditingPulse):
        if edit_ppm is not None or edit_bandwidth_hz is not None:
            raise OptionError("edit_ppm and edit_bandwidth_hz are those of edit_pulse: leave them out.")
        return edit_pulse
    pulse = editing_pulses(sequence, shape=edit_pulse or "ideal", bandwidth_hz=edit_bandwidth_hz)[edit]
    return pulse if edit_ppm is None else replace(pulse, centre_ppm=float(edit_ppm), other_centres_ppm=())


def _sequence_steps(
    sequence: str,
    *,
    te_ms: float | None = None,
    te1_ms: float | None = None,
    tm_ms: float | None = None,
    edit: str | None = None,
    edit_ppm: float | None = None,
    edit_bandwidth_hz: float | None = None,
    edit_pulse: str | EditingPulse | None = None,
    edit_delay_ms: float | None = None,
    refocusing: str | None = None,
) -> list[_Step]:
    """Check the options of a sequence and return its steps."""
    edit_options = {"edit_ppm": edit_ppm, "edit_bandwidth_hz": edit_bandwidth_hz, "edit_pulse": edit_pulse}
    if sequence not in SEQUENCES:
        raise OptionError(f"'{sequence}' is not a sequence: choose from {', '.join(SEQUENCES)}.")
    edited = tuple(EDITING_SCHEMES)
    for name, value, takers in (
        ("te_ms", te_ms, SEQUENCES[1:]),
        ("te1_ms", te1_ms, ("press", *WITH_PRESS)),
        ("edit_delay_ms", edit_delay_ms, WITH_PRESS),
        ("tm_ms", tm_ms, ("steam",)),
        ("refocusing", refocusing, ("press", *WITH_PRESS)),
        ("edit", edit, edited),
        *((name, value, edited) for name, value in edit_options.items()),
    ):
        if value is not None and sequence not in takers:
            uses = f"it is for {', '.join(takers)}"
            raise OptionError(f"{name} = {value} means nothing for {sequence}: leave it out ({uses}).")
    if refocusing is not None and refocusing not in REFOCUSING:
        raise OptionError(
            "is unknown", option="refocusing", value=refocusing, remedy=f"choose {' or '.join(REFOCUSING)}"
        )
    if sequence == "fid":
        return [_pulse("y", 90)]
    te_ms = _check_time("te_ms", te_ms, sequence)
    if sequence in ("spin-echo", "special"):
        # SPECIAL's inversion only changes the sign of the localised signal.
        return _echoes(te_ms / 2)
    if sequence == "slaser":
        return _echoes(*[te_ms / 8] * 4)
    if sequence == "steam":
        return _steam(te_ms, _check_time("tm_ms", tm_ms, sequence))
    if sequence == "mega-slaser":
        return _mega_slaser(te_ms, _editing_pulse(sequence, edit, **edit_options))
    te1_ms = usual_te1_ms(te_ms) if te1_ms is None else _check_time("te1_ms", te1_ms, sequence, high=te_ms)
    if sequence == "press":
        return _press(te_ms, te1_ms, refocusing or "ideal")
    if edit_delay_ms is not None:
        _check_time("edit_delay_ms", edit_delay_ms, sequence, high=(te_ms - te1_ms) / 2)
    pulse = _editing_pulse(sequence, edit, **edit_options)
    return _mega_press(te_ms, te1_ms, pulse, edit_delay_ms, refocusing or "ideal")


# ---------------------------------------------------------------------------------------------------------------------
# From steps to lines to FIDs
# ---------------------------------------------------------------------------------------------------------------------


def _heteronuclear_states(group: SpinGroup) -> tuple[np.ndarray, float]:
    """Return the shift in Hz of every proton in every heteronuclear state, ``(n_states, n_spins)``, and a
    state's population."""
    ladders: list[np.ndarray] = [np.zeros((1, len(group.shifts_ppm)))]
    for hetero in group.heteronuclei:
        double_spin = _DOUBLE_SPIN[hetero.nucleus]
        m = np.arange(-double_spin, double_spin + 1, 2) / 2
        ladders.append(np.outer(m, hetero.couplings_hz))
    shifts = np.array([np.sum(rows, axis=0) for rows in itertools.product(*ladders)])
    return shifts, 1 / len(shifts)


def _group_lines(group: SpinGroup, steps: list[_Step], spec_freq_mhz: float) -> tuple[np.ndarray, np.ndarray]:
    shifts_ppm = np.array(group.shifts_ppm)
    offsets_hz = ppm_to_hz(shifts_ppm, spec_freq_mhz)
    extra_hz, population = _heteronuclear_states(group)
    frequencies, amplitudes = [], []
    for extra in extra_hz:
        spins = DensityMatrix(shifts_ppm, offsets_hz + extra, group.couplings_hz, spec_freq_mhz)
        for step in steps:
            step(spins)
        frequency, amplitude = spins.lines()
        frequencies.append(frequency)
        amplitudes.append(amplitude * population * group.weight)
    return np.concatenate(frequencies), np.concatenate(amplitudes)


def _merge(frequencies: np.ndarray, amplitudes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Add up lines of equal frequency (to a microhertz), drop those that cancel, and return them in ascending order."""
    distinct, index = np.unique(np.round(frequencies, 6), return_inverse=True)
    summed = np.zeros(len(distinct), complex)
    np.add.at(summed, index, amplitudes)
    nonzero = np.abs(summed) > 1e-9
    return distinct[nonzero], summed[nonzero]


def _system_lines(system: SpinSystem, steps: list[_Step], spec_freq_mhz: float) -> tuple[np.ndarray, np.ndarray]:
    per_group = [_group_lines(group, steps, spec_freq_mhz) for group in system.groups]
    return _merge(*(np.concatenate(parts) for parts in zip(*per_group)))


def _check_positive(**values: float) -> None:
    for name, value in values.items():
        if not (np.isfinite(value) and value > 0):
            raise OptionError(f"{name} = {value:g} is impossible: give a positive number.")


def _check_sampling(bandwidth_hz: float, n_points: int) -> None:
    _check_positive(bandwidth_hz=bandwidth_hz)
    if n_points != int(n_points) or n_points < 1:
        raise OptionError(f"n_points = {n_points} is impossible: give a whole number of 1 or more.")


def _synthesise(frequencies, amplitudes, bandwidth_hz: float, n_points: int) -> np.ndarray:
    """Return the sum of undamped exponentials at ``t = k / bandwidth_hz``, shape ``(n_points,)``.

    Every time is a coarse step plus a fine step, so the exponentials of a line are an outer product and the sum over
    lines is one matrix product instead of ``n_lines * n_points`` exponentials.  Lines outside the bandwidth are left
    out, as a receiver's filter does; folding them back would put them at a false chemical shift.
    """
    inside = np.abs(frequencies) < bandwidth_hz / 2
    exponents = 2j * np.pi * frequencies[inside] / bandwidth_hz
    block = int(np.ceil(np.sqrt(n_points)))
    fine = np.exp(np.outer(exponents, np.arange(block)))
    coarse = np.exp(np.outer(exponents, np.arange(0, n_points, block)))
    return ((coarse * amplitudes[inside, None]).T @ fine).ravel()[:n_points]


def _as_system(name: str | SpinSystem) -> SpinSystem:
    return name if isinstance(name, SpinSystem) else spin_system(name)


def transitions(
    name: str | SpinSystem,
    sequence: str = "press",
    *,
    spec_freq_mhz: float,
    **options,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the stick spectrum of a metabolite, which :func:`simulate_basis` samples, with the same options.

    Returns
    -------
    frequencies_hz : ndarray, shape ``(n_lines,)``
        Ascending, from the carrier (4.65 ppm).
    amplitudes : complex ndarray, shape ``(n_lines,)``
        In protons.

    Raises
    ------
    BasisError
        Unknown metabolite.
    OptionError
        Impossible option.
    """
    _check_positive(spec_freq_mhz=spec_freq_mhz)
    steps = _sequence_steps(sequence, **options)
    return _system_lines(_as_system(name), steps, spec_freq_mhz)


def simulate_basis(
    names: Iterable[str | SpinSystem] | None = None,
    sequence: str = "press",
    *,
    spec_freq_mhz: float,
    bandwidth_hz: float,
    n_points: int,
    fwhm_hz: float = 2.0,
    **options,
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Simulate a basis set.

    Parameters
    ----------
    names : iterable of str or SpinSystem, optional
        Metabolites by FSL-MRS's names; all known ones if left out.
    sequence : str
        ``fid`` (90, acquire); ``spin-echo`` and ``special`` (90 - TE/2 - 180 - TE/2); ``press``
        (90 - TE1/2 - 180 - TE/2 - 180 - TE2/2); ``steam`` (three 90s; half the signal); ``slaser`` (90 and four 180s at
        TE/8, 3TE/8, 5TE/8, 7TE/8); ``mega-press``, ``hermes`` and ``hercules`` (PRESS with two editing pulses, TE/2
        apart); ``mega-slaser`` (180s 5 ms after the 90, before and after TE/2, and between them editing pulses 5 ms
        behind TE/4 and 3TE/4).
    spec_freq_mhz : float
        1H frequency of the scanner in MHz.
    bandwidth_hz : float
        Spectral width in Hz; resonances outside it are left out.
    n_points : int
    fwhm_hz : float
        Lorentzian line width in Hz at half height; 0 for none.
    te_ms : float, optional
        Echo time in ms; every sequence but ``fid`` needs it.
    te1_ms : float, optional
        First echo time of ``press`` and its edited kinds in ms; if left out 14, or half of TE where that is shorter.
    tm_ms : float, optional
        Mixing time of ``steam`` in ms.
    edit : str, optional
        Edit condition: ``on`` or ``off`` of MEGA, ``A`` to ``D`` of HERMES and HERCULES.
    edit_ppm : float, optional
        Centre of the editing pulse's only band; by default as in :data:`fsl_mrs_dl.core.editing.EDITING_SCHEMES`.
    edit_bandwidth_hz : float, optional
        Full width of a band in which editing pulses invert spins.
    edit_pulse : {'ideal', 'sinc-gaussian'} or EditingPulse, optional
        Editing pulses without duration (the default) or with a waveform of 15 ms (HERMES, HERCULES: 20), or as given.
    edit_delay_ms : float, optional
        Time from a 180 of PRESS to the middle of the editing pulse behind it; by default a quarter of TE - TE1.
    refocusing : {'ideal', 'slice-selective'}, optional
        Of ``press`` and its edited kinds: without duration (the default, which reads glutamate of ``press`` in vivo far
        too high), or as scanners have them, see :mod:`fsl_mrs_dl.physics.refocusing`.

    Returns
    -------
    fids : complex ndarray, shape ``(n_metabs, n_points)``
        One unit per proton, first point at the echo.
    names : tuple of str, length ``n_metabs``

    Raises
    ------
    BasisError
        Unknown metabolite, or none.
    OptionError
        Impossible option, or one that the sequence does not take.

    References
    ----------
    Levitt MH. Spin Dynamics, 2nd ed. Wiley 2008.  MEGA: Mescher M, et al. NMR Biomed 1998;11:266-272,
    doi:10.1002/(SICI)1099-1492(199810)11:6<266::AID-NBM530>3.0.CO;2-J.  The stimulated echo of coupled spins:
    Young K, et al. J Magn Reson 1999;140:146-152.
    """
    _check_positive(spec_freq_mhz=spec_freq_mhz)
    _check_sampling(bandwidth_hz, n_points)
    if not (np.isfinite(fwhm_hz) and fwhm_hz >= 0):
        raise OptionError(f"fwhm_hz = {fwhm_hz:g} is not a line width: give 0 or a positive number of Hz.")
    steps = _sequence_steps(sequence, **options)
    systems = [_as_system(name) for name in (metabolite_names() if names is None else names)]
    if not systems:
        raise BasisError("no metabolite to simulate: name at least one.")
    decay = np.exp(-np.pi * fwhm_hz * np.arange(n_points) / bandwidth_hz)
    lines = (_system_lines(system, steps, spec_freq_mhz) for system in systems)
    fids = np.array([_synthesise(*line, bandwidth_hz, n_points) * decay for line in lines])
    return fids, tuple(system.name for system in systems)


def simulate_metabolite(name: str | SpinSystem, sequence: str = "press", **options) -> np.ndarray:
    """Simulate one metabolite and return its FID, complex ``(n_points,)``; options as in :func:`simulate_basis`."""
    return simulate_basis([name], sequence, **options)[0][0]


# ---------------------------------------------------------------------------------------------------------------------
# Macromolecules
# ---------------------------------------------------------------------------------------------------------------------


def macromolecules(
    kind: str = "parametric", *, spec_freq_mhz: float, bandwidth_hz: float, n_points: int
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return the macromolecular background as broad lines.

    Parameters
    ----------
    kind : {'parametric', 'fsl-default', 'summed'}
        ``parametric``: twelve Gaussian lines, 0.92 to 3.86 ppm, one row each, named MM092 to MM386; their widths grow
        in proportion to the field.  ``summed``: the same lines as one row, named mm.  ``fsl-default``: the five of
        FSL-MRS (MM09, MM12, MM14, MM17, MM21) with its widths, the same in Hz at every field.
    spec_freq_mhz, bandwidth_hz, n_points
        As for :func:`simulate_basis`.

    Returns
    -------
    fids : complex ndarray, shape ``(n_mm, n_points)``
        First point: the area, 3 at 0.9 ppm.
    names : tuple of str, length ``n_mm``

    Raises
    ------
    OptionError
        Unknown kind or impossible sampling.

    References
    ----------
    Positions: Cudalbu C, et al. NMR Biomed 2021;34:e4393, doi:10.1002/nbm.4393; the sources of areas and widths are
    in ``data/spin_systems.json``.
    """
    if kind not in MACROMOLECULE_KINDS:
        raise OptionError(f"'{kind}' is not a kind of macromolecules: choose from {', '.join(MACROMOLECULE_KINDS)}.")
    _check_positive(spec_freq_mhz=spec_freq_mhz)
    _check_sampling(bandwidth_hz, n_points)
    time = np.arange(n_points) / bandwidth_hz
    if kind == "fsl-default":
        decay = np.exp(-time * (_FSL_MM_GAMMA + time * _FSL_MM_SIGMA**2))
        rows = [decay * (np.array(areas) @ _rotating(ppms, spec_freq_mhz, time)) for _, ppms, areas in _FSL_MM]
        return np.array(rows), tuple(name for name, _, _ in _FSL_MM)
    lines = constants()["macromolecules"]["lines"]
    ppm, area, fwhm = (np.array([line[key] for line in lines]) for key in ("ppm", "area", "fwhm_hz"))
    fwhm = fwhm * spec_freq_mhz / _MM_WIDTHS_AT_MHZ
    gauss = np.exp(-((np.pi * fwhm[:, None] * time) ** 2) / (4 * np.log(2)))
    fids = area[:, None] * gauss * _rotating(ppm, spec_freq_mhz, time)
    if kind == "summed":
        return fids.sum(axis=0, keepdims=True), ("mm",)
    return fids, tuple(f"MM{position * 100:03.0f}" for position in ppm)


def _rotating(ppm, spec_freq_mhz: float, time: np.ndarray) -> np.ndarray:
    """Return undamped unit signals, shape ``(n_lines, n_points)``."""
    return np.exp(2j * np.pi * np.outer(ppm_to_hz(np.asarray(ppm), spec_freq_mhz), time))
