"""FSL-MRS's model beside nuisance signals: their strength in every spectrum by evidence, and one model for each."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import torch

from ..core.fids import usable_fids
from ..core.noise import noise_outside
from ..core.units import fid_to_spec
from ..physics.nuisance import NuisanceSpace
from ..physics.signal_model import SignalModel
from .nuisance import StrengthChoice
from .quantification import Quantification
from .quantify import fit_scaled

__all__ = ["NuisanceModels", "fit_beside_nuisances"]

_MOST_SHARE = 1 - 1e-10  # of a direction that the baseline takes wholly


class NuisanceModels:
    """FSL-MRS's model with lipids and water as further regressors of its baseline, for every strength of these.

    Parameters
    ----------
    model : SignalModel
        Without them.
    space : NuisanceSpace
    """

    def __init__(self, model: SignalModel, space: NuisanceSpace):
        self.model = model
        self.first, self.last = model.window
        self.space = space.normalised(self.transform)
        u, d = model.baseline.projector
        share = np.minimum(d * (2 - d), _MOST_SHARE)
        self.choice = StrengthChoice(self.space, self.transform, u * np.sqrt(share / (1 - share)))
        self.regressors = np.concatenate([self.transform(each).T for each in (self.space.lipids, self.space.water)], 1)
        self._models: dict[int, SignalModel] = {}

    def transform(self, fids: np.ndarray) -> np.ndarray:
        """Return the window of the spectra of FIDs ``(n, n_points)``."""
        return fid_to_spec(fids)[:, self.first : self.last]

    def of_state(self, state: int) -> SignalModel:
        """Return the model of a state; all have the same parameters."""
        if state not in self._models:
            lipid, water = self.space.states[state]
            sd = np.repeat([lipid, water], [len(self.space.lipids), len(self.space.water)])
            model = copy.copy(self.model)
            model._buffers = dict(self.model._buffers)
            model.baseline = replace(self.model.baseline, nuisance=self.regressors, nuisance_sd=sd)
            u, d = model.baseline.projector
            like = self.model.basis
            model.regressors = torch.as_tensor(model.baseline.regressors).to(like)
            model.projector_u = torch.as_tensor(u).to(like)
            model.projector_d = torch.as_tensor(d).to(self.model.time)
            self._models[state] = model
        return self._models[state]


def fit_beside_nuisances(models: NuisanceModels, fids: np.ndarray, **settings) -> Quantification:
    """Fit scaled FIDs ``(n, n_points)``, each beside lipids and water of the strengths that its evidence prefers.

    ``settings`` are those of :func:`fsl_mrs_dl.fitting.quantify.fit_scaled`.
    """
    usable = usable_fids(fids)
    states = np.zeros(len(fids), int)
    if usable.any():
        spectra = fid_to_spec(fids[usable])
        noise = noise_outside(spectra, models.model.axes)
        states[usable] = models.choice(spectra[:, models.first : models.last], noise)
    rows, fits = [], []
    for state in np.unique(states):
        rows.append(np.flatnonzero(states == state))
        fits.append(fit_scaled(fids[rows[-1]], models.of_state(int(state)), **settings))
    return Quantification.joined(fits, np.argsort(np.concatenate(rows)))
