"""Dynamic fits with the in-vivo model: exact derivatives, decays recovered within their errors, configurations
unchanged."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.made_in_vivo_series import B_VALUES, OPTIONS, made_in_vivo_series
from helpers.made_series import BY_METABOLITE, EXPONENTIAL

from fsl_mrs_dl.core.errors import OptionError
from fsl_mrs_dl.dynamic import in_vivo_series
from fsl_mrs_dl.dynamic.agreement import agreement_of
from fsl_mrs_dl.dynamic.configuration import read_configuration
from fsl_mrs_dl.dynamic.in_vivo_series import fit_series_in_vivo

pytestmark = pytest.mark.usefixtures("one_thread")
METABOLITES = ["Cr", "GPC", "Glu", "Ins", "NAA"]
FREE_WIDTHS = EXPONENTIAL.replace("'gamma': 'fixed'", "'gamma': 'variable', 'baseline': 'fixed'")
WITH_MM = EXPONENTIAL.replace(
    "'conc': {'dynamic': 'model_exp', 'params': ['c_amp', 'c_adc']}",
    "'conc': {'Mac': 'variable', 'other': {'dynamic': 'model_exp', 'params': ['c_amp', 'c_adc']}}",
)


@pytest.fixture(scope="module")
def series(sim_basis):
    return made_in_vivo_series(sim_basis.select(METABOLITES), sim_basis.axes)


def configuration_of(folder, text):
    (folder / "config.py").write_text(text, encoding="utf-8")
    return read_configuration(folder / "config.py")


@pytest.fixture(scope="module")
def solved(series, tmp_path_factory):
    """A fit, and the solution that it is made of."""
    configuration, kept = configuration_of(tmp_path_factory.mktemp("dynamic"), EXPONENTIAL), []

    def solve(joint, start):
        kept.append(original(joint, start))
        return kept[-1]

    original = in_vivo_series.solve_in_vivo_joint
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(in_vivo_series, "solve_in_vivo_joint", solve)
        fit = fit_series_in_vivo(series.fids, series.basis, series.axes, configuration, B_VALUES, OPTIONS)
    return fit, kept[0]


def test_derivatives_of_the_cost_are_exact(solved):
    _, solution = solved
    joint, rng = solution.joint, np.random.default_rng(1)
    y = solution.y * (1 + 0.02 * torch.as_tensor(rng.normal(size=joint.n)))
    for strength in (0, len(joint.strengths) - 1):
        _, pull, cost = joint.with_priors(joint.equations(y), y, strength)
        assert float(cost) == pytest.approx(float(joint.cost(y, strength)), rel=1e-9)
        move = torch.as_tensor(rng.normal(size=joint.n)) * solution.y.abs().clamp(min=1e-3) * 1e-6
        change = float(joint.cost(y + move, strength) - joint.cost(y - move, strength)) / 2
        assert change == pytest.approx(-float(pull @ move), rel=1e-4)


def test_amplitudes_below_zero_are_as_good_as_others(solved):
    _, solution = solved
    joint, y = solution.joint, solution.y.clone()
    amplitude = [number for number, one in enumerate(joint.mapping.free) if one.role == "c_amp"][:2]
    y[amplitude] *= -1
    _, pull, _ = joint.with_priors(joint.equations(y), y, 0)
    for number in amplitude:
        move = torch.zeros_like(y)
        move[number] = 1e-5 * float(y[number].abs())
        change = float(joint.cost(y + move, 0) - joint.cost(y - move, 0)) / 2
        assert change == pytest.approx(-float(pull @ move), rel=1e-4)
    turned = solution.y.clone()
    turned[amplitude[0]] *= -1
    alone = joint.spectra(solution.y) - joint.spectra(turned)
    y = solution.y.clone()
    y[amplitude[0]] = 0
    torch.testing.assert_close(alone, 2 * (joint.spectra(solution.y) - joint.spectra(y)), rtol=1e-3, atol=1e-3)


def test_decays_are_recovered_within_their_errors(series, solved):
    fit, _ = solved
    assert fit.solution.converged and fit.misfit == pytest.approx(1, abs=0.1)
    assert fit.noise_sd == pytest.approx(series.noise_sd * fit.fid_scale, rel=0.1)
    # The residual that is drawn and written is as large.
    assert (fit.spectra - fit.fitted).real.std() == pytest.approx(fit.noise_sd, rel=0.1)
    for name in METABOLITES:
        number = fit.names.index(f"conc_{name}_c_adc")
        assert abs(fit.x[number] - series.rates[name]) < 3.5 * fit.sd[number]
        assert fit.sd[number] < 0.03


def test_a_model_that_does_not_hold_is_named(solved):
    """A fit of diffusion gave NAAG above NAA with tiny SDs, and no word that its curves miss the single fits."""
    fit, _ = solved
    good = agreement_of(fit)
    assert good.holds and len(good.lines()) == 1 and good.misfit < 1.2
    column = fit.metabolites.index("NAA")
    mapped = fit.mapped.copy()
    mapped[:, column] += 10 * fit.initial_sd[:, column]
    bad = agreement_of(replace(fit, mapped=mapped))
    assert not bad.holds and bad.missed[0] == "NAA" and "NAA (" in bad.lines()[-1]
    assert not agreement_of(replace(fit, misfit=2 * fit.single_misfit)).holds


def test_the_joint_fit_knows_more_than_single_ones(solved):
    fit, _ = solved
    last = len(B_VALUES) - 1
    for name in METABOLITES:
        column = fit.metabolites.index(name)
        assert fit.mapped_sd[last, column] < fit.initial_sd[last, column]


def test_stated_errors_hold(sim_basis, tmp_path):
    configuration, scores = configuration_of(tmp_path, EXPONENTIAL), []
    few = sim_basis.select(["Cr", "Glu", "NAA"])
    for seed in range(4):
        one = made_in_vivo_series(few, sim_basis.axes, seed=20 + seed, snr=60, times=B_VALUES[::2])
        fit = fit_series_in_vivo(one.fids, one.basis, one.axes, configuration, B_VALUES[::2], OPTIONS)
        for name in few.names:
            number = fit.names.index(f"conc_{name}_c_adc")
            scores.append((fit.x[number] - one.rates[name]) / fit.sd[number])
    assert 0.5 < np.sqrt(np.mean(np.square(scores))) < 1.6
    assert np.max(np.abs(scores)) < 3.5


def test_widths_may_vary_and_a_baseline_of_fsl_mrs_is_left_out(series, tmp_path):
    configuration = configuration_of(tmp_path, FREE_WIDTHS)
    fit = fit_series_in_vivo(series.fids, series.basis, series.axes, configuration, B_VALUES, OPTIONS)
    assert fit.solution.converged
    assert sum(name.startswith("gamma_0_t") for name in fit.names) == len(B_VALUES)
    assert not any(name.startswith("baseline") for name in fit.names)


def test_macromolecules_of_a_configuration_are_those_of_the_model(series, tmp_path):
    own = in_vivo_series._for_in_vivo(configuration_of(tmp_path, WITH_MM), ["NAA", "Mac"], ["NAA", "Lip13", "MM"])
    assert own.parameters["conc"] == {"MM": "variable", "other": own.parameters["conc"]["other"]}
    text = WITH_MM.replace("'Mac'", "'NAA'").replace("'other'", "'Cr'")
    own = in_vivo_series._for_in_vivo(configuration_of(tmp_path, text), ["NAA", "Cr"], ["NAA", "Cr", "Lip13", "MM"])
    assert own.parameters["conc"]["Lip13"] == own.parameters["conc"]["MM"] == "variable"


def test_bounds_of_a_baseline_are_left_out_with_it(tmp_path):
    configuration = configuration_of(tmp_path, BY_METABOLITE)
    assert {"b_adc", "c_amp"} <= set(configuration.bounds)
    own = in_vivo_series._for_in_vivo(configuration, ["GPC", "NAA"], ["GPC", "NAA", "MM"])
    assert set(own.bounds) == set(configuration.bounds) - {"b_adc"}
    by_name = replace(configuration, bounds={"baseline_0": (0, 1), "baseline": (0, 1), "c_amp": (0, None)})
    assert set(in_vivo_series._for_in_vivo(by_name, ["GPC"], ["GPC", "MM"]).bounds) == {"c_amp"}


def test_unusable_spectra_and_unknown_metabolites_are_refused(series, tmp_path):
    with pytest.raises(OptionError, match="Xyz"):
        text = WITH_MM.replace("'Mac'", "'Xyz'")
        fit_series_in_vivo(series.fids, series.basis, series.axes, configuration_of(tmp_path, text), B_VALUES, OPTIONS)
    with pytest.raises(OptionError, match="in-vivo"):
        others = replace(series.basis, names=[f"Xy{number}" for number in range(len(METABOLITES))])
        configuration = configuration_of(tmp_path, EXPONENTIAL)
        fit_series_in_vivo(series.fids, others, series.axes, configuration, B_VALUES, OPTIONS)
