"""Simulated functional series: blocks of a stimulus, concentrations and line width that respond, and drifts.

    conc_m(t) = conc_m (1 + change_m r(t) + d(t)),    width(t) = width + narrowing r(t) + w(t)

with the response r, the slow drifts d and w, and a free frequency and phase of every spectrum.  The response is the
course of the blocks, convolved with a haemodynamic response (Glover, doi 10.1006/nimg.1998.0419, as two gamma
densities).  Lines become narrow during a stimulus by the BOLD effect.  Sizes of changes: Bednarik et al.,
doi 10.1038/jcbfm.2014.233.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch

from ..core.errors import OptionError
from ..core.metabolites import typical_concentrations
from ..core.units import fid_to_spec, spec_to_fid
from ..io.basis import Basis
from ..physics.signal_model import SignalModel

__all__ = [
    "FunctionalOptions",
    "FunctionalSeries",
    "block_response",
    "cosine_drifts",
    "functional_design",
    "haemodynamic_response",
    "simulate_functional",
]


@dataclass(frozen=True)
class FunctionalOptions:
    """What a functional series is like.

    Attributes
    ----------
    n_spectra, interval_s : int, float
        Number of spectra, and the time from one to the next.
    block_s : float
        Duration of rest and of stimulus, in turn; rest comes first.
    changes : dict
        Relative change of metabolites during the stimulus.
    narrowing_hz : float
        Change of the Lorentzian width during the stimulus; negative where lines become narrow.
    drift : float
        SD over the series of the relative drift of all amplitudes.
    width_drift_hz : float
        SD over the series of the drift of the width.
    n_drifts : int
        Cosines that drifts are made of, see :func:`cosine_drifts`.
    shift_drift_hz, shift_jitter_hz, phase_drift_deg, phase_jitter_deg : float
        Linear drift over the series, and SD around it, of frequency and phase.
    amplitude_jitter : float
        SD of the relative amplitude of single spectra, which no slow drift describes.
    snr : float
        Height of the largest peak over the noise SD of the real spectrum, in one spectrum.
    lorentzian_hz, gaussian_hz : float
        Full widths at half maximum added to those of the basis set.
    """

    n_spectra: int = 64
    interval_s: float = 8.0
    block_s: float = 64.0
    changes: Mapping[str, float] = field(default_factory=lambda: {"Glu": 0.03, "Lac": 0.2})
    narrowing_hz: float = -0.4
    drift: float = 0.02
    width_drift_hz: float = 0.3
    n_drifts: int = 1
    shift_drift_hz: float = 6.0
    shift_jitter_hz: float = 0.7
    phase_drift_deg: float = 20.0
    phase_jitter_deg: float = 4.0
    amplitude_jitter: float = 0.0
    snr: float = 60.0
    lorentzian_hz: float = 4.0
    gaussian_hz: float = 4.0

    def __post_init__(self):
        if self.n_spectra < 2 or not min(self.interval_s, self.block_s, self.snr) > 0:
            raise OptionError(
                "`n_spectra`, `interval_s`, `block_s` and `snr` must be positive, with two spectra or more."
            )


@dataclass(frozen=True)
class FunctionalSeries:
    """A simulated functional series.

    Attributes
    ----------
    fids : complex ndarray ``(n_spectra, n_points)``
    basis : Basis
    design : ndarray ``(n_spectra, n_drifts + 2)``
        Response, drifts and constant, see :func:`functional_design`.
    conc_betas : ndarray ``(n_metabs, n_drifts + 2)``
        Of this design, without the jitter of amplitudes.
    gamma_betas : ndarray ``(n_drifts + 2,)``
        Of the Lorentzian damping in rad/s, pi times the width in Hz.
    params : ndarray ``(n_spectra, n_params)``
        Parameters of FSL-MRS's model of every spectrum, see :class:`fsl_mrs_dl.physics.signal_model.SignalModel`; the
        baseline is zero.
    noise_sd : float
        In the real part of the spectra.
    """

    fids: np.ndarray
    basis: Basis
    design: np.ndarray
    conc_betas: np.ndarray
    gamma_betas: np.ndarray
    params: np.ndarray
    noise_sd: float


def haemodynamic_response(time_s: np.ndarray) -> np.ndarray:
    """Return the response to a brief stimulus at time zero, of unit area: a peak at 5 s and an undershoot at 15 s."""
    time_s = np.asarray(time_s, float)
    positive = np.clip(time_s, 0, None)
    response = positive**5 * np.exp(-positive) / 120 - positive**15 * np.exp(-positive) / (6 * 1307674368000.0)
    return response / (1 - 1 / 6)


def block_response(options: FunctionalOptions) -> np.ndarray:
    """Return the response in the middle of every spectrum, ``(n_spectra,)``: 0 at rest, 1 during long stimuli."""
    step = 0.25
    fine = np.arange(0, options.n_spectra * options.interval_s, step)
    blocks = (fine // options.block_s) % 2
    smooth = np.convolve(blocks, haemodynamic_response(np.arange(0, 40, step)) * step)[: len(fine)]
    middle = (np.arange(options.n_spectra) + 0.5) * options.interval_s
    return np.interp(middle, fine, smooth)


def cosine_drifts(n_spectra: int, n_drifts: int) -> np.ndarray:
    """Return slow drifts ``(n_spectra, n_drifts)`` of mean 0 and SD 1: 1, 2, ... half periods of a cosine.

    These are the regressors of a high-pass filter in the analysis of functional images.
    """
    place = (np.arange(n_spectra) + 0.5) / n_spectra
    return np.sqrt(2) * np.cos(np.pi * place[:, None] * np.arange(1, n_drifts + 1))


def functional_design(options: FunctionalOptions, n_drifts: int | None = None) -> np.ndarray:
    """Return the design matrix of a series, ``(n_spectra, n_drifts + 2)``: response, drifts, and a constant last.

    ``n_drifts`` may be another number than that of the series.
    """
    n_drifts = options.n_drifts if n_drifts is None else n_drifts
    drifts = cosine_drifts(options.n_spectra, n_drifts)
    return np.column_stack([block_response(options), drifts, np.ones(options.n_spectra)])


def simulate_functional(
    basis: Basis, options: FunctionalOptions = FunctionalOptions(), seed: int = 0, *, conc: np.ndarray | None = None
) -> FunctionalSeries:
    """Simulate a functional series of one voxel.

    Parameters
    ----------
    basis : Basis
    options : FunctionalOptions
    seed : int
    conc : ndarray ``(n_metabs,)``, optional
        Concentrations at rest; by default typical ones of the brain.

    Raises
    ------
    OptionError
        If the basis holds no known brain metabolites, or a metabolite that responds is not in it.
    """
    missing = sorted(set(options.changes) - set(basis.names))
    if missing:
        raise OptionError(f"{basis.source}: has no {', '.join(missing)}, whose change is asked for")
    conc = typical_concentrations(list(basis.names)) if conc is None else np.asarray(conc, float)
    if conc is None:
        raise OptionError(f"{basis.source}: has fewer than three brain metabolites; simulate with another basis set.")
    random, design = np.random.default_rng(seed), functional_design(options)
    changes = np.array([options.changes.get(name, 0.0) for name in basis.names])
    drift, width_drift = (
        size * _direction(random, options.n_drifts) for size in (options.drift, options.width_drift_hz)
    )
    conc_betas = conc[:, None] * np.column_stack([changes, np.tile(drift, (len(conc), 1)), np.ones(len(conc))])
    gamma_betas = np.pi * np.array([options.narrowing_hz, *width_drift, options.lorentzian_hz])
    n, slope = options.n_spectra, np.linspace(-0.5, 0.5, options.n_spectra)
    model = SignalModel(basis.fids, basis.axes, ppmlim=None, baseline="off")
    jitter = 1 + options.amplitude_jitter * random.standard_normal(n)
    shift = options.shift_drift_hz * slope + options.shift_jitter_hz * random.standard_normal(n)
    phase = options.phase_drift_deg * slope + options.phase_jitter_deg * random.standard_normal(n)
    blocks = {
        "conc": (design @ conc_betas.T) * jitter[:, None],
        "gamma": (design @ gamma_betas)[:, None],
        "sigma": np.full((n, 1), np.pi * options.gaussian_hz / (2 * np.sqrt(np.log(2)))),
        "eps": 2 * np.pi * shift[:, None],
        "phi0": np.deg2rad(phase)[:, None],
    }
    zeros = {name: np.zeros((n, size)) for name, size in model.sizes.items()}
    params = np.concatenate(list((zeros | blocks).values()), axis=1)
    fids = spec_to_fid(model(torch.as_tensor(params)).numpy())
    noise_sd = float(np.abs(fid_to_spec(fids)).max() / options.snr)
    noise = random.standard_normal((2, *fids.shape)) * noise_sd
    return FunctionalSeries(fids + noise[0] + 1j * noise[1], basis, design, conc_betas, gamma_betas, params, noise_sd)


def _direction(random: np.random.Generator, n: int) -> np.ndarray:
    """Return a random vector ``(n,)`` of length 1; empty for none."""
    vector = random.standard_normal(n)
    return vector / max(float(np.linalg.norm(vector)), 1e-12)
