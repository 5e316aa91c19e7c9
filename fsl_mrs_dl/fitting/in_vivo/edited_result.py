"""The result of joint fits of edited data: :class:`EditedFit`, and :func:`quantify_edited`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import permutations
from typing import NamedTuple

import numpy as np
import torch

from ...core.axes import Axes
from ...core.device import choose_device
from ...core.editing import EDITING_SCHEMES, EditingPulse, editing_pulses
from ...core.errors import DataError, OptionError
from ...core.fids import UNUSABLE, usable_fids
from ...core.parallel import one_thread
from ...core.units import fid_to_spec
from ...io.edited_basis import EditedBasis
from ...physics.edited_components import places_of, survivals_of
from ...physics.in_vivo_components import priors_table
from ..options import FitOptions
from ..rows import fid_scale_of
from .edited import EditedFits, EditedPrepared, costs_of_orders, fit_edited, prepare_edited
from .quantify import acquisition_of, is_in_vivo
from .result import InVivoFit

__all__ = ["EditedFit", "Spectra", "combinations_of", "pulses_of", "quantify_edited", "recognise_conditions"]

_CLEAR = 5.0  # log likelihood by which one order of conditions must be better than every other


def combinations_of(conditions: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Return the combinations of sub-spectra that are shown, as weights ``(n_conditions,)`` by name.

    Each has the size of a difference of two: the difference of MEGA, and of HERMES and HERCULES the one that shows GABA
    and the one that shows GSH.
    """
    if conditions == ("on", "off"):
        return {"difference": np.array([1.0, -1.0])}
    if conditions == ("A", "B", "C", "D"):
        return {"GABA": np.array([0.5, 0.5, -0.5, -0.5]), "GSH": np.array([0.5, -0.5, 0.5, -0.5])}
    first = conditions[-1]
    return {
        f"{name} - {first}": np.eye(len(conditions))[number] - np.eye(len(conditions))[-1]
        for number, name in enumerate(conditions[:-1])
    }


def pulses_of(basis: EditedBasis) -> tuple[tuple[EditingPulse, ...], ...]:
    """Return the editing pulses of each condition: the basis set's, or the usual ones of MEGA where it does not say."""
    if any(basis.pulses):
        return basis.pulses
    if basis.conditions == tuple(EDITING_SCHEMES["mega-press"]):
        usual = editing_pulses("mega-press")
        return tuple((usual[name],) for name in basis.conditions)
    return tuple(() for _ in basis.conditions)


@dataclass(frozen=True)
class Spectra:
    """Sub-spectra of one set in the fitted window, at all points of the data, upright, with the conditions' own shifts
    and phases taken out.

    Attributes
    ----------
    ppm : ndarray ``(n_window,)``
    data, baseline : complex ndarray ``(n_conditions, n_window)``
    components : dict of str to complex ndarray ``(n_conditions, n_window)``
        By metabolite; all macromolecules together as 'MM'.
    """

    ppm: np.ndarray
    data: np.ndarray
    baseline: np.ndarray
    components: dict[str, np.ndarray]

    @property
    def model(self) -> np.ndarray:
        """All components and the baseline, complex ``(n_conditions, n_window)``."""
        return sum(self.components.values()) + self.baseline

    def combined(self, weights: np.ndarray) -> Spectra:
        """Return one combination of the conditions, ``(1, n_window)`` each."""
        weights = np.asarray(weights)[None]
        parts = {name: weights @ one for name, one in self.components.items()}
        return Spectra(self.ppm, weights @ self.data, weights @ self.baseline, parts)


class Order(NamedTuple):
    """Which sub-spectrum is which.

    ``order`` is the element that each condition is, as given or as fits best, and ``best`` the order that fits best.
    """

    order: tuple[int, ...]
    best: tuple[int, ...]


@dataclass(frozen=True)
class EditedFit:
    """Joint fits of sets of sub-spectra.

    Attributes
    ----------
    basis : EditedBasis
        That was fitted.
    order : tuple of int
        Element of the data's edit dimension that each condition is.
    order_given : bool
        Whether the order was given, not recognised.
    recognised : tuple of int
        The order that fits best.
    fits : tuple of InVivoFit
        One for each condition, with the estimates of all.
    x, x_sd : ndarray ``(n, n_params)``
        Parameters of the joint model.
    baseline : complex ndarray ``(n, n_conditions, n_window)``
    prepared : EditedPrepared
    """

    basis: EditedBasis
    order: tuple[int, ...]
    order_given: bool
    recognised: tuple[int, ...]
    fits: tuple[InVivoFit, ...]
    x: np.ndarray = field(repr=False)
    x_sd: np.ndarray = field(repr=False)
    baseline: np.ndarray = field(repr=False)
    prepared: EditedPrepared = field(repr=False)

    @property
    def scheme(self) -> str:
        """Scheme of the basis set."""
        return self.basis.scheme

    @property
    def conditions(self) -> tuple[str, ...]:
        """Names of the conditions, in the order of the basis set."""
        return self.basis.conditions

    @property
    def reference(self) -> int:
        """Number of the condition with the fewest editing pulses."""
        return self.prepared.reference

    @property
    def places(self) -> tuple[float, ...]:
        """Places (ppm) of the pulses that have an efficiency."""
        return self.prepared.places

    @property
    def main(self) -> InVivoFit:
        """The fit of the condition with the fewest editing pulses."""
        return self.fits[self.reference]

    def _own(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        block = self.prepared.model.slices[name]
        return self.x[:, block], self.x_sd[:, block]

    @property
    def efficiency(self) -> tuple[np.ndarray, np.ndarray]:
        """Effect of each editing pulse over the simulated one, and its SD, ``(n, n_pulses)`` each."""
        return self._own("efficiency")

    @property
    def shift_hz(self) -> tuple[np.ndarray, np.ndarray]:
        """Shift of each condition about their mean, Hz, and its SD, ``(n, n_conditions)`` each."""
        return self._own("own_shift_of_condition")

    @property
    def phase_deg(self) -> tuple[np.ndarray, np.ndarray]:
        """Phase of each condition about their mean, degrees, and its SD, ``(n, n_conditions)`` each."""
        value, sd = self._own("own_phi0_of_condition")
        return np.rad2deg(value), np.rad2deg(sd)

    @property
    def combinations(self) -> dict[str, np.ndarray]:
        """Combinations of conditions that are shown, see :func:`combinations_of`."""
        return combinations_of(self.conditions)

    @property
    def co_edited(self) -> str | None:
        """Name of the macromolecule that is edited with GABA, if it was fitted."""
        name = priors_table()["edited"]["co_edited"]["name"]
        return name if name in self.main.names else None

    def spectra(self, row: int = 0) -> Spectra:
        """Return the sub-spectra of one set."""
        fitted = int(np.flatnonzero(self.main.fitted).searchsorted(row))
        model, axes = self.prepared.model, self.main.model.axes
        s, window = model.slices, model.plain.window
        first, last = self.main.model.window
        ppm, n = axes.ppm(), axes.n_points
        hz = torch.as_tensor((np.arange(n) - n // 2) / (n * axes.dwelltime))
        x = torch.as_tensor(self.x[[fitted]])
        upright = x.clone()
        for name in ("own_shift_of_condition", "own_phi0_of_condition", "phi0", "phi1"):
            upright[:, s[name]] = 0
        data, smooth, parts = [], [], []
        for k, fit in enumerate(self.fits):
            one = fit.row(row)
            phase = model.plain.phase_factor(model.parameters_of(x, k), hz)[0].cpu().numpy().conj()
            shift = float(x[0, s["own_shift_of_condition"].start + k])
            turned = fid_to_spec(one.fids[0] * np.exp(-2j * np.pi * shift * axes.time())) * phase
            data.append(turned[first:last])
            # The fit transforms fewer points; a spectrum of more has a smaller baseline in each.
            size = np.sqrt(window.axes.n_points / n)
            baseline = [np.interp(ppm, window.ppm, part(self.baseline[fitted, k])) for part in (np.real, np.imag)]
            smooth.append((size * (baseline[0] + 1j * baseline[1]) * phase)[first:last])
            own = replace(one, x=model.parameters_of(upright, k).cpu().numpy())
            parts.append({name: own.spectra(name)[0, first:last] for name in own.names})
        components = {name: np.stack([part[name] for part in parts]) for name in parts[0]}
        return Spectra(ppm[first:last], np.stack(data), np.stack(smooth), components)


@one_thread()
def quantify_edited(
    fids: np.ndarray,
    basis: EditedBasis,
    axes: Axes,
    options: FitOptions = FitOptions(spectral_model="in-vivo"),
    *,
    conditions: tuple[str, ...] | None = None,
    progress: Callable[[int], None] | None = None,
) -> EditedFit:
    """Fit sets of sub-spectra jointly with the in-vivo model.

    Parameters
    ----------
    fids : complex ndarray ``(n, n_conditions, n_points)``
        In the in-memory sign convention.
    basis : EditedBasis
        Chosen metabolites only.
    axes : Axes
        Of the data.
    options : FitOptions, optional
        As for :func:`fsl_mrs_dl.fitting.in_vivo.quantify.quantify_in_vivo`.
    conditions : tuple of str, optional
        Name of the condition that each element of ``fids`` is; recognised by default, by which order of the basis sets
        fits best.
    progress : callable, optional
        Called with the number of sets that were finished.

    Raises
    ------
    DataError, BasisError, OptionError
    """
    fids = np.asarray(fids).astype(complex)
    n = len(basis.conditions)
    if fids.ndim != 3 or fids.shape[1] != n:
        raise DataError(
            f"there are {fids.shape[1] if fids.ndim == 3 else 1} edit conditions in the data and {n} in the basis set"
            f" ({', '.join(basis.conditions)}); give the basis set of the acquisition."
        )
    basis.check_match(axes.spec_freq_mhz, axes.nucleus)
    if not is_in_vivo(basis.sets[0]):
        raise OptionError("has priors of 1H spectra of the brain", option="edit_mode", value="joint")
    study = _Study.of(fids, basis, axes, options)
    prepared, scaled = study.prepared, study.scaled
    found = _order(scaled[0], basis.conditions, prepared, conditions)
    order = found.order
    fits = fit_edited(scaled[:, order], prepared, max_iter=options.most_steps_in_vivo, progress=progress)
    each = _each(fits, prepared, study.usable, study.fid_scale, np.full(len(basis.names), study.basis_scale))
    return EditedFit(
        basis=basis,
        order=order,
        order_given=conditions is not None,
        recognised=found.best,
        fits=each,
        x=fits.x,
        x_sd=fits.x_sd,
        baseline=fits.baseline,
        prepared=prepared,
    )


def recognise_conditions(
    fids: np.ndarray,
    basis: EditedBasis,
    axes: Axes,
    options: FitOptions = FitOptions(spectral_model="in-vivo"),
    conditions: tuple[str, ...] | None = None,
) -> Order:
    """Return the order of sub-spectra ``(n, n_conditions, n_points)``; arguments as of :func:`quantify_edited`.

    Raises
    ------
    DataError, OptionError
    """
    study = _Study.of(np.asarray(fids).astype(complex), basis, axes, options)
    return _order(study.scaled[0], basis.conditions, study.prepared, conditions)


@dataclass(frozen=True)
class _Study:
    """Sub-spectra on the scale of their fit, and its model."""

    usable: np.ndarray
    scaled: np.ndarray
    fid_scale: float
    basis_scale: float
    prepared: EditedPrepared

    @classmethod
    def of(cls, fids: np.ndarray, basis: EditedBasis, axes: Axes, options: FitOptions) -> _Study:
        """Scale and prepare sub-spectra ``(n, n_conditions, n_points)``."""
        n, n_points = fids.shape[1:]
        usable = np.asarray(usable_fids(fids.reshape(-1, n_points)).reshape(-1, n).all(1))
        if not usable.any():
            raise DataError(f"no set of sub-spectra can be fitted: every one has an FID that {UNUSABLE}.")
        pulses = pulses_of(basis)
        places = places_of(pulses)
        reference = min(range(n), key=lambda k: (len(places[k]), -k))
        start = options.start_time_s or 0.0
        on_grid = np.stack([one.resampled(axes.dwelltime, axes.n_points, start) for one in basis.sets])
        basis_scale = float(100 / np.linalg.norm(on_grid[reference].mean(0))) if options.rescale else 1.0
        fid_scale = fid_scale_of(fids[usable].reshape(-1, n_points)) if options.rescale else 1.0
        axes.check_window(options.ppmlim)
        ppmlim = options.ppmlim or axes.usual_window or priors_table()["usual"]["ppmlim"]
        scaled = fids[usable] * fid_scale
        prepared = prepare_edited(
            scaled,
            on_grid * basis_scale,
            tuple(basis.names),
            axes,
            acquisition_of(options, (ppmlim[0], ppmlim[1])),
            survivals=survivals_of(pulses, axes.spec_freq_mhz),
            places=places,
            reference=reference,
            device=choose_device(options.device),
        )
        return cls(usable, scaled, fid_scale, basis_scale, prepared)


def _each(
    fits: EditedFits, prepared: EditedPrepared, usable: np.ndarray, fid_scale: float, basis_scale: np.ndarray
) -> tuple[InVivoFit, ...]:
    """Return the joint fit as each condition has it."""
    return tuple(
        InVivoFit.of(fit, replace(one, basis_scale=basis_scale), usable, fid_scale)
        for fit, one in zip(fits.of_condition, prepared.each)
    )


def _order(fids: np.ndarray, names: tuple[str, ...], prepared: EditedPrepared, given: tuple[str, ...] | None) -> Order:
    """Return the order of ``fids`` ``(n_conditions, n_points)``, as given or as fits best.

    Raises
    ------
    OptionError
        If names that were given are not those of the conditions, or no order is clearly best.
    """
    if given is not None:
        lower = [one.lower() for one in given]
        if sorted(lower) != sorted(one.lower() for one in names):
            raise OptionError(
                f"the basis set has the conditions {', '.join(names)}",
                option="edit_conditions",
                value=" ".join(given),
                remedy="name each once, in the order of the data",
            )
    costs = costs_of_orders(fids, prepared)
    orders = list(permutations(range(len(names))))
    totals = np.array([sum(costs[element, k] for k, element in enumerate(order)) for order in orders])
    best, second = np.argsort(totals)[:2]
    if given is not None:
        return Order(tuple(lower.index(one.lower()) for one in names), orders[best])
    if totals[second] - totals[best] < _CLEAR:
        raise OptionError(
            f"which sub-spectrum is which of {', '.join(names)} cannot be seen",
            option="edit_conditions",
            remedy="name them in the order of the data",
        )
    return Order(orders[best], orders[best])
