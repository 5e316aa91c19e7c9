"""Averages over variants of the in-vivo model, the scale of macromolecules, and soft constraints, against limits that
are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from fsl_mrs_dl.core.errors import OptionError
from fsl_mrs_dl.fitting.in_vivo.estimates import Likelihoods
from fsl_mrs_dl.fitting.in_vivo.prepared import smooth_baseline_of
from fsl_mrs_dl.fitting.in_vivo.quantify import quantify_in_vivo
from fsl_mrs_dl.fitting.in_vivo.ratios import ConcentrationPrior, ratio_constraints, with_ratios
from fsl_mrs_dl.fitting.in_vivo.solver import NormalEquations, Problem, likelihood, minimise
from fsl_mrs_dl.fitting.in_vivo.starts import classical_start
from fsl_mrs_dl.fitting.in_vivo.variants import Variant, average_of, variants_of, without
from fsl_mrs_dl.fitting.options import FitOptions
from fsl_mrs_dl.physics.coarse_window import make_window
from fsl_mrs_dl.physics.in_vivo_components import build_components, priors_table
from fsl_mrs_dl.physics.in_vivo_model import make_in_vivo_model
from fsl_mrs_dl.simulation.in_vivo_spectra import simulate_in_vivo

pytestmark = pytest.mark.usefixtures("one_thread")
STRENGTHS = [0.3, 3.0, 30.0]


@pytest.fixture(scope="module")
def model(sim_basis):
    components = build_components(sim_basis.fids, sim_basis.names, sim_basis.axes, te_s=0.035, tr_s=2.0)
    return make_in_vivo_model(components, make_window(sim_basis.axes, (0.2, 4.2)))


def drawn(model, n, *, shape, mm_scale=0.0, seed=0):
    """Parameters from the model's prior, with a share of its line shape and some macromolecules."""
    random, s = np.random.default_rng(seed), model.slices
    scales = [s[name].start for name in ("scale", "mm_scale", "phi0")]
    free = np.setdiff1d(np.arange(model.n_params), scales)
    sd = model.prior_precision.diagonal().numpy()[free] ** -0.5
    x = np.tile(model.prior_mean.numpy(), (n, 1))
    x[:, free] += 0.7 * sd * random.standard_normal((n, len(free)))
    x[:, s["shape"]] *= shape
    x[:, s["log_amp"]][:, model.n_linear :] += mm_scale
    x[:, s["mm_scale"]] += mm_scale
    return torch.as_tensor(x)


def minimum_of(model, x, noise, seed=1):
    """Spectra of parameters with noise, and the end of their fits."""
    random = np.random.default_rng(seed)
    spectra = model.spectrum(x).numpy()
    spectra = spectra + noise * (random.standard_normal((*spectra.shape, 2)) @ np.array([1, 1j]))
    baseline = smooth_baseline_of(model.window.ppm, "1H")
    problem = Problem.make(model, spectra, np.full(len(x), noise), baseline, STRENGTHS)
    start = classical_start(problem)
    minimum = minimise(problem, start, torch.zeros(len(start), dtype=torch.long))
    return replace(problem, noise=minimum.noise), minimum


@pytest.fixture(scope="module")
def size(model):
    return float(model.spectrum(model.prior_mean[None]).abs().max())


def test_the_evidence_finds_out_whether_there_is_a_line_shape(model, size):
    plain, shaped = (drawn(model, 6, shape=share) for share in (0.0, 1.3))
    for x, low, high in ((plain, 0.5, 1.0), (shaped, 0.0, 0.2)):
        problem, minimum = minimum_of(model, x, size / 200)
        average = average_of(problem, minimum)
        weight = average.by_variant[:, [not variant.line_shape for variant in average.variants]].sum(-1)
        assert low <= float(weight.median()) <= high
        torch.testing.assert_close(average.by_variant.sum(-1), torch.ones(6, dtype=torch.float64))
        torch.testing.assert_close(average.strengths.sum(-1), torch.ones(6, dtype=torch.float64))
        total = sum(weight for _, _, weight in average.members())
        torch.testing.assert_close(total, torch.ones(6, dtype=torch.float64), rtol=0, atol=0.06)


def test_the_quadratic_without_line_shape_is_that_of_all_parameters_at_none(model, size):
    x = drawn(model, 2, shape=1.0)
    problem, _ = minimum_of(model, x, size / 100)
    gram, pull, _ = likelihood(problem, NormalEquations.at(problem, x), problem.shares[1])
    kept_gram, kept_pull, moved = without(model, gram, pull, x)
    change = torch.randn(2, model.n_params, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    change[:, model.slices["shape"]] = -x[:, model.slices["shape"]]
    whole = 0.5 * ((change[:, None] @ gram)[:, 0] * change).sum(-1) - (pull * change).sum(-1)
    kept = change[:, Variant(line_shape=False).kept(model)]
    part = 0.5 * ((kept[:, None] @ kept_gram)[:, 0] * kept).sum(-1) - (kept_pull * kept).sum(-1) + moved
    torch.testing.assert_close(part, whole)


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_a_factor_of_the_sd_of_macromolecules_is_one_of_their_proportions_only(model, factor):
    usual, other = (torch.linalg.inv(v.prior_precision(model)) for v in (Variant(), Variant(mm_sd=factor)))
    scale, lines = model.slices["mm_scale"].start, range(model.n_linear, model.n_components)

    def variance(cov, i, j):
        return float(cov[i, i] + cov[j, j] - 2 * cov[i, j])

    for line in lines:
        assert variance(other, line, scale) == pytest.approx(factor**2 * variance(usual, line, scale), rel=1e-6)
    assert variance(other, scale, 0) == pytest.approx(variance(usual, scale, 0), rel=1e-6)
    assert len(variants_of(model)) == 2 + len(priors_table()["variants"]["mm_sd"])


def test_macromolecules_of_any_amount_are_estimated_without_bias(sim_basis, model, size):
    """At the minimum the logarithm of their scale is one SD above the truth and NAA half an SD below: the volume of
    widths and line shape is not seen there."""
    amounts = priors_table()["macromolecules"]["scale_log_sd"] * np.random.default_rng(4).standard_normal((32, 1))
    x = drawn(model, 32, shape=0.5, mm_scale=amounts)
    problem, minimum = minimum_of(model, x, size / 40)
    estimate = Likelihoods.of(problem, minimum, average_of(problem, minimum)).estimate(ConcentrationPrior())
    sd, naa = np.sqrt(np.diagonal(estimate.cov, axis1=1, axis2=2)), sim_basis.names.index("NAA")
    for column, truth, most in ((model.n_linear, np.exp(amounts[:, 0]), 0.4), (naa, np.exp(x[:, naa].numpy()), 0.4)):
        z = (estimate.mean[:, column] - truth) / sd[:, column]
        assert abs(np.mean(z)) < most, z
        assert np.mean((estimate.low[:, column] <= truth) & (truth <= estimate.high[:, column])) > 0.8


def test_soft_constraints_are_those_whose_metabolites_are_there_by_any_of_their_names(sim_basis, model):
    texts = [each.text for each in ratio_constraints(model.components)]
    assert any(text.startswith("GABA/(NAA+") for text in texts)
    for each in ratio_constraints(model.components):
        numerator, ratio = each.text.split("/")[0], float(each.text.split("= ")[1].split()[0])
        weights = {name: -value / ratio for name, value in zip(model.components.names, each.row) if value < 0}
        values = dict.fromkeys(model.components.names, 0.0) | dict.fromkeys(weights, 2.0)
        below = sum(weight * values[name] for name, weight in weights.items())
        if numerator not in weights and numerator != "GSH":
            values[numerator] = ratio * below
            assert each.row @ [values[name] for name in model.components.names[: model.n_linear]] == pytest.approx(0)
    names = tuple({"GPC": "Cho", "Ins": "mI"}.get(name, name) for name in sim_basis.names)
    renamed = build_components(sim_basis.fids, names, sim_basis.axes, te_s=0.035, tr_s=2.0)
    assert len(ratio_constraints(renamed)) == len(texts)
    few = sim_basis.select(["NAA", "Cr", "GABA"])
    without_choline = build_components(few.fids, few.names, sim_basis.axes, te_s=0.035, tr_s=2.0)
    assert ratio_constraints(without_choline) == []


def test_soft_constraints_add_what_a_measurement_would(model):
    constraints = ratio_constraints(model.components)
    precision = torch.eye(model.n_linear + 1, dtype=torch.float64)[None]
    out = with_ratios(precision, constraints, torch.full((1, 1), np.log(2.0), dtype=torch.float64))
    x = np.random.default_rng(0).random(model.n_linear)
    expected = x @ x + sum((each.row @ x / (2 * each.sd)) ** 2 for each in constraints)
    assert x @ out[0, :-1, :-1].numpy() @ x == pytest.approx(expected)
    assert with_ratios(precision, [], torch.zeros(1, 1)) is precision


def test_soft_constraints_narrow_what_spectra_hardly_determine_and_are_listed(sim_basis):
    truth = simulate_in_vivo(sim_basis, sim_basis.axes, 6, seed=8)
    options = FitOptions(spectral_model="in-vivo", device="cpu")
    free, held = (
        quantify_in_vivo(truth.fids, sim_basis, sim_basis.axes, each)
        for each in (options, replace(options, soft_constraints=True))
    )
    gaba = free.names.index("GABA")
    assert np.median(held.crlb_sd[:, gaba] / free.crlb_sd[:, gaba]) < 0.9
    naa = free.names.index("NAA")
    np.testing.assert_allclose(held.conc[:, naa], free.conc[:, naa], rtol=0.05)
    assert free.assumptions(0)["Soft constraints"] == "none"
    assert "GABA/(" in held.assumptions(0)["Soft constraints"]
    assert "no line shape" in held.assumptions(0)["Models averaged"]


def test_without_a_prior_of_concentrations_intervals_are_wider(sim_basis):
    truth = simulate_in_vivo(sim_basis, sim_basis.axes, 6, seed=8)
    options = FitOptions(spectral_model="in-vivo", device="cpu")
    wide, none = (
        quantify_in_vivo(truth.fids, sim_basis, sim_basis.axes, each)
        for each in (options, replace(options, prior="none"))
    )
    assert none.assumptions(0)["Prior of concentrations"] == "none"
    metabolites = [none.names.index(name) for name in sim_basis.names]
    assert (none.crlb_sd[:, metabolites] > 0.9 * wide.crlb_sd[:, metabolites]).mean() > 0.9


def test_soft_constraints_belong_to_the_in_vivo_model():
    with pytest.raises(OptionError, match="soft_constraints.*in-vivo"):
        FitOptions(soft_constraints=True).check()
    with pytest.raises(OptionError, match="prior"):
        FitOptions(spectral_model="in-vivo", prior="normal-brain").check()
