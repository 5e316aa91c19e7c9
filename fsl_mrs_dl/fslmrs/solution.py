"""A fit made beforehand, and the properties that the spectra of one batch share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..core.errors import DataError
from ..fitting.options import FitOptions
from ..fitting.serialise import Plain

__all__ = ["METHOD", "Solution", "check_alike", "same_model"]

METHOD = "dlquant"


@dataclass
class Solution:
    """A fit made beforehand, carried by its MRS object to the call for the result.

    ``options`` are those of the fit, ``params`` is None where nothing could be fitted; ``in_vivo`` is an
    :class:`.in_vivo_result.InVivoSolution` for fits with the in-vivo model; ``advice`` are artefacts and remedies.
    """

    options: FitOptions
    params: np.ndarray | None
    dl: dict = field(default_factory=dict)
    row: Plain | None = None
    in_vivo: Any = None
    advice: tuple[str, ...] = ()


_MODEL = (
    "model",
    "metab_groups",
    "ppmlim",
    "baseline",
    "spectral_model",
    "mm",
    "echo_time_s",
    "repetition_time_s",
    "eddy_currents_corrected",
)


def same_model(one: FitOptions, other: FitOptions) -> bool:
    """Tell whether two calls fit the same model; initial values do not count."""
    return all(getattr(one, name) == getattr(other, name) for name in _MODEL)


def check_alike(spectra: list) -> None:
    """Raise DataError unless MRS objects share everything but the FID and its water reference."""
    for other in spectra[1:]:
        if _shared_by_batch(other) != _shared_by_batch(spectra[0]):
            raise DataError(
                "the spectra differ in basis set, length, bandwidth, frequency or having a water reference; fit them"
                " one by one."
            )


def _shared_by_batch(mrs) -> tuple:
    """Return the properties that spectra of one batch must share."""
    return (
        tuple(mrs.names),
        mrs.numPoints,
        mrs.bandwidth,
        mrs.centralFrequency,
        mrs.nucleus,
        mrs.conj_Basis,
        mrs.scaling["basis"],
        mrs.H2O is None,
    )
