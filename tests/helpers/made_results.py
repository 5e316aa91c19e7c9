"""Folders of results in the forms that the viewer opens, made from exponentials with NumPy alone, and a T1 beneath
them."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np

from fsl_mrs_dl.core import units
from fsl_mrs_dl.io import nifti
from fsl_mrs_dl.results import layout

SHAPE, N_POINTS, DWELL, FREQ = (6, 5, 3), 512, 1 / 2000, 123.2
METABS = ("NAA", "Cr", "PCr", "Ins")
LINES = {
    "NAA": ((2.01, 3), (2.6, 1)),
    "Cr": ((3.03, 3), (3.91, 2)),
    "PCr": ((3.05, 3), (3.93, 2)),
    "Ins": ((3.52, 4), (4.05, 1)),
}
WIDTH = 8.0  # 1/s
FAILED, BAD_FIT, STRANGE, SURE = (1, 3, 1), (2, 3, 1), (4, 1, 1), (2, 2, 1)
AFFINE = np.array([[10.0, 0, 0, -25], [0, 10, 0, -20], [0, 0, 12, -6], [0, 0, 0, 1]])

# Turned by 25 degrees about the axis from left to right; y runs to the back and z to the feet.
_TURN = np.deg2rad(25)
OBLIQUE = np.eye(4)
OBLIQUE[:3, :3] = np.array(
    [[10, 0, 0], [0, -10 * np.cos(_TURN), 12 * np.sin(_TURN)], [0, -10 * np.sin(_TURN), -12 * np.cos(_TURN)]]
)
OBLIQUE[:3, 3] = -OBLIQUE[:3, :3] @ np.array([2.5, 2, 1])


def basis() -> np.ndarray:
    """One unit of each metabolite in memory, complex ``(n_metabs, n_points)``."""
    time = units.time_axis(N_POINTS, DWELL)
    rows = []
    for metab in METABS:
        hz = [units.ppm_to_hz(ppm, FREQ) for ppm, _ in LINES[metab]]
        rows.append(sum(n * np.exp(2j * np.pi * f * time) for f, (_, n) in zip(hz, LINES[metab])) * np.exp(-4 * time))
    return np.array(rows)


def concentrations() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Concentrations and SDs ``(x, y, z, n_metabs)``, and which voxels were fitted; the corner at the end is unsure,
    the first column is outside."""
    rng = np.random.default_rng(3)
    x, y, _ = np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij")
    level = np.array([10.0, 5.0, 3.0, 6.0])
    conc = level * (1 + 0.04 * x[..., None] + 0.03 * rng.standard_normal((*SHAPE, len(METABS))))
    sd = 0.03 * level * np.where((x >= 4) & (y >= 3), 15.0, 1.0)[..., None] * np.ones_like(conc)
    sd[SURE] = 0.02 * level
    fitted = x > 0
    fitted[FAILED] = False
    return conc * fitted[..., None], sd * fitted[..., None], fitted


def spectra(conc: np.ndarray, noise: float = 0.2) -> dict[str, np.ndarray]:
    """Fit, baseline and residual in memory, complex ``(x, y, z, n_points)``."""
    rng = np.random.default_rng(5)
    time = units.time_axis(N_POINTS, DWELL)
    fit = conc @ (basis() * np.exp(-WIDTH * time))
    where = (conc.sum(-1) > 0)[..., None]
    broad = 4 * np.exp(2j * np.pi * units.ppm_to_hz(1.3, FREQ) * time - 150 * time) * where
    residual = noise * (rng.standard_normal(fit.shape) + 1j * rng.standard_normal(fit.shape)) * where
    return {"fit": fit + broad, "baseline": broad, "residual": residual}


def _save(path: Path, values: np.ndarray, affine=AFFINE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(np.asarray(values, np.float32), affine), path)


def _save_fids(path: Path, fids: np.ndarray, affine=AFFINE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    header = {"SpectrometerFrequency": [FREQ], "ResonantNucleus": ["1H"]}
    nifti.save(path, nifti.MrsData(fids.astype(np.complex64), DWELL, FREQ, "1H", header=header, affine=affine))


def t1(path: Path) -> Path:
    """A ball with two kinds of tissue, 4 mm voxels."""
    grid = np.indices((30, 30, 24)).transpose(1, 2, 3, 0) * 4.0 - np.array([58, 58, 46])
    radius = np.linalg.norm(grid, axis=-1)
    affine = np.diag([4.0, 4, 4, 1])
    affine[:3, 3] = (-58, -58, -46)
    _save(
        path,
        np.select([radius < 25, radius < 45], [800, 500], 0) + 20 * np.sin(grid[..., 0] / 5) * (radius < 45),
        affine,
    )
    return path


def mrsi(folder: Path, *, model: bool = True, affine=AFFINE) -> Path:
    """What ``fsl_mrs_dl mrsi`` writes."""
    conc, sd, fitted = concentrations()
    reference = conc[..., 1:3].sum(-1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.nan_to_num(conc / reference)
        percent = np.nan_to_num(100 * sd / conc)
    pull = np.clip(percent / 100, 0, 1) * fitted[..., None]
    per_metab = {
        "raw-concentrations": conc,
        "conc-internal": ratio,
        "conc-ml": conc,
        "conc-posterior": 0.97 * conc,
        "ratio-ml": ratio,
        "sd": percent,
        "crlb-sd": sd,
        "posterior-sd": 0.8 * sd,
        "ratio-sd": np.nan_to_num(ratio * percent / 100),
        "prior-pull": pull,
        "mostly-prior": pull > 0.3,
        "at-zero": np.zeros_like(conc),
        "SNR": 30.0 * (conc > 0),
        "FWHM": 5.0 * (conc > 0),
    }
    failed = np.zeros(SHAPE)
    failed[FAILED], failed[BAD_FIT] = 2, 1
    ood = np.where(fitted, 0.4, 0)
    ood[STRANGE] = 3.0
    whole = {
        "misfit": np.where(fitted, 1.02, 0),
        "ood-score": ood,
        "noise-sd": 0.2 * fitted,
        "failed": failed,
        "fitted": fitted,
    }
    for key, values in per_metab.items():
        for row, metab in enumerate(METABS):
            _save(folder / layout.by_key(key).path(metab), values[..., row], affine)
    for key, values in whole.items():
        _save(folder / layout.by_key(key).path(), values, affine)
    for what, fids in spectra(conc).items():
        _save_fids(folder / layout.SPECTRA[f"fit-{what}"], fids, affine)
    for key in whole:  # links that offer what a voxel has once in the viewer of FSL-MRS
        one = layout.by_key(key)
        for metab in METABS:
            link = folder / layout.OF_VOXEL.format(metab=metab) / one.template.split("/")[-1]
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(folder / one.template)
    (folder / layout.TREE).write_text(layout.tree_text({*per_metab, *whole, *layout.SPECTRA}))
    (folder / layout.COLOURS).write_text(layout.colourscheme_text())
    (folder / "options.txt").write_text(json.dumps({"internal_ref": ["Cr", "PCr"]}) + "\n--------\n")
    if model:
        write_model(folder, conc, sd, fitted)
    return folder


def slice_numbers(folder: Path) -> Path:
    """Results on a grid that is oblique to :func:`t1`, with the number of the slice, from 1 on, as NAA's concentration.

    Its axes are stored in another order and direction than right, anterior, superior.
    """
    mrsi(folder, affine=OBLIQUE)
    numbers = 1.0 + np.broadcast_to(np.arange(SHAPE[2]), SHAPE)
    for key, values in (("conc-ml", numbers), ("crlb-sd", 0.01 * numbers)):
        _save(folder / layout.by_key(key).path("NAA"), values, OBLIQUE)
    for key, value in (("fitted", 1), ("failed", 0), ("ood-score", 0.4)):
        _save(folder / layout.by_key(key).path(), np.full(SHAPE, value), OBLIQUE)
    return folder


def in_vivo(folder: Path) -> Path:
    """What it writes of fits with the in-vivo model, but for the model."""
    mrsi(folder, model=False)
    names = {
        "conc-ml": "conc-in-vivo",
        "ratio-ml": "ratio-in-vivo",
        "crlb-sd": "in-vivo-sd",
        "ratio-sd": "in-vivo-ratio-sd",
    }
    for old, new in names.items():
        for metab in METABS:
            target = folder / layout.by_key(new).path(metab)
            target.parent.mkdir(parents=True, exist_ok=True)
            (folder / layout.by_key(old).path(metab)).rename(target)
    return folder


def write_model(folder: Path, conc: np.ndarray, sd: np.ndarray, fitted: np.ndarray, n_points: int = N_POINTS) -> None:
    """What :class:`fsl_mrs_dl.results.model_file.Evaluator` reads: Lorentzian, one group, no baseline, only
    concentrations uncertain."""
    target = folder / layout.MODEL
    target.mkdir(parents=True)
    n = len(METABS)
    rows = np.flatnonzero(fitted)
    params = np.concatenate([conc.reshape(-1, n), np.tile([WIDTH, 0.0, 0.0, 0.0], (fitted.size, 1))], axis=1)[rows]
    cov = np.zeros((len(rows), n + 4, n + 4))
    cov[:, range(n), range(n)] = sd.reshape(-1, n)[rows] ** 2
    first, last = units.window_indices(units.ppm_axis(n_points, DWELL, FREQ), (0.2, 4.2))
    about = {
        "names": METABS,
        "groups": [0] * n,
        "model": "lorentzian",
        "gaussian": False,
        "free_shift": False,
        "dwelltime": DWELL,
        "spec_freq_mhz": FREQ,
        "nucleus": "1H",
        "window": [first, last],
        "baseline": "off",
        "fid_scale": 1.0,
        "conjugated": False,
        "grid": conc.shape[:3],
    }
    (target / "model.json").write_text(json.dumps(about))
    arrays = {
        "basis": basis().astype(np.complex64),
        "projector_u": np.zeros((last - first, 0), np.float32),
        "projector_d": np.zeros(0, np.float32),
        "rows": rows.astype(np.int32),
        "params": params.astype(np.float32),
        "cov": cov[(slice(None), *np.tril_indices(n + 4))].astype(np.float32),
        "noise_sd": np.full(len(rows), 0.2, np.float32),
    }
    for name, values in arrays.items():
        np.save(target / f"{name}.npy", values)


def fsl_mrsi(folder: Path) -> Path:
    """What FSL-MRS's own fsl_mrsi writes."""
    conc, sd, _ = concentrations()
    with np.errstate(divide="ignore", invalid="ignore"):
        percent = np.nan_to_num(100 * sd / conc)
    for key, values in {
        "raw-concentrations": conc,
        "sd": percent,
        "SNR": 30 * (conc > 0),
        "FWHM": 5 * (conc > 0),
    }.items():
        for row, metab in enumerate(METABS):
            _save(folder / layout.by_key(key).path(metab), values[..., row])
    for what, fids in spectra(conc).items():
        _save_fids(folder / layout.SPECTRA[f"fit-{what}"], fids)
    return folder


def svs(folder: Path, *, plain: bool = True) -> Path:
    """What FSL-MRS's own fsl_mrs writes (``plain``), or fsl_mrs_dl fit."""
    folder.mkdir(parents=True, exist_ok=True)
    conc, sd, _ = concentrations()
    conc, sd = conc[SURE], sd[SURE]
    ratio = conc / conc[1:3].sum()
    lines = ["Metabs,mean,mean,std,std", ",raw,internal,raw,internal"]
    lines += [f"{m},{c},{r},{s},{r * s / c}" for m, c, r, s in zip(METABS, conc, ratio, sd)]
    (folder / "concentrations.csv").write_text("\n".join(lines) + "\n")
    lines = ["Metab,/Cr+PCr,/Cr+PCr CRLB,%CRLB,SNR,FWHM"]
    lines += [f"{m},{r},{r * s / c},{100 * s / c},30.0,5.1" for m, c, r, s in zip(METABS, conc, ratio, sd)]
    (folder / "summary.csv").write_text("\n".join(lines) + "\n")
    (folder / "qc.csv").write_text("Metab,SNR,FWHM\n" + "".join(f"{m},30.0,5.1\n" for m in METABS))
    affine = np.diag([20.0, 25, 30, 1])
    affine[:3, :3] = affine[:3, :3] @ np.array([[0.966, -0.259, 0], [0.259, 0.966, 0], [0, 0, 1]])
    made = spectra(conc[None, None, None])
    _save_fids(folder / "fit.nii.gz", made["fit"], affine)
    _save_fids(folder / "fit_baseline.nii.gz", made["baseline"], affine)
    _save_fids(folder / "data.nii.gz", made["fit"] + made["residual"], affine)
    if not plain:
        head = (
            "Metab,conc,crlb_sd,crlb_pct,ratio,ratio_sd,at_zero,posterior_mean,posterior_sd,prior_pull,mostly_prior,"
            "prior_conflict,misfit,ood_score,converged,usable"
        )
        rows = [
            f"{m},{c},{s},{100 * s / c},{r},{r * s / c},False,{c},{s},{0.7 if m == 'Ins' else 0.1},{m == 'Ins'},False,"
            "1.05,1.7,True,True"
            for m, c, r, s in zip(METABS, conc, ratio, sd)
        ]
        (folder / "uncertainty.csv").write_text("\n".join([head, *rows]) + "\n")
        write_model(folder, conc[None, None, None], sd[None, None, None], np.ones((1, 1, 1), bool))
    return folder


if __name__ == "__main__":
    import sys

    out = Path(sys.argv[1])
    t1_path = t1(out / "T1.nii.gz")
    mrsi(out / "mrsi")
    fsl_mrsi(out / "fsl_mrsi")
    svs(out / "fsl_mrs")
    svs(out / "fit", plain=False)
