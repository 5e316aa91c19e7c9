"""Estimates of one spectrum as JSON and arrays, as :mod:`fsl_mrs_dl.fitting.serialise` has them for FSL-MRS's model."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from types import SimpleNamespace
from typing import Any

import numpy as np

from ..serialise import Plain
from .ratios import ConcentrationPrior
from .result import InVivoFit, InVivoSignal

__all__ = ["plain_in_vivo_row", "restored_in_vivo_row"]

_LEFT_OUT = ("model", "fids", "free", "fitted_model", "x", "x_sd", "water", "whole_baseline", "basis_scale", "nuisance")
"""Fields that no table of estimates needs; ``free`` is the same as ``params``."""


def plain_in_vivo_row(fit: InVivoFit, row: int) -> Plain:
    """Return the estimates of one spectrum, without its data and model."""
    one, about, arrays = fit.row(row), {}, {}
    for part in fields(one):
        value = getattr(one, part.name)
        if part.name in _LEFT_OUT or value is None:
            continue
        if part.name == "population":
            arrays["population.mean"], arrays["population.cov"] = value
        elif isinstance(value, ConcentrationPrior):
            about[part.name] = asdict(value)
        elif isinstance(value, np.ndarray):
            arrays[part.name] = value
        else:
            about[part.name] = value
    return Plain(json.dumps(about), arrays)


def restored_in_vivo_row(plain: Plain) -> InVivoFit:
    """Return the estimates of :func:`plain_in_vivo_row`, with all that tables are made of."""
    values: dict[str, Any] = json.loads(plain.text) | dict(plain.arrays)
    values["population"] = (values.pop("population.mean"), values.pop("population.cov"))
    values["concentrations"] = ConcentrationPrior(**values["concentrations"])
    nothing: dict[str, Any] = dict.fromkeys(("fids", "fitted_model", "x", "x_sd", "water"))
    model: Any = SimpleNamespace(shape=InVivoSignal.shape, name=InVivoSignal.name)
    return InVivoFit(model=model, free=values["params"], basis_scale=np.ones(0), **nothing, **values)
