"""The in-vivo model of edited data: one set of parameters for the spectra of all conditions.

Concentrations, widths, line shape, shifts of single lines and macromolecules are common to the conditions, whose basis
spectra differ by what editing does.  A condition has a small shift, phase, damping and size of its own, as
alignment leaves them.  An editing pulse that is weaker or stronger than simulated changes basis spectra in proportion:

    b_on = b_off + efficiency (b_on,simulated - b_off)

for each pulse, about the condition that differs by this pulse only.  The efficiency has a part that all metabolites
share, so that NAA and Glx, which the pulse changes too, inform that of GABA, and a small part of each, because they
are at different distances from the middle of the pulse.  Lines of macromolecules near the pulse change by a share of
their own, because their couplings are not known.  Spectra are combined by an orthonormal matrix into a sum and
differences; the noise stays white, and a smooth baseline, which editing hardly changes, is small in the differences.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

from .in_vivo_components import Components, priors_table
from .in_vivo_model import InVivoModel

_SAME_LINE_PPM = 0.1
_LEAST_CHANGE = 0.02  # of a metabolite's signal, that counts as edited

__all__ = ["EditedModel", "combinations", "efficiency_weights", "make_edited_model", "partners_of"]


@dataclass(frozen=True)
class EditedModel:
    """Models of several conditions with common parameters; it stands in for an :class:`.in_vivo_model.InVivoModel`
    where spectra are minimised.

    Attributes
    ----------
    plain : InVivoModel
        Of one condition; it holds window, prior of the common parameters, and what all conditions share.
    bases : complex Tensor ``(n_conditions, n_components, n_time)``
    partners : Tensor ``(n_pulses, n_conditions)``
        The condition that lacks the pulse and is alike otherwise; the condition itself where it has no such pulse.
    edited : Tensor ``(n_edited,)``
        Components that have a part of the efficiency of their own.
    changed : Tensor ``(n_pulses, n_components)``
        One for lines of macromolecules that a pulse may change by a share of their own.
    mixing : complex Tensor ``(n_conditions, n_conditions)``
        Orthonormal rows: sum, then differences.
    slices : dict of str to slice
        Those of ``plain``, then 'efficiency', 'own_efficiency' and 'mm_change' (pulse by pulse),
        and what a condition has of its own: 'own_shift_of_condition' (Hz),
        'own_phi0_of_condition' (rad), 'own_gamma_of_condition' and 'own_size_of_condition' (logarithms).
    prior_mean, prior_precision : Tensor ``(n_params,)`` and ``(n_params, n_params)``
    """

    plain: InVivoModel
    bases: torch.Tensor
    partners: torch.Tensor
    edited: torch.Tensor
    changed: torch.Tensor
    mixing: torch.Tensor
    slices: dict[str, slice]
    prior_mean: torch.Tensor
    prior_precision: torch.Tensor

    @property
    def n_conditions(self) -> int:
        """Number of conditions."""
        return len(self.bases)

    @property
    def n_params(self) -> int:
        """Length of a parameter vector."""
        return len(self.prior_mean)

    @property
    def components(self) -> Components:
        """Signals, with the basis spectra of one condition."""
        return self.plain.components

    @property
    def basis(self) -> torch.Tensor:
        """Basis spectra of the condition of ``plain``."""
        return self.plain.basis

    @property
    def time(self) -> torch.Tensor:
        """Seconds of the coarse grid."""
        return self.plain.time

    @property
    def n_linear(self) -> int:
        """Number of metabolites, lipids and co-edited macromolecules, which come first."""
        return self.plain.n_linear

    @property
    def n_components(self) -> int:
        """Number of signals."""
        return self.plain.n_components

    @property
    def details(self) -> torch.Tensor:
        """Indices of parameters that the first steps of a fit leave alone."""
        own = torch.arange(self.slices["efficiency"].start, self.n_params)
        return torch.cat([self.plain.details, own])

    # -- conditions ------------------------------------------------------------------------------------------------

    def parameters_of(self, x: torch.Tensor, condition: int) -> torch.Tensor:
        """Return the parameters ``(b, n_plain)`` of one condition's model."""
        out = x[:, : self.plain.n_params].clone()
        s = self.slices
        for name in ("shift", "phi0", "gamma"):
            out[:, s[name]] += x[:, s[f"own_{name}_of_condition"]][:, [condition]]
        out[:, s["log_amp"]] += x[:, s["own_size_of_condition"]][:, [condition]]
        return out

    def efficiencies(self, x: torch.Tensor) -> torch.Tensor:
        """Return the efficiency of every pulse for every component, ``(b, n_pulses, n_components)``."""
        s, n_pulses = self.slices, len(self.partners)
        out = x[:, s["efficiency"], None].repeat(1, 1, self.n_components)
        out[:, :, self.edited] += x[:, s["own_efficiency"]].unflatten(-1, (n_pulses, -1)) if n_pulses else 0
        return out

    def bases_of(self, x: torch.Tensor, slope_of: int | None = None) -> torch.Tensor:
        """Return the basis spectra of all conditions ``(b, n_conditions, n_components, n_time)`` with the efficiency of
        pulses, or their derivatives by the efficiency of one pulse."""
        weights = _weights(self.partners, self.efficiencies(x), slope_of)
        out = torch.einsum("bckl,lct->bkct", weights.to(self.bases.dtype), self.bases)
        if slope_of is None and len(self.partners):
            out = out + self.mm_changes(x)[..., None] * self.plain.basis
        return out

    @property
    def _has_pulse(self) -> torch.Tensor:
        """Whether each condition has a pulse that another one lacks, ``(n_pulses, n_conditions)``."""
        return self.partners != torch.arange(self.n_conditions, device=self.partners.device)

    @property
    def _places_of_changes(self) -> torch.Tensor:
        """Pulse and component of each parameter of 'mm_change', ``(n, 2)``."""
        return torch.nonzero(self.changed)

    def mm_changes(self, x: torch.Tensor) -> torch.Tensor:
        """Return by how much of themselves macromolecules change, ``(b, n_conditions, n_components)``."""
        pulse, component = self._places_of_changes.unbind(-1)
        of_pulse = torch.zeros(len(x), len(self.partners), self.n_components, dtype=x.dtype, device=x.device)
        of_pulse[:, pulse, component] = x[:, self.slices["mm_change"]]
        return torch.einsum("bpc,pk->bkc", of_pulse, self._has_pulse.to(x.dtype))

    # -- what minimisations need -----------------------------------------------------------------------------------

    def mixed(self, spectra: torch.Tensor) -> torch.Tensor:
        """Combine spectra ``(..., n_conditions, n_window)`` to sum and differences ``(..., n_conditions n_window)``."""
        return (self.mixing @ spectra).flatten(-2)

    def unmixed(self, spectra: torch.Tensor) -> torch.Tensor:
        """Return spectra ``(..., n_conditions, n_window)`` of :meth:`mixed` ones."""
        return self.mixing.mH @ spectra.unflatten(-1, (len(self.mixing), -1))

    def _each(self, x: torch.Tensor) -> list[tuple[InVivoModel, torch.Tensor]]:
        """Return model and parameters of every condition."""
        bases = self.bases_of(x)
        return [(replace(self.plain, basis=bases[:, k]), self.parameters_of(x, k)) for k in range(self.n_conditions)]

    def spectra(self, x: torch.Tensor) -> torch.Tensor:
        """Return the spectra of all conditions in the window, complex ``(b, n_conditions, n_window)``."""
        return torch.stack([model.spectrum(own) for model, own in self._each(x)], 1)

    def spectrum(self, x: torch.Tensor, water: torch.Tensor | None = None) -> torch.Tensor:
        """Return combined spectra ``(b, n_conditions n_window)``."""
        return self.mixed(self.spectra(x))

    def component_spectra(self, x: torch.Tensor) -> torch.Tensor:
        """Return the spectrum of every component in every condition, complex ``(b, n_components, n_conditions,
        n_window)``."""
        return torch.stack([model.component_spectra(own) for model, own in self._each(x)], 2)

    def jacobian(self, x: torch.Tensor, water: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Return combined spectra and their derivatives ``(b, n_params, n_conditions n_window)``."""
        n, s = self.plain.n_params, self.slices
        shape = (len(x), self.n_params, self.n_conditions, self.plain.window.n_window)
        out, spectra = torch.zeros(shape, dtype=self.bases.dtype, device=x.device), []
        for k, (one, own) in enumerate(self._each(x)):
            model, jacobian = one.jacobian(own)
            spectra.append(model)
            out[:, :n, k] = jacobian
            for name in ("shift", "phi0", "gamma"):
                out[:, s[f"own_{name}_of_condition"].start + k, k] = jacobian[:, s[name].start]
            out[:, s["own_size_of_condition"].start + k, k] = model
        for pulse, k, slopes in self._slopes(x):
            out[:, s["efficiency"].start + pulse, k] = slopes.sum(1)
            out[:, self._own_efficiency(pulse), k] = slopes[:, self.edited]
        for parameters, k, slopes in self._slopes_of_changes(x):
            out[:, parameters, k] = slopes
        return self.mixed(torch.stack(spectra, 1)), self.mixed(out)

    def _slopes_of_changes(self, x: torch.Tensor) -> Iterator[tuple[torch.Tensor, int, torch.Tensor]]:
        """Yield derivatives ``(b, n, n_window)`` by changes of macromolecules: numbers of the parameters, condition,
        derivatives."""
        pulse, component = self._places_of_changes.unbind(-1)
        if not len(pulse):
            return
        first = self.slices["mm_change"].start
        for k in range(self.n_conditions):
            which = torch.nonzero(self._has_pulse[pulse, k])[:, 0]
            if len(which):
                slopes = self.plain.component_spectra(self.parameters_of(x, k))
                yield first + which, k, slopes[:, component[which]]

    def _own_efficiency(self, pulse: int) -> slice:
        first = self.slices["own_efficiency"].start + pulse * len(self.edited)
        return slice(first, first + len(self.edited))

    def _slopes(self, x: torch.Tensor) -> Iterator[tuple[int, int, torch.Tensor]]:
        """Yield derivatives of the components' spectra ``(b, n_components, n_window)`` by the efficiency of a pulse:
        pulse, condition, derivatives."""
        for pulse, has_pulse in enumerate(self._has_pulse):
            bases = self.bases_of(x, slope_of=pulse)
            for k in torch.nonzero(has_pulse)[:, 0].tolist():
                model = replace(self.plain, basis=bases[:, k])
                yield pulse, k, model.component_spectra(self.parameters_of(x, k))

    def spectrum_and_pull(
        self, x: torch.Tensor, weigh: Callable[[torch.Tensor], torch.Tensor], water: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return combined spectra and the products of their derivatives with ``weigh(spectra)``, ``(b, n_params)``."""
        n, s = self.plain.n_params, self.slices
        each = self._each(x)
        apart = torch.stack([model.spectrum(own) for model, own in each], 1)
        spectra = self.mixed(apart)
        weighted = self.unmixed(weigh(spectra))
        out = torch.zeros(len(x), self.n_params, dtype=x.dtype, device=x.device)
        for k, (model, own) in enumerate(each):
            part = weighted[:, k]
            _, pull = model.spectrum_and_pull(own, _always(part))
            out[:, :n] += pull
            for name in ("shift", "phi0", "gamma"):
                out[:, s[f"own_{name}_of_condition"].start + k] = pull[:, s[name].start]
            out[:, s["own_size_of_condition"].start + k] = (apart[:, k].conj() * part).real.sum(-1)
        for pulse, k, slopes in self._slopes(x):
            pulls = (slopes.conj() @ weighted[:, k, :, None])[..., 0].real
            out[:, s["efficiency"].start + pulse] += pulls.sum(1)
            out[:, self._own_efficiency(pulse)] += pulls[:, self.edited]
        for parameters, k, slopes in self._slopes_of_changes(x):
            out[:, parameters] += (slopes.conj() @ weighted[:, k, :, None])[..., 0].real
        return spectra, out

    def growth(self, before: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Return the factors ``(b, n_params)`` that derivatives are multiplied by, see
        :meth:`.in_vivo_model.InVivoModel.growth`."""
        n = self.plain.n_params
        out = torch.ones_like(x)
        out[:, :n] = self.plain.growth(before[:, :n], x[:, :n])
        return out


def combinations(n: int) -> np.ndarray:
    """Return an orthonormal matrix ``(n, n)`` whose first row is the sum: Hadamard's for powers of two, which HERMES
    combines its sub-spectra by, and Helmert's for others."""
    if n & (n - 1) == 0:
        out = np.ones((1, 1))
        while len(out) < n:
            out = np.block([[out, out], [out, -out]])
        return out / np.sqrt(n)
    out = np.zeros((n, n))
    out[0] = 1 / np.sqrt(n)
    for row in range(1, n):
        out[row, :row], out[row, row] = 1, -row
        out[row] /= np.sqrt(row * (row + 1))
    return out


def partners_of(pulses: tuple[tuple[float, ...], ...]) -> tuple[tuple[float, ...], np.ndarray]:
    """Return the places of pulses that make a difference between two conditions, and for each of them the condition
    that lacks it and is alike otherwise, ``(n_pulses, n_conditions)``; the condition itself where it has no such pulse
    or there is no such condition.

    Parameters
    ----------
    pulses : tuple of tuples of float
        Places in ppm that are inverted in each condition.
    """
    sets = [frozenset(places) for places in pulses]
    rows = {}
    for place in sorted(frozenset().union(*sets)):
        row = [
            sets.index(one - {place}) if place in one and one - {place} in sets else number
            for number, one in enumerate(sets)
        ]
        if row != list(range(len(sets))):
            rows[place] = row
    return tuple(rows), np.array(list(rows.values()), int).reshape(-1, len(sets))


def efficiency_weights(partners: np.ndarray, efficiency: np.ndarray) -> np.ndarray:
    """Return the weights ``(n, n_conditions, n_conditions)`` of simulated basis spectra in those of each condition.

    Parameters
    ----------
    partners : ndarray ``(n_pulses, n_conditions)``
        See :func:`partners_of`.
    efficiency : ndarray ``(n_pulses, n)``
        Of every pulse, for ``n`` signals.
    """
    return _weights(torch.as_tensor(partners), torch.as_tensor(efficiency)[None], None)[0].numpy()


def _weights(partners: torch.Tensor, efficiency: torch.Tensor, slope_of: int | None) -> torch.Tensor:
    """Return weights ``(b, n, n_conditions, n_conditions)`` for efficiencies ``(b, n_pulses, n)``, or their
    derivatives by one of them."""
    n = partners.shape[1]
    eye = torch.eye(n, dtype=efficiency.dtype, device=efficiency.device)
    out = eye.expand(len(efficiency), efficiency.shape[2], n, n)
    for pulse, partner in enumerate(partners):
        has, other = (partner != torch.arange(n, device=eye.device))[:, None], eye[partner]
        if slope_of == pulse:
            factor = torch.where(has, eye - other, torch.zeros_like(eye)).expand_as(out)
        else:
            factor = torch.where(has, other + efficiency[:, pulse, :, None, None] * (eye - other), eye)
        out = factor @ out
    return out


def make_edited_model(
    plain: InVivoModel, bases: np.ndarray, partners: np.ndarray, places: tuple[float, ...] = ()
) -> EditedModel:
    """Make the model of several conditions.

    Parameters
    ----------
    plain : InVivoModel
        Of one condition, that with the fewest pulses.
    bases : complex ndarray ``(n_conditions, n_components, n_points)``
        Signals of the components in each condition, on the data's time grid.
    partners : ndarray ``(n_pulses, n_conditions)``
        See :func:`partners_of`.
    places : tuple of float
        Chemical shift (ppm) of each of these pulses.
    """
    about, mhz = priors_table()["edited"], plain.window.axes.spec_freq_mhz
    n, start = len(bases), plain.n_params
    edited = _edited(bases, plain.components) if len(partners) else np.zeros(0, int)
    slices, means, sds = dict(plain.slices), [], []
    changed = _changed(plain, places, about["co_edited"]["ppm"], about["mm_reach_ppm"])
    blocks = {
        "efficiency": (len(partners), 1.0, about["efficiency_sd"]),
        "own_efficiency": (len(partners) * len(edited), 0.0, about["own_efficiency_sd"]),
        "mm_change": (int(changed.sum()), 0.0, about["mm_change_sd"]),
        "own_shift_of_condition": (n, 0.0, about["shift_ppm"] * mhz),
        "own_phi0_of_condition": (n, 0.0, np.deg2rad(about["phase_deg"])),
        "own_gamma_of_condition": (n, 0.0, about["gamma_log_sd"]),
        "own_size_of_condition": (n, 0.0, about["size_log_sd"]),
    }
    for name, (size, mean, sd) in blocks.items():
        slices[name] = slice(start, start + size)
        start += size
        means += [mean] * size
        sds += [sd] * size
    extra = torch.as_tensor(np.array(sds) ** -2.0).to(plain.prior_mean)
    kind, device = plain.basis.dtype, plain.basis.device
    return EditedModel(
        plain=plain,
        bases=torch.stack([torch.as_tensor(plain.window.coarse(one)).to(device, kind) for one in bases]),
        partners=torch.as_tensor(partners, device=device),
        edited=torch.as_tensor(edited, device=device),
        changed=torch.as_tensor(changed, device=device),
        mixing=torch.as_tensor(combinations(n)).to(device, kind),
        slices=slices,
        prior_mean=torch.cat([plain.prior_mean, torch.as_tensor(means).to(plain.prior_mean)]),
        prior_precision=torch.block_diag(plain.prior_precision, torch.diag(extra)),
    )


def _edited(bases: np.ndarray, components: Components) -> np.ndarray:
    """Return the numbers of the metabolites whose spectra differ between conditions ``(n_edited,)``."""
    size = np.abs(bases).max((0, 2))
    change = np.abs(bases - bases.mean(0)).max((0, 2))
    return np.flatnonzero((components.kinds == "metabolite") & (change > _LEAST_CHANGE * size))


def _changed(plain: InVivoModel, places: tuple[float, ...], co_edited_ppm: float, reach_ppm: float) -> np.ndarray:
    """Return which lines of macromolecules lie near each pulse, ``(n_pulses, n_components)``; the line that is edited
    with GABA has a component of its own."""
    components, axes = plain.components, plain.window.axes
    fids = components.fids
    hz = np.angle((fids[:, 1:5] * fids[:, :4].conj()).sum(-1)) / (2 * np.pi * axes.dwelltime)
    ppm = axes.hz_to_ppm(hz)
    usable = (components.kinds == "mm") & (np.abs(ppm - co_edited_ppm) > _SAME_LINE_PPM)
    return np.array([usable & (np.abs(ppm - place) < reach_ppm) for place in places], bool).reshape(-1, len(ppm))


def _always(weighted: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the function that gives ``weighted`` for every spectrum."""
    return lambda _: weighted
