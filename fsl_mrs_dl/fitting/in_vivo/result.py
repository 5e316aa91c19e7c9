"""The result of in vivo fits: :class:`InVivoFit`, a :class:`fsl_mrs_dl.fitting.quantification.Quantification`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import cast

import numpy as np
import torch

from ...core import units
from ...core.axes import Axes
from ...core.errors import OptionError
from ...core.noise import quiet_points
from ...physics.in_vivo_components import priors_table
from ...physics.in_vivo_model import InVivoModel, parameter_names
from ...physics.in_vivo_signals import MACROMOLECULES, InVivoSignals, concentration_names, macromolecule_shares
from ...physics.nuisance import NuisanceSpace, Whitening, whitened_baseline
from ...physics.signal_model import SignalModel
from ...physics.smooth_baseline import SmoothBaseline
from .. import uncertainty, verdict
from ..artefacts import phase_beyond_shift
from ..quantification import Quantification
from .estimates import Estimate
from .fit import Fits
from .prepared import PreparedModel, whole_baseline_of
from .ratios import ConcentrationPrior, ratio_constraints
from .variants import variants_of
from .water_reference import WaterReference
from .whole_spectra import whole_components

__all__ = ["InVivoFit", "InVivoSignal", "signal_of", "signals_of"]

_EARLY_S = (0.003, 0.045)  # at 3 T: where eddy currents turn lines, and there is signal


@dataclass(frozen=True)
class _Shape:
    gaussian: bool = True
    free_shift: bool = False
    negative: bool = False


@dataclass(frozen=True)
class _EstimatedBaseline:
    """Describes the baseline in titles and tables."""

    dimension: float
    mode: str = "estimated"

    def __str__(self) -> str:
        return f"smooth, estimated (effective dimension {self.dimension:.1f})"


@dataclass(frozen=True)
class InVivoSignal:
    """Describes the fitted model as :class:`fsl_mrs_dl.physics.signal_model.SignalModel` does.

    Attributes
    ----------
    axes : Axes
    ppmlim : (float, float)
    names : tuple of str
    baseline : object
        With ``mode``, and a text.
    """

    axes: Axes
    ppmlim: tuple[float, float]
    names: tuple[str, ...]
    baseline: _EstimatedBaseline
    name: str = "in-vivo"
    shape: _Shape = _Shape()

    n_groups = 1
    sizes = {"gamma": 1, "sigma": 1, "eps": 1, "phi0": 1, "phi1": 1}

    @property
    def n_metabs(self) -> int:
        return len(self.names)

    @property
    def groups(self) -> list[int]:
        return [0] * len(self.names)

    @property
    def n_points(self) -> int:
        return self.axes.n_points

    @property
    def dwelltime(self) -> float:
        return self.axes.dwelltime

    @property
    def spec_freq_mhz(self) -> float:
        return self.axes.spec_freq_mhz

    @property
    def nucleus(self) -> str:
        return self.axes.nucleus

    @property
    def window(self) -> tuple[int, int]:
        """First and last + 1 of the fitted points of a whole spectrum."""
        return self.axes.window(self.ppmlim)


def signal_of(prepared: PreparedModel, dimension: float = np.nan) -> InVivoSignal:
    """Describe a prepared model, whose baselines have an effective dimension of ``dimension``."""
    names = tuple(concentration_names(prepared.model.components))
    return InVivoSignal(prepared.axes, prepared.ppmlim, names, _EstimatedBaseline(dimension))


def signals_of(model: InVivoModel, axes: Axes) -> InVivoSignals:
    """Return the signals of a model in NumPy, for data with these axes."""
    return InVivoSignals(
        names=tuple(model.components.names),
        n_linear=model.n_linear,
        fids=model.components.fids,
        gauss=model.components.gauss_variance,
        shape_hz=model.shape_hz.cpu().numpy(),
        slices={name: (block.start, block.stop) for name, block in model.slices.items()},
        pivot=model.pivot,
        least_gamma=model.least_gamma,
        axes=axes,
    )


@dataclass(repr=False)
class InVivoFit(Quantification):
    """Fits with the in-vivo model; every array has one row per spectrum.

    ``params`` are the concentrations of metabolites, lipids and the sum of all macromolecules, then the parameters that
    :meth:`parameter_names` lists; ``cov`` is the covariance of the concentrations, with the variance between models.

    Attributes
    ----------
    fitted_model : InVivoModel
        With the priors that the fits had.
    x : ndarray ``(n, n_params)``
        Its parameter vectors; NaN where nothing could be fitted.
    x_sd : ndarray ``(n, n_params)``
    water : WaterReference or None
        With the properties that were taken from it.
    water_note, places_note : str
        As of :class:`.prepared.PreparedModel`.
    priors_note : str
        Priors that were learnt of a volume in words; empty where none were.
    baseline_dimension : ndarray ``(n,)``
        Effective dimension of the baseline.
    baseline_weights : ndarray ``(n, n_strengths)``
        Of the baseline's strengths.
    variant_weights : ndarray ``(n, n_variants)``
        Of the model's variants, see :mod:`fsl_mrs_dl.fitting.in_vivo.variants`.
    limits : ndarray ``(2, n, n_metabs)``
        Ends of the 95 % intervals.
    between_models : ndarray ``(n, n_metabs)``
        Share of the variance that is disagreement between models.
    by_prior : ndarray ``(n, n_metabs)``
        Share of the likelihood's variance that priors take away.
    population : tuple of ndarray
        Mean ``(n, n_metabs)`` and covariance ``(n, n_metabs, n_metabs)`` with a prior as narrow as a healthy
        population.
    concentrations : ConcentrationPrior
        Of the estimate.
    whole_baseline : SmoothBaseline, optional
        In the window of whole spectra; computed where it is needed by default.
    nuisance : NuisanceSpace, optional
        Signals that leak into the spectra; baselines that are shown include them.
    nuisance_state : int ndarray ``(n,)``
        Its state for every spectrum.
    """

    fitted_model: InVivoModel = field(repr=False, kw_only=True)
    x: np.ndarray = field(repr=False, kw_only=True)
    x_sd: np.ndarray = field(repr=False, kw_only=True)
    water: WaterReference | None = field(repr=False, kw_only=True)
    baseline_dimension: np.ndarray = field(repr=False, kw_only=True)
    baseline_weights: np.ndarray = field(repr=False, kw_only=True)
    variant_weights: np.ndarray = field(repr=False, kw_only=True)
    limits: np.ndarray = field(repr=False, kw_only=True)
    between_models: np.ndarray = field(repr=False, kw_only=True)
    by_prior: np.ndarray = field(repr=False, kw_only=True)
    population: tuple[np.ndarray, np.ndarray] = field(repr=False, kw_only=True)
    concentrations: ConcentrationPrior = field(repr=False, kw_only=True, default=ConcentrationPrior())
    whole_baseline: SmoothBaseline | None = field(repr=False, kw_only=True, default=None)
    water_note: str = field(repr=False, kw_only=True, default="")
    places_note: str = field(repr=False, kw_only=True, default="")
    priors_note: str = field(repr=False, kw_only=True, default="")
    nuisance: NuisanceSpace | None = field(repr=False, kw_only=True, default=None)
    nuisance_state: np.ndarray = field(repr=False, kw_only=True)
    own_estimate = "in-vivo"

    # -- estimates -------------------------------------------------------------------------------------------------

    def estimate(self, name: str = "in-vivo") -> tuple[np.ndarray, np.ndarray]:
        """Return concentrations ``(n, n_metabs)`` and their covariance ``(n, n_metabs, n_metabs)``.

        'in-vivo' has a prior on concentrations that is as wide as a factor of e, or none where that was asked for;
        'posterior_mean' one as narrow as a healthy population.

        Raises
        ------
        OptionError
            If the model has no such estimate.
        """
        if name == "in-vivo":
            return self.conc, self.cov
        if name == "posterior_mean":
            return self.population
        raise OptionError(
            "the in-vivo model has no such estimate",
            option="estimate",
            value=name,
            remedy="leave it out, choose posterior_mean, or choose `spectral_model` fsl-mrs",
        )

    @property
    def constraints(self) -> list[str]:
        """Soft constraints between concentrations that the estimate has, in words."""
        if not self.concentrations.soft_constraints:
            return []
        return [each.text for each in ratio_constraints(self.fitted_model.components)]

    def assumptions(self, row: int) -> dict[str, str]:
        """Return what one spectrum's estimate rests on, for reports: prior, soft constraints, models that were
        averaged."""
        prior = {
            "wide": f"a factor of {np.exp(priors_table()['concentrations']['log_sd']):.3g} about typical proportions",
            "none": "none",
        }
        weights = zip(variants_of(self.fitted_model), self.variant_weights[row])
        return {
            "Prior of concentrations": prior[self.concentrations.prior],
            "Soft constraints": "; ".join(self.constraints) or "none",
            "Models averaged": ", ".join(f"{variant.name} {weight:.2f}" for variant, weight in weights),
        }

    def table(self, combined: Sequence[str] | None = None, estimate: str = "in-vivo"):
        """Return names, concentrations and SDs, with sums, as :meth:`.Quantification.table`."""
        return super().table(combined, estimate)

    def interval(self, members: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """Return the limits of the 95 % interval of a sum of concentrations, ``(n,)`` each."""
        if len(members) == 1:
            return self.limits[0][:, members[0]], self.limits[1][:, members[0]]
        return super().interval(members)

    def ratio_interval(self, members: list[int], under: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """Return the limits of the 95 % interval of a ratio of two sums of concentrations, ``(n,)`` each: as skewed as
        those of the concentrations."""
        if len(members) != 1 or set(members) & set(under):
            return super().ratio_interval(members, under)
        return uncertainty.ratio_of_intervals(
            self.conc, self.cov, members, under, self.interval(members), self.interval(under)
        )

    @property
    def prior_share(self) -> np.ndarray:
        """Share of the likelihood's variance that priors take away, ``(n, n_metabs)``."""
        return self.by_prior

    @property
    def sd_columns(self) -> tuple[str, str]:
        """Names of the columns of uncertainty.csv with the SDs of concentrations, which include the priors."""
        return "in_vivo_sd", "in_vivo_pct"

    def further_columns(self) -> dict[str, np.ndarray]:
        """Return the columns of uncertainty.csv that only this model has, ``(n, n_metabs)`` each."""
        mean, cov = self.population
        variance = np.diagonal(cov, axis1=1, axis2=2)
        return {
            "prior_share": self.by_prior,
            "between_models_share": self.between_models,
            "posterior_mean": mean,
            "posterior_sd": np.sqrt(np.clip(variance, 0, None)),
        }

    @property
    def fitted_amounts(self) -> np.ndarray:
        """Amplitudes that spectra show, ``(n, n_metabs)``; of all macromolecules the estimate."""
        n_linear = self.fitted_model.n_linear
        return np.concatenate([np.exp(self.block("log_amp")[:, :n_linear]), self.conc[:, n_linear:]], 1)

    # -- parameters ------------------------------------------------------------------------------------------------

    def block(self, name: str) -> np.ndarray:
        """Return a parameter ``(n, 1)`` by FSL-MRS's name (``gamma``, ``sigma``, ``eps``, ``phi0``, ``phi1``)."""
        s, x = self.fitted_model.slices, self.x
        if name == "gamma":
            return np.exp(x[:, s["gamma"]]) - self.fitted_model.least_gamma
        if name == "sigma":
            return np.exp(0.5 * x[:, s["variance"]])
        if name == "eps":
            return -2 * np.pi * x[:, s["shift"]]
        if name == "phi0":  # about the carrier, as in FSL-MRS; the fit turns about the middle of the window
            return x[:, s["phi0"]] - x[:, s["phi1"]] * self.fitted_model.pivot
        return x[:, s[name]]

    def parameter_names(self) -> list[str]:
        """Return the names of all parameters, in the order of :meth:`parameter_values`."""
        return parameter_names(self.fitted_model)

    def _in_order(self, values: np.ndarray, conc: np.ndarray, last: np.ndarray) -> np.ndarray:
        s, n_linear = self.fitted_model.slices, self.fitted_model.n_linear
        parts = [conc, *(values[:, s[name]] for name in ("shift", "phi0", "phi1", "gamma", "variance"))]
        parts += [values[:, s["own_shift"]], values[:, s["own_width"]], values[:, s["log_amp"]][:, n_linear:]]
        parts += [values[:, s[name]] for name in ("q", "pattern_width", "shape") if name in s]
        return np.concatenate([*parts, last[:, None]], 1)

    def parameter_values(self) -> np.ndarray:
        """Return every parameter of the model, ``(n, len(parameter_names()))``."""
        return self._in_order(self.x, self.conc, self.baseline_dimension)

    def parameter_sd(self) -> np.ndarray:
        """Return the SDs of all parameters, priors included."""
        return self._in_order(self.x_sd, self.crlb_sd, np.full(len(self.x), np.nan))

    # -- spectra ---------------------------------------------------------------------------------------------------

    def spectra(self, what: str = "full", rows=slice(None), *, phased: bool = True) -> np.ndarray:
        """Return model spectra over all points, complex ``(n, n_points)``, in the units of the scaled data.

        ``what`` is 'full', 'baseline', 'no baseline' or a metabolite; without ``phased`` lines are upright, and there
        is no baseline.  The baseline is known in the fitted window only, and zero outside.
        """
        index = np.arange(len(self.x))[rows]
        groups = None if what in ("full", "baseline", "no baseline") else [self._components_of(what)]
        out = self._whole_components(index, groups, phased=phased)[:, 0]
        if what in ("full", "baseline") and phased:
            baseline = self._whole_baseline(index, out)
            out = out + baseline if what == "full" else baseline
        out[~self.fitted[index]] = np.nan
        return out

    def metabolite_spectra(self, rows: np.ndarray, damping: np.ndarray | float = 0.0) -> np.ndarray:
        """Return each metabolite's part of the spectrum in the window, complex ``(n, n_metabs, n_window)``, with some
        damping (1/s, ``(n,)``) more."""
        groups = [self._components_of(name) for name in self.names]
        return self._whole_components(rows, groups, damping, window=slice(*self.model.window))

    @property
    def basis_fids(self) -> np.ndarray:
        """Basis FIDs of metabolites and lipids as they were fitted, complex ``(n_linear, n_points)``."""
        return np.asarray(self.fitted_model.components.fids)[: self.fitted_model.n_linear]

    def metabolite_decay(self, n_points: int) -> np.ndarray:
        """Return the magnitude of the decay of each metabolite's lines over the first points of an FID, relative to its
        basis FID, ``(n, n_linear, n_points)``; NaN where nothing was fitted."""
        model, axes = self.fitted_model, self.model.axes
        x, time = torch.as_tensor(self.x), torch.as_tensor(axes.time()[:n_points])
        water = self.water_shape
        plain = torch.ones(len(model.components.names), n_points, dtype=torch.complex128)
        signal = model.signals(x, plain, time, None if water is None else torch.as_tensor(water[:, :n_points]))
        signal = signal * model.line_shape(x, time)[0][:, None] / torch.exp(x[:, model.slices["log_amp"]])[..., None]
        return signal.abs().numpy()[:, : model.n_linear]

    def line_details(self, row: int) -> dict:
        """Return values of :class:`fsl_mrs_dl.fitting.artefacts.FittedSpectrum` that only this model has."""
        model = self.fitted_model
        s, x, names = model.slices, self.x[row], model.components.names[: model.n_linear]
        first, last = self.model.window
        shift_sd = x[s["own_shift"]] * np.sqrt(np.diagonal(model.prior_precision.numpy())[s["own_shift"]])
        lipids = np.flatnonzero(model.components.kinds == "lipid")
        details = {
            "has_water_reference": bool(self.water_note),
            "own_shift_sd": {name: float(value) for name, value in zip(names, shift_sd)},
        }
        if len(lipids):
            turn = np.exp(1j * (self.block("phi0")[row, 0] + self.block("phi1")[row, 0] * self.model.axes.hz()))
            part = self._whole_components(np.array([row]), [lipids.tolist()])[0, 0] * turn
            details["lipid_part"] = part[first:last]
        if "shape" in s:
            time = np.linspace(*_EARLY_S, 40) / np.sqrt(max(1.0, self.model.spec_freq_mhz / 127.7))
            shape = model.line_shape(torch.as_tensor(x[None]), torch.as_tensor(time))[0][0].numpy()
            details["line_phase"] = phase_beyond_shift(shape, time)
        return details

    def _components_of(self, name: str) -> list[int]:
        components = self.fitted_model.components
        out: list[int] = []
        for member in name.split("+"):
            self.members(member)
            all_lines = member == MACROMOLECULES and member not in components.names
            out += range(components.n_linear, len(components.names)) if all_lines else [components.names.index(member)]
        return out

    def _whole_components(
        self,
        rows: np.ndarray,
        groups: list[list[int]] | None,
        damping: np.ndarray | float = 0.0,
        *,
        window: slice = slice(None),
        phased: bool = True,
    ) -> np.ndarray:
        model, shape = self.fitted_model, self.water_shape
        x, basis = torch.as_tensor(self.x[rows]).clone(), torch.as_tensor(model.components.fids)
        more = torch.as_tensor(np.array(np.broadcast_to(damping, len(x)), float))[:, None]
        x[:, model.slices["gamma"]] = torch.log(torch.exp(x[:, model.slices["gamma"]]) + more)
        water = None if shape is None else torch.as_tensor(shape[rows])
        return whole_components(
            model, self.model.axes, x, basis, water=water, groups=groups, window=window, phased=phased
        )

    def _whole_baseline(self, rows: np.ndarray, components: np.ndarray) -> np.ndarray:
        """Return the baseline of whole spectra ``(n, n_points)``, whose components' sum is given.

        It is estimated again from the whole residual: the fit transforms fewer points, where a tail of water looks
        different.
        """
        first, last = self.model.window
        used = self.fitted_model.window.axes.n_points
        fids = self.fids[rows]
        residual = units.fid_to_spec(fids) - components
        residual = np.where(self.fitted[rows][:, None], residual, 0.0)[:, first:last]
        baseline = self.whole_baseline or whole_baseline_of(self.model.axes.ppm()[first:last], "1H")
        # A spectrum of more points has a smaller baseline in each, and the same noise.
        strengths = np.asarray(priors_table()["baseline"]["strengths"]) * np.sqrt(used / self.model.n_points)
        weights = np.where(self.fitted[rows][:, None], self.baseline_weights[rows], 0.0)
        out = np.zeros((len(rows), self.model.n_points), complex)
        for state in np.unique(self.nuisance_state[rows]):
            some = self.nuisance_state[rows] == state
            whitening, own = None, baseline
            if self.nuisance is not None and state > 0:
                root = self.nuisance.root(state, lambda fids: units.fid_to_spec(fids)[:, first:last])
                whitening = Whitening.of(root)
                own = whitened_baseline(baseline, whitening)
            signal = residual[some] if whitening is None else whitening(residual[some])
            smooth = ((signal @ own.vectors.conj()) * (weights[some] @ own.shares(strengths))) @ own.vectors.T
            explained = smooth + (signal @ own.free.conj()) @ own.free.T
            # What is neither baseline nor nuisance is the residual with both taken out, whitened once more.
            rest = None if whitening is None else whitening(signal - explained)
            out[some, first:last] = explained if rest is None else residual[some] - rest
        return out

    def model_fids(self, what: str = "full", rows=slice(None)) -> np.ndarray:
        """Return FIDs of the model as :meth:`spectra` has them, with the eddy currents of the data."""
        fids = super().model_fids(what, rows)
        return fids if self.water is None else self.water.rows(rows).uncorrected(fids)

    @property
    def has_own_macromolecules(self) -> bool:
        """Whether macromolecules are those of the basis set, not the table's lines, which have Gaussian widths."""
        components = self.fitted_model.components
        of_mm = components.kinds == "mm"
        return bool(of_mm.any() and not components.gauss_variance[of_mm].any())

    @property
    def water_shape(self) -> np.ndarray | None:
        """Line shapes from water at the points of the FIDs, ``(n, n_points)``; None without."""
        axes = self.model.axes
        return None if self.water is None else self.water.shape(axes.time() - axes.dwelltime)

    @property
    def eddy_phase(self) -> np.ndarray | None:
        """Phase of eddy currents that was taken out of the data, rad ``(n, n_points)``; None without."""
        return None if self.water is None else self.water.phase

    @property
    def signals(self) -> InVivoSignals:
        """Signals of the fitted components in NumPy."""
        return signals_of(self.fitted_model, self.model.axes)

    # -- parts -----------------------------------------------------------------------------------------------------

    def row(self, index: int) -> InVivoFit:
        """Return one spectrum's fit by itself."""
        n = len(self.params)
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        for name, value in values.items():
            if isinstance(value, np.ndarray) and name not in ("basis_scale", "limits") and len(value) == n:
                values[name] = value[[index]]
        values |= {
            "limits": self.limits[:, [index]],
            "population": tuple(part[[index]] for part in self.population),
            "water": None if self.water is None else self.water.rows([index]),
        }
        return InVivoFit(**values)

    @classmethod
    def of(cls, fits: Fits, prepared: PreparedModel, usable: np.ndarray, fid_scale: float) -> InVivoFit:
        """Put the fits of usable spectra in their rows of all.

        Parameters
        ----------
        fits : Fits
        prepared : PreparedModel
            That was fitted.
        usable : bool ndarray ``(n,)``
        fid_scale : float
            What the data were multiplied by.
        """
        conc, cov = _concentrations(fits, fits.estimate)
        typical, typical_cov = _concentrations(fits, fits.population)

        def rows(values: np.ndarray, empty=np.nan) -> np.ndarray:
            out = np.full((len(usable), *values.shape[1:]), empty, dtype=values.dtype)
            out[usable] = values
            return out

        estimate, unit = fits.estimate, _unit_of_macromolecules(fits)
        signal = signal_of(prepared, float(np.median(fits.dimension)) if len(conc) else np.nan)
        params = rows(conc)
        share, score = _misfit(fits)
        return cls(
            model=cast(SignalModel, signal),
            names=concentration_names(fits.model.components),
            params=params,
            cov=rows(cov),
            noise_sd=rows(fits.misfit * fits.noise),
            noise_outside_sd=rows(fits.noise),
            cost=rows(fits.cost),
            converged=rows(fits.converged & np.isfinite(conc).all(1) & ~np.isnan(cov).any((1, 2)), False),
            fitted=usable,
            n_iter=rows(fits.steps, 0),
            fid_scale=fid_scale,
            basis_scale=prepared.basis_scale,
            init=prepared.init,
            fids=rows(fits.fids),
            free=params,
            empty=rows(_without_signal(fits), False),
            ood_residual=rows(score),
            unexplained=rows(share),
            misfit_score=rows(score),
            ood_latent=rows(_unusual_concentrations(fits) / verdict.limits_for("in-vivo").estimates),
            fitted_model=fits.model,
            x=rows(fits.x),
            x_sd=rows(fits.x_sd),
            water=None if fits.water is None else fits.water.in_rows(usable),
            water_note=prepared.water_note,
            places_note=prepared.places_note,
            priors_note="" if prepared.population is None else prepared.population.note,
            baseline_dimension=rows(fits.dimension),
            baseline_weights=rows(fits.weights),
            variant_weights=rows(fits.variants),
            limits=np.stack([rows(estimate.low * unit), rows(estimate.high * unit)]),
            between_models=rows(estimate.between),
            by_prior=rows(estimate.prior_share),
            population=(rows(typical), rows(typical_cov)),
            concentrations=prepared.concentrations,
            whole_baseline=prepared.whole_baseline,
            nuisance=prepared.nuisance,
            nuisance_state=rows(fits.nuisance, 0),
        )


def _misfit(fits: Fits) -> tuple[np.ndarray, np.ndarray]:
    """Return the unexplained share of the metabolites' signal, and the misfit's score, ``(n,)`` each."""
    window = fits.model.window
    n_outside = int(quiet_points(window.axes).sum())
    share = verdict.unexplained(
        fits.misfit * fits.noise, fits.noise, fits.metabolites_rms, n_window=window.n_window, n_outside=n_outside
    )
    return share, verdict.misfit_score(verdict.limits_for("in-vivo"), fits.misfit, share)


def _unusual_concentrations(fits: Fits) -> np.ndarray:
    """Return the largest distance of a metabolite's log concentration from the typical one, common scale aside,
    ``(n,)``."""
    components = fits.model.components
    metabolites = np.flatnonzero(components.kinds == "metabolite")
    at = fits.model.slices["log_amp"].start + metabolites
    deviation = fits.x[:, at] - np.log(components.expected[metabolites])
    return np.abs(deviation - np.median(deviation, 1, keepdims=True)).max(1)


def _without_signal(fits: Fits) -> np.ndarray:
    """Tell which spectra hold noise only: the fitted signal has hardly more energy than noise, bool ``(n,)``."""
    energy = np.sum(np.abs(fits.fitted) ** 2, -1)
    n = fits.fitted.shape[-1]
    return energy < 0.1 * 2 * n * fits.noise**2


def _concentrations(fits: Fits, estimate: Estimate) -> tuple[np.ndarray, np.ndarray]:
    """Return concentrations ``(n, n_metabs)`` and their covariance; the sum of all macromolecules, relative to the
    table's, is the last if there are any."""
    unit = _unit_of_macromolecules(fits)
    return estimate.mean * unit, estimate.cov * unit[:, :, None] * unit[:, None]


def _unit_of_macromolecules(fits: Fits) -> np.ndarray:
    """Return factors ``(n, n_metabs)`` of concentrations: the sum of the macromolecules with the proportions that were
    fitted, over their common scale; one of all others."""
    model = fits.model
    components, n_linear = model.components, model.n_linear
    unit = np.ones((len(fits.x), len(concentration_names(components))))
    if unit.shape[1] > n_linear:
        at = slice(model.slices["log_amp"].start + n_linear, model.slices["log_amp"].stop)
        # Proportions are anti-correlated; the uncertainty of the common scale is that of the sum.
        proportions = np.exp(fits.x[:, at] - fits.x[:, model.slices["mm_scale"]])
        unit[:, n_linear] = proportions @ macromolecule_shares(components)
    return unit
