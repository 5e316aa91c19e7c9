"""Targets from a classical fit, for the first steps of a self-supervised training."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable

import numpy as np
import torch

from ..core.axes import Axes
from ..core.errors import OptionError
from ..fitting import priors
from ..simulation import recipes

_TAUGHT = 20000  # spectra that a teacher fits


_LITTLE = 0.03


def _taught(make: Callable, teach: Callable, n: int, seed: int) -> Callable:
    """Batches out of variations of measured spectra, fitted beforehand."""
    batches = [
        make(torch.Generator().manual_seed(seed * 1_000_003 + 5_000_000 + k)) for k in range(-(-_TAUGHT // 4 // n))
    ]
    fid = torch.cat([batch["fid"] for batch in batches])
    target, spread = teach(fid)

    def taught(generator):
        chosen = torch.randint(len(fid), (n,), generator=generator)
        return {"fid": fid[chosen], "target": target[chosen], "spread": spread}

    return taught


def _teacher(estimate: str, prior, basis, lines, dwelltime: float) -> Callable:
    """``teach(fids)`` -> what fits of the FIDs give ``(n, n_metabs)``, in the order of ``lines``, and the unit of
    errors ``(n_metabs,)``."""
    from ..fitting import quantify
    from ..fitting.options import FitOptions

    if estimate not in ("ml", "posterior_mean"):
        raise OptionError(
            "there is no such teacher", option="teacher", value=estimate, remedy="choose ml or posterior_mean"
        )
    if isinstance(prior, recipes.Recipe):
        prior = priors.from_recipe(prior, list(basis.names))

    def teach(fids):
        print(f"Fitting {len(fids)} spectra to learn from.", file=sys.stderr, flush=True)
        fit = quantify.quantify(
            fids.numpy(),
            basis,
            Axes(fids.shape[-1], dwelltime, basis.spec_freq_mhz),
            FitOptions(
                model="lorentzian",
                baseline="off",
                rescale=False,
                init="classical",
                prior=prior if estimate == "posterior_mean" else "none",
                device="cpu",
            ),
        )
        conc, cov = fit.estimate(estimate)
        conc = np.where((fit.usable & fit.converged)[:, None], conc, np.nan)
        with np.errstate(invalid="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of a metabolite that was found nowhere
            varies = np.nanvar(conc, 0)
            unsure = np.nanmedian(np.diagonal(cov, axis1=1, axis2=2), 0)
            # What fits know well is to be learnt well: an error is counted in what the data leave open, and a little of
            # what there is to find.
            spread = np.sqrt(np.minimum(unsure, varies) + _LITTLE * varies)
        spread = np.where(np.isfinite(spread) & (spread > 0), spread, 1.0)
        target, scale = np.full((len(fids), lines.n_metabs), np.nan), np.ones(lines.n_metabs)
        for column, name in enumerate(basis.names):
            if name in lines.names:
                target[:, lines.names.index(name)], scale[lines.names.index(name)] = conc[:, column], spread[column]
        return torch.as_tensor(target).float(), torch.as_tensor(scale).float()

    return teach
