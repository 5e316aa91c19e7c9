"""The result of a fit of many spectra: :class:`Quantification`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from types import SimpleNamespace

import numpy as np
import torch

from ..core.errors import OptionError
from ..core.metabolites import name_among
from ..core.units import spec_to_fid
from ..physics.signal_model import SignalModel
from . import out_of_distribution, parameter_errors, uncertainty, verdict
from .coarse_model import reduced
from .free_lines import has_free_lines, lines_of_their_own
from .options import ESTIMATES
from .posterior import Posterior, upper_limit

__all__ = ["Quantification"]


def _no_array() -> np.ndarray:
    """Return the default of arrays that are written later or absent."""
    return None  # type: ignore[return-value]


@dataclass(repr=False)
class Quantification:
    """Fits of a batch of spectra; every array has one row per spectrum, ``n`` of them.

    Attributes
    ----------
    model : SignalModel
        The model that was fitted, with its basis already scaled.
    names : list of str
        Metabolites, in the order of the concentrations.
    params : ndarray ``(n, n_params)``
        FSL-MRS's parameter vectors, in the units of the scaled data; NaN where nothing could be fitted.
    cov : ndarray ``(n, k, k)``
        Cramer-Rao bound of concentrations and nonlinear parameters (``sigma**2`` for ``sigma``), baseline accounted
        for.
    noise_sd, noise_outside_sd : ndarray ``(n,)``
        SDs per real channel of the scaled spectrum: of the residual, which counts as noise in the SDs of estimates, and
        of the noise by itself, from the signal-free ends.  Tables name the first ``residual_sd`` and the second
        ``noise_sd``.
    cost : ndarray ``(n,)``
        Residual sum of squares in the window, the penalty of the baseline included.
    converged, fitted : bool ndarray ``(n,)``
        Whether the fit ended at a minimum, and whether the spectrum could be fitted at all.
    n_iter : int ndarray ``(n,)``
    fid_scale : float
        The data were multiplied by this before fitting.
    basis_scale : ndarray ``(n_metabs,)``
        Each basis FID was multiplied by this.
    init : str
        Name of the initial values.
    free : ndarray ``(n, k)``
        Concentrations and nonlinear parameters without the bounds at zero: the centres of intervals.
    empty : bool ndarray ``(n,)``
        Spectra that hold noise only.
    networks : ndarray ``(n_networks, n, n_metabs)`` or None
        Concentrations of the networks, if there is one that quantifies; NaN for metabolites absent from its training.
    posterior : Posterior or None
        Posterior of the concentrations under the prior.
    ood_residual, ood_latent : ndarray ``(n,)``
        Out-of-distribution scores of the residual and of the estimates; above one a spectrum is unlike clean data.
    ood_network : ndarray ``(n,)`` or None
        The same of the network's latent values.
    unexplained : ndarray ``(n,)``
        Residual beyond noise as a share of the fitted metabolites.
    misfit_score : ndarray ``(n,)``
        Above one where the misfit is larger than in realistic spectra, see :mod:`fsl_mrs_dl.fitting.verdict`.
    network_note : str
        Remark on the concentrations of the network, if any.
    combine : tuple of str
        Sums of metabolites, such as 'NAA+NAAG', that :meth:`table` appends by default.
    """

    model: SignalModel
    names: list[str]
    params: np.ndarray
    cov: np.ndarray
    noise_sd: np.ndarray
    noise_outside_sd: np.ndarray
    cost: np.ndarray
    converged: np.ndarray
    fitted: np.ndarray
    n_iter: np.ndarray
    fid_scale: float
    basis_scale: np.ndarray
    init: str
    fids: np.ndarray = field(repr=False, default_factory=_no_array)
    free: np.ndarray = field(repr=False, default_factory=_no_array)
    empty: np.ndarray = field(repr=False, default_factory=_no_array)
    networks: np.ndarray | None = field(repr=False, default=None)
    posterior: Posterior | None = field(repr=False, default=None)
    ood_residual: np.ndarray = field(repr=False, default_factory=_no_array)
    ood_latent: np.ndarray = field(repr=False, default_factory=_no_array)
    ood_network: np.ndarray | None = field(repr=False, default=None)
    unexplained: np.ndarray = field(repr=False, default_factory=_no_array)
    misfit_score: np.ndarray = field(repr=False, default_factory=_no_array)
    network_note: str = field(repr=False, default="")
    combine: tuple[str, ...] = field(repr=False, default=())

    own_estimate = "ml"
    """Name of the estimate that :meth:`interval` is of; the model's, not a field."""

    def __repr__(self) -> str:
        return (
            f"<Quantification of {len(self.params)} spectra with {len(self.names)} metabolites, {self.converged.sum()}"
            " converged>"
        )

    @classmethod
    def joined(cls, parts: list[Quantification], order: np.ndarray) -> Quantification:
        """Join fits of several batches by models with the same parameters, in another order.

        The model, and the prior of a posterior, are those of the largest batch.
        """
        if len(parts) == 1 and np.array_equal(order, np.arange(len(order))):
            return parts[0]
        largest = max(parts, key=lambda part: len(part.params))
        values = {part.name: getattr(largest, part.name) for part in fields(cls)}
        for name, value in values.items():
            if isinstance(value, np.ndarray) and name != "basis_scale":
                axis = 1 if name == "networks" else 0
                values[name] = np.concatenate([getattr(part, name) for part in parts], axis).take(order, axis)
        if largest.posterior is not None:
            posteriors = [part.posterior for part in parts if part.posterior is not None]
            values["posterior"] = Posterior.joined(posteriors, order, largest.posterior.prior)
        return cls(**values)

    @property
    def conc(self) -> np.ndarray:
        """Concentrations in the units of the scaled data (FSL-MRS's 'raw'), ``(n, n_metabs)``."""
        return self.params[:, : len(self.names)]

    @property
    def fitted_amounts(self) -> np.ndarray:
        """Concentrations that :meth:`spectra` are of, ``(n, n_metabs)``; estimates need not be at the minimum."""
        return self.conc

    @property
    def crlb_sd(self) -> np.ndarray:
        """Cramer-Rao standard deviations of the concentrations, ``(n, n_metabs)``."""
        variance = np.diagonal(self.cov, axis1=1, axis2=2)[:, : len(self.names)]
        return np.sqrt(np.clip(variance, 0, None))

    @property
    def misfit(self) -> np.ndarray:
        """Residual over noise, ``(n,)``: one where the model explains everything."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return self.noise_sd / self.noise_outside_sd

    @property
    def ood(self) -> np.ndarray:
        """Out-of-distribution score, ``(n,)``, of all its parts; above one the spectrum is unlike clean data."""
        parts = [part for part in (self.ood_residual, self.ood_latent, self.ood_network) if part is not None]
        return np.where(self.fitted, out_of_distribution.joint_score(*parts), np.nan)

    @property
    def usable(self) -> np.ndarray:
        """Whether concentrations mean anything, bool ``(n,)``: the fit converged on a signal, and the misfit is no
        larger than in realistic spectra."""
        return self.fitted & self.converged & ~self.empty & (self.misfit_score <= 1) & self.determined

    @property
    def determined(self) -> np.ndarray:
        """Whether all concentrations and their SDs are numbers, bool ``(n,)``; the SD of a metabolite without signal in
        the window is infinite."""
        return np.isfinite(self.conc).all(1) & ~np.isnan(self.crlb_sd).any(1)

    @property
    def verdict(self) -> np.ndarray:
        """Numbers of :data:`fsl_mrs_dl.fitting.verdict.VERDICTS`, ``(n,)``."""
        return verdict.verdicts(self.usable, self.unexplained, self.ood)

    def estimate(self, name: str = "ml") -> tuple[np.ndarray, np.ndarray]:
        """Return concentrations ``(n, n_metabs)`` and their covariance ``(n, n_metabs, n_metabs)`` by one of
        :data:`ESTIMATES`.

        'ml' is the maximum of the likelihood; 'posterior_mean' includes the prior; 'network' is the mean over networks
        with the covariance of their spread, NaN for a single network.

        Raises
        ------
        OptionError
            If there is no such estimate.
        """
        m = len(self.names)
        if name == "ml":
            return self.conc, self.cov[:, :m, :m]
        if name == "posterior_mean":
            if self.posterior is None:
                raise OptionError(
                    "there is no prior for these metabolites",
                    option="estimate",
                    value=name,
                    remedy="give one with `prior`",
                )
            return self.posterior.mean, self.posterior.cov
        if name != "network":
            raise OptionError(
                "there is no such estimate",
                option="estimate",
                value=name,
                remedy=f"choose one of {', '.join(ESTIMATES)}",
            )
        if self.networks is None:
            raise OptionError("there is no network", option="estimate", value=name, remedy="give one with `network`")
        mean = self.networks.mean(0)
        if len(self.networks) < 2:
            return mean, np.full((len(mean), m, m), np.nan)
        deviations = self.networks - mean
        return mean, np.einsum("kni,knj->nij", deviations, deviations) / (len(deviations) - 1)

    def interval(self, members: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """Return the limits of the 95 % interval of a sum of concentrations by the data alone, ``(n,)`` each.

        They are cut off at zero unless the model allows negative concentrations.
        """
        centre, sd = self.free[:, : len(self.names)][:, members].sum(1), uncertainty.sum_sd(self.cov, members)
        low, high = centre - uncertainty.Z95 * sd, centre + uncertainty.Z95 * sd
        if self.model.shape.negative:
            return low, high
        # An estimate far below zero does not make its limit zero, and the estimate with bounds is always inside.
        estimate = self.conc[:, members].sum(1)
        return np.clip(low, 0, estimate), np.maximum(np.maximum(high, upper_limit(centre, sd)), estimate)

    def interval_of(self, estimate: str, members: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """Return the limits of the 95 % interval of a sum of concentrations by an estimate, ``(n,)`` each: by the data
        alone that of the maximum of the likelihood, and a normal one where nothing more is known than an SD.

        Raises
        ------
        OptionError
            If there is no such estimate.
        """
        conc, cov = self.estimate(estimate)
        if estimate == self.own_estimate:
            return self.interval(members)
        negative = self.model.shape.negative
        if estimate == "posterior_mean" and self.posterior is not None:
            return self.posterior.interval(members, negative=negative)
        return uncertainty.normal_interval(conc[:, members].sum(1), uncertainty.sum_sd(cov, members), negative=negative)

    def ratio_interval(self, members: list[int], under: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """Return the limits of the 95 % interval of a ratio of two sums of concentrations by the data alone, ``(n,)``
        each."""
        centre, negative = self.free[:, : len(self.names)], self.model.shape.negative
        low, high = uncertainty.ratio_interval(centre, self.cov, members, under, negative=negative)
        with np.errstate(divide="ignore", invalid="ignore"):
            whole = self.conc[:, under].sum(1)
            ratio = self.conc[:, members].sum(1) / whole
            # As for the concentration itself.
            least = upper_limit(self.free[:, members].sum(1), uncertainty.sum_sd(self.cov, members)) / whole
        if set(members) != set(under) and not negative:
            high = np.fmax(high, least)
        return np.fmin(low, ratio), np.fmax(high, ratio)

    def parameter_names(self) -> list[str]:
        """Return FSL-MRS's names of all parameters."""
        return self.model.parameter_names(self.names)

    def parameter_values(self) -> np.ndarray:
        """Return the parameters that :meth:`parameter_names` lists, ``(n, n_params)``."""
        return self.params

    def parameter_sd(self) -> np.ndarray:
        """Return the SDs of these parameters, ``(n, n_params)``."""
        return parameter_errors.parameter_sd(self)

    @property
    def prior_share(self) -> np.ndarray | None:
        """Part of each concentration that its prior decides, ``(n, n_metabs)``: posterior over prior variance; None
        without a prior."""
        return None if self.posterior is None else self.posterior.pull

    @property
    def sd_columns(self) -> tuple[str, str]:
        """Names of the columns of uncertainty.csv with the SDs of concentrations, raw and in percent."""
        return "crlb_sd", "crlb_pct"

    def assumptions(self, row: int) -> dict[str, str]:
        """Return what one spectrum's estimate rests on besides the model, for reports; nothing by default."""
        return {}

    def further_columns(self) -> dict[str, np.ndarray]:
        """Return columns of uncertainty.csv that only this model has, ``(n, n_metabs)`` each."""
        return {}

    def line_details(self, row: int) -> dict:
        """Return values of :class:`fsl_mrs_dl.fitting.artefacts.FittedSpectrum` that only some models have."""
        if not has_free_lines(self.model):
            return {}
        own = lines_of_their_own(self.model, torch.as_tensor(self.params[[row]]).to(self.model.time))
        shift, width = ({name: float(v) for name, v in zip(self.names, part[0]) if v.isfinite()} for part in own)
        free_shift = self.model.shape.free_shift
        return {
            "own_shift_ppm": shift,
            "own_width_ppm": {} if self.model.n_groups == 1 else width,
            "groups_free": not free_shift,
        }

    def upright(self, rows) -> np.ndarray:
        """Return the factors that turn spectra by their fitted phases, so that lines are absorptive, complex
        ``(n, n_points)``."""
        hz = self.model.axes.hz()
        return np.exp(1j * (self.block("phi0")[rows, :1] + self.block("phi1")[rows, :1] * hz))

    def metabolite_spectra(self, rows: np.ndarray, damping: np.ndarray | float = 0.0) -> np.ndarray:
        """Return each metabolite's part of the spectrum in the window, complex ``(n, n_metabs, n_window)``, with some
        damping (1/s, ``(n,)``) more."""
        model = self.model
        coarse = reduced(model, len(self.params))
        theta, conc, _ = model.unpack(torch.as_tensor(self.params[rows]).to(model.time))
        blocks = model.split_theta(theta)
        more = torch.as_tensor(np.array(np.broadcast_to(damping, len(theta)), float))
        blocks["gamma"] = blocks["gamma"] + more.to(theta)[:, None]
        return (coarse.plain_columns(model.join_theta(**blocks)) * conc[..., None]).cpu().numpy()

    def members(self, metab: str) -> list[int]:
        """Return the columns of a metabolite or of a sum written with '+'.

        Raises
        ------
        OptionError
            If one of the names was not fitted.
        """
        columns = []
        for name in metab.split("+"):
            member = name_among(name, self.names)
            if member is None:
                raise OptionError(f"metabolite {name}: was not fitted; there are {', '.join(self.names)}.")
            columns.append(self.names.index(member))
        return columns

    def table(
        self, combined: Sequence[str] | None = None, estimate: str = "ml"
    ) -> tuple[list[str], np.ndarray, np.ndarray]:
        """Return names, concentrations and SDs with sums appended, those of :attr:`combine` by default: ``(names,
        (n, m), (n, m))``."""
        combined = self.combine if combined is None else combined
        sums = [self.members(name) for name in combined]
        values, cov = self.estimate(estimate)
        conc = [values, *(values[:, rows].sum(-1)[:, None] for rows in sums)]
        sd = [np.sqrt(np.clip(np.diagonal(cov, axis1=1, axis2=2), 0, None))]
        sd += [uncertainty.sum_sd(cov, rows)[:, None] for rows in sums]
        return [*self.names, *combined], np.concatenate(conc, axis=1), np.concatenate(sd, axis=1)

    def row(self, index: int) -> Quantification:
        """Return the estimates of one spectrum, without data and basis set, small enough to send to other processes."""
        one = [index]
        values = {part.name: getattr(self, part.name) for part in fields(self)}
        for name, value in values.items():
            if isinstance(value, np.ndarray) and name not in ("basis_scale", "networks"):
                values[name] = value[one]
        values |= {"fids": None, "model": SimpleNamespace(shape=self.model.shape)}
        values["networks"] = None if self.networks is None else self.networks[:, one]
        values["posterior"] = None if self.posterior is None else self.posterior.select(one)
        return Quantification(**values)

    def block(self, name: str) -> np.ndarray:
        """Return one block of the parameters by FSL-MRS's name (``gamma``, ``eps``, ``phi0``, ...), ``(n, size)``."""
        return self.model.split(torch.as_tensor(self.params))[name].numpy()

    def spectra(self, what: str = "full", rows=slice(None), *, phased: bool = True) -> np.ndarray:
        """Return model spectra over all points, complex ``(n, n_points)``, in the units of the scaled data.

        ``what`` is 'full', 'baseline', 'no baseline' or a metabolite; without ``phased`` lines are upright.
        """
        params = torch.as_tensor(self.params[rows]).to(self.model.time)
        if not phased:
            params = self._without_phase(params)
        chunk = max(1, int(5e7 / (self.model.n_metabs * self.model.n_points * 16)))
        out = [self._spectra_of(part, what) for part in torch.split(params, chunk)]
        return torch.cat(out).cpu().numpy()

    @property
    def basis_fids(self) -> np.ndarray:
        """Basis FIDs of the metabolites as they were fitted, complex ``(n_metabs, n_points)``."""
        return self.model.basis.cpu().numpy()

    def metabolite_decay(self, n_points: int) -> np.ndarray:
        """Return the magnitude of the decay of each metabolite's lines over the first points of an FID, relative to its
        basis FID, ``(n, n_metabs, n_points)``; NaN where nothing was fitted."""
        theta = self.model.unpack(torch.as_tensor(self.params).to(self.model.time))[0]
        decay = self.model.decay(theta, per_metabolite=True, time=self.model.time[:n_points]).abs()
        return np.broadcast_to(decay.cpu().numpy(), (len(self.params), len(self.names), n_points))

    def _without_phase(self, params: torch.Tensor) -> torch.Tensor:
        """Return parameter vectors whose phases are zero."""
        params = params.clone()
        start = 0
        for name, size in self.model.sizes.items():
            if name in ("phi0", "phi1"):
                params[:, start : start + size] = 0.0
            start += size
        return params

    def model_fids(self, what: str = "full", rows=slice(None)) -> np.ndarray:
        """Return FIDs of the model as :meth:`spectra` has them, ``(n, n_points)``, to compare with the data as they
        are."""
        return spec_to_fid(self.spectra(what, rows))

    def _spectra_of(self, params: torch.Tensor, what: str) -> torch.Tensor:
        if what == "full":
            return self.model(params)
        if what == "baseline":
            return self.model.baseline_spec(params)
        if what == "no baseline":
            return self.model.metabolites(params).sum(-2)
        return self.model.metabolites(params)[:, self.members(what)].sum(-2)
