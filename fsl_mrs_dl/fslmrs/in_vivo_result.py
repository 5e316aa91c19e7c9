"""FSL-MRS's result object of a fit with the in-vivo model.

Importing this module does not load torch, because results refer to its classes when they are unpickled.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from fsl_mrs.core import MRS
from fsl_mrs.utils import baseline as fsl_baseline
from fsl_mrs.utils import qc as fsl_qc
from fsl_mrs.utils.results import FitRes

from ..core import units
from ..core.axes import Axes
from ..core.errors import DataError
from ..core.metabolites import is_macromolecule
from ..physics.in_vivo_components import Components, build_components
from ..physics.in_vivo_signals import MACROMOLECULES, InVivoSignals
from .result import DlFitRes, ReadOnlyMRS
from .solution import METHOD, Solution

__all__ = ["ComponentsMRS", "InVivoFitRes", "InVivoRecipe", "InVivoSolution", "axes_of"]

NEAREST_MODEL = "free_shift"
"""FSL-MRS's model with the parameters that the in-vivo model has an equal of: one width, a shift of each metabolite."""

# Components of the last studies, which every result of a volume needs; results travel without them.
_COMPONENTS: OrderedDict[tuple, Components] = OrderedDict()


def axes_of(mrs: MRS) -> Axes:
    """Return the axes of an MRS object's FID."""
    return Axes(mrs.numPoints, mrs.dwellTime, mrs.centralFrequency / 1e6, mrs.nucleus)


@dataclass(frozen=True)
class InVivoRecipe:
    """All that makes the components of a study, given the basis set of its MRS objects.

    Attributes
    ----------
    names : tuple of str
        Of the basis spectra.
    te_s, tr_s : float
        Echo and repetition time that macromolecules are weighted for.
    mm : str
        Preset of macromolecules and lipids.
    moved : bool
        Macromolecules and lipids are as far off their places as the singlets of the basis set.
    pattern_names : tuple of str
    pattern : complex ndarray ``(n, n_points)``
        Macromolecules that were added to the basis set.
    """

    names: tuple[str, ...]
    te_s: float
    tr_s: float
    mm: str
    moved: bool = True
    pattern_names: tuple[str, ...] = ()
    pattern: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), complex))

    def basis_of(self, mrs: MRS) -> tuple[np.ndarray, tuple[str, ...]]:
        """Return the basis FIDs that are fitted, ``(n, n_points)``, and their names.

        Raises
        ------
        ValueError
            If the object lacks one of them.
        """
        columns, basis = [list(mrs.names).index(name) for name in self.names], mrs.basis.T
        fids = basis[columns]
        if self.pattern_names:
            fids = np.concatenate([fids, self.pattern])
        return fids, (*self.names, *self.pattern_names)

    def components(self, mrs: MRS) -> Components:
        """Return the components for an MRS object; the last few are kept."""
        axes, (fids, names) = axes_of(mrs), self.basis_of(mrs)
        key = (names, axes, self.te_s, self.tr_s, self.mm, self.moved, fids.tobytes())
        if key not in _COMPONENTS:
            while len(_COMPONENTS) >= 4:
                _COMPONENTS.popitem(last=False)
            _COMPONENTS[key] = build_components(
                fids, names, axes, te_s=self.te_s, tr_s=self.tr_s, mm=self.mm, moved=self.moved
            )
        return _COMPONENTS[key]


@dataclass(frozen=True)
class InVivoSolution:
    """What a result needs of one spectrum's fit, small enough for other processes.

    Attributes
    ----------
    recipe : InVivoRecipe
    signals : InVivoSignals
        Without the components' FIDs.
    dimension : float
        Effective dimension of the baseline.
    x : ndarray ``(n_params,)`` or None
        Parameters of the model; None where nothing could be fitted.
    cov : ndarray ``(k, k)``
        Covariance of FSL-MRS's parameters.
    baseline : complex ndarray ``(n_points,)``
        FID of the baseline.
    snr, width_hz : ndarray ``(n_metabs,)``
    line_shape : ndarray ``(n_points,)`` or None
        That was taken from water.
    eddy_phase : ndarray ``(n_points,)`` or None
        Phase of eddy currents (rad), which was taken out of the data before the fit.
    """

    recipe: InVivoRecipe
    signals: InVivoSignals
    dimension: float
    x: np.ndarray | None
    cov: np.ndarray
    baseline: np.ndarray
    snr: np.ndarray
    width_hz: np.ndarray
    line_shape: np.ndarray | None = None
    eddy_phase: np.ndarray | None = None


# Before 2.4 FSL-MRS has no such class, and the in-vivo model is refused.
_Baseline: Any = getattr(fsl_baseline, "Baseline", object)


class EstimatedBaseline(_Baseline):
    """The in-vivo model's baseline as FSL-MRS describes baselines.

    The baseline is a smooth function without parameters: it is its own regressor, of coefficient one.
    """

    def __init__(self, baseline: np.ndarray, dimension: float):
        self.mode = "estimated"
        self._baseline, self._dimension = baseline, dimension

    @property
    def regressor(self) -> np.ndarray:
        """Complex regressors of real and imaginary coefficient, ``(n_points, 2)``."""
        spectrum = units.fid_to_spec(self._baseline)
        return np.stack([spectrum, 1j * spectrum], 1)

    @property
    def n_basis(self) -> int:
        """Number of regressors for each of real and imaginary part."""
        return 1

    def cov_penalty_term(self, n_fit_params: int) -> np.ndarray:
        """Return a penalty of nothing."""
        return np.zeros((n_fit_params, n_fit_params))

    def __str__(self) -> str:
        return f"smooth baseline of estimated flexibility (effective dimension {self._dimension:.1f})"


class ComponentsMRS(MRS):
    """An MRS object for reading only, whose basis set has the lipids and macromolecules of a fit, too."""

    _components: tuple[tuple[str, ...], np.ndarray]
    without_components: MRS

    @classmethod
    def of(cls, mrs: MRS, names: list[str], basis: np.ndarray) -> ComponentsMRS:
        """Return a copy of an MRS object with another basis set, ``(n_points, len(names))``."""
        other = copy.copy(mrs)
        other.__class__ = cls
        other._components, other.without_components = (tuple(names), basis), mrs
        return other

    @property
    def basis(self):
        """Basis FIDs ``(n_points, n_metabs)``."""
        return self._components[1]

    @property
    def names(self):
        """Names of metabolites, lipids and the sum of macromolecules."""
        return list(self._components[0])

    @property
    def numBasis(self):
        """Number of them."""
        return len(self._components[0])


class InVivoFitRes(DlFitRes):
    """FSL-MRS's result of a fit with the in-vivo model.

    Concentrations are those of metabolites, lipids and the sum of all macromolecules, 'MM'.  Spectra are the fitted
    model's; :meth:`predictedFID` takes names of single macromolecules, too.  The parameters that FSL-MRS has a
    name for are the nearest of the in-vivo model: ``gamma`` and ``sigma`` the widths that all lines share, ``eps`` of a
    metabolite the common shift and its own, phases as they are, and one baseline coefficient that is one without
    variance, because the baseline has no parameters.  ``cov`` has the SDs of the estimates, priors included, and the
    correlations of the parameters at the minimum.  ``dl`` has ``spectral_model`` in-vivo,
    ``baseline_dimension``, ``mm``, ``echo_time_s``, ``repetition_time_s``, ``prior`` (of concentrations:
    wide or none), ``soft_constraints``, and ``water_reference``, the use of a water reference in words.
    """

    def __init__(self, mrs: MRS, solution: Solution):
        """Make the result of an MRS object's fit.

        Raises
        ------
        DataError
            If this FSL-MRS has no baseline objects.
        """
        if not hasattr(fsl_baseline, "Baseline"):
            raise DataError("the in-vivo model needs FSL-MRS 2.4 or later", remedy="choose `spectral_model` fsl-mrs")
        assert solution.in_vivo is not None
        self._in_vivo = solution.in_vivo
        self.dl, self.dl_row, self.dl_advice = solution.dl, solution.row, solution.advice
        reading = self.with_components(mrs)
        params = solution.params
        if params is None:
            params = np.full(len(self._in_vivo.cov), np.nan)
        FitRes.__init__(
            self,
            mrs=reading,
            results=params,
            model=NEAREST_MODEL,
            method=METHOD,
            metab_groups=[0] * reading.numBasis,
            baseline_obj=EstimatedBaseline(self._in_vivo.baseline, self._in_vivo.dimension),
            ppmlim=solution.options.ppmlim,
            runqc=False,
        )
        # Shared, where FSL-MRS has computed them again.
        self._cov, self._baseline = self._in_vivo.cov, self._in_vivo.baseline
        self.FWHM, self.SNR = self._quality(reading)

    def _quality(self, mrs: MRS) -> tuple[pd.DataFrame, fsl_qc.SNR]:
        """Return line widths and signal-to-noise ratios as FSL-MRS's ``calcQC`` does."""
        names = self.original_metabs
        widths, snr = (
            pd.DataFrame({f"{prefix}_{name}": [value] for name, value in zip(names, np.nan_to_num(values))})
            for prefix, values in (("fwhm", self._in_vivo.width_hz), ("SNR", self._in_vivo.snr))
        )
        window = mrs.get_spec(ppmlim=self.ppmlim)
        try:
            of_spectrum = np.max(np.abs(window.real)) / fsl_qc.noiseSD(mrs.get_spec(), fsl_qc.idNoiseRegion(mrs))
        except fsl_qc.NoiseNotFoundError:
            of_spectrum = np.nan
        above = (window - self.predictedSpec(mrs, mode="baseline")).real
        return widths, fsl_qc.SNR(of_spectrum, snr, np.max(np.abs(above)) / (2.0 * np.sqrt(self.mse)))

    @property
    def cov(self) -> np.ndarray:
        """Covariance of the parameters."""
        return self._in_vivo.cov

    @property
    def corr(self) -> np.ndarray:
        """Correlations of the parameters; NaN for the baseline's coefficient."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return super().corr

    # -- spectra ---------------------------------------------------------------------------------------------------

    def with_components(self, mrs: MRS) -> ComponentsMRS:
        """Return a copy of an MRS object whose basis set has a spectrum of every concentration, for FSL-MRS's plots of
        single metabolites and of the basis set."""
        if isinstance(mrs, ComponentsMRS):
            return mrs
        mrs = ReadOnlyMRS.of(mrs)
        components = self._in_vivo.recipe.components(mrs)
        time, n = axes_of(mrs).time(), components.n_linear
        names, columns = self._in_vivo.signals.concentration_names, list(components.fids[:n])
        if len(names) > n:
            damping = np.exp(-components.gauss_variance[n:, None] * time**2)
            columns.append((components.expected[n:, None] * components.fids[n:] * damping).sum(0))
        return ComponentsMRS.of(mrs, names, np.stack(columns, 1))

    def _components_of(self, mode: str) -> list[int]:
        """Return the components of a metabolite, a sum, or a macromolecule of the basis set."""
        signals, out = self._in_vivo.signals, []
        for name in mode.split("+"):
            # One measured pattern is fitted in pieces, which are MM together.
            if name not in signals.names and is_macromolecule(name):
                name = MACROMOLECULES
            out += signals.components_of(name)
        return out

    def _prediction(self, mrs: MRS, which: list[int] | slice, baseline: bool, phased: bool = True) -> np.ndarray:
        """Return the spectrum of components, complex ``(n_points,)``."""
        own = self._in_vivo
        if own.x is None:
            return np.full(mrs.numPoints, np.nan, complex)
        signals = replace(own.signals, fids=own.recipe.components(mrs).fids)
        line_shape = 1.0 if own.line_shape is None else own.line_shape
        spectrum = units.fid_to_spec(signals.components(own.x, which, line_shape).sum(0))
        if phased:
            spectrum = spectrum * signals.phase_factor(own.x)
            if own.eddy_phase is not None:
                # FSL-MRS compares it with the data as they are.
                spectrum = units.fid_to_spec(units.spec_to_fid(spectrum) * np.exp(1j * own.eddy_phase))
        return spectrum + units.fid_to_spec(own.baseline) if baseline else spectrum

    def _predicted(self, mrs: MRS, mode, noBaseline: bool, no_phase: bool) -> np.ndarray:
        if isinstance(mode, (list, tuple)):
            mode = "+".join(mode)
        if mode.lower() == "baseline":
            return self._prediction(mrs, [], True)
        if mode.lower() == "full":
            return self._prediction(mrs, slice(None), not noBaseline, not no_phase)
        try:
            which = self._components_of(mode)
        except KeyError:
            raise ValueError(
                "Unknown mode, must be one of: Full, baseline, a metabolite name or list of names."
            ) from None
        return self._prediction(mrs, which, not noBaseline, not no_phase)

    def predictedFID(self, mrs, mode="Full", noBaseline=False, no_phase=False):
        """Return the FID of the fitted model or of a part of it, as FSL-MRS does; names may be those of single
        macromolecules and sums, too."""
        return units.spec_to_fid(self._predicted(self._readable(mrs), mode, noBaseline, no_phase))

    def predictedSpec(self, mrs, mode="Full", noBaseline=False, ppmlim=None, shift=True):
        """Return the same as a spectrum in a window."""
        spectrum = self._predicted(self._readable(mrs), mode, noBaseline, False)
        first, last = mrs.ppmlim_to_range(ppmlim=self.ppmlim if ppmlim is None else ppmlim, shift=shift)
        return spectrum[first:last]

    def _readable(self, mrs: MRS) -> MRS:
        """Return an MRS object with the basis set that was fitted."""
        return mrs.without_components if isinstance(mrs, ComponentsMRS) else ReadOnlyMRS.of(mrs)

    # -- concentrations --------------------------------------------------------------------------------------------

    def calculateConcScaling(self, mrs, quant_info=None, internal_reference=["Cr", "PCr"], verbose=False):  # noqa: B006
        """Calculate internal and water scaling as FSL-MRS does.

        FSL-MRS divides the area of the fitted reference by its concentration.  The area is that of the fitted
        amplitudes, which differ a little from the estimates of concentrations.
        """
        super().calculateConcScaling(mrs, quant_info, internal_reference, verbose)
        if self.concScalings.get("molality") is None or self._in_vivo.x is None:
            return
        reference = quant_info.ref_metab
        reference = [reference] if isinstance(reference, str) else list(reference)
        amplitudes = np.exp(self._in_vivo.signals.block(self._in_vivo.x, "log_amp"))
        fitted = amplitudes[self._components_of("+".join(reference))].sum()
        ratio = sum(self.getConc(metab=name) for name in reference) / fitted
        for scaling in ("molality", "molarity"):
            self.concScalings[scaling] *= ratio

    def getUncertainties(self, type="percentage", metab=None):
        """Return SDs of the concentrations; of ratios (type 'internal') with all covariances.

        FSL-MRS adds the variances of the two.  Errors of the common width and baseline, which nearly all of the SD may
        be, cancel in a ratio.
        """
        if type.lower() != "internal":
            return super().getUncertainties(type=type, metab=metab)
        names = self.metabs if metab is None else [metab] if isinstance(metab, str) else metab
        under = self._members(self.concScalings["internalRef"])
        whole = np.sum(self.params[under])
        slope = np.zeros((len(names), len(self.params)))
        for row, name in enumerate(names):
            over = self._members(name)
            slope[row, over] += 1 / whole
            slope[row, under] -= np.sum(self.params[over]) / whole**2
        return np.sqrt(np.clip(np.einsum("ij,jk,ik->i", slope, self.cov, slope), 0, None))

    def _members(self, name: str) -> list[int]:
        """Return the columns of a metabolite or of a sum written with '+'."""
        whole = [name] if name in self.original_metabs else name.split("+")
        return [self.original_metabs.index(member) for member in whole]

    def restored_row(self):
        """Return the estimates of this package, see :meth:`uncertainties`, which raises the same errors."""
        from ..fitting.in_vivo.serialise import restored_in_vivo_row

        return restored_in_vivo_row(self._stored_row())
