"""The spectral model that a fit uses where none is asked for: the in-vivo one for 1H spectra of the brain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..core.metabolites import typical_concentrations
from ..io.basis import Basis

__all__ = ["ModelChoice", "usual_spectral_model"]

_LEAST_METABOLITES = 5  # of the brain, in a basis set that is one of it
_NAA, _CREATINE = {"NAA"}, {"Cr", "PCr", "tCr", "Cre"}


@dataclass(frozen=True)
class ModelChoice:
    """A spectral model and why it was chosen.

    Attributes
    ----------
    name : str
        One of :data:`fsl_mrs_dl.fitting.options.SPECTRAL_MODELS`.
    reason : str
        For users; empty for the in-vivo model and for nuclei that it is not made for.
    """

    name: str
    reason: str = ""


def usual_spectral_model(basis: Basis, dim_tags=(), requests: Mapping[str, bool] | None = None) -> ModelChoice:
    """Choose the spectral model for a basis set.

    Parameters
    ----------
    basis : Basis
        As stored, before a selection of metabolites.
    dim_tags : sequence of str or None, optional
        Dimensions of the data.  Edited spectra are fitted with FSL-MRS's model: the macromolecules of the in-vivo one
        are not edited.
    requests : mapping of str to bool, optional
        Options that only FSL-MRS's model has, by name, and whether they were given.
    """
    if basis.nucleus != "1H":
        return ModelChoice("fsl-mrs")
    given = [name for name, was_given in (requests or {}).items() if was_given]
    if given:
        return ModelChoice("fsl-mrs", f"`{given[0]}` belongs to it")
    if "DIM_EDIT" in dim_tags:
        return ModelChoice("fsl-mrs", "the data are edited (DIM_EDIT)")
    names = set(basis.names)
    concentrations = typical_concentrations(list(basis.names))
    known = 0 if concentrations is None else int((concentrations > 0).sum())
    if known < _LEAST_METABOLITES or not names & _NAA or not names & _CREATINE:
        return ModelChoice("fsl-mrs", "the basis set is not one of a brain, with NAA, creatine and others")
    return ModelChoice("in-vivo")
