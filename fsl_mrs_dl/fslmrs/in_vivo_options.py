"""Options of FSL-MRS's commands and of ``fit_FSLModel`` that go with the in-vivo model; FSL-MRS is not imported."""

from __future__ import annotations

from pathlib import Path

from ..core.errors import OptionError
from ..fitting.options import FitOptions

__all__ = ["ESTIMATES", "check_arguments", "check_model"]

ESTIMATES = ("in-vivo", "posterior_mean")
"""Estimates of the in-vivo model."""

_FSL_MRS_MODEL = ("metab_groups", "lorentzian", "free_shift", "ind_scale", "baseline_order")
"""Options of FSL-MRS's commands that choose its model."""


def check_arguments(options: FitOptions, args) -> None:
    """Raise OptionError for parsed arguments of FSL-MRS's commands that do not go with the spectral model."""
    if options.spectral_model == "in-vivo":
        for name in _FSL_MRS_MODEL:
            if getattr(args, name, None):
                raise _belongs_to_fsl_mrs(name)
    check_model(options, {"baseline": getattr(args, "baseline", None)})


def check_model(options: FitOptions, arguments: dict) -> None:
    """Raise OptionError for options that do not go with the spectral model, and for values that it does not have.

    Parameters
    ----------
    options : FitOptions
    arguments : dict
        Of ``fit_FSLModel``, by name; their defaults count as not given.
    """
    if options.spectral_model != "in-vivo":
        if options.mm is not None:
            raise OptionError(
                "belongs to the in-vivo model",
                option="mm",
                value=options.mm,
                remedy="choose `spectral_model` in-vivo, or add macromolecules to the basis set",
            )
        if options.soft_constraints:
            raise OptionError(
                "belong to the in-vivo model", option="soft_constraints", remedy="choose `spectral_model` in-vivo"
            )
        return
    groups, words = arguments.get("metab_groups"), arguments.get("baseline")
    given = {
        "network": options.network,
        "model": arguments.get("model") not in (None, "voigt"),
        "metab_groups": groups is not None and len(set(groups)) > 1,
        "baseline": words is not None and words.replace(" ", "").replace("nomial", "") != "poly,2",
    }
    for name, value in given.items():
        if value:
            raise _belongs_to_fsl_mrs(name)
    if options.estimate not in ESTIMATES:
        raise OptionError(
            "the in-vivo model has no such estimate",
            option="estimate",
            value=options.estimate,
            remedy=f"choose one of {', '.join(ESTIMATES)}",
        )
    _check_macromolecules(options.mm)


def _belongs_to_fsl_mrs(name: str) -> OptionError:
    remedy = "leave it out, or choose `spectral_model` fsl-mrs"
    return OptionError("belongs to FSL-MRS's model", option=name, remedy=remedy)


def _check_macromolecules(mm: str | None) -> None:
    from ..physics.in_vivo_components import MACROMOLECULE_PRESETS
    from ..physics.spinsim import MACROMOLECULE_KINDS

    there = (*MACROMOLECULE_PRESETS, *MACROMOLECULE_KINDS)
    if mm is not None and str(mm) not in there and not Path(mm).exists():
        raise OptionError("no such file", option="mm", value=mm, remedy=f"give one, or one of {', '.join(there)}")
