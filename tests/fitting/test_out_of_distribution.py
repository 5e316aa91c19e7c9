"""Out-of-distribution scores: below one for clean data, above for what is strange, and about the same for any unit."""

import numpy as np
import pytest
import torch

import fsl_mrs_dl
from fsl_mrs_dl.core import units
from fsl_mrs_dl.fitting import out_of_distribution, priors
from fsl_mrs_dl.fitting.priors import Prior
from fsl_mrs_dl.networks import self_supervised_quantification
from fsl_mrs_dl.networks.out_of_distribution import clean_statistics, network_scores
from fsl_mrs_dl.simulation import protocols, random_spectra, recipes

FIT = {"model": "lorentzian", "baseline": "off", "device": "cpu", "init": "classical"}


def spectra(basis, **changes):
    protocol = protocols.protocol_of(basis.fids, basis.names, basis.axes)
    recipe = recipes.Recipe.of("changed", recipes.Recipe.load("shamaei-table2").content | changes)
    drawn = random_spectra.draw(recipe, 200, basis.names, torch.Generator().manual_seed(3))
    return random_spectra.render(drawn, protocol).fid.numpy().astype(complex)


@pytest.fixture(scope="module")
def clean(sim_basis):
    return spectra(sim_basis)


def scores(fids, basis, **changes):
    options = FIT | {"prior": "shamaei-table2"} | changes
    return fsl_mrs_dl.quantify(fids, basis, dwelltime=basis.dwelltime, spec_freq_mhz=basis.spec_freq_mhz, **options)


def line(basis, n_points, ppm, fwhm_hz):
    t = np.arange(n_points) * basis.dwelltime
    return np.exp(2j * np.pi * units.ppm_to_hz(ppm, basis.spec_freq_mhz) * t - np.pi * fwhm_hz * t)


def test_clean_spectra_are_not_strange(clean, sim_basis):
    fit = scores(clean, sim_basis)
    assert np.mean(fit.ood > 1) < 0.05 and np.median(fit.ood) < 0.9


def test_the_unit_of_the_data_does_not_matter(clean, sim_basis):
    one, other = (scores(clean[:40] * unit, sim_basis) for unit in (1.0, 1e5))
    np.testing.assert_allclose(other.ood, one.ood, rtol=1e-3)


def test_a_line_that_the_basis_set_has_not_is_seen_in_the_residual(clean, sim_basis):
    size = np.abs(clean).max(1, keepdims=True)
    fit = scores(clean + 0.05 * size * line(sim_basis, clean.shape[1], 1.14, 5), sim_basis)
    assert np.mean(fit.ood_residual > 1) > 0.95


def test_a_width_out_of_range_is_seen_in_what_was_found(sim_basis):
    wide = spectra(sim_basis, lorentz_fwhm_hz={"uniform": [7, 9]})
    fit = scores(wide, sim_basis)
    assert np.mean(fit.ood_latent > 1) > 0.95 and np.median(fit.ood_residual) < 1
    # Without a recipe of the user's a width is strange only where a spectrum is of no use.
    assert np.mean(scores(wide, sim_basis, prior="none").ood_latent > 1) < 0.05


def test_a_concentration_out_of_range_is_seen_in_what_was_found(clean, sim_basis):
    extra = 12.0 * sim_basis.fids[sim_basis.names.index("Lac"), : clean.shape[1]]
    assert np.mean(scores(clean + extra, sim_basis).ood_latent > 1) > 0.95


def test_scores_of_what_could_not_be_fitted_are_not_numbers(clean, sim_basis):
    fids = clean[:3].copy()
    fids[1] = 0
    fit = scores(fids, sim_basis)
    assert np.isnan(fit.ood[1]) and np.isfinite(fit.ood[[0, 2]]).all()


@pytest.mark.parametrize("n_window", [64, 251, 1000])
def test_noise_alone_has_a_score_below_one(n_window):
    random = np.random.default_rng(0)
    noise = random.standard_normal((2000, n_window)) + 1j * random.standard_normal((2000, n_window))
    sd = np.sqrt((np.abs(noise) ** 2).mean(1) / 2)
    score = out_of_distribution.residual_score(noise, sd, np.ones(2000), ppm_per_point=4.0 / n_window, n_outside=1000)
    assert np.mean(score > 1) < 0.02


@pytest.mark.parametrize(
    "kind,numbers,value,strange",
    [
        ("uniform", (1, 2), 1.5, False),
        ("uniform", (1, 2), 2.6, True),
        ("uniform", (1, 2), 2.05, False),
        ("normal", (5, 0.5), 5.9, False),
        ("normal", (5, 0.5), 9.0, True),
        ("lognormal", (2, 0.3), 3.5, False),
        ("lognormal", (2, 0.3), 9.0, True),
        ("any", (0, 0), 1e6, False),
    ],
)
def test_what_is_expected_is_not_strange(kind, numbers, value, strange):
    prior = Prior(("a",), (kind,), np.array([numbers], float))
    score = out_of_distribution.latent_score(prior, np.array([[value]]), np.array([[[0.1**2]]]))
    assert (score[0] > 1) == strange


def test_what_the_data_do_not_decide_is_not_strange():
    prior = priors.load("shamaei-table2", ["NAA", "Cr"])
    assert out_of_distribution.latent_score(prior, np.array([[40.0, -20.0]]), np.diag([900.0, 900.0])[None])[0] < 1


def test_a_network_knows_what_it_was_trained_on(sim_basis, clean):
    torch.manual_seed(0)
    network = self_supervised_quantification.DQnMM(sim_basis.names, sim_basis.dwelltime, sim_basis.spec_freq_mhz).eval()
    network.set_basis(sim_basis.fids)
    fid = torch.as_tensor(clean).to(torch.complex64)
    known = clean_statistics(network, [fid[:100], fid[100:]])
    assert set(known) == {"mean", "precision", "distance", "log_residual", "log_residual_sd"}
    usual = network_scores(network, known, fid[100:])
    assert np.mean(usual > 1) < 0.1
    strange = fid[100:] + 5 * torch.as_tensor(line(sim_basis, fid.shape[1], 1.3, 30)).to(fid) * fid[100:].abs().amax(
        1, keepdim=True
    )
    assert np.median(network_scores(network, known, strange)) > np.median(usual)
