"""Priors of the in-vivo model that are learnt from a volume."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from fsl_mrs_dl.fitting.in_vivo.population import Likelihood, population_model
from fsl_mrs_dl.fitting.in_vivo.prepared import plain_prepared, restored_prepared
from fsl_mrs_dl.fitting.in_vivo.quantify import fit_with_prepared, prepare_in_vivo
from fsl_mrs_dl.fitting.options import FitOptions
from fsl_mrs_dl.simulation.in_vivo_spectra import simulate_in_vivo

pytestmark = pytest.mark.usefixtures("one_thread")
OPTIONS = FitOptions(spectral_model="in-vivo", device="cpu")


@pytest.fixture(scope="module")
def model(sim_basis):
    """The model with the priors of the table."""
    made = simulate_in_vivo(sim_basis, sim_basis.axes, 4, seed=1)
    return prepare_in_vivo(made.fids, sim_basis, sim_basis.axes, OPTIONS).model


def voxels(model, n, rng, *, gamma_sd=0.1, gamma_off=1.0, information=400.0, wild=0):
    """Likelihoods of voxels that differ in their Lorentzian width, about another mean than the table's; some of them
    far off."""
    p, at = model.n_params, model.slices["gamma"].start
    truth = model.prior_mean.repeat(n, 1)
    truth[:, at] += gamma_off + gamma_sd * torch.as_tensor(rng.standard_normal(n))
    truth[:wild, at] += 6.0
    gram = torch.zeros(n, p, p, dtype=truth.dtype)
    gram[:, at, at] = information
    x = truth.clone()
    x[:, at] += torch.as_tensor(rng.standard_normal(n)) * information**-0.5
    strengths = torch.zeros(n, 5, dtype=truth.dtype)
    strengths[:, 1] = 3.0
    return Likelihood(x, gram, torch.zeros(n, p, dtype=truth.dtype), strengths, torch.ones(n, dtype=truth.dtype))


def prior_of(model, name):
    at = model.slices[name].start
    return float(model.prior_mean[at]), float(torch.linalg.inv(model.prior_precision)[at, at].sqrt())


@pytest.mark.parametrize("wild", [0, 6])
def test_mean_and_spread_are_those_of_the_voxels(model, rng, wild):
    before, table_sd = prior_of(model, "gamma")
    learnt, about = population_model(model, voxels(model, 200, rng, wild=wild))
    mean, sd = prior_of(learnt, "gamma")
    assert mean - before == pytest.approx(1.0, abs=0.05)
    # The table's spread counts as much as eight voxels.
    expected = np.sqrt((200 * 0.1**2 + 8 * 0.35 * table_sd**2) / 208)
    assert sd == pytest.approx(expected, rel=0.15)
    assert about.n_spectra == 200 and np.argmax(about.strengths) == 1
    # What the voxels say nothing of stays as it was.
    assert prior_of(learnt, "phi1") == pytest.approx(prior_of(model, "phi1"), rel=1e-6)


def test_macromolecules_do_not_become_as_narrow_as_metabolites(model, rng):
    """Lines as sharp as creatine's, beside it, took its signal: ratios to it were three times too high."""
    sample, at = voxels(model, 100, rng), model.slices["q"]
    sample.x[:, at] += 1.5 * torch.as_tensor(rng.standard_normal(sample.x[:, at].shape))
    sample.gram[:, range(at.start, at.stop), range(at.start, at.stop)] = 400.0
    learnt, about = population_model(model, sample)
    assert about.sd_factor["mm_width"] <= 1.001
    table = torch.linalg.inv(model.prior_precision)[at, at].diagonal()
    assert (torch.linalg.inv(learnt.prior_precision)[at, at].diagonal() <= 1.001 * table).all()


def test_few_voxels_keep_the_priors_of_the_table(model, rng):
    before, table_sd = prior_of(model, "gamma")
    shares = []
    for n in (1, 5, 40):
        learnt, about = population_model(model, voxels(model, n, rng))
        mean, sd = prior_of(learnt, "gamma")
        shares.append(sd / table_sd)
        assert abs(max(about.strengths) - 0.2) < n / (n + 8.0)
    assert shares[0] > 0.7 and shares[0] > shares[1] > shares[2]
    assert 0.9 < mean - before < 1.1


def test_the_order_of_voxels_does_not_matter(model, rng):
    sample = voxels(model, 30, rng)
    turned = Likelihood.joined([sample], np.arange(30)[::-1].copy())
    one, other = (population_model(model, each)[0] for each in (sample, turned))
    torch.testing.assert_close(one.prior_precision, other.prior_precision, rtol=1e-9, atol=0)


def test_fits_with_them_are_no_worse_and_they_are_kept(sim_basis):
    n = 24
    made = simulate_in_vivo(sim_basis, sim_basis.axes, n, seed=5)
    prepared = {
        of_volume: prepare_in_vivo(made.fids, sim_basis, sim_basis.axes, OPTIONS, of_volume=of_volume)
        for of_volume in (True, False)
    }
    again = restored_prepared(plain_prepared(prepared[True]))
    assert again.population == prepared[True].population
    error, fits = {}, {}
    for of_volume, each in (prepared | {True: again}).items():
        fit = fits[of_volume] = fit_with_prepared(made.fids, each)
        columns = [fit.names.index(name) for name in made.names]
        conc, truth = fit.conc[:, columns], made.concentrations
        scale = (conc * truth).sum(1) / (conc**2).sum(1)
        error[of_volume] = np.median(np.sqrt(((scale[:, None] * conc - truth) ** 2).mean(0)) / truth.mean(0))
    assert error[True] < 1.02 * error[False]
    assert "learnt from 24 voxels" in fits[True].priors_note and not fits[False].priors_note
    # The same before and after a file.
    x = fit_with_prepared(made.fids[:3], prepared[True]).x
    np.testing.assert_array_equal(x, fit_with_prepared(made.fids[:3], again).x)


def test_a_voxel_that_is_no_spectrum_takes_no_part(model, rng):
    sample = voxels(model, 30, rng)
    bad = replace(sample, misfit=sample.misfit.clone(), gram=sample.gram.clone())
    bad.misfit[3], bad.gram[7] = 50.0, torch.nan
    learnt, about = population_model(model, bad)
    assert about.n_spectra == 28
    assert learnt.prior_mean.isfinite().all() and learnt.prior_precision.isfinite().all()
