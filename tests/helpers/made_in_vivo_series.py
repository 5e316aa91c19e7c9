"""A series of brain spectra that obey the in-vivo model, with exponential decays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from fsl_mrs_dl.core.units import spec_to_fid
from fsl_mrs_dl.fitting.in_vivo.fit import prepare
from fsl_mrs_dl.fitting.in_vivo.quantify import scaled_basis
from fsl_mrs_dl.fitting.in_vivo.whole_spectra import whole_components
from fsl_mrs_dl.fitting.options import FitOptions
from fsl_mrs_dl.physics.in_vivo_signals import concentration_names

OPTIONS = FitOptions(spectral_model="in-vivo", echo_time_s=0.03, repetition_time_s=2.0)
B_VALUES = np.array([0, 0.5, 1, 2, 4, 7, 10.0])
RATES = {"NAA": 0.08, "Cr": 0.10, "MM": 0.01}
USUAL_RATE = 0.12


@dataclass(frozen=True)
class InVivoSeries:
    """FIDs ``(n_times, n_points)``, basis set, axes, true rates by name of the concentration, and noise."""

    fids: np.ndarray
    basis: object
    axes: object
    rates: dict[str, float]
    noise_sd: float


def made_in_vivo_series(basis, axes, *, snr: float = 80, seed: int = 0, times=B_VALUES) -> InVivoSeries:
    """Return spectra with amplitudes ``expected exp(-rate time)``, one line shape, and shift and phase of their own."""
    on_grid, _, acquisition = scaled_basis(basis, axes, OPTIONS)
    prepared = prepare(on_grid.sum(0)[None], on_grid, basis.names, axes, acquisition)
    model, rng = prepared.model, np.random.default_rng(seed)
    names, s = concentration_names(model.components), model.slices
    rates = {name: RATES.get(name, USUAL_RATE) for name in names}
    by_component = np.array([rates.get(name, rates.get("MM", 0)) for name in model.components.names])
    x = model.prior_mean.repeat(len(times), 1)
    sd = model.prior_precision.diagonal() ** -0.5
    for name in ("own_shift", "own_width", "q", "shape"):
        x[:, s[name]] += torch.as_tensor(rng.normal(size=s[name].stop - s[name].start)) * sd[s[name]]
    x[:, s["log_amp"]] -= torch.as_tensor(times[:, None] * by_component)
    x[:, s["shift"]] += torch.as_tensor(rng.normal(0, 0.5, (len(times), 1)))
    x[:, s["phi0"]] += torch.as_tensor(rng.uniform(-0.3, 0.3, (len(times), 1)))
    spectra = whole_components(model, axes, x, torch.as_tensor(model.components.fids))[:, 0]
    noise = float(np.abs(spectra[0]).max() / snr)
    fids = spec_to_fid(spectra)
    fids = fids + noise * (rng.normal(size=fids.shape) + 1j * rng.normal(size=fids.shape))
    return InVivoSeries(fids, basis, axes, rates, noise)
