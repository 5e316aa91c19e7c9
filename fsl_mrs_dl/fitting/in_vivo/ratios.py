"""Priors of concentrations; and soft constraints between them: ratios that literature gives, as rows of the
least-squares problem of the amplitudes.

The table is in ``data/in_vivo.json``; a row is ``(A - r sum_k w_k A_k) / (s sum_k w_k A_k)`` with the typical amount of
the sum below, so that it does not grow without limit where the sum is small.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ...core.metabolites import name_among
from ...physics.in_vivo_components import Components, priors_table

__all__ = ["CONCENTRATION_PRIORS", "ConcentrationPrior", "RatioConstraint", "ratio_constraints", "with_ratios"]

CONCENTRATION_PRIORS = ("wide", "none", "population")
"""Priors of concentrations about typical proportions, whose unit is free: a factor of e; none; a factor of 1.35."""


@dataclass(frozen=True)
class ConcentrationPrior:
    """The prior of the concentrations of an estimate.

    Attributes
    ----------
    prior : str
        One of :data:`CONCENTRATION_PRIORS`.
    soft_constraints : bool
        Hold the ratios of :func:`ratio_constraints`.
    """

    prior: str = "wide"
    soft_constraints: bool = False


@dataclass(frozen=True)
class RatioConstraint:
    """One ratio of concentrations.

    Attributes
    ----------
    text : str
        As 'GABA/(NAA+NAAG+Cr+PCr+3 GPC+3 PCh) = 0.03 +- 0.03', with the basis set's names.
    row : ndarray ``(n_linear,)``
        Weights of amplitudes whose sum has a mean of zero.
    sd : float
        Of that sum, for typical concentrations in their unit.
    """

    text: str
    row: np.ndarray
    sd: float


def ratio_constraints(components: Components) -> list[RatioConstraint]:
    """Return the table's ratios whose numerator, and at least one metabolite of each part of whose denominator, is
    among the components."""
    names = components.names[: components.n_linear]
    out = []
    for entry in priors_table()["ratios"]["entries"]:
        numerator = name_among(entry["of"], names)
        below = {name_among(name, names): weight for name, weight in entry["to"].items()}
        present = {name: weight for name, weight in below.items() if name is not None}
        required = [any(name_among(name, names) for name in part.split("|")) for part in entry["needs"]]
        if numerator is None or not all(required):
            continue
        weights = np.array([present.get(name, 0.0) for name in names])
        row = -entry["ratio"] * weights
        row[names.index(numerator)] += 1.0
        typical = float(weights @ components.expected[: components.n_linear])
        total = "+".join(f"{weight:g} {name}" if weight != 1 else str(name) for name, weight in present.items())
        text = f"{numerator}/({total}) = {entry['ratio']:g} +- {entry['sd']:g}"
        out.append(RatioConstraint(text, row, entry["sd"] * typical))
    return out


def with_ratios(precision: torch.Tensor, constraints: list[RatioConstraint], log_scale: torch.Tensor) -> torch.Tensor:
    """Return the precision ``(b, m, m)`` of amplitudes with the rows of constraints added.

    ``log_scale`` ``(b, 1)`` is the logarithm of the amplitudes' common unit.
    """
    if not constraints:
        return precision
    rows = torch.as_tensor(np.stack([each.row / each.sd for each in constraints])).to(precision)
    n = rows.shape[1]
    out = precision.clone()
    out[:, :n, :n] += (rows.mT @ rows) * torch.exp(-2 * log_scale)[..., None]
    return out
