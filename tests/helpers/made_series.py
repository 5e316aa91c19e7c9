"""A small series of spectra with exponential decays, and configurations of its dynamic fit in FSL-MRS's form."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from fsl_mrs_dl.core.metabolites import typical_concentrations
from fsl_mrs_dl.core.units import spec_to_fid
from fsl_mrs_dl.fitting.options import FitOptions
from fsl_mrs_dl.fitting.quantify import model_for

METABOLITES = ("Cr", "GPC", "NAA")
B_VALUES = np.array([0, 0.5, 1, 2, 4, 7, 10.0])
RATES = np.array([0.10, 0.12, 0.08])
OPTIONS = FitOptions(prior="none", baseline="poly, 0")

EXPONENTIAL = """
import numpy as np

Parameters = {
    'conc': {'dynamic': 'model_exp', 'params': ['c_amp', 'c_adc']},
    'gamma': 'fixed', 'eps': 'fixed', 'Phi_0': 'variable', 'Phi_1': 'fixed'}
Bounds = {'c_amp': (0, None), 'c_adc': (0, None), 'gamma': (0, None), 'sigma': (0, None)}

def model_exp(p, t):
    return p[0] * np.exp(-p[1] * t)

def model_exp_grad(p, t):
    e1 = np.exp(-p[1] * t)
    return np.asarray([e1, -t * p[0] * e1], dtype=object)
"""

INITIAL = """
def model_exp_init(values, t):
    slope, log_amp = np.polyfit(t, np.log(values), 1)
    return np.exp(log_amp), -slope
"""
"""Initial values of EXPONENTIAL."""

BY_METABOLITE = """
from numpy import exp, asarray, ones_like, sqrt, pi
from scipy.special import erf

roles = [f'c_{name}' for name in ('amp', 'adc')]
Parameters = {
    'conc': {'GPC': {'dynamic': 'model_lin', 'params': ['c_start', 'c_slope']},
             'other': {'dynamic': 'model_decay', 'params': roles}},
    'gamma': 'variable', 'sigma': 'fixed',
    'baseline': {'dynamic': 'model_offset', 'params': ['b_amp', 'b_adc', 'b_off']}}
Bounds = {'c_amp': (0, None), 'c_adc': (1e-4, 3), 'gamma': (0, None), 'b_adc': (1e-5, 3), 'sigma': (0, None)}

def model_lin(p, t):
    return p[0] - p[1] * t

def model_lin_grad(p, t):
    return asarray([ones_like(t), -t], dtype=object)

def model_decay(p, t):
    return p[0] * exp(-p[1] * t) * sqrt(pi) * erf(1 + p[1])

def model_decay_grad(p, t):
    e1 = exp(-p[1] * t) * sqrt(pi)
    by_adc = 2 / sqrt(pi) * exp(-(1 + p[1])**2) - t * erf(1 + p[1])
    return asarray([e1 * erf(1 + p[1]), p[0] * e1 * by_adc], dtype=object)

def model_offset(p, t):
    return p[2] + p[0] * exp(-p[1] * t)

def model_offset_grad(p, t):
    e1 = exp(-p[1] * t)
    return asarray([e1, -t * p[0] * e1, ones_like(t)], dtype=object)
"""

LINEAR = """
from numpy import dot

Parameters = {'conc': {'dynamic': 'model_glm', 'params': [f'beta{i}' for i in range(2)]},
              'sigma': {'dynamic': 'model_width', 'params': ['width']}, 'Phi_0': 'fixed'}
Bounds = {'gamma': (0, None), 'width': (0, None)}

def model_glm(p, t):
    return dot(t[:, [0, 1]], p)

def model_glm_grad(p, t):
    return t[:, [0, 1]].T

def model_width(p, t):
    return dot(t[:, 1:], p)

def model_width_grad(p, t):
    return t[:, 1:].T
"""


@dataclass(frozen=True)
class Series:
    """FIDs ``(n_times, n_points)``, their basis set, axes and truth."""

    fids: np.ndarray
    basis: object
    axes: object
    conc: np.ndarray
    noise_sd: float


def made_series(sim_basis, *, snr: float = 60, seed: int = 0, options: FitOptions = OPTIONS) -> Series:
    """Return a series of three metabolites that decay exponentially over B_VALUES."""
    basis = sim_basis.select(list(METABOLITES))
    model, _ = model_for(basis, sim_basis.axes, options)
    n, rng = len(basis.names), np.random.default_rng(seed)
    params = np.zeros((len(B_VALUES), model.n_params))
    order = [METABOLITES.index(name) for name in basis.names]
    conc = typical_concentrations(list(basis.names))
    params[:, :n] = conc * np.exp(-B_VALUES[:, None] * RATES[order])
    params[:, n : n + 3] = [10, 10, 3]
    params[:, n + 3] = rng.uniform(-0.2, 0.2, len(B_VALUES))
    spectra = model(torch.as_tensor(params)).numpy()
    first, last = model.window
    noise = float(np.abs(spectra[0, first:last]).max() / snr)
    fids = spec_to_fid(spectra)
    fids = fids + noise * (rng.normal(size=fids.shape) + 1j * rng.normal(size=fids.shape))
    return Series(fids, basis, sim_basis.axes, conc, noise)


VOLUME = (2, 2, 1)
FITTED = [(0, 0, 0), (1, 1, 0)]
"""Voxels of :func:`write_volume` that are in the mask and can be fitted."""


def write_volume(folder: Path, sim_basis) -> list[str]:
    """Write a volume of series, its mask, basis set, configuration and b values into a folder; return the metabolites.

    One voxel of the mask has an FID with NaN; ``usable.nii.gz`` is a mask without it.
    """
    import nibabel

    from fsl_mrs_dl.io import nifti

    fids = np.zeros((*VOLUME, sim_basis.axes.n_points, len(B_VALUES)), np.complex64)
    for seed, place in enumerate(FITTED):
        series = made_series(sim_basis, seed=seed)
        fids[place] = series.fids.T * (1 + seed)
    fids[1, 0, 0, 3] = np.nan
    affine, axes = np.diag([-10.0, 10, 15, 1]), sim_basis.axes
    data = nifti.MrsData(fids, axes.dwelltime, axes.spec_freq_mhz, "1H", ("DIM_USER_0",), affine=affine)
    nifti.save(folder / "data.nii.gz", data)
    mask = np.ones(VOLUME, np.uint8)
    mask[0, 1] = 0
    nibabel.save(nibabel.Nifti1Image(mask, affine), folder / "mask.nii.gz")
    mask[1, 0] = 0
    nibabel.save(nibabel.Nifti1Image(mask, affine), folder / "usable.nii.gz")
    series.basis.save(folder / "basis")
    (folder / "config.py").write_text(EXPONENTIAL, encoding="utf-8")
    np.savetxt(folder / "bvals", B_VALUES)
    return list(series.basis.names)
