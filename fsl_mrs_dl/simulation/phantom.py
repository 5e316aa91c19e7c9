"""A brain-like MRSI phantom with its truth: anatomy, tissue, metabolites, field, lipids of the scalp, noise.

The head is made of analytic shapes whose surfaces are modulated by seeded random fields; nobody's data are in it.
Everything is a function of the place in millimetres (x to the right, y to the front, z up, the origin near the anterior
commissure), so that the structural image and the grid of spectra may lie anyhow.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..core import units
from ..core.errors import OptionError
from ..core.metabolites import canonical_name, is_macromolecule, typical_concentrations
from ..io import nifti
from ..io.basis import Basis
from ..io.nifti import MrsData
from . import acquisition
from .anatomy import TISSUES, Anatomy, Field, _affine, _places, _rotation, draw_anatomy

__all__ = ["Phantom", "default_basis", "make", "point_spread", "tissue_concentrations", "write"]


_FOV_MM, _LARGEST_VOXEL_MM = (220.0, 220.0, 100.0), (40.0, 40.0, 15.0)
_MOST_VOXELS = 1_000_000
_ROWS = 2048  # of spectra that are rendered at once; part of what a seed means

# -- random fields and shapes --------------------------------------------------------------------------------------


# -- anatomy -------------------------------------------------------------------------------------------------------


def _on_grid(anatomy: Anatomy, names, affine: np.ndarray, size) -> dict[str, np.ndarray]:
    """Shares averaged over the voxels of another grid, float32 ``(x, y, z)``."""
    from scipy.ndimage import map_coordinates

    fine_mm = np.linalg.norm(anatomy.affine[:3, 0])
    voxel_mm = np.linalg.norm(affine[:3, :3], axis=0)
    parts = np.clip(np.ceil(voxel_mm / fine_mm), 1, 30).astype(int)
    # Points that lie evenly in every voxel.
    fine_affine = affine @ np.diag([*(1 / parts), 1.0])
    fine_affine[:3, 3] = (affine @ [*((1 - parts) / (2 * parts)), 1])[:3]
    there = np.linalg.inv(anatomy.affine) @ fine_affine
    out = {name: np.zeros(size, np.float32) for name in names}
    for k in range(size[2]):
        shape = (size[0] * parts[0], size[1] * parts[1], parts[2])
        slab = there.copy()
        slab[:3, 3] += there[:3, 2] * k * parts[2]
        points = np.moveaxis(_places(slab, shape), -1, 0)
        for name in names:
            values = map_coordinates(anatomy.shares[name], points, order=1, mode="constant", output=np.float32)
            values = values.reshape(size[0], parts[0], size[1], parts[1], parts[2])
            out[name][:, :, k] = values.mean((1, 3, 4))
    return out


# -- what is in the tissue -----------------------------------------------------------------------------------------

_RATIOS = {
    "NAA": (1.0, 0.97, 0.35),
    "NAAG": (0.6, 1.5, 0.3),
    "Cr": (1.12, 0.86, 0.65),
    "PCr": (1.12, 0.86, 0.65),
    "GPC": (0.82, 1.18, 1.7),
    "PCh": (0.82, 1.18, 3.2),
    "Glu": (1.18, 0.75, 0.55),
    "Gln": (1.2, 0.7, 1.3),
    "Ins": (1.08, 0.9, 1.5),
    "GABA": (1.2, 0.7, 0.6),
    "GSH": (1.1, 0.85, 1.2),
    "Tau": (1.2, 0.75, 1.1),
    "Asp": (1.1, 0.85, 0.6),
    "Asc": (1.1, 0.85, 0.8),
    "Gly": (1.1, 0.9, 3.0),
    "Ala": (1.05, 0.9, 2.5),
    "Lac": (1.05, 0.9, 9.0),
    "Glc": (1.05, 0.9, 0.8),
    "PE": (1.0, 1.0, 1.6),
    "Scyllo": (1.0, 1.0, 0.8),
}
"""Of the typical concentration: in grey matter, white matter and the lesion."""

_IN_CSF = {"Glc": 3.3, "Lac": 1.6, "Gln": 0.5}
_MACROMOLECULES = {"gm": 7.5, "wm": 5.0, "csf": 0.0, "lesion": 6.5}


def tissue_concentrations(names) -> np.ndarray:
    """Concentrations of basis entries in pure tissue, mmol/kg, shape ``(len(TISSUES), n_metabs)``; macromolecules in
    their own unit.

    Typical concentrations of the whole brain (``data/brain_concentrations.json``) times what tissues differ by.
    Creatine, glutamate, glutamine and inositol are higher in grey matter, NAAG in white, NAA is about the same: Pouwels
    and Frahm, doi 10.1002/mrm.1910390110.  Choline is a quarter lower in grey matter: Schuff et al.,
    doi 10.1002/mrm.1119.  The lesion is like a glial tumour: Howe and Opstad, doi 10.1002/nbm.822.  Rounded, and
    guessed where these say nothing: meant to look like a brain, not to be a reference.

    Raises
    ------
    OptionError
        If fewer than three of them are known metabolites of the brain.
    """
    typical = typical_concentrations(list(names))
    if typical is None:
        raise OptionError(
            f"--basis: knows fewer than three brain metabolites ({', '.join(names)}); simulate with another basis set."
        )
    out = np.zeros((len(TISSUES), len(names)))
    for column, (name, value) in enumerate(zip(names, typical)):
        if is_macromolecule(name):
            out[:, column] = [_MACROMOLECULES[tissue] for tissue in TISSUES]
            continue
        known = canonical_name(name)
        gm, wm, lesion = _RATIOS.get(known, (1.0, 1.0, 1.0))
        out[:, column] = value * gm, value * wm, _IN_CSF.get(known, 0.0), value * lesion
    return out


# -- the field, and lipids -----------------------------------------------------------------------------------------


class _Shift:
    """The B0 shift in Hz by place: smooth, with excursions above the sinuses and the ears, about 0 in the middle of the
    brain.

    It is scaled so that the largest in the brain is ``most_hz``.
    """

    def __init__(self, random: np.random.Generator, anatomy: Anatomy, most_hz: float):
        self._smooth = Field(random, 170)
        self._offset, self._scale = 0.0, 1.0
        brain = (anatomy.shares["gm"] + anatomy.shares["wm"] + anatomy.shares["lesion"]) > 0.5
        index = np.argwhere(brain)[:: max(1, int(brain.sum() // 20_000))]
        values = self((index @ anatomy.affine[:3, :3].T + anatomy.affine[:3, 3]).astype(np.float32))
        self._offset = float(np.median(values))
        self._scale = most_hz / float(np.abs(values - self._offset).max())

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Hz ``(...,)`` at places ``(..., 3)`` in mm."""
        return self._with_excursions(self._smooth(points), points)

    def on(self, affine: np.ndarray, size) -> np.ndarray:
        """Hz ``(x, y, z)`` on a grid."""
        return self._with_excursions(self._smooth.on(affine, size), _places(affine, size))

    def _with_excursions(self, out: np.ndarray, points: np.ndarray) -> np.ndarray:
        for centre, width, height in (((0, 60, -16), 24, 5.0), ((57, -22, -22), 18, -2.5), ((-57, -22, -22), 18, -2.5)):
            away = np.sum((points - np.asarray(centre, np.float32)) ** 2, -1) / np.float32(2 * width**2)
            out = out + np.float32(height) * np.exp(-away)
        return (out - np.float32(self._offset)) * np.float32(self._scale)


# What protons of fat in triglycerides there are: doi 10.1194/jlr.D800010-JLR200.
_LIPID_LINES = (
    (0.9, 0.20, 17),
    (1.3, 1.0, 19),
    (1.6, 0.12, 24),
    (2.03, 0.16, 22),
    (2.25, 0.1, 22),
    (2.77, 0.03, 22),
    (5.3, 0.12, 20),
)
"""Place in ppm, height over that of the CH2, and Gaussian width in Hz at 123 MHz."""

_LIPID_BINS = 5
_LIPID_HEIGHT, _WATER_HEIGHT = 16.0, 1.0  # over the median of the brain's largest peaks
_WATER_LINES = ((4.65, 1.0, 6.0), (4.70, 0.35, 14.0), (4.58, 0.25, 18.0))


def _gaussian_lines(lines, time: np.ndarray, spec_freq_mhz: float) -> np.ndarray:
    """A FID whose spectrum has lines of these heights (ppm, height, width in Hz at 123 MHz), complex64
    ``(n_points,)``."""
    fid = np.zeros(len(time), complex)
    for ppm, height, width in lines:
        decay = np.exp(-((np.pi * width * spec_freq_mhz / 123.0 * time) ** 2) / (4 * np.log(2)))
        fid += height * decay / decay.sum() * np.exp(2j * np.pi * units.ppm_to_hz(ppm, spec_freq_mhz) * time)
    return (fid * math.sqrt(len(time))).astype(np.complex64)


def point_spread(fine: np.ndarray, factor) -> np.ndarray:
    """What phase encoding sees of an object: its middle k-space under a Hamming filter.

    Parameters
    ----------
    fine : complex ndarray ``(..., x * fx, y * fy, z * fz)``
        The object on a finer grid, ``factor`` ``(fx, fy, fz)`` points to a voxel, odd; an axis of one voxel is
        averaged.

    Returns
    -------
    complex64 ndarray ``(..., x, y, z)``
    """
    from scipy import fft

    out = np.asarray(fine, np.complex64)
    for axis, f in zip((-3, -2, -1), factor):
        n = out.shape[axis] // f
        moved = np.moveaxis(out, axis, -1)
        if n == 1:
            out = np.moveaxis(moved.mean(-1, keepdims=True), -1, axis)
            continue
        k = fft.fftfreq(n, 1 / n).round().astype(int)
        # The middle of a voxel lies (f - 1) / 2 fine points after its first; the filter is 1 in the middle of k-space.
        weight = (0.54 + 0.46 * np.cos(2 * np.pi * k / n)) * np.exp(2j * np.pi * k * ((f - 1) / 2) / (n * f)) / f
        seen = fft.fft(moved, axis=-1)[..., k] * weight.astype(np.complex64)
        out = np.moveaxis(fft.ifft(seen, axis=-1), -1, axis)
    return out.astype(np.complex64)


def _lipids(
    anatomy: Anatomy, shift: _Shift, phase: Field, affine, size, amount: float
) -> tuple[np.ndarray, np.ndarray]:
    """Complex amplitudes ``(x, y, z, n_bins)`` of the scalp's lipids as encoding spreads them, and the shifts (Hz) of
    the bins.

    Lipids that leak into a voxel bring the frequency of where they are, so those of different shifts are spread by
    themselves.
    """
    factor = tuple(3 if n > 1 else 1 for n in size)
    fine_affine = affine @ np.diag([*(1 / np.array(factor)), 1.0])
    fine_affine[:3, 3] = (affine @ [*((1 - np.array(factor)) / (2 * np.array(factor))), 1])[:3]
    fine_size = tuple(n * f for n, f in zip(size, factor))
    fat = _on_grid(anatomy, ("fat",), fine_affine, fine_size)["fat"]
    turned = np.exp(np.complex64(1j) * np.float32(np.deg2rad(40)) * phase.on(fine_affine, fine_size))
    scalp = fat * turned
    hz = shift.on(fine_affine, fine_size)
    there = hz[fat > 0.05]
    if not there.size or not amount:
        return np.zeros((*size, 1), np.complex64), np.zeros(1)
    low, high = np.percentile(there, [2, 98])
    bins = np.linspace(low, max(high, low + 1e-3), _LIPID_BINS)
    position = np.clip((hz - bins[0]) / (bins[1] - bins[0]), 0, _LIPID_BINS - 1)
    spread = [point_spread(scalp * np.maximum(0, 1 - np.abs(position - b)), factor) for b in range(_LIPID_BINS)]
    return np.float32(amount) * np.stack(spread, -1), bins


# -- the phantom ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Phantom:
    """A simulated MRSI acquisition and everything that it was made from.

    Attributes
    ----------
    data : MrsData
        ``fids`` complex64 ``(x, y, z, n_points)``.
    basis : Basis
        That it was made with.
    t1 : ndarray int16 ``(X, Y, Z)``
        Structural image, ``t1_affine`` its place.
    tissue : dict of float32 ``(x, y, z)``
        Shares of 'gm', 'wm', 'csf' and 'lesion' in each voxel.
    mask : bool ndarray ``(x, y, z)``
        Where more than half of the voxel is brain.
    concentrations : dict of float32 ``(x, y, z)``
        By basis entry, those that a fit without rescaling has to find.
    maps : dict of float32 ``(x, y, z)``
        'shift_hz' (to higher ppm), 'lorentz_hz' and 'gauss_hz' (full widths at half maximum added to the basis set's),
        'phase_deg' (FSL-MRS's Phi0), 'noise_sd' (of the real and of the imaginary part), 'snr', 'lipid' and 'water'
        (heights in the unit of ``noise_sd``).  NaN where there is neither brain nor its fluid.
    truth : dict
        Options, units and what is what, ready for JSON.
    """

    data: MrsData
    basis: Basis
    t1: np.ndarray
    t1_affine: np.ndarray
    tissue: dict[str, np.ndarray]
    mask: np.ndarray
    concentrations: dict[str, np.ndarray]
    maps: dict[str, np.ndarray]
    truth: dict


def _check(basis: Basis | None, size, n_points, snr, b0_hz, water, fov_mm, t1_mm) -> None:
    """Raise OptionError for numbers that make no sense."""
    if len(size) != 3 or min(size) < 1:
        raise OptionError(f"--size {' '.join(map(str, size))}: three numbers of voxels are needed, each at least 1.")
    if math.prod(size) > _MOST_VOXELS:
        raise OptionError(f"--size {' '.join(map(str, size))}: more than {_MOST_VOXELS} voxels; give fewer.")
    if n_points < 64:
        raise OptionError(f"--points {n_points}: at least 64 are needed.")
    for name, value, at_least in (("b0", b0_hz, 0), ("water", water, 0)):
        if not (math.isfinite(value) and value >= at_least):
            raise OptionError(f"--{name} {value:g}: a number that is not negative is needed.")
    if not (math.isfinite(snr) and snr > 0):
        raise OptionError(f"--snr {snr:g}: must be positive.")
    if fov_mm is not None and (len(fov_mm) != 3 or not all(math.isfinite(mm) and mm > 0 for mm in fov_mm)):
        raise OptionError(f"--fov {' '.join(f'{mm:g}' for mm in fov_mm)}: three positive lengths in mm are needed.")
    if not 0.5 <= t1_mm <= 6:
        raise OptionError(f"--t1_mm {t1_mm:g}: voxels of 0.5 to 6 mm are possible.")
    if basis is not None:
        if basis.nucleus != "1H":
            raise OptionError(
                f"{basis.source}: is for {basis.nucleus}; the phantom is 1H, give a basis set of protons."
            )
        if n_points > basis.n_points:
            raise OptionError(f"--points {n_points}: {basis.source} has {basis.n_points}; give at most as many.")


DEFAULT_TE_MS = 35.0


def default_basis(n_points: int = 1024, macromolecules: str | None = "summed") -> Basis:
    """Twenty metabolites and a macromolecule (or a kind of :func:`fsl_mrs_dl.physics.spinsim.macromolecules`, or none):
    semi-LASER, TE 35 ms, 3 T, 2000 Hz."""
    return acquisition.simulate_basis(
        sequence="slaser",
        te_ms=DEFAULT_TE_MS,
        field_t=3.0,
        bandwidth_hz=2000.0,
        n_points=n_points,
        macromolecules=macromolecules,
    )


def make(
    basis: Basis | None = None,
    *,
    size: tuple[int, int, int] = (32, 32, 10),
    n_points: int = 1024,
    snr: float = 20.0,
    seed: int = 0,
    lipids: bool = True,
    lesion: bool = True,
    b0_hz: float = 30.0,
    water: float = _WATER_HEIGHT,
    fov_mm: tuple[float, float, float] | None = None,
    t1_mm: float = 1.5,
    te_ms: float | None = None,
) -> Phantom:
    """Simulate MRSI of a head.  The same seed and options give the same arrays.

    Spectra are FSL-MRS's model (see :mod:`fsl_mrs_dl.physics.signal_model`), its time beginning one dwell time after
    the echo, so that concentrations, widths, shifts and phases are the very numbers that a fit of the 'voigt' model
    without rescaling (``--no_rescale``) has to find.  Metabolites are those of the voxel alone; lipids of the scalp
    leak from voxel to voxel.

    Parameters
    ----------
    basis : Basis, optional
        Of 1H; its bandwidth is the data's.  :func:`default_basis` by default.
    size : (int, int, int)
        Voxels to the right, to the front and upwards.
    n_points : int
        Points of an FID.
    snr : float
        Height of the largest metabolite peak of the magnitude spectrum over the noise SD of the real spectrum: its
        median over the mask. The noise is equally strong everywhere.
    seed : int
    lipids, lesion : bool
        Whether there are any; all else stays the same.
    b0_hz : float
        Largest B0 shift in the brain.
    water : float
        Height of residual water over the median of the largest metabolite peaks, roughly; 0 for none.
    fov_mm : (float, float, float), optional
        Size of the grid; 220 x 220 x 100 mm, less where voxels would be larger than 40 x 40 x 15 mm, by default.
    t1_mm : float
        Voxel side of the structural image.
    te_ms : float, optional
        Echo time for the header; that of the default basis set if that is used.

    Returns
    -------
    Phantom

    Raises
    ------
    OptionError
        Impossible numbers, a basis set of another nucleus or without known metabolites, or a grid that holds no brain.
    """
    size = tuple(int(n) for n in size)
    _check(basis, size, n_points, snr, b0_hz, water, fov_mm, t1_mm)
    if basis is None:
        basis, te_ms = default_basis(n_points), te_ms or DEFAULT_TE_MS
    table = tissue_concentrations(basis.names)
    voxel_mm = np.array(fov_mm) / size if fov_mm else np.minimum(_FOV_MM / np.array(size), _LARGEST_VOXEL_MM)
    affine = _affine(_rotation(9.0, 1.0, 2.5), voxel_mm, size, (0.0, -17.0, 24.0))

    anatomy = draw_anatomy(seed, lesion=lesion, t1_mm=t1_mm)
    tissue = _on_grid(anatomy, TISSUES, affine, size)
    mask = tissue["gm"] + tissue["wm"] + tissue["lesion"] > 0.5
    if not mask.any():
        raise OptionError(
            f"--fov {' '.join(f'{mm:g}' for mm in voxel_mm * size)}: no voxel holds brain; give a larger --size."
        )
    random = np.random.default_rng([seed, 2])
    shift = _Shift(random, anatomy, b0_hz)
    lipid_phase = Field(random, 75)
    conc, theta = _voxels(random, table, tissue, shift, affine)
    used = sum(tissue.values()) > 0.02

    fids = np.zeros((*size, n_points), np.complex64)
    time = units.time_axis(n_points, basis.dwelltime)
    # Lipids and water are sized before there are spectra: by that of the middle of all that is brain.
    typical = (np.median(conc[mask], 0) @ basis.fids[:, :n_points]) * _decay_of(
        time, *(np.median(theta[name][mask]) for name in ("lorentz_hz", "gauss_hz"))
    )
    height = float(np.abs(units.fid_to_spec(typical)).max())
    scalp, bins = _lipids(anatomy, shift, lipid_phase, affine, size, _LIPID_HEIGHT * height * lipids)
    bank = _gaussian_lines(_LIPID_LINES, time, basis.spec_freq_mhz) * np.exp(2j * np.pi * bins[:, None] * time)
    residual = _residual_water(random, affine, tissue) * np.float32(water * height)
    wet = _water_fid(time, basis.spec_freq_mhz)
    heights = _render(fids, np.flatnonzero(used), conc, theta, basis.fids[:, :n_points], time, residual, wet)
    _add_lipids(fids, scalp, bank.astype(np.complex64))
    heights[~used] = 0
    noise_sd = float(np.median(heights[mask]) / snr)
    _add_noise(fids, noise_sd, np.random.default_rng([seed, 3]))

    nothing = np.where(used, np.float32(0), np.float32(np.nan))
    maps = {name: (value + nothing).astype(np.float32) for name, value in theta.items()}
    maps |= {
        "noise_sd": np.full(size, noise_sd, np.float32),
        "snr": (heights / np.float32(noise_sd)).astype(np.float32),
        "lipid": np.abs(scalp.sum(-1)).astype(np.float32),
        "water": (np.abs(residual) * used).astype(np.float32),
    }
    header = {"SpectrometerFrequency": [basis.spec_freq_mhz], "ResonantNucleus": ["1H"], "RepetitionTime": 1.5}
    header |= {"EchoTime": te_ms / 1e3} if te_ms else {}
    data = MrsData(fids, basis.dwelltime, basis.spec_freq_mhz, "1H", header=header, affine=affine)
    options = {
        "basis": basis.source,
        "size": list(size),
        "points": n_points,
        "snr": snr,
        "seed": seed,
        "lipids": lipids,
        "lesion": lesion,
        "b0_hz": b0_hz,
        "water": water,
        "fov_mm": (voxel_mm * size).round(3).tolist(),
        "t1_mm": t1_mm,
        "te_ms": te_ms,
    }
    truth = {"options": options, "noise_sd": noise_sd, "tissue_concentrations": _table_of(table, basis.names), **_ABOUT}
    by_name = {name: conc[..., column] * used for column, name in enumerate(basis.names)}
    return Phantom(data, basis, anatomy.t1, anatomy.affine, tissue, mask, by_name, maps, truth)


def _table_of(table: np.ndarray, names) -> dict:
    """Concentrations of pure tissue by name and tissue."""
    return {name: dict(zip(TISSUES, np.round(row, 4).tolist())) for name, row in zip(names, table.T)}


_ABOUT = {
    "model": (
        "FSL-MRS's 'voigt' model, time from one dwell time after the echo; fit with --no_rescale to find the same"
        " numbers"
    ),
    "files": {
        "mrsi.nii.gz": "the acquisition, NIfTI-MRS",
        "basis": "the basis set it was made with",
        "mask.nii.gz": "voxels of which more than half is brain",
        "T1w.nii.gz": "structural image",
        "tissue_gm.nii.gz": "share of grey matter, deep nuclei among it, 0 to 1",
        "tissue_wm.nii.gz": "share of white matter, 0 to 1",
        "tissue_csf.nii.gz": "share of cerebrospinal fluid, 0 to 1",
        "lesion.nii.gz": "share of the lesion, 0 to 1",
        "truth/METABOLITE.nii.gz": (
            "concentration, about mmol/kg, in units of the basis set; macromolecules in their own"
        ),
        "truth/shift_hz.nii.gz": "frequency shift, Hz, positive to higher ppm",
        "truth/lorentz_hz.nii.gz": "Lorentzian full width at half maximum added to the basis set's, Hz",
        "truth/gauss_hz.nii.gz": "Gaussian full width at half maximum, Hz",
        "truth/phase_deg.nii.gz": "zero-order phase, degrees: FSL-MRS's Phi0",
        "truth/noise_sd.nii.gz": "SD of the noise's real and of its imaginary part, the same in FID and spectrum",
        "truth/snr.nii.gz": "largest metabolite peak of the magnitude spectrum over noise_sd",
        "truth/lipid.nii.gz": "height of the lipids' highest peak, in the unit of noise_sd",
        "truth/water.nii.gz": "height of residual water, about, in the unit of noise_sd",
    },
}


def _voxels(random, table, tissue, shift, affine) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Concentrations ``(x, y, z, n_metabs)`` and the parameters of the line shape ``(x, y, z)``, all float32."""
    shares = np.stack([tissue[name] for name in TISSUES], -1)
    grid = (affine, shares.shape[:3])
    conc = shares @ table.astype(np.float32)
    for column in range(conc.shape[-1]):
        # Regions differ by some percent, in every metabolite otherwise.
        conc[..., column] *= 1 + np.float32(0.05) * Field(random, 80, n=16).on(*grid)
    np.maximum(conc, 0, out=conc)
    lorentz = shares @ np.array([4.2, 3.6, 2.5, 6.0], np.float32) / np.maximum(shares.sum(-1), 1e-3)
    lorentz *= 1 + np.float32(0.08) * Field(random, 60).on(*grid)
    # A slope of the field across a voxel has the variance of a box; a Gaussian of that variance stands for it.
    across = np.zeros(grid[1], np.float32)
    for axis in range(3):
        ends = (shift.on(_moved(affine, axis, step), grid[1]) for step in (0.5, -0.5))
        across += (next(ends) - next(ends)) ** 2
    theta = {
        "shift_hz": shift.on(*grid),
        "lorentz_hz": np.maximum(lorentz, 0.5),
        "gauss_hz": np.sqrt(2.5**2 + 8 * np.log(2) / 12 * across),
        "phase_deg": 25 * Field(random, 150).on(*grid),
    }
    return conc, {name: value.astype(np.float32) for name, value in theta.items()}


def _moved(affine: np.ndarray, axis: int, step: float) -> np.ndarray:
    """A grid that lies some voxels further along an axis."""
    out = affine.copy()
    out[:3, 3] += step * affine[:3, axis]
    return out


def _residual_water(random, affine, tissue) -> np.ndarray:
    """Complex amplitudes of residual water, complex64 ``(x, y, z)``, about 1 in tissue."""
    share = np.clip(sum(tissue.values()), 0, 1)
    size = np.exp(0.6 * Field(random, 70).on(affine, share.shape)) * share
    return (size * np.exp(1.5j * Field(random, 110).on(affine, share.shape))).astype(np.complex64)


def _water_fid(time: np.ndarray, spec_freq_mhz: float) -> np.ndarray:
    """Residual water of height 1 or so: three lines beside each other, complex64 ``(n_points,)``."""
    fid = np.zeros(len(time), complex)
    for ppm, height, width in _WATER_LINES:
        line = np.exp((2j * np.pi * units.ppm_to_hz(ppm, spec_freq_mhz) - np.pi * width) * time)
        fid += height * math.sqrt(len(time)) / np.abs(line).sum() * line
    return fid.astype(np.complex64)


def _decay_of(time: np.ndarray, lorentz_hz, gauss_hz) -> np.ndarray:
    """Decay in time for full widths at half maximum."""
    return np.exp(-np.pi * lorentz_hz * time - (np.pi * gauss_hz * time) ** 2 / (4 * np.log(2)))


def _render(fids, rows, conc, theta, basis, time, residual, wet) -> np.ndarray:
    """Fill the spectra of some voxels (flat indices) in; gives the heights of the largest metabolite peak, float32
    ``(x, y, z)``."""
    flat, heights = fids.reshape(-1, len(time)), np.zeros(fids.shape[:3], np.float32)
    conc, basis, t = conc.reshape(-1, conc.shape[-1]), basis.astype(np.complex64), time.astype(np.float32)
    column = {name: value.reshape(-1, 1) for name, value in theta.items()}
    for begin in range(0, len(rows), _ROWS):
        part = rows[begin : begin + _ROWS]
        one = {name: value[part] for name, value in column.items()}
        shape = np.empty((len(part), len(t)), np.complex64)
        shape.real = (
            -np.float32(np.pi) * one["lorentz_hz"] * t
            - (np.float32(np.pi / math.sqrt(4 * np.log(2))) * one["gauss_hz"] * t) ** 2
        )
        shape.imag = np.float32(2 * np.pi) * one["shift_hz"] * t - np.deg2rad(one["phase_deg"])
        np.exp(shape, out=shape)
        made = (conc[part].astype(np.complex64) @ basis) * shape
        heights.reshape(-1)[part] = np.abs(units.fid_to_spec(made)).max(-1)
        flat[part] = made + residual.reshape(-1, 1)[part] * wet * shape
    return heights


def _add_lipids(fids: np.ndarray, scalp: np.ndarray, bank: np.ndarray) -> None:
    flat, amplitude = fids.reshape(-1, fids.shape[-1]), scalp.reshape(-1, scalp.shape[-1])
    for begin in range(0, len(flat), _ROWS):
        flat[begin : begin + _ROWS] += amplitude[begin : begin + _ROWS] @ bank


def _add_noise(fids: np.ndarray, noise_sd: float, random: np.random.Generator) -> None:
    flat = fids.reshape(-1, fids.shape[-1])
    for begin in range(0, len(flat), _ROWS):
        part = flat[begin : begin + _ROWS]
        noise = random.standard_normal((*part.shape, 2), dtype=np.float32) * np.float32(noise_sd)
        part += noise.view(np.complex64)[..., 0]


def write(folder: str | Path, phantom: Phantom) -> None:
    """Write a phantom's files into an empty folder; ``truth.json`` says what each of them is."""
    import nibabel

    folder = Path(folder)
    nifti.save(folder / "mrsi.nii.gz", phantom.data, method="Simulation", details="MRSI phantom")
    phantom.basis.save(folder / "basis", info="Basis set of an MRSI phantom.")

    def image(name: str, values: np.ndarray, affine: np.ndarray) -> None:
        made = nibabel.Nifti1Image(values, affine)
        made.header.set_xyzt_units("mm", "sec")
        made.set_qform(affine, 1)
        made.set_sform(affine, 1)
        nibabel.save(made, folder / f"{name}.nii.gz")

    image("T1w", phantom.t1, phantom.t1_affine)
    for name in ("gm", "wm", "csf"):
        image(f"tissue_{name}", phantom.tissue[name], phantom.data.affine)
    image("lesion", phantom.tissue["lesion"], phantom.data.affine)
    image("mask", phantom.mask.astype(np.uint8), phantom.data.affine)
    (folder / "truth").mkdir()
    for name, values in (phantom.concentrations | phantom.maps).items():
        image(f"truth/{name}", values, phantom.data.affine)
    (folder / "truth.json").write_text(json.dumps(phantom.truth, indent=1))
