"""Derived quantities of dynamic fits: values, SDs by the covariance, sums of metabolites, comparison of models."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers.made_series import B_VALUES, EXPONENTIAL, OPTIONS, made_series

from fsl_mrs_dl.core.errors import OptionError
from fsl_mrs_dl.dynamic import derived
from fsl_mrs_dl.dynamic.agreement import agreement_of
from fsl_mrs_dl.dynamic.comparison import compare_fits
from fsl_mrs_dl.dynamic.configuration import read_configuration
from fsl_mrs_dl.dynamic.derived import check_definitions, derived_quantities, sum_courses, sum_parameters
from fsl_mrs_dl.dynamic.series import fit_series

LINEAR = "Parameters = {'conc': {'dynamic': 'linear', 'params': ['c_amp', 'c_slope']}, 'Phi_0': 'variable'}\n"


@pytest.fixture(scope="module")
def fits(tmp_path_factory, sim_basis):
    folder, series = tmp_path_factory.mktemp("derived"), made_series(sim_basis)
    both = {}
    for name, text in (("exponential", EXPONENTIAL), ("linear", LINEAR)):
        (folder / f"{name}.py").write_text(text, encoding="utf-8")
        configuration = read_configuration(folder / f"{name}.py")
        both[name] = fit_series(series.fids, series.basis, series.axes, configuration, B_VALUES, OPTIONS)
    return both


def test_expressions_have_the_sd_of_the_covariance(fits):
    fit = fits["exponential"]
    texts = ["adc = conc_NAA_c_adc", "ratio = conc_NAA_c_adc / conc_Cr_c_adc", "at_end = conc_NAA[6]", "all = conc_Cr"]
    adc, ratio, at_end, *courses = derived_quantities(fit, texts)
    first, second = (fit.names.index(f"conc_{name}_c_adc") for name in ("NAA", "Cr"))
    assert (adc.value, adc.sd) == pytest.approx((fit.x[first], fit.sd[first]))
    slope = np.zeros(len(fit.x))
    slope[first], slope[second] = 1 / fit.x[second], -fit.x[first] / fit.x[second] ** 2
    assert ratio.sd == pytest.approx(np.sqrt(slope @ fit.cov @ slope))
    column = fit.mapping.mapped_names.index("conc_NAA")
    assert (at_end.value, at_end.sd) == pytest.approx((fit.mapped[6, column], fit.mapped_sd[6, column]))
    assert [one.name for one in courses] == [f"all[{number}]" for number in range(7)]
    assert adc.z == pytest.approx(adc.value / adc.sd) and adc.p < 1e-6


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("conc_NAA_c_adc", "is no definition; write NAME = EXPRESSION"),
        ("x = conc_Foo", "the name conc_Foo is not known; parameters are conc_Cr_c_amp"),
        ("x = 2 + 3", "depends on no parameter"),
        ("x = conc_NAA[", "is no expression"),
        ("x = open('a')", "the name open is not known"),
        ("x = conc_NAA[99]", "cannot be evaluated"),
        ("x = ().__class__", "is not known"),
    ],
)
def test_faults_of_expressions_are_one_line(fits, text, message):
    with pytest.raises(OptionError, match=message.replace("[", r"\[")) as caught:
        derived_quantities(fits["exponential"], [text])
    assert "\n" not in str(caught.value)


def test_definitions_are_checked_before_a_fit(fits):
    mapping = fits["linear"].mapping
    faults = check_definitions(mapping, ["a = conc_NAA[6]", "b = conc_NAA_c_adc", "c = conc_NAA[7]", "conc_NAA"])
    assert list(faults) == ["b = conc_NAA_c_adc", "c = conc_NAA[7]", "conc_NAA"]
    assert faults["b = conc_NAA_c_adc"].problem == "the name conc_NAA_c_adc is not known"


def test_sums_add_up(fits, monkeypatch):
    monkeypatch.setattr(derived, "SUMS", {"sum": ("Cr", "NAA"), "absent": ("Cr", "Foo")})
    fit = fits["linear"]
    (course,) = sum_courses(fit)
    columns = [fit.metabolites.index(name) for name in ("Cr", "NAA")]
    np.testing.assert_allclose(course.values, fit.mapped[:, columns].sum(1))
    again = derived_quantities(fit, ["sum = conc_Cr + conc_NAA"])
    np.testing.assert_allclose(course.sd, [one.sd for one in again], rtol=1e-6)
    texts = [f"p = conc_Cr_{role} + conc_NAA_{role}" for role in ("c_amp", "c_slope")]
    for one, by_hand in zip(sum_parameters(fit), derived_quantities(fit, texts), strict=True):
        assert (one.value, one.sd) == pytest.approx((by_hand.value, by_hand.sd), rel=1e-5)
    amplitude, rate = sum_parameters(fits["exponential"])
    assert rate.name == "conc_sum_c_adc" and rate.value == pytest.approx(0.09, abs=5 * rate.sd) and rate.sd < 0.02


def test_comparison_prefers_the_true_model(fits):
    comparison = compare_fits(fits)
    assert comparison.best == "exponential" and comparison.probability.sum() == pytest.approx(1)
    assert list(comparison.table().index) == ["exponential", "linear"]
    assert comparison.aic.min() == 0 and comparison.bic.min() == 0 and comparison.log_evidence.max() == 0


def unconverged(fit):
    return replace(fit, solution=replace(fit.solution, distance=7.0))


def test_a_fit_that_has_not_converged_is_never_the_best(fits):
    """It was, by the evidence of a point that is no minimum."""
    both = {"exponential": unconverged(fits["exponential"]), "linear": fits["linear"]}
    comparison = compare_fits(both)
    assert comparison.best == "linear"
    assert comparison.words == "Best by the evidence: linear, of those that have converged (exponential has not)."
    table = comparison.table()
    assert list(table.index) == ["linear", "exponential"]
    assert table["probability"]["linear"] == 1 and np.isnan(table["probability"]["exponential"])
    assert table["log evidence difference"]["linear"] == 0 and np.isnan(table["AIC weight"]["exponential"])
    neither = compare_fits({name: unconverged(fit) for name, fit in fits.items()})
    assert neither.best == "" and neither.words == "No fit has converged, and none is the best."
    assert np.isnan(neither.probability).all()


def test_quantities_of_a_fit_that_has_not_converged_have_no_p(fits):
    fit = unconverged(fits["exponential"])
    one = derived_quantities(fit, ["rate = conc_NAA_c_adc"])[0]
    assert np.isnan([one.z, one.p]).all() and one.value > 0
    assert agreement_of(fit).verdict == "not usable" and agreement_of(fits["exponential"]).verdict == "good"
    assert "it ended 7 SDs away from a minimum" in agreement_of(fit).lines()[-1]
