"""Simulated acquisitions: basis sets, and drifting single-voxel data with their truth."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..core import units
from ..core.errors import OptionError
from ..core.metabolites import typical_concentrations
from ..io.basis import Basis
from ..io.edited_basis import EditedBasis
from ..io.nifti import MrsData
from ..physics import spinsim

__all__ = [
    "EXAMPLE_METABOLITES",
    "EXAMPLE_OPTIONS",
    "SimulatedSvs",
    "simulate_basis",
    "simulate_svs",
    "simulated_data",
]

EXAMPLE_METABOLITES = "Ala Asc Asp Cr GABA GPC GSH Glc Gln Glu Gly Ins Lac NAA NAAG PCh PCr PE Scyllo Tau".split()

EXAMPLE_OPTIONS = {"sequence": "press", "te_ms": 30.0, "field_t": 3.0, "bandwidth_hz": 2000.0, "n_points": 2048}
"""Options of the bundled basis set."""


def simulate_basis(
    metabolites: list[str] | None = None,
    *,
    sequence: str = "press",
    field_t: float = 3.0,
    spec_freq_mhz: float | None = None,
    bandwidth_hz: float = 2000.0,
    n_points: int = 2048,
    macromolecules: str | None = None,
    **options,
) -> Basis:
    """Simulate a basis set with density matrices.

    Parameters
    ----------
    metabolites : list of str, optional
        Twenty brain metabolites by default.
    sequence : str
    field_t, spec_freq_mhz : float
        Field in tesla, or the spectrometer frequency in MHz instead of it.
    bandwidth_hz : float
    n_points : int
    macromolecules : {'parametric', 'fsl-default', 'summed'}, optional
        Macromolecules to add.
    **options
        Those of :func:`fsl_mrs_dl.physics.spinsim.simulate_basis`.
    """
    frequency = spec_freq_mhz or field_t * units.nucleus("1H").gamma_mhz_per_t
    grid = {"spec_freq_mhz": frequency, "bandwidth_hz": bandwidth_hz}
    wanted = metabolites or EXAMPLE_METABOLITES
    fids, names = spinsim.simulate_basis(wanted, sequence, n_points=n_points, **grid, **options)
    widths: list[float | None] = [float(options.get("fwhm_hz", 2.0))] * len(names)
    if macromolecules:
        mm_fids, mm_names = spinsim.macromolecules(macromolecules, n_points=n_points, **grid)
        fids, names = np.concatenate([fids, mm_fids]), (*names, *mm_names)
        widths += [None] * len(mm_names)
    te_ms = options.get("te_ms")
    return Basis(
        fids,
        tuple(names),
        1 / bandwidth_hz,
        frequency,
        "1H",
        tuple(widths),
        "the simulated basis set",
        echo_time_s=None if te_ms is None else 1e-3 * te_ms,
    )


@dataclass(frozen=True)
class SimulatedSvs:
    """A simulated acquisition, and its truth ready to be written as JSON."""

    data: MrsData
    truth: dict


def simulate_svs(
    basis: Basis | EditedBasis,
    *,
    transients: int = 64,
    snr: float = 8.0,
    seed: int = 0,
    drift_hz: float = 10.0,
    jitter_hz: float = 1.0,
    drift_deg: float = 40.0,
    jitter_deg: float = 8.0,
    lorentzian_hz: float = 3.0,
    gaussian_hz: float = 3.0,
    te_ms: float | None = None,
) -> SimulatedSvs:
    """Simulate a single-voxel acquisition with drifting frequency and phase, at typical brain concentrations varied by
    15 %.

    Parameters
    ----------
    basis : Basis or EditedBasis
        With an edited one the conditions alternate; they are a second dimension of the data, DIM_EDIT.
    transients : int
        Of each condition.
    snr : float
        Height of the largest peak over the noise SD of the real spectrum, in one transient.
    seed : int
    drift_hz, drift_deg : float
        Linear drift from first to last transient.
    jitter_hz, jitter_deg : float
        SD of the random variation around the drift.
    lorentzian_hz, gaussian_hz : float
        Full widths at half maximum added to those of the basis set.
    te_ms : float, optional
        Written into the header; that of the basis set by default.

    Raises
    ------
    OptionError
        If the numbers make no sense, or the basis holds no known brain metabolites.
    """
    if transients < 1 or not snr > 0:
        raise OptionError(f"`transients` {transients} `snr` {snr:g}: both must be positive.")
    sets = basis.sets if isinstance(basis, EditedBasis) else (basis,)
    first, total = sets[0], transients * len(sets)
    typical = typical_concentrations(list(basis.names))
    if typical is None:
        raise OptionError(f"{basis.source}: has fewer than three brain metabolites; simulate with another basis set.")
    random = np.random.default_rng(seed)
    conc = typical * np.exp(0.15 * random.standard_normal(basis.n_metabs))
    time = np.arange(first.n_points) * first.dwelltime
    gauss = np.pi * gaussian_hz / (2 * np.sqrt(np.log(2)))
    clean = np.array([conc @ one.fids for one in sets]) * np.exp(-np.pi * lorentzian_hz * time - (gauss * time) ** 2)
    height = np.abs(units.fid_to_spec(clean)).max()
    slope = np.linspace(-0.5, 0.5, total)
    shift = drift_hz * slope + jitter_hz * random.standard_normal(total)
    phase = drift_deg * slope + jitter_deg * random.standard_normal(total)
    rotation = np.exp(1j * (2 * np.pi * shift[:, None] * time + np.deg2rad(phase)[:, None]))
    noise = random.standard_normal((2, total, first.n_points)) * height / snr
    fids = (np.tile(clean, (transients, 1)) * rotation + noise[0] + 1j * noise[1]).astype(np.complex64)
    truth = {
        "concentrations": dict(zip(basis.names, np.round(conc, 6).tolist())),
        "shift_hz": np.round(shift, 6).tolist(),
        "phase_deg": np.round(phase, 6).tolist(),
        "lorentzian_hz": lorentzian_hz,
        "gaussian_hz": gaussian_hz,
        "noise_sd": float(height / snr),
        "snr": snr,
        "seed": seed,
    }
    data = simulated_data(fids, first, "DIM_DYN", te_ms)
    if isinstance(basis, EditedBasis):
        data = _with_conditions(data, basis.conditions)
        truth |= {"conditions": list(basis.conditions), "order": "alternating"}
    return SimulatedSvs(data, truth)


def _with_conditions(data: MrsData, conditions: tuple[str, ...]) -> MrsData:
    """Return data whose transients alternate between edit conditions with a dimension of their own for these."""
    fids = data.fids.reshape(*data.fids.shape[:4], -1, len(conditions))
    header = data.header | {"dim_6": "DIM_EDIT", "dim_6_header": {"EditCondition": list(conditions)}}
    return replace(data, fids=fids, dim_tags=("DIM_DYN", "DIM_EDIT"), header=header)


def simulated_data(fids: np.ndarray, basis: Basis, dim_tag: str, te_ms: float | None) -> MrsData:
    """Return FIDs ``(n, n_points)`` of one voxel as data, with the echo time in the header where it, or that of the
    basis set, is known."""
    te_s = basis.echo_time_s if te_ms is None else 1e-3 * te_ms
    header = {"SpectrometerFrequency": [basis.spec_freq_mhz], "ResonantNucleus": [basis.nucleus]}
    header |= {"dim_5": dim_tag, "RepetitionTime": 2.0} | ({} if te_s is None else {"EchoTime": te_s})
    return MrsData(
        fids=fids.T[None, None, None],
        dwelltime=basis.dwelltime,
        spec_freq_mhz=basis.spec_freq_mhz,
        nucleus=basis.nucleus,
        dim_tags=(dim_tag,),
        header=header,
        affine=np.diag([20.0, 20.0, 20.0, 1.0]),
    )
