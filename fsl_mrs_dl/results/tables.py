"""Tables of a fit: those of FSL-MRS, with its columns, and ``uncertainty.csv``."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ..concentrations.scaling import SOURCES, UNITS, AbsoluteConcentrations
from ..concentrations.tissue import WATER_DENSITY
from ..fitting import uncertainty
from ..fitting.quantification import Quantification
from ..fitting.verdict import VERDICTS
from .doubts import reason_words
from .fit_results import FitResults
from .layout import MOSTLY_PRIOR

__all__ = [
    "FSL_MRS_UNITS",
    "absolute_columns",
    "budget_table",
    "concentration_table",
    "metabolite_columns",
    "parameter_table",
    "qc_table",
    "quantification_info",
    "spectrum_columns",
    "summary_table",
    "uncertainty_table",
]

_SD_WORDS = {
    "ml": "Cramer-Rao bound",
    "in-vivo": "SD of the in-vivo model",
    "posterior_mean": "SD of the posterior",
    "network": "spread of the networks",
}
"""What the columns hold that FSL-MRS heads CRLB."""

FSL_MRS_UNITS = {"molality": "mMol/kg", "molarity": "mM"}
"""Heads of FSL-MRS's columns of absolute concentrations."""


def summary_table(results: FitResults) -> pd.DataFrame:
    """Return FSL-MRS's summary.csv, with further columns: SDs of absolute concentrations with every source of error,
    what its columns of CRLB hold, misfit and verdict of the spectrum, and the reasons for
    a verdict that is not good.

    FSL-MRS's columns hold what FSL-MRS defines: SDs of ratios add the variances of the two (uncertainty.csv has them
    with covariances), and those of absolute concentrations are the fit's alone.
    """
    conc, sd = results.concentrations
    columns = {}
    if results.reference is not None:
        name = f"/{results.reference_name}"
        columns[name], columns[f"{name} CRLB"] = results.fsl_mrs_ratios
    else:
        columns["Raw conc"], columns["Raw CRLB"] = conc, sd
    if results.absolute is not None:
        for unit, name in FSL_MRS_UNITS.items():
            columns[name], columns[f"{name} CRLB"] = results.absolute.values[unit], results.absolute.crlb[unit]
    columns["%CRLB"] = results.percent
    pad = np.full((len(conc), len(results.sums)), np.nan)
    snr, width = results.quality
    columns["SNR"], columns["FWHM"] = np.hstack([snr, pad]), np.hstack([width, pad])
    if results.estimate == "posterior_mean":
        assert results.prior_pull is not None
        columns["mostly prior"] = results.prior_pull > MOSTLY_PRIOR
    if results.estimate == "network":
        columns["estimate"] = np.full(conc.shape, "network")
    if results.absolute is not None:
        for unit, name in FSL_MRS_UNITS.items():
            columns[f"{name} SD"] = results.absolute.sd[unit]
    columns["CRLB is"] = np.full(conc.shape, _SD_WORDS[results.estimate])
    words = np.array(VERDICTS)[results.verdict]
    of_spectrum = {"misfit": results.fit.misfit, "usable": results.fit.usable, "verdict": words}
    of_spectrum["reasons"] = [reason_words(results, row) for row in range(len(conc))]
    columns |= {name: np.repeat(values, len(results.names)) for name, values in of_spectrum.items()}
    return _long(results, columns, "Metab", results.names)


def concentration_table(results: FitResults) -> pd.DataFrame:
    """Return FSL-MRS's concentrations.csv: mean and std, raw, over the internal reference and absolute; two header
    lines."""
    conc, sd = results.concentrations
    mean, std = {"raw": conc}, {"raw": sd}
    if results.reference is not None:
        mean["internal"], std["internal"] = results.fsl_mrs_ratios
    if results.absolute is not None:
        mean |= results.absolute.values
        std |= results.absolute.crlb
    frame = _long(results, {}, "Metabs", results.names)
    frame.columns = pd.MultiIndex.from_tuples([(name, "") for name in frame.columns])
    for head, parts in (("mean", mean), ("std", std)):
        for kind, values in parts.items():
            frame[(head, kind)] = values.reshape(-1)
    return frame


def qc_table(results: FitResults) -> pd.DataFrame:
    """Return FSL-MRS's qc.csv."""
    snr, width = results.quality
    return _long(results, {"SNR": snr, "FWHM": width}, "Metab", results.fit.names)


def parameter_table(results: FitResults) -> pd.DataFrame:
    """Return FSL-MRS's all_parameters.csv: every parameter of the model with its SD."""
    fit = results.fit
    columns = {"mean": fit.parameter_values(), "std": fit.parameter_sd()}
    return _long(results, columns, "parameter", fit.parameter_names())


def uncertainty_table(results: FitResults) -> pd.DataFrame:
    """Return uncertainty.csv: every estimate with its intervals, a line per spectrum and metabolite or sum."""
    columns = metabolite_columns(results)
    columns |= {name: np.repeat(values, len(results.names)) for name, values in spectrum_columns(results.fit).items()}
    if results.absolute is not None:
        columns["molarity_of"] = np.full(results.concentrations[0].shape, results.absolute.voxel)
    return _long(results, columns, "Metab", results.names)


def metabolite_columns(results: FitResults) -> dict[str, np.ndarray]:
    """Return the columns of uncertainty.csv with a value per metabolite or sum, ``(n, len(names))`` each."""
    fit, names = results.fit, results.names
    members = [fit.members(name) for name in names]
    under = results.reference_members
    _, conc, sd = fit.table(results.sums)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.nan_to_num(sd / np.abs(conc) * 100, nan=999.0)
        percent = np.where(np.isnan(conc), np.nan, np.minimum(share, 999.0))
    columns = dict(zip(("conc", *fit.sd_columns), (conc, sd, percent)))
    columns |= _limits("ci95", [fit.interval(rows) for rows in members])
    if under is not None:
        with np.errstate(divide="ignore", invalid="ignore"):
            columns["ratio"] = conc / conc[:, [names.index(results.reference_name)]]
        columns["ratio_sd"] = np.stack([uncertainty.ratio_sd(fit.conc, fit.cov, rows, under) for rows in members], 1)
        columns |= _limits("ratio_ci95", [fit.ratio_interval(rows, under) for rows in members])
    at_zero = np.zeros(conc.shape, bool)
    if not fit.model.shape.negative:
        at_zero[:, : len(fit.names)] = fit.conc == 0
    columns["at_zero"] = at_zero
    if results.absolute is not None:
        columns |= absolute_columns(results.absolute)
    if fit.posterior is not None:
        columns |= _posterior_columns(results, members)
    pad = np.full((len(conc), len(results.sums)), np.nan)
    columns |= {name: np.hstack([values, pad]) for name, values in fit.further_columns().items()}
    if fit.networks is not None:
        _, columns["network"], spread = fit.table(results.sums, "network")
        if len(fit.networks) > 1:
            columns["epistemic_sd"] = spread
    return columns


def absolute_columns(absolute: AbsoluteConcentrations) -> dict[str, np.ndarray]:
    """Return the columns of uncertainty.csv with absolute concentrations, ``(n, len(names))`` each; their SDs and
    intervals contain every source of error."""
    columns = {}
    for unit in UNITS:
        columns[unit], columns[f"{unit}_sd"] = absolute.values[unit], absolute.sd[unit]
        columns[f"{unit}_ci95_low"], columns[f"{unit}_ci95_high"] = absolute.low[unit], absolute.high[unit]
    return columns


def budget_table(results: FitResults) -> pd.DataFrame:
    """Return concentration_budget.csv: what the errors of absolute concentrations are made of.

    A line per spectrum, metabolite or sum, and unit: concentration, SD, the SD that each source contributes in percent
    of the concentration, and its share of the variance.
    """
    absolute = results.absolute
    assert absolute is not None
    frames, names = [], {source: source.replace(" ", "_") for source in SOURCES}
    for unit in reversed(UNITS):
        value = absolute.values[unit]
        columns = {"unit": np.full(value.shape, unit), "concentration": value, "sd": absolute.sd[unit]}
        with np.errstate(divide="ignore", invalid="ignore"):
            for source, name in names.items():
                columns[f"{name}_sd_pct"] = 100 * absolute.budget[unit][source] / value
        columns |= {f"{name}_share": absolute.share(unit, source) for source, name in names.items()}
        frames.append(_long(results, columns, "Metab", absolute.names))
    return pd.concat(frames, ignore_index=True)


def quantification_info(results: FitResults) -> pd.DataFrame:
    """Return FSL-MRS's quantification_info.csv: densities, fractions and relaxation times of the tissues."""
    absolute = results.absolute
    assert absolute is not None
    tissue, times = absolute.scaling.tissue, absolute.relaxation
    parts = ("GM", "WM", "CSF")
    frame = pd.DataFrame(index=pd.Index(parts, name="Tissue"))
    frame["Tissue-water densities (g/cm^3)"] = [WATER_DENSITY[part] for part in parts]
    fractions = [np.nan] * 3
    if tissue is not None:
        fractions = [float(np.nanmean(part)) for part in (tissue.grey, tissue.white, tissue.csf)]
    frame["Tissue volume fractions"] = fractions
    for name, values, digits, scale in (("T2 (ms)", times.t2, 0, 1e3), ("T1 (s)", times.t1, 2, 1.0)):
        frame[f"Water {name}"] = np.around([values[f"H2O_{part}"] * scale for part in parts], digits)
    for name, values, digits, scale in (("T2 (ms)", times.t2, 0, 1e3), ("T1 (s)", times.t1, 2, 1.0)):
        frame[f"Metabolite {name}"] = np.around([values["METAB"] * scale] * 3, digits)
    return frame


def spectrum_columns(fit: Quantification) -> dict[str, np.ndarray]:
    """Return the columns of uncertainty.csv with a value per spectrum, ``(n,)`` each."""
    columns = {
        "noise_sd": fit.noise_outside_sd,
        "residual_sd": fit.noise_sd,
        "misfit": fit.misfit,
        "ood_score": fit.ood,
        "ood_residual": fit.ood_residual,
        "ood_latent": fit.ood_latent,
        "ood_network": fit.ood_network,
        "converged": fit.converged,
        "unexplained": fit.unexplained,
        "fitted": fit.fitted,
        "usable": fit.usable,
        "n_iter": fit.n_iter,
    }
    return {name: values for name, values in columns.items() if values is not None}


def _posterior_columns(results: FitResults, members: list[list[int]]) -> dict[str, np.ndarray]:
    """Return the posterior's columns of uncertainty.csv."""
    posterior, negative = results.fit.posterior, results.fit.model.shape.negative
    pull, conflict = results.prior_pull, results.prior_conflict
    assert posterior is not None and pull is not None and conflict is not None
    _, mean, sd = results.fit.table(results.sums, "posterior_mean")
    low, high = (np.stack(ends, 1) for ends in zip(*(posterior.interval(rows, negative=negative) for rows in members)))
    columns = {"posterior_mean": mean, "posterior_sd": sd, "posterior_ci95_low": low, "posterior_ci95_high": high}
    under = results.reference_members
    if under is not None:
        with np.errstate(divide="ignore", invalid="ignore"):
            columns["posterior_ratio"] = mean / posterior.mean[:, under].sum(1)[:, None]
        columns["posterior_ratio_sd"] = results.posterior_ratio_sd
        limits = [
            uncertainty.ratio_interval(posterior.mean, posterior.cov, rows, under, negative=negative)
            for rows in members
        ]
        columns |= _limits("posterior_ratio_ci95", limits)
    return columns | {"prior_pull": pull, "mostly_prior": pull > MOSTLY_PRIOR, "prior_conflict": conflict}


def _limits(name: str, intervals: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, np.ndarray]:
    """Return the columns ``<name>_low`` and ``<name>_high`` of intervals, one per metabolite or sum."""
    low, high = (np.stack(side, axis=1) for side in zip(*intervals))
    return {f"{name}_low": low, f"{name}_high": high}


def _long(results: FitResults, columns: dict[str, np.ndarray], label: str, labels: list[str]) -> pd.DataFrame:
    """Return one line per spectrum and label from arrays ``(n, len(labels))``."""
    n = len(results.fit.params)
    frame = results.index.loc[np.repeat(np.arange(n), len(labels))].reset_index(drop=True)
    # A key of the header may have the name of a column.
    frame = frame.rename(columns={name: f"{name} (header)" for name in {label, *columns} & set(frame)})
    frame[label] = np.tile(labels, n)
    for name, values in columns.items():
        frame[name] = np.asarray(values).reshape(-1)
    return frame
