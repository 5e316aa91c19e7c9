"""Result folders of a fit in FSL-MRS's layout: tables, spectra, picture, options; whole or not at all."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, partial
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch

from ..core import units
from ..fitting import uncertainty
from ..fitting.coarse_model import reduced
from ..fitting.quantification import Quantification
from ..io import nifti
from . import qc

__all__ = ["FitResults", "MOSTLY_PRIOR"]


MOSTLY_PRIOR = 0.5
"""Share of the prior's variance from which on an answer is marked as mostly prior."""


def row_data() -> SimpleNamespace:
    """In place of data that are not at hand: one spectrum without dimensions."""
    return SimpleNamespace(fids=np.zeros((1, 1, 1, 1), complex), dim_tags=())


_QC_ROWS = 128  # spectra whose metabolites are held at once


def _metabolite_spectra(quick, model, theta: torch.Tensor, conc: torch.Tensor, damping: np.ndarray) -> np.ndarray:
    """Spectra of the metabolites in the window with some damping (1/s) more, complex ``(n, n_metabs, n_window)``."""
    blocks = model.split_theta(theta)
    blocks["gamma"] = blocks["gamma"] + torch.as_tensor(damping).to(theta)[:, None]
    return (quick.plain_columns(model.join_theta(**blocks)) * conc[..., None]).cpu().numpy()


@dataclass
class FitResults:
    """A quantification together with the data it came from: everything the files are made of.

    ``data.fids`` has the shape of the file that was fitted; rows of ``fit`` run over its spectra with the time axis
    moved to the end.  ``conjugated`` tells that the data were conjugated before fitting; ``estimate`` is the one that
    FSL-MRS's tables hold, one of :data:`fsl_mrs_dl.core.metabolites.ESTIMATES`.
    """

    fit: Quantification
    data: nifti.MrsData
    internal_ref: list[str]
    combine: list[str]
    conjugated: bool = False
    estimate: str = "ml"

    @cached_property
    def index(self) -> pd.DataFrame:
        """Where each row comes from: a column per dimension longer than one, counting from zero; no column for an
        SVS."""
        shape = self.data.fids.shape
        names = ["x", "y", "z", *self.data.dim_tags]
        sizes = [*shape[:3], *shape[4:]]
        names += [f"dim_{i}" for i in range(len(names) + 2, len(sizes) + 2)]
        grid = np.indices(sizes).reshape(len(sizes), -1) if sizes else np.zeros((0, 1), int)
        return pd.DataFrame(
            {name: row for name, row, size in zip(names, grid, sizes) if size > 1}, index=range(len(self.fit.params))
        )

    @cached_property
    def names(self) -> list[str]:
        """Metabolites, then the sums."""
        return [*self.fit.names, *self.sums]

    @cached_property
    def sums(self) -> list[str]:
        """Sums that are reported: total creatine where it can be formed, the internal reference, and those asked
        for."""
        fitted = set(self.fit.names)
        wanted = ["Cr+PCr"] if {"Cr", "PCr"} <= fitted else []
        reference = "+".join(self.internal_ref)
        if len(self.internal_ref) > 1 and set(self.internal_ref) <= fitted:
            wanted.append(reference)
        return list(dict.fromkeys(wanted + self.combine))

    @cached_property
    def table(self) -> tuple[np.ndarray, np.ndarray]:
        """Raw concentrations and their SDs, ``(n, len(names))`` each."""
        return self.fit.table(self.sums, self.estimate)[1:]

    @cached_property
    def reference(self) -> np.ndarray | None:
        """Concentration of the internal reference, ``(n,)``; ``None`` if it was not fitted."""
        if not set(self.internal_ref) <= set(self.fit.names):
            return None
        return self.fit.estimate(self.estimate)[0][:, self.fit.members("+".join(self.internal_ref))].sum(-1)

    @cached_property
    def ratios(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Ratios to the internal reference and their SDs, covariances included, ``(n, len(names))`` each; None without
        reference."""
        if self.reference is None:
            return None
        conc, cov = self.fit.estimate(self.estimate)
        under = self.fit.members("+".join(self.internal_ref))
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = self.table[0] / self.reference[:, None]
            sd = np.stack(
                [uncertainty.ratio_sd(conc, cov, self.fit.members(name), under) for name in self.names], axis=1
            )
        # Of a single network nothing is known, not even of the reference over itself.
        return ratio, np.where(np.isnan(self.table[1]), np.nan, sd)

    @cached_property
    def widths(self) -> SimpleNamespace:
        """Full widths (Hz) that were added to the basis set's, ``(n, n_groups)`` each: ``lorentz``, ``gauss`` (or None)
        and ``combined``."""
        lorentz = self.fit.block("gamma") / np.pi
        if not self.fit.model.shape.gaussian:
            return SimpleNamespace(lorentz=lorentz, gauss=None, combined=lorentz)
        # Olivero and Longbothum's approximation of the Voigt width, as FSL-MRS reports it.
        gauss = 2.335 / (2 * np.pi * np.sqrt(0.5)) * self.fit.block("sigma")
        return SimpleNamespace(
            lorentz=lorentz, gauss=gauss, combined=0.5346 * lorentz + np.sqrt(0.2166 * lorentz**2 + gauss**2)
        )

    @cached_property
    def quality(self) -> tuple[np.ndarray, np.ndarray]:
        """SNR and line width (Hz) of each fitted metabolite, ``(n, n_metabs)`` each."""
        fit, model = self.fit, self.fit.model
        snr = np.full(fit.conc.shape, np.nan)
        width = snr.copy()
        widest = self.widths.combined.max(-1)
        quick = reduced(model, len(fit.params))
        rows = np.flatnonzero(fit.usable)
        for part in np.array_split(rows, -(-len(rows) // _QC_ROWS)) if len(rows) else ():
            theta, conc, _ = model.unpack(torch.as_tensor(fit.params[part]).to(model.time))
            snr[part], width[part] = qc.metabolite_qc(
                fit.fids[part],
                partial(_metabolite_spectra, quick, model, theta, conc),
                dwelltime=model.dwelltime,
                spec_freq_mhz=model.spec_freq_mhz,
                nucleus=model.nucleus,
                widest_hz=widest[part],
            )
        return snr, width

    @property
    def decided_words(self) -> tuple[str, str]:
        """What figures call estimates whose SD is below, and above, half of them."""
        if self.estimate != "network":
            return "SD below 50 %", "SD above 50 %: not decided by the data"
        if len(self.fit.networks) == 1:
            return "the network's own answer, SD unknown", ""
        return "the networks' own answer, spread below 50 %", "the networks' own answer, spread above 50 %"

    def percent(self) -> np.ndarray:
        """SD in percent of the concentration, capped at 999 as LCModel and FSL-MRS do, ``(n, len(names))``."""
        conc, sd = self.table
        with np.errstate(divide="ignore", invalid="ignore"):
            percent = sd / conc * 100
        # An SD that nobody knows, of a single network, has no percentage either.
        return np.where(np.isnan(percent) & ~np.isnan(conc) & ~np.isnan(sd), 999.0, np.minimum(percent, 999.0))

    # -- tables ----------------------------------------------------------------------------------------------------

    def _long(self, columns: dict[str, np.ndarray], label: str, labels: list[str]) -> pd.DataFrame:
        """One line per spectrum and label from arrays ``(n, len(labels))``."""
        n = len(self.fit.params)
        frame = self.index.loc[np.repeat(np.arange(n), len(labels))].reset_index(drop=True)
        frame[label] = np.tile(labels, n)
        for name, values in columns.items():
            frame[name] = np.asarray(values).reshape(-1)
        return frame

    def summary(self) -> pd.DataFrame:
        """FSL-MRS's summary.csv; uncertainties of ratios by its formula (uncertainty.csv has them with covariances)."""
        conc, sd = self.table
        columns = {}
        if self.reference is not None:
            name = "/" + "+".join(self.internal_ref)
            columns[name], columns[f"{name} CRLB"] = self._internal()
        else:
            columns["Raw conc"], columns["Raw CRLB"] = conc, sd
        columns["%CRLB"] = self.percent()
        pad = np.full((len(conc), len(self.sums)), np.nan)
        snr, width = self.quality
        columns["SNR"], columns["FWHM"] = np.hstack([snr, pad]), np.hstack([width, pad])
        if self.estimate == "posterior_mean":
            columns["mostly prior"] = self.pull > MOSTLY_PRIOR
        if self.estimate == "network":
            # What FSL-MRS's headings call CRLB is the networks' spread.
            columns["estimate"] = np.full(conc.shape, "network")
        return self._long(columns, "Metab", self.names)

    def _internal(self) -> tuple[np.ndarray, np.ndarray]:
        """Concentrations over the internal reference and their SDs as FSL-MRS adds them up."""
        conc, sd = self.table
        cov = self.fit.estimate(self.estimate)[1]
        reference_sd = uncertainty.sum_sd(cov, self.fit.members("+".join(self.internal_ref)))
        with np.errstate(divide="ignore", invalid="ignore"):
            scale = 1 / self.reference[:, None]
            return conc * scale, np.sqrt(sd**2 + reference_sd[:, None] ** 2) * scale

    def concentrations(self) -> pd.DataFrame:
        """FSL-MRS's concentrations.csv: mean and std, each raw and over the internal reference; two header lines."""
        conc, sd = self.table
        mean, std = {"raw": conc}, {"raw": sd}
        if self.reference is not None:
            mean["internal"], std["internal"] = self._internal()
        frame = self._long({}, "Metabs", self.names)
        frame.columns = pd.MultiIndex.from_tuples([(name, "") for name in frame.columns])
        for head, parts in (("mean", mean), ("std", std)):
            for kind, values in parts.items():
                frame[(head, kind)] = values.reshape(-1)
        return frame

    def qc(self) -> pd.DataFrame:
        """FSL-MRS's qc.csv."""
        snr, width = self.quality
        return self._long({"SNR": snr, "FWHM": width}, "Metab", self.fit.names)

    def parameters(self) -> pd.DataFrame:
        """FSL-MRS's all_parameters.csv: every parameter of the model with its SD."""
        names = self.fit.model.parameter_names(self.fit.names)
        return self._long({"mean": self.fit.params, "std": self.parameter_sd()}, "parameter", names)

    def parameter_sd(self) -> np.ndarray:
        """SDs of the parameters in FSL-MRS's order, ``(n, n_params)``."""
        fit, model = self.fit, self.fit.model
        sd = np.sqrt(np.clip(np.diagonal(fit.cov, axis1=1, axis2=2), 0, None)).copy()
        n_metabs, groups = len(fit.names), model.n_groups
        if model.shape.gaussian:
            # From sigma**2 to sigma; where sigma is zero the variance itself is the scale of what may hide there.
            block = slice(n_metabs + groups, n_metabs + 2 * groups)
            sigma = fit.block("sigma")
            with np.errstate(divide="ignore", invalid="ignore"):
                sd[:, block] = np.where(sigma**2 > sd[:, block], sd[:, block] / (2 * sigma), np.sqrt(sd[:, block]))
        solver, out = model.baseline.solver, np.full(fit.params.shape, np.nan)
        out[:, : sd.shape[1]] = sd
        first, last = model.window
        k = fit.cov.shape[1]
        own = model.baseline.solver @ solver.T
        for row in np.flatnonzero(fit.usable):
            params = torch.as_tensor(fit.params[row : row + 1]).to(model.time)
            theta, conc, _ = model.unpack(params)
            spec_by = torch.cat([model.plain_columns(theta), model.theta_derivatives(theta, conc, eliminate=False)], 1)
            leak = spec_by[0].cpu().numpy() @ solver.T
            cov = np.where(np.isfinite(fit.cov[row]), fit.cov[row], 0.0)
            # The baseline has its own share of the noise and takes over what the other parameters get wrong.
            variance = np.diag(own) * fit.noise_sd[row] ** 2
            parts = [variance + np.einsum("ki,kl,li->i", part, cov, part) for part in (leak.real, leak.imag)]
            tail = model.baseline.order_coefficients(np.sqrt(parts[0]) + 1j * np.sqrt(parts[1]))
            out[row, k:] = tail if model.baseline.mode != "off" else 0.0
        return out

    @cached_property
    def pull(self) -> np.ndarray | None:
        """Share of the prior's variance that the data left standing, ``(n, len(names))``; None without a prior."""
        found = self.fit.posterior
        if found is None:
            return None
        expected = found.prior.sd**2
        sums = []
        for name in self.sums:
            rows = self.fit.members(name)
            whole = expected[rows].sum() if found.prior.cov is None else found.prior.cov[np.ix_(rows, rows)].sum()
            whole = whole if np.isfinite(expected[rows]).all() else np.inf
            sums.append(np.clip(uncertainty.sum_sd(found.cov, rows) ** 2 / whole, 0, 1)[:, None])
        return np.concatenate([found.pull, *sums], axis=1)

    @cached_property
    def conflict(self) -> np.ndarray | None:
        """Where the data say something else than what was expected, ``(n, len(names))``; None without a prior; never of
        sums."""
        if self.fit.posterior is None:
            return None
        return np.concatenate(
            [self.fit.posterior.conflict, np.zeros((len(self.fit.params), len(self.sums)), bool)], axis=1
        )

    @cached_property
    def posterior_ratio_sd(self) -> np.ndarray:
        """SDs of the posterior's ratios to the internal reference, ``(n, len(names))``."""
        found, under = self.fit.posterior, self.fit.members("+".join(self.internal_ref))
        sds = [uncertainty.ratio_sd(found.mean, found.cov, self.fit.members(name), under) for name in self.names]
        return np.stack(sds, axis=1)

    def uncertainties(self) -> pd.DataFrame:
        """uncertainty.csv: every estimate and what the data decided, a line per spectrum and metabolite or sum."""
        columns = self.estimates()
        columns |= {name: np.repeat(values, len(self.names)) for name, values in self.per_spectrum().items()}
        return self._long(columns, "Metab", self.names)

    def estimates(self) -> dict[str, np.ndarray]:
        """Columns of uncertainty.csv that every metabolite or sum has its own value of, ``(n, len(names))`` each."""
        fit = self.fit
        members = [fit.members(name) for name in self.names]
        under = fit.members("+".join(self.internal_ref)) if self.reference is not None else None
        _, conc, sd = fit.table(self.sums)
        stack = lambda parts: np.stack(parts, axis=1)  # noqa: E731
        with np.errstate(divide="ignore", invalid="ignore"):
            percent = np.where(np.isnan(conc), np.nan, np.minimum(np.nan_to_num(sd / conc * 100, nan=999.0), 999.0))
        columns = {"conc": conc, "crlb_sd": sd, "crlb_pct": percent}
        low, high = zip(*(fit.interval(rows) for rows in members))
        columns |= {"ci95_low": stack(low), "ci95_high": stack(high)}
        if under is not None:
            with np.errstate(divide="ignore", invalid="ignore"):
                columns["ratio"] = conc / conc[:, [self.names.index("+".join(self.internal_ref))]]
            columns["ratio_sd"] = stack([uncertainty.ratio_sd(fit.conc, fit.cov, rows, under) for rows in members])
            low, high = zip(*(fit.ratio_interval(rows, under) for rows in members))
            columns |= {"ratio_ci95_low": stack(low), "ratio_ci95_high": stack(high)}
        held = np.zeros(conc.shape, bool)
        if not fit.model.shape.negative:
            held[:, : len(fit.names)] = fit.conc == 0
        columns["at_zero"] = held
        if fit.posterior is not None:
            columns |= self._posterior_columns(members, under)
        if fit.networks is not None:
            _, columns["network"], spread = fit.table(self.sums, "network")
            if len(fit.networks) > 1:
                columns["epistemic_sd"] = spread
        return columns

    def per_spectrum(self) -> dict[str, np.ndarray]:
        """Columns of uncertainty.csv that a spectrum has once, ``(n,)`` each."""
        fit = self.fit
        values = {
            "noise_sd": fit.noise_sd,
            "misfit": fit.misfit,
            "ood_score": fit.ood,
            "ood_residual": fit.ood_residual,
            "ood_latent": fit.ood_latent,
            "ood_network": fit.ood_network,
            "converged": fit.converged,
            "usable": fit.usable,
            "n_iter": fit.n_iter,
        }
        return {name: value for name, value in values.items() if value is not None}

    def _posterior_columns(self, members, under) -> dict[str, np.ndarray]:
        """The posterior's part of uncertainty.csv."""
        found, n = self.fit.posterior, len(self.fit.names)
        _, mean, sd = self.fit.table(self.sums, "posterior_mean")
        low = np.concatenate([found.low, np.maximum(mean[:, n:] - uncertainty.Z95 * sd[:, n:], 0)], axis=1)
        high = np.concatenate([found.high, mean[:, n:] + uncertainty.Z95 * sd[:, n:]], axis=1)
        columns = {"posterior_mean": mean, "posterior_sd": sd, "posterior_ci95_low": low, "posterior_ci95_high": high}
        if under is not None:
            with np.errstate(divide="ignore", invalid="ignore"):
                columns["posterior_ratio"] = mean / found.mean[:, under].sum(1)[:, None]
            columns["posterior_ratio_sd"] = self.posterior_ratio_sd
            limits = [uncertainty.ratio_interval(found.mean, found.cov, rows, under) for rows in members]
            columns["posterior_ratio_ci95_low"], columns["posterior_ratio_ci95_high"] = (
                np.stack(part, 1) for part in zip(*limits)
            )
        return columns | {
            "prior_pull": self.pull,
            "mostly_prior": self.pull > MOSTLY_PRIOR,
            "prior_conflict": self.conflict,
        }

    # -- spectra ---------------------------------------------------------------------------------------------------

    def fid_file(self, what: str = "full") -> nifti.MrsData:
        """Model FIDs in the shape, units and orientation of the data file."""
        fids = units.spec_to_fid(self.fit.spectra(what)) / self.fit.fid_scale
        if self.conjugated:
            fids = fids.conj()
        shape = self.data.fids.shape
        moved = fids.reshape(*shape[:3], *shape[4:], shape[3])
        return replace(self.data, fids=np.moveaxis(moved, -1, 3).astype(self.data.fids.dtype))
