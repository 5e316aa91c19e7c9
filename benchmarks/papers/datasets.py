"""Simulated data of three papers on supervised networks, as recipes and simulated basis sets.

Rizzo et al., Magn Reson Med 2023;89:1707, doi 10.1002/mrm.29561 (idealised spectra); Shamaei et al.,
doi 10.5220/0010318502680275 (DSS1 to DSS7); Shamaei, 'Deep learning for magnetic resonance spectroscopy quantification:
a time-frequency analysis approach' (Proc STUDENT EEICT II, Brno 2020:131, hdl.handle.net/11012/200638). What a paper
leaves open is said in the docstrings.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fsl_mrs_dl.core import units
from fsl_mrs_dl.io.basis import Basis
from fsl_mrs_dl.physics import spin_systems, spinsim
from fsl_mrs_dl.physics.macromolecules import add_macromolecules
from fsl_mrs_dl.simulation import recipes
from fsl_mrs_dl.simulation.acquisition import simulate_basis

__all__ = [
    "RIZZO_MOST",
    "RIZZO_GROUPS",
    "REFERENCE",
    "REFERENCE_MM",
    "WIDTH_HZ",
    "DSS",
    "DSS_SMAPE",
    "rizzo_basis",
    "rizzo_recipe",
    "dss_basis",
    "dss_recipe",
    "smape",
]

RIZZO_MOST = {
    "NAA": 25.8,
    "tCr": 18.5,
    "Ins": 14.7,
    "Glu": 20.0,
    "Glc": 2.0,
    "NAAG": 2.8,
    "Gln": 5.8,
    "GSH": 2.0,
    "Scyllo": 0.6,
    "Gly": 2.0,
    "Asp": 3.5,
    "PE": 3.3,
    "Tau": 2.0,
    "Lac": 1.0,
    "GABA": 1.8,
    "tCho": 5.0,
}
"""Highest concentrations in mM; the lowest are 0."""

RIZZO_GROUPS = {
    "well": ("NAA", "tCho", "tCr", "Ins", "Glu"),
    "medium": ("Glc", "NAAG", "Gln", "GSH"),
    "weakly": ("Scyllo", "Gly", "Asp", "PE", "Tau", "Lac", "GABA"),
}
"""How well metabolites are represented in these spectra, as the paper groups them (section 3.2)."""

REFERENCE, REFERENCE_MM = "Water", 64.5
"""The downscaled water peak: its name in the basis set and its concentration in mM."""

_PAIRS = {"tCr": ("Cr", "PCr"), "tCho": ("GPC", "PCh")}
_T2_MS = {("Cr", "CH2"): 111, ("PCr", "CH2"): 111, ("Cr", "CH3"): 169, ("PCr", "CH3"): 169, ("NAA", "acetyl CH3"): 289}
_OTHER_T2_MS = 185
_REFERENCE_PPM = 0.5
_SAMPLED_HZ = 4000.0  # what the paper's SNR is counted at
_MM = 8.0


def rizzo_basis(reference: bool = True, *, n_points: int = 1024, bandwidth_hz: float = 2000.0) -> Basis:
    """Sixteen metabolites, macromolecules and, with ``reference``, the water peak at 0.5 ppm; 3 T, semi-LASER, TE 35
    ms.

    tCr and tCho are halves of creatine and phosphocreatine, of glycero- and phosphocholine; groups of protons decay
    with the paper's T2.  Pulses are ideal here, real ones there, and half the paper's bandwidth and a quarter of its
    points are enough for all lines.
    """
    frequency = 3.0 * units.nucleus("1H").gamma_mhz_per_t
    grid = {"spec_freq_mhz": frequency, "bandwidth_hz": bandwidth_hz, "n_points": n_points}
    time = np.arange(n_points) / bandwidth_hz
    fids = []
    for name in RIZZO_MOST:
        parts = _PAIRS.get(name, (name,))
        whole = np.zeros(n_points, complex)
        for part in parts:
            system = spin_systems.spin_system(part)
            for group in system.groups:
                fid = spinsim.simulate_metabolite(
                    replace(system, groups=(group,)), "slaser", te_ms=35.0, fwhm_hz=0.0, **grid
                )
                whole += fid * np.exp(-1e3 * time / _T2_MS.get((part, group.label), _OTHER_T2_MS)) / len(parts)
        fids.append(whole)
    names = [*RIZZO_MOST, "mm"]
    fids.append(spinsim.macromolecules("summed", **grid)[0][0])
    if reference:
        hz = float(units.ppm_to_hz(_REFERENCE_PPM, frequency))
        fids.append(2 * np.exp((2j * np.pi * hz - 1e3 / _OTHER_T2_MS) * time))  # two protons
        names.append(REFERENCE)
    about = "the simulated semi-LASER basis set of the supervised benchmark"
    return Basis(np.array(fids), tuple(names), 1 / bandwidth_hz, frequency, "1H", None, about)


def rizzo_recipe(bandwidth_hz: float = 2000.0) -> recipes.Recipe:
    """Concentrations, Gaussian shim, macromolecules and SNR as in section 2.1.1; the reference has always its 64.5 mM.

    The SNR is that of the FID, whose size is the water's, two protons of 64.5 mM, at 4000 Hz; at another bandwidth the
    noise of a spectrum is the same and that of the FID smaller.  The paper does not say how large macromolecules are: a
    tenth of the metabolites' highest peak here.
    """
    ranges = {name: {"uniform": [0, most]} for name, most in RIZZO_MOST.items()}
    content = {
        "doc": "Idealised data: neither shift nor phase, no baseline.",
        "source": "doi 10.1002/mrm.29561, section 2.1.1.",
        "concentrations": {
            "prior": "table",
            "ranges": ranges | {"mm": {"uniform": [0.67 * _MM, 1.33 * _MM]}, REFERENCE: REFERENCE_MM},
        },
        "gauss_fwhm_hz": {"uniform": [2, 5]},
        "snr": {"uniform": [5, 40]},
        "snr_of": 2 * REFERENCE_MM * float(np.sqrt(bandwidth_hz / _SAMPLED_HZ)),
    }
    return recipes.Recipe.of("rizzo-idealised", content)


DSS = ("DSS1", "DSS2", "DSS3", "DSS4", "DSS5", "DSS6", "DSS7")
"""The data sets of the wavelet scattering paper."""

DSS_SMAPE = {"DSS2": 1.13, "DSS3": 1.38, "DSS4": 1.7, "DSS5": 3.46, "DSS6": 5.92, "DSS7": 6.12}
"""The paper's mean SMAPE in percent; that of DSS1 is in a figure only."""

_RAT = "Ala Asp Cr Cho GABA GSH Gln Glu Lac NAA NAAG PCh PCr Tau Ins".split()
_CHALLENGE = "Ala Asc Asp Cr GABA GPC GSH Glc Gln Glu Gly Ins Lac NAA NAAG PCh PCr PE Scyllo Tau".split()
WIDTH_HZ = {"3 T": 5.0, "9.4 T": 8.0}
"""Full widths at half maximum of the basis sets of DSS1 and of the others."""

_LINE_MM = 6.0  # a line's concentration in units of a metabolite's unit


def dss_basis(name: str) -> Basis:
    """The basis set of a data set: DSS1 20 metabolites and a pattern of macromolecules (3 T, PRESS, TE 30 ms, 4000 Hz,
    2048 points), the others 15 metabolites (9.4 T, PRESS, TE 20 ms, 4401.41 Hz, 2048 points), DSS6 and DSS7 with lines
    of macromolecules, twelve here and eleven there.

    Widths (:data:`WIDTH_HZ`) are not in the paper: about as wide as in vivo, because the dampings added there are
    small, and at 3 T can make lines narrower by 3.2 Hz, which must not make them grow with time.  Pulses are ideal.
    """
    if name == "DSS1":
        grid = {"te_ms": 30.0, "field_t": 3.0, "bandwidth_hz": 4000.0, "fwhm_hz": WIDTH_HZ["3 T"]}
        return add_macromolecules(simulate_basis(_CHALLENGE, n_points=2048, **grid), "summed")
    basis = simulate_basis(
        _RAT, te_ms=20.0, field_t=9.4, bandwidth_hz=4401.41, n_points=2048, fwhm_hz=WIDTH_HZ["9.4 T"]
    )
    return add_macromolecules(basis, "parametric") if name in ("DSS6", "DSS7") else basis


def dss_recipe(name: str, *, noise: bool = True) -> recipes.Recipe:
    """The ranges of a data set (Table 1 of the paper); ``noise=False`` leaves out DSS1's, which is the data of the
    paper on scalograms.

    Every metabolite has a shift and damping of its own.  SNRs are MATLAB's ``snr``, energies in decibels: 5 to 15 dB,
    and 10 dB in DSS1.
    """
    basis = dss_basis(name)
    low, high = (0.0, 1.0) if name == "DSS1" else (0.5, 1.0)
    lines = [one for one in basis.names if one.lower().startswith("mm")]
    spread = {"DSS1": (0.0, 1.0), "DSS7": (0.9, 1.1)}.get(name, (1.0, 1.0))
    size = 1.0 if name == "DSS1" else _LINE_MM
    ranges = {one: {"uniform": [low, high]} for one in basis.names if one not in lines}
    ranges |= {one: {"uniform": [size * part for part in spread]} for one in lines}
    phase = {"uniform": [-22.5, 22.5]}
    each = {
        "shift_hz": {"uniform": [-10, 10]},
        "damping_per_s": {"uniform": [-10, 10] if name == "DSS1" else [-5, 2.5]},
    }
    if name == "DSS1":
        each["macromolecules"] = True
    if name == "DSS4":
        each["phase_deg"] = phase
    snr = 1e4
    if noise and name == "DSS1":
        snr = _amplitude(10)
    elif name in ("DSS5", "DSS6", "DSS7"):
        snr = {"loguniform": [_amplitude(5), _amplitude(15)]}
    content = {
        "doc": f"{name} of the paper on wavelet scattering.",
        "source": "doi 10.5220/0010318502680275, Table 1.",
        "concentrations": {"prior": "table", "ranges": ranges},
        "each": each,
        "phase_deg": phase if name in ("DSS3", "DSS5", "DSS6", "DSS7") else 0,
        "snr": snr,
        "snr_of": "energy",
    }
    return recipes.Recipe.of(name, content)


def _amplitude(decibels: float) -> float:
    return float(10 ** (decibels / 20))


def smape(found: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Symmetric mean absolute percentage errors of amplitudes ``(n, n_metabs)``, ``(n_metabs,)`` (Eq. 2 of the
    paper)."""
    return 100 * np.abs(truth - found).sum(0) / (truth + found).sum(0)
