"""Quantities derived from a dynamic fit, with SDs: expressions of its parameters, contrasts, and sums of metabolites.

SDs are those of the delta method with the whole covariance.  A sum such as tNAA has a course, the sum of those of its
metabolites, and parameters: those of the model that is closest to that course.  For linear models they are the sums of
the metabolites' parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import erfc

from ..core.errors import OptionError
from ..core.metabolites import name_among
from .curve_fit import fit_curves
from .expressions import NotReadError, evaluate_expression
from .mapping import Mapping
from .models import Model
from .series import DynamicFit

__all__ = [
    "SUMS",
    "DerivedQuantity",
    "SumCourse",
    "check_definitions",
    "derived_quantities",
    "mapped_slopes",
    "sum_courses",
    "sum_parameters",
]

_LONGEST_LIST = 400  # characters of names in a message

SUMS = {
    "tNAA": ("NAA", "NAAG"),
    "tCr": ("Cr", "PCr"),
    "tCho": ("GPC", "PCh"),
    "Glx": ("Glu", "Gln"),
}
"""Sums of metabolites that are reported; those whose metabolites are in the fit are."""


@dataclass(frozen=True)
class DerivedQuantity:
    """A quantity of a fit: its value, its SD, how it was computed, and whether the fit has converged."""

    name: str
    value: float
    sd: float
    expression: str = ""
    converged: bool = True

    @property
    def z(self) -> float:
        """Value over SD; NaN where the fit has not converged."""
        return self.value / self.sd if self.converged and self.sd > 0 else np.nan

    @property
    def p(self) -> float:
        """Probability of a value as far from zero as this if zero is the truth: of both signs, normal distribution; NaN
        where the fit has not converged."""
        return float(erfc(abs(self.z) / np.sqrt(2)))


@dataclass(frozen=True)
class SumCourse:
    """The course of a sum of metabolites: values and covariance ``(n_times, n_times)``, in the units of the fit."""

    name: str
    members: tuple[str, ...]
    values: np.ndarray
    cov: np.ndarray

    @property
    def sd(self) -> np.ndarray:
        """SDs ``(n_times,)``."""
        return np.sqrt(np.clip(np.diag(self.cov), 0, None))


def mapped_slopes(fit: DynamicFit, x: torch.Tensor | None = None) -> torch.Tensor:
    """Return the derivatives of the parameters of every spectrum by the free ones, ``(n_times, n_mapped, n_free)``; at
    other free parameters than those of the fit where ``x`` is given."""
    slope = fit.mapping.jacobian(torch.as_tensor(fit.x) if x is None else x)
    out = slope.new_zeros(*slope.shape[:2], len(fit.names))
    return out.scatter_(2, fit.mapping.active[:, None].expand_as(slope), slope)


def derived_quantities(fit: DynamicFit, texts: Sequence[str]) -> list[DerivedQuantity]:
    """Return the quantities of texts such as ``T2_ratio = conc_NAA_T2 / conc_Cr_T2``.

    Names are those of the free parameters, single numbers, and of the parameters of the spectra, such as ``conc_NAA``,
    with a number for each spectrum: ``conc_NAA[0]`` is the first.  Operators are Python's, functions numpy's.  A text
    whose value is an array gives a quantity for each of its numbers.

    Raises
    ------
    OptionError
        If a text cannot be evaluated.
    """
    mapped = torch.as_tensor(fit.mapped).clone().requires_grad_()
    x = torch.as_tensor(fit.x).clone().requires_grad_()
    names = dict(zip(fit.mapping.mapped_names, mapped.mT)) | dict(zip(fit.names, x))
    slopes, converged = mapped_slopes(fit), fit.solution.converged
    quantities = []
    for text in texts:
        name, expression = _definition(text)
        values = _evaluated(text, expression, names, fit.names)
        for number, value in enumerate(values):
            by_x, by_mapped = torch.autograd.grad(value, (x, mapped), retain_graph=True, allow_unused=True)
            slope = torch.zeros_like(x) if by_x is None else by_x
            if by_mapped is not None:
                slope = slope + torch.einsum("tm,tmf->f", by_mapped, slopes)
            sd = np.sqrt(np.diag(_propagated(slope[None].numpy(), fit.cov)))[0]
            label = name if len(values) == 1 else f"{name}[{number}]"
            quantities.append(DerivedQuantity(label, float(value.detach()), float(sd), expression, converged))
    return quantities


def check_definitions(mapping: Mapping, texts: Sequence[str]) -> dict[str, OptionError]:
    """Return the faults of texts of :func:`derived_quantities`, which are found before anything is fitted."""
    mapped = torch.full((mapping.n_times, len(mapping.mapped_names)), 0.5, dtype=torch.float64, requires_grad=True)
    x = torch.full((mapping.n_free,), 0.5, dtype=torch.float64, requires_grad=True)
    names, faults = dict(zip(mapping.mapped_names, mapped.mT)) | dict(zip(mapping.names, x)), {}
    for text in texts:
        try:
            _evaluated(text, _definition(text)[1], names, mapping.names)
        except OptionError as exc:
            faults[text] = exc
    return faults


def _definition(text: str) -> tuple[str, str]:
    """Return name and expression of a text."""
    name, _, expression = (part.strip() for part in text.partition("="))
    if not name or not expression or expression.startswith("="):
        raise _error(text, "is no definition", "write NAME = EXPRESSION")
    return name, expression


def _evaluated(text: str, expression: str, names: dict, free: Sequence[str]) -> torch.Tensor:
    """Return the values of an expression, ``(n,)``."""
    try:
        value = torch.as_tensor(evaluate_expression(expression, names), dtype=torch.float64).reshape(-1)
    except SyntaxError as exc:
        raise _error(text, f"is no expression ({exc.msg})", None) from exc
    except NotReadError as exc:
        known = ", ".join(name for name in free if not name.startswith("baseline"))
        known = known if len(known) <= _LONGEST_LIST else f"{known[:_LONGEST_LIST].rpartition(',')[0]}, ..."
        raise _error(text, f"{exc.what} is not known", f"parameters are {known}") from exc
    except Exception as exc:
        raise _error(text, f"cannot be evaluated ({' '.join(str(exc).split())[:120]})", None) from exc
    if not value.requires_grad:
        raise _error(text, "depends on no parameter of the fit", f"name one, such as {free[0]}")
    return value


def _error(text: str, problem: str, remedy: str | None) -> OptionError:
    return OptionError(problem, option="derived", value=f"'{text}'", remedy=remedy)


def _propagated(slope: np.ndarray, cov: np.ndarray) -> np.ndarray:
    """Return the covariance of quantities with derivatives ``(n, n_free)``; parameters without influence may have any
    SD."""
    used = (slope != 0).any(0)
    part = slope[:, used]
    return part @ np.nan_to_num(cov[np.ix_(used, used)], posinf=1e300) @ part.T


def sum_courses(fit: DynamicFit) -> list[SumCourse]:
    """Return the courses of the sums of :data:`SUMS` that the fit holds."""
    slopes, courses = mapped_slopes(fit).numpy(), []
    for name, members in SUMS.items():
        held = tuple(one for one in (name_among(member, fit.metabolites) for member in members) if one)
        if len(held) < len(members) or name in fit.metabolites:
            continue
        columns = [fit.metabolites.index(one) for one in held]
        cov = _propagated(slopes[:, columns].sum(1), fit.cov)
        courses.append(SumCourse(name, held, fit.mapped[:, columns].sum(1), cov))
    return courses


def sum_parameters(fit: DynamicFit) -> list[DerivedQuantity]:
    """Return the parameters of sums of :data:`SUMS` whose metabolites follow one model, as the rate of tNAA."""
    quantities = []
    for course in sum_courses(fit):
        for one in fit.mapping.dynamic:
            columns = one.columns.tolist()
            numbers = [fit.metabolites.index(name) for name in course.members]
            if not set(numbers) <= set(columns):
                continue
            free = one.free[columns.index(numbers[0])]
            value, sd = _closest(one.model, course, fit, free)
            roles = [fit.mapping.free[number].role for number in free.tolist()]
            words = f"of {' + '.join(course.members)}"
            quantities += [
                DerivedQuantity(f"conc_{course.name}_{role}", float(v), float(s), words, fit.solution.converged)
                for role, v, s in zip(roles, value, sd)
            ]
    return quantities


def _closest(model: Model, course: SumCourse, fit: DynamicFit, free: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return the parameters of a model that is closest to a course, in least squares, and their SDs."""
    t, values = fit.mapping.time_variable, torch.as_tensor(course.values)[None]
    bounds = (bound[free][None] for bound in (fit.mapping.lower, fit.mapping.upper))
    p = fit_curves(model, values, t, *bounds)
    slope = model.jacobian(p, t)[0]
    inverse = torch.linalg.pinv(slope).numpy()
    sd = np.sqrt(np.clip(np.diag(inverse @ course.cov @ inverse.T), 0, None))
    # Where an amplitude is zero, nothing tells the rate.
    sd[(slope.abs().amax(0) == 0).numpy()] = np.inf
    return p[0].detach().numpy(), sd
