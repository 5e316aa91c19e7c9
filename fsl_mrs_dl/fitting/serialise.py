"""Priors and single fits as JSON and arrays: for files, and for processes that hold neither torch nor these classes."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from types import SimpleNamespace
from typing import Any

import numpy as np

__all__ = ["Plain", "plain_prior", "restored_prior", "plain_row", "restored_row"]


@dataclass(frozen=True)
class Plain:
    """Content of an object: JSON of all that is no array, and the arrays.

    Attributes
    ----------
    text : str
        JSON.
    arrays : dict of str to ndarray
        By name; numbers, booleans and the like only, never objects.
    """

    text: str
    arrays: dict[str, np.ndarray] = field(default_factory=dict)


def plain_prior(prior) -> Plain:
    """Return a :class:`fsl_mrs_dl.fitting.priors.Prior` as JSON and arrays."""
    about: dict[str, Any] = {
        "names": list(prior.names),
        "kinds": list(prior.kinds),
        "source": prior.source,
        "fwhm_hz": prior.fwhm_hz,
        "shift_hz": prior.shift_hz,
    }
    arrays = {"numbers": prior.numbers} | ({} if prior.cov is None else {"cov": prior.cov})
    return Plain(json.dumps(about), arrays)


def restored_prior(plain: Plain):
    """Return the prior of :func:`plain_prior`.

    Raises
    ------
    ValueError, KeyError
        If something is missing or has another shape.
    """
    from .priors import Prior

    about = json.loads(plain.text)
    n, numbers, cov = len(about["names"]), plain.arrays["numbers"], plain.arrays.get("cov")
    if numbers.shape != (n, 2) or len(about["kinds"]) != n or (cov is not None and cov.shape != (n, n)):
        raise ValueError(f"a prior of {n} metabolites with numbers of shape {numbers.shape}")
    return Prior(
        names=tuple(about["names"]),
        kinds=tuple(about["kinds"]),
        numbers=numbers,
        cov=cov,
        source=about["source"],
        fwhm_hz=about["fwhm_hz"] and tuple(about["fwhm_hz"]),
        shift_hz=about["shift_hz"] and tuple(about["shift_hz"]),
    )


def plain_row(fits, row: int) -> Plain:
    """Return one spectrum of a :class:`fsl_mrs_dl.fitting.quantification.Quantification` as JSON and arrays, without
    data and basis set."""
    model = fits.model.name
    one = fits.row(row)
    about: dict[str, Any] = {"model": model}
    arrays: dict[str, np.ndarray] = {}
    for part in fields(one):
        value = getattr(one, part.name)
        if part.name == "model":
            continue
        if part.name == "posterior" and value is not None:
            prior = plain_prior(value.prior)
            about["prior"] = prior.text
            arrays |= {f"prior.{name}": array for name, array in prior.arrays.items()}
            arrays |= {
                f"posterior.{each.name}": getattr(value, each.name) for each in fields(value) if each.name != "prior"
            }
        elif isinstance(value, np.ndarray):
            arrays[part.name] = value
        else:
            about[part.name] = value
    return Plain(json.dumps(about), arrays)


def restored_row(plain: Plain):
    """Return the fit of one spectrum of :func:`plain_row`, as ``Quantification.row`` does."""
    from ..physics.signal_model import MODELS
    from .posterior import Posterior
    from .quantification import Quantification

    about: dict[str, Any] = json.loads(plain.text)
    arrays: dict[str, Any] = dict(plain.arrays)

    def with_prefix(prefix: str) -> dict[str, Any]:
        """Take the arrays of that prefix out."""
        names = [name for name in arrays if name.startswith(prefix)]
        return {name.removeprefix(prefix): arrays.pop(name) for name in names}

    model: Any = SimpleNamespace(shape=MODELS[about.pop("model")])
    prior = about.pop("prior", None)
    prior_arrays, posterior = with_prefix("prior."), with_prefix("posterior.")
    if prior is not None:
        about["posterior"] = Posterior(**posterior, prior=restored_prior(Plain(prior, prior_arrays)))
    return Quantification(model=model, **about, **arrays)
