"""Accuracy of frequency and phase correction on simulated transients, beside its limits and the methods of others.

The data set is that of Shamaei, Starcukova, Pavlova, Starcuk, Magn Reson Med 2023;89:1221-1236, doi 10.1002/mrm.29498, section 2.3.1:
one averaged signal, varied in amplitude, width, shift, phase, noise, and by unstable residual water and lipids.  What these are drawn from
is in a supplement of the paper; the recipe 'paper-transients' holds what was chosen instead.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from . import peers, registration, supervised, synthetic, zoo
from .alignment import align_transients, apply_shift_phase, cramer_rao, similarity_index
from .errors import DataError, OptionError
from .registration import RegistrationStarter

__all__ = ["Signal", "load_signal", "make_set", "NETWORKS", "PAPER", "train_network", "Method", "methods", "precision_table"]

NETWORKS = (*registration.METHODS, *supervised.METHODS)
"""The networks that are trained on the data set."""

PAPER = {
    "dsr": (1.02, 1.00, 0.97, 5.87, 4.16, 5.75, 0.44, 10.38),
    "dsrf": (0.73, 0.69, 0.73, 4.89, 3.34, 5.52, 0.44, 10.22),
    "SR": (1.57, 1.01, 1.57, 7.44, 2.61, 8.50, 0.44, 10.77),
    "SRF": (11.46, 11.02, 11.68, 15.92, 16.75, 15.34, 0.32, 15.34),
    "dcrr": (0.94, 0.93, 0.94, 6.62, 6.89, 6.35, 0.42, 10.14),
    "dcrrf": (0.95, 0.90, 0.97, 6.79, 7.00, 6.52, 0.42, 10.17),
    "CrR": (7.92, 9.62, 6.51, 32.34, 38.80, 26.68, 0.36, 10.71),
    "Corr": (10.70, 9.98, 11.07, 16.87, 16.62, 17.02, 0.34, 19.14),
    "CorrF": (11.33, 9.89, 11.96, 17.46, 16.46, 18.07, 0.32, 20.55),
    "tapper": (0.71, 0.56, 0.78, 6.78, 4.64, 5.89, 0.44, 10.45),
    "ma": (0.99, 0.85, 1.06, 4.29, 4.24, 4.32, 0.44, 10.53),
}
"""Table 1 of the paper: SD of the shift's error (Hz) and of the phase's (degrees), each for all, without and with nuisance peaks; similarity
index; width of creatine in the average (Hz)."""

_RAT = {"file": "seed_fpc_rat9t/obx_23_9_FC.mat", "bandwidth": 4401.41, "spec_freq_mhz": 400.2}
_LIMITED = (2.5, 3.5)


@dataclass(frozen=True)
class Signal:
    """What a data set is made from: one FID ``(n_points,)`` of high SNR."""

    fid: torch.Tensor
    dwelltime: float
    spec_freq_mhz: float

    @property
    def axes(self) -> dict[str, float]:
        """Dwell time (s) and frequency (MHz) by the names that functions take."""
        return {"dwelltime": self.dwelltime, "spec_freq_mhz": self.spec_freq_mhz}


def load_signal(path: str | Path | None = None, bandwidth: float | None = None, spec_freq_mhz: float | None = None) -> Signal:
    """The signal of a NIfTI-MRS file with one FID, or of a MATLAB file with a variable ``data``; by default the paper's.

    The paper's is looked for in the folder FSL_MRS_DL_TESTDATA as seed_fpc_rat9t/obx_23_9_FC.mat.

    Raises
    ------
    DataError
        If the file is not there or holds something else.
    OptionError
        If a MATLAB file is given without bandwidth (Hz) and spectrometer frequency (MHz).
    """
    if path is None:
        folder = os.environ.get("FSL_MRS_DL_TESTDATA")
        path = Path(folder or ".") / _RAT["file"]
        if not path.is_file():
            raise DataError(
                f"{path}: the paper's signal is not there; give one with --signal, or the folder that holds {_RAT['file']} in "
                "FSL_MRS_DL_TESTDATA (the file is in the GitHub repository amirshamaei/DeepFPC)."
            )
        bandwidth, spec_freq_mhz = bandwidth or _RAT["bandwidth"], spec_freq_mhz or _RAT["spec_freq_mhz"]
    if Path(path).suffix == ".mat":
        import scipy.io

        try:
            fid = np.asarray(scipy.io.loadmat(path)["data"]).squeeze()
        except (OSError, KeyError, ValueError, NotImplementedError) as exc:
            raise DataError(f"{path}: cannot be read as a MATLAB file with a variable 'data' ({exc}).") from exc
        if not (bandwidth and spec_freq_mhz):
            raise OptionError(f"{path}: says nothing of bandwidth and frequency; give --bandwidth in Hz and --frequency in MHz.")
        dwelltime = 1 / bandwidth
    else:
        from . import nifti

        data = nifti.load(path)
        fid, dwelltime, spec_freq_mhz = data.fids.squeeze(), data.dwelltime, data.spec_freq_mhz
    if fid.ndim != 1 or not np.iscomplexobj(fid) or not np.isfinite(fid).all() or not fid.any():
        raise DataError(f"{path}: has shape {fid.shape}; one complex FID is needed: average and combine the data first.")
    return Signal(torch.as_tensor(fid.astype(np.complex64)), dwelltime, spec_freq_mhz)


def make_set(signal: Signal, n: int, seed: int, recipe=None, **ranges) -> dict[str, torch.Tensor]:
    """Simulated transients and their truth.

    ``recipe`` is 'paper-transients' unless given; ``ranges`` replaces entries of it.  Its SNR is that of the paper: magnitude of the signal
    at the time origin over the noise SD of the real and of the imaginary part.

    Returns
    -------
    dict
        ``fid`` complex ``(n, n_points)``; ``shift_hz``, ``phase`` (rad), ``amplitude``, ``noise_sd`` ``(n,)``; ``nuisance`` bool ``(n, 2)``:
        unstable water, lipids.
    """
    recipe = recipe or synthetic.Recipe.load("paper-transients")
    content = {**recipe.content["augment"], **ranges}
    snr, amplitude = content.pop("snr"), content.pop("amplitude")
    recipe = synthetic.Recipe.of(recipe.name, {**recipe.content, "augment": content})
    generator = torch.Generator().manual_seed(seed)
    parts = []
    for first in range(0, n, 2000):
        many = min(2000, n - first)
        part = registration.augment(signal.fid[None], recipe, signal.dwelltime, signal.spec_freq_mhz, many, generator)
        part["amplitude"] = synthetic.sample(amplitude, (many,), generator)
        part["noise_sd"] = signal.fid[0].abs() / synthetic.sample(snr, (many,), generator)
        noise = torch.view_as_complex(torch.randn(many, signal.fid.shape[-1], 2, generator=generator))
        part["fid"] = part["amplitude"][:, None] * part["fid"] + part["noise_sd"][:, None] * noise
        parts.append(part)
    return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}


def train_network(method: str, signal: Signal, folder, *, n_signals: int = 24000, seed: int = 0, settings=None):
    """Train one of :data:`NETWORKS` on the data set, of which a tenth is held back; the card.

    The four of the paper see no truth.
    """
    from . import train

    data = make_set(signal, n_signals, seed)
    settings = settings or train.Settings(steps=30000 if method in registration.METHODS else 12000, batch_size=64, seed=seed)
    words = f"fsl_mrs_dl benchmark align, {n_signals} signals of paper-transients, seed {seed}, {settings.steps} steps"
    options = {"settings": settings, "command": words, "name": method, "source": f"{n_signals} simulated signals", **signal.axes}
    if method in supervised.METHODS:
        return train.train_supervised(method, data, folder, **options)
    return train.train_registration(method, data["fid"].numpy(), folder, recipe="unvaried-transients", **options)
