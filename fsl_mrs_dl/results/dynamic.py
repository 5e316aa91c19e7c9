"""Files of a dynamic fit, under FSL-MRS's names: tables, spectra and pictures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..dynamic.agreement import agreement_of
from ..dynamic.data import DynamicData
from ..dynamic.derived import DerivedQuantity, derived_quantities, sum_courses, sum_parameters
from ..dynamic.elements import series_elements
from ..dynamic.series import DynamicFit
from ..io import nifti
from ..io.nifti import MrsData
from .dynamic_figures import parameter_figure, residual_figure, spectra_figure

__all__ = [
    "derived_table",
    "fit_quality",
    "free_parameter_table",
    "mapped_parameter_table",
    "model_information",
    "p_text",
    "tidy_table",
    "write_dynamic",
    "write_tables",
]


def free_parameter_table(fit: DynamicFit):
    """Return value and SD of every free parameter as a DataFrame."""
    import pandas as pd

    return pd.DataFrame({"mean": fit.x, "sd": fit.sd}, index=fit.names)


def mapped_parameter_table(fit: DynamicFit, times: np.ndarray):
    """Return the parameters of every spectrum and their SDs as a DataFrame: a row each, a pair of columns per time."""
    return _by_time(fit.mapping.mapped_names, fit.mapped, fit.mapped_sd, times)


def tidy_table(fit: DynamicFit, data: MrsData, times: np.ndarray):
    """Return the parameters of every spectrum and the sums of metabolites, such as tNAA, as a DataFrame of one header
    row: a row for each parameter and spectrum, with the time variable and what the header says of the spectrum."""
    import pandas as pd

    sums = sum_courses(fit)
    names = [*fit.mapping.mapped_names, *(f"conc_{one.name}" for one in sums)]
    values = np.column_stack([fit.mapped, *(one.values for one in sums)])
    sds = np.column_stack([fit.mapped_sd, *(one.sd for one in sums)])
    n_times = len(times)
    of_spectra = {"spectrum": np.arange(n_times)}
    columns = times.reshape(n_times, -1).T
    of_spectra |= {"time" if len(columns) == 1 else f"time_{k}": column for k, column in enumerate(columns)}
    of_spectra |= {one.key: one.values for one in series_elements(data) if one.key not in of_spectra}
    table = {"parameter": np.repeat(names, n_times)}
    table |= {key: np.tile(column, len(names)) for key, column in of_spectra.items()}
    return pd.DataFrame({**table, "mean": values.T.ravel(), "sd": sds.T.ravel()})


def _by_time(names: list[str], values: np.ndarray, sds: np.ndarray, times: np.ndarray):
    """Return values ``(n_times, n)`` and their SDs as a DataFrame."""
    import pandas as pd

    labels = times.tolist() if times.ndim == 1 else list(range(len(times)))
    mean, sd = (pd.DataFrame(table, columns=names, index=labels) for table in (values, sds))
    table = pd.concat((mean, sd), keys=["mean", "std"], axis=0).T.reorder_levels([1, 0], axis=1)
    return table.sort_index(axis=1, level=0)


def p_text(p: float) -> str:
    """Return a p value in words; smaller ones than numbers can be are below 1e-300.

    >>> p_text(0.0), p_text(0.0312)
    ('< 1e-300', '0.031')
    """
    return "< 1e-300" if p < 1e-300 else f"{p:.2g}"


def derived_table(quantities: Sequence[DerivedQuantity]):
    """Return derived quantities as a DataFrame: value, SD, z, p of zero (both NaN where the fit has not converged), and
    how each was computed."""
    import pandas as pd

    rows = [(one.value, one.sd, one.z, one.p, one.expression) for one in quantities]
    index = pd.Index([one.name for one in quantities], name="name")
    return pd.DataFrame(rows, columns=["value", "sd", "z", "p", "expression"], index=index)


def model_information(fit: DynamicFit) -> dict[str, float | int | bool]:
    """Return figures for the comparison of models, by FSL-MRS's formulas and under its names."""
    n_times, width = fit.spectra.shape
    n_free = len(fit.names)
    negative = float(np.log(np.linalg.norm(fit.spectra - fit.fitted, axis=-1)).sum() * width / 2)
    return {
        "dynamic log-likelihood": negative,
        "number of parameters": n_free,
        "number of observations": n_times * width,
        "AIC": 2 * n_free + 2 * negative,
        "BIC": float(np.log(n_times * width)) * n_free + 2 * negative,
    }


def fit_quality(fit: DynamicFit) -> dict[str, float | int | bool | str]:
    """Return log likelihood, AIC, BIC and log evidence of Gaussian noise of one unknown size, see
    :meth:`fsl_mrs_dl.dynamic.series.DynamicFit.information_criteria`; the SDs of noise and residual, the verdict, and
    whether the fit has converged and its model over the series holds, which that of no other fit does."""
    agreement = agreement_of(fit)
    residual = {
        "residual over noise": agreement.misfit,
        "residual over noise of fits of each spectrum": agreement.single_misfit,
    }
    return {
        "number of parameters": len(fit.names),
        "verdict": agreement.verdict,
        "model over the series holds": agreement.holds,
        **{key: value for key, value in residual.items() if np.isfinite(value)},
        **{key: float(value) for key, value in fit.information_criteria().items()},
        "noise SD": fit.noise_outside_sd,
        "residual SD": fit.noise_sd,
        "converged": fit.solution.converged,
        "distance to the minimum in SDs": fit.solution.distance,
    }


def write_dynamic(
    folder: Path, results: DynamicData, options: str, derived: Sequence[str] = ()
) -> list[DerivedQuantity]:
    """Write every file of a dynamic fit into a folder; return its derived quantities.

    ``options`` is the content of options.txt, ``derived`` are texts of
    :func:`fsl_mrs_dl.dynamic.derived.derived_quantities`.
    """
    fit = results.fit
    write_tables(folder, fit, results.time_variable)
    tidy_table(fit, results.data, results.time_variable).to_csv(folder / "parameters_tidy.csv", index=False)
    quantities = [*derived_quantities(fit, derived), *sum_parameters(fit)]
    if quantities:
        derived_table(quantities).to_csv(folder / "derived.csv")
    (folder / "options.txt").write_text(options, encoding="utf-8")
    model = _model_data(results)
    nifti.save(folder / "fit.nii.gz", model)
    nifti.save(folder / "residual.nii.gz", replace(model, fids=results.data.fids - model.fids))
    parameter_figure(results, folder / "dyn_parameters.png")
    spectra_figure(results, folder / "dyn_spectra.png")
    residual_figure(results, folder / "dyn_residuals.png")
    return quantities


def write_tables(folder: Path, fit: DynamicFit, times: np.ndarray) -> None:
    """Write the tables of a dynamic fit into a folder."""
    import pandas as pd

    pd.DataFrame([fit.x], columns=fit.names).rename_axis("samples").to_csv(folder / "dyn_results.csv")
    pd.DataFrame(fit.initial, columns=fit.mapping.mapped_names).to_csv(folder / "init_results.csv")
    pd.DataFrame(fit.cov, fit.names, fit.names).to_csv(folder / "dyn_cov.csv")
    free_parameter_table(fit).to_csv(folder / "free_parameters.csv")
    mapped_parameter_table(fit, times).to_csv(folder / "mapped_parameters.csv")
    for name, figures in (("model_information", model_information(fit)), ("fit_quality", fit_quality(fit))):
        (folder / f"{name}.json").write_text(json.dumps(figures, indent=1), encoding="utf-8")


def _model_data(results: DynamicData) -> nifti.MrsData:
    """Return FIDs of the model in shape, scale and orientation of the data file."""
    fids, shape = results.fit.model_fids(), results.data.fids.shape
    if results.conjugated:
        fids = fids.conj()
    fids = np.moveaxis(fids.reshape(*shape[:3], *shape[4:], shape[3]), -1, 3)
    return replace(results.data, fids=fids.astype(results.data.fids.dtype))
