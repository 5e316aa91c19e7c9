"""Sub-spectra of edited acquisitions as scanners give them, with their truth.

Conditions share everything that :mod:`.in_vivo_spectra` draws at random; each has a shift and a phase of its own, as
transients that drift leave it, and a baseline that is nearly the same.  Editing pulses are a little weaker or stronger
than the basis set's, and the macromolecule that is edited with GABA has a line at 3 ppm.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..core import units
from ..core.axes import Axes
from ..core.metabolites import typical_concentrations
from ..io.edited_basis import EditedBasis
from ..physics.edited_components import edited_components, places_of, survivals_of
from ..physics.edited_model import efficiency_weights, partners_of
from ..physics.in_vivo_components import priors_table
from .in_vivo_spectra import line_shapes, macromolecule_signals, metabolite_signals, phased, water_and_baseline

__all__ = ["EditedEffects", "EditedSpectra", "simulate_edited"]

_CONCENTRATION_LOG_SD = 0.3
_CO_EDITED_LOG_SD = 0.3
_TO_SIMULATED_UNIT = 10.0


@dataclass(frozen=True)
class EditedEffects:
    """Sizes of what differs between conditions.

    Attributes
    ----------
    shift_hz, phase_deg : float
        SDs of the offsets of conditions.
    efficiency : float
        Of editing pulses, mean; one as simulated.
    efficiency_sd : float
        Between sets.
    own_efficiency_sd : float
        Between metabolites.
    baseline : float
        Baseline of the difference between conditions over that of each.
    co_edited : float
        Amount of the macromolecule that is edited with GABA, one as in the table of priors.
    """

    shift_hz: float = 0.3
    phase_deg: float = 2.0
    efficiency: float = 1.0
    efficiency_sd: float = 0.0
    own_efficiency_sd: float = 0.03
    baseline: float = 0.15
    co_edited: float = 1.0


@dataclass(frozen=True)
class EditedSpectra:
    """Simulated sets of sub-spectra and their truth.

    Attributes
    ----------
    fids : complex ndarray ``(n, n_conditions, n_points)``
    concentrations : ndarray ``(n, n_metabs)``
    co_edited : ndarray ``(n,)``
        Macromolecule that is edited with GABA, in units of GABA's edited line at 3 ppm.
    efficiency : ndarray ``(n,)``
    names : tuple of str
    noise_sd : ndarray ``(n,)``
        Of one real channel of a sub-spectrum.
    axes : Axes
    """

    fids: np.ndarray
    concentrations: np.ndarray
    co_edited: np.ndarray
    efficiency: np.ndarray
    names: tuple[str, ...]
    noise_sd: np.ndarray
    axes: Axes


def simulate_edited(
    basis: EditedBasis,
    axes: Axes,
    n: int,
    *,
    snr: tuple[float, float] = (60.0, 150.0),
    seed: int = 0,
    te_s: float | None = None,
    effects: EditedEffects = EditedEffects(),
) -> EditedSpectra:
    """Simulate sets of sub-spectra of one study.

    Parameters
    ----------
    basis : EditedBasis
        Metabolites that are simulated.
    axes : Axes
    n : int
    snr : (float, float)
        Range of the highest point of the magnitude spectrum of a sub-spectrum over the noise SD of one real channel.
    seed : int
    te_s : float, optional
        Echo time that macromolecules are weighted for; the basis set's by default.
    effects : EditedEffects
    """
    te_s = basis.echo_time_s if te_s is None else te_s
    te_s = 0.068 if te_s is None else te_s
    names = tuple(basis.names)
    typical = typical_concentrations(list(names))
    assert typical is not None
    random = np.random.default_rng(seed)
    seeds = {what: int(random.integers(1 << 31)) for what in ("lines", "metabolites", "mm", "baseline", "phase")}
    fids = np.stack([one.resampled(axes.dwelltime, axes.n_points) for one in basis.sets])
    spread = np.exp(_CONCENTRATION_LOG_SD * random.standard_normal((n, len(names))))
    concentrations = np.where(typical > 0, typical, 0.5) * spread
    efficiency = effects.efficiency + effects.efficiency_sd * random.standard_normal(n)
    own = effects.own_efficiency_sd * random.standard_normal((n, len(names)))
    _, partners = partners_of(places_of(basis.pulses))
    survivals = survivals_of(basis.pulses, axes.spec_freq_mhz)
    components, signals = edited_components(fids, names, axes, survivals, te_s=te_s, tr_s=2.0)
    about = priors_table()["edited"]["co_edited"]
    co_edited = np.zeros(n)
    proton = np.abs(fids[0][:, 0]).mean() / 5.0
    lines = line_shapes(np.random.default_rng(seeds["lines"]), axes, n)
    each = []
    for condition in range(len(fids)):
        signal = np.zeros((n, axes.n_points), complex)
        # The same numbers in every condition.
        for row in range(n):
            of_each = efficiency[row] + own[row] * np.ones((len(partners), 1))
            weights = efficiency_weights(partners, of_each)[:, condition]
            one = np.einsum("mk,kmt->mt", weights, fids)
            same = np.random.default_rng([seeds["metabolites"], row])
            signal[row] = metabolite_signals(same, one, concentrations[[row]], axes)[0]
        mm = np.random.default_rng(seeds["mm"])
        amount = macromolecule_signals(mm, basis.sets[0], axes, n, te_s, survival=survivals[condition])
        signal += amount * proton * _TO_SIMULATED_UNIT
        if about["name"] in components.names:
            number = components.names.index(about["name"])
            spread = np.random.default_rng([seeds["mm"], 1]).standard_normal(n)
            co_edited = effects.co_edited * components.expected[number] * np.exp(_CO_EDITED_LOG_SD * spread)
            weights = efficiency_weights(partners, np.broadcast_to(efficiency, (len(partners), n)).copy())
            signal += co_edited[:, None] * (weights[:, condition] @ signals[:, number])
        each.append(signal * lines)
    height = np.abs(units.fid_to_spec(each[-1])).max(1)
    common = water_and_baseline(np.random.default_rng(seeds["baseline"]), axes, height)
    noise_sd = height / random.uniform(*snr, n)
    out = []
    for condition, signal in enumerate(each):
        own = water_and_baseline(np.random.default_rng([seeds["baseline"], condition + 1]), axes, height)
        signal = signal + common + effects.baseline * own
        signal = phased(np.random.default_rng(seeds["phase"]), signal, axes)
        shift = effects.shift_hz * random.standard_normal((n, 1))
        phase = np.deg2rad(effects.phase_deg) * random.standard_normal((n, 1))
        signal = signal * np.exp(1j * (2 * np.pi * shift * axes.time() + phase))
        noise = random.standard_normal((n, axes.n_points, 2)) * noise_sd[:, None, None]
        out.append(signal + noise.view(complex)[..., 0])
    return EditedSpectra(np.stack(out, 1), concentrations, co_edited, efficiency, names, noise_sd, axes)
