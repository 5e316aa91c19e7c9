"""A brain-like MRSI phantom with its truth: anatomy, tissue, metabolites, field, lipids of the scalp, noise.

The head is made of analytic shapes whose surfaces are modulated by seeded random fields; it holds no measured data.
Everything is a function of the position in millimetres (x to the right, y to the front, z up, the origin near the
anterior commissure), so that the structural image and the grid of spectra may have any orientation.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ..core import units
from ..core.axes import Axes
from ..core.errors import OptionError
from ..io import nifti
from ..io.basis import Basis
from ..io.nifti import MrsData
from . import acquisition, artefacts
from .anatomy import TISSUES, draw_anatomy
from .geometry import RandomField, grid_affine, rotation_matrix, shifted_affine
from .tissue import tissue_concentrations

__all__ = ["DEFAULT_TE_MS", "Phantom", "PhantomOptions", "default_basis", "simulate_phantom", "write_phantom"]

DEFAULT_TE_MS = 35.0

_FOV_MM, _LARGEST_VOXEL_MM = (220.0, 220.0, 100.0), (40.0, 40.0, 15.0)
_MOST_VOXELS = 1_000_000
_ROWS = 2048  # spectra that are rendered at once; a seed has another meaning with another number


@dataclass(frozen=True)
class PhantomOptions:
    """Contents and sampling of a phantom.

    Attributes
    ----------
    size : (int, int, int)
        Voxels to the right, to the front and upwards.
    n_points : int
        Points of a FID.
    snr : float
        Height of the largest metabolite peak of the magnitude spectrum over the noise SD of the real spectrum: its
        median over the mask.  The noise is equally strong everywhere.
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
    lipid_height : float
        Height of lipids where a voxel is all scalp, over the median of the brain's largest metabolite peaks.
    k_filter : str
        One of :data:`fsl_mrs_dl.simulation.artefacts.K_FILTERS`, which the lipids are spread by.
    concentration_sd : float
        SD of the logarithm of what this head's concentration of each metabolite in each tissue is multiplied by; 0,
        the default, for typical concentrations.

    Raises
    ------
    OptionError
        If a number makes no sense.
    """

    size: tuple[int, int, int] = (32, 32, 10)
    n_points: int = 1024
    snr: float = 20.0
    seed: int = 0
    lipids: bool = True
    lesion: bool = True
    b0_hz: float = 30.0
    water: float = 1.0
    fov_mm: tuple[float, float, float] | None = None
    t1_mm: float = 1.5
    te_ms: float | None = None
    lipid_height: float = artefacts.LIPID_HEIGHT
    k_filter: str = "hamming"
    concentration_sd: float = 0.0

    def __post_init__(self):
        object.__setattr__(self, "size", tuple(int(n) for n in self.size))
        size_text = " ".join(map(str, self.size))
        if len(self.size) != 3 or min(self.size) < 1:
            raise OptionError("three numbers of voxels are needed, each at least 1", option="size", value=size_text)
        if math.prod(self.size) > _MOST_VOXELS:
            raise OptionError(f"more than {_MOST_VOXELS} voxels", option="size", value=size_text, remedy="give fewer")
        if self.n_points < 64:
            raise OptionError("at least 64 are needed", option="n_points", value=self.n_points)
        if self.k_filter not in artefacts.K_FILTERS:
            raise OptionError(
                "there is no such filter",
                option="k_filter",
                value=self.k_filter,
                remedy=f"choose one of {', '.join(artefacts.K_FILTERS)}",
            )
        for option in ("b0_hz", "water", "lipid_height", "concentration_sd"):
            value = getattr(self, option)
            if not (math.isfinite(value) and value >= 0):
                raise OptionError("a number that is not negative is needed", option=option, value=f"{value:g}")
        if not (math.isfinite(self.snr) and self.snr > 0):
            raise OptionError("must be positive", option="snr", value=f"{self.snr:g}")
        fov = self.fov_mm
        if fov is not None and (len(fov) != 3 or not all(math.isfinite(mm) and mm > 0 for mm in fov)):
            raise OptionError(
                "three positive lengths in mm are needed", option="fov_mm", value=" ".join(f"{mm:g}" for mm in fov)
            )
        if not 0.5 <= self.t1_mm <= 6:
            raise OptionError("voxels of 0.5 to 6 mm are possible", option="t1_mm", value=f"{self.t1_mm:g}")

    @property
    def voxel_mm(self) -> np.ndarray:
        """Size of a voxel in mm, ``(3,)``."""
        if self.fov_mm:
            return np.array(self.fov_mm) / self.size
        return np.minimum(_FOV_MM / np.array(self.size), _LARGEST_VOXEL_MM)

    def check_basis(self, basis: Basis) -> None:
        """Raise OptionError unless the phantom can be made with a basis set."""
        if basis.nucleus != "1H":
            raise OptionError(
                f"{basis.source}: is for {basis.nucleus}; the phantom is 1H, give a basis set of protons."
            )
        if self.n_points > basis.n_points:
            raise OptionError(
                f"{basis.source} has {basis.n_points}",
                option="n_points",
                value=self.n_points,
                remedy="give at most as many",
            )


@dataclass(frozen=True)
class Phantom:
    """A simulated MRSI acquisition and its truth.

    Attributes
    ----------
    data : MrsData
        ``fids`` complex64 ``(x, y, z, n_points)``.
    basis : Basis
        Basis set of the spectra.
    t1 : ndarray int16 ``(X, Y, Z)``
        Structural image.
    t1_affine : ndarray ``(4, 4)``
        From voxels of the structural image to mm.
    tissue : dict of float32 ``(x, y, z)``
        Fractions of 'gm', 'wm', 'csf' and 'lesion' in each voxel.
    mask : bool ndarray ``(x, y, z)``
        Voxels of which more than half is brain.
    concentrations : dict of float32 ``(x, y, z)``
        By basis entry, the true values of a fit without rescaling.
    maps : dict of float32 ``(x, y, z)``
        'shift_hz' (to higher ppm), 'lorentz_hz' and 'gauss_hz' (full widths at half maximum added to the basis set's),
        'phase_deg' (FSL-MRS's Phi0), 'noise_sd' (of the real and of the imaginary part), 'snr', 'lipid' and 'water'
        (heights in the unit of ``noise_sd``).  NaN outside of brain and its fluid.
    truth : dict
        Options, units and contents of the files, ready for JSON.
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


def default_basis(n_points: int = 1024, macromolecules: str | None = "summed") -> Basis:
    """Return a basis set of twenty metabolites and macromolecules (or a kind of
    :func:`fsl_mrs_dl.physics.spinsim.macromolecules`, or none): semi-LASER, TE 35 ms, 3 T, 2000 Hz."""
    return acquisition.simulate_basis(
        sequence="slaser",
        te_ms=DEFAULT_TE_MS,
        field_t=3.0,
        bandwidth_hz=2000.0,
        n_points=n_points,
        macromolecules=macromolecules,
    )


def simulate_phantom(basis: Basis | None = None, options: PhantomOptions | None = None) -> Phantom:
    """Simulate MRSI of a head.  The same seed and options give the same arrays.

    Spectra are FSL-MRS's model (see :mod:`fsl_mrs_dl.physics.signal_model`), its time beginning one dwell time after
    the echo, so that concentrations, widths, shifts and phases are the true values of a fit of the 'voigt' model
    without rescaling (``--no_rescale``).  Metabolites are those of the voxel alone; lipids of the scalp leak from voxel
    to voxel.

    Parameters
    ----------
    basis : Basis, optional
        Of 1H; its bandwidth is the data's.  :func:`default_basis` by default.
    options : PhantomOptions, optional

    Raises
    ------
    OptionError
        If the basis set is of another nucleus, or has too few points or known metabolites, or the grid holds no brain.
    """
    options = options or PhantomOptions()
    te_ms = options.te_ms
    if te_ms is None and basis is not None and basis.echo_time_s is not None:
        te_ms = 1e3 * basis.echo_time_s
    if basis is None:
        basis, te_ms = default_basis(options.n_points), DEFAULT_TE_MS if te_ms is None else te_ms
    options.check_basis(basis)
    table = tissue_concentrations(basis.names)
    # A stream of its own: all else stays the same.
    table = table * np.exp(np.random.default_rng([options.seed, 4]).normal(0, options.concentration_sd, table.shape))
    size, voxel_mm = options.size, options.voxel_mm
    affine = grid_affine(rotation_matrix(9.0, 1.0, 2.5), voxel_mm, size, (0.0, -17.0, 24.0))

    anatomy = draw_anatomy(options.seed, lesion=options.lesion, t1_mm=options.t1_mm)
    tissue = anatomy.fractions_on_grid(TISSUES, affine, size)
    mask = tissue["gm"] + tissue["wm"] + tissue["lesion"] > 0.5
    if not mask.any():
        raise OptionError(
            "no voxel holds brain",
            option="fov_mm",
            value=" ".join(f"{mm:g}" for mm in voxel_mm * size),
            remedy="give a larger `size`",
        )
    random = np.random.default_rng([options.seed, 2])
    shift = artefacts.ShiftField(random, anatomy, options.b0_hz)
    lipid_phase = RandomField(random, 75)
    conc, theta = _voxel_parameters(random, table, tissue, shift, affine)
    used = sum(tissue.values()) > 0.02

    axes = basis.axes.with_points(options.n_points)
    units_fids = basis.fids[:, : options.n_points]
    height = _median_height(units_fids, axes, conc[mask], {name: values[mask] for name, values in theta.items()})
    lipid_height = options.lipid_height * height * options.lipids
    lipids, lipid_hz = artefacts.scalp_lipids(anatomy, shift, lipid_phase, affine, size, lipid_height, options.k_filter)
    water = artefacts.residual_water(random, affine, tissue) * np.float32(options.water * height)

    fids = np.zeros((*size, options.n_points), np.complex64)
    heights = _fill_metabolites(fids, np.flatnonzero(used), conc, theta, units_fids, axes, water)
    _add_lipids(fids, lipids, lipid_hz, axes)
    heights[~used] = 0
    noise_sd = float(np.median(heights[mask]) / options.snr)
    _add_noise(fids, noise_sd, np.random.default_rng([options.seed, 3]))

    outside = np.where(used, np.float32(0), np.float32(np.nan))
    maps = {name: (values + outside).astype(np.float32) for name, values in theta.items()}
    maps |= {
        "noise_sd": np.full(size, noise_sd, np.float32),
        "snr": (heights / np.float32(noise_sd)).astype(np.float32),
        "lipid": np.abs(lipids.sum(-1)).astype(np.float32),
        "water": (np.abs(water) * used).astype(np.float32),
    }
    return Phantom(
        data=_acquisition(fids, axes, affine, te_ms),
        basis=basis,
        t1=anatomy.t1,
        t1_affine=anatomy.affine,
        tissue=tissue,
        mask=mask,
        concentrations={name: conc[..., column] * used for column, name in enumerate(basis.names)},
        maps=maps,
        truth={
            "options": _options_record(options, basis, te_ms),
            "noise_sd": noise_sd,
            "tissue_concentrations": _by_name_and_tissue(table, basis.names),
            **_DESCRIPTION,
        },
    )


def _acquisition(fids: np.ndarray, axes: Axes, affine: np.ndarray, te_ms: float | None) -> MrsData:
    header = {"SpectrometerFrequency": [axes.spec_freq_mhz], "ResonantNucleus": ["1H"], "RepetitionTime": 1.5}
    header |= {} if te_ms is None else {"EchoTime": te_ms / 1e3}
    return MrsData(fids, axes.dwelltime, axes.spec_freq_mhz, "1H", header=header, affine=affine)


def _options_record(options: PhantomOptions, basis: Basis, te_ms: float | None) -> dict:
    """Return the options as they are written to truth.json."""
    record = asdict(options)
    fov_mm = (options.voxel_mm * options.size).round(3).tolist()
    record |= {"size": list(options.size), "fov_mm": fov_mm, "te_ms": te_ms}
    return {"basis": basis.source} | {{"n_points": "points"}.get(name, name): value for name, value in record.items()}


def _by_name_and_tissue(table: np.ndarray, names) -> dict:
    """Return concentrations of pure tissue by name and tissue."""
    return {name: dict(zip(TISSUES, np.round(row, 4).tolist())) for name, row in zip(names, table.T)}


_DESCRIPTION = {
    "model": (
        "FSL-MRS's 'voigt' model, time from one dwell time after the echo; fit with --no_rescale to find the same"
        " numbers"
    ),
    "files": {
        "mrsi.nii.gz": "the acquisition, NIfTI-MRS",
        "basis": "basis set of the spectra",
        "mask.nii.gz": "voxels of which more than half is brain",
        "T1w.nii.gz": "structural image",
        "tissue_gm.nii.gz": "fraction of grey matter, deep nuclei included, 0 to 1",
        "tissue_wm.nii.gz": "fraction of white matter, 0 to 1",
        "tissue_csf.nii.gz": "fraction of cerebrospinal fluid, 0 to 1",
        "lesion.nii.gz": "fraction of the lesion, 0 to 1",
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


def _voxel_parameters(
    random: np.random.Generator, table: np.ndarray, tissue: dict[str, np.ndarray], shift: artefacts.ShiftField, affine
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return concentrations ``(x, y, z, n_metabs)`` and the parameters of the line shape ``(x, y, z)``, all float32."""
    fractions = np.stack([tissue[name] for name in TISSUES], -1)
    grid = (affine, fractions.shape[:3])
    conc = fractions @ table.astype(np.float32)
    for column in range(conc.shape[-1]):
        # Regions differ by some percent, differently for every metabolite.
        conc[..., column] *= 1 + np.float32(0.05) * RandomField(random, 80, n=16).on_grid(*grid)
    np.maximum(conc, 0, out=conc)
    lorentz = fractions @ np.array([4.2, 3.6, 2.5, 6.0], np.float32) / np.maximum(fractions.sum(-1), 1e-3)
    lorentz *= 1 + np.float32(0.08) * RandomField(random, 60).on_grid(*grid)
    # A slope of the field across a voxel has the variance of a box; a Gaussian of that variance replaces it.
    across = np.zeros(grid[1], np.float32)
    for axis in range(3):
        ends = (shift.on_grid(shifted_affine(affine, axis, step), grid[1]) for step in (0.5, -0.5))
        across += (next(ends) - next(ends)) ** 2
    theta = {
        "shift_hz": shift.on_grid(*grid),
        "lorentz_hz": np.maximum(lorentz, 0.5),
        "gauss_hz": np.sqrt(2.5**2 + 8 * np.log(2) / 12 * across),
        "phase_deg": 25 * RandomField(random, 150).on_grid(*grid),
    }
    return conc, {name: values.astype(np.float32) for name, values in theta.items()}


def _median_height(basis: np.ndarray, axes: Axes, conc: np.ndarray, theta: dict[str, np.ndarray]) -> float:
    """Return the largest metabolite peak of a spectrum with the median parameters of the brain, which lipids and water
    are scaled by."""
    time, lorentz_hz, gauss_hz = axes.time(), np.median(theta["lorentz_hz"]), np.median(theta["gauss_hz"])
    decay = np.exp(-np.pi * lorentz_hz * time - (np.pi * gauss_hz * time) ** 2 / (4 * np.log(2)))
    return float(np.abs(units.fid_to_spec((np.median(conc, 0) @ basis) * decay)).max())


def _fill_metabolites(
    fids: np.ndarray,
    rows: np.ndarray,
    conc: np.ndarray,
    theta: dict[str, np.ndarray],
    basis: np.ndarray,
    axes: Axes,
    water: np.ndarray,
) -> np.ndarray:
    """Fill metabolites and residual water into some FIDs (flat indices ``rows``); return the heights of the largest
    metabolite peak, float32 ``(x, y, z)``."""
    flat, heights = fids.reshape(-1, axes.n_points), np.zeros(fids.shape[:3], np.float32)
    conc, basis, t = conc.reshape(-1, conc.shape[-1]), basis.astype(np.complex64), axes.time().astype(np.float32)
    water, water_fid = water.reshape(-1, 1), artefacts.water_fid(axes)
    columns = {name: values.reshape(-1, 1) for name, values in theta.items()}
    for begin in range(0, len(rows), _ROWS):
        part = rows[begin : begin + _ROWS]
        one = {name: values[part] for name, values in columns.items()}
        shape = np.empty((len(part), len(t)), np.complex64)
        shape.real = (
            -np.float32(np.pi) * one["lorentz_hz"] * t
            - (np.float32(np.pi / math.sqrt(4 * np.log(2))) * one["gauss_hz"] * t) ** 2
        )
        shape.imag = np.float32(2 * np.pi) * one["shift_hz"] * t - np.deg2rad(one["phase_deg"])
        np.exp(shape, out=shape)
        metabolites = (conc[part].astype(np.complex64) @ basis) * shape
        heights.reshape(-1)[part] = np.abs(units.fid_to_spec(metabolites)).max(-1)
        flat[part] = metabolites + water[part] * water_fid * shape
    return heights


def _add_lipids(fids: np.ndarray, amplitudes: np.ndarray, shift_hz: np.ndarray, axes: Axes) -> None:
    """Add lipids of complex amplitudes ``(x, y, z, n_bins)`` at the shifts of their bins."""
    lines = artefacts.lipid_fid(axes) * np.exp(2j * np.pi * shift_hz[:, None] * axes.time())
    lines = lines.astype(np.complex64)
    flat, amplitudes = fids.reshape(-1, fids.shape[-1]), amplitudes.reshape(-1, amplitudes.shape[-1])
    for begin in range(0, len(flat), _ROWS):
        flat[begin : begin + _ROWS] += amplitudes[begin : begin + _ROWS] @ lines


def _add_noise(fids: np.ndarray, noise_sd: float, random: np.random.Generator) -> None:
    flat = fids.reshape(-1, fids.shape[-1])
    for begin in range(0, len(flat), _ROWS):
        part = flat[begin : begin + _ROWS]
        noise = random.standard_normal((*part.shape, 2), dtype=np.float32) * np.float32(noise_sd)
        part += noise.view(np.complex64)[..., 0]


def write_phantom(folder: str | Path, phantom: Phantom) -> None:
    """Write a phantom into an empty folder; ``truth.json`` describes its files."""
    import nibabel

    folder, grid = Path(folder), phantom.data.affine
    assert grid is not None  # of every phantom
    nifti.save(folder / "mrsi.nii.gz", phantom.data, method="Simulation", details="MRSI phantom")
    phantom.basis.save(folder / "basis", info="Basis set of an MRSI phantom.")

    def image(name: str, values: np.ndarray, affine: np.ndarray) -> None:
        volume = nibabel.Nifti1Image(values, affine)
        volume.header.set_xyzt_units("mm", "sec")
        volume.set_qform(affine, 1)
        volume.set_sform(affine, 1)
        nibabel.save(volume, folder / f"{name}.nii.gz")

    image("T1w", phantom.t1, phantom.t1_affine)
    for name in ("gm", "wm", "csf"):
        image(f"tissue_{name}", phantom.tissue[name], grid)
    image("lesion", phantom.tissue["lesion"], grid)
    image("mask", phantom.mask.astype(np.uint8), grid)
    (folder / "truth").mkdir()
    for name, values in (phantom.concentrations | phantom.maps).items():
        image(f"truth/{name}", values, grid)
    (folder / "truth.json").write_text(json.dumps(phantom.truth, indent=1), encoding="utf-8")
