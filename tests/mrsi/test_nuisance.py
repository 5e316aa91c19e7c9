"""Lipids of the scalp and water inside the likelihood of a volume's voxels, and their removal beforehand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import torch

from fsl_mrs_dl.cli.main import main
from fsl_mrs_dl.core.errors import OptionError
from fsl_mrs_dl.core.units import fid_to_spec
from fsl_mrs_dl.fitting.in_vivo.fit import Acquisition, prepare
from fsl_mrs_dl.fitting.in_vivo.solver import NormalEquations, Problem, likelihood
from fsl_mrs_dl.io import nifti
from fsl_mrs_dl.mrsi import assemble, plan, scratch
from fsl_mrs_dl.mrsi.job import VolumeOptions, scratch_of
from fsl_mrs_dl.mrsi.spatial import spatial_estimate
from fsl_mrs_dl.physics.baseline import Baseline
from fsl_mrs_dl.physics.nuisance import NuisanceSpace, Whitening, whitened_baseline
from fsl_mrs_dl.physics.smooth_baseline import make_smooth_baseline
from fsl_mrs_dl.simulation.artefacts import lipid_fid
from tests.mrsi.test_mrsi import CLASSICAL

pytestmark = pytest.mark.usefixtures("one_thread")
GRID = (8, 6, 1)
AFFINE = np.diag([10.0, 10.0, 10.0, 1.0])


def complex_normal(rng, *shape):
    return rng.standard_normal(shape) + 1j * rng.standard_normal(shape)


def test_whitening_is_that_of_the_whole_covariance(rng):
    """Nuisances, smooth baseline and what is free, each in its form, are one dense covariance."""
    ppm = np.linspace(0.2, 4.2, 48)
    baseline, root, strength = make_smooth_baseline(ppm), complex_normal(rng, 48, 5) * 3, 4.0
    whitening = Whitening.of(root)
    own = whitened_baseline(baseline, whitening)
    spectra = complex_normal(rng, 3, 48)
    once = whitening(spectra)
    once = once - (once @ own.free.conj()) @ own.free.T
    smooth = np.abs(once @ own.vectors.conj()) ** 2
    energy = (np.abs(once) ** 2).sum(-1) - (smooth * own.shares(strength)).sum(-1)
    cov = np.eye(48) + root @ root.conj().T + 1e7 * baseline.free @ baseline.free.conj().T
    cov = cov + strength**2 * (baseline.vectors * baseline.values) @ baseline.vectors.conj().T
    expected = np.einsum("bi,ij,bj->b", spectra.conj(), np.linalg.inv(cov), spectra).real
    np.testing.assert_allclose(energy, expected, rtol=1e-5)
    assert whitening.log_det == pytest.approx(np.linalg.slogdet(np.eye(48) + root @ root.conj().T)[1])


@pytest.mark.parametrize("words", ["off", "poly, 2", "spline, moderate"])
def test_nuisances_are_regressors_with_a_prior(rng, words):
    """The baseline of FSL-MRS's model with nuisances takes out what ridge regression does, and none does nothing."""
    plain = Baseline.parse(words, 60, 4.0)
    sd = np.array([0.0, 3.0, 0.5])
    beside = replace(plain, nuisance=complex_normal(rng, 60, 3), nuisance_sd=sd)
    spectra = complex_normal(rng, 60)
    n = 0 if words == "off" else plain.n_regressors
    used = np.concatenate([plain.regressors[:, :n], beside.nuisance[:, 1:]], 1)
    penalty = np.zeros((n + 2, n + 2))
    penalty[:n, :n] = plain.penalty[:n, :n]
    penalty[[n, n + 1], [n, n + 1]] = sd[1:] ** -2
    expected = np.linalg.lstsq(used.conj().T @ used + penalty, used.conj().T @ spectra, rcond=1e-12)[0]
    coefficients = beside.solver @ spectra
    np.testing.assert_allclose(beside.regressors @ coefficients, used @ expected, atol=1e-6)
    u, d = beside.projector
    once = spectra - u @ (d * (u.conj().T @ spectra))
    energy = np.vdot(spectra, spectra - used @ expected).real
    assert np.vdot(once, once).real == pytest.approx(energy, rel=1e-6)
    without = replace(plain, nuisance=complex_normal(rng, 60, 3), nuisance_sd=np.zeros(3))
    taken = [(u * d) @ u.conj().T for u, d in (without.projector, plain.projector)]
    np.testing.assert_allclose(*taken, atol=1e-9)


def test_steps_that_keep_derivatives_have_the_gradient_of_whitened_spectra(sim_basis, rng):
    axes = sim_basis.axes
    prepared = prepare(
        complex_normal(rng, 2, axes.n_points), sim_basis.fids, sim_basis.names, axes, Acquisition(0.035, 1.5)
    )
    model, window = prepared.model, prepared.model.window
    whitening = Whitening.of(3 * complex_normal(rng, window.n_window, 4))
    own = whitened_baseline(prepared.baseline, whitening)
    spectra = complex_normal(rng, 2, window.n_window)
    problem = Problem.make(model, spectra, np.ones(2), own, [1.0, 10.0], None, whitening)
    x = model.prior_mean.repeat(2, 1)
    share, normal = problem.shares[torch.tensor([0, 1])], NormalEquations.at(problem, x)
    near = normal.nearby(problem, x, x, share)
    for one, other in zip(likelihood(problem, normal, share), likelihood(problem, near, share)):
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-7, atol=1e-7 * float(one.abs().max()))


@pytest.fixture(scope="module")
def head(tmp_path_factory, sim_basis, simulate):
    """A volume whose outer voxels hold lipids only, which leak into the others; its truth; where the others are."""
    folder, rng = tmp_path_factory.mktemp("head"), np.random.default_rng(2)
    inside = np.zeros(GRID, bool)
    inside[1:-1, 1:-1] = True
    truth = simulate(int(inside.sum()), snr=40, seed=5)
    axes = sim_basis.axes
    noise = truth.noise_sd
    height = np.abs(fid_to_spec(truth.fids)).max()
    hz = rng.uniform(-8, 8, (int((~inside).sum()), 1))
    scalp = height * lipid_fid(axes) * np.exp(2j * np.pi * hz * axes.time()) * 20
    leak = complex_normal(rng, int(inside.sum()), len(scalp)) * 0.02
    fids = np.zeros((*GRID, axes.n_points), np.complex64)
    fids[inside] = truth.fids + leak @ scalp
    fids[~inside] = scalp + noise * complex_normal(rng, len(scalp), axes.n_points)
    nifti.save(folder / "mrsi.nii.gz", nifti.MrsData(fids, axes.dwelltime, axes.spec_freq_mhz, "1H", affine=AFFINE))
    nib.save(nib.Nifti1Image(inside.astype(np.uint8), AFFINE), folder / "mask.nii.gz")
    nib.save(nib.Nifti1Image((~inside).astype(np.uint8), AFFINE), folder / "scalp.nii.gz")
    sim_basis.save(folder / "basis", info="simulated")
    return folder, truth, inside


def fitted(head, output: Path, *more: str) -> Path:
    words = ["--data", "mrsi.nii.gz", "--basis", "basis", "--mask", "mask.nii.gz"]
    given = [word if word.startswith("--") else str(head[0] / word) for word in words]
    # Of an option that is given twice, the last counts.
    assert main(["mrsi", *given, "--output", str(output), "--device", "cpu", "--no_rescale", *more]) == 0
    return output


def read(folder: Path, name: str, inside: np.ndarray) -> np.ndarray:
    return np.asarray(nib.load(folder / f"{name}.nii.gz").dataobj)[inside]


def true_concentrations(head, sim_basis) -> np.ndarray:
    """Concentrations in units of the basis set."""
    scaled = head[1].model.basis.numpy()
    return head[1].conc * np.linalg.norm(scaled[0]) / np.linalg.norm(sim_basis.fids[0])


def errors(folder: Path, head, sim_basis) -> np.ndarray:
    """Errors of well-determined metabolites over their mean."""
    truth, out = true_concentrations(head, sim_basis), []
    for name in ("NAA", "Glu", "Ins"):
        true = truth[:, list(sim_basis.names).index(name)]
        out.append((read(folder, f"concs/raw/{name}", head[2]) - true) / true.mean())
    return np.array(out)


def test_lipids_inside_the_likelihood_leave_the_metabolites_right(head, sim_basis, tmp_path):
    plain = fitted(head, tmp_path / "none", "--spectral-model", "fsl-mrs", "--no_spectra")
    ours = fitted(head, tmp_path / "ours", "--spectral-model", "fsl-mrs", "--nuisance", "subspace")
    rmse = [np.sqrt(np.mean(errors(folder, head, sim_basis) ** 2)) for folder in (plain, ours)]
    assert rmse[1] < 0.5 * rmse[0]
    truth, inside, held = true_concentrations(head, sim_basis), head[2], []
    for column, name in enumerate(sim_basis.names):
        low, high = (read(ours, f"uncertainties/{name}_ci95_{end}", inside) for end in ("low", "high"))
        held.append((low <= truth[:, column]) & (truth[:, column] <= high))
    assert np.mean(held) > 0.9
    # Lipids are part of the baseline that is shown, so that the residual is noise.
    assert np.median(read(ours, "quality/misfit", inside)) < 1.3
    residual, data = (nifti.load(path).fids[inside] for path in (ours / "fit/residual.nii.gz", head[0] / "mrsi.nii.gz"))
    first, last = sim_basis.axes.window((0.8, 1.8))
    power = [np.square(np.abs(fid_to_spec(each)[..., first:last])).mean() for each in (residual, data)]
    assert power[0] < 0.1 * power[1]


@pytest.mark.parametrize("kind", ["l2", "hlsvd"])
def test_lipids_can_be_removed_beforehand(head, sim_basis, tmp_path, kind):
    few = np.zeros(GRID, np.uint8)
    few[2:4, 2:4] = 1
    nib.save(nib.Nifti1Image(few, AFFINE), tmp_path / "few.nii.gz")
    more = ["--spectral-model", "fsl-mrs", "--no_spectra", "--mask", str(tmp_path / "few.nii.gz")]
    scalp = ["--nuisance", kind, "--lipid-mask", str(head[0] / "scalp.nii.gz")]
    rows = few[head[2]] > 0
    plain = errors(fitted(head, tmp_path / "none", *more), head, sim_basis)[:, rows]
    cleaned = errors(fitted(head, tmp_path / kind, *more, *scalp), head, sim_basis)[:, rows]
    assert np.sqrt(np.mean(cleaned**2)) < np.sqrt(np.mean(plain**2))


@pytest.mark.parametrize("model", ["fsl-mrs", "in-vivo"])
def test_a_resumed_job_has_the_same_nuisances(head, sim_basis, tmp_path, model):
    options = replace(CLASSICAL, spectral_model=model, estimate="")
    volume_options = VolumeOptions(nuisance="subspace")
    arguments = (head[0] / "mrsi.nii.gz", sim_basis, tmp_path / "out", options, volume_options)
    job, _ = plan.prepare(*arguments, mask=head[0] / "mask.nii.gz")
    _, decided = scratch.load_plan(scratch_of(tmp_path / "out"))
    space, again = job.nuisance, decided["nuisance"]
    assert len(space.lipids) and isinstance(again, NuisanceSpace)
    np.testing.assert_array_equal(space.lipids, again.lipids)
    if model == "in-vivo":
        np.testing.assert_array_equal(job.in_vivo.nuisance.lipids, decided["in_vivo"].nuisance.lipids)
        with pytest.raises(OptionError, match="there is no such thing"):
            plan.prepare(*arguments[:4], VolumeOptions(nuisance="wiped"), mask=head[0] / "mask.nii.gz")


def test_neighbours_share_what_they_have_in_common_and_keep_a_lesion():
    """Two metabolites of which one hardly shows: its error falls, the lesion's contrast stays, intervals hold."""
    rng, grid = np.random.default_rng(0), (14, 14, 2)
    place = np.stack(np.meshgrid(*(np.arange(n) for n in grid), indexing="ij"), -1).reshape(-1, 3)
    lesion = np.linalg.norm(place - [4, 4, 0.5], axis=1) < 3
    slope = 1 + 0.1 * place[:, 0] / grid[0]
    truth = np.stack([slope * (1 - 0.5 * lesion), slope * (1 + 0.5 * lesion)], 1)
    cov = np.array([[0.0025, -0.005], [-0.005, 0.09]])
    estimates = truth + rng.standard_normal(truth.shape) @ np.linalg.cholesky(cov).T
    estimates[5] = np.nan
    result = spatial_estimate(
        estimates, np.broadcast_to(cov, (len(truth), 2, 2)), np.arange(len(truth)), grid, np.array([8.0, 8.0, 8.0])
    )
    good = np.isfinite(estimates).all(1)
    assert np.isnan(result.mean[5]).all()
    rmse, before = (np.sqrt(np.mean((each[good, 1] - truth[good, 1]) ** 2)) for each in (result.mean, estimates))
    assert rmse < 0.6 * before
    contrast, true = (np.nanmean(each[lesion, 1]) - np.nanmean(each[~lesion, 1]) for each in (result.mean, truth))
    assert abs(contrast / true - 1) < 0.1
    low, high = result.interval([1])
    assert np.mean((low <= truth[:, 1])[good] & (truth[:, 1] <= high)[good]) > 0.93
    np.testing.assert_allclose(result.of_sum([1])[0], result.mean[:, 1])


def test_voxels_without_a_position_are_neighbours_too(monkeypatch):
    own, cov = np.ones((4, 1)), np.full((4, 1), 0.01)
    monkeypatch.setattr(assemble, "gather", lambda job, names: [own, cov])
    volume = SimpleNamespace(about=SimpleNamespace(affine=None), grid=(2, 2, 1))
    job = SimpleNamespace(volume=volume, index=np.arange(4), tissue=None)
    np.testing.assert_allclose(assemble._spatial_maps(job, ["NAA"], ["NAA"])["conc-spatial"], 1, atol=0.05)
