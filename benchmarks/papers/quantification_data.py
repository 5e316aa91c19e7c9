"""Simulated spectra of the benchmark of quantification, with their truth.

Shamaei, Starcukova, Starcuk, Comput Biol Med 2023;158:106837, doi 10.1016/j.compbiomed.2023.106837, section 4.1.1:
recipe 'shamaei-table2' on the basis set of the ISMRM fitting challenge.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch

from fsl_mrs_dl.core.errors import DataError
from fsl_mrs_dl.io.basis import Basis
from fsl_mrs_dl.physics import spinsim
from fsl_mrs_dl.simulation import protocols, random_spectra, recipes

__all__ = ["load_basis", "make_set", "strange_sets"]

_DATA = "seed_quant_ismrm3t"


_NAMES = "Ala Asp Cr GABA GPC GSH Glc Gln Glu Gly Ins Lac NAA NAAG PCho PCr PE Tau sIns".split()


_DWELLTIME, _FREQUENCY = 0.25e-3, 123.23


def load_basis(path: str | Path | None = None) -> Basis:
    """Load a basis set with a macromolecule 'mm'; by default that of the paper, from the folder FSL_MRS_DL_TESTDATA.

    As in the paper, the first point of the macromolecules is set so that its spectrum ends at zero.

    Raises
    ------
    DataError, BasisError
    """
    if path is not None:
        return Basis.load(path)
    import scipy.io

    folder = Path(os.environ.get("FSL_MRS_DL_TESTDATA") or ".") / _DATA
    if not (folder / "basisset.mat").is_file():
        raise DataError(
            f"{folder}: the paper's basis set is not there",
            remedy=f"give one with `basis`, or the folder that holds {_DATA} in FSL_MRS_DL_TESTDATA (the files are in"
            " the GitHub repository amirshamaei/Deep-MRS-Quantification)",
        )
    fids = scipy.io.loadmat(folder / "basisset.mat")["data"].T
    mm = (
        next(value for key, value in scipy.io.loadmat(folder / "mm.mat").items() if not key.startswith("__"))
        .squeeze()
        .copy()
    )
    mm[0] -= np.fft.fftshift(np.fft.fft(mm))[0]
    # The files' frequency axis runs the other way.
    return Basis(np.concatenate([fids, mm[None]]).conj(), (*_NAMES, "mm"), _DWELLTIME, _FREQUENCY, source=_DATA)


def make_set(basis: Basis, n: int, seed: int, *, recipe=None, widen: float = 1.0, **changes) -> dict:
    """Simulate spectra with their truth.

    Parameters
    ----------
    basis : Basis
    n, seed : int
    recipe : Recipe, optional
        'shamaei-table2' by default; ``changes`` replaces entries of it.
    widen : float
        Above one, metabolites are drawn from zero to this multiple of the upper end of their range.

    Returns
    -------
    dict
        ``fid`` complex128 ``(n, n_points)``; ``conc`` ``(n, n_metabs)`` as a fit defines it, whose time begins one
        dwell time after the echo; ``lorentz_hz``, ``shift_hz``, ``phi0`` and ``noise_sd`` ``(n,)``.
    """
    recipe = recipe or recipes.Recipe.load("shamaei-table2")
    content = {**recipe.content, **changes}
    if widen > 1:
        ranges = {
            name: one if name == "mm" else {"uniform": [0, widen * one["uniform"][1]]}
            for name, one in content["concentrations"]["ranges"].items()
        }
        content["concentrations"] = {**content["concentrations"], "ranges": ranges}
    recipe = recipes.Recipe.of(recipe.name, content)
    n_points = min(2048, basis.n_points)
    protocol = protocols.protocol_of(basis.fids[:, :n_points], basis.names, basis.axes)
    drawn = random_spectra.draw(recipe, n, basis.names, torch.Generator().manual_seed(seed))
    rendered = random_spectra.render(drawn, protocol)
    damping = np.pi * drawn["lorentz_hz"].numpy().astype(float)
    return {
        "fid": rendered.fid.numpy().astype(complex),
        "conc": drawn["conc"].numpy().astype(float) * np.exp(damping[:, None] * basis.dwelltime),
        "noise_sd": rendered.noise_sd.numpy().astype(float),
        **{name: drawn[name].numpy().astype(float) for name in ("lorentz_hz", "shift_hz", "phi0")},
    }


_PLAIN = {"PCho": "PCh", "sIns": "Scyllo"}


def strange_sets(basis: Basis, n: int, seed: int) -> dict[str, dict]:
    """Simulate spectra outside of the distribution that fits and networks assume, by their kind."""
    sets = {}
    base = recipes.Recipe.load("shamaei-table2").get("concentrations")
    glycine = {**base["ranges"], "Gly": {"uniform": [10 * x for x in base["ranges"]["Gly"]["uniform"]]}}
    sets["glycine ten times as high"] = make_set(basis, n, seed, concentrations={**base, "ranges": glycine})
    plain = make_set(basis, n, seed + 1)
    time_axis = np.arange(plain["fid"].shape[-1]) * basis.dwelltime
    height = np.abs(np.fft.fft(plain["fid"], axis=-1, norm="ortho")).max(1, keepdims=True)
    sets["propylene glycol"] = {
        **plain,
        "fid": plain["fid"] + _propylene_glycol(plain, time_axis, basis) * 0.25 * height,
    }
    sets["lines twice as wide as the widest"] = make_set(basis, n, seed + 2, lorentz_fwhm_hz={"uniform": [9.55, 11.0]})
    sets["lipids"] = make_set(
        basis,
        n,
        seed + 3,
        lipids=[
            {
                "height": {"loguniform": [0.3, 3.0]},
                "n": 2,
                "ppm": {"uniform": [0.9, 1.4]},
                "gauss_fwhm_hz": {"uniform": [12, 35]},
                "phase_deg": {"uniform": [-30, 30]},
            }
        ],
    )
    sets["water, not suppressed"] = make_set(
        basis,
        n,
        seed + 4,
        water={
            "height": {"loguniform": [20, 500]},
            "ppm": {"uniform": [4.6, 4.75]},
            "lorentz_fwhm_hz": {"uniform": [2, 8]},
            "phase_deg": {"uniform": [-180, 180]},
        },
    )
    wrong, names = spinsim.simulate_basis(
        [_PLAIN.get(name, name) for name in basis.names if name != "mm"],
        "press",
        te_ms=80.0,
        spec_freq_mhz=basis.spec_freq_mhz,
        bandwidth_hz=basis.bandwidth,
        n_points=basis.n_points,
        fwhm_hz=2.0,
    )
    # Scaled to the basis set's number of protons, so that only the echo time differs.
    right, _ = spinsim.simulate_basis(
        names,
        "press",
        te_ms=30.0,
        spec_freq_mhz=basis.spec_freq_mhz,
        bandwidth_hz=basis.bandwidth,
        n_points=basis.n_points,
        fwhm_hz=2.0,
    )
    size = np.abs(basis.fids[:-1]).max(1) / np.abs(right).max(1)
    other = Basis(
        np.concatenate([wrong * size[:, None], basis.fids[-1:]]), basis.names, basis.dwelltime, basis.spec_freq_mhz
    )
    sets["echo time 80 ms instead of 30"] = make_set(other, n, seed + 5)
    return sets


def _propylene_glycol(data: dict, time_axis: np.ndarray, basis: Basis) -> np.ndarray:
    """Return the methyl doublet at 1.14 ppm, split by 6.5 Hz, of height 1 in the spectrum, with the shift, width and
    phase of each spectrum."""
    hz = -(4.65 - 1.14) * basis.spec_freq_mhz
    lines = sum(np.exp(2j * np.pi * (hz + offset) * time_axis) for offset in (-3.25, 3.25)) * np.exp(
        -2 * np.pi * time_axis
    )
    exponent = (
        2j * np.pi * data["shift_hz"][:, None] * time_axis
        - np.pi * data["lorentz_hz"][:, None] * time_axis
        - 1j * data["phi0"][:, None]
    )
    fids = lines * np.exp(exponent)
    return fids / np.abs(np.fft.fft(fids, axis=-1, norm="ortho")).max(1, keepdims=True)
