"""The in-vivo model of edited data: one set of parameters for the spectra of all conditions.

Concentrations, widths, line shape, shifts of single lines and macromolecules are common to the conditions, whose basis
spectra differ by what editing does.  A condition has a small shift, phase, damping and size of its own: what is left
after alignment.  An editing pulse that is weaker or stronger than simulated changes basis spectra in proportion:

    b_on = b_off + efficiency (b_on,simulated - b_off)

for each pulse, about the condition that differs by this pulse only; it is one number of all metabolites, so that NAA
and Glx, which the pulse changes too, decide it.  Spectra are combined by an orthonormal matrix into a sum and
differences; the noise stays white, and a smooth baseline, which editing hardly changes, is small in the differences.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from .in_vivo_components import Components, priors_table
from .in_vivo_model import InVivoModel

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
    mixing : complex Tensor ``(n_conditions, n_conditions)``
        Orthonormal rows: sum, then differences.
    slices : dict of str to slice
        Those of ``plain``, then 'efficiency', and what a condition has of its own: 'own_shift_of_condition' (Hz),
        'own_phi0_of_condition' (rad), 'own_gamma_of_condition' and 'own_size_of_condition' (logarithms).
    prior_mean, prior_precision : Tensor ``(n_params,)`` and ``(n_params, n_params)``
    """

    plain: InVivoModel
    bases: torch.Tensor
    partners: torch.Tensor
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

    def weights(self, x: torch.Tensor, slope_of: int | None = None) -> torch.Tensor:
        """Return the weights ``(b, n_conditions, n_conditions)`` of simulated basis spectra in those of each condition,
        or their derivatives by one efficiency."""
        return _weights(self.partners, x[:, self.slices["efficiency"]], slope_of)

    def _of_condition(self, weights: torch.Tensor, condition: int) -> InVivoModel:
        """Return the model of one condition, with basis spectra of each row ``(b, n_components, n_time)``."""
        basis = torch.einsum("bk,kct->bct", weights[:, condition].to(self.bases.dtype), self.bases)
        return replace(self.plain, basis=basis)

    def of_condition(self, x: torch.Tensor, condition: int) -> tuple[InVivoModel, torch.Tensor]:
        """Return model and parameters of one condition, for one row ``(1, n_params)``, with basis spectra of the
        efficiency that was fitted."""
        model = self._of_condition(self.weights(x), condition)
        return replace(model, basis=model.basis[0]), self.parameters_of(x, condition)

    # -- what minimisations need -----------------------------------------------------------------------------------

    def mixed(self, spectra: torch.Tensor) -> torch.Tensor:
        """Combine spectra ``(..., n_conditions, n_window)`` into sum and differences ``(..., n_conditions n_window)``."""
        return (self.mixing @ spectra).flatten(-2)

    def unmixed(self, spectra: torch.Tensor) -> torch.Tensor:
        """Return spectra ``(..., n_conditions, n_window)`` of :meth:`mixed` ones."""
        return self.mixing.mH @ spectra.unflatten(-1, (self.n_conditions, -1))

    def spectra(self, x: torch.Tensor) -> torch.Tensor:
        """Return the spectra of all conditions in the window, complex ``(b, n_conditions, n_window)``."""
        weights = self.weights(x)
        parts = [
            self._of_condition(weights, k).spectrum(self.parameters_of(x, k)) for k in range(self.n_conditions)
        ]
        return torch.stack(parts, 1)

    def spectrum(self, x: torch.Tensor, water: torch.Tensor | None = None) -> torch.Tensor:
        """Return combined spectra ``(b, n_conditions n_window)``."""
        return self.mixed(self.spectra(x))

    def component_spectra(self, x: torch.Tensor) -> torch.Tensor:
        """Return the spectrum of every component in every condition, complex ``(b, n_components, n_conditions,
        n_window)``."""
        weights = self.weights(x)
        parts = [
            self._of_condition(weights, k).component_spectra(self.parameters_of(x, k))
            for k in range(self.n_conditions)
        ]
        return torch.stack(parts, 2)

    def jacobian(self, x: torch.Tensor, water: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Return combined spectra and their derivatives ``(b, n_params, n_conditions n_window)``."""
        n, s, weights = self.plain.n_params, self.slices, self.weights(x)
        spectra, out = [], None
        for k in range(self.n_conditions):
            own = self.parameters_of(x, k)
            model, jacobian = self._of_condition(weights, k).jacobian(own)
            if out is None:
                shape = (len(x), self.n_params, self.n_conditions, model.shape[-1])
                out = torch.zeros(shape, dtype=model.dtype, device=x.device)
            spectra.append(model)
            out[:, :n, k] = jacobian
            for name in ("shift", "phi0", "gamma"):
                out[:, s[f"own_{name}_of_condition"].start + k, k] = jacobian[:, s[name].start]
            out[:, s["own_size_of_condition"].start + k, k] = model
        assert out is not None
        for pulse, k, slope in self._slopes(x):
            out[:, s["efficiency"].start + pulse, k] = slope
        return self.mixed(torch.stack(spectra, 1)), self.mixed(out)

    def _slopes(self, x: torch.Tensor):
        """Yield derivatives of spectra ``(b, n_window)`` by efficiencies: pulse, condition, derivative."""
        for pulse in range(len(self.partners)):
            weights = self.weights(x, slope_of=pulse)
            for k in range(self.n_conditions):
                if bool(weights[:, k].any()):
                    yield pulse, k, self._of_condition(weights, k).spectrum(self.parameters_of(x, k))

    def spectrum_and_pull(
        self, x: torch.Tensor, weigh: Callable[[torch.Tensor], torch.Tensor], water: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return combined spectra and the products of their derivatives with ``weigh(spectra)``, ``(b, n_params)``."""
        n, s, weights = self.plain.n_params, self.slices, self.weights(x)
        apart = self.spectra(x)
        spectra = self.mixed(apart)
        weighted = self.unmixed(weigh(spectra))
        out = torch.zeros(len(x), self.n_params, dtype=x.dtype, device=x.device)
        for k in range(self.n_conditions):
            part = weighted[:, k]
            model = self._of_condition(weights, k)
            _, pull = model.spectrum_and_pull(self.parameters_of(x, k), lambda _, part=part: part)
            out[:, :n] += pull
            for name in ("shift", "phi0", "gamma"):
                out[:, s[f"own_{name}_of_condition"].start + k] = pull[:, s[name].start]
            out[:, s["own_size_of_condition"].start + k] = (apart[:, k].conj() * part).real.sum(-1)
        for pulse, k, slope in self._slopes(x):
            out[:, s["efficiency"].start + pulse] += (slope.conj() * weighted[:, k]).real.sum(-1)
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


def partners_of(pulses: tuple[tuple[float, ...], ...]) -> np.ndarray:
    """Return for each pulse the condition that lacks it and is alike otherwise, ``(n_pulses, n_conditions)``; the
    condition itself where it has no such pulse or there is no such condition.

    Parameters
    ----------
    pulses : tuple of tuples of float
        Places in ppm that are inverted in each condition.
    """
    sets = [frozenset(places) for places in pulses]
    rows = []
    for place in sorted(frozenset().union(*sets)):
        row = [
            sets.index(one - {place}) if place in one and one - {place} in sets else number
            for number, one in enumerate(sets)
        ]
        if row != list(range(len(sets))):
            rows.append(row)
    return np.array(rows, int).reshape(-1, len(sets))


def efficiency_weights(partners: np.ndarray, efficiency: np.ndarray) -> np.ndarray:
    """Return the weights ``(n_conditions, n_conditions)`` of simulated basis spectra in those of each condition, for
    the efficiency of every pulse ``(n_pulses,)``, or one of all ``(1,)``.

    Parameters
    ----------
    partners : ndarray ``(n_pulses, n_conditions)``
        See :func:`partners_of`.
    """
    values = np.broadcast_to(np.asarray(efficiency, float), len(partners))
    return _weights(torch.as_tensor(partners), torch.as_tensor(values.copy())[None], None)[0].numpy()


def _weights(partners: torch.Tensor, efficiency: torch.Tensor, slope_of: int | None) -> torch.Tensor:
    """Return weights ``(b, n_conditions, n_conditions)`` for efficiencies ``(b, n_pulses)``, or their derivatives."""
    n = partners.shape[1]
    eye = torch.eye(n, dtype=efficiency.dtype, device=efficiency.device)
    out = eye.expand(len(efficiency), n, n)
    for pulse, partner in enumerate(partners):
        has, other = (partner != torch.arange(n, device=eye.device))[:, None], eye[partner]
        if slope_of == pulse:
            factor = torch.where(has, eye - other, torch.zeros_like(eye)).expand_as(out)
        else:
            factor = torch.where(has, other + efficiency[:, pulse, None, None] * (eye - other), eye)
        out = factor @ out
    return out


def make_edited_model(
    plain: InVivoModel, bases: np.ndarray, partners: np.ndarray, *, reference: int = 0
) -> EditedModel:
    """Make the model of several conditions.

    Parameters
    ----------
    plain : InVivoModel
        Of the condition ``reference``.
    bases : complex ndarray ``(n_conditions, n_components, n_points)``
        Signals of the components in each condition, on the data's time grid.
    partners : ndarray ``(n_pulses, n_conditions)``
        See :func:`partners_of`.
    """
    about, mhz = priors_table()["edited"], plain.window.axes.spec_freq_mhz
    n, start = len(bases), plain.n_params
    slices, means, sds = dict(plain.slices), [], []
    blocks = {
        "efficiency": (len(partners), 1.0, about["efficiency_sd"]),
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
        mixing=torch.as_tensor(combinations(n)).to(device, kind),
        slices=slices,
        prior_mean=torch.cat([plain.prior_mean, torch.as_tensor(means).to(plain.prior_mean)]),
        prior_precision=torch.block_diag(plain.prior_precision, torch.diag(extra)),
    )
