"""Quantification from end to end: known truths, the Cramer-Rao bound, invariances, and FSL-MRS's own fits."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from helpers.fsl_mrs_grid import as_fsl_mrs

from fsl_mrs_dl import quantify
from fsl_mrs_dl.core import units
from fsl_mrs_dl.core.axes import Axes
from fsl_mrs_dl.core.device import choose_device
from fsl_mrs_dl.core.errors import BasisError, DataError, OptionError
from fsl_mrs_dl.fitting import quantify as quantify_module
from fsl_mrs_dl.fitting.options import FitOptions
from fsl_mrs_dl.fitting.quantify import model_for
from fsl_mrs_dl.io import nifti
from fsl_mrs_dl.io.basis import Basis
from fsl_mrs_dl.physics.signal_model import MODELS

AXES = {"dwelltime": 1 / 2000, "spec_freq_mhz": 123.2, "device": "cpu"}


class StartAt:
    """Begins each spectrum where it is told: at the truth."""

    name = "told"

    def __init__(self, params):
        self.params = params

    def __call__(self, spec, model, names):
        theta, _, _ = model.unpack(torch.as_tensor(self.params))
        assert len(theta) == len(spec)
        return theta[:, None]


# ---- simulated spectra


def test_estimates_sit_on_the_cramer_rao_bound(simulate, sim_basis):
    truth = simulate(200, snr=120, seed=21, model="lorentzian", shift_ppm=0.1, phase_deg=90, baseline_size=1.0)
    fits = quantify(truth.fids, sim_basis, model="lorentzian", **AXES)
    assert fits.converged.all() and fits.usable.all()
    z = (fits.conc / fits.fid_scale - truth.conc) / (fits.crlb_sd / fits.fid_scale)
    # Where zero is within reach the estimate is one-sided and the bound is not its SD.
    clear = truth.conc > 4 * fits.crlb_sd / fits.fid_scale
    assert clear.mean() > 0.9
    assert abs(z[clear].mean()) < 0.12
    assert 0.85 < z[clear].std() < 1.15
    assert np.mean(fits.noise_sd) / fits.fid_scale == pytest.approx(truth.noise_sd, rel=0.03)


@pytest.mark.parametrize("name", MODELS)
def test_every_model_finds_the_truth_without_noise(simulate, sim_basis, name):
    truth = simulate(6, seed=22, model=name, shift_ppm=0.05, phase_deg=60, baseline_size=1.0)
    fits = quantify(truth.fids, sim_basis, model=name, max_iter=200, **AXES)
    assert fits.model.name == name
    energy = np.sum(np.abs(units.fid_to_spec(fits.fids)) ** 2, axis=1)
    found = fits.cost / energy < 1e-6
    # Overlapping metabolites that may move past one another leave free shifts a local minimum here and there.
    assert found.sum() >= 6
    size = truth.conc.max()
    np.testing.assert_allclose((fits.conc / fits.fid_scale / size)[found], (truth.conc / size)[found], atol=2e-4)
    np.testing.assert_allclose(
        fits.block("eps")[found], truth.model.split(torch.as_tensor(truth.params))["eps"][found], atol=0.05
    )
    first, last = fits.model.window
    spectra, data = fits.spectra()[found, first:last], units.fid_to_spec(fits.fids)[found, first:last]
    assert np.abs(spectra - data).max() < 1e-3 * np.abs(data).max()


@pytest.mark.parametrize("words", ["off", "poly, 2", "spline, stiff"])
@pytest.mark.parametrize("name", MODELS)
def test_every_model_and_baseline_fits_noise_down_to_noise(simulate, sim_basis, name, words):
    truth = simulate(4, snr=60, seed=23, model=name)
    fits = quantify(truth.fids, sim_basis, model=name, baseline=words, **AXES)
    assert np.isfinite(fits.params).all()
    assert np.isfinite(fits.crlb_sd).all()
    np.testing.assert_allclose(fits.misfit, 1, atol=0.15)
    if name != "negativevoigt":
        assert (fits.conc >= 0).all()


def test_groups_have_widths_and_shifts_of_their_own(simulate, sim_basis):
    groups = sim_basis.groups(["NAA", "Cr"])
    truth = simulate(4, seed=24, groups=groups)
    fits = quantify(truth.fids, sim_basis, metab_groups=groups, max_iter=200, **AXES)
    assert fits.block("eps").shape == (4, 3)
    size = truth.conc.max()
    np.testing.assert_allclose(fits.conc / fits.fid_scale / size, truth.conc / size, atol=1e-3)


def test_negative_concentrations(simulate, sim_basis):
    factor = np.ones(sim_basis.n_metabs)
    factor[sim_basis.names.index("Lac")] = -3
    truth = simulate(8, snr=150, seed=25, model="negativevoigt", conc_factor=factor)
    lac = sim_basis.names.index("Lac")
    fits = quantify(truth.fids, sim_basis, model="negativevoigt", **AXES)
    error = (fits.conc / fits.fid_scale - truth.conc) / (fits.crlb_sd / fits.fid_scale)
    assert (fits.conc[:, lac] < 0).all()
    assert np.abs(error[:, lac]).max() < 4
    held = quantify(truth.fids, sim_basis, model="voigt", **AXES)
    assert (held.conc >= 0).all()
    assert (held.cost > fits.cost).all()


@pytest.mark.parametrize("init", ["classical", None])
@pytest.mark.parametrize("inverted", ["all", "NAA"])
def test_signs_are_those_of_the_data_as_they_are_phased(simulate, sim_basis, inverted, init):
    """All signs reversed and half a turn are the same spectrum: an inverted one must not become an upright one."""
    factor = np.array([-1.0 if inverted in ("all", name) else 1.0 for name in sim_basis.names])
    truth = simulate(16, snr=80, seed=27, model="negativevoigt", conc_factor=factor)
    fits = quantify(truth.fids, sim_basis, model="negativevoigt", init=init, **AXES)
    strong = [sim_basis.names.index(name) for name in ("NAA", "Cr", "Glu", "Ins")]
    np.testing.assert_array_equal(np.sign(fits.conc[:, strong]), np.sign(truth.conc[:, strong]))
    assert np.abs(fits.block("phi0")).max() < np.pi / 2
    error = (fits.conc / fits.fid_scale - truth.conc) / (fits.crlb_sd / fits.fid_scale)
    assert np.abs(error).max() < 5
    # The covariance belongs to the signs.
    other = quantify(-truth.fids, sim_basis, model="negativevoigt", init=init, **AXES)
    m = sim_basis.n_metabs
    sign = np.where(np.arange(fits.cov.shape[1]) < m, -1.0, 1.0)
    size = np.sqrt(np.diagonal(fits.cov, axis1=1, axis2=2))
    size = size[:, :, None] * size[:, None]
    np.testing.assert_allclose(other.cov / size, fits.cov * np.outer(sign, sign) / size, atol=1e-3)
    np.testing.assert_allclose(other.conc, -fits.conc, atol=1e-3 * np.abs(fits.conc).max())


@pytest.mark.parametrize("seed", [31, 32])
def test_any_phase_and_large_shifts_reach_the_optimum(simulate, sim_basis, seed):
    truth = simulate(64, snr=30, seed=seed, shift_ppm=0.3, phase_deg=180, spread=0.4)
    fits = quantify(truth.fids, sim_basis, **AXES)
    from_truth = quantify(truth.fids, sim_basis, initial_values=StartAt(truth.params), **AXES)
    assert from_truth.init == "told"
    assert np.mean(fits.cost <= from_truth.cost * (1 + 1e-6)) >= 0.97
    assert fits.converged.mean() >= 0.97


def test_unusable_rows_are_marked_and_do_no_harm(simulate, sim_basis):
    truth = simulate(6, snr=60, seed=26)
    fids = truth.fids.copy()
    fids[1, 100] = np.nan
    fids[3] = 0
    fids[4, 0] = np.inf
    fits = quantify(fids, sim_basis, **AXES)
    assert fits.usable.tolist() == [True, False, True, False, False, True]
    for values in (fits.params, fits.cov, fits.cost, fits.noise_sd, fits.noise_outside_sd):
        assert np.isnan(values[[1, 3, 4]]).all()
        assert np.isfinite(values[[0, 2, 5]]).all()
    assert not fits.converged[[1, 3, 4]].any()
    alone = quantify(fids[[0, 2, 5]], sim_basis, **AXES)
    np.testing.assert_allclose(fits.conc[[0, 2, 5]], alone.conc, rtol=1e-6, atol=1e-8)


def test_rows_do_not_know_of_each_other(simulate, sim_basis):
    truth = simulate(5, snr=60, seed=27)
    together = quantify(truth.fids, sim_basis, **AXES)
    order = [3, 0, 4, 1, 2]
    np.testing.assert_allclose(
        quantify(truth.fids[order], sim_basis, **AXES).conc, together.conc[order], rtol=1e-6, atol=1e-8
    )
    for row in range(5):
        alone = quantify(truth.fids[row], sim_basis, **AXES)
        # The stopping rule leaves a thousandth of a standard deviation.
        sd = together.crlb_sd[row] / together.fid_scale
        assert (np.abs(alone.conc[0] / alone.fid_scale - together.conc[row] / together.fid_scale) < 5e-3 * sd).all()
        assert alone.cost[0] / alone.fid_scale**2 == pytest.approx(together.cost[row] / together.fid_scale**2, rel=1e-6)


def test_leading_dimensions_are_rows(simulate, sim_basis):
    truth = simulate(4, snr=60, seed=27)
    flat = quantify(truth.fids, sim_basis, **AXES)
    cube = quantify(truth.fids.reshape(2, 1, 2, -1), sim_basis, **AXES)
    np.testing.assert_array_equal(cube.conc, flat.conc)


def test_chunks_do_not_show(simulate, sim_basis, monkeypatch):
    truth = simulate(7, snr=60, seed=27)
    whole = quantify(truth.fids, sim_basis, **AXES)
    seen = []
    monkeypatch.setattr(quantify_module, "rows_per_batch", lambda *_: 3)
    parts = quantify(truth.fids, sim_basis, progress=seen.append, **AXES)
    assert seen == [4, 3]
    np.testing.assert_allclose(parts.conc, whole.conc, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("factor", [1e6, 1e-9])
def test_the_scale_of_data_and_basis_does_not_matter(simulate, sim_basis, factor):
    truth = simulate(5, snr=60, seed=28)
    fits = quantify(truth.fids, sim_basis, **AXES)
    louder = quantify(truth.fids * factor, sim_basis, **AXES)
    np.testing.assert_allclose(louder.conc, fits.conc, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(louder.crlb_sd, fits.crlb_sd, rtol=1e-5)
    assert louder.fid_scale * factor == pytest.approx(fits.fid_scale)
    other = quantify(truth.fids, dataclasses.replace(sim_basis, fids=sim_basis.fids * factor), **AXES)
    np.testing.assert_allclose(other.conc, fits.conc, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(other.basis_scale * factor, fits.basis_scale, rtol=1e-9)


def test_without_rescaling_concentrations_come_in_the_basis_units(simulate, sim_basis):
    truth = simulate(4, snr=100, seed=29)
    scaled = quantify(truth.fids, sim_basis, **AXES)
    plain = quantify(truth.fids, sim_basis, rescale=False, **AXES)
    assert plain.fid_scale == 1
    assert (plain.basis_scale == 1).all()
    expected = scaled.conc * scaled.basis_scale / scaled.fid_scale
    assert (np.abs(plain.conc - expected) < 5e-3 * plain.crlb_sd).all()


def test_scaling_is_fsl_mrs_s(sim_basis):
    model, scale = model_for(sim_basis, Axes(1024, 1 / 2000, 123.2, "1H"), FitOptions(ind_scale=["Lac"]))
    lac = sim_basis.names.index("Lac")
    others = np.delete(model.basis.numpy(), lac, axis=0)
    assert np.linalg.norm(others.mean(0)) == pytest.approx(100)
    assert np.linalg.norm(model.basis[lac].numpy()) == pytest.approx(100)
    assert len(set(np.round(np.delete(scale, lac), 9))) == 1


def test_the_parts_of_a_fit(simulate, sim_basis):
    truth = simulate(3, snr=60, seed=30)
    fits = quantify(truth.fids, sim_basis, **AXES)
    parts = sum(fits.spectra(name) for name in fits.names)
    np.testing.assert_allclose(fits.spectra("no baseline"), parts, atol=1e-9)
    np.testing.assert_allclose(fits.spectra(), parts + fits.spectra("baseline"), atol=1e-9)
    np.testing.assert_allclose(fits.spectra("NAA+Cr"), fits.spectra("NAA") + fits.spectra("Cr"), atol=1e-9)
    first, last = fits.model.window
    left = (units.fid_to_spec(fits.fids) - fits.spectra())[:, first:last]
    np.testing.assert_allclose(np.sum(np.abs(left) ** 2, axis=1), fits.cost, rtol=1e-8)
    with pytest.raises(OptionError, match="metabolite Tau: was not fitted; there are Asp"):
        fits.table(["NAA+Tau"])


# ---- what is wrong is said


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"model": "gauss"}, OptionError, "model 'gauss': unknown"),
        ({"baseline": "poly"}, OptionError, "baseline 'poly': incomplete"),
        ({"metab_groups": [0, 1]}, OptionError, "one index per metabolite"),
        ({"ppmlim": (1.0, 1.01)}, OptionError, "at least 16"),
        ({"ind_scale": ["Mac"]}, OptionError, "ind_scale Mac: not in the simulated set"),
        ({"spec_freq_mhz": 297.2}, BasisError, "use a basis set of that field strength"),
        ({"nucleus": "31P"}, BasisError, "use a basis set of that nucleus"),
        ({"dwelltime": 1 / 1000}, BasisError, "simulate it with more points"),
        ({"device": "cuda"}, OptionError, "no CUDA device"),
    ],
)
def test_errors(simulate, sim_basis, monkeypatch, options, error, message):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(error, match=message):
        quantify(simulate(2, seed=1).fids, sim_basis, **(AXES | options))


def test_errors_in_the_data(sim_basis):
    with pytest.raises(DataError, match="real numbers"):
        quantify(np.ones((2, 1024)), sim_basis, **AXES)
    for value in (0, np.nan):
        with pytest.raises(DataError, match="every FID is zero or holds NaN"):
            quantify(np.full((2, 1024), value, complex), sim_basis, **AXES)
    with pytest.raises(DataError, match="the FIDs begin with 5 zeros"):
        quantify(np.repeat([[0, 1 + 1j]], (5, 1019), axis=1), sim_basis, **AXES)


def test_a_nucleus_without_usual_window_needs_one(sim_basis):
    fluorine = dataclasses.replace(sim_basis, nucleus="19F")
    with pytest.raises(OptionError, match="ppmlim: there is no usual window for 19F"):
        model_for(fluorine, Axes(1024, 1 / 2000, 123.2, "19F"))


def test_devices(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto").type == choose_device("cpu").type == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto").type == "cuda"


# ---- a real spectrum and FSL-MRS's fits of it


@pytest.fixture(scope="module")
def invivo(invivo_3t, invivo_basis_path):
    data = nifti.load(invivo_3t)
    axes = {"dwelltime": data.dwelltime, "spec_freq_mhz": data.spec_freq_mhz, "device": "cpu"}
    # The fits that they are compared with are of these spectra, whose first points ring.
    basis = as_fsl_mrs(Basis.load(invivo_basis_path), data.dwelltime, data.n_points)
    return data.fids[0, 0, 0], basis, axes


@pytest.mark.parametrize("name", ["voigt", "lorentzian"])
def test_a_real_spectrum_as_fsl_mrs_newton_fits_it(invivo, testdata, name):
    fid, basis, axes = invivo
    figures = json.loads((testdata / "fsl_mrs_reference" / "newton_invivo_3t.json").read_text())["fits"]
    newton = figures[f"{name} | baseline poly, 2"]
    fits = quantify(fid, basis, model=name, baseline="poly, 2", **axes)
    assert fits.converged.all()
    first, last = fits.model.window
    data = units.fid_to_spec(fits.fids)[0, first:last]
    assert fits.cost[0] / np.sum(np.abs(data) ** 2) <= newton["cost_sum_abs2_over_data_sum_abs2"] * (1 + 1e-9)
    creatine = fits.conc[0, fits.members("Cr+PCr")].sum()
    for metab, conc, sd in zip(fits.names, fits.conc[0], fits.crlb_sd[0]):
        bound = newton["crlb_sd_raw_over_tCr"][metab]
        assert abs(conc / creatine - newton["conc_internal_tCr"][metab]) < 0.25 * bound, metab
        if name == "lorentzian":
            assert sd / creatine == pytest.approx(bound, rel=0.03), metab
        else:
            # Here the Gaussian width ends near zero, where FSL-MRS's bound counts it as known and this one as fitted.
            assert 0.95 * bound < sd / creatine < 1.35 * bound, metab
    assert fits.block("eps")[0, 0] / (2 * np.pi) == pytest.approx(newton["shift_hz"][0], abs=0.05)
    assert np.rad2deg(fits.block("phi0")[0, 0]) == pytest.approx(newton["phi0_deg"], abs=0.5)


@pytest.mark.slow
@pytest.mark.with_fsl_mrs
def test_penalised_spline_is_fitted_no_worse_than_by_fsl_mrs(invivo, invivo_3t, invivo_basis_path):
    from fsl_mrs.utils import mrs_io
    from fsl_mrs.utils.baseline import Baseline as Theirs
    from fsl_mrs.utils.fitting import fit_FSLModel

    fid, basis, axes = invivo
    mrs = mrs_io.read_FID(str(invivo_3t)).mrs(basis=mrs_io.read_basis(str(invivo_basis_path)))
    mrs.processForFitting()
    newton = fit_FSLModel(mrs, method="Newton", baseline="spline, moderate", ppmlim=(0.2, 4.2))
    first, last = mrs.ppmlim_to_range((0.2, 4.2))
    data = mrs.get_spec()[first:last]
    theirs = Theirs(mrs, (0.2, 4.2), "spline, moderate", None)
    penalty = theirs.mh_penalty_term()
    from fsl_mrs import models

    def penalised_cost(params):
        forward = models.getModelForward("voigt")
        groups = [0] * mrs.numBasis
        predicted = forward(params, mrs.frequencyAxis, mrs.timeAxis, mrs.basis, theirs.regressor, groups, 1)[first:last]
        return float(np.sum(np.abs(data - predicted) ** 2) + penalty(params))

    fits = quantify(fid, basis, baseline="spline, moderate", max_iter=200, **axes)
    np.testing.assert_allclose(units.fid_to_spec(fits.fids)[0, first:last], data, atol=1e-4 * np.abs(data).max())
    ours = penalised_cost(fits.params[0])
    assert ours == pytest.approx(fits.cost[0], rel=1e-4)
    assert ours <= penalised_cost(newton.params) * (1 + 1e-6)


def test_free_shifts_never_fit_worse_than_shared_ones_and_find_shifted_lines(simulate, sim_basis):
    """A line that is off by itself is followed; the larger model's minimum is not above the smaller one's."""
    truth = simulate(6, snr=100, seed=11)
    off_hz, names = 3.0, sim_basis.names
    fids = sim_basis.fids.copy()
    fids[names.index("NAA")] *= np.exp(2j * np.pi * off_hz * np.arange(fids.shape[1]) * sim_basis.dwelltime)
    basis = dataclasses.replace(sim_basis, fids=fids)
    shared = quantify(truth.fids, basis, model="voigt", **AXES)
    free = quantify(truth.fids, basis, model="free_shift", **AXES)
    assert (free.cost <= shared.cost * (1 + 1e-9)).all()
    eps = free.block("eps")
    strong = [names.index(name) for name in ("Cr", "GPC", "Ins")]
    apart = (eps[:, names.index("NAA")] - np.median(eps[:, strong], axis=1)) / (2 * np.pi)
    assert np.allclose(apart, off_hz, atol=0.4)


@pytest.mark.parametrize("spectral_model", ["fsl-mrs", "in-vivo"])
def test_units_of_the_data_do_not_matter(simulate, sim_basis, spectral_model):
    """Squares of single precision overflow from 2e19, and vanish below 1e-19."""
    fids = simulate(1, seed=3).fids.astype(np.complex64)
    few = sim_basis.select(["NAA", "Cr", "GPC"])
    factors = (1, 1e-25, 1e25)
    fits = [quantify(fids * np.float32(one), few, spectral_model=spectral_model, **AXES) for one in factors]
    for one in fits[1:]:
        np.testing.assert_allclose(one.conc, fits[0].conc, rtol=1e-3)
    with pytest.raises(DataError, match="as good as zero"):
        quantify(fids.astype(complex) * 1e-320, few, spectral_model=spectral_model, **AXES)
